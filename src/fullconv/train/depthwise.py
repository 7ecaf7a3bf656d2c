"""Depthwise convolutions with a quicker way back on the CPU. Road: train, round each forward pass.

oneDNN, which torch uses on the CPU, has no fast gradients for some depthwise convolutions: in bfloat16 with stride 2
that of the input took 135 ms where the forward pass takes 3, with 5x5 kernels that of the weights 55 where it takes 1
(docs/log.md). Both are made of convolutions that are fast: the input's gradient by a convolution with the kernel
turned round, the weights' 3x3 entries at a time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Axes = tuple[int, int]
PART = 3  # side of the kernels whose gradient oneDNN finds quickly


class QuickDepthwise(TorchFunctionMode):
    """Inside this context, depthwise `conv2d` under autocast to bfloat16 on the CPU, with square odd kernels from 3x3
    up, has the quicker way back; all else is as it was (in float32 torch's own is as fast).

    Example:
        >>> x, weight = torch.randn(1, 4, 9, 9), torch.randn(4, 1, 5, 5, requires_grad=True)
        >>> with torch.autocast("cpu", torch.bfloat16), QuickDepthwise():
        ...     torch.nn.functional.conv2d(x, weight, groups=4).sum().backward()
        >>> weight.grad.shape
        torch.Size([4, 1, 5, 5])
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and isinstance(args[0], Tensor):
            made = _quick(*args, **(kwargs or {}))
            if made is not None:
                return made
        return func(*args, **(kwargs or {}))


def _quick(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Axes = 1,
    padding: int | Axes | str = 0,
    dilation: int | Axes = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution, or None where torch's own way is to be taken."""
    channels, _, rows, columns = weight.shape
    strides, pads = _axes(stride), None if isinstance(padding, str) else _axes(padding)
    depthwise = 1 < groups == channels == x.shape[1]
    plain = rows == columns and rows >= PART and rows % 2 == 1 and _axes(dilation) == (1, 1)
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if not (depthwise and plain and pads and max(pads) < rows and half and x.device.type == "cpu"):
        return None
    x, weight = x.bfloat16(), weight.bfloat16()
    made: Tensor = _Depthwise.apply(x, weight, strides, pads)
    return made if bias is None else made + bias.to(made.dtype).view(-1, 1, 1)


def _axes(value: int | Axes) -> Axes:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Axes, padding: Axes) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), grad = ctx.saved_tensors, grads[0]
        of_x = _input_gradient(grad, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        of_weight = _weight_gradient(grad, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes) -> Tensor:
    """`grad` with zeros between its cells where the stride left some out, convolved with the kernel turned round."""
    kernel = weight.shape[2]
    if stride != (1, 1):
        rows, columns = (side + 2 * pad - kernel + 1 for side, pad in zip(x.shape[2:], padding, strict=True))
        spread = torch.empty((*grad.shape[:2], rows, columns), dtype=grad.dtype, memory_format=_layout(x)).zero_()
        spread[:, :, :: stride[0], :: stride[1]] = grad
        grad = spread
    back = [kernel - 1 - pad for pad in padding]
    return F.conv2d(grad, weight.flip(2, 3), None, 1, back, 1, len(weight))


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes) -> Tensor:
    """The gradient of a larger kernel, PART x PART entries at a time: each is that of a kernel of that size on the
    cells that it reads.
    """
    kernel = weight.shape[2]
    if kernel == PART:
        return _by_torch(grad, x, weight, stride, padding)
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0])) if any(padding) else x
    height, width = (step * (cells - 1) + PART for step, cells in zip(stride, grad.shape[2:], strict=True))
    made = torch.empty_like(weight)
    part = weight[:, :, :PART, :PART].contiguous()
    for top in range(0, kernel - 1, PART - 1):
        for left in range(0, kernel - 1, PART - 1):
            read = padded[:, :, top : top + height, left : left + width].contiguous(memory_format=_layout(x))
            made[:, :, top : top + PART, left : left + PART] = _by_torch(grad, read, part, stride, (0, 0))
    return made


def _by_torch(grad: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes) -> Tensor:
    backward = torch.ops.aten.convolution_backward
    made: Tensor = backward(
        grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), (False, True, False)
    )[1]
    return made


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
