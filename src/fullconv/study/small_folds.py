"""Small networks on label maps that they have not seen. Road: study, before wrong labels.

In: small samples. Out: for each, the mean of what several networks see that were trained without it, kept on disk.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fullconv.base.cores import on_all_cores
from fullconv.base.files import write_bytes
from fullconv.base.progress import progress
from fullconv.base.seeds import rng
from fullconv.study.disagreements import Floats, Labels
from fullconv.study.small import Small, cells_seen, enlarged, train_small

FOLDS, REPEATS = 3, 3


def seen_by_others(
    train: Sequence[Small], folder: Path, *, seed: int
) -> Callable[[str, Collection[str] | None], Iterator[tuple[str, Labels, Floats]]]:
    """Train, `REPEATS` times, a network without each of `FOLDS` parts of train, and let it look at that part.

    Returns: (what for, names or None for all) -> name, (H, W) label map, (K, H, W) mean probabilities of each sample.
    Args:
        folder: keeps what they see; what it holds is not worked out again.
    Raises: TrainingError, DiskFull.
    """
    parts = [rng(seed, "folds", repeat).permutation(len(train)) % FOLDS for repeat in range(REPEATS)]
    todo = [
        (folder / str(repeat), part == fold, seed + repeat * FOLDS + fold)
        for repeat, part in enumerate(parts)
        for fold in range(FOLDS)
    ]
    for _ in on_all_cores(partial(_look, train), todo, what="training", long=True):
        pass
    return partial(_read, train, folder)


def _look(train: Sequence[Small], todo: tuple[Path, NDArray[np.bool_], int]) -> None:
    folder, unseen, seed = todo
    asked = [one for one, left_out in zip(train, unseen, strict=True) if left_out]
    if all(_file(folder, one.name).exists() for one in asked):
        return
    head = train_small([one for one, left_out in zip(train, unseen, strict=True) if not left_out], seed=seed)
    for one in asked:
        stream = io.BytesIO()
        np.save(stream, cells_seen(head, one)[1].softmax(0).numpy().astype(np.float16))
        write_bytes(_file(folder, one.name), stream.getvalue())


def _read(
    train: Sequence[Small], folder: Path, what: str, names: Collection[str] | None = None
) -> Iterator[tuple[str, Labels, Floats]]:
    asked = [one for one in train if names is None or one.name in names]
    for one in progress(asked, what=what, total=len(asked)):
        each = [np.load(_file(folder / str(repeat), one.name)) for repeat in range(REPEATS)]
        yield one.name, one.labels(), enlarged(np.mean(each, 0, dtype=np.float32), one.size)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.seen.npy"
