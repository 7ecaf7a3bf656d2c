"""Photos that are the same, nearly the same, or of the same scene. Road: study, after looking at all photos.

In: what photos look like. Out: pairs of them. Memory: 4 KB for each photo that looks like another at first sight. Knows
no label maps, no torch.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fullconv.base.cores import on_all_cores
from fullconv.base.errors import FullconvError
from fullconv.base.images import read_photo
from fullconv.study.examine import PhotoLook

_CANDIDATE = 0.93  # correlation of 16 x 16 grey pictures from which two photos are looked at closer
_FINE = 64  # px
_COARSE = 3.0  # px of 64: the blur that is taken off, so that light and shade of a whole photo do not count
_NEAR = 0.90  # correlation of what is left: the same photo, saved anew, resized, a little brighter; or frames of a film
_SCENE = 0.45  # likewise: the same scene, from nearly the same place
_FLAT = 4.0  # grey levels of deviation: flatter photos all look alike
_COLOUR = 40.0  # grey levels between mean colours: more is another scene, or another light
_MOST = 200  # photos that one is compared with closer: where all look alike (microscopes), enough to find copies
_BLOCK = 2048  # photos compared at once with as many others


@dataclass(frozen=True)
class Alike:
    """Two photos, by their places, and how alike they are.

    Args:
        kind: "exact" (the same bytes), "near" (the same photo, or frames of one take), "scene".
        likeness: correlation of the two in grey at 64 x 64 pixels, less their own blur; 1 for the same bytes.
    """

    first: int
    second: int
    kind: str
    likeness: float


def alike(photos: Sequence[PhotoLook | None], paths: Sequence[Path]) -> list[Alike]:
    """All pairs of photos that are alike, by places.

    Args:
        photos: None where a photo could not be read.
        paths: their files, which are read again where two look alike.
    """
    copies = _copies(photos)  # the first of each group stands for all of it
    found = [Alike(one, other, "exact", 1.0) for group in copies.values() for one, other in combinations(group, 2)]
    pairs = _candidates(photos, list(copies))
    places = np.unique(pairs)
    pictures = np.zeros((len(places), _FINE * _FINE), np.int8)
    for row, picture in enumerate(on_all_cores(_fine, [paths[place] for place in places], what="comparing photos")):
        pictures[row] = picture
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        one, other = (_unit(pictures[np.searchsorted(places, block[:, side])]) for side in (0, 1))
        likeness = (one * other).sum(1)
        for first, second, like in zip(*block.T.tolist(), likeness.tolist(), strict=True):
            if like >= _SCENE:
                kind = "near" if like >= _NEAR else "scene"
                for pair in product(copies[first], copies[second]):
                    found.append(Alike(min(pair), max(pair), kind, round(like, 4)))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _copies(photos: Sequence[PhotoLook | None]) -> dict[int, list[int]]:
    """The places of equal files, by the first of them; every photo that could be read is in one list."""
    by_content: dict[str, list[int]] = defaultdict(list)
    for place, photo in enumerate(photos):
        if photo is not None:
            by_content[photo.content].append(place)
    return {group[0]: group for group in by_content.values()}


def _candidates(photos: Sequence[PhotoLook | None], places: Sequence[int]) -> NDArray[np.int32]:
    """(P, 2) places of pairs that are alike at 16 x 16 pixels and in their mean colour, at most `_MOST` a photo."""
    looks = {place: photo for place in places if (photo := photos[place]) and float(photo.thumb.std()) >= _FLAT}
    if len(looks) < 2:
        return np.zeros((0, 2), np.int32)
    kept = np.array(list(looks), np.int32)
    thumbs = np.stack([photo.thumb for photo in looks.values()])
    colours = np.array([photo.colour for photo in looks.values()], np.float32)
    given = [0] * len(kept)
    found = array("i")
    for start in range(0, len(kept), _BLOCK):
        block = _unit(thumbs[start : start + _BLOCK])
        for other in range(start, len(kept), _BLOCK):
            likeness = block @ (block if other == start else _unit(thumbs[other : other + _BLOCK])).T
            rows, columns = np.nonzero(likeness >= _CANDIDATE)
            rows, columns = rows + start, columns + other
            near = (rows < columns) & (np.abs(colours[rows] - colours[columns]).max(1) <= _COLOUR)
            for one, two in zip(rows[near].tolist(), columns[near].tolist(), strict=True):
                if max(given[one], given[two]) < _MOST:
                    given[one] += 1
                    given[two] += 1
                    found.extend((one, two))
    return kept[np.array(found, np.int32).reshape(-1, 2)]


def _fine(path: Path) -> NDArray[np.int8]:
    """(4096,) of a photo in grey, less its own blur; 127 where most is left. Zeros if it cannot be read."""
    try:
        photo = Image.fromarray(read_photo(path)).convert("L").resize((_FINE, _FINE), Image.Resampling.BOX)
    except FullconvError:
        return np.zeros(_FINE * _FINE, np.int8)
    grey = np.asarray(photo, np.float32)
    left = (grey - ndimage.gaussian_filter(grey, _COARSE)).ravel()
    whole: NDArray[np.float32] = np.rint(left * (127 / max(float(np.abs(left).max()), 1e-6)))
    return whole.astype(np.int8)


def _unit(rows: NDArray[np.uint8] | NDArray[np.int8]) -> NDArray[np.float32]:
    """Rows of mean 0 and length 1: their products are correlations."""
    even = rows.astype(np.float32)
    even -= even.mean(1, keepdims=True)
    even /= np.maximum(np.linalg.norm(even, axis=1, keepdims=True), 1e-6)
    return even
