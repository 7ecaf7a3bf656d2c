"""Pictures of samples, small and inlined. Road: report. In: arrays. Out: data URIs. Knows no files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_PX = 420
WRONG = (222, 48, 48)
VOID = ((128, 128, 128), (176, 176, 176))  # the two stripes of the hatching
HATCH_PX = 4
Picture = NDArray[np.uint8]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Example:
    """One sample and what became of it.

    Args:
        name: of the sample.
        photo: (H, W, 3) uint8.
        truth: (H, W) label map; what is no class is void.
        guess: (H, W) label map.
        iou: mean IoU of this photo.
    """

    name: str
    photo: Picture
    truth: Labels
    guess: Labels
    iou: float


@dataclass(frozen=True)
class ExamplePictures:
    """An example as the page shows it: data URIs."""

    name: str
    iou: float
    size: tuple[int, int]
    photo: str
    truth: str
    guess: str
    errors: str


def example_pictures(example: Example, colours: Sequence[str]) -> ExamplePictures:
    """Draw an example small: photo, label map, prediction, errors."""
    photo = _shrunk(example.photo, Image.Resampling.BOX)
    truth, guess = (_shrunk_labels(labels, len(colours)) for labels in (example.truth, example.guess))
    return ExamplePictures(
        example.name,
        example.iou,
        (photo.shape[0], photo.shape[1]),
        jpeg_uri(photo),
        _png(coloured(truth, colours)),
        _png(coloured(guess, colours)),
        jpeg_uri(error_map(photo, truth, guess, len(colours))),
    )


def coloured(labels: Labels, colours: Sequence[str]) -> Picture:
    """(H, W, 3) each class in its colour, void hatched in grey."""
    table = np.array([_rgb(colour) for colour in colours], np.uint8).reshape(-1, 3)
    known = labels < len(colours)
    picture = table[np.where(known, labels, 0)]
    return np.asarray(np.where(known[..., None], picture, _hatching(labels.shape)), np.uint8)


def error_map(photo: Picture, truth: Labels, guess: Labels, classes: int) -> Picture:
    """(H, W, 3) the photo in pale grey, wrong pixels red, void hatched."""
    grey = photo.mean(axis=2, keepdims=True) * 0.45 + 128
    picture = np.repeat(grey, 3, axis=2)
    void, wrong = truth >= classes, (truth < classes) & (truth != guess)
    picture[wrong] = 0.25 * picture[wrong] + 0.75 * np.array(WRONG)
    picture[void] = _hatching(truth.shape)[void]
    return np.asarray(picture, np.uint8)


def _hatching(shape: tuple[int, ...]) -> Picture:
    rows, columns = np.indices(shape[:2])
    return np.asarray(np.array(VOID, np.uint8)[(rows + columns) // HATCH_PX % 2])


def _shrunk(photo: NDArray[Any], how: Image.Resampling) -> NDArray[Any]:
    height, width = photo.shape[:2]
    factor = min(1.0, LONGEST_PX / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(Image.fromarray(photo).resize(size, how))


def _shrunk_labels(labels: Labels, classes: int) -> Labels:
    """Nearest neighbour; every id that is no class becomes the first id past them."""
    return _shrunk(np.minimum(labels, classes).astype(np.int32), Image.Resampling.NEAREST)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def jpeg_uri(picture: Picture) -> str:
    """A picture as a data URI, compressed."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=82, optimize=True)
    return _uri("image/jpeg", buffer)


def _png(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return _uri("image/png", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
