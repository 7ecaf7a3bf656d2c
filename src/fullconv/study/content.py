"""What the label maps hold, class by class, in one pass on all cores. Road: study, after the label space is decided.

In: samples. Out: per sample the pixels of each class; over all, regions and the ceiling. Memory does not grow with the
size of label maps. Knows no photos, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fullconv.base.cores import on_all_cores
from fullconv.base.errors import FullconvError
from fullconv.data.fingerprint import SHRINKS, iou_at_best, mean_of, shrink, void_last
from fullconv.data.samples import Sample
from fullconv.labels.regions import regions

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class MapContent:
    """One label map, at its photo's size.

    Args:
        pixels: (K + 1,) of each class and, last, of void.
        regions: (K,) connected regions of each class, joined by edges.
        tiny: shrink factor -> (K,) regions with fewer pixels than a cell of that factor has.
        shrunk: shrink factor -> (2, K) hits and guesses, as `fingerprint.shrink` counts them.
    """

    pixels: Ints
    regions: Ints
    tiny: dict[int, Ints]
    shrunk: dict[int, Ints]


@dataclass(frozen=True)
class Content:
    """All label maps of a set.

    Args:
        pixels: (N, K + 1), by place; a map that could not be read has none.
        regions: (K,)
        tiny: shrink factor -> (K,) regions smaller than a cell.
        ceiling: shrink factor -> per class the IoU at best, None where the class does not occur.
        mean_ceiling: shrink factor -> mean over the classes that occur.
    """

    pixels: Ints
    regions: Ints
    tiny: dict[int, Ints]
    ceiling: dict[int, list[float | None]]
    mean_ceiling: dict[int, float | None]


def content_of(samples: Sequence[Sample], classes: int) -> Content:
    """Look into the label maps of samples of one label space with K = `classes`."""
    pixels = np.zeros((len(samples), classes + 1), np.int64)
    regions = np.zeros(classes, np.int64)
    tiny = {factor: np.zeros(classes, np.int64) for factor in SHRINKS}
    shrunk = {factor: np.zeros((2, classes), np.int64) for factor in SHRINKS}
    for place, one in enumerate(on_all_cores(content_of_map, samples, what="looking into label maps")):
        if one is None:
            continue
        pixels[place] = one.pixels
        regions += one.regions
        for factor in SHRINKS:
            tiny[factor] += one.tiny[factor]
            shrunk[factor] += one.shrunk[factor]
    truth = pixels[:, :-1].sum(0)
    ceiling = {factor: iou_at_best(hits, guesses, truth) for factor, (hits, guesses) in shrunk.items()}
    means = {factor: mean_of([value for value in values if value is not None]) for factor, values in ceiling.items()}
    return Content(pixels, regions, tiny, ceiling, means)


def content_of_map(sample: Sample) -> MapContent | None:
    """Look into one label map; None if it cannot be read."""
    space = sample.label_space
    try:
        labels = void_last(sample.read_labels(), space)
    except FullconvError:
        return None
    pixels = np.bincount(labels.ravel(), minlength=space.size + 1)
    of_class, areas = regions(labels)
    return MapContent(
        pixels,
        np.bincount(of_class, minlength=space.size + 1)[:-1],
        {factor: np.bincount(of_class[areas < factor**2], minlength=space.size + 1)[:-1] for factor in SHRINKS},
        shrink(labels, space.size),
    )
