"""A learning curve: what a figure would be with more samples, and how sure that is. Road: study, after trainings.

In: numbers of samples and what networks trained on so many reached. Out: the figure at any number, with its interval.
Knows no files, no torch.

Source: figures fall short of where they end by a power of the number of samples (Hestness et al. 2017; with the fit's
uncertainty, Mahmood et al. 2022). Here no one curve is taken for true: all that fit the figures vote.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_POWERS = np.geomspace(0.1, 2.0, 25)  # of the number of samples
_TYPICAL_POWER, _POWER_FACTOR = 1.0, 2.0  # the middle of what is expected of a power, and how far it strays
_OF_SAMPLES = 0.5  # of the variance of a figure: trainings on the same samples have it in common (0.3 and 0.7 measured)
_NOISES = np.geomspace(0.002, 0.1, 25)  # standard deviations of the figure of a training on the most samples
_END, _END_DEVIATION = 0.7, 0.4  # where a figure ends, before anything was measured
_RISE_DEVIATION = 0.4  # what the largest part measured is short of it
_DRAWS = 4000
_SHARE = 90.0  # percent of the curves in an interval


@dataclass(frozen=True)
class Expected:
    """A figure and the interval that holds it in 90 of 100 cases."""

    figure: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Curves that fit what was measured: `end` - `rise` * (n / `most`) ** -`power`.

    Args:
        most: the largest number of samples measured.
        end, rise, power: one of each a curve.
    """

    most: int
    end: Floats
    rise: Floats
    power: Floats

    def at(self, samples: float) -> Expected:
        """What networks trained on so many samples are expected to reach in the mean."""
        return _expected(self._figures(samples))

    def gain(self, samples: float) -> Expected:
        """What they are expected to reach beyond those trained on the most that was measured."""
        return _expected(self._figures(samples) - self._figures(self.most))

    def samples_for(self, figure: float) -> tuple[float, float, float]:
        """How many samples reach a figure: by the middle curve, the best, and the worst of the interval.

        Infinity where a curve ends below it.
        """
        short = self.end - figure
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = self.most * (self.rise / short) ** (1 / self.power)
        already = np.where(self._figures(self.most) >= figure, self.most, np.inf)
        needed = np.where(self.rise < 0, already, np.where(short > 0, needed, np.inf))
        ends = [0.5, (1 - _SHARE / 100) / 2, (1 + _SHARE / 100) / 2]
        middle, best, worst = np.quantile(needed, ends, method="nearest")
        return float(middle), float(best), float(worst)

    def _figures(self, samples: float) -> Floats:
        return self.end - self.rise * (samples / self.most) ** -self.power


def fit_curve(
    samples: ArrayLike, figures: ArrayLike, trainings: ArrayLike = 1, *, strays: float = 1.0, seed: int = 0
) -> Curve:
    """The curves that fit figures of trainings on parts of a set: a posterior, by a grid over power and noise.

    A figure may fall with more samples: a class's recall does where its precision rises.

    Args:
        samples: how many samples each figure is for; at least two different numbers.
        figures: what was reached on them, 0 to 1.
        trainings: on the same samples, of which each figure is the mean.
        strays: a figure strays by one over this power of the number of samples.
        seed: of the draws.
    """
    numbers, reached = np.asarray(samples, float), np.asarray(figures, float)
    most = numbers.max()
    less = np.sqrt(_OF_SAMPLES + (1 - _OF_SAMPLES) / np.asarray(trainings, float))
    exact = (numbers / most) ** strays / less  # how exact a figure is, beside that of one training on the most
    start, spread = np.array([_END, 0.0]), np.diag([_END_DEVIATION, _RISE_DEVIATION]) ** 2
    fits: list[tuple[float, float, Floats, Floats]] = []  # log weight, power, mean and covariance of (end, rise)
    for power in _POWERS:
        shape = exact[:, None] * np.stack([np.ones_like(numbers), -((numbers / most) ** -power)], 1)
        expected = -0.5 * (np.log(power / _TYPICAL_POWER) / np.log(_POWER_FACTOR)) ** 2
        for noise in _NOISES:
            precision = np.linalg.inv(spread) + shape.T @ shape / noise**2
            covariance = np.linalg.inv(precision)
            mean = covariance @ (np.linalg.solve(spread, start) + shape.T @ (exact * reached) / noise**2)
            rest, moved = exact * reached - shape @ mean, mean - start
            likely = -len(numbers) * np.log(noise) - 0.5 * (rest**2).sum() / noise**2
            likely += 0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * moved @ np.linalg.solve(spread, moved)
            fits.append((float(expected + likely), float(power), mean, covariance))
    weights = np.exp(np.array([fit[0] for fit in fits]) - max(fit[0] for fit in fits))
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(fits), size=_DRAWS, p=weights / weights.sum())
    means, roots = np.array([fit[2] for fit in fits]), np.linalg.cholesky(np.array([fit[3] for fit in fits]))
    drawn = means[chosen] + np.einsum("nij,nj->ni", roots[chosen], rng.standard_normal((_DRAWS, 2)))
    powers = np.array([fits[one][1] for one in chosen])
    sound = (drawn[:, 0] >= 0) & (drawn[:, 0] <= 1)
    if not sound.any():
        drawn[:, 0] = drawn[:, 0].clip(0, 1)
        sound = np.ones(len(drawn), bool)
    return Curve(int(most), drawn[sound, 0], drawn[sound, 1], powers[sound])


def _expected(figures: Floats) -> Expected:
    low, high = np.percentile(figures, [50 - _SHARE / 2, 50 + _SHARE / 2])
    return Expected(float(figures.mean()), float(low), float(high))
