"""Where a photo lies in its padding and where the maps' cells lie on the photo. Road: nets, between the taps and the
heads.

Everything is worked out along one axis, in exact fractions, from the strides and offsets of the taps; a half pixel is
met by a deconvolution kernel of the right parity, never by rounding. In: numbers. Out: numbers. Knows no torch.

Two alignments:

- `same`: the photo gets just the padding that puts the outermost cells of the coarsest map within half a stride of the
  photo's borders, at most half a stride a side beyond what makes the length fit the strides. Every map is brought to
  the whole grid of the next finer one; beyond the outermost cells their values go on.
- `paper`: Caffe's. 100 pixels a side; finer maps are cropped to the coarser ones, the scores to the photo, by fixed
  crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from fullconv.base.errors import GeometryError
from fullconv.geometry.geometry import exact

CAFFE_PAD = 100  # Long et al.'s first convolution, that a photo of any size gives a map


@dataclass(frozen=True)
class Layout:
    """How one axis of one photo is laid out.

    before, after: pixels of padding.
    starts: for every enlargement, finest target (the photo) first: the cell of the enlarged map that lies on cell 0 of
        its target. Negative: the target begins further out than the enlarged map.
    """

    before: int
    after: int
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Same:
    """The alignment `same` of one axis, for the padded lengths that leave `remainder` when divided by the coarsest
    stride.

    strides: of the taps, finest first.
    offsets: centre of cell 0 of each, in pixels of the padded photo.
    missing: how many cells each has less than length // stride.
    remainder: of the padded length.
    """

    strides: tuple[int, ...]
    offsets: tuple[Fraction, ...]
    missing: tuple[int, ...]
    remainder: int = 0

    @property
    def kernels(self) -> tuple[int, ...]:
        """Kernel of every enlargement, finest target first."""
        return kernels_of(self.strides, self.offsets)

    def to_json(self) -> dict[str, Any]:
        """For a bundle's card; `from_json` reads it back."""
        return {
            "strides": list(self.strides),
            "offsets": [exact(offset) for offset in self.offsets],
            "missing": list(self.missing),
            "remainder": self.remainder,
        }

    @staticmethod
    def from_json(record: dict[str, Any]) -> Same:
        """Read what `to_json` wrote."""
        offsets = tuple(Fraction(offset) for offset in record["offsets"])
        return Same(tuple(record["strides"]), offsets, tuple(record["missing"]), record["remainder"])

    @property
    def least(self) -> tuple[int, int]:
        """Padding (before, after) that leaves the outermost cells no further than half a stride inside the photo."""
        stride, offset, half = self.strides[-1], self.offsets[-1], Fraction(self.strides[-1], 2)
        # the last cell lies at offset + stride * (length // stride - missing - 1)
        beyond = self.remainder - 1 + stride * (self.missing[-1] + 1) - offset
        return max(0, ceil(offset - half)), max(0, ceil(beyond - half))

    def layout(self, length: int) -> Layout:
        """The shortest padding under which the cells cover a photo of `length` pixels; the rest is shared by both
        sides.

        Sums, quotients and remainders only: a length may also be a symbol, where a network is written down for any
        size.
        """
        short = max(0, self.shortest - length) if self.shortest > 1 else 0
        before, after = self.least
        rest = -(length + short + before + after - self.remainder) % self.strides[-1]
        before, after = before + (rest + 1) // 2, after + rest // 2 + short
        return Layout(before, after, self._starts(before))

    @property
    def shortest(self) -> int:
        """The shortest length that is padded to at least one stride, with a cell in every map; shorter photos are
        padded as if they had it."""
        stride = self.strides[-1]
        smallest = max(stride, *(s * (missing + 1) for s, missing in zip(self.strides, self.missing, strict=True)))
        padded = self.remainder + stride * -(-(smallest - self.remainder) // stride)
        return max(1, padded - stride + 1 - sum(self.least))

    def borders(self) -> tuple[tuple[int, int], ...]:
        """By how many cells (before, after) each map must go on beyond its outermost cells before it is enlarged, so
        that every cell of its target, finest target first, lies between two cells; enough for photos of every length.
        """
        found = [(0, 0)] * len(self.strides)
        for length in range(1, self.strides[-1] + 1):
            layout = self.layout(length)
            padded = layout.before + length + layout.after
            cells = [padded // stride - missing for stride, missing in zip(self.strides, self.missing, strict=True)]
            for i, (fine, kernel) in enumerate(zip((length, *cells[:-1]), self.kernels, strict=True)):
                factor = self.strides[i] // (1, *self.strides)[i]
                lacking = border_cells(layout.starts[i], kernel, factor, cells[i], fine)
                found[i] = (max(found[i][0], lacking[0]), max(found[i][1], lacking[1]))
        return tuple(found)

    def _starts(self, origin: int) -> tuple[int, ...]:
        at_zero = starts_of(self.strides, self.offsets, self.kernels, origin=0)
        return (at_zero[0] + origin, *at_zero[1:])


def best(choices: Sequence[Same]) -> Same:
    """The one that needs the least padding; the first of several."""
    return min(choices, key=lambda same: sum(same.least))


@dataclass(frozen=True)
class Paper:
    """The alignment `paper` of one axis: the same padding and crops for every photo.

    pad: pixels a side in front of the network (100 less the first convolution's own padding).
    multiple: the padded length is brought to a multiple of this; 1 but where offsets move with the length (TF-SAME).
    """

    strides: tuple[int, ...]
    offsets: tuple[Fraction, ...]
    pad: int
    multiple: int = 1

    @property
    def kernels(self) -> tuple[int, ...]:
        """Kernel of every enlargement, finest target first."""
        return kernels_of(self.strides, self.offsets)

    def layout(self, length: int) -> Layout:
        """100 a side (and what the multiple asks for, after)."""
        fill = -(length + 2 * self.pad) % self.multiple
        starts = starts_of(self.strides, self.fused_offsets(), self.kernels, origin=self.pad, unfused=self.offsets)
        return Layout(self.pad, self.pad + fill, starts)

    def fused_offsets(self) -> tuple[Fraction, ...]:
        """Offsets after the crops: a finer map is cropped to where the enlarged coarser one begins."""
        fused = [self.offsets[-1]]
        for i in range(len(self.strides) - 2, -1, -1):
            start = _start(self.strides[i], self.kernels[i + 1], fused[0], self.offsets[i])
            fused.insert(0, self.offsets[i] + self.strides[i] * max(0, -start))
        return tuple(fused)

    def crops(self) -> tuple[int, ...]:
        """The crops as the paper counts them, coarsest first: of each skip to the enlarged map, then of the scores."""
        starts = self.layout(1).starts
        return (*(-start for start in reversed(starts[1:])), starts[0])


def kernels_of(strides: Sequence[int], offsets: Sequence[Fraction]) -> tuple[int, ...]:
    """Kernels of the enlargements to the photo, then from each tap's stride to the next finer: 2f, or 2f - 1 where the
    coarse cells lie on fine ones. Raises: GeometryError where strides do not divide or cells are off by less than a
    half.
    """
    targets = zip((1, *strides[:-1]), strides, (Fraction(0), *offsets[:-1]), offsets, strict=True)
    return tuple(_kernel(fine, coarse, at_fine, at_coarse) for fine, coarse, at_fine, at_coarse in targets)


def _kernel(fine: int, coarse: int, fine_offset: Fraction, coarse_offset: Fraction) -> int:
    lag = (coarse_offset - fine_offset) / fine
    if coarse % fine or lag.denominator > 2:
        raise GeometryError(
            "a map is brought to a stride that divides its own, its cells on the finer ones or halfway between",
            f"stride {coarse}, offset {coarse_offset} to stride {fine}, offset {fine_offset} ({lag} cells)",
            "choose taps whose strides double, for example fcn8s instead of fcn4s",
        )
    factor = coarse // fine
    return 2 * factor - 1 if lag.denominator == 1 else 2 * factor


def starts_of(
    strides: Sequence[int],
    offsets: Sequence[Fraction],
    kernels: Sequence[int],
    *,
    origin: int,
    unfused: Sequence[Fraction] | None = None,
) -> tuple[int, ...]:
    """Starts of every enlargement (see Layout).

    Args:
        offsets: of the maps that are enlarged.
        origin: the photo's pixel 0 in the padded photo.
        unfused: of the maps they are laid on, where these differ.
    """
    targets = (Fraction(origin), *(offsets if unfused is None else unfused)[:-1])
    return tuple(
        _start(fine, kernel, coarse_at, fine_at)
        for fine, kernel, coarse_at, fine_at in zip((1, *strides[:-1]), kernels, offsets, targets, strict=True)
    )


def _start(fine: int, kernel: int, coarse_offset: Fraction, fine_offset: Fraction) -> int:
    """The cell of the enlarged map that lies on cell 0 of the finer one: the centre of the kernel's first copy lies at
    cell (kernel - 1) / 2 of the enlarged map and on the coarse cell 0."""
    start = (fine_offset - coarse_offset) / fine + Fraction(kernel - 1, 2)
    assert start.denominator == 1, "the kernel's parity was chosen for these offsets"
    return int(start)


def border_cells(start: int, kernel: int, factor: int, coarse_cells: int, fine_cells: int) -> tuple[int, int]:
    """How many cells a coarse map lacks, (before, after), for every one of `fine_cells` to lie between two of its
    cells.
    """
    first = 2 * start - (kernel - 1)  # position of the first fine cell in the coarse map, in 1 / (2 * factor) cells
    last = first + 2 * (fine_cells - 1)
    return max(0, -(first // (2 * factor))), max(0, -(-last // (2 * factor)) - (coarse_cells - 1))
