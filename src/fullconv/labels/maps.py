"""Label maps in and out: files by a label space to class ids, ids to PNGs and pictures. Knows no torch."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fullconv.base.errors import SizeMismatch, UnknownLabel
from fullconv.base.files import write_bytes
from fullconv.labels.builtin import VOID_COLOUR
from fullconv.labels.decode import Drawn, Raw, decode, pack_one, source_of, turned, unpack
from fullconv.labels.space import LabelSpace, Value, say_value

_HUNDRED = 100
_UNKNOWN = 65534


def read_label_map(
    path: Path | Drawn, space: LabelSpace, *, size: tuple[int, int] | None = None, turn: int = 1
) -> NDArray[Any]:
    """Read a label map file as class ids 0 .. K-1 and void.

    Args:
        path: a label map in any form that `decode` knows, or one that is drawn.
        space: says which ids or colours mean which class.
        size: (H, W) to bring it to by nearest neighbour, if it has the same aspect ratio within 1%.
        turn: the EXIF orientation by which the map is turned first (where it was drawn on a photo not yet upright).
    Returns: (H, W) of `space.dtype`.
    Raises: UnreadableImage; UnknownLabel naming the first value outside the space and its pixel;
        SizeMismatch if the aspect ratio is another.
    """
    labels = turned(to_classes(decode(path), space, source_of(path)), turn)
    if size is None or labels.shape == size:
        return labels
    if not same_aspect((labels.shape[0], labels.shape[1]), size):
        raise SizeMismatch(
            "a label map must have its photo's size, or at least its aspect ratio",
            f"{source_of(path)} is {labels.shape[1]}x{labels.shape[0]}, its photo {size[1]}x{size[0]}",
            "fullconv data show DATA   (which photo belongs to which label map?)",
        )
    return nearest(labels, size)


def same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (H, W) have the same aspect ratio within 1%."""
    across, down = one[1] * other[0], one[0] * other[1]
    return abs(across - down) * _HUNDRED <= down  # whole numbers: 101 to 100 is 1%, not a hair more


def nearest(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(H, W) labels brought to `size` by nearest neighbour, pixel centres on pixel centres: no label is made up."""
    rows, columns = (
        np.minimum((np.arange(new) * 2 + 1) * old // (2 * new), old - 1)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return np.ascontiguousarray(labels[rows[:, None], columns[None, :]])


def to_classes(raw: Raw, space: LabelSpace, path: Path) -> NDArray[Any]:
    """(H, W) of what the file holds to class ids and void. Raises: UnknownLabel."""
    table = _table(space)
    values = raw.as_colours() if space.in_colours else raw.ids
    if values is None:
        raise _wrong_kind(raw, space, path)
    if values.size and int(values.max()) >= len(table):
        classes = np.where(values < len(table), table[np.minimum(values, len(table) - 1)], _other(space))
    else:
        classes = table[values]
    if space.others == "error" and (classes == _UNKNOWN).any():
        raise _unknown(values, classes, space, path)
    return np.asarray(classes, space.dtype)


@lru_cache(maxsize=8)
def _table(space: LabelSpace) -> NDArray[np.uint16]:
    # ids up to 16 bits in a table of 65536 places, colours in one of 2^24 (32 MB): one look-up a pixel
    table = np.full(1 << 24 if space.in_colours else 1 << 16, _other(space), np.uint16)
    for value, index in space.class_of().items():
        table[value if isinstance(value, int) else pack_one(value)] = index
    return table


def _other(space: LabelSpace) -> int:
    if space.others == "background":
        assert space.background is not None
        return space.background
    return space.void if space.others == "void" else _UNKNOWN


def _wrong_kind(raw: Raw, space: LabelSpace, path: Path) -> UnknownLabel:
    return UnknownLabel(
        f"label maps hold {'colours' if space.in_colours else 'ids'} of the label space",
        f"{path} holds {raw.form}",
        "fullconv data show DATA   (what do the label maps hold?)",
    )


def _unknown(values: NDArray[Any], classes: NDArray[Any], space: LabelSpace, path: Path) -> UnknownLabel:
    row, column = (int(place[0]) for place in np.nonzero(classes == _UNKNOWN))
    found = int(values[row, column])
    value: Value = unpack(found) if space.in_colours else found
    return UnknownLabel(
        say_allowed(space),
        f"{path} has {say_value(value)} at row {row}, column {column} ({int((values == found).sum())} pixels)",
        f"--void {say_value(value)} if it means void, else add it to the class file",
    )


def say_allowed(space: LabelSpace) -> str:
    """What label maps of this space may hold, as a sentence."""
    values = sorted((value for values in space.file_values for value in values), key=str)
    void = f" and void {', '.join(map(say_value, space.void_values))}" if space.void_values else ""
    if space.in_colours:
        return f"label maps hold the {len(values)} colours of the {space.size} classes{void}"
    ids = sorted(value for value in values if isinstance(value, int))
    run = ids == list(range(ids[0], ids[-1] + 1)) and len(ids) > 2 if ids else False
    said = f"{ids[0]} to {ids[-1]}" if run else ", ".join(map(str, ids))
    return f"label maps hold the ids {said} of the {space.size} classes{void}"


def write_index_png(path: Path, labels: NDArray[Any], space: LabelSpace) -> None:
    """Write class ids as a PNG with the space's colours as its palette (16-bit grey past 255 classes).

    The file appears whole or not at all. Raises: DiskFull.
    """
    if space.dtype is np.uint8:
        image = Image.fromarray(np.ascontiguousarray(labels, np.uint8)).copy()
        image.putpalette(_png_palette(space).ravel().tolist())
    else:
        image = Image.fromarray(np.ascontiguousarray(labels, np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=False)
    write_bytes(path, buffer.getvalue())


def colour_picture(labels: NDArray[Any], space: LabelSpace) -> NDArray[np.uint8]:
    """(H, W) class ids and void to (H, W, 3) uint8 RGB in the space's colours."""
    table = np.zeros((space.void + 1, 3), np.uint8)
    table[: space.size] = np.array(space.colours, np.uint8).reshape(-1, 3)
    table[space.void] = VOID_COLOUR
    return np.asarray(table[labels], np.uint8)


def _png_palette(space: LabelSpace) -> NDArray[np.uint8]:
    palette = np.zeros((256, 3), np.uint8)
    palette[: space.size] = np.array(space.colours, np.uint8).reshape(-1, 3)
    palette[space.void] = VOID_COLOUR
    return palette
