"""Photos in: any common file becomes upright RGB of 8 bits. Road: base. Knows no torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fullconv.base.errors import UnreadableImage

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".gif")
EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange height and width
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no image, or is cut off."""


def list_images(folder: Path) -> list[Path]:
    """The image files directly in `folder`, sorted by name; hidden files are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright photo, read from its header. Raises: UnreadableImage."""
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS else (height, width)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of the upright photo. Raises: UnreadableImage naming the file."""
    with _opened(path) as image:
        try:
            return rgb(image)
        except UNREADABLE as error:
            raise _unreadable(path, error) from error


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a Pillow image: EXIF orientation applied, transparency laid on white, 16 bits scaled
    to 8.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_to_8_bits(np.asarray(ImageOps.exif_transpose(image)))[..., None], 3, axis=2)
    image = ImageOps.exif_transpose(image)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey of more than 8 bits: whole numbers by the fewest of 8, 10, 12, 14, 16 bits that hold the largest (cameras
    store 10 to 14 bits in 16); floats of 0 to 1 by 255.
    """
    values = values.astype(np.float64)
    if values.max(initial=0) <= 1:
        return np.asarray((values.clip(0, 1) * 255).round(), np.uint8)
    bits = next((bits for bits in (8, 10, 12, 14) if values.max() < 2**bits), 16)
    return np.asarray((values * (255 / (2**bits - 1))).clip(0, 255).round(), np.uint8)


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UnreadableImage:
    what = "is an empty file" if path.is_file() and path.stat().st_size == 0 else f"cannot be decoded ({error})"
    return UnreadableImage(
        "every photo and label map must be an image file that can be decoded",
        f"{path} {what}" if path.exists() else f"{path} is not there",
        "replace or remove that file",
    )
