"""What a training crop looks like: scale, crop, mirror, colour. Road: data. In: a photo and its label map, a
generator. Out: tensors.

Geometry and colour are drawn from the generator given, so a crop is a function of (seed, epoch, index) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

GREY = torch.tensor([0.299, 0.587, 0.114])  # shares of red, green and blue: ITU-R BT.601


@dataclass(frozen=True)
class Augmentation:
    """How photos are varied.

    Attributes:
        crop: (height, width) in pixels that the network sees.
        scale: range of the factor by which the photo is enlarged, drawn evenly on a log axis.
        aspect: range of width stretch over height stretch, likewise.
        mirror: share of crops that are mirrored left to right.
        colour: strength of the change of brightness, contrast and saturation (0 none, 0.3 usual).
        class_aware: share of crops laid over a pixel of a class that is drawn from those of the photo, all alike.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    mirror: float = 0.5
    colour: float = 0.0
    class_aware: float = 0.0


def augment(
    photo: NDArray[np.uint8],
    labels: NDArray[np.uint8 | np.uint16],
    how: Augmentation,
    *,
    void: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """One training crop.

    Args:
        photo: (H, W, 3) uint8.
        labels: (H, W) class ids with `void`.
        how: the augmentation.
        void: fills what lies outside the photo in the label map.
        rng: the only source of randomness.
    Returns: (3, h, w) uint8 photo and (h, w) int64 label map with (h, w) = how.crop.
    """
    top, left, height, width = _box(labels, how, void, rng)
    x = _cut(torch.from_numpy(photo).permute(2, 0, 1), (top, left, height, width), how.crop, fill=None)
    y = _cut(torch.from_numpy(labels.astype(np.int32))[None], (top, left, height, width), how.crop, fill=void)[0].long()
    if rng.random() < how.mirror:
        x, y = tv.horizontal_flip(x), tv.horizontal_flip(y)
    return vary_colour(x, how.colour, rng), y


def vary_colour(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """(3, h, w) uint8 with brightness, contrast and saturation changed by factors of 1 - strength to 1 + strength.

    The three changes of torchvision one after another, as the one linear map that they are together: two thirds of
    what a crop cost went into reading and writing it three times.
    """
    if strength == 0:
        return x
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    varied = x.float()
    grey = torch.tensordot(GREY, varied, 1)
    middle = float(grey.mean())
    varied.mul_(brightness * contrast * saturation).add_(grey, alpha=brightness * contrast * (1 - saturation))
    return varied.add_(brightness * (1 - contrast) * middle + 0.5).clamp_(0, 255).byte()


def _box(
    labels: NDArray[np.uint8 | np.uint16], how: Augmentation, void: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) in photo pixels of the crop; it may reach beyond a photo smaller than itself."""
    rows, columns = labels.shape
    factor = _log_uniform(how.scale, rng)
    stretch = math.sqrt(_log_uniform(how.aspect, rng))
    height = max(1, round(how.crop[0] / factor * stretch))
    width = max(1, round(how.crop[1] / factor / stretch))
    centre = _pixel_of_a_class(labels, how, void, rng) if rng.random() < how.class_aware else None
    if centre is None:
        top, left = (_start(room - size, rng) for room, size in ((rows, height), (columns, width)))
    else:
        top = _near(centre[0], height, rows, rng)
        left = _near(centre[1], width, columns, rng)
    return top, left, height, width


def _log_uniform(ends: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))


def _start(room: int, rng: np.random.Generator) -> int:
    """A random start within the photo; if the crop is larger, the photo lies at a random place inside the crop."""
    return int(rng.integers(min(room, 0), max(room, 0) + 1))


def _near(centre: int, size: int, length: int, rng: np.random.Generator) -> int:
    start = centre - int(rng.integers(size // 4, size - size // 4 + 1))
    return min(max(start, min(0, length - size)), max(0, length - size))


def _pixel_of_a_class(
    labels: NDArray[np.uint8 | np.uint16], how: Augmentation, void: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    step = max(1, labels.size // 40_000)  # a thin sample of the pixels finds every object worth a crop
    counts = np.bincount(labels.ravel()[::step], minlength=void + 1)[:void]
    present = np.flatnonzero(counts)
    if len(present) == 0:
        return None
    chosen = int(rng.choice(present))
    places = np.flatnonzero(labels.ravel()[::step] == chosen) * step
    row, column = divmod(int(places[rng.integers(len(places))]), labels.shape[1])
    return row, column


def _cut(x: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], *, fill: int | None) -> Tensor:
    """Cut the box out of (C, H, W) and bring it to `size`; photos (fill None) smoothly on mid-grey, label maps by
    nearest.
    """
    top, left, height, width = box
    rows, columns = x.shape[-2:]
    before, after = (max(0, -top), max(0, -left)), (max(0, top + height - rows), max(0, left + width - columns))
    if any(before + after):
        x = tv.pad(x, [before[1], before[0], after[1], after[0]], fill=[127 if fill is None else fill])
        top, left = top + before[0], left + before[1]
    x = tv.crop(x, top, left, height, width)
    if (height, width) == size:
        return x
    how = InterpolationMode.BILINEAR if fill is None else InterpolationMode.NEAREST_EXACT
    resized: Tensor = tv.resize(x, list(size), interpolation=how, antialias=fill is None)
    return resized
