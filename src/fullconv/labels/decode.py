"""Decode a label map file to the numbers or colours it holds. Road: labels, below maps. Knows no label space.

Photos are photos however they are stored; a label map is data, so nothing here may convert, scale or blend a value.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fullconv.base.errors import UnreadableImage
from fullconv.base.images import EXIF_ORIENTATION, UNREADABLE
from fullconv.labels.space import Colour

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Raw:
    """A label map as its file holds it.

    Args:
        ids: (H, W) whole numbers, where the file has one number a pixel (grey, palette, 16 bits, one bit, grey
            saved as RGB, or an opacity channel over one single colour); else None.
        colours: (H, W) uint32 RGB packed as red * 65536 + green * 256 + blue, where the file is in colour; else None.
        palette: the RGB colours of the indexes, where the file has a palette.
        form: how the file holds them, in words.
        file_format: "PNG", "JPEG", ...
        translucent: whether an opacity channel with more than one value was left out of account.
    """

    ids: NDArray[Any] | None
    colours: NDArray[np.uint32] | None
    palette: tuple[Colour, ...] | None
    form: str
    file_format: str
    translucent: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        array = self.ids if self.ids is not None else self.colours
        assert array is not None
        return int(array.shape[0]), int(array.shape[1])

    def as_colours(self) -> NDArray[np.uint32] | None:
        """(H, W) packed colours: of the palette, of the picture, or grey; None for ids past 255."""
        if self.colours is not None:
            return self.colours
        assert self.ids is not None
        if self.palette is not None:
            return np.asarray(pack(np.array(self.palette, np.uint8))[self.ids], np.uint32)
        if self.ids.dtype != np.uint8:
            return None
        return self.ids.astype(np.uint32) * 0x010101


class Drawn(Protocol):
    """A label map that is made from what another file says: shapes, codes.

    Args:
        source: that file.
    """

    @property
    def source(self) -> Path: ...

    @property
    def name(self) -> str: ...

    def raw(self) -> Raw:
        """What a file of the label map would hold."""


def source_of(label_map: Path | Drawn) -> Path:
    """The file that says what a label map holds."""
    return label_map if isinstance(label_map, Path) else label_map.source


def decode(path: Path | Drawn, data: bytes | None = None) -> Raw:
    """Decode the label map at `path` (or its bytes, if they were read already), or draw it.

    Raises: UnreadableImage naming the file if it cannot be decoded or holds numbers that are not whole.
    """
    if not isinstance(path, Path):
        return path.raw()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data) if data is not None else path) as image:
                return _raw(image, path)
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UnreadableImage:
    """The error for a file that is no image, is empty, cut off or not there."""
    empty = path.is_file() and path.stat().st_size == 0
    what = "is an empty file" if empty else f"cannot be decoded ({error})".replace(str(path), path.name)
    return UnreadableImage(
        "every photo and label map must be an image file that can be decoded",
        f"{path} {what}" if path.exists() else f"{path} is not there",
        "replace or remove that file",
    )


def pack(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(..., 3) RGB to (...) whole numbers, one a colour."""
    wide = colours.astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], np.uint32)


def pack_one(colour: Colour) -> int:
    """One RGB colour as `pack` packs it."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def unpack(packed: int) -> Colour:
    """One packed colour to RGB."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W) turned upright as an EXIF orientation (1 to 8) says."""
    if orientation in (2, 3):
        array = array[:, ::-1]
    if orientation in (3, 4):
        array = array[::-1]
    if orientation in (5, 6, 7, 8):
        array = array.T
        array = array[:, ::-1] if orientation in (6, 7) else array
        array = array[::-1] if orientation in (7, 8) else array
    return np.ascontiguousarray(array)


def _raw(image: Image.Image, path: Path) -> Raw:
    file_format = image.format or "?"
    image.load()
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if image.mode == "P":
        return Raw(np.array(image), None, _palette(image), "palette", file_format)
    if image.mode == "1":
        return Raw(np.array(image).astype(np.uint8) * 255, None, None, "one bit a pixel", file_format)
    if image.mode == "L":
        return Raw(np.array(image), None, None, "8-bit grey", file_format)
    if image.mode.startswith("I") or image.mode == "F":
        return Raw(_whole_numbers(np.array(image), path), None, None, "grey of more than 8 bits", file_format)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return _with_opacity(np.array(image.convert("RGBA")), file_format)
    return _in_colour(np.array(image.convert("RGB")), "RGB", file_format)


def _palette(image: Image.Image) -> tuple[Colour, ...]:
    flat = image.getpalette("RGB") or []
    flat = (flat + [0] * 768)[:768]
    return tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, 768, 3))


def _whole_numbers(values: NDArray[Any], path: Path) -> NDArray[Any]:
    whole = values.astype(np.int64)
    if (whole != values).any() or (whole < 0).any():
        raise ValueError("it holds numbers that are negative or not whole, so it is no label map")
    return whole.astype(np.uint16) if whole.max(initial=0) < 65536 else whole


def _with_opacity(rgba: NDArray[np.uint8], file_format: str) -> Raw:
    rgb, opacity = rgba[..., :3], rgba[..., 3]
    one_colour = bool((rgb == rgb[:1, :1]).all())
    if one_colour and (opacity != 255).any():
        return Raw(opacity.copy(), None, None, "opacity over one colour", file_format)
    raw = _in_colour(rgb, "RGBA", file_format)
    return Raw(raw.ids, raw.colours, None, raw.form, file_format, translucent=bool((opacity != 255).any()))


def _in_colour(rgb: NDArray[np.uint8], form: str, file_format: str) -> Raw:
    grey = bool((rgb[..., 0] == rgb[..., 1]).all()) and bool((rgb[..., 0] == rgb[..., 2]).all())
    if grey:
        return Raw(rgb[..., 0].copy(), None, None, f"grey saved as {form}", file_format)
    return Raw(None, pack(rgb), None, f"{form} colours", file_format)
