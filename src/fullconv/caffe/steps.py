"""What a net's outputs take: its layers, with those drawn together that can be one. Road: caffe, graph to engine.

ReLU, BatchNorm and Scale stand in the convolution before them; Dropout and Split are nothing; a Deconvolution computes
what the Crop behind it keeps, and where its kernels are separable, as bilinear ones are, in two passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fullconv.caffe.graph import Graph, Node
from fullconv.caffe.layer import Shape
from fullconv.caffe.normalising import BatchNorm, InnerProduct
from fullconv.caffe.pointwise import Dropout, ReLU, Scale
from fullconv.caffe.shaping import Split
from fullconv.caffe.spatial import Convolution, Crop, Deconvolution, Pooling, Window, with_what_is_missing

_FEW = 32  # outputs of a convolution that gains nothing from fewer bits
_MAP = (1, 1, 1, 1)
_AT_ONCE = 1 << 23  # weights that are brought to fewer bits together
_SEPARABLE = 1e-6  # of a kernel's largest number, that a product of a column and a row may be off


@dataclass(eq=False)
class Step:
    """One layer to run, with those that were drawn into it.

    Args:
        inputs, outputs: numbers of values.
        blobs: parameters in the shapes that it computes with.
        window: of a convolution, deconvolution or maximum pooling over rows and columns.
        relu: whether negative results become 0.
        factors: of a deconvolution's kernels, where they are separable and each channel is by itself.
        crop: what is kept of a deconvolution; `like` is the value whose size the crop has.
    """

    node: Node
    inputs: list[int]
    outputs: list[int]
    blobs: list[Tensor]
    window: Window | None = None
    relu: bool = False
    factors: tuple[Tensor, Tensor] | None = None
    crop: Crop | None = None
    like: int = -1
    _narrowed: list[Tensor] = field(default_factory=list)

    @property
    def slides(self) -> bool:
        """Whether it is a convolution or a pooling: what it computes of a region is known from part of its input."""
        return self.window is not None and not isinstance(self.node.layer, Deconvolution)

    @property
    def narrow(self) -> bool:
        """Whether it may compute with fewer bits than float32: where most of the work is, and no score is made."""
        layer = self.node.layer
        if isinstance(layer, InnerProduct) or (isinstance(layer, Convolution) and self.window is not None):
            return self.blobs[0].shape[0] >= _FEW and not isinstance(layer, Deconvolution)
        return isinstance(layer, ReLU) or (isinstance(layer, Pooling) and self.window is not None)

    def blobs_in(self, dtype: torch.dtype) -> list[Tensor]:
        """Its parameters in one type, which are kept."""
        if dtype == torch.float32:
            return self.blobs
        self._narrowed = self._narrowed or [blob.to(dtype) for blob in self.blobs]
        return self._narrowed

    def shapes(self, of: dict[int, Shape]) -> list[Shape]:
        """Of its outputs. Raises: CaffeError if the inputs do not fit."""
        made = self.node.layer.shapes([of[value] for value in self.inputs])
        return made if self.crop is None else self.crop.shapes([made[0], of[self.like]])


def steps_of(graph: Graph, outputs: Sequence[str]) -> tuple[list[Step], dict[str, int], dict[str, int]]:
    """Steps to some of a graph's blobs; the numbers of the inputs that they need, and of the blobs, by name."""
    nodes: list[tuple[Node, list[int], list[int]]] = []  # with the values that a node reads and makes
    at: dict[int, int] = {}  # cell -> its value as of now
    number = 0
    for node in graph.needed(outputs):
        given = [at[id(cell)] for cell in node.bottoms]
        if isinstance(node.layer, Dropout | Split) and node.layer.phase == "TEST":
            made = given * len(node.tops)
        else:
            made = list(range(number, number + len(node.tops)))
            number += len(made)
            nodes.append((node, given, made))
        at |= {id(cell): value for cell, value in zip(node.tops, made, strict=True)}
    found = {name: at[id(graph.cells[name])] for name in outputs}
    reads = Counter([*found.values(), *(value for _, given, _ in nodes for value in given)])

    steps: list[Step] = []
    wanted = graph.needed_inputs(outputs)
    inputs: dict[str, int] = {}
    makers: dict[int, Step] = {}
    drawn: dict[int, int] = {}  # value of a layer that was drawn into a step -> the step's own
    for node, read, made in nodes:
        if node.layer.is_input:
            inputs |= {name: value for name, value in zip(node.layer.param.top, made, strict=True) if name in wanted}
            continue
        given = [drawn.get(value, value) for value in read]
        before = makers.get(given[0]) if given and reads[read[0]] == 1 else None
        if before is not None and _drawn_in(before, node, given):
            drawn[made[0]] = given[0]
            continue
        blobs = [cell.data.reshape(shape) for cell, shape in zip(node.blobs, node.shapes, strict=True)]
        step = Step(node, given, made, blobs, _window(node))
        if isinstance(node.layer, Deconvolution) and step.window is not None and max(step.window.dilation) == 1:
            step.factors = _separated(blobs[0], node.layer.param.convolution_param.group)
        steps.append(step)
        makers |= dict.fromkeys(made, step)
    return steps, inputs, {name: drawn.get(value, value) for name, value in found.items()}


def _window(node: Node) -> Window | None:
    if isinstance(node.layer, Convolution):
        own = len(node.bottoms) == 1 and len(node.shapes[0]) == 4 and node.layer.param.convolution_param.axis == 1
        return node.layer.window(2) if own else None
    if isinstance(node.layer, Pooling):
        param = node.layer.param.pooling_param
        plain = param.pool == "MAX" and not param.global_pooling and len(node.tops) == 1
        return node.layer.window(node.bottoms[0].shape) if plain else None
    return None


def a_number_a_channel(node: Node) -> bool:
    """Whether a Scale has parameters of its own, laid along the channels."""
    param = node.layer.param.scale_param
    return len(node.bottoms) == 1 and param.axis in (1, -3) and param.num_axes == 1


def _drawn_in(before: Step, node: Node, given: list[int]) -> bool:
    """Draw a layer into the one before it, if it can be."""
    if before.window is None or not isinstance(before.node.layer, Convolution) or before.relu:
        return False
    if isinstance(before.node.layer, Deconvolution):
        crop = node.layer if isinstance(node.layer, Crop) else None
        if (
            crop is None
            or before.crop
            or given[1] > before.outputs[0]
            or crop.axis(crop.param.crop_param.axis, _MAP) < 2
        ):
            return False
        before.crop, before.like = crop, given[1]
        return True
    if isinstance(node.layer, ReLU) and node.layer.param.relu_param.negative_slope == 0:
        before.relu = True
        return True
    weight, *bias = before.blobs
    channels = weight.shape[0]
    if isinstance(node.layer, BatchNorm) and node.layer.stored:
        mean, variance = node.layer.statistics([cell.data for cell in node.blobs])
        by = 1 / torch.sqrt(variance + node.layer.param.batch_norm_param.eps)
        plus = -mean * by
    elif isinstance(node.layer, Scale) and a_number_a_channel(node) and node.shapes[0] == (channels,):
        by = node.blobs[0].data
        plus = node.blobs[1].data if len(node.blobs) > 1 else torch.zeros(channels)
    else:
        return False
    before.blobs = [weight * by.reshape(-1, 1, 1, 1), bias[0] * by + plus if bias else plus]
    return True


# ---- computing ------------------------------------------------------------------------------------------------------


def slid(step: Step, x: Tensor, *, padded: bool = False) -> Tensor:
    """What a step that slides gives.

    Args:
        x: (N, C, H, W).
        padded: whether its padding is there already.
    """
    assert step.window is not None
    if isinstance(step.node.layer, Convolution):
        return _convolved(step, *((x, (0, 0)) if padded else with_what_is_missing(x, step.window)))
    if padded:
        return F.max_pool2d(x, step.window.kernel, step.window.stride)
    (made,) = step.node.layer.run([x], [])
    return made


def _convolved(step: Step, x: Tensor, pad: tuple[int, ...]) -> Tensor:
    assert step.window is not None
    group, window, stride = step.node.layer.param.convolution_param.group, step.window, step.window.stride
    rows, columns = (
        (n + 2 * p - e) // s + 1 for n, p, e, s in zip(x.shape[2:], pad, window.extent, stride, strict=True)
    )
    if min(rows, columns) == 1 and max(stride) > 1:  # oneDNN errs with one column and a stride (torch 2.14)
        x = F.pad(x, (pad[1], pad[1], pad[0], pad[0]))[..., : window.extent[0] + (rows - 1) * stride[0], :]
        x = x[..., : window.extent[1] + (columns - 1) * stride[1]]
        pad, stride = (0, 0), (stride[0] if rows > 1 else 1, stride[1] if columns > 1 else 1)
    places = x.shape[0] * rows * columns
    if group == 1 and places < step.blobs[0].shape[0]:  # windows side by side take less room than weights once more
        seen = F.unfold(x, window.kernel, window.dilation, pad, stride).mT.reshape(places, -1)
        found = _product(seen, *step.blobs).reshape(x.shape[0], rows, columns, -1).permute(0, 3, 1, 2)
        return torch.relu_(found) if step.relu else found
    weight, *bias = step.blobs_in(x.dtype)
    act: Any = "relu" if step.relu else "none"
    x = x.contiguous(memory_format=torch.channels_last)
    made: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias[0] if bias else None, pad, stride, window.dilation, group, act, [], ""
    )
    return made


def _product(seen: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(places, K) windows times (O, ...) weights of float32: (places, O), in the windows' type."""
    weight = weight.flatten(1)
    if seen.dtype == weight.dtype:
        return F.linear(seen, weight, bias)
    parts = torch.split(weight, max(1, _AT_ONCE // weight.shape[1]))
    made = torch.cat([F.linear(seen, part.to(seen.dtype)) for part in parts], 1)
    return made if bias is None else made + bias.to(seen.dtype)


def upsampled(step: Step, x: Tensor, like: tuple[int, ...]) -> Tensor:
    """What a deconvolution gives, of which only what its crop keeps is computed.

    Args:
        x: (N, C, H, W).
        like: the shape of the crop; where there is none, of the whole.
    """
    assert step.window is not None
    window, (weight, *bias) = step.window, step.blobs
    size = step.node.layer.shapes([tuple(x.shape)])[0]
    cuts = [(0, many) for many in size[2:]]
    if step.crop is not None:
        for axis, first, many in step.crop.cuts(size, like):
            cuts[axis - 2] = first, many
    spans = []
    for axis, ((first, many), extent, stride, pad) in enumerate(
        zip(cuts, window.extent, window.stride, window.pad, strict=True)
    ):
        first += pad
        if extent >= stride:  # rows and columns of the input that are seen
            low = max(0, -(-(first - extent + 1) // stride))
            x = x.narrow(2 + axis, low, min(x.shape[2 + axis], (first + many - 1) // stride + 1) - low)
            first -= low * stride
        spans.append(slice(first, first + many))
    rows, columns = spans
    if step.factors is not None:
        down, across = step.factors
        x = _spread(x.mT, down, window.stride[0])[..., rows].mT
        made = _spread(x, across, window.stride[1])[..., columns]
        return made + bias[0][:, None, None] if bias else made
    group = step.node.layer.param.convolution_param.group
    made = F.conv_transpose2d(x, weight, bias[0] if bias else None, window.stride, 0, 0, group, window.dilation)
    return made[:, :, rows, columns]


def _separated(weight: Tensor, group: int) -> tuple[Tensor, Tensor] | None:
    """A column and a row for each channel, (C, kh) and (C, kw), whose product is the kernel from it to itself; None if
    there is another kernel, or one that is no such product."""
    channels = weight.shape[0]
    if weight.shape[1] * group != channels or group not in (1, channels):
        return None
    kernels = weight[:, 0]
    if group == 1:
        kernels = weight[range(channels), range(channels)]
        if weight.count_nonzero() > kernels.count_nonzero():
            return None
    largest = kernels.abs().flatten(1).argmax(1)
    at, row, column = range(channels), largest // weight.shape[3], largest % weight.shape[3]
    down, across = kernels[at, :, column], kernels[at, row]
    across = across / kernels[at, row, column].where(kernels[at, row, column] != 0, 1)[:, None]
    off = (down[:, :, None] * across[:, None] - kernels).abs().amax((1, 2))
    return (down, across) if bool((off <= _SEPARABLE * kernels.abs().amax((1, 2))).all()) else None


def _spread(x: Tensor, factor: Tensor, stride: int) -> Tensor:
    """A deconvolution along the last axis, each channel by itself.

    Args:
        x: (N, C, H, W).
        factor: (C, k).
    """
    channels, size = factor.shape
    taps = -(-size // stride)
    phases = F.pad(factor, (0, taps * stride - size)).reshape(channels, 1, taps, stride)
    made = x.new_zeros(*x.shape[:3], x.shape[3] + taps - 1, stride)
    for tap in range(taps):
        made[..., tap : tap + x.shape[3], :].addcmul_(x[..., None], phases[:, :, tap, None])
    return made.flatten(3)
