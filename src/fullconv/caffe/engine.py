"""A Caffe net's outputs, fast. Road: caffe, on top of a graph that is not trained.

A net that pads its photo by 100 pixels computes much that no pixel of the photo reaches: places far from it have the
values of a blank photo of that size. These are worked out once a size, on a blank photo that is as small as edges
allow, and only what the photo reaches is computed for each photo. ReLU is done where its convolution writes, weights are
kept in the order in which oneDNN reads them, Dropout and Split are nothing, and BatchNorm and Scale stand in the
convolution before them. Nothing is approximated: sums are rounded in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fullconv.caffe.graph import Graph, Node
from fullconv.caffe.normalising import BatchNorm
from fullconv.caffe.pointwise import Dropout, ReLU, Scale
from fullconv.caffe.shaping import Split
from fullconv.caffe.spatial import Convolution, Deconvolution, Pooling, Window

Span = tuple[int, int]  # first and last but one, along an axis
Region = tuple[Span, Span]  # rows, columns

_POINTWISE = ("ReLU", "LRN", "Power", "Sigmoid", "TanH", "AbsVal", "ELU", "PReLU", "Scale", "BatchNorm", "Exp", "BNLL")
_WORTH = 0.9  # share of a map from which on it is computed whole
_LOWEST = torch.finfo(torch.float32).min


@dataclass
class Step:
    """One layer to run, with those that were drawn into it.

    Args:
        inputs, outputs: numbers of values.
        window: of a convolution or pooling.
        packed: weights as oneDNN reads them, and the bias.
        relu: whether negative results become 0.
    """

    node: Node
    inputs: list[int]
    outputs: list[int]
    window: Window | None = None
    packed: tuple[Tensor, Tensor | None] | None = None
    relu: bool = False


@dataclass(frozen=True)
class Patch:
    """What was computed of a map.

    Args:
        data: (N, C, h, w).
        region: where it lies; None: it is the whole map.
    """

    data: Tensor
    region: Region | None = None


@dataclass
class Sized:
    """What is known of a size of photo.

    Args:
        shapes: of each value.
        regions: of each value, what the photo reaches; None: all of it.
        blanks: value -> what a small blank photo gives.
        buffers: step -> its input with the blank photo's values around, which each photo's are written into.
    """

    shapes: dict[int, tuple[int, ...]]
    regions: dict[int, Region | None]
    blanks: dict[int, Tensor] = field(default_factory=dict)
    buffers: dict[int, Tensor] = field(default_factory=dict)


class Engine:
    """Runs a graph's outputs.

    Args:
        graph: with its weights; they are not to change.
        dtype: of weights and maps: float32, or bfloat16 where that is asked for.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32) -> None:
        self.graph, self.dtype = graph, dtype
        self.steps: list[Step] = []
        self.inputs: list[int] = []
        self.outputs: dict[str, int] = {}
        self._sizes: dict[tuple[tuple[int, ...], ...], Sized] = {}
        self._draw()

    # ---- what to run ----

    def _draw(self) -> None:
        graph, number = self.graph, 0
        at: dict[int, int] = {}  # cell -> its value as of now
        needed = _needed(graph)
        nodes = [node for node in graph.nodes if any(id(cell) in needed for cell in node.tops)]
        made_by: dict[int, Step] = {}
        readers: dict[int, int] = {}
        for node in nodes:
            for cell in node.bottoms:
                readers[id(cell)] = readers.get(id(cell), 0) + 1
        for node in nodes:
            if node.layer.is_input:
                for cell in node.tops:
                    at[id(cell)] = number
                    self.inputs.append(number)
                    number += 1
                continue
            inputs = [at[id(cell)] for cell in node.bottoms]
            before = made_by.get(inputs[0]) if inputs else None
            alone = node.bottoms and (node.tops[0] is node.bottoms[0] or readers[id(node.bottoms[0])] == 1)
            if isinstance(node.layer, Dropout | Split) and node.layer.phase == "TEST":
                for cell in node.tops:
                    at[id(cell)] = inputs[0]
                continue
            if before is not None and alone and _drawn_in(before, node):
                at[id(node.tops[0])] = inputs[0]
                continue
            outputs = list(range(number, number + len(node.tops)))
            number += len(outputs)
            step = Step(node, inputs, outputs, _window(node))
            if step.window is not None and isinstance(node.layer, Convolution):
                step.packed = _weights(node)
            self.steps.append(step)
            for cell, value in zip(node.tops, outputs, strict=True):
                at[id(cell)], made_by[value] = value, step
        self.outputs = {name: at[id(graph.cells[name])] for name in graph.outputs}

    # ---- a size ----

    def _sized(self, shapes: tuple[tuple[int, ...], ...]) -> Sized:
        if shapes not in self._sizes:
            while len(self._sizes) > 1:  # buffers of two sizes at most
                del self._sizes[next(iter(self._sizes))]
            self._sizes[shapes] = self._plan(shapes)
        return self._sizes[shapes]

    def _plan(self, shapes: tuple[tuple[int, ...], ...]) -> Sized:
        found = Sized(dict(zip(self.inputs, shapes, strict=True)), {})
        one_photo = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][0] == 1
        for value, shape in found.shapes.items():
            found.regions[value] = ((0, shape[2]), (0, shape[3])) if one_photo else None
        for step in self.steps:
            made = step.node.layer.shapes([found.shapes[value] for value in step.inputs])
            found.shapes |= dict(zip(step.outputs, made, strict=True))
            region = self._reached(step, found)
            for value in step.outputs:
                found.regions[value] = region
        if one_photo and any(region is not None for region in found.regions.values()):
            self._blank(found)
        return found

    def _reached(self, step: Step, sized: Sized) -> Region | None:
        """What of a step's output the photo reaches; None: all, or nobody knows."""
        region = sized.regions[step.inputs[0]] if len(step.inputs) == 1 and len(step.outputs) == 1 else None
        kind = step.node.layer.param.type
        if (
            region is None
            or (step.window is None and kind not in _POINTWISE)
            or isinstance(step.node.layer, Deconvolution)
        ):
            return None
        if isinstance(step.node.layer, BatchNorm) and step.node.layer.phase == "TRAIN":
            return None
        shape = sized.shapes[step.outputs[0]]
        if step.window is not None:
            window = step.window
            rows, columns = (
                _outward(span, window.extent[axis], window.stride[axis], window.pad[axis], shape[2 + axis])
                for axis, span in enumerate(region)
            )
            region = rows, columns
        area = prod(last - first for first, last in region)
        return region if area < _WORTH * prod(shape[2:]) else None

    def _blank(self, sized: Sized) -> None:
        """Work out what a blank photo gives, where the photo's own values have none beside them."""
        steps = [step for step in self.steps if sized.regions[step.outputs[0]] is not None]
        (photo,) = self.inputs
        shape = sized.shapes[photo]
        windows = [step.window for step in steps if step.window is not None]
        small = [_small_side(size, axis, windows) for axis, size in enumerate(shape[2:])]
        values = {photo: torch.zeros(1, shape[1], *small, dtype=self.dtype)}
        for step in steps:
            values[step.outputs[0]] = self._compute(step, [values[step.inputs[0]]])
        read = {value for step in self.steps for value in step.inputs} | set(self.outputs.values())
        sized.blanks = {value: values[value] for value in read if sized.regions[value] is not None}

    # ---- a photo ----

    def run(self, photos: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by name, float32.

        Args:
            photos: one tensor an input, in the graph's order.
        """
        sized = self._sized(tuple(tuple(one.shape) for one in photos))
        values = {
            number: Patch(one.to(self.dtype), sized.regions[number])
            for number, one in zip(self.inputs, photos, strict=True)
        }
        last = {value: place for place, step in enumerate(self.steps) for value in step.inputs}
        kept = set(self.outputs.values())
        with torch.no_grad():
            for place, step in enumerate(self.steps):
                region = sized.regions[step.outputs[0]]
                if region is not None:
                    made = [self._compute_region(place, step, values[step.inputs[0]], region, sized)]
                else:
                    whole = [self._whole(value, values[value], sized) for value in step.inputs]
                    made = [Patch(one) for one in self._compute_all(step, whole)]
                values |= dict(zip(step.outputs, made, strict=True))
                for value in step.inputs:
                    if last[value] == place and value not in kept:
                        values.pop(value, None)
            return {name: self._whole(value, values[value], sized).float() for name, value in self.outputs.items()}

    def _compute_all(self, step: Step, inputs: list[Tensor]) -> list[Tensor]:
        if len(step.outputs) == 1:
            return [self._compute(step, inputs)]
        return step.node.layer.run(inputs, [cell.data for cell in step.node.blobs])

    def _compute(self, step: Step, inputs: list[Tensor], *, padded: bool = False) -> Tensor:
        """A step's output from whole maps, or from such that have their padding (`padded`)."""
        if step.packed is not None and step.window is not None:
            return _convolved(step, inputs[0], (0, 0) if padded else step.window.pad)
        if padded and step.window is not None:
            return self._pooled(step, inputs[0])
        blobs = [
            cell.data.reshape(shape).to(self.dtype)
            for cell, shape in zip(step.node.blobs, step.node.shapes, strict=True)
        ]
        (made,) = step.node.layer.run(inputs, blobs)
        return torch.relu_(made) if step.relu else made

    def _pooled(self, step: Step, padded: Tensor) -> Tensor:
        assert step.window is not None
        return F.max_pool2d(padded, step.window.kernel, step.window.stride)

    def _compute_region(self, place: int, step: Step, given: Patch, region: Region, sized: Sized) -> Patch:
        value = step.inputs[0]
        if step.window is None:
            return Patch(self._compute(step, [given.data]), region)
        wanted = _inward(region, step.window)
        assert given.region is not None
        if wanted == given.region:
            return Patch(self._compute(step, [given.data], padded=True), region)
        if place not in sized.buffers:
            sized.buffers[place] = self._around(step, value, wanted, given.region, sized)
        buffer = sized.buffers[place]
        _write(buffer, wanted, given)
        return Patch(self._compute(step, [buffer], padded=True), region)

    def _around(self, step: Step, value: int, wanted: Region, region: Region, sized: Sized) -> Tensor:
        """A step's padded input where the photo has no say: the blank photo's values, and padding beyond the map."""
        shape = sized.shapes[value]
        outside = _LOWEST if isinstance(step.node.layer, Pooling) else 0.0
        sizes = [last - first for first, last in wanted]
        buffer = torch.full((1, shape[1], *sizes), outside, dtype=self.dtype).to(memory_format=torch.channels_last)
        inside = [(max(first, 0), min(last, size)) for (first, last), size in zip(wanted, shape[2:], strict=True)]
        rows, columns = (
            slice(first - begin, last - begin) for (first, last), (begin, _) in zip(inside, wanted, strict=True)
        )
        buffer[:, :, rows, columns] = self._blank_part(value, (inside[0], inside[1]), sized)
        return buffer

    def _blank_part(self, value: int, region: Region, sized: Sized) -> Tensor:
        small = sized.blanks[value]
        rows, columns = (
            _places(span, size, few)
            for span, size, few in zip(region, sized.shapes[value][2:], small.shape[2:], strict=True)
        )
        return small[:, :, rows][:, :, :, columns]

    def _whole(self, value: int, patch: Patch, sized: Sized) -> Tensor:
        if patch.region is None:
            return patch.data
        rows, columns = sized.shapes[value][2:]
        everything = (0, rows), (0, columns)
        if patch.region == everything:
            return patch.data
        whole = self._blank_part(value, everything, sized).contiguous(memory_format=torch.channels_last)
        _write(whole, everything, patch)
        return whole


def _small_side(size: int, axis: int, windows: Sequence[Window]) -> int:
    """A side of a blank photo that is enough: like the photo's on every grid, and with a place in the middle of each map
    that no edge reaches."""
    grid = prod(window.stride[axis] for window in windows)
    side = size % grid + grid
    while side < size and not _has_middle(side, axis, windows):
        side += grid
    return min(side, size)


def _has_middle(side: int, axis: int, windows: Sequence[Window]) -> bool:
    """Whether each map of a blank photo has a place that sees no padding but the photo's own, which is as blank as it."""
    edge = 0  # places from either end of a map that see such padding
    for number, window in enumerate(windows):
        extent, stride, pad = window.extent[axis], window.stride[axis], window.pad[axis]
        side = (side + 2 * pad - extent) // stride + 1
        edge = -(-(edge + pad) // stride) + (stride > 1) if number else 0
        if side < 2 * edge + 2:
            return False
    return True


def _needed(graph: Graph) -> set[int]:
    needed = {id(graph.cells[name]) for name in graph.outputs}
    for node in reversed(graph.nodes):
        if any(id(cell) in needed for cell in node.tops):
            needed.update(id(cell) for cell in node.bottoms)
    return needed


def _window(node: Node) -> Window | None:
    """Of a convolution or pooling that the engine runs itself."""
    if isinstance(node.layer, Convolution):
        own = len(node.bottoms) == 1 and len(node.shapes[0]) == 4 and node.layer.param.convolution_param.axis == 1
        return node.layer.window(2) if own else None
    if isinstance(node.layer, Pooling):
        param = node.layer.param.pooling_param
        plain = param.pool == "MAX" and not param.global_pooling and len(node.tops) == 1
        return node.layer.window(node.bottoms[0].shape) if plain else None
    return None


def _weights(node: Node) -> tuple[Tensor, Tensor | None]:
    weight = node.blobs[0].data.reshape(node.shapes[0])
    return weight, node.blobs[1].data.reshape(node.shapes[1]) if len(node.blobs) > 1 else None


def _drawn_in(before: Step, node: Node) -> bool:
    """Draw a layer into the convolution before it, if it can be."""
    if before.packed is None or before.relu or isinstance(before.node.layer, Deconvolution):
        return False
    if isinstance(node.layer, ReLU) and node.layer.param.relu_param.negative_slope == 0:
        before.relu = True
        return True
    weight, bias = before.packed
    channels = weight.shape[0]
    if isinstance(node.layer, BatchNorm) and node.layer.phase == "TEST":
        param = node.layer.param.batch_norm_param
        if param.has("use_global_stats") and not param.use_global_stats:
            return False
        means, variances, factor = (cell.data for cell in node.blobs)
        scale = 0.0 if float(factor) == 0 else 1 / float(factor)
        by = 1 / torch.sqrt(variances * scale + param.eps)
        plus = -means * scale * by
    elif isinstance(node.layer, Scale) and len(node.bottoms) == 1 and node.shapes[0] == (channels,):
        by = node.blobs[0].data
        plus = node.blobs[1].data if len(node.blobs) > 1 else torch.zeros(channels)
    else:
        return False
    bias = torch.zeros(channels) if bias is None else bias
    before.packed = weight * by.reshape(-1, 1, 1, 1), bias * by + plus
    return True


def _convolved(step: Step, x: Tensor, pad: tuple[int, ...]) -> Tensor:
    assert step.packed is not None
    assert step.window is not None
    weight, bias = step.packed
    group, window = step.node.layer.param.convolution_param.group, step.window
    if isinstance(step.node.layer, Deconvolution):
        made = F.conv_transpose2d(x, weight, bias, window.stride, pad, 0, group, window.dilation)
        return torch.relu_(made) if step.relu else made
    over = [e - n - 2 * p for n, p, e in zip(x.shape[2:], pad, window.extent, strict=True)]
    if max(over) > 0:  # the kernel hangs over the edge
        ends: list[int] = [one for p, o in zip(pad[::-1], over[::-1], strict=True) for one in (p, p + max(o, 0))]
        x, pad = F.pad(x, ends), (0, 0)
    act: Any = "relu" if step.relu else "none"
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, pad, window.stride, window.dilation, group, act, [], ""
    )


def _outward(span: Span, extent: int, stride: int, pad: int, size: int) -> Span:
    """Places of a window's output that see part of a span of its input."""
    first = -(-(span[0] - extent + 1 + pad) // stride)
    return max(0, first), min(size, (span[1] - 1 + pad) // stride + 1)


def _inward(region: Region, window: Window) -> Region:
    """What of its input a window's output of a region sees; it may lie beyond the map."""
    rows, columns = (
        (first * stride - pad, (last - 1) * stride - pad + extent)
        for (first, last), stride, pad, extent in zip(region, window.stride, window.pad, window.extent, strict=True)
    )
    return rows, columns


def _write(into: Tensor, lies: Region, patch: Patch) -> None:
    """Write a patch into a tensor that lies somewhere on the same map, as far as it lies within."""
    assert patch.region is not None
    cuts = []
    for (first, last), (begin, end) in zip(patch.region, lies, strict=True):
        low, high = max(first, begin), min(last, end)
        cuts.append((slice(low - begin, high - begin), slice(low - first, high - first)))
    (rows, of_rows), (columns, of_columns) = cuts
    into[:, :, rows, columns] = patch.data[:, :, of_rows, of_columns]


def _places(span: Span, size: int, few: int) -> Tensor:
    """Places of a small map that have the values of a large one's: from either end, and one in the middle for the rest."""
    places = torch.arange(*span)
    low, high = (few + 1) // 2, size - few // 2
    return torch.where(places < low, places, torch.where(places >= high, places - (size - few), few // 2))
