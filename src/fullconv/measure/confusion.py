"""Count pixels by (true class, guessed class). Road: measure. In: two label maps. Out: one matrix.

Knows no files, no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import SizeMismatch, UnknownLabel
from fullconv.labels.space import LabelSpace

Labels = NDArray[np.integer[Any]]


def confusion(truth: Labels, guess: Labels, space: LabelSpace) -> NDArray[np.int64]:
    """Count pixels by (true class, guessed class).

    Args:
        truth: (H, W) integer label map, void allowed.
        guess: (H, W) integer label map without void, except where the truth is void.
        space: gives the K classes and the void id.
    Returns: (K, K) int64, row = truth; its sum is the number of pixels that are not void.
    Raises: SizeMismatch if the sizes differ; UnknownLabel naming the first label outside the space and its pixel.
    Source: Long et al. 2015, section 5: the four measures are sums over this matrix.
    """
    if truth.shape != guess.shape or truth.ndim != 2:
        raise SizeMismatch(
            "a prediction must have the size of its label map, both (H, W)",
            f"the label map is {_size(truth)}, the prediction {_size(guess)}",
            "predict at the photo's own size (fullconv predict does)",
        )
    judged = truth != space.void
    _check(truth, judged, space, "the label map")
    _check(guess, judged | (guess != space.void), space, "the prediction")
    # int64: float32 loses count past 2**24 pixels of one class, and uint8 * K would wrap
    pair = truth[judged].astype(np.int64) * space.size + guess[judged].astype(np.int64)
    return np.bincount(pair, minlength=space.size**2).reshape(space.size, space.size).astype(np.int64)


def _check(labels: Labels, where: NDArray[np.bool_], space: LabelSpace, what: str) -> None:
    wrong = where & ((labels < 0) | (labels >= space.size))
    if not wrong.any():
        return
    row, column = np.argwhere(wrong)[0]
    raise UnknownLabel(
        f"{what} must hold the classes 0 to {space.size - 1} (void is {space.void}, in label maps only)",
        f"{what} has {labels[row, column]} at row {row}, column {column} ({int(wrong.sum())} such pixels)",
        "fullconv data show DATA   (which ids do the label maps hold?)",
    )


def _size(labels: Labels) -> str:
    return " x ".join(map(str, labels.shape))
