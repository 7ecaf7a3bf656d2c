"""Is one segmenter better than another? Road: measure. In: two Scores of the same photos. Out: a difference.

Paired by photo: both are summed over the same draws of photos, so what makes a photo hard for both cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fullconv.base.errors import DataError
from fullconv.measure.intervals import percentiles
from fullconv.measure.ratios import mean, number
from fullconv.measure.scores import Scores, iou_draws


@dataclass(frozen=True)
class Difference:
    """Mean IoU of the first less that of the second, and the interval of that difference."""

    mean_iou: float
    interval: tuple[float, float]

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        low, high = self.interval
        return low > 0 or high < 0

    def to_json(self) -> dict[str, Any]:
        """For `evaluate --against --json`."""
        return {"mean_iou": number(self.mean_iou), "interval": [number(end) for end in self.interval]}


def compare(first: Scores, second: Scores) -> Difference:
    """How much higher the mean IoU of `first` is than that of `second` (negative: lower), paired by photo.

    Raises: DataError if the classes, the photos or their true pixels differ.
    """
    second = _in_the_order_of(first, second)
    low, high = percentiles(mean(iou_draws(first)) - mean(iou_draws(second)))
    return Difference(first.mean_iou - second.mean_iou, (float(low), float(high)))


def _in_the_order_of(first: Scores, second: Scores) -> Scores:
    if first.class_names != second.class_names:
        raise _cannot("the classes", ", ".join(first.class_names), ", ".join(second.class_names))
    place = {name: index for index, name in enumerate(second.photos)}
    if set(place) != set(first.photos) or len(place) != len(first.photos):
        odd = sorted(set(place) ^ set(first.photos))
        raise _cannot("the photos", f"{len(first.photos)} photos", f"{len(second.photos)}; not in both: {odd[:10]}")
    order = np.array([place[name] for name in first.photos], int)
    if not np.array_equal(first.truth, second.truth[order]):
        raise _cannot("the true pixels of each class", "one set of label maps", "label maps with other labels")
    return replace(
        second,
        photos=first.photos,
        truth=second.truth[order],
        guess=second.guess[order],
        hit=second.hit[order],
    )


def _cannot(what: str, first: str, second: str) -> DataError:
    return DataError(
        f"to compare two results, {what} must be the same in both",
        f"the first has {first}; the second has {second}",
        "measure both on the same split of the same data",
    )
