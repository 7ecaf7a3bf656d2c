"""Photos that are the same, nearly the same, or of the same scene. Road: study, after looking at all photos.

In: what photos look like. Out: pairs of them. Knows no label maps, no torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

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
_BLOCK = 4096  # photos compared with all others at once: 4096 x 100,000 correlations take 1.6 GB, so by blocks of both


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
    fine: dict[int, NDArray[np.float32] | None] = {}
    for first, second in _candidates(photos, list(copies)):
        for place in (first, second):
            if place not in fine:
                fine[place] = _fine(paths[place])
        one, other = fine[first], fine[second]
        if one is None or other is None:
            continue
        likeness = float(one @ other)
        if likeness >= _SCENE:
            kind = "near" if likeness >= _NEAR else "scene"
            for pair in product(copies[first], copies[second]):
                found.append(Alike(min(pair), max(pair), kind, round(likeness, 4)))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _copies(photos: Sequence[PhotoLook | None]) -> dict[int, list[int]]:
    """The places of equal files, by the first of them; every photo that could be read is in one list."""
    by_content: dict[str, list[int]] = defaultdict(list)
    for place, photo in enumerate(photos):
        if photo is not None:
            by_content[photo.content].append(place)
    return {group[0]: group for group in by_content.values()}


def _candidates(photos: Sequence[PhotoLook | None], places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs that are alike at 16 x 16 pixels and in their mean colour, at most `_MOST` for each photo."""
    looks = {place: photo for place in places if (photo := photos[place]) and float(photo.thumb.std()) >= _FLAT}
    kept = list(looks)
    if len(kept) < 2:
        return
    thumbs = _unit(np.stack([photo.thumb for photo in looks.values()]).astype(np.float32))
    colours = np.array([photo.colour for photo in looks.values()], np.float32)
    given = np.zeros(len(kept), np.int64)
    for start in range(0, len(kept), _BLOCK):
        for other in range(start, len(kept), _BLOCK):
            likeness = thumbs[start : start + _BLOCK] @ thumbs[other : other + _BLOCK].T
            rows, columns = np.nonzero(likeness >= _CANDIDATE)
            rows, columns = rows + start, columns + other
            near = (rows < columns) & (np.abs(colours[rows] - colours[columns]).max(1) <= _COLOUR)
            for one, two in zip(rows[near].tolist(), columns[near].tolist(), strict=True):
                if max(given[one], given[two]) < _MOST:
                    given[[one, two]] += 1
                    yield kept[one], kept[two]


def _fine(path: Path) -> NDArray[np.float32] | None:
    try:
        photo = Image.fromarray(read_photo(path)).convert("L").resize((_FINE, _FINE), Image.Resampling.BOX)
    except FullconvError:
        return None
    grey = np.asarray(photo, np.float32)
    return np.asarray(_unit((grey - ndimage.gaussian_filter(grey, _COARSE)).reshape(1, -1))[0])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of mean 0 and length 1: their products are correlations."""
    rows = rows - rows.mean(1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)
