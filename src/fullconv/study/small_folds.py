"""Small networks on label maps that they have not seen. Road: study, before wrong labels.

In: small samples. Out: for each, the mean of what several networks see that were trained without it, kept on disk.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fullconv.base.cores import on_all_cores
from fullconv.base.files import content_hash, write_bytes
from fullconv.base.progress import progress
from fullconv.study.disagreements import Floats, Labels
from fullconv.study.small import Small, cells_seen, enlarged, train_small

ROUNDS = 3  # of folds, each a parting of train; what a sample's networks see is averaged


def seen_by_others(
    train: Sequence[Small], rounds: Sequence[Sequence[Collection[str]]], folder: Path, *, seed: int
) -> Callable[[str, Collection[str] | None], Iterator[tuple[str, Labels, Floats]]]:
    """Train a network without each fold of each round, and let it look at that fold.

    Returns: (what for, names or None for all) -> name, (H, W) label map, (K, H, W) mean probabilities of each sample.
    Args:
        rounds: names of train by folds, see `folds.folds_of`; a sample is in one fold of each round.
        folder: keeps what they see; what it holds is not worked out again.
    Raises: TrainingError, DiskFull.
    """
    places = [folder / _named(folds, seed + number) for number, folds in enumerate(rounds)]
    todo = [
        (place, frozenset(fold), seed + number * len(folds) + at)
        for number, (place, folds) in enumerate(zip(places, rounds, strict=True))
        for at, fold in enumerate(folds)
    ]
    for _ in on_all_cores(partial(_look, train), todo, what="training", long=True):
        pass
    return partial(_read, train, places)


def _look(train: Sequence[Small], todo: tuple[Path, frozenset[str], int]) -> None:
    folder, fold, seed = todo
    asked = [one for one in train if one.name in fold]
    if all(_file(folder, one.name).exists() for one in asked):
        return
    head = train_small([one for one in train if one.name not in fold], seed=seed)
    for one in asked:
        stream = io.BytesIO()
        np.save(stream, cells_seen(head, one)[1].softmax(0).numpy().astype(np.float16))
        write_bytes(_file(folder, one.name), stream.getvalue())


def _read(
    train: Sequence[Small], folders: Sequence[Path], what: str, names: Collection[str] | None = None
) -> Iterator[tuple[str, Labels, Floats]]:
    asked = [one for one in train if names is None or one.name in names]
    for one in progress(asked, what=what, total=len(asked)):
        each = [np.load(_file(folder, one.name)) for folder in folders]
        yield one.name, one.labels(), enlarged(np.mean(each, 0, dtype=np.float32), one.size)


def _named(folds: Sequence[Collection[str]], seed: int) -> str:
    """A round by what is in its folds: other folds are other networks."""
    return content_hash([sorted(fold) for fold in folds], seed)[:12]


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.seen.npy"
