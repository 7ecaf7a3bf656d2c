"""A Caffe net as an ONNX file. Road: caffe, beside the graph. In: a graph with its weights. Out: FILE.onnx.

What depends on the size of the photos is worked out as the file runs, so it takes those of any size that the net does.
Needs the extra "onnx".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import CaffeError, UsageError
from fullconv.base.files import write_bytes
from fullconv.caffe.graph import Cell, Graph, Node
from fullconv.caffe.layer import Shape, count
from fullconv.caffe.normalising import BatchNorm
from fullconv.caffe.pointwise import Bias, Scale
from fullconv.caffe.spatial import Convolution, Crop, Deconvolution, Pooling, Window

OPSET = 17
_FLOAT, _INT64, _BOOL, _DOUBLE = 1, 7, 9, 11  # onnx.TensorProto
_MOST_BYTES = 2**31 - 2**20  # of weights in one ONNX file; its layers take the rest
_LAST = 2**63 - 1  # as the end of a slice: to the end


def write_onnx(
    graph: Graph, path: Path, *, outputs: Sequence[str] | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a net with its weights; inputs and outputs have their blobs' names.

    The number of items, and of axes from the third on the size, are free where the net takes twice as many and twice
    as large ones; else they are the graph's, as where an InnerProduct reads a map.

    Args:
        outputs: blobs; None takes the net's. What they do not depend on is left out.
        metadata: texts that the file holds by name.
    Raises: UsageError if the package onnx is not there; CaffeError that names a layer ONNX has not; DiskFull.
    """
    try:
        from onnx import helper
    except ImportError:
        raise UsageError(
            "ONNX files are written with the package onnx", "it is not installed", "pip install 'fullconv[onnx]'"
        ) from None
    wanted = graph.outputs if outputs is None else list(outputs)
    _check_outputs(graph, wanted)
    nodes = [node for node in graph.needed(wanted) if not node.layer.is_input]
    inputs = graph.needed_inputs(wanted)
    _check_bytes(graph, nodes)
    model = helper.make_model(
        helper.make_graph([], graph.name or "caffe", [], []),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="fullconv",
    )
    helper.set_model_props(model, dict(metadata or {}))
    work = _Work(graph, model.graph)
    for name in inputs:
        work.names[id(graph.cells[name])] = name
    for node in nodes:
        work.add(node)
    grown = _grown(graph, nodes, inputs)
    for name in inputs:
        cell = graph.cells[name]
        free = _words(cell, "" if len(inputs) == 1 else f"{name}.")
        model.graph.input.append(helper.make_tensor_value_info(name, _FLOAT, _sizes(cell, grown, free)))
    for name in wanted:
        cell, own = graph.cells[name], f"{name}.out" if name in inputs else name
        model.graph.node.append(helper.make_node("Identity", [work.of(cell)], [own], name=own))
        unnamed = [None] * len(cell.shape)
        model.graph.output.append(helper.make_tensor_value_info(own, _FLOAT, _sizes(cell, grown, unnamed)))
    write_bytes(path, model.SerializeToString())


def _check_outputs(graph: Graph, wanted: Sequence[str]) -> None:
    absent = [name for name in wanted if name not in graph.cells]
    if absent or not wanted:
        found = f"{graph.of} has no '{absent[0]}'" if absent else f"{graph.of} has none"
        raise CaffeError("an output is a blob of the net", found, ", ".join(graph.outputs) or "a net with an output")


def _check_bytes(graph: Graph, nodes: Sequence[Node]) -> None:
    size = sum(4 * count(shape) for node in nodes for shape in node.shapes)
    if size > _MOST_BYTES:
        raise CaffeError(
            "an ONNX file has at most 2 GB", f"the weights of {graph.of} have {size / 1e9:.1f}", "a smaller net"
        )


def _sizes(cell: Cell, grown: Sequence[Mapping[int, Shape]], free: Sequence[str | None]) -> list[int | str | None]:
    """A cell's shape, with a word for each axis that grows with the inputs."""
    return [
        free[axis] if any(shapes[id(cell)][axis] != size for shapes in grown) else size
        for axis, size in enumerate(cell.shape)
    ]


def _words(cell: Cell, prefix: str) -> list[str]:
    """What an input's free axes are called. Those of two inputs differ: axes of one name have one size."""
    words = ["batch", "channels", "height", "width"]
    if len(cell.shape) != 4:
        words = ["batch", *(f"axis{axis}" for axis in range(1, len(cell.shape)))]
    return [prefix + word for word in words]


def _grown(graph: Graph, nodes: Sequence[Node], inputs: Sequence[str]) -> list[dict[int, Shape]]:
    """Shapes of cells for inputs of twice as many items, and for inputs twice as large, where the net takes them."""
    doubled = [_shapes(graph, nodes, inputs, *by) for by in ((2, 1), (1, 2))]
    return [shapes for shapes in doubled if shapes is not None]


def _shapes(
    graph: Graph, nodes: Sequence[Node], inputs: Sequence[str], items: int, larger: int
) -> dict[int, Shape] | None:
    """Shapes of cells for inputs of so many times as many items, so many times as large; None where they do not fit."""
    shapes: dict[int, Shape] = {}
    for name in inputs:
        cell = graph.cells[name]
        factors = (items, 1, *[larger] * len(cell.shape))
        shapes[id(cell)] = tuple(size * by for size, by in zip(cell.shape, factors, strict=False))
    try:
        for node in nodes:
            bottoms = [shapes[id(cell)] for cell in node.bottoms]
            if [one.shape for one in node.layer.parameters(bottoms)] != node.shapes:
                return None
            shapes.update(zip(map(id, node.tops), node.layer.shapes(bottoms), strict=True))
    except CaffeError:
        return None
    return shapes


@dataclass
class _Work:
    """The ONNX graph so far; `names` are those of cells, as they are after the last layer that changed them."""

    graph: Graph
    proto: Any
    names: dict[int, str] = field(default_factory=dict)
    layer: str = ""
    made: int = 0

    def add(self, node: Node) -> None:
        """Add a layer. Raises: CaffeError if ONNX has it not."""
        kind, self.layer = str(node.layer.param.type), node.name
        if kind not in OPERATORS:
            raise self.refused(node, f"{kind} has no ONNX operator here")
        for cell, name in zip(node.tops, OPERATORS[kind](self, node), strict=True):
            self.names[id(cell)] = name

    def of(self, cell: Cell) -> str:
        return self.names[id(cell)]

    def op(self, kind: str, *inputs: str, **settings: Any) -> str:
        """Add an operator. Returns: its one output."""
        return self.ops(kind, inputs, 1, settings)[0]

    def ops(self, kind: str, inputs: Sequence[str], outputs: int, settings: Mapping[str, Any]) -> list[str]:
        from onnx import helper

        made = [self.named() for _ in range(outputs)]
        self.proto.node.append(helper.make_node(kind, inputs, made, name=made[0], **settings))
        return made

    def named(self) -> str:
        """A name that no other value has, and that tells the layer."""
        self.made += 1
        name = f"{self.layer}:{self.made}"
        return name if name not in self.graph.cells else self.named()

    def constant(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = self.named()
        self.proto.initializer.append(numpy_helper.from_array(values, name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def blobs(self, node: Node) -> list[str]:
        return [self.constant(values) for values in _blobs(node)]

    def refused(self, node: Node, why: str) -> CaffeError:
        return CaffeError(
            "a net that becomes ONNX is made of layers that ONNX has",
            f"{self.graph.of}: {node.layer.title}: {why}",
            "--output BLOB, or outputs=[...], of layers before it",
        )


def _blobs(node: Node) -> list[NDArray[Any]]:
    return [cell.data.reshape(shape).numpy() for cell, shape in zip(node.blobs, node.shapes, strict=True)]


# ---- layers: of the work and the node, the names of its tops --------------------------------------------------------

Operator = Callable[[_Work, Node], list[str]]


def _convolution(work: _Work, node: Node) -> list[str]:
    layer, shape = node.layer, node.bottoms[0].shape
    assert isinstance(layer, Convolution)
    if layer.channel_axis(shape) != 1:
        raise work.refused(node, "channels are not axis 1")
    window = layer.window(len(shape) - 2)
    transposed = isinstance(layer, Deconvolution)
    over = (e > n + 2 * p for e, n, p in zip(window.extent, shape[2:], window.pad, strict=True))
    if not transposed and any(over):
        raise work.refused(node, "its kernel is larger than its padded bottom")
    settings = {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": [*window.pad, *window.pad],
        "dilations": window.dilation,
        "group": layer.param.convolution_param.group,
    }
    blobs = work.blobs(node)
    kind = "ConvTranspose" if transposed else "Conv"
    return [work.op(kind, work.of(cell), *blobs, **settings) for cell in node.bottoms]


def _pooling(work: _Work, node: Node) -> list[str]:
    assert isinstance(node.layer, Pooling)
    param, x = node.layer.param.pooling_param, work.of(node.bottoms[0])
    if len(node.tops) > 1:
        raise work.refused(node, "a second top")
    mean = param.pool == "AVE"
    if param.global_pooling:
        return [work.op("GlobalAveragePool" if mean else "GlobalMaxPool", x)]
    window = node.layer.window(node.bottoms[0].shape)
    ends = _ends(window, ceil=param.round_mode == "CEIL")
    outside = any(end - pad >= kernel for end, pad, kernel in zip(ends, window.pad, window.kernel, strict=True))
    if mean and outside:
        raise work.refused(node, "a mean of windows that may lie outside of the map")
    if mean:
        return [_mean_of_windows(work, x, window, ends)]
    pads = [*window.pad, *ends]
    if outside:
        pads, x = [0, 0, 0, 0], _padded(work, x, window.pad, ends, float(np.finfo(np.float32).min))
    return [work.op("MaxPool", x, kernel_shape=window.kernel, strides=window.stride, pads=pads)]


def _ends(window: Window, *, ceil: bool) -> list[int]:
    """What to add behind each axis so that windows, counted rounding down, are as many as Caffe has.

    Rounding up is rounding down behind stride - 1 more. If any axis has a pad, Caffe drops a window that begins behind
    the map and its first pad: behind at most kernel - 1 there is none.
    """
    ends = [pad + (stride - 1 if ceil else 0) for pad, stride in zip(window.pad, window.stride, strict=True)]
    if max(window.pad) == 0:
        return ends
    return [min(end, kernel - 1) for end, kernel in zip(ends, window.kernel, strict=True)]


def _mean_of_windows(work: _Work, x: str, window: Window, ends: Sequence[int]) -> str:
    """Means in which the pad counts, and what lies beyond it does not."""
    if max(window.pad):
        x = _padded(work, x, window.pad, window.pad, 0.0)
    beyond = [end - pad for end, pad in zip(ends, window.pad, strict=True)]
    settings = {"kernel_shape": window.kernel, "strides": window.stride, "pads": [0, 0, *beyond]}
    return work.op("AveragePool", x, count_include_pad=0, **settings)


def _padded(work: _Work, x: str, before: Sequence[int], behind: Sequence[int], value: float) -> str:
    return work.op("Pad", x, work.ints(0, 0, *before, 0, 0, *behind), work.scalar(value))


def _crop(work: _Work, node: Node) -> list[str]:
    assert isinstance(node.layer, Crop)
    x, like = (work.of(cell) for cell in node.bottoms)
    cuts = node.layer.cuts(node.bottoms[0].shape, node.bottoms[1].shape)
    axes = [axis for axis, _, _ in cuts]
    first, size = work.ints(*(offset for _, offset, _ in cuts)), work.op("Shape", like, start=axes[0])
    cut = work.op("Slice", x, first, work.op("Add", size, first), work.ints(*axes))
    # a Slice that reaches beyond its input is cut short without a word; the Reshape refuses it
    return [_reshaped(work, cut, [0] * axes[0], [size])]


def _eltwise(work: _Work, node: Node) -> list[str]:
    param = node.layer.param.eltwise_param
    values = [work.of(cell) for cell in node.bottoms]
    if param.operation == "SUM" and param.coeff:
        values = [_scaled(work, value, by, 0) for value, by in zip(values, param.coeff, strict=True)]
    kind = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[param.operation]
    top = values[0]
    for value in values[1:]:
        top = work.op(kind, top, value)
    return [top]


def _scaled(work: _Work, x: str, scale: float, shift: float) -> str:
    """shift + scale x."""
    x = x if scale == 1 else work.op("Mul", x, work.scalar(scale))
    return x if shift == 0 else work.op("Add", x, work.scalar(shift))


def _scale(work: _Work, node: Node) -> list[str]:
    layer, shape = node.layer, node.bottoms[0].shape
    assert isinstance(layer, Scale | Bias)
    rest = [_laid(work, layer, cell, len(shape)) for cell in node.bottoms[1:]]
    pairs = zip(node.blobs, node.shapes, strict=True)
    rest += [work.constant(layer.laid(cell.data.reshape(own), shape).numpy()) for cell, own in pairs]
    top = work.of(node.bottoms[0])
    for kind, value in zip(["Mul", "Add"] if isinstance(layer, Scale) else ["Add"], rest, strict=False):
        top = work.op(kind, top, value)
    return [top]


def _laid(work: _Work, layer: Scale | Bias, cell: Cell, axes: int) -> str:
    """A bottom 1 with axes of 1 behind it, so that it is laid along its own axes of bottom 0."""
    own = len(cell.shape)
    behind = range(own, axes - layer.own.axis % axes)
    return work.op("Unsqueeze", work.of(cell), work.ints(*behind)) if behind else work.of(cell)


def _power(work: _Work, node: Node) -> list[str]:
    param, x = node.layer.param.power_param, work.of(node.bottoms[0])
    x = _scaled(work, x, param.scale, param.shift)
    return [x if param.power == 1 else work.op("Pow", x, work.scalar(param.power))]


def _exp(work: _Work, node: Node) -> list[str]:
    param, x = node.layer.param.exp_param, work.of(node.bottoms[0])
    logarithm = 1.0 if param.base == -1 else math.log(param.base)
    return [work.op("Exp", _scaled(work, x, logarithm * param.scale, logarithm * param.shift))]


def _log(work: _Work, node: Node) -> list[str]:
    param, x = node.layer.param.log_param, work.of(node.bottoms[0])
    logarithm = 1.0 if param.base == -1 else math.log(param.base)
    return [_scaled(work, work.op("Log", _scaled(work, x, param.scale, param.shift)), 1 / logarithm, 0)]


def _relu(work: _Work, node: Node) -> list[str]:
    slope, x = node.layer.param.relu_param.negative_slope, work.of(node.bottoms[0])
    return [work.op("Relu", x) if slope == 0 else work.op("LeakyRelu", x, alpha=slope)]


def _prelu(work: _Work, node: Node) -> list[str]:
    slope = _blobs(node)[0].reshape(-1, *[1] * (len(node.bottoms[0].shape) - 2))
    return [work.op("PRelu", work.of(node.bottoms[0]), work.constant(slope))]


def _swish(work: _Work, node: Node) -> list[str]:
    x = work.of(node.bottoms[0])
    return [work.op("Mul", x, work.op("Sigmoid", _scaled(work, x, node.layer.param.swish_param.beta, 0)))]


def _clip(work: _Work, node: Node) -> list[str]:
    param = node.layer.param.clip_param
    return [work.op("Clip", work.of(node.bottoms[0]), work.scalar(param.min), work.scalar(param.max))]


def _threshold(work: _Work, node: Node) -> list[str]:
    threshold = work.scalar(node.layer.param.threshold_param.threshold)
    return [work.op("Cast", work.op("Greater", work.of(node.bottoms[0]), threshold), to=_FLOAT)]


def _dropout(work: _Work, node: Node) -> list[str]:
    if node.layer.phase == "TRAIN":
        raise work.refused(node, "a random mask, in TRAIN")
    return [work.of(node.bottoms[0])]


# ---- relations to others around -------------------------------------------------------------------------------------


def _inner_product(work: _Work, node: Node) -> list[str]:
    param = node.layer.param.inner_product_param
    weight, *bias = _blobs(node)
    columns = work.constant(weight if param.transpose else weight.T)
    top = work.op("MatMul", _flat(work, node.bottoms[0], param.axis), columns)
    return [work.op("Add", top, work.constant(bias[0])) if bias else top]


def _embed(work: _Work, node: Node) -> list[str]:
    table, *bias = work.blobs(node)
    top = work.op("Gather", table, work.op("Cast", work.of(node.bottoms[0]), to=_INT64))
    return [work.op("Add", top, bias[0]) if bias else top]


def _lrn(work: _Work, node: Node) -> list[str]:
    param, x = node.layer.param.lrn_param, work.of(node.bottoms[0])
    size = param.local_size
    if param.norm_region == "ACROSS_CHANNELS":
        return [work.op("LRN", x, size=size, alpha=param.alpha, beta=param.beta, bias=param.k)]
    window = Window((size, size), (1, 1), (size // 2, size // 2), (1, 1))
    means = _mean_of_windows(work, work.op("Mul", x, x), window, window.pad)
    return [work.op("Mul", x, work.op("Pow", _scaled(work, means, param.alpha, 1), work.scalar(-param.beta)))]


def _batch_norm(work: _Work, node: Node) -> list[str]:
    assert isinstance(node.layer, BatchNorm)
    if not node.layer.stored:
        raise work.refused(node, "the batch's own mean and variance")
    if len(node.bottoms[0].shape) < 2:
        raise work.refused(node, "a bottom of one axis")
    mean, variance = (one.numpy() for one in node.layer.statistics([cell.data for cell in node.blobs]))
    values = [work.constant(one) for one in (np.ones_like(mean), np.zeros_like(mean), mean, variance)]
    eps = node.layer.param.batch_norm_param.eps
    return [work.op("BatchNormalization", work.of(node.bottoms[0]), *values, epsilon=eps)]


def _mvn(work: _Work, node: Node) -> list[str]:
    param, x = node.layer.param.mvn_param, work.of(node.bottoms[0])
    axes = list(range(1 if param.across_channels else 2, len(node.bottoms[0].shape)))
    if not axes:
        raise work.refused(node, "a bottom without the axes that its mean is of")
    mean = work.op("ReduceMean", work.op("Cast", x, to=_DOUBLE), axes=axes)  # exact where all are equal
    even = work.op("Sub", x, work.op("Cast", mean, to=_FLOAT))
    if not param.normalize_variance:
        return [even]
    deviation = work.op("Sqrt", work.op("ReduceMean", work.op("Mul", even, even), axes=axes))
    return [work.op("Div", even, _scaled(work, deviation, 1, param.eps))]


# ---- shapes ---------------------------------------------------------------------------------------------------------


def _reshaped(work: _Work, x: str, first: Sequence[int], rest: Sequence[str] = ()) -> str:
    """The same numbers, as large as `first` says (0: as before, -1: what is left), and behind that as `rest` does."""
    sizes = work.ints(*first)
    return work.op("Reshape", x, work.op("Concat", sizes, *rest, axis=0) if rest else sizes)


def _sizes_from(work: _Work, x: str, axis: int, axes: int) -> list[str]:
    """Sizes of the axes from one on, in one value; none if there are none."""
    return [work.op("Shape", x, start=axis)] if axis < axes else []


def _flat(work: _Work, cell: Cell, first: int, last: int = -1) -> str:
    """The axes from `first` to `last`, both included, as one."""
    x, axes = work.of(cell), len(cell.shape)
    return _reshaped(work, x, [*[0] * (first % axes), -1], _sizes_from(work, x, last % axes + 1, axes))


def _flatten(work: _Work, node: Node) -> list[str]:
    param = node.layer.param.flatten_param
    return [_flat(work, node.bottoms[0], param.axis, param.end_axis)]


def _reshape(work: _Work, node: Node) -> list[str]:
    param, x, axes = node.layer.param.reshape_param, work.of(node.bottoms[0]), len(node.bottoms[0].shape)
    first = param.axis if param.axis >= 0 else axes + param.axis + 1
    last = axes if param.num_axes == -1 else first + param.num_axes
    return [_reshaped(work, x, [*[0] * first, *param.shape.dim], _sizes_from(work, x, last, axes))]


def _slice(work: _Work, node: Node) -> list[str]:
    param, x = node.layer.param.slice_param, work.of(node.bottoms[0])
    axis = param.slice_dim if param.has("slice_dim") else param.axis
    points = list(param.slice_point)
    if not points:
        return work.ops("Split", [x], len(node.tops), {"axis": axis})
    return [
        work.op("Slice", x, work.ints(first), work.ints(last), work.ints(axis))
        for first, last in zip([0, *points], [*points, _LAST], strict=True)
    ]


def _concat(work: _Work, node: Node) -> list[str]:
    param = node.layer.param.concat_param
    axis = param.concat_dim if param.has("concat_dim") else param.axis
    return [work.op("Concat", *map(work.of, node.bottoms), axis=axis)]


def _tile(work: _Work, node: Node) -> list[str]:
    param, axes = node.layer.param.tile_param, len(node.bottoms[0].shape)
    times = [param.tiles if axis == param.axis % axes else 1 for axis in range(axes)]
    return [work.op("Tile", work.of(node.bottoms[0]), work.ints(*times))]


def _reduction(work: _Work, node: Node) -> list[str]:
    param, x, axes = node.layer.param.reduction_param, work.of(node.bottoms[0]), len(node.bottoms[0].shape)
    over = list(range(param.axis % axes, axes))
    if param.operation == "SUM":  # the one reduction of this opset whose axes are an input
        top = work.op("ReduceSum", x, work.ints(*over), keepdims=0)
    else:
        kind = {"ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[param.operation]
        top = work.op(kind, x, axes=over, keepdims=0)
    return [_scaled(work, top, param.coeff, 0)]


def _batch_reindex(work: _Work, node: Node) -> list[str]:
    x, rows = map(work.of, node.bottoms)
    return [work.op("Gather", x, work.op("Cast", rows, to=_INT64))]


def _filter(work: _Work, node: Node) -> list[str]:
    *values, chosen = map(work.of, node.bottoms)
    chosen = work.op("Cast", work.op("Reshape", chosen, work.ints(-1)), to=_BOOL)
    return [work.op("Compress", value, chosen, axis=0) for value in values]


def _arg_max(work: _Work, node: Node) -> list[str]:
    param, cell = node.layer.param.argmax_param, node.bottoms[0]
    if param.has("axis"):
        find = _highest if param.out_max_val else _places_of_highest
        return [find(work, work.of(cell), param.axis, param.top_k)]
    rows, axes = _flat(work, cell, 1), work.ints(1, *range(3, len(cell.shape)))
    finds = [_places_of_highest, _highest] if param.out_max_val else [_places_of_highest]
    tops = [work.op("Unsqueeze", find(work, rows, 1, param.top_k), axes) for find in finds]
    return [work.op("Concat", *tops, axis=1)]


def _highest(work: _Work, x: str, axis: int, number: int) -> str:
    return work.ops("TopK", [x, work.ints(number)], 2, {"axis": axis})[0]


def _places_of_highest(work: _Work, x: str, axis: int, number: int) -> str:
    """Of equal ones the last comes first."""
    if number == 1:
        return work.op("Cast", work.op("ArgMax", x, axis=axis, select_last_index=1), to=_FLOAT)
    backwards = work.op("Slice", x, work.ints(-1), work.ints(-_LAST), work.ints(axis), work.ints(-1))
    places = work.ops("TopK", [backwards, work.ints(number)], 2, {"axis": axis})[1]
    size = work.op("Gather", work.op("Shape", x), work.ints(axis))
    return work.op("Cast", work.op("Sub", work.op("Sub", size, work.ints(1)), places), to=_FLOAT)


def _plainly(kind: str, settings: Callable[[Node], dict[str, Any]] = lambda node: {}) -> Operator:
    return lambda work, node: [work.op(kind, work.of(node.bottoms[0]), **settings(node))]


OPERATORS: Mapping[str, Operator] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Pooling": _pooling,
    "Crop": _crop,
    "ReLU": _relu,
    "PReLU": _prelu,
    "ELU": _plainly("Elu", lambda node: {"alpha": node.layer.param.elu_param.alpha}),
    "Sigmoid": _plainly("Sigmoid"),
    "TanH": _plainly("Tanh"),
    "AbsVal": _plainly("Abs"),
    "BNLL": _plainly("Softplus"),
    "Swish": _swish,
    "Clip": _clip,
    "Power": _power,
    "Exp": _exp,
    "Log": _log,
    "Threshold": _threshold,
    "Dropout": _dropout,
    "Eltwise": _eltwise,
    "Scale": _scale,
    "Bias": _scale,
    "InnerProduct": _inner_product,
    "Embed": _embed,
    "LRN": _lrn,
    "BatchNorm": _batch_norm,
    "MVN": _mvn,
    "Softmax": _plainly("Softmax", lambda node: {"axis": node.layer.param.softmax_param.axis}),
    "Split": lambda work, node: [work.of(node.bottoms[0])] * len(node.tops),
    "Concat": _concat,
    "Slice": _slice,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Tile": _tile,
    "Reduction": _reduction,
    "BatchReindex": _batch_reindex,
    "Filter": _filter,
    "ArgMax": _arg_max,
    "Parameter": lambda work, node: work.blobs(node),
}
