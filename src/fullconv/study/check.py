"""Whether values of samples foretell trainings: networks trained on halves of train. Road: study, beside the value.

In: small samples, values. Out: what the halves reached, and how well the values rank that.

Source: the linear datamodeling score (Park et al. 2023, TRAK, section 2): over random parts of train, the rank
correlation between what a part's samples are worth in sum and what a network trained on that part reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fullconv.base.seeds import rng
from fullconv.measure.intervals import percentiles
from fullconv.study.refit import Floats
from fullconv.study.small import Small, outcomes_of

PAIRS, SEEDS = 12, 2  # halves with their complements; trainings of each
_DRAWS = 1000


@dataclass(frozen=True)
class Foretold:
    """A rank correlation over halves, averaged over classes, with its 95% interval."""

    mean: float
    low: float
    high: float


def halves_of(samples: int, *, seed: int, pairs: int = PAIRS) -> NDArray[np.bool_]:
    """(2 pairs, S): which samples a half holds; the second of a pair holds those that the first does not."""
    draw = rng(seed, "halves")
    firsts = [np.isin(np.arange(samples), draw.permutation(samples)[: samples // 2]) for _ in range(pairs)]
    return np.array([half for first in firsts for half in (first, ~first)])


def retrained(
    train: Sequence[Small], val: Sequence[Small], halves: NDArray[np.bool_], journal: Path, *, seeds: int = SEEDS
) -> Floats:
    """(halves, seeds, 3, K): recall, precision and IoU on val of networks trained on the halves; NaN where undefined.

    Args:
        journal: what it holds is not trained again.
    Raises: TrainingError, DiskFull.
    """
    trainings = [(half, 1000 * place + seed) for place, half in enumerate(halves) for seed in range(seeds)]
    outcomes = outcomes_of(trainings, train, val, journal)
    return outcomes.reshape(len(halves), seeds, *outcomes.shape[1:])


def agreement(values: Floats, halves: NDArray[np.bool_], outcomes: Floats) -> Foretold:
    """How well (S, K) values, summed up over each half, rank what single trainings reached: (halves, seeds, K)."""
    each = [foretold(halves @ values, outcomes[:, seed]) for seed in range(outcomes.shape[1])]
    return Foretold(*(float(np.mean([getattr(one, of) for one in each])) for of in ("mean", "low", "high")))


def foretold(guess: Floats, found: Floats) -> Foretold:
    """How well (halves, K) guesses rank what the halves reached, (halves, K): Spearman's correlation, averaged over the
    classes that differ; its interval by drawing pairs of halves again. What is undefined counts as 0.
    """
    guess, found = np.nan_to_num(guess), np.nan_to_num(found)
    classes = [index for index in range(found.shape[1]) if np.ptp(found[:, index]) and np.ptp(guess[:, index])]
    if not classes:
        return Foretold(0.0, 0.0, 0.0)

    def mean(rows: NDArray[np.int64]) -> Floats:
        """(..., halves) places -> (...) correlation of the ranks, averaged over classes."""
        one, other = (rankdata(of[rows][..., classes], axis=-2) - (rows.shape[-1] + 1) / 2 for of in (guess, found))
        with np.errstate(invalid="ignore"):  # a class may be alike in all that were drawn
            alike = (one * other).sum(-2) / np.sqrt((one**2).sum(-2) * (other**2).sum(-2))
        return np.asarray(np.nanmean(alike, -1))

    draw = rng(0, "foretold")
    pairs = np.arange(len(found)).reshape(-1, 2)
    draws = np.array([pairs[draw.integers(0, len(pairs), len(pairs))].ravel() for _ in range(_DRAWS)])
    low, high = percentiles(mean(draws)[:, None])[:, 0]
    return Foretold(float(mean(pairs.ravel())), float(low), float(high))
