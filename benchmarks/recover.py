"""With three tenths of the label maps of train spoiled: how much of the lost mean IoU does the study's advice bring back?

python benchmarks/recover.py RUNS [CASE ...]      e.g. "voc-animals 0"; none: all. Trains into RUNS.

Faults of labels are planted into train (benchmarks/plant.py), val stays clean. Small networks (study/small.py), each
trained on two thirds of train, find wrong labels in the third that they have not seen; four, trained on all of it, say
what each sample is worth to one half of val. What the advice names to be fixed gets its true label map back, as from a
person who draws it anew; what it names to be dropped is left out. Twice: then the mended samples are studied, and what
is named is fixed too. Then small networks are trained on train as it was before, spoiled, and mended, eight seeds each,
and scored on the other half of val. Beside it: as many label maps fixed as the advice names, but chosen by chance, by
the loss, and by cleanlab's ranking. Writes benchmarks/results/recover.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.segmentation.rank import get_label_quality_scores
from plant import plant
from road import DATA
from rows import run as run_cases
from rows import small_trained
from suspects import CLASSES, random_rounds

import fullconv as fc
from fullconv.base.files import content_hash
from fullconv.measure.ratios import mean
from fullconv.study.growth import IOU
from fullconv.study.small import NETWORKS, Small, outcomes_of, shrink_samples, train_several
from fullconv.study.small_folds import seen_by_others
from fullconv.study.value import advise, sample_values, seen_by_networks
from fullconv.study.wrong_labels import wrong_labels

SHARES = {"swapped": 0.1, "shifted": 0.1, "missing": 0.1}  # of train
TRAININGS = 8
Samples = Sequence[Small]


def recovered(name: str, seed: int, runs: Path) -> dict[str, Any]:
    folder = runs / f"recover-{name}-{seed}"
    classes = CLASSES[name]
    if not (folder / "data").exists():
        plant(DATA / name, folder / "data", seed=seed, shares=SHARES, classes=classes)
    clean, spoiled = (fc.read_samples(root, classes=classes or None) for root in (DATA / name, folder / "data"))
    true, given = (shrink_samples(one.train, folder / of) for one, of in ((clean, "clean"), (spoiled, "spoiled")))
    val = shrink_samples(clean.val, folder / "val")
    asked, held = val[::2], val[1::2]
    wrong = {one.name for one, other in zip(true, given, strict=True) if (one.labels() != other.labels()).any()}
    trained = folder / small_trained()
    doubtful, scores = _found(given, trained, seed)
    names = [one.name for one in given]
    values = sample_values(seen_by_networks(train_several(given, NETWORKS, trained / "heads", seed=seed), given, asked, seed=seed))
    advice = advise(names, values, doubtful)
    number = len(advice.fix)
    by_chance = np.random.default_rng(1000 + seed).permutation(names)[:number]  # not in the order of planting
    fixes = {"the advice": advice.fix, "chance": tuple(by_chance.tolist())}
    fixes |= {way: tuple(sorted(each, key=lambda one: each[one])[:number]) for way, each in scores.items()}
    mended = _fixed(true, given, advice.fix)
    again, _ = _found(mended, trained, seed)
    fixes["the advice, twice"] = (*advice.fix, *(name for name in again if name not in advice.fix))
    sets = {"clean": true, "spoiled": given} | {f"fixed by {way}": _fixed(true, given, fixed) for way, fixed in fixes.items()}
    sets["fixed and dropped by the advice"] = tuple(one for one in mended if one.name not in advice.drop)
    sets["dropped instead of fixed"] = tuple(one for one in given if one.name not in (*advice.fix, *advice.drop))
    reached = {what: _reached(train, held, trained) for what, train in sets.items()}
    means = {what: float(each.mean()) for what, each in reached.items()}
    lost = means["clean"] - means["spoiled"]
    return {
        "set": name,
        "seed": seed,
        "spoiled": len(wrong),
        "train": len(given),
        "fix": {way: len(fixed) for way, fixed in fixes.items()},
        "drop": len(advice.drop),
        "fix_spoiled": {way: len(wrong & set(fixed)) for way, fixed in fixes.items()},
        "drop_spoiled": len(wrong & set(advice.drop)),
        "mean_iou": {what: round(value, 4) for what, value in means.items()},
        "deviation": {what: round(float(each.std(ddof=1) / len(each) ** 0.5), 4) for what, each in reached.items()},
        "recovered": {what: round((value - means["spoiled"]) / lost, 3) for what, value in means.items() if what not in ("clean", "spoiled")},
    }


def _found(given: Samples, folder: Path, seed: int) -> tuple[tuple[str, ...], dict[str, dict[str, float]]]:
    """What the study doubts, and the scores of others, of the same probabilities of networks that have not seen the sample."""
    rounds = random_rounds([one.name for one in given], seed)
    seen = seen_by_others(given, rounds, folder / f"others-{_content(given)}", seed=seed)
    doubtful = wrong_labels(seen, given[0].label_space).doubtful
    others: dict[str, dict[str, float]] = {"loss": {}, "cleanlab": {}}
    for name, labels, probabilities in seen("asking", None):
        known = labels < len(probabilities)
        filled = np.where(known, labels, probabilities.argmax(0)).astype(np.int64)
        of_given = np.take_along_axis(probabilities, filled[None], 0)[0]
        others["loss"][name] = float(np.log(np.maximum(of_given[known], 1e-6)).mean())
        others["cleanlab"][name] = float(get_label_quality_scores(filled[None], probabilities[None], verbose=False)[0][0])
    return doubtful, others


def _fixed(true: Samples, given: Samples, names: Any) -> Samples:
    chosen = set(names)
    return tuple(one if one.name in chosen else other for one, other in zip(true, given, strict=True))


def _content(samples: Samples) -> str:
    """Names samples, true or spoiled."""
    return content_hash([[one.name, one.folder.name] for one in samples])[:12]


def _reached(train: Samples, val: Samples, folder: Path) -> Any:
    """Mean IoU of some trainings."""
    journal = folder / f"{_content(train)}.jsonl"
    return mean(outcomes_of([(np.arange(len(train)), seed) for seed in range(TRAININGS)], train, val, journal)[:, IOU])


if __name__ == "__main__":
    cases = {f"{name} {seed}": partial(recovered, name, seed, Path(sys.argv[1])) for name in CLASSES for seed in range(3)}
    run_cases("recover", cases, sys.argv[2:])
