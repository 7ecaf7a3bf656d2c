"""The same finer stride in one pass: filter rarefaction. Road: dense. In: a converted network. Out: a network.

A step whose output would be coarser than the stride asked for keeps it, and every later kernel reads cells that lie as
far apart as the skipped ones did: it is dilated. Source: Long et al. 2015, section 3.2, equation (2); later known as
"a trous" or dilated convolution.

Where nothing is padded inside, the result equals shift-and-stitch at every cell. Where layers pad, it does at every
cell that sees no padding: each shifted photo has padding of its own where it was cut, the one pass has the photo there.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.base.errors import GeometryError, SurgeryError
from fullconv.geometry.geometry import same_padding
from fullconv.nets.graph import Size, spot, trace
from fullconv.nets.layers import WindowContext
from fullconv.nets.places import (
    Follower,
    argument,
    convolution_settings,
    is_tensor,
    kind_of,
    pair,
    places,
    pooling_settings,
    shape_of,
)

Amounts = tuple[int, int, int, int]


class DilatedMaximum(nn.MaxPool2d):
    """The maximum over kernel[0] x kernel[1] cells that lie `dilation` apart.

    Args:
        around: padding (left, right, top, bottom) in fine cells.
        beyond: (rows, columns) by which a last window may reach over the border, None for not at all; see `over`.
    """

    def __init__(self, kernel: Size, stride: Size, dilation: Size, around: Amounts, beyond: Size | None) -> None:
        super().__init__(kernel, stride, dilation=dilation)
        self.around, self.beyond = around, beyond

    def forward(self, input: Tensor) -> Tensor:
        made: Tensor = super().forward(F.pad(input, over(self, input, self.around, self.beyond), value=float("-inf")))
        return made


class DilatedAverage(nn.AvgPool2d):
    """The mean over kernel[0] x kernel[1] cells that lie `dilation` apart; arguments as of `DilatedMaximum`.

    Args:
        counted: padding counts as zeros (what lies beyond the padding never does).
    """

    down: Tensor
    across: Tensor

    def __init__(
        self, kernel: Size, stride: Size, dilation: Size, around: Amounts, beyond: Size | None, *, counted: bool = True
    ) -> None:
        super().__init__(kernel, stride)
        self.dilation, self.around, self.beyond, self.counted = dilation, around, beyond, counted
        self.register_buffer("down", torch.full((1, 1, kernel[0], 1), 1 / kernel[0]), persistent=False)
        self.register_buffer("across", torch.full((1, 1, 1, kernel[1]), 1 / kernel[1]), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        amounts = over(self, input, self.around, self.beyond)
        mean = self.plain(F.pad(input, amounts))
        if amounts == self.around and (self.counted or not any(amounts)):
            return mean
        ones = input.new_ones(1, 1, *input.shape[2:])
        inner = self.around if self.counted else (0, 0, 0, 0)
        rest = tuple(a - b for a, b in zip(amounts, inner, strict=True))
        return mean / self.plain(F.pad(F.pad(ones, inner, value=1.0), rest))

    def plain(self, x: Tensor) -> Tensor:
        """The mean where every cell counts."""
        (down, across), (rows, columns), channels = pair(self.stride), self.dilation, x.shape[1]
        x = F.conv2d(x, self.down.expand(channels, -1, -1, -1), None, (down, 1), 0, (rows, 1), channels)
        return F.conv2d(x, self.across.expand(channels, -1, -1, -1), None, (1, across), 0, (1, columns), channels)


def over(layer: Any, x: Tensor, around: Amounts, beyond: Size | None) -> Amounts:
    """The padding, and after it what a pooling that rounds up reads beyond.

    Of such a pooling of kernel k and stride s, a window exists while it starts before length - (k - s); so it does
    here, where these cells lie `dilation` apart. `beyond` is k - s.
    """
    if beyond is None:
        return around
    extra = []
    for i, before, after in ((0, around[2], around[3]), (1, around[0], around[1])):
        kernel, step, apart = pair(layer.kernel_size)[i], pair(layer.stride)[i], pair(layer.dilation)[i]
        length = x.shape[2 + i] + before + after
        starts = min(length - apart * beyond[i], x.shape[2 + i] + before)
        last = (-(-starts // step) - 1) * step
        extra.append(max(0, last + apart * (kernel - 1) + 1 - length))
    return (around[0], around[1] + extra[1], around[2], around[3] + extra[0])


def rarefy(network: fx.GraphModule, *, stride: int, size: Size) -> fx.GraphModule:
    """A network that scores every `stride` pixels with the same weights.

    Args:
        network: fully convolutional; it is not changed, the weights are shared.
        stride: divides the network's own.
        size: (rows, columns) that padding which depends on the size (TF-SAME) is fixed for: to equal shift-and-stitch,
            that of a shifted photo.
    Raises: GeometryError if a stride inside is no multiple of `stride` and coarser; SurgeryError naming a step that has
        no rarefied form (a pooling over the whole map sees other cells then).
    """
    traced = trace(network, size)
    follower = places(traced, disagreement="span")
    thin = fx.GraphModule(traced, copy.deepcopy(traced.graph))
    twins = dict(zip(thin.graph.nodes, traced.graph.nodes, strict=True))
    for node in list(thin.graph.nodes):
        _rarefy_step(node, twins[node], thin, follower, stride)
    for node in thin.graph.nodes:
        node.meta.pop("concrete", None)
    thin.graph.lint()
    thin.recompile()
    thin.delete_all_unused_submodules()
    return thin.eval()


def _rarefy_step(node: fx.Node, twin: fx.Node, thin: fx.GraphModule, follower: Follower, stride: int) -> None:
    """Give one step its rarefied form, in place."""
    if node.op not in ("call_module", "call_function", "call_method") or not is_tensor(twin):
        return
    after, kind = follower.place.get(twin), kind_of(twin, follower.module)
    source = next((n for n in twin.all_input_nodes if follower.place.get(n) is not None), None)
    before = None if source is None else follower.place[source]
    if source is None or before is None or after is None or before.geometry is None or after.geometry is None:
        return
    apart = _apart(before.geometry.stride, stride, twin)
    kept = _apart(after.geometry.stride, stride, twin)
    if apart == kept == (1, 1):
        return
    layer: Any = thin.get_submodule(str(node.target)) if node.op == "call_module" else None
    around = spread(padding_at(twin, follower), apart) if kind in ("convolution", "pooling") else (0, 0, 0, 0)
    if kind == "convolution" and layer is not None:
        _replace(node, thin, _thin_convolution(layer, twin, follower, apart, kept), around)
    elif kind == "pooling":
        _replace(node, thin, _thin_pooling(twin, follower, apart, kept, around), (0, 0, 0, 0))
    elif shape_of(twin)[2:] != shape_of(source)[2:] or isinstance(layer, WindowContext):
        raise SurgeryError(
            "every step after the stride asked for slides over its map, or acts on each cell by itself",
            f"'{spot(twin)}' ({kind}) does neither",
            "a coarser stride, or --way shift",
        )


def _apart(own: tuple[Any, Any], stride: int, node: fx.Node) -> Size:
    """How many fine cells lie between cells that were neighbours, (y, x)."""
    factors = [max(s / stride, 1) for s in own]
    if any(f != int(f) for f in factors):
        raise GeometryError(
            "the stride asked for divides every coarser stride inside the network",
            f"'{spot(node)}' has stride {own[0]}, {stride} was asked for",
            "a power of 2",
        )
    return int(factors[0]), int(factors[1])


def _strides(own: Size, apart: Size, kept: Size) -> Size:
    """The step's stride among fine cells: its own, less what is no longer skipped."""
    return own[0] * apart[0] // kept[0], own[1] * apart[1] // kept[1]


def _thin_convolution(layer: nn.Conv2d, twin: fx.Node, follower: Follower, apart: Size, kept: Size) -> nn.Conv2d:
    kernel, own, _, dilation = convolution_settings(twin, follower.module)
    made = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        kernel,
        _strides(own, apart, kept),
        dilation=(dilation[0] * apart[0], dilation[1] * apart[1]),
        groups=layer.groups,
        bias=layer.bias is not None,
        device="meta",
    )
    made.weight, made.bias = layer.weight, layer.bias
    return made


def _thin_pooling(twin: fx.Node, follower: Follower, apart: Size, kept: Size, around: Amounts) -> nn.Module:
    kernel, own, _, dilation, ceil = pooling_settings(twin, follower.module)
    step, wide = _strides(own, apart, kept), (dilation[0] * apart[0], dilation[1] * apart[1])
    beyond = (kernel[0] - own[0], kernel[1] - own[1]) if ceil else None
    layer: Any = follower.module.get_submodule(str(twin.target)) if twin.op == "call_module" else None
    name = type(layer).__name__ if layer is not None else str(getattr(twin.target, "__name__", twin.target))
    if "max" in name.lower() or "boolean_dispatch" in name:
        return DilatedMaximum(kernel, step, wide, around, beyond)
    if (argument(twin, 6, "divisor_override", None) if layer is None else layer.divisor_override) is not None:
        raise SurgeryError(
            "an average that is rarefied divides by what it counts",
            f"'{spot(twin)}' divides by another number",
            "--way shift",
        )
    counted = argument(twin, 5, "count_include_pad", True) if layer is None else layer.count_include_pad
    return DilatedAverage(kernel, step, wide, around, beyond, counted=bool(counted))


def spread(own: Amounts, apart: Size) -> Amounts:
    """Padding in fine cells."""
    return (own[0] * apart[1], own[1] * apart[1], own[2] * apart[0], own[3] * apart[0])


def padding_at(node: fx.Node, follower: Follower) -> Amounts:
    """Left, right, top, bottom of a convolution or pooling, in its own cells, at the size that was followed."""
    if kind_of(node, follower.module) == "convolution":
        kernel, stride, padding, dilation = convolution_settings(node, follower.module)
    else:
        kernel, stride, padding, dilation, _ = pooling_settings(node, follower.module)
    cells = shape_of(node.all_input_nodes[0])[2:]
    around: list[int] = []
    for i in (1, 0):
        if padding == "tf-same":
            around += same_padding(cells[i], kernel[i], stride[i], dilation[i])
        elif padding == "same":
            reach = dilation[i] * (kernel[i] - 1)
            around += [reach // 2, reach - reach // 2]
        else:
            around += [padding[i], padding[i]]
    return (around[0], around[1], around[2], around[3])


def _replace(node: fx.Node, thin: fx.GraphModule, made: nn.Module, around: Amounts) -> None:
    """Put a step in the node's place, after padding with zeros."""
    x = node.all_input_nodes[0]
    name = f"rarefied_{node.name}"
    with thin.graph.inserting_before(node):
        if any(around):
            x = thin.graph.call_function(F.pad, (x, around))
        thin.add_submodule(name, made)
        call = thin.graph.call_module(name, (x,))
    node.replace_all_uses_with(call)
    thin.graph.erase_node(node)
