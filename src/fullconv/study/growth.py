"""How much more samples would help: small networks trained on nested parts of train. Road: study, before its document.

In: small samples of train and val. Out: learning curves of the mean IoU, and of each class's recall and precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fullconv.base.seeds import rng
from fullconv.measure.ratios import mean
from fullconv.study.curve import Curve, fit_curve
from fullconv.study.refit import Floats
from fullconv.study.small import Small, outcomes_of

HALVINGS = 2
_STRAYS, _CLASS_STRAYS = 1.0, 0.5  # by one over these powers of the samples: measured, benchmarks/curve.py
_ON_ALL, _ORDERS = 4, 2  # trainings on all samples; orders in which these are divided
_FEWEST = 4  # trainings that had a class, or it gets no curve
RECALL, PRECISION, IOU = range(3)


@dataclass(frozen=True)
class Growth:
    """Learning curves, and what they were fitted on.

    Args:
        samples: (T,) of each training.
        mean_iou: (T,) that it reached.
        curve: of the mean IoU.
        images: (K,) samples of train that have a class.
        recalls, precisions: one a class, over samples that have the class; None where too few trainings had it.
    """

    samples: NDArray[np.int64]
    mean_iou: Floats
    curve: Curve
    images: NDArray[np.int64]
    recalls: tuple[Curve | None, ...]
    precisions: tuple[Curve | None, ...]


def nested_parts(samples: int, *, seed: int, halvings: int = HALVINGS) -> list[NDArray[np.int64]]:
    """Places of the samples of each training: all of them four times; halves, quarters and so on of two orders."""
    drawn = rng(seed, "parts")
    orders = [drawn.permutation(samples) for _ in range(_ORDERS)]
    parts = [orders[0]] * _ON_ALL
    for order in orders:
        for halving in range(1, halvings + 1):
            parts += np.array_split(order, 2**halving)
    return parts


def growth_of(train: Sequence[Small], val: Sequence[Small], journal: Path, *, seed: int) -> Growth:
    """Train on nested parts of train, score on val, fit.

    Args:
        journal: what it holds is not trained again.
    Raises: TrainingError, DiskFull.
    """
    space = train[0].label_space
    has = np.array([np.isin(np.arange(space.size), one.labels()) for one in train])  # (S, K)
    parts = nested_parts(len(train), seed=seed)
    trainings = [(part, 1000 * seed + place) for place, part in enumerate(parts)]
    return fitted(parts, has, outcomes_of(trainings, train, val, journal))


def fitted(parts: Sequence[NDArray[np.int64]], has: NDArray[np.bool_], outcomes: Floats) -> Growth:
    """The curves through what trainings reached.

    Args:
        parts: places of the samples of each training.
        has: (S, K) which classes a sample has.
        outcomes: (T, 3, K), see `small.measured`.
    """
    sizes, reached = np.array([len(part) for part in parts]), mean(outcomes[:, IOU])
    with_class = np.array([has[part].sum(0) for part in parts])  # (T, K)

    def of_classes(what: int) -> tuple[Curve | None, ...]:
        return tuple(_class_curve(with_class[:, k], outcomes[:, what, k]) for k in range(has.shape[1]))

    return Growth(sizes, reached, _fit(sizes, reached, _STRAYS), has.sum(0), of_classes(RECALL), of_classes(PRECISION))


def _class_curve(samples: NDArray[np.int64], figures: Floats) -> Curve | None:
    told = (samples > 0) & ~np.isnan(figures)
    if told.sum() < _FEWEST or len(set(samples[told].tolist())) < 2:
        return None
    return _fit(samples, np.where(told, figures, np.nan), _CLASS_STRAYS)


def _fit(samples: NDArray[np.int64], figures: Floats, strays: float) -> Curve:
    """The curve through the mean of the trainings on all samples, and each of the others; NaN is left out."""
    on_all = figures[:_ON_ALL][~np.isnan(figures[:_ON_ALL])]
    rest = ~np.isnan(figures[_ON_ALL:])
    numbers, reached = samples[_ON_ALL:][rest], figures[_ON_ALL:][rest]
    if not len(on_all):
        return fit_curve(numbers, reached, strays=strays)
    trainings = [len(on_all), *[1] * len(numbers)]
    return fit_curve([samples[0], *numbers], [on_all.mean(), *reached], trainings, strays=strays)
