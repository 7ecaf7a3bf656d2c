"""Regions of a label map that a network which has not seen it holds for another class. Road: study, on predictions.

In: label maps with void, and probabilities of any size, one photo at a time. Out: thresholds, then regions with a kind
and a score. Knows no files, no torch.

Source: confident learning (Northcutt, Jiang, Chuang 2021): a pixel speaks against its label where another class is as
probable as that class is on average where it is given. Here pixels are joined to regions, since a person reviews
regions, and a network that errs along edges errs in thin ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fullconv.labels.space import LabelSpace
from fullconv.measure.confusion import confusion

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Labels = NDArray[np.integer[Any]]

KINDS = ("swapped", "missing", "phantom", "shifted")
"""swapped: a thing has the class of another; missing: a thing was not drawn; phantom: a thing was drawn where none is;
shifted: part of a thing, along its edge.
"""
_SMALLEST = 25  # pixels: smaller regions are not looked at
_RIM = 6.0  # px: how far into a region's inside a network's uncertain edges reach
_MOST = 30  # regions of one sample
_HALF = 0.5
SHOWN = 24  # suspects of which a page shows what the network sees


@dataclass(frozen=True)
class Suspect:
    """A region whose label may be wrong.

    Args:
        box: top, left, bottom, right, in pixels of the photo; bottom and right are the first ones outside.
        kind: one of `KINDS`.
        given, likely: class ids: of the label map, of the network.
        pixels: of the region.
        score: 0 to 1, the larger the likelier that the label is wrong.
    """

    sample: str
    box: tuple[int, int, int, int]
    kind: str
    given: int
    likely: int
    pixels: int
    score: float


@dataclass(frozen=True)
class WrongLabels:
    """What the networks say of samples that they have not seen.

    Args:
        suspects: regions, the likeliest errors first.
        quality: name -> 0 to 1, see `suspects.quality`.
        pixels: (K, K) by given class and by most probable class: out of fold, so what it says of precision and recall
            is what the samples are worth to networks trained on the others.
        guesses: name -> (H, W) class ids that the network sees, of the samples of the first `SHOWN` suspects.
    """

    suspects: tuple[Suspect, ...]
    quality: dict[str, float]
    pixels: NDArray[np.int64]
    guesses: dict[str, Labels]


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
        known = labels < self.space.size
        given = labels[known].astype(np.int64)
        of_given = np.take_along_axis(probabilities[:, known], given[None], 0)[0]
        self.total += np.bincount(given, of_given, minlength=self.space.size)
        self.pixels += confusion(labels, probabilities.argmax(0), self.space)

    def thresholds(self) -> Floats:
        """(K,) mean probability of a class where it is given; 2, which none reaches, for one that is given nowhere."""
        given = self.pixels.sum(1)
        return np.where(given > 0, self.total / np.maximum(given, 1), 2).astype(np.float32)


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


def suspects_of(sample: str, labels: Labels, probabilities: Floats, thresholds: Floats) -> list[Suspect]:
    """The regions of one label map that are held for another class, the likeliest errors first, at most 30.

    Args: as `regions_of` has them.
    """
    found = [suspect for suspect, _ in regions_of(sample, labels, probabilities, thresholds)]
    return sorted(found, key=lambda one: -one.score)[:_MOST]


def regions_of(
    sample: str, labels: Labels, probabilities: Floats, thresholds: Floats
) -> Iterator[tuple[Suspect, NDArray[np.bool_]]]:
    """Each region of a label map that is held for another class, and which pixels of its box it is.

    Args:
        sample: its name.
        labels: (H, W) class ids; what is none is void and never suspect.
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
    margin = most - np.take_along_axis(probabilities, given[None], 0)[0]
    view = _View(labels, np.where(most > 0, likely, probabilities.argmax(0)))
    for pair, box, region in _connected(np.where(against, given * classes + likely + 1, 0)):
        yield _suspect(sample, view, box, region, margin[box][region], pair // classes, pair % classes), region


def quality(suspects: Sequence[Suspect]) -> float:
    """0 to 1: how likely it is that no region of a sample is wrong, were the scores probabilities."""
    return float(np.prod([1 - one.score for one in suspects]))


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


def _suspect(
    sample: str,
    view: _View,
    box: tuple[slice, slice],
    region: NDArray[np.bool_],
    margins: Floats,
    given: int,
    likely: int,
) -> Suspect:
    rows, columns = box
    down, across = np.unravel_index(int(region.argmax()), region.shape)
    pixel = (rows.start + int(down), columns.start + int(across))
    pixels = int(region.sum())
    depth = float(ndimage.distance_transform_edt(np.pad(region, 1)).max())
    score = float(margins.mean()) * (1 - float(np.exp(-depth / _RIM)))
    return Suspect(
        sample,
        (rows.start, columns.start, rows.stop, columns.stop),
        kind_of(pixels / view.area("labels", given, pixel), pixels / view.area("guess", likely, pixel)),
        given,
        likely,
        pixels,
        round(max(0.0, score), 4),
    )


def kind_of(of_given: float, of_likely: float) -> str:
    """The kind of a region by its share of the thing that was drawn and of the thing that the network sees there."""
    if of_given >= _HALF:
        return "swapped" if of_likely >= _HALF else "phantom"
    return "missing" if of_likely >= _HALF else "shifted"
