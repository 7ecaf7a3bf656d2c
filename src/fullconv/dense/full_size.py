"""Score maps brought to the photo's size, a strip of rows at a time. Road: dense, after every way. In: maps and where
their cells lie. Out: scores or classes at every pixel. Knows no network.

What brings a map to full size is linear along each axis, so it is kept as two matrices: `rows` (H, h) and `columns`
(W, w). Interpolation, averaging over windows and mirroring differ in the matrices alone, and a thousand classes never
stand at full size at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRIP_BYTES = 8 << 20  # of scores at full size that stand in memory at once: what a cache holds, twice as fast as 64 MB


@dataclass(frozen=True, eq=False)
class Part:
    """One score map and how it is brought to full size.

    Attributes:
        values: (K, h, w) float32.
        rows: (H, h) float32: how much each row of the map counts at each row of the photo; None where they are one.
        columns: (W, w) float32 or None, likewise.
    """

    values: Tensor
    rows: Tensor | None
    columns: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        given = [(1, self.rows), (2, self.columns)]
        height, width = (int(self.values.shape[i] if m is None else m.shape[0]) for i, m in given)
        return height, width

    def strip(self, rows: slice, classes: list[int] | None) -> Tensor:
        """(K, R, W): full-size scores of some of the photo's rows."""
        values = self.values if classes is None else self.values[classes]
        made = values[:, rows].clone() if self.rows is None else self.rows[rows] @ values  # (R, h) @ (K, h, w)
        return made if self.columns is None else made @ self.columns.T  # (K, R, w) @ (w, W)


@dataclass(frozen=True, eq=False)
class DenseScores:
    """Scores of K classes at every pixel of an H x W photo: the mean over its parts (scales, mirrors)."""

    parts: tuple[Part, ...]

    @property
    def classes(self) -> int:
        return int(self.parts[0].values.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        return self.parts[0].size

    def of(self, classes: Sequence[int]) -> NDArray[np.float32]:
        """(n, H, W) full-size scores of the classes asked for."""
        return self._strip(slice(0, self.size[0]), list(classes)).numpy()

    def strips(self) -> Iterator[tuple[slice, Tensor]]:
        """(rows of the photo, (K, rows, W) scores), from top to bottom, so that memory stays bounded."""
        height, width = self.size
        step = max(1, STRIP_BYTES // (4 * self.classes * width))
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            yield rows, self._strip(rows, None)

    def best(self) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """((H, W) the class that scores highest, uint8 or uint16; (H, W) its share of the softmax, 0 to 1)."""
        labels = np.zeros(self.size, np.uint8 if self.classes <= 256 else np.uint16)
        shares = np.zeros(self.size, np.float32)
        for rows, scores in self.strips():
            top, which = scores.max(0)
            labels[rows], shares[rows] = which.numpy(), (1 / (scores - top).exp_().sum(0)).numpy()
        return labels, shares

    def _strip(self, rows: slice, classes: list[int] | None) -> Tensor:
        total = self.parts[0].strip(rows, classes)
        for part in self.parts[1:]:
            total += part.strip(rows, classes)
        return total.div_(len(self.parts)) if len(self.parts) > 1 else total


def between_cells(pixels: int, cells: int, *, stride: Fraction, offset: Fraction) -> Tensor:
    """(pixels, cells): linear interpolation between cell centres; beyond the outermost their values go on."""
    return _linear((torch.arange(pixels, dtype=torch.float64) - float(offset)) / float(stride), cells)


def between_pixels(pixels: int, seen: int) -> Tensor | None:
    """(pixels, seen): linear interpolation from a picture of another size, edges on edges; None if equal."""
    if pixels == seen:
        return None
    return _linear((torch.arange(pixels, dtype=torch.float64) + 0.5) * (seen / pixels) - 0.5, seen)


def _linear(at: Tensor, cells: int) -> Tensor:
    """(n, cells): what each cell counts at n positions between them."""
    at = at.clamp(0, cells - 1)
    below = at.floor().long().clamp(max=max(0, cells - 2))
    matrix = torch.zeros(len(at), cells, dtype=torch.float64)
    matrix.scatter_(1, below[:, None], (1 - (at - below))[:, None])
    if cells > 1:
        matrix.scatter_(1, below[:, None] + 1, (at - below)[:, None])
    return matrix.float()


def over_windows(pixels: int, starts: Sequence[int], window: int) -> Tensor:
    """(pixels, windows): the mean over the windows that cover a pixel; a pixel that none covers takes the nearest's."""
    at = torch.arange(pixels)[:, None]
    first = torch.tensor(list(starts))[None]
    covered = ((at >= first) & (at < first + window)).float()
    middle = first + (window - 1) / 2
    nearest = torch.zeros_like(covered).scatter_(1, (at - middle).abs().argmin(1, keepdim=True), 1.0)
    matrix = torch.where(covered.any(1, keepdim=True), covered, nearest)
    return matrix / matrix.sum(1, keepdim=True)
