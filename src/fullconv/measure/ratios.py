"""Scores as ratios of counts, NaN where undefined. Road: measure, first. In: counts of any shape. Knows no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def iou(truth: NDArray[Any], guess: NDArray[Any], hit: NDArray[Any]) -> Floats:
    """Intersection over union of counts of any shape; NaN where the union is empty."""
    return ratio(hit, truth + guess - hit)


def ratio(part: Any, whole: Any) -> Floats:
    """part / whole, NaN where the whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def mean(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def number(value: float | np.floating[Any] | Floats) -> float | None:
    """A number for JSON; null where it is undefined."""
    return None if np.isnan(value) else float(value)
