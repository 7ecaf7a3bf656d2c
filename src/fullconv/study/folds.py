"""Networks that have not seen the samples they are asked about: a run a fold. Road: study, before wrong labels.

In: a case and an earlier run of its samples. Out: which bundle predicts which samples. Knows runs only by a function
that goes the road once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.cluster.hierarchy import DisjointSet

from fullconv.base.errors import UsageError
from fullconv.base.files import read_json, write_json
from fullconv.data.samples import Sample
from fullconv.data.split import Item, hold_out
from fullconv.study.alike import Alike
from fullconv.study.case import Case

FOLDS = 3
GoAgain = Callable[[Path, Path], Path]
"""(file of splits, folder of the new run) -> its bundle: the road of the earlier run with these splits."""


@dataclass(frozen=True)
class Unseen:
    """Samples, and the bundle of a network that was not trained on them."""

    bundle: Path
    samples: tuple[Sample, ...]


def unseen(case: Case, earlier: Path, out: Path, again: GoAgain, *, seed: int) -> list[Unseen]:
    """The samples of train by folds, each beside a network trained on the other folds; the others beside the earlier
    run's own network. What an earlier call trained is not trained again.

    Args:
        case: of the samples that the earlier run learned from.
        earlier: the run's folder.
        out: gets a folder for each fold.
        again: goes the road once more; resumes by itself.
    Raises: UsageError if the folder holds no finished run, or one of other samples.
    """
    split_of = _splits(case, earlier)
    samples = {one.name: one for one in case.samples.values() if one.name in split_of}
    train = [name for name in samples if split_of[name] == "train"]
    folds = folds_of(items_of(case, train), seed=seed)
    parts = []
    for number, fold in enumerate(folds, 1):
        splits = {name: _part(name, split, fold) for name, split in split_of.items()}
        write_json(out / f"fold{number}.json", splits)
        bundle = again(out / f"fold{number}.json", out / f"fold{number}")
        parts.append(Unseen(bundle, tuple(samples[name] for name in train if name in fold)))
    rest = tuple(one for name, one in samples.items() if split_of[name] != "train")
    return [*parts, Unseen(earlier / "bundle", rest)] if rest else parts


def folds_of(items: Sequence[Item], *, seed: int, number: int = FOLDS) -> list[frozenset[str]]:
    """Names of the items in `number` parts of about equal size, classes shared out evenly, equal contents together.

    Raises: UsageError if there are too few for that.
    """
    folds, left = [], list(items)
    for remaining in range(number, 1, -1):
        fold = hold_out(left, seed=seed, share=1 / remaining)
        folds.append(fold)
        left = [item for item in left if item.name not in fold]
    folds.append(frozenset(item.name for item in left))
    if not all(folds):
        raise UsageError(
            f"wrong labels are found by {number} networks, each trained without its part of the samples",
            f"{len(items)} samples of train",
            "fullconv study DATA --out DIR, without --run, looks at the files alone",
        )
    return folds


def _part(name: str, split: str, fold: frozenset[str]) -> str:
    if split != "train":
        return "test"  # a run does not look at it
    return "val" if name in fold else "train"


def _splits(case: Case, earlier: Path) -> dict[str, str]:
    """Name -> split, as the earlier run had them."""
    found = earlier / "samples.json"
    if not found.exists() or not (earlier / "bundle" / "card.json").exists():
        raise UsageError(
            "--run is the folder of a finished run", f"no samples.json and bundle in {earlier}", "fullconv run DATA"
        )
    document = read_json(found)
    split_of = {sample["name"]: split for split, several in document["splits"].items() for sample in several}
    names = None if case.space is None else list(case.space.names)
    learned = [one["name"] for one in document["label_space"]["classes"]]
    if names != learned or not set(split_of) & {one.name for one in case.samples.values()}:
        raise UsageError(
            "the run learned from the samples that are studied", f"{earlier} has others", "--run of a run of DATA"
        )
    return split_of


def items_of(case: Case, names: Iterable[str]) -> list[Item]:
    """What the folds need to know of samples; near copies have one content, so that they stay together."""
    assert case.content is not None
    wanted = set(names)
    groups = _groups(case.alike, case.names)
    return [
        Item(one.name, frozenset(row[:-1].nonzero()[0].tolist()), groups[one.name])
        for one, row in zip(case.samples.values(), case.content.pixels, strict=True)
        if one.name in wanted
    ]


def _groups(pairs: Iterable[Alike], names: Sequence[str]) -> Mapping[str, str]:
    """Name -> the name that stands for all that are copies of it, or nearly so."""
    together = DisjointSet(names)
    for pair in pairs:
        if pair.kind in ("exact", "near"):
            together.merge(names[pair.first], names[pair.second])
    return {name: together[name] for name in names}
