"""Convolutions that take less time on the CPU, forward and back. Road: train, round each forward pass.

Two things make up a fifth of the sharp head's training step there (docs/log.md). A ReLU behind a convolution reads and
writes the whole map once more and takes as long as the convolution itself: oneDNN, which torch uses on the CPU, can
clamp what it writes, and what is clamped tells on the way back where. And oneDNN has no fast gradients for some
depthwise convolutions: in bfloat16 with stride 2 that of the input took 135 ms where the forward pass takes 3, with 5x5
kernels that of the weights 55 where it takes 1. Both are made of convolutions that are fast: the input's gradient by a
convolution with the kernel turned round, the weights' by one in small groups of channels.
Of FCN-32s a third made up nearly all: oneDNN's deconvolution in bfloat16 took 4.5 s at stride 32, where the same sums
take 0.01 s as a convolution that gives all pixels of a cell at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from fullconv.nets.graph import writes
from fullconv.train.precision import quick_bfloat16

Axes = tuple[int, int]
Limits = tuple[float, float]
SMALL_KERNEL = 3  # sides up to here have gradients by their weights that oneDNN finds quickly
SLOW_STRIDE = 4  # deconvolutions of smaller strides are as fast by torch
GROUP = 16  # channels; 8, 32 and 48 are slower (docs/log.md)
RELUS: dict[type[nn.Module], Limits] = {nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0)}


@contextmanager
def quick_convolutions(network: nn.Module) -> Iterator[None]:
    """Inside this context the convolutions of `network` are as they were, but on the CPU they take less time.

    A convolution of a traced part whose map nothing but a ReLU reads clamps by itself, and that ReLU does nothing.
    Under autocast to bfloat16, depthwise `conv2d` with square odd kernels from 3x3 up has the quicker way back, and
    `conv_transpose2d` of large stride is made by a convolution (in float32 torch's own are as fast).

    Example:
        >>> x, weight = torch.randn(1, 4, 9, 9), torch.randn(4, 1, 5, 5, requires_grad=True)
        >>> with torch.autocast("cpu", torch.bfloat16), quick_convolutions(nn.Identity()):
        ...     torch.nn.functional.conv2d(x, weight, groups=4).sum().backward()
        >>> weight.grad.shape
        torch.Size([4, 1, 5, 5])
    """
    changed: list[nn.Module] = []
    try:
        for layer, relu in activated(network):
            layer.forward = partial(_clamping, layer, RELUS[type(relu)])  # type: ignore[method-assign]
            relu.forward = _as_it_is
            changed += [layer, relu]
        with _Quick():
            yield
    finally:
        for module in changed:
            delattr(module, "forward")


def activated(network: nn.Module) -> list[tuple[nn.Conv2d, nn.Module]]:
    """(convolution, ReLU) of the traced parts of `network`, where the ReLU alone reads what the convolution gives."""
    return [pair for part in network.modules() if isinstance(part, fx.GraphModule) for pair in _pairs(part)]


def _pairs(part: fx.GraphModule) -> Iterator[tuple[nn.Conv2d, nn.Module]]:
    calls = {node: part.get_submodule(node.target) for node in part.graph.nodes if node.op == "call_module"}
    times = Counter(calls.values())
    for node, relu in calls.items():
        layer = calls.get(node.all_input_nodes[0]) if type(relu) in RELUS else None
        if not isinstance(layer, nn.Conv2d):
            continue
        once = times[layer] == times[relu] == len(node.all_input_nodes[0].users) == 1
        if once and not any(writes(user) for user in node.users):  # the way back reads what the ReLU gave
            yield layer, relu


def _clamping(layer: nn.Conv2d, limits: Limits, x: Tensor) -> Tensor:
    with _Quick(limits):
        made: Tensor = type(layer).forward(layer, x)
    return made


def _as_it_is(x: Tensor) -> Tensor:
    return x


class _Quick(TorchFunctionMode):
    """Takes every `conv2d` and `conv_transpose2d` that can be made quicker; with `limits`, clamps what each `conv2d`
    gives.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.limits = limits

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.conv_transpose2d and isinstance(args[0], Tensor):
            made = _by_shuffling(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if made is None else made
        if func is not torch.conv2d or not isinstance(args[0], Tensor):
            return func(*args, **(kwargs or {}))
        made = _quick(self.limits, *args, **(kwargs or {}))
        if made is not None:
            return made
        made = func(*args, **(kwargs or {}))
        return made if self.limits is None else F.hardtanh(made, *self.limits)


def _quick(
    limits: Limits | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Axes = 1,
    padding: int | Axes | str = 0,
    dilation: int | Axes = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution, clamped to `limits`; None where torch's own way is to be taken."""
    if x.device.type != "cpu" or x.ndim != 4 or isinstance(padding, str) or _axes(dilation) != (1, 1):
        return None
    half = _in_bfloat16()
    quick_back = half and _quick_back(weight, _axes(padding), groups)
    if not (quick_back or (limits and _clamps(torch.bfloat16 if half else x.dtype))):
        return None
    if half:
        x, weight, bias = x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()
    made: Tensor = _Convolution.apply(x, weight, bias, _axes(stride), _axes(padding), groups, quick_back, limits)
    return made


def _by_shuffling(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Axes = 1,
    padding: int | Axes = 0,
    output_padding: int | Axes = 0,
    groups: int = 1,
    dilation: int | Axes = 1,
) -> Tensor | None:
    """The deconvolution, by a convolution with a channel for each pixel between two cells, and these put into place
    (Shi et al. 2016, sub-pixel convolution); None where torch's own way is to be taken.
    """
    if x.device.type != "cpu" or x.ndim != 4 or not _in_bfloat16():
        return None
    by, across = _axes(stride)
    plain = _axes(padding) == _axes(output_padding) == (0, 0) and _axes(dilation) == (1, 1) and bias is None
    if not plain or by != across or by < SLOW_STRIDE:
        return None
    ends = [-side % by for side in weight.shape[2:]]  # zeros, so that the kernel is a whole number of strides
    whole = F.pad(weight.bfloat16(), (0, ends[1], 0, ends[0]))
    rows, columns = (side // by for side in whole.shape[2:])
    parts = whole.reshape(groups, len(weight) // groups, weight.shape[1], rows, by, columns, by).flip(3, 5)
    kernel = parts.permute(0, 2, 4, 6, 1, 3, 5).reshape(-1, len(weight) // groups, rows, columns)
    cells = F.conv2d(x.bfloat16(), kernel, padding=(rows - 1, columns - 1), groups=groups)
    return F.pad(F.pixel_shuffle(cells, by), (0, -ends[1], 0, -ends[0]))


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _quick_back(weight: Tensor, padding: Axes, groups: int) -> bool:
    channels, of_group, rows, columns = weight.shape
    square = rows == columns and rows >= SMALL_KERNEL and rows % 2 == 1
    return square and of_group == 1 and 1 < groups == channels and max(padding) < rows


def _clamps(dtype: torch.dtype) -> bool:
    """Whether torch's oneDNN clamps what a convolution writes, in this type, on this processor."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and quick_bfloat16(torch.device("cpu")))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Axes,
        padding: Axes,
        groups: int,
        quick_back: bool,
        limits: Limits | None,
    ) -> Tensor:
        if limits is None:
            made = F.conv2d(x, weight, bias, stride, padding, 1, groups)
        elif _clamps(x.dtype):
            made = torch.ops.mkldnn._convolution_pointwise(
                x, weight, bias, padding, stride, (1, 1), groups, "hardtanh", limits, ""
            )
        else:
            made = F.conv2d(x, weight, bias, stride, padding, 1, groups).clamp_(*limits)
        ctx.save_for_backward(x, weight, None if limits is None else made)
        ctx.stride, ctx.padding, ctx.groups, ctx.quick_back, ctx.limits = stride, padding, groups, quick_back, limits
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, made), grad = ctx.saved_tensors, grads[0]
        if ctx.limits is not None:
            grad = torch.ops.aten.hardtanh_backward(grad, made, *ctx.limits)
        asked = ctx.needs_input_grad[:3]
        how = (x, weight, ctx.stride, ctx.padding)
        if ctx.quick_back:
            own = (_input_gradient, _weight_gradient, lambda grad, *_: grad.sum((0, 2, 3)))
            made_grads = [of(grad, *how) if needed else None for of, needed in zip(own, asked, strict=True)]
        else:
            made_grads = list(_by_torch(grad, *how, groups=ctx.groups, mask=asked))
        return (*made_grads, None, None, None, None, None)


def _axes(value: int | Axes) -> Axes:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


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


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes) -> Tensor | None:
    """For kernels over 3x3 the gradient of a convolution in groups of GROUP channels, of which each channel's own part
    is kept: GROUP times the work, in a fifth to a half of the time.
    """
    channels, _, rows, columns = weight.shape
    if rows <= SMALL_KERNEL or channels % GROUP:
        return _by_torch(grad, x, weight, stride, padding, groups=channels, mask=(False, True, False))[1]
    groups = channels // GROUP
    shaped = weight.new_empty(1).expand(channels, GROUP, rows, columns)
    made = _by_torch(grad, x, shaped, stride, padding, groups=groups, mask=(False, True, False))[1]
    assert made is not None
    own = made.reshape(groups, GROUP, GROUP, rows, columns).diagonal(dim1=1, dim2=2)
    return own.permute(0, 3, 1, 2).reshape(weight.shape)


def _by_torch(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes, *, groups: int, mask: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Torch's gradients of a convolution by its input, weight and bias; None where `mask` does not ask for one."""
    backward = torch.ops.aten.convolution_backward
    made: tuple[Tensor | None, Tensor | None, Tensor | None] = backward(
        grad, x, weight, [len(weight)], stride, padding, (1, 1), False, (0, 0), groups, mask
    )
    return made


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
