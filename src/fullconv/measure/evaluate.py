"""Measure a function photo -> label map on samples. Road: measure. In: function, samples. Out: Scores. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import DataError
from fullconv.base.progress import progress
from fullconv.data.samples import Sample
from fullconv.measure.confusion import confusion
from fullconv.measure.edges import edges
from fullconv.measure.scores import PhotoCounts, Scores, collect

Segment = Callable[[NDArray[np.uint8]], NDArray[np.integer[Any]]]


def evaluate_with(function: Segment, samples: Sequence[Sample]) -> Scores:
    """Score a function on samples, one photo in memory at a time.

    Args:
        function: takes a photo (H, W, 3) uint8, gives its label map (H, W), without void.
        samples: at least one; all of one label space.
    Returns: Scores.
    Raises: DataError if there are no samples; SizeMismatch or UnknownLabel if the function gives another size or
        an unknown class.
    """
    if not samples:
        raise DataError(
            "there must be at least one sample to measure on",
            "the split is empty",
            "choose another split (--split train|val|test)",
        )
    return collect(_count(function, samples), samples[0].label_space)


def _count(function: Segment, samples: Sequence[Sample]) -> Iterator[PhotoCounts]:
    space = samples[0].label_space
    for sample in progress(samples, what="measuring", total=len(samples)):
        photo, truth = sample.read()
        guess = np.asarray(function(photo))
        matrix = confusion(truth, guess, space)
        yield PhotoCounts(sample.name, matrix, int(truth.size - matrix.sum()), edges(truth, guess, space))
