"""Where a tensor's cells lie on the photo. Road: geometry, below data and nets. In and out: numbers. Knows no torch.

Pixel centres are the integers 0 .. size - 1. Cell i of a tensor is centred on `offset + i * stride`; both are exact
fractions. Each step (convolution, pooling, ...) is a function from the geometry before to the geometry after, worked
out for each axis by itself. What depends on alignment (taps, crops, padding, tiles) is derived from these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fullconv.base.errors import GeometryError

Number = int | Fraction
Pair = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor: `field` is the receptive field in pixels, None where it has no bound."""

    stride: Fraction
    offset: Fraction
    field: Fraction | None
    size: int


@dataclass(frozen=True)
class Geometry:
    """Stride, offset, receptive field and size of a tensor, each as (y, x), in pixels of the input.

    `offset` is the centre of the first cell. `receptive_field` is the largest extent that one cell sees, counted as if
    there were no border; None where it is unbounded (a pooling over the whole map).
    """

    stride: tuple[Fraction, Fraction]
    offset: tuple[Fraction, Fraction]
    receptive_field: tuple[Fraction, Fraction] | None
    size: Pair

    def axis(self, which: int) -> Axis:
        field = None if self.receptive_field is None else self.receptive_field[which]
        return Axis(self.stride[which], self.offset[which], field, self.size[which])

    def to_json(self) -> dict[str, Any]:
        field = self.receptive_field
        return {
            "stride": [exact(v) for v in self.stride],
            "offset": [exact(v) for v in self.offset],
            "receptive_field": None if field is None else [exact(v) for v in field],
            "size": list(self.size),
        }


def exact(value: Fraction) -> int | str:
    """A fraction for JSON: a whole number, or "p/q"."""
    return int(value) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def of_photo(size: Pair) -> Geometry:
    """The photo itself: stride 1, offset 0, every cell sees its own pixel."""
    one, zero = Fraction(1), Fraction(0)
    return Geometry((one, one), (zero, zero), (one, one), size)


def joined(y: Axis, x: Axis) -> Geometry:
    field = None if y.field is None or x.field is None else (y.field, x.field)
    return Geometry((y.stride, x.stride), (y.offset, x.offset), field, (y.size, x.size))


def each_axis(geometry: Geometry, step: Callable[[Axis, int], Axis]) -> Geometry:
    """The geometry after `step(axis, which)` on both axes; which is 0 for y, 1 for x."""
    return joined(step(geometry.axis(0), 0), step(geometry.axis(1), 1))


def windows(
    axis: Axis, kernel: int, stride: int, before: int, after: int, dilation: int = 1, ceil: bool = False
) -> Axis:
    """A kernel that slides: convolution and pooling.

    Args:
        before, after: padding in cells, which may be negative (a crop).
        ceil: round the number of cells up (as Caffe pools); a last window that would start in the padding is left out.
    """
    reach = dilation * (kernel - 1)
    room = axis.size + before + after - reach - 1
    size = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (size - 1) * stride >= axis.size + before:
        size -= 1
    if size < 1:
        raise GeometryError(
            f"a kernel of {kernel} (dilation {dilation}) needs at least {reach + 1} cells",
            f"{axis.size} cells with padding {before} and {after}",
            "give a larger photo or more padding",
        )
    return Axis(
        stride=axis.stride * stride,
        offset=axis.offset + axis.stride * (Fraction(reach, 2) - before),
        field=None if axis.field is None else axis.field + axis.stride * reach,
        size=size,
    )


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """TF-SAME: the padding before and after that gives ceil(size / stride) cells; the odd one goes after."""
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


def transposed(
    axis: Axis, kernel: int, stride: int, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> Axis:
    """A transposed convolution: `stride` cells come out for each that goes in.

    The field is that of the cell that sees most: taps that are a whole number of strides apart meet in one cell.
    """
    reach = dilation * (kernel - 1)
    taps = range(0, reach + 1, dilation)
    meeting = max((b - a) // stride for a in taps for b in taps if b >= a and (b - a) % stride == 0)
    return Axis(
        stride=axis.stride / stride,
        offset=axis.offset + axis.stride * (padding - Fraction(reach, 2)) / stride,
        field=None if axis.field is None else axis.field + axis.stride * meeting,
        size=(axis.size - 1) * stride + reach + 1 - 2 * padding + output_padding,
    )


def cropped(axis: Axis, start: int, size: int, step: int = 1) -> Axis:
    """Cells start, start + step, ...: `size` of them. A negative start is padding."""
    return Axis(axis.stride * step, axis.offset + axis.stride * start, axis.field, size)


def padded(axis: Axis, before: int, after: int) -> Axis:
    return cropped(axis, -before, axis.size + before + after)


def interpolated(axis: Axis, size: int, *, reach: int, align_corners: bool = False) -> Axis:
    """Resampling to `size` cells.

    Args:
        reach: how many cells beyond its own one new cell reads: nearest 0, linear 1, cubic 3.
        align_corners: the first and last cells keep their centres; else the cells' outer edges are kept.
    """
    if align_corners:
        step = Fraction(axis.size - 1, size - 1) if size > 1 else Fraction(0)
        start = Fraction(0)
    else:
        step = Fraction(axis.size, size)
        start = step / 2 - Fraction(1, 2)
    field = None if axis.field is None else axis.field + axis.stride * reach
    return Axis(axis.stride * step, axis.offset + axis.stride * start, field, size)


def adaptive(axis: Axis, size: int) -> Axis:
    """Adaptive pooling to `size` bins; bin i reads from floor(i n / size) to ceil((i + 1) n / size)."""
    cells = axis.size
    bins = [(i * cells // size, -(-(i + 1) * cells // size)) for i in range(size)]
    widest = max(stop - start for start, stop in bins)
    step = Fraction(cells, size)
    field = None if axis.field is None or size == 1 else axis.field + axis.stride * (widest - 1)
    return Axis(axis.stride * step, axis.offset + axis.stride * (step - 1) / 2, field, size)


def whole(axis: Axis) -> Axis:
    """Pooling over all there is: one cell, whose field grows with the photo and so has no bound."""
    return adaptive(axis, 1)


def merged(branches: Mapping[str, Geometry], *, disagreement: str = "error") -> Geometry:
    """The geometry of a sum or a concatenation of branches.

    Args:
        branches: name of the branch -> its geometry.
        disagreement: what offsets that differ mean: "error", or "span" (the cell sees what either sees, its centre is
            the middle of that). Strides that differ are an error always.
    Raises: GeometryError naming the branches that disagree.
    """
    names = list(branches)
    first = branches[names[0]]
    for name in names[1:]:
        other = branches[name]
        if other.stride != first.stride:
            raise disagreeing("stride", names[0], first.stride, name, other.stride)
        if other.offset != first.offset and disagreement == "error":
            raise disagreeing("offset", names[0], first.offset, name, other.offset)
    every = list(branches.values())
    return each_axis(first, lambda _, which: spanned([g.axis(which) for g in every]))


def spanned(axes: list[Axis]) -> Axis:
    fields = [a.field for a in axes if a.field is not None]
    if len(fields) < len(axes):
        return Axis(axes[0].stride, sum((a.offset for a in axes), Fraction(0)) / len(axes), None, axes[0].size)
    low = min(a.offset - (f - 1) / 2 for a, f in zip(axes, fields, strict=True))
    high = max(a.offset + (f - 1) / 2 for a, f in zip(axes, fields, strict=True))
    return Axis(axes[0].stride, (low + high) / 2, high - low + 1, axes[0].size)


def disagreeing(what: str, one: str, of_one: Any, other: str, of_other: Any) -> GeometryError:
    return GeometryError(
        f"branches that meet must have one {what}",
        f"'{one}' has {what} {written(of_one)}, '{other}' has {written(of_other)} (y, x)",
        "align the branches: the same strides, and padding that centres both on the same pixels",
    )


def written(pair: tuple[Fraction, Fraction]) -> str:
    return f"({exact(pair[0])}, {exact(pair[1])})"


def crop_offset(larger: Geometry, reference: Geometry) -> tuple[int, int]:
    """How many cells to cut off at the top and left of `larger` so that its cells lie on those of `reference`.

    This is what Caffe's coord_map derives for a Crop layer: 19 for FCN-32s on VGG16 with pad 100.

    Returns: (y, x), whole and not negative.
    Raises: GeometryError if the strides differ, or the offset is not whole or negative (as Caffe refuses it).
    Source: Caffe, python/caffe/coord_map.py; Long et al. 2015, section 4.3.
    """
    if larger.stride != reference.stride:
        raise disagreeing("stride", "what is cropped", larger.stride, "the reference", reference.stride)
    cut = [(reference.axis(i).offset - larger.axis(i).offset) / larger.axis(i).stride for i in (0, 1)]
    for value in cut:
        if value.denominator != 1 or value < 0:
            raise GeometryError(
                "a crop starts at a whole cell that is not negative",
                f"the cells of the reference start at {written((cut[0], cut[1]))} (y, x) of what is cropped",
                "use a kernel of the other parity for half a cell, or more padding for a negative start",
            )
    return int(cut[0]), int(cut[1])


def halo(geometry: Geometry, *, multiple: int) -> tuple[int, int]:
    """How many pixels a tile must show on each side beyond what is kept of it, so that what is kept equals the whole.

    Args:
        geometry: of the scores.
        multiple: the coarsest stride inside the network: tiles that begin at its multiples see the same grids.
    Returns: (y, x), multiples of it.
    Raises: GeometryError if the receptive field has no bound (a pooling over the whole map): then no tile is enough.
    """
    if geometry.receptive_field is None:
        raise GeometryError(
            "tiles equal the whole only if a score sees a bounded part of the photo",
            "the receptive field is unbounded: a pooling over the whole map",
            "context='window', or the whole photo at once",
        )
    y, x = (-(-((field - 1) / 2) // multiple) * multiple for field in geometry.receptive_field)
    return int(y), int(x)
