"""A Caffe net as an ONNX file that takes photos of any size. Road: caffe, beside the graph. Needs the extra "onnx".

Height, width and the number of photos are free: Crop asks for the size of its second bottom as it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import CaffeError, UsageError
from fullconv.base.files import write_bytes
from fullconv.caffe.graph import Cell, Graph, Node
from fullconv.caffe.spatial import Convolution, Pooling

OPSET = 17
_MOST_BYTES = 2**31 - 1  # of one ONNX file


def write_onnx(graph: Graph, path: Path, *, outputs: list[str] | None = None) -> None:
    """Write a net with its weights.

    Args:
        outputs: blobs; None takes the net's.
    Raises: UsageError if the package onnx is not there; CaffeError for layers that ONNX has not; DiskFull.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError:
        raise UsageError(
            "ONNX files are written with the package onnx", "it is not installed", "pip install 'fullconv[onnx]'"
        ) from None
    work = _Work(graph)
    wanted = outputs or graph.outputs
    for name in graph.inputs:
        work.names[id(graph.cells[name])] = name
    for node in graph.nodes:
        if node.layer.is_input:
            continue
        kind = str(node.layer.param.type)
        if kind not in OPERATORS:
            raise work.refused(node, f"{kind} has no ONNX operator here")
        OPERATORS[kind](work, node)
    for name in wanted:
        work.op("Identity", [work.of(graph.cells[name])], [f"{name}.out" if name in graph.inputs else f"scores.{name}"])

    def free(name: str, cell: Cell, own: str) -> Any:
        known = ["batch", cell.shape[1], "height", "width"] if len(cell.shape) == 4 else list(cell.shape)
        sizes = known if own == "input" else [one if place == 1 else None for place, one in enumerate(cell.shape)]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

    made = helper.make_graph(
        work.nodes,
        graph.name or "caffe",
        [free(name, graph.cells[name], "input") for name in graph.inputs],
        [free(f"scores.{name}", graph.cells[name], "output") for name in wanted],
        work.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    data = model.SerializeToString()
    if len(data) > _MOST_BYTES:
        raise CaffeError("an ONNX file has at most 2 GB", f"{graph.of} has {len(data) / 1e9:.1f}", "a smaller net")
    checker.check_model(model)
    write_bytes(path, data)


@dataclass
class _Work:
    """The ONNX graph so far; `names` are those of cells, as they are after the last layer that changed them."""

    graph: Graph
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    number: int = 0

    def of(self, cell: Cell) -> str:
        return self.names[id(cell)]

    def op(self, kind: str, inputs: list[str], outputs: list[str] | None = None, **settings: Any) -> str:
        """Add an operator; the name of its first output."""
        from onnx import helper

        self.number += 1
        made = outputs or [f"{kind}.{self.number}"]
        self.nodes.append(helper.make_node(kind, inputs, made, name=f"{kind}_{self.number}", **settings))
        return made[0]

    def constant(self, values: NDArray[Any], name: str = "constant") -> str:
        from onnx import numpy_helper

        self.number += 1
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), f"{name}.{self.number}"))
        return f"{name}.{self.number}"

    def blobs(self, node: Node) -> list[str]:
        pairs = zip(node.blobs, node.shapes, strict=True)
        return [self.constant(cell.data.reshape(shape).numpy(), node.name) for cell, shape in pairs]

    def top(self, node: Node, name: str) -> None:
        self.names[id(node.tops[0])] = name

    def refused(self, node: Node, why: str) -> CaffeError:
        return CaffeError(
            "a net that becomes ONNX is made of layers that ONNX has",
            f"{self.graph.of}: {node.layer.title}: {why}",
            "outputs=[...] that come before it",
        )


Operator = Callable[[_Work, Node], None]


def _convolution(work: _Work, node: Node) -> None:
    assert isinstance(node.layer, Convolution)
    if len(node.bottoms) != 1 or len(node.shapes[0]) != 4:
        raise work.refused(node, "several bottoms, or not 2 spatial axes")
    window, group = node.layer.window(2), node.layer.param.convolution_param.group
    kind = "ConvTranspose" if node.layer.param.type == "Deconvolution" else "Conv"
    settings = {"kernel_shape": window.kernel, "strides": window.stride, "dilations": window.dilation}
    pads = [*window.pad, *window.pad]
    work.top(node, work.op(kind, [work.of(node.bottoms[0]), *work.blobs(node)], pads=pads, group=group, **settings))


def _pooling(work: _Work, node: Node) -> None:
    assert isinstance(node.layer, Pooling)
    param, x = node.layer.param.pooling_param, work.of(node.bottoms[0])
    if len(node.tops) > 1:
        raise work.refused(node, "a second top")
    mean = param.pool == "AVE"
    if param.global_pooling:
        work.top(node, work.op("GlobalAveragePool" if mean else "GlobalMaxPool", [x]))
        return
    window = node.layer.window((1, 1, 1 << 20, 1 << 20))
    if max(window.pad) and mean:
        raise work.refused(node, "a mean with a pad, whose divisor ONNX takes otherwise")
    settings = {"kernel_shape": window.kernel, "strides": window.stride, "pads": [*window.pad, *window.pad]}
    ceil = int(param.round_mode == "CEIL")
    work.top(node, work.op("AveragePool" if mean else "MaxPool", [x], ceil_mode=ceil, **settings))


def _inner_product(work: _Work, node: Node) -> None:
    param = node.layer.param.inner_product_param
    if param.axis != 1:
        raise work.refused(node, f"axis {param.axis}")
    flat = work.op("Flatten", [work.of(node.bottoms[0])], axis=1)
    work.top(node, work.op("Gemm", [flat, *work.blobs(node)], transB=int(not param.transpose)))


def _crop(work: _Work, node: Node) -> None:
    param = node.layer.param.crop_param
    if param.axis not in (2, -2):
        raise work.refused(node, f"axis {param.axis}")
    offsets = list(param.offset) or [0]
    first = work.constant(np.array(offsets if len(offsets) == 2 else offsets * 2, np.int64))
    size = work.op("Shape", [work.of(node.bottoms[1])], start=2, end=4)
    last = work.op("Add", [size, first])
    axes = work.constant(np.array([2, 3], np.int64))
    work.top(node, work.op("Slice", [work.of(node.bottoms[0]), first, last, axes]))


def _eltwise(work: _Work, node: Node) -> None:
    param = node.layer.param.eltwise_param
    values = [work.of(cell) for cell in node.bottoms]
    for place, by in enumerate(param.coeff if param.operation == "SUM" else ()):
        if by != 1:
            values[place] = work.op("Mul", [values[place], work.constant(np.float32(by))])
    kind = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[param.operation]
    top = values[0]
    for value in values[1:]:
        top = work.op(kind, [top, value])
    work.top(node, top)


def _scale(work: _Work, node: Node) -> None:
    bias_alone = node.layer.param.type == "Bias"
    param = node.layer.param.bias_param if bias_alone else node.layer.param.scale_param
    if len(node.bottoms) > 1 or param.axis != 1 or param.num_axes != 1 or len(node.tops[0].shape) != 4:
        raise work.refused(node, "two bottoms, or not one number a channel")
    top = work.of(node.bottoms[0])
    for kind, cell in zip(["Add"] if bias_alone else ["Mul", "Add"], node.blobs, strict=False):
        top = work.op(kind, [top, work.constant(cell.data.reshape(-1, 1, 1).numpy(), node.name)])
    work.top(node, top)


def _batch_norm(work: _Work, node: Node) -> None:
    means, variances, factor = (cell.data.numpy() for cell in node.blobs)
    by = np.float32(0 if factor[0] == 0 else 1 / factor[0])
    ones = np.ones_like(means)
    stored = [work.constant(one, node.name) for one in (ones, 0 * ones, means * by, variances * by)]
    eps = node.layer.param.batch_norm_param.eps
    work.top(node, work.op("BatchNormalization", [work.of(node.bottoms[0]), *stored], epsilon=eps))


def _lrn(work: _Work, node: Node) -> None:
    param = node.layer.param.lrn_param
    if param.norm_region != "ACROSS_CHANNELS":
        raise work.refused(node, param.norm_region)
    settings = {"size": param.local_size, "alpha": param.alpha, "beta": param.beta, "bias": param.k}
    work.top(node, work.op("LRN", [work.of(node.bottoms[0])], **settings))


def _prelu(work: _Work, node: Node) -> None:
    slope = node.blobs[0].data.reshape(-1, *[1] * (len(node.tops[0].shape) - 2)).numpy()
    work.top(node, work.op("PRelu", [work.of(node.bottoms[0]), work.constant(slope, node.name)]))


def _power(work: _Work, node: Node) -> None:
    param, top = node.layer.param.power_param, work.of(node.bottoms[0])
    for kind, value, nothing in (("Mul", param.scale, 1), ("Add", param.shift, 0), ("Pow", param.power, 1)):
        if value != nothing:
            top = work.op(kind, [top, work.constant(np.float32(value))])
    work.top(node, top)


def _slice(work: _Work, node: Node) -> None:
    param = node.layer.param.slice_param
    axis = param.slice_dim if param.has("slice_dim") else param.axis
    sizes = work.constant(np.array([cell.shape[axis] for cell in node.tops], np.int64))
    made = [f"{cell.name}.{node.name}" for cell in node.tops]
    work.op("Split", [work.of(node.bottoms[0]), sizes], made, axis=axis)
    for cell, name in zip(node.tops, made, strict=True):
        work.names[id(cell)] = name


def _concat(work: _Work, node: Node) -> None:
    param = node.layer.param.concat_param
    axis = param.concat_dim if param.has("concat_dim") else param.axis
    work.top(node, work.op("Concat", [work.of(cell) for cell in node.bottoms], axis=axis))


def _relu(work: _Work, node: Node) -> None:
    slope, x = node.layer.param.relu_param.negative_slope, [work.of(node.bottoms[0])]
    work.top(node, work.op("Relu", x) if slope == 0 else work.op("LeakyRelu", x, alpha=slope))


def _same(work: _Work, node: Node) -> None:
    for cell in node.tops:
        work.names[id(cell)] = work.of(node.bottoms[0])


def _plainly(kind: str, settings: Callable[[Node], dict[str, Any]] = lambda node: {}) -> Operator:
    return lambda work, node: work.top(node, work.op(kind, [work.of(node.bottoms[0])], **settings(node)))


OPERATORS: Mapping[str, Operator] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Pooling": _pooling,
    "InnerProduct": _inner_product,
    "Crop": _crop,
    "Eltwise": _eltwise,
    "Scale": _scale,
    "Bias": _scale,
    "BatchNorm": _batch_norm,
    "LRN": _lrn,
    "PReLU": _prelu,
    "Power": _power,
    "Slice": _slice,
    "Concat": _concat,
    "ReLU": _relu,
    "Dropout": _same,
    "Split": _same,
    "ELU": _plainly("Elu", lambda node: {"alpha": node.layer.param.elu_param.alpha}),
    "Sigmoid": _plainly("Sigmoid"),
    "TanH": _plainly("Tanh"),
    "AbsVal": _plainly("Abs"),
    "Flatten": _plainly("Flatten", lambda node: {"axis": node.layer.param.flatten_param.axis}),
    "Softmax": _plainly("Softmax", lambda node: {"axis": node.layer.param.softmax_param.axis}),
}
