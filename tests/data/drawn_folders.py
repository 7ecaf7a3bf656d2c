"""Small folders of samples for the tests of reading: photos of noise, label maps of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (24, 32)  # H, W


def photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE, **save: Any) -> Path:
    """A photo of noise, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return path


def blocks(ids: Sequence[int], size: tuple[int, int] = SIZE, dtype: Any = np.uint8) -> np.ndarray:
    """(H, W) of upright stripes, one an id, from left to right."""
    columns = np.array(ids)[np.arange(size[1]) * len(ids) // size[1]]
    return np.broadcast_to(columns, size).astype(dtype).copy()


def label_map(path: Path, values: np.ndarray, palette: Sequence[int] | None = None, **save: Any) -> Path:
    """A label map file that holds `values` as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(list(palette))
    image.save(path, **save)
    return path


def paired(
    root: Path,
    number: int = 5,
    *,
    ids: Sequence[int] = (0, 1, 2),
    photos: str = "images/{}.jpg",
    maps: str = "masks/{}.png",
    first: int = 0,
) -> Path:
    """A folder of pairs 0000, 0001, ... each with all of `ids`; `photos`, `maps`: paths with a place for the stem."""
    for index in range(first, first + number):
        photo(root / photos.format(f"{index:04d}"), index)
        label_map(root / maps.format(f"{index:04d}"), blocks(ids))
    return root


def coloured(values: np.ndarray, colours: dict[int, tuple[int, ...]]) -> np.ndarray:
    """(H, W, 3 or 4) of the colours of the ids."""
    table = np.zeros((256, len(next(iter(colours.values())))), np.uint8)
    for value, colour in colours.items():
        table[value] = colour
    return table[values]
