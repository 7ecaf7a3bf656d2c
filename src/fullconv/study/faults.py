"""Faults drawn into label maps: from known ones a study learns how unknown ones look. Road: study, before suspects.

In: label maps, one at a time. Out: the same with one fault. Nothing is written. Knows no files, no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fullconv.labels.space import LabelSpace

Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

_LEAST_SHARE = 0.003  # of the pixels, a thing must have to be spoiled, and a fault to count
_SHIFT = (6, 25)  # px
_RIM = (4, 14)  # px
_AROUND = 8  # px: what surrounds a thing begins so far from it
FAULTS = ("class", "thing", "missing", "phantom", "shifted", "shrunk")
"""class: all of a class has another's name; thing: one region has; missing: a region has its surroundings' class;
phantom: a region of another label map stands where none is; shifted: the whole map; shrunk: a class lost its rim.
"""


def spoil(labels: Labels, other: Labels, space: LabelSpace, rng: np.random.Generator) -> Labels | None:
    """A label map with one fault of a kind by chance; None where chance asks for what the map has not.

    Args:
        labels: (H, W) class ids and void.
        other: another label map of the set, whose things a phantom is.
    """
    present = [index for index in range(space.size) if (labels == index).mean() > _LEAST_SHARE]
    things = [index for index in present if index != space.background]
    if not things:
        return None
    thing, kind = int(rng.choice(things)), str(rng.choice(FAULTS))
    spoiled = _spoiled(kind, labels, other, thing, space, rng)
    if spoiled is None or wrong_pixels(labels, spoiled, space).mean() < _LEAST_SHARE:
        return None
    return spoiled


def wrong_pixels(before: Labels, after: Labels, space: LabelSpace) -> Mask:
    """(H, W): where one class became another."""
    return np.asarray((before != after) & (before < space.size) & (after < space.size))


def _spoiled(
    kind: str, labels: Labels, other: Labels, thing: int, space: LabelSpace, rng: np.random.Generator
) -> Labels | None:
    if kind == "shifted":
        return np.roll(labels, [int(rng.choice([-1, 1]) * rng.integers(*_SHIFT)) for _ in range(2)], (0, 1))
    if kind == "shrunk":
        inside = labels == thing
        rim = inside & ~ndimage.binary_erosion(inside, iterations=int(rng.integers(*_RIM)))
        return _filled(labels, rim, ~inside & (labels < space.size))
    if kind == "phantom":
        return _with_phantom(labels, other, space, rng)
    where = labels == thing if kind == "class" else _region(labels == thing, rng)
    if where is None:
        return None
    if kind == "missing":
        around = ndimage.binary_dilation(where, iterations=_AROUND)
        return _filled(labels, around & (where | (labels >= space.size)), ~around & (labels < space.size))
    names = [index for index in range(space.size) if index not in (thing, space.background)]
    return np.where(where, rng.choice(names), labels).astype(labels.dtype) if names else None


def _with_phantom(labels: Labels, other: Labels, space: LabelSpace, rng: np.random.Generator) -> Labels | None:
    height, width = (min(sides) for sides in zip(labels.shape, other.shape, strict=True))
    part = other[:height, :width]
    things = [index for index in np.unique(part).tolist() if index < space.size and index != space.background]
    if not things:
        return None
    thing = int(rng.choice(things))
    where = _region(part == thing, rng)
    if where is None:
        return None
    spoiled = labels.copy()
    spoiled[:height, :width][where] = thing
    return spoiled


def _region(mask: Mask, rng: np.random.Generator) -> Mask | None:
    """One of the connected regions that are not too small."""
    numbered, _ = ndimage.label(mask)
    areas = np.bincount(numbered.ravel())
    large = np.flatnonzero(areas[1:] > _LEAST_SHARE * mask.size) + 1
    return np.asarray(numbered == rng.choice(large)) if large.size else None


def _filled(labels: Labels, where: Mask, by: Mask) -> Labels | None:
    """`where` gets the class of the nearest pixel of `by`."""
    if not by.any():
        return None
    rows, columns = ndimage.distance_transform_edt(~by, return_distances=False, return_indices=True)
    return np.where(where, labels[rows, columns], labels)
