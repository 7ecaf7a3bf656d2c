"""One network on several sizes of a photo, and on its mirror image, averaged. Road: dense. In: a photo. Out: scores.

Works for whatever scores a photo: a converted classifier and a trained FCN alike, given as a function from a photo
to its own `DenseScores`. Source of the averaging: Sermanet et al. 2014, section 3.3; Simonyan and Zisserman 2015, 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from fullconv.base.errors import UsageError
from fullconv.dense.full_size import DenseScores, Part, between_pixels

Photo = NDArray[np.uint8]
LARGEST = 36_000_000  # pixels of an enlarged photo: about 4 GB in EfficientNet-Lite0
LONGEST = 16_384  # pixels of its longer side: what brings a map to full size has as many rows or columns
SMALLEST_SCALE, LARGEST_SCALE = 0.01, 100.0


def at_scales(
    score: Callable[[Photo], DenseScores], photo: Photo, *, scales: Sequence[float], mirror: bool
) -> DenseScores:
    """The mean of the scores of the photo at each scale, and of its mirror image.

    Args:
        score: (h, w, 3) -> scores at those h x w pixels.
        photo: (H, W, 3) uint8.
        scales: factors of the photo's sides, at least one; 1 is the photo as it is.
        mirror: score the mirror image of each too.
    """
    parts: list[Part] = []
    for scale in scales:
        seen = resized(photo, scale)
        parts += _on_photo(score(seen).parts, photo, mirrored=False)
        if mirror:
            parts += _on_photo(score(np.ascontiguousarray(seen[:, ::-1])).parts, photo, mirrored=True)
    return DenseScores(tuple(parts))


def check_scales(scales: Sequence[float]) -> None:
    """Raises: UsageError for no scale at all, or one that is no number from SMALLEST_SCALE to LARGEST_SCALE."""
    if not scales or not all(SMALLEST_SCALE <= scale <= LARGEST_SCALE for scale in scales):
        raise UsageError(
            f"scales are positive factors, from {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}",
            ", ".join(f"{scale:g}" for scale in scales) or "none",
            "--scales 0.75,1,1.25",
        )


def resized(photo: Photo, scale: float) -> Photo:
    """(h, w, 3): both sides times `scale`, rounded, at least one pixel.

    Raises: UsageError for more than LARGEST pixels, or a side of more than LONGEST.
    """
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    check_enlarged(photo, (height, width))
    if (height, width) == photo.shape[:2]:
        return photo
    x = torch.from_numpy(photo).permute(2, 0, 1)
    return tv.resize(x, [height, width], antialias=True).permute(1, 2, 0).contiguous().numpy()  # type: ignore[no-any-return]


def check_enlarged(photo: Photo, size: tuple[int, int]) -> None:
    """Raises: UsageError if a photo (a strip of 3x5000, say) would be enlarged to more than LARGEST pixels, or LONGEST
    along a side.
    """
    height, width = photo.shape[:2]
    if size[0] * size[1] > max(LARGEST, height * width) or max(size) > max(LONGEST, height, width):
        raise UsageError(
            f"a photo is enlarged to at most {LARGEST / 1e6:.0f} million pixels, {LONGEST:,} along a side",
            f"{height}x{width} would become {size[0]}x{size[1]} to hold what is scored",
            "cut a part out of the photo, or a smaller scale or window",
        )


def _on_photo(parts: Sequence[Part], photo: Photo, *, mirrored: bool) -> list[Part]:
    """The same maps, brought to the photo's size instead of that of the picture that was scored."""
    found = []
    for part in parts:
        height, width = part.size
        rows = _onward(between_pixels(photo.shape[0], height), part.rows)
        step = between_pixels(photo.shape[1], width)
        if not mirrored:
            found.append(Part(part.values, rows, _onward(step, part.columns)))
        elif part.columns is None:
            found.append(Part(part.values.flip(2), rows, step))
        else:
            found.append(Part(part.values, rows, _onward(step, part.columns.flip(0))))
    return found


def _onward(step: Tensor | None, before: Tensor | None) -> Tensor | None:
    """One matrix for two steps; None stands for no change."""
    if step is None or before is None:
        return before if step is None else step
    return step @ before
