"""What the samples are like, in numbers, from one pass. Road: data, before the plan. In: samples. Out: Fingerprint.

Knows no torch. One label map is held at a time; photos are not decoded.

The ceiling follows the appendix of Long et al. 2017 (upper bounds on IU): what a segmenter could score at best if it
gave one class to every cell of f x f pixels. The paper does not say how a cell gets its class; here it is the most
frequent one among the cell's pixels that are not void (the lowest id of equals), and every pixel of the cell takes it.
Cells start at the top left corner; those at the right and bottom border may be cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.progress import progress
from fullconv.data.samples import Sample, SampleSet
from fullconv.labels.regions import regions
from fullconv.labels.space import LabelSpace

SHRINKS = (32, 16, 8, 4)  # each twice the next: counts of the finest cells are summed up to the coarsest
_COARSEST, _FINEST = SHRINKS[0], SHRINKS[-1]
_STRIP = 16 * _COARSEST  # rows

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClassPrint:
    """One class: its pixels, their share of all that are not void, the photos it is in, its connected regions.

    `ceiling` is the IoU at best by shrink factor, None where the class does not occur.
    """

    id: int
    name: str
    pixels: int
    share: float
    photos: int
    regions: int
    ceiling: dict[int, float | None]


@dataclass(frozen=True)
class Fingerprint:
    """What the samples are like.

    Args:
        sizes: ((H, W), photos), the most frequent first.
        pixels: of all label maps, void among them.
        void_share: 0 to 1, of all pixels.
        classes: one a class of the label space, by id.
        ceiling: shrink factor -> mean IoU at best, over the classes that occur.
        background: share of the pixels that are not void which are background; None where no class is called that.
    """

    photos: int
    sizes: tuple[tuple[tuple[int, int], int], ...]
    pixels: int
    void_share: float
    classes: tuple[ClassPrint, ...]
    ceiling: dict[int, float | None]
    background: float | None

    def to_json(self) -> dict[str, Any]:
        """The document that plan.json and study.json quote."""
        document = asdict(self)
        document["sizes"] = [{"size": list(size), "photos": photos} for size, photos in self.sizes]
        document["ceiling"] = _text_keys(self.ceiling)
        document["classes"] = [asdict(entry) | {"ceiling": _text_keys(entry.ceiling)} for entry in self.classes]
        return {"schema": "fullconv.fingerprint/1", **document}


def fingerprint(samples: SampleSet) -> Fingerprint:
    """Measure the training samples: a plan must not know what it is judged by."""
    return fingerprint_of(samples.train, samples.label_space)


def fingerprint_of(samples: Sequence[Sample], space: LabelSpace) -> Fingerprint:
    """Measure samples in one pass over their label maps.

    Args:
        samples: of one label space.
        space: that label space.
    Raises: what reading a label map raises.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    pixels = np.zeros(space.size + 1, np.int64)  # void last
    photos, connected = np.zeros(space.size, np.int64), np.zeros(space.size, np.int64)
    shrunk = {factor: np.zeros((2, space.size), np.int64) for factor in SHRINKS}
    for sample in progress(samples, total=len(samples), what="fingerprint"):
        labels = void_last(sample.read_labels(), space)
        counts = np.bincount(labels.ravel(), minlength=space.size + 1)
        sizes[sample.size] += 1
        pixels += counts
        photos += counts[:-1] > 0
        connected += np.bincount(regions(labels)[0], minlength=space.size + 1)[:-1]
        for factor, hits_and_guesses in shrink(labels, space.size).items():
            shrunk[factor] += hits_and_guesses
    return _fingerprint(sizes, pixels, photos, connected, shrunk, space)


def void_last(labels: NDArray[Any], space: LabelSpace) -> NDArray[Any]:
    """(H, W) class ids and void to 0 .. K-1 and K for void, of the same type."""
    return np.asarray(np.minimum(labels, labels.dtype.type(space.size)))


def shrink(labels: NDArray[Any], classes: int) -> dict[int, Ints]:
    """Give every cell its most frequent class; per factor, count what that gets right.

    Args:
        labels: (H, W), void as K.
        classes: K.
    Returns: factor -> (2, K): pixels that are of the class and get it; pixels that get the class. Void counts nowhere.
    """
    height, width = labels.shape
    labels = np.pad(labels, ((0, -height % _COARSEST), (0, -width % _COARSEST)), constant_values=classes)
    totals = {factor: np.zeros((2, classes), np.int64) for factor in SHRINKS}
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=classes + 1)[:classes])
    if not present.size:
        return totals
    place = np.full(classes + 1, len(present), np.min_scalar_type(len(present)))
    place[present] = np.arange(len(present))
    for top in range(0, height, _STRIP):  # by strips: the counts of all cells of a large photo would not fit
        cells = _count_cells(place[labels[top : top + _STRIP]], len(present))
        for factor in reversed(SHRINKS):
            if factor > _FINEST:
                cells = cells[:, 0::2, 0::2] + cells[:, 1::2, 0::2] + cells[:, 0::2, 1::2] + cells[:, 1::2, 1::2]
            given = cells.argmax(axis=0).ravel()
            for row, counted in enumerate((cells.max(axis=0), cells.sum(axis=0))):
                totals[factor][row, present] += np.bincount(given, counted.ravel(), len(present)).astype(np.int64)
    return totals


def _count_cells(strip: NDArray[Any], classes: int) -> NDArray[np.int32]:
    """(H, W) labels to (K, H / 4, W / 4) pixels of each class in cells of the finest factor."""
    counts = np.empty((classes, strip.shape[0] // _FINEST, strip.shape[1] // _FINEST), np.int32)
    for index in range(classes):
        here = (strip == index).view(np.uint8)
        rows = here[0::4] + here[1::4] + here[2::4] + here[3::4]
        counts[index] = rows.view(np.uint32) * np.uint32(0x01010101) >> 24  # its four bytes, added up
    return counts


def _fingerprint(
    sizes: Counter[tuple[int, int]],
    pixels: Ints,
    photos: Ints,
    connected: Ints,
    shrunk: dict[int, Ints],
    space: LabelSpace,
) -> Fingerprint:
    known = int(pixels[:-1].sum())
    iou = {factor: iou_at_best(hits, guesses, pixels[:-1]) for factor, (hits, guesses) in shrunk.items()}
    classes = tuple(
        ClassPrint(
            id=index,
            name=name,
            pixels=int(pixels[index]),
            share=int(pixels[index]) / known if known else 0.0,
            photos=int(photos[index]),
            regions=int(connected[index]),
            ceiling={factor: values[index] for factor, values in iou.items()},
        )
        for index, name in enumerate(space.names)
    )
    total = int(pixels.sum())
    return Fingerprint(
        photos=sizes.total(),
        sizes=tuple(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))),
        pixels=total,
        void_share=int(pixels[-1]) / total if total else 0.0,
        classes=classes,
        ceiling={factor: mean_of([value for value in values if value is not None]) for factor, values in iou.items()},
        background=None if space.background is None else classes[space.background].share,
    )


def iou_at_best(hits: Ints, guesses: Ints, truth: Ints) -> list[float | None]:
    """Per class the IoU of what `shrink` counted, `truth` being its pixels; None where there are none."""
    union = guesses + truth - hits
    return [int(hit) / int(all_) if real else None for hit, all_, real in zip(hits, union, truth, strict=True)]


def mean_of(values: list[float]) -> float | None:
    """The mean, or None of nothing."""
    return sum(values) / len(values) if values else None


def _text_keys(by_factor: dict[int, float | None]) -> dict[str, float | None]:
    return {str(factor): value for factor, value in by_factor.items()}
