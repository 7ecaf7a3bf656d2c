"""The other direction: a convolution written as the matrix of a fully connected layer. Road: nets, beside surgery.

Surgery says that a fully connected layer is a convolution whose kernel is as large as its input. Here a convolution
is a fully connected layer whose matrix is mostly zeros, and whose other entries are the kernel's, over and over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor, nn

from fullconv.base.errors import UsageError
from fullconv.nets.graph import Size
from fullconv.nets.places import pair

LARGEST = 200_000_000  # entries that are kept: 12 bytes each


@dataclass(frozen=True)
class ConvMatrix:
    """The matrix of a convolution at one size.

    Attributes:
        matrix: (O * h * w, C * H * W) sparse: row (o, y, x) makes one number of the result, column (c, Y, X) reads one
            of the input, both in the order of `flatten`.
        bias: (O * h * w,) or None.
        size: (h, w) of the result.
        zeros: share of the entries that are zero by construction, 0 to 1.
        repeated: share of the other entries that repeat a weight which stands in the matrix already, 0 to 1.
        largest_difference: to the convolution itself on a seeded input, absolute.
    """

    matrix: csr_array
    bias: np.ndarray | None
    size: Size
    zeros: float
    repeated: float
    largest_difference: float

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float to (N, O, h, w): the matrix times the flattened input."""
        product = torch.from_numpy((self.matrix @ x.flatten(1).numpy().T).T.copy())
        if self.bias is not None:
            product += torch.from_numpy(self.bias)
        return product.view(len(x), -1, *self.size)


def conv_as_linear(conv: nn.Conv2d, size: Size | int) -> ConvMatrix:
    """The fully connected layer that a convolution is, for inputs of one size.

    Args:
        conv: any Conv2d: stride, padding (zeros), dilation and groups are honoured; it is not changed.
        size: (H, W) of the input, or one number for a square.
    Returns: the matrix, its shares of zeros and of repeated entries, and how far it is from the convolution.
    Raises: UsageError if the padding is not with zeros, the kernel does not fit, or the matrix would not fit in memory.

    Example:
        >>> made = conv_as_linear(nn.Conv2d(1, 1, 3, bias=False), 4)
        >>> made.matrix.shape, round(made.zeros, 3), round(made.repeated, 3)
        ((4, 16), 0.438, 0.75)
    """
    height, width = pair(size)
    if conv.padding_mode != "zeros":
        raise UsageError(
            "a convolution that is a matrix pads with zeros", f"padding_mode {conv.padding_mode!r}", "zeros"
        )
    with torch.no_grad():
        (top, bottom), (left, right) = around(conv)
        rows = cells(height + top + bottom, conv.kernel_size[0], conv.stride[0], conv.dilation[0])
        columns = cells(width + left + right, conv.kernel_size[1], conv.stride[1], conv.dilation[1])
        if rows < 1 or columns < 1:
            raise UsageError(
                "the kernel must fit into the padded input",
                f"a kernel of {conv.kernel_size} on {height}x{width}",
                "a larger size",
            )
        kept = conv.weight.numel() * rows * columns
        if kept > LARGEST:
            raise UsageError(
                f"the matrix keeps at most {LARGEST:,} entries",
                f"{kept:,} for {conv.weight.shape[0]} filters at {rows}x{columns}",
                "a smaller size, or fewer channels: the matrix shows what a convolution is, it is not a way to run one",
            )
        matrix, used = assembled(conv, (height, width), (rows, columns), (top, left))
        bias = None if conv.bias is None else conv.bias.repeat_interleave(rows * columns).numpy()
        made = ConvMatrix(
            matrix,
            bias,
            (rows, columns),
            zeros=1 - matrix.nnz / (matrix.shape[0] * matrix.shape[1]),
            repeated=1 - used / matrix.nnz,
            largest_difference=0.0,
        )
        x = torch.randn(1, conv.in_channels, height, width, generator=torch.Generator().manual_seed(0)).to(conv.weight)
        difference = float((made(x) - conv(x)).abs().max())
    return replace(made, largest_difference=difference)


def around(conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Cells of padding: (top, bottom), (left, right)."""
    if conv.padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(conv.padding, str):  # "same": the odd one goes after
        reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return (reach[0] // 2, reach[0] - reach[0] // 2), (reach[1] // 2, reach[1] - reach[1] // 2)
    return (conv.padding[0],) * 2, (conv.padding[1],) * 2


def cells(size: int, kernel: int, stride: int, dilation: int) -> int:
    """How many places a kernel has along a padded axis."""
    return (size - dilation * (kernel - 1) - 1) // stride + 1


def assembled(conv: nn.Conv2d, size: Size, result: Size, start: Size) -> tuple[csr_array, int]:
    """The matrix, and how many different weights stand in it (some are only ever over the padding)."""
    weight = conv.weight.detach().numpy()
    filters, channels, tall, wide = weight.shape
    o, c, i, j, y, x = np.ix_(*map(np.arange, (filters, channels, tall, wide, *result)))
    up = y * conv.stride[0] - start[0] + i * conv.dilation[0]
    across = x * conv.stride[1] - start[1] + j * conv.dilation[1]
    inside = (up >= 0) & (up < size[0]) & (across >= 0) & (across < size[1])
    inside = np.broadcast_to(inside, (filters, channels, tall, wide, *result))
    first = o // (filters // conv.groups) * channels  # the group's first channel
    row = np.broadcast_to((o * result[0] + y) * result[1] + x, inside.shape)[inside]
    column = np.broadcast_to(((first + c) * size[0] + up) * size[1] + across, inside.shape)[inside]
    values = np.broadcast_to(weight[..., None, None], inside.shape)[inside]
    shape = (filters * result[0] * result[1], channels * conv.groups * size[0] * size[1])
    return coo_array((values, (row, column)), shape=shape).tocsr(), int(inside.any((4, 5)).sum())
