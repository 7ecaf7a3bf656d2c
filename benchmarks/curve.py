"""Learning curves: fitted on half of the samples, do their intervals hold what all of them reach?

python benchmarks/curve.py RUNS [CASE ...]      e.g. voc-animals; none: all. Trains into RUNS (resumable).

Small networks (study/small.py). In each of ten repeats one half of train, drawn by a seed, is all that there is: curves
are fitted on trainings on it, its halves and its quarters, sixteen in all. The truth is the mean of five trainings on all of
train. Of the mean IoU, and of each class's recall and precision. Beside it: a power law by least squares (scipy), with
the interval that its covariance gives (90%, as ours). Writes benchmarks/results/curve.json.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from road import DATA
from rows import run as run_cases
from rows import small_trained
from scipy.optimize import OptimizeWarning, curve_fit
from value import CLASSES

import fullconv as fc
from fullconv.base.seeds import rng
from fullconv.measure.ratios import mean
from fullconv.study.curve import Curve
from fullconv.study.growth import IOU, PRECISION, RECALL, Growth, growth_of
from fullconv.study.small import outcomes_of, shrink_samples

REPEATS, TRUTHS = 10, 5


def grown(name: str, runs: Path) -> dict[str, Any]:
    given = fc.read_samples(DATA / name, classes=CLASSES[name] or None)
    train, val = (shrink_samples(split, runs / f"value-{name}") for split in (given.train, given.val))
    folder = runs / f"curve-{name}-{small_trained()}"
    truth = outcomes_of([(np.arange(len(train)), 50 + seed) for seed in range(TRUTHS)], train, val, folder / "truth.jsonl")
    has = np.array([np.isin(np.arange(train[0].label_space.size), one.labels()) for one in train]).sum(0)
    repeats = []
    for repeat in range(REPEATS):
        half = rng(repeat, "half").permutation(len(train))[: len(train) // 2]
        repeats.append(growth_of([train[place] for place in half], val, folder / f"{repeat}.jsonl", seed=repeat))
    whole = mean(truth[:, IOU])
    return {
        "set": name,
        "samples": len(train),
        "truth": {"mean": round(float(whole.mean()), 4), "deviation": round(float(whole.std(ddof=1)), 4)},
        "mean_iou": _held([(one.curve, len(train)) for one in repeats], [float(whole.mean())] * REPEATS),
        "least_squares": _least_squares(repeats, len(train), float(whole.mean())),
        **{what: _of_classes([getattr(one, f"{what}s") for one in repeats], has, truth[:, at].mean(0)) for what, at in (("recall", RECALL), ("precision", PRECISION))},
    }


def _held(curves: list[tuple[Curve, float]], truths: list[float]) -> dict[str, Any]:
    told = [curve.at(samples) for curve, samples in curves]
    inside = [one.low <= truth <= one.high for one, truth in zip(told, truths, strict=True)]
    return {
        "held": int(np.sum(inside)),
        "of": len(told),
        "width": round(float(np.mean([one.high - one.low for one in told])), 4),
        "widest": round(float(np.max([one.high - one.low for one in told])), 4),
        "off": round(float(np.mean([abs(one.figure - truth) for one, truth in zip(told, truths, strict=True)])), 4),
    }


def _of_classes(repeats: list[tuple[Curve | None, ...]], images: Any, truth: Any) -> dict[str, Any]:
    pairs = [(curve, index) for curves in repeats for index, curve in enumerate(curves) if curve is not None]
    return _held([(curve, images[index]) for curve, index in pairs], [float(truth[index]) for _, index in pairs])


def _least_squares(repeats: list[Growth], samples: int, truth: float) -> dict[str, Any]:
    inside, widths, off = [], [], []
    for one in repeats:
        def law(n: Any, end: float, rise: float, power: float, most: int = one.curve.most) -> Any:
            return end - rise * (n / most) ** -power

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            best, spread = curve_fit(law, one.samples, one.mean_iou, p0=(0.8, 0.2, 0.5), bounds=([0, 0, 0.05], [1, 2, 3]))
        step = 1e-5
        slope = np.array([(law(samples, *(best + step * unit)) - law(samples, *best)) / step for unit in np.eye(3)])
        deviation = float(np.sqrt(max(0, slope @ spread @ slope)))
        figure = float(law(samples, *best))
        inside.append(abs(figure - truth) <= 1.645 * deviation)
        widths.append(2 * 1.645 * deviation)
        off.append(abs(figure - truth))
    return {"held": int(np.sum(inside)), "of": len(inside), "width": round(float(np.median(widths)), 4), "off": round(float(np.mean(off)), 4)}


if __name__ == "__main__":
    run_cases("curve", {name: partial(grown, name, Path(sys.argv[1])) for name in CLASSES}, sys.argv[2:])
