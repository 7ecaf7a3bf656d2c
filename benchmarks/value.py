"""What is a sample worth? Retrain a small FCN on many halves of train, and see which estimate foretells the outcome.

python benchmarks/value.py RUNS [CASE ...]      e.g. voc-animals; none: all. Retrains into RUNS (resumable).

The network is that of the study (study/small.py): photos of at most 256 pixels, the sharp head on EfficientNet-Lite0.
Halves come in pairs, one the complement of the other, so that each sample is in half of them; every half is trained with
two seeds. What is foretold: recall, precision and IoU of each class on val. Figures are Spearman's correlation over the
halves between what an estimate adds up to over a half's samples (linear datamodeling score, Park et al. 2023) and what
the half scores, averaged over classes, with the 95% interval of a bootstrap over pairs of halves. The ceiling is the
correlation of one seed with the other; estimates are held against single seeds too (the mean of both correlations), so
that the two can be compared. Writes benchmarks/results/value.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from road import DATA
from rows import run as run_cases

import fullconv as fc
from fullconv.data.samples import Sample
from fullconv.study.refit import MEASURES, Floats
from fullconv.study.small import shrink_samples
from fullconv.study.value import foretold, halves_of, retrained, sample_values

CLASSES = {"voc-animals": ("background", "cat", "cow", "dog", "horse", "person", "sheep"), "camvid": ()}
PAIRS = 24
Samples = tuple[Sample, ...]


def worth(name: str, runs: Path) -> dict[str, Any]:
    given = fc.read_samples(DATA / name, classes=CLASSES[name] or None)
    train, val = (shrink_samples(split, runs / f"value-{name}") for split in (given.train, given.val))
    halves = halves_of(len(train), seed=0, pairs=PAIRS)
    began = time.perf_counter()
    outcomes = retrained(train, val, halves, runs / f"value-{name}" / "outcomes.jsonl")
    seconds = time.perf_counter() - began
    return {
        "set": name,
        "samples": len(train),
        "halves": len(halves),
        "seconds": round(seconds, 1),
        "mean_iou": round(float(np.nanmean(outcomes[:, :, 2])), 4),
        "ceiling": {what: asdict(foretold(outcomes[:, 0, at], outcomes[:, 1, at])) for at, what in enumerate(MEASURES)},
        "estimates": {estimate: judged(of(train, val), halves, outcomes) for estimate, of in ESTIMATES.items()},
    }


def judged(values: Floats, halves: Any, outcomes: Floats) -> dict[str, Any]:
    """Of (S, 3, K) values, for each measure: the correlation with single seeds, averaged over both."""
    found = {}
    for at, what in enumerate(MEASURES):
        each = [asdict(foretold(halves @ values[:, at], outcomes[:, seed, at])) for seed in range(outcomes.shape[1])]
        found[what] = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
    return found


def _pixels(train: Samples, val: Samples) -> Floats:
    """A sample is worth to a class the pixels that it has of it."""
    space = train[0].label_space
    pixels = [np.bincount(sample.read_labels().ravel(), minlength=space.void + 1)[: space.size] for sample in train]
    return np.repeat(np.array(pixels, np.float64)[:, None], len(MEASURES), 1)


def _random(train: Samples, val: Samples) -> Floats:
    return np.random.default_rng(1).normal(size=(len(train), len(MEASURES), train[0].label_space.size))


def _last_layer(train: Samples, val: Samples) -> Floats:
    return sample_values(train, val, seed=0).mean(0)


ESTIMATES: dict[str, Callable[[Samples, Samples], Floats]] = {
    "random": _random,
    "pixels of the class": _pixels,
    "last layer": _last_layer,
}


if __name__ == "__main__":
    run_cases("value", {name: partial(worth, name, Path(sys.argv[1])) for name in CLASSES}, sys.argv[2:])
