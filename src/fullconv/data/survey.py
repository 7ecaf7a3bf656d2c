"""One pass over all files of a data set: sizes, hashes, what each label map holds, what cannot be read.

Road: data, between the formats and the label space. In: pairs. Out: facts. Knows no label space.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fullconv.base.errors import UnreadableImage
from fullconv.base.images import EXIF_ORIENTATION, SIDEWAYS, UNREADABLE
from fullconv.base.progress import progress
from fullconv.data.formats.listing import Pair
from fullconv.labels.decode import decode, unreadable
from fullconv.labels.held import Holds, holds
from fullconv.labels.space import Colour


@dataclass(frozen=True)
class PhotoFacts:
    """A photo that can be decoded: (H, W) upright, its EXIF orientation, and its content's name."""

    size: tuple[int, int]
    orientation: int
    content: str


@dataclass(frozen=True)
class PairFacts:
    """A pair whose files can both be read; `palette` is the part of the label map's palette that it uses."""

    pair: Pair
    photo: PhotoFacts
    holds: Holds
    palette: Mapping[int, Colour]


@dataclass(frozen=True)
class Broken:
    """A pair of which a file cannot be read."""

    pair: Pair
    why: str


def survey(pairs: Sequence[Pair]) -> list[PairFacts | Broken]:
    """Read every photo and label map once, a few at a time; the order is that of `pairs`."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(progress(pool.map(_survey_pair, pairs), what="reading", total=len(pairs)))


def photo_facts(path: Path) -> PhotoFacts:
    """Decode a photo far enough to know that it is whole. Raises: UnreadableImage naming the file."""
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                orientation = int(image.getexif().get(EXIF_ORIENTATION, 1))
                image.draft("L", (max(1, width // 8), max(1, height // 8)))  # JPEG: every byte is read, few are kept
                image.load()
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    size = (width, height) if orientation in SIDEWAYS else (height, width)
    return PhotoFacts(size, orientation, hashlib.sha256(data).hexdigest())


def _survey_pair(pair: Pair) -> PairFacts | Broken:
    try:
        photo = photo_facts(pair.photo)
        raw = decode(pair.label_map)
    except UnreadableImage as error:
        return Broken(pair, error.found)
    held = holds(raw)
    palette = {index: raw.palette[index] for index in held.ids or ()} if raw.palette is not None else {}
    return PairFacts(pair, photo, held, palette)
