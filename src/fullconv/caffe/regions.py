"""What of a map a photo reaches, and which blank photo is enough for the rest. Road: caffe, geometry of the engine.

A span is the first place along an axis and the one past the last; a region is a span of rows and one of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from fullconv.caffe.spatial import Window

Span = tuple[int, int]
Region = tuple[Span, Span]


def outward(region: Region, window: Window, size: Sequence[int]) -> Region:
    """Places of a window's output that see part of a region of its input.

    Args:
        size: rows and columns of the output.
    """
    rows, columns = (
        (max(0, -(-(first - extent + 1 + pad) // stride)), min(most, (last - 1 + pad) // stride + 1))
        for (first, last), extent, stride, pad, most in zip(
            region, window.extent, window.stride, window.pad, size, strict=True
        )
    )
    return rows, columns


def inward(region: Region, window: Window) -> Region:
    """What of its input a window's output of a region sees; it may lie beyond the map."""
    rows, columns = (
        (first * stride - pad, (last - 1) * stride - pad + extent)
        for (first, last), stride, pad, extent in zip(region, window.stride, window.pad, window.extent, strict=True)
    )
    return rows, columns


def hull(one: Region, other: Region) -> Region:
    """The smallest region that holds both."""
    rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return rows, columns


def area(region: Region) -> int:
    return prod(last - first for first, last in region)


def whole(size: Sequence[int]) -> Region:
    """All of a map."""
    rows, columns = size
    return (0, rows), (0, columns)


def within(region: Region, size: Sequence[int]) -> bool:
    return all(first >= 0 and last <= most for (first, last), most in zip(region, size, strict=True))


def overlap(region: Region, lies: Region) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where two regions meet: slices of a tensor of the first, and of one of the second."""
    of_region, of_lies = [], []
    for (first, last), (begin, end) in zip(region, lies, strict=True):
        low, high = max(first, begin), min(last, end)
        of_region.append(slice(low - first, high - first))
        of_lies.append(slice(low - begin, high - begin))
    return (of_region[0], of_region[1]), (of_lies[0], of_lies[1])


# ---- a blank photo --------------------------------------------------------------------------------------------------


def small_size(size: Sequence[int], windows: Sequence[Window]) -> list[int]:
    """Rows and columns of a blank photo that is enough for one of `size`.

    It lies alike on every grid of strides, and each of its maps has a place in the middle that no edge reaches.
    """
    found = []
    for axis, most in enumerate(size):
        grid = prod(window.stride[axis] for window in windows)
        side = most % grid + grid
        while side < most and not _has_middle(side, axis, windows):
            side += grid
        found.append(min(side, most))
    return found


def _has_middle(side: int, axis: int, windows: Sequence[Window]) -> bool:
    """Whether each map of a blank photo has a place that sees no padding but the photo's own, as blank as the photo."""
    edge = 0  # places from either end of a map that see such padding
    for number, window in enumerate(windows):
        extent, stride, pad = window.extent[axis], window.stride[axis], window.pad[axis]
        side = (side + 2 * pad - extent) // stride + 1
        edge = -(-(edge + pad) // stride) + (stride > 1) if number else 0
        if side < 2 * edge + 2:
            return False
    return True


def blank_part(small: Tensor, size: Sequence[int], region: Region) -> Tensor:
    """A region of the map that a blank photo of some size gives.

    Args:
        small: (1, C, h, w): the map that a blank photo of `small_size` gives.
        size: rows and columns of the map.
    """
    rows, columns = (_places(span, most, few) for span, most, few in zip(region, size, small.shape[2:], strict=True))
    return small[:, :, rows][:, :, :, columns]


def _places(span: Span, size: int, few: int) -> Tensor:
    """Places of a small map with the values of a large one's: from either end, and one in the middle for the rest."""
    places = torch.arange(*span)
    low, high = (few + 1) // 2, size - few // 2
    return torch.where(places < low, places, torch.where(places >= high, places - (size - few), few // 2))
