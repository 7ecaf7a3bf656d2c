"""The layers that heads are made of: score layers, bilinear deconvolutions, crops. Road: nets, below the heads.

In: maps of scores. Out: maps of scores. Knows no backbone, no label space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def bilinear_filter(factor: int, kernel: tuple[int, int]) -> Tensor:
    """The filter that makes a deconvolution of stride `factor` interpolate linearly.

    Args:
        factor: the deconvolution's stride.
        kernel: (height, width), each 2 * factor (the result's cells lie between the given ones) or 2 * factor - 1
            (every factor-th cell of the result lies on a given one).
    Returns: (height, width) float32; every factor-th entries sum to 1, so that constant maps stay constant.
    Source: Long et al. 2015, 3.3.

    Example:
        >>> bilinear_filter(2, (4, 3))[:, 1].tolist()
        [0.25, 0.75, 0.75, 0.25]
    """
    rows, columns = (_triangle(factor, size) for size in kernel)
    return torch.outer(rows, columns).float()


def _triangle(factor: int, size: int) -> Tensor:
    if size not in (2 * factor, 2 * factor - 1):
        raise AssertionError(
            f"a linear filter of factor {factor} has {2 * factor} or {2 * factor - 1} taps, not {size}"
        )
    return 1 - (torch.arange(size, dtype=torch.float64) - (size - 1) / 2).abs() / factor


def bilinear_deconvolution(classes: int, factor: int, kernel: tuple[int, int], *, learned: bool) -> nn.ConvTranspose2d:
    """A deconvolution that starts as bilinear interpolation of each class by itself.

    Learned, it has the full K x K filters of the original nets, zero off the diagonal at the start, so that training
    may mix classes. Frozen, only the diagonal is kept (one group a class): the rest would stay zero for ever, and the
    same numbers cost a K-th of the work and memory.
    """
    groups = 1 if learned else classes
    layer = nn.ConvTranspose2d(classes, classes, kernel, stride=factor, bias=False, groups=groups)
    one_filter = bilinear_filter(factor, kernel)
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(classes):
            layer.weight[k, k if learned else 0] = one_filter
    layer.weight.requires_grad_(learned)
    return layer


def score_layer(channels: int, classes: int) -> nn.Conv2d:
    """A 1x1 convolution that starts at zero: before training every class scores the same everywhere."""
    layer = nn.Conv2d(channels, classes, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def cut(x: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Rows start[0] .. start[0] + size[0], columns likewise, of (N, C, H, W)."""
    return x[:, :, start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def pad(x: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Zeros round (N, C, H, W): before[0] rows above, after[1] columns to the right, and so on."""
    if not any((*before, *after)):
        return x
    return F.pad(x, (before[1], after[1], before[0], after[0]))


def repeat_border(x: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """As `pad`, but the outermost cells are repeated."""
    if not any((*before, *after)):
        return x
    return F.pad(x, (before[1], after[1], before[0], after[0]), mode="replicate")
