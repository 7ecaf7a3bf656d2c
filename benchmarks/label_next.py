"""What to label next, simulated: label maps of train hidden, then shown batch by batch as each way chooses.

python benchmarks/label_next.py RUNS [CASE ...]      e.g. camvid; none: all, one after another. Trains into RUNS (resumable).

Small networks (study/small.py). Each seed begins with the same few samples, drawn by chance; two networks are trained on
what is labelled, measured on val, and asked about the rest; the next batch is chosen; and so on. Ways: by chance; by the
mean entropy of a photo's pixels (of the same two networks); as `study --next` does, which looks at the photos of val
(not at their label maps) where photos repeat each other; the same without val; and only the parts that it names, up to as many pixels. Area: mean IoU
averaged over the share of photos labelled (trapezoids), as shown. What all of train reaches is the mean of four trainings.
Writes benchmarks/results/label_next.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from road import DATA
from rows import commit
from rows import run as run_cases
from scipy.stats import t
from value import CLASSES

import fullconv as fc
from fullconv.base.journal import append_journal, read_journal
from fullconv.base.seeds import rng
from fullconv.measure.ratios import mean
from fullconv.nets.sharp import SharpHead
from fullconv.study.label_next import label_next, redundancy, standard_looks
from fullconv.study.small import Small, cells_seen, mean_iou, outcomes_of, shrink_samples, train_several

SHARES = {"camvid": (0.01, 0.025, 0.05, 0.09), "voc-animals": (0.05, 0.1, 0.15, 0.2)}  # of train, labelled at each step
NETWORKS, TRUTHS = 2, 4
SEEDS = {"chance": 5, "entropy": 5, "fullconv": 5, "fullconv, without val": 5, "fullconv, parts": 3}
ENOUGH = 0.95  # of what all of train reaches


@dataclass(frozen=True)
class Partly(Small):
    """A sample of which only some boxes are labelled: (top, left, bottom, right), 0 to 1 of its height and width."""

    parts: Sequence[Sequence[float]]

    def labels(self) -> NDArray[np.integer[Any]]:
        whole, shown = super().labels(), np.zeros(self.size, bool)
        for box in self.parts:
            top, left, bottom, right = (round(end * side) for end, side in zip(box, self.size * 2, strict=True))
            shown[top:bottom, left:right] = True
        return np.where(shown, whole, self.label_space.void)


Labelled = dict[int, Sequence[Sequence[float]]]
"""Place in train -> the boxes of it that are labelled."""
Way = Callable[[Sequence[SharpHead], Sequence[Small], Sequence[Small], Labelled, float, np.random.Generator], Labelled]
"""(networks, train, val, what is labelled, photos to label more, chance) -> what is labelled more."""
WHOLE = ((0.0, 0.0, 1.0, 1.0),)


def simulated(name: str, runs: Path) -> dict[str, Any]:
    given = fc.read_samples(DATA / name, classes=CLASSES[name] or None)
    train, val = (shrink_samples(split, runs / f"value-{name}") for split in (given.train, given.val))
    folder = runs / f"next-{name}-{commit()}"
    truth = mean(outcomes_of([(np.arange(len(train)), 50 + seed) for seed in range(TRUTHS)], train, val, folder / "truth.jsonl")[:, 2])
    steps = [share * len(train) for share in SHARES[name]]
    curves = {
        way: np.array([_curve(name, way, seed, train, val, steps, folder / f"{way}-{seed}.jsonl") for seed in range(seeds)])
        for way, seeds in SEEDS.items()
    }
    areas = {way: np.trapezoid(curve, steps, axis=1) / (steps[-1] - steps[0]) for way, curve in curves.items()}
    whole = float(truth.mean())
    return {
        "set": name,
        "train": len(train),
        "redundancy": round(redundancy(standard_looks(train)), 3),
        "all_of_train": round(whole, 4),
        "photos": [round(step) for step in steps],
        "ways": {
            way: {
                "seeds": len(curve),
                "mean_iou": np.round(curve.mean(0), 4).tolist(),
                "area": round(float(areas[way].mean()), 4),
                "ahead_of_chance": None if way == "chance" else _ahead(areas[way], areas["chance"]),
                "ahead_of_entropy": None if way in ("chance", "entropy") else _ahead(areas[way], areas["entropy"]),
                "enough_with": _enough(curve.mean(0), steps, len(train), ENOUGH * whole),
            }
            for way, curve in curves.items()
        },
    }


def _ahead(one: Any, other: Any) -> list[float]:
    """By how much an area is larger: mean and 95% interval over seeds that began alike."""
    apart = one - other[: len(one)]
    reach = t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
    return [round(float(end), 4) for end in (apart.mean(), apart.mean() - reach, apart.mean() + reach)]


def _enough(curve: Any, steps: list[float], whole: int, wanted: float) -> float | None:
    """Share of train with which the mean over seeds first reaches what is wanted, between steps in proportion."""
    for place, reached in enumerate(curve):
        if reached >= wanted:
            if not place:
                return round(steps[0] / whole, 4)
            before, part = curve[place - 1], steps[place] - steps[place - 1]
            return round((steps[place - 1] + part * (wanted - before) / (reached - before)) / whole, 4)
    return None


def _curve(name: str, way: str, seed: int, train: Sequence[Small], val: Sequence[Small], steps: list[float], journal: Path) -> list[float]:
    """Mean IoU at each step; what the journal holds is not done again."""
    rows = read_journal(journal)
    heads: list[SharpHead] = []
    for place in range(len(rows), len(steps)):
        if not place:
            labelled: Labelled = {int(at): WHOLE for at in rng(seed, "start").permutation(len(train))[: round(steps[0])]}
        else:
            labelled = {int(at): parts for at, parts in rows[-1]["labelled"].items()}
            heads = heads or _trained(train, labelled, seed, place - 1, journal.with_suffix(""))
            labelled |= WAYS[way](heads, train, val, labelled, steps[place] - steps[place - 1], rng(seed, way, place))
        heads = _trained(train, labelled, seed, place, journal.with_suffix(""))
        rows.append({"labelled": labelled, "mean_iou": [mean_iou(head, val) for head in heads]})
        append_journal(journal, rows[-1])
        print(f"{name} {way} {seed}: {len(labelled)} photos, {np.mean(rows[-1]['mean_iou']):.3f}", flush=True)
    return [float(np.mean(row["mean_iou"])) for row in rows[: len(steps)]]


def _trained(train: Sequence[Small], labelled: Labelled, seed: int, place: int, folder: Path) -> list[SharpHead]:
    given = [
        train[at] if tuple(map(tuple, parts)) == WHOLE else Partly(train[at].name, train[at].size, train[at].label_space, train[at].folder, parts)
        for at, parts in labelled.items()
    ]
    return train_several(given, NETWORKS, folder, seed=1000 * seed + 10 * place)


# ---- the ways -------------------------------------------------------------------------------------------------------


def _chance(heads: Any, train: Sequence[Small], val: Any, labelled: Labelled, more: float, draw: np.random.Generator) -> Labelled:
    left = _left(train, labelled)
    return {left[int(at)]: WHOLE for at in draw.permutation(len(left))[: round(more)]}


def _entropy(heads: Sequence[SharpHead], train: Sequence[Small], val: Any, labelled: Labelled, more: float, draw: Any) -> Labelled:
    def of(photo: Small) -> float:
        shares = torch.stack([cells_seen(head, photo)[1].softmax(0) for head in heads]).mean(0)
        return float(-(shares * shares.clamp_min(1e-8).log()).sum(0).mean())

    left = _left(train, labelled)
    return dict.fromkeys(sorted(left, key=lambda at: -of(train[at]))[: round(more)], WHOLE)


def _fullconv(heads: Sequence[SharpHead], train: Sequence[Small], val: Sequence[Small], labelled: Labelled, more: float, draw: Any) -> Labelled:
    return {at: WHOLE for at, _ in _ranked(heads, train, val, labelled, round(more))}


def _without_val(heads: Sequence[SharpHead], train: Sequence[Small], val: Any, labelled: Labelled, more: float, draw: Any) -> Labelled:
    return _fullconv(heads, train, (), labelled, more, draw)


def _parts(heads: Sequence[SharpHead], train: Sequence[Small], val: Sequence[Small], labelled: Labelled, more: float, draw: Any) -> Labelled:
    """As many parts as have the pixels of so many photos."""
    chosen: Labelled = {}
    for at, parts in _ranked(heads, train, val, labelled, len(train)):
        more -= sum((bottom - top) * (right - left) for top, left, bottom, right in parts)
        if more < 0:
            break
        chosen[at] = parts
    return chosen


def _ranked(
    heads: Sequence[SharpHead], train: Sequence[Small], val: Sequence[Small], labelled: Labelled, number: int
) -> list[tuple[int, Sequence[Sequence[float]]]]:
    place_of = {one.name: place for place, one in enumerate(train)}
    chosen = label_next(heads, [train[at] for at in labelled], val, [train[at] for at in _left(train, labelled)], number)
    return [(place_of[one.name], one.parts) for one in chosen.choices]


def _left(train: Sequence[Small], labelled: Labelled) -> list[int]:
    return [at for at in range(len(train)) if at not in labelled]


WAYS: dict[str, Way] = {"chance": _chance, "entropy": _entropy, "fullconv": _fullconv, "fullconv, without val": _without_val, "fullconv, parts": _parts}

if __name__ == "__main__":
    run_cases("label_next", {name: partial(simulated, name, Path(sys.argv[1])) for name in SHARES}, sys.argv[2:])
