"""Regions of a label map that a network which has not seen it holds for another class. Road: study, on predictions.

In: label maps with void, and probabilities of any size, one photo at a time. Out: thresholds, then regions with what
can be measured on them. Knows no files, no torch.

Source: confident learning (Northcutt, Jiang, Chuang 2021): a pixel speaks against its label where another class is as
probable as that class is on average where it is given. Here pixels are joined to regions, since a person reviews
regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fullconv.labels.space import LabelSpace
from fullconv.measure.confusion import confusion
from fullconv.measure.ratios import ratio

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Labels = NDArray[np.integer[Any]]

_SMALLEST = 25  # pixels: smaller regions are not looked at
_SMALL = 1e-3  # probabilities are no smaller
_IN_DOUBT, _STRANGE = 0.01, 0.02  # of the pixels, those in most doubt, and those held for the strangest classes
_LEAST = 1e-4  # a probability, there
_RARE = 1e-3  # a rate


@dataclass(frozen=True)
class Disagreement:
    """A region that a network holds for another class.

    Args:
        box: top, left, bottom, right, in pixels of the photo; bottom and right are the first ones outside.
        given, likely: class ids: of the label map, of the network.
        pixels: of the region.
        margin: mean of the likely class's probability less that of the given one.
        odds: mean of the logarithm of the one over the other.
        depth: px from its innermost pixel to the next outside.
        of_given, of_likely: the region's share of the thing that was drawn, and of the thing that the network sees.
    """

    sample: str
    box: tuple[int, int, int, int]
    given: int
    likely: int
    pixels: int
    margin: float
    odds: float
    depth: float
    of_given: float
    of_likely: float


@dataclass
class Trust:
    """How probable the networks hold each class where it is given; added up sample by sample.

    Attributes:
        space: the K classes.
        total: (K,) sum of the given class's probability over its pixels.
        pixels: (K, K) pixels by given class and by most probable class.
    """

    space: LabelSpace
    total: NDArray[np.float64]
    pixels: Ints

    @classmethod
    def nothing(cls, space: LabelSpace) -> Trust:
        """Before the first sample."""
        return cls(space, np.zeros(space.size), np.zeros((space.size, space.size), np.int64))

    def add(self, labels: Labels, probabilities: Floats) -> None:
        """Count a sample in: (H, W) class ids and void; (K, H, W) probabilities."""
        given, here = _known(labels, probabilities)
        of_given = _of(given, here)
        self.total += np.bincount(given, of_given, minlength=self.space.size)
        self.pixels += confusion(labels, probabilities.argmax(0), self.space)

    def thresholds(self) -> Floats:
        """(K,) mean probability of a class where it is given; 2, which none reaches, for one that is given nowhere."""
        given = self.pixels.sum(1)
        return np.where(given > 0, self.total / np.maximum(given, 1), 2).astype(np.float32)

    def rates(self) -> NDArray[np.float64]:
        """(K, K) the share of a given class's pixels that is held for each class; 0 for one that is given nowhere."""
        return np.nan_to_num(ratio(self.pixels, self.pixels.sum(1, keepdims=True)))


@dataclass(frozen=True)
class _View:
    """A label map beside what the network holds for likely, class by class where it is asked for."""

    labels: Labels
    guess: Labels
    _numbered: dict[tuple[str, int], tuple[Labels, Ints]] = field(default_factory=dict)

    def area(self, of: str, index: int, pixel: tuple[int, int]) -> int:
        """Pixels of the connected part of class `index` that holds this pixel."""
        if (of, index) not in self._numbered:
            numbered, _ = ndimage.label((self.labels if of == "labels" else self.guess) == index)
            self._numbered[of, index] = numbered, np.bincount(numbered.ravel())
        numbered, areas = self._numbered[of, index]
        return int(areas[numbered[pixel]])


def disagreements(
    sample: str, labels: Labels, probabilities: Floats, thresholds: Floats
) -> Iterator[tuple[Disagreement, NDArray[np.bool_]]]:
    """Each region of a label map that is held for another class, and which pixels of its box it is.

    Args:
        sample: its name.
        labels: (H, W) class ids; what is none is void and never held for anything.
        probabilities: (K, H, W), of a network that has not seen the sample.
        thresholds: (K,), see `Trust`.
    """
    classes = len(thresholds)
    confident = np.where(probabilities >= thresholds[:, None, None], probabilities, 0)
    likely = confident.argmax(0)
    most = np.take_along_axis(confident, likely[None], 0)[0]
    against = (most > 0) & (likely != labels) & (labels < classes)
    if not against.any():
        return
    given = np.where(labels < classes, labels, 0).astype(np.int64)
    of_given = np.take_along_axis(probabilities, given[None], 0)[0]
    view = _View(labels, np.where(most > 0, likely, probabilities.argmax(0)))
    for pair, box, region in _connected(np.where(against, given * classes + likely + 1, 0)):
        both = most[box][region], of_given[box][region]
        yield _measured(sample, view, box, region, both, pair // classes, pair % classes), region


def doubt(labels: Labels, probabilities: Floats) -> float:
    """How improbable the classes of a label map are where they are least probable: 0, all are certain, to 9.2.

    The mean of minus the logarithm of their probability, over the hundredth of the pixels where it is most. 0 without
    any class.
    """
    given, here = _known(labels, probabilities)
    return _mean_of_most(-_logarithm(_of(given, here)), _IN_DOUBT)


def strangeness(labels: Labels, probabilities: Floats, rates: NDArray[np.float64]) -> float:
    """How strange it is what a label map is held for, where it is strangest: 0, nothing else is likelier, to 64.

    The mean, over the fiftieth of the pixels where it is most, of the logarithm of the likeliest class's probability
    over the given one's, times minus the logarithm of how often the one is held for the other. 0 without any class.

    Args:
        rates: (K, K), see `Trust.rates`.
    """
    given, here = _known(labels, probabilities)
    likeliest = here.argmax(0)
    odds = _logarithm(_of(likeliest, here)) - _logarithm(_of(given, here))
    return _mean_of_most(odds * -np.log(rates + _RARE)[given, likeliest], _STRANGE)


def _known(labels: Labels, probabilities: Floats) -> tuple[Ints, Floats]:
    """(N,) the classes of the pixels that have one, and (K, N) what is probable there."""
    known = labels < len(probabilities)
    return labels[known].astype(np.int64), probabilities[:, known]


def _of(classes: Ints, here: Floats) -> Floats:
    """(N,) the probabilities of these classes, of (K, N)."""
    return np.asarray(np.take_along_axis(here, classes[None], 0)[0])


def _logarithm(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probabilities, _LEAST)))


def _mean_of_most(values: NDArray[np.floating[Any]], share: float) -> float:
    """Of the largest values, a share of them all; 0 where there are none."""
    if not values.size:
        return 0.0
    most = max(1, round(share * values.size))
    return float(np.partition(values, values.size - most)[-most:].mean())


def _connected(codes: Labels) -> Iterator[tuple[int, tuple[slice, slice], NDArray[np.bool_]]]:
    """(code - 1, box, (h, w) pixels in the box) of each connected region of equal codes above 0."""
    for code, box in enumerate(ndimage.find_objects(codes)):
        if box is None:
            continue
        numbered, _ = ndimage.label(codes[box] == code + 1)
        areas = np.bincount(numbered.ravel())
        for number, inner in enumerate(ndimage.find_objects(numbered), 1):
            if areas[number] >= _SMALLEST:
                rows, columns = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, inner, strict=True))
                yield code, (rows, columns), numbered[inner] == number


def _measured(
    sample: str,
    view: _View,
    box: tuple[slice, slice],
    region: NDArray[np.bool_],
    of_likely_and_given: tuple[Floats, Floats],
    given: int,
    likely: int,
) -> Disagreement:
    rows, columns = box
    most, of_given = of_likely_and_given
    down, across = np.unravel_index(int(region.argmax()), region.shape)
    pixel = (rows.start + int(down), columns.start + int(across))
    pixels = int(region.sum())
    return Disagreement(
        sample,
        (rows.start, columns.start, rows.stop, columns.stop),
        given,
        likely,
        pixels,
        margin=float((most - of_given).mean()),
        odds=float((np.log(most + _SMALL) - np.log(of_given + _SMALL)).mean()),
        depth=float(ndimage.distance_transform_edt(np.pad(region, 1)).max()),
        of_given=pixels / view.area("labels", given, pixel),
        of_likely=pixels / view.area("guess", likely, pixel),
    )
