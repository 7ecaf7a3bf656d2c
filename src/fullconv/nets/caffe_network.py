"""A Caffe net as a torch network that can be followed. Road: nets, after graph and preparation.

In: a graph of Caffe layers with its weights. Out: a GraphModule of torch's own layers, which surgery, geometry and
costs know. It takes photos of any size and number, as the graph does.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from fullconv.base.errors import NetError
from fullconv.caffe.graph import Cell, Graph, Node
from fullconv.caffe.normalising import BatchNorm
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.spatial import Convolution, Pooling
from fullconv.caffe.weights import fit_weights
from fullconv.nets.graph import Size
from fullconv.nets.preparation import Preparation

_INSTEAD = "run it by fullconv.caffe.Net, which runs all its layers"
_AFTER_SCORES = ("Softmax", "ArgMax", "Split")
_MAP = 4  # axes of a blob of maps, (N, C, H, W)

CAFFE_PHOTO = Preparation("BGR", (104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0))
"""What Caffe's ImageNet nets, and the FCN authors', read where no other preparation is named."""


def read_caffe(prototxt: Path, caffemodel: Path) -> tuple[fx.GraphModule, Size, list[str]]:
    """The scores of a Caffe classifier as a network, the size of photo that its prototxt says, layers without weights.

    Args:
        prototxt: its deploy file, which begins with an input; a softmax or ArgMax at its end is left out.
    Raises: CaffeError, WeightsError if the files cannot be read or do not fit; NetError if it is no classifier.
    """
    graph = Graph(read_prototxt(prototxt), of=str(prototxt), folder=prototxt.parent)
    without = fit_weights(graph, caffemodel)
    shapes = [list(graph.cells[name].shape) for name in graph.inputs]
    if len(graph.outputs) != 1 or len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3:
        raise NetError(
            "a Caffe classifier reads one blob of photos, N x 3 x H x W, and gives one of scores",
            f"{prototxt} reads {graph.inputs} of shape {shapes} and gives {graph.outputs}",
            "give its deploy.prototxt, which has an input in place of data and no loss; "
            "a net of other inputs is run by fullconv.caffe.Net",
        )
    return network_of(graph, scores_of(graph)), (shapes[0][2], shapes[0][3]), without


def scores_of(graph: Graph, output: str | None = None) -> str:
    """The blob of scores: the one asked for, or what lies under the last output's softmax and ArgMax.

    Args:
        output: a blob; None takes the last output by name.
    Raises: NetError if there is no such blob, or no output.
    """
    if output is not None and output not in graph.cells:
        raise NetError(
            "the scores are a blob of the net",
            f"{graph.of} has no '{output}'",
            f"one of its blobs; its outputs are {', '.join(graph.outputs) or 'none'}",
        )
    if output is not None:
        return output
    if not graph.outputs:
        raise NetError(
            "a net of scores has an output",
            f"{graph.of} has none: its layers read all blobs",
            "take out the last layer",
        )
    cell = graph.cells[graph.outputs[-1]]
    makers = {id(top): node for node in graph.nodes for top in node.tops}
    while (maker := makers[id(cell)]).layer.param.type in _AFTER_SCORES and maker.bottoms[0] is not cell:
        cell = maker.bottoms[0]
    return cell.name


def network_of(graph: Graph, output: str) -> fx.GraphModule:
    """The network that computes one blob of a graph from its one input, in evaluation mode; weights are copied.

    Args:
        output: the blob.
    Raises: NetError if the graph has several inputs that the blob depends on, or layers that no torch layer stands for.
    """
    work = _Work(graph)
    inputs = graph.needed_inputs([output])
    if len(inputs) != 1:
        raise NetError("a network has one input", f"{graph.of}: '{output}' depends on {inputs}", _INSTEAD)
    work.values[id(graph.cells[inputs[0]])] = work.module.graph.placeholder(plain_name(inputs[0]))
    for node in graph.needed([output]):
        if node.layer.is_input:
            continue
        kind = str(node.layer.param.type)
        if kind not in TORCH_LAYERS:
            raise work.refused(node, f"{kind} has no torch layer here")
        for cell, value in zip(node.tops, TORCH_LAYERS[kind](work, node), strict=True):
            work.values[id(cell)] = value
    work.module.graph.output(work.values[id(graph.cells[output])])
    work.module.graph.lint()
    work.module.recompile()
    return work.module.eval()


@dataclass
class _Work:
    """The torch.fx graph so far; `values` are those of cells, as they are after the last layer that changed them."""

    graph: Graph
    module: fx.GraphModule = field(default_factory=lambda: fx.GraphModule(nn.Module(), fx.Graph()))
    values: dict[int, fx.Node] = field(default_factory=dict)

    def of(self, cell: Cell) -> fx.Node:
        return self.values[id(cell)]

    def layer(self, node: Node, layer: nn.Module, weights: Mapping[str, Tensor] | None = None) -> fx.Node:
        """A call of a torch layer on the node's first bottom, under the node's name."""
        return self.layer_on(node, layer, self.of(node.bottoms[0]), weights)

    def layer_on(
        self, node: Node, layer: nn.Module, x: fx.Node, weights: Mapping[str, Tensor] | None = None
    ) -> fx.Node:
        path = plain_name(node.name)
        while hasattr(self.module, path):
            path += "_"
        for name, values in (weights or {}).items():
            own = values.detach().clone()
            setattr(layer, name, nn.Parameter(own) if isinstance(getattr(layer, name), nn.Parameter) else own)
        self.module.add_submodule(path, layer.eval())
        return self.module.graph.call_module(path, (x,))

    def call(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> fx.Node:
        return self.module.graph.call_function(function, arguments, settings)

    def refused(self, node: Node, why: str) -> NetError:
        return NetError(
            "a Caffe net that becomes a torch network is made of layers that torch has",
            f"{self.graph.of}: {node.layer.title}: {why}",
            _INSTEAD,
        )


def plain_name(name: str) -> str:
    """A name that Python takes."""
    plain = re.sub(r"\W+", "_", name).strip("_") or "layer"
    return f"_{plain}" if plain[0].isdigit() else plain


# ---- layers: of the work and the node, the nodes of its tops --------------------------------------------------------


def _weights(node: Node) -> dict[str, Tensor]:
    names = ("weight", "bias")
    return {name: cell.data.reshape(shape) for name, cell, shape in zip(names, node.blobs, node.shapes, strict=False)}


def _convolution(work: _Work, node: Node) -> list[fx.Node]:
    assert isinstance(node.layer, Convolution)
    if len(node.bottoms) != 1 or len(node.shapes[0]) != _MAP or len(node.bottoms[0].shape) != _MAP:
        raise work.refused(node, "several bottoms, or not 2 spatial axes")
    param, window = node.layer.param.convolution_param, node.layer.window(2)
    weights = _weights(node)
    transposed = node.layer.param.type == "Deconvolution"
    first, second = node.shapes[0][:2]
    channels, outputs = (first, second * param.group) if transposed else (second * param.group, first)
    kind: Any = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(
        channels,
        outputs,
        window.kernel,
        window.stride,
        window.pad,
        dilation=window.dilation,
        groups=param.group,
        bias="bias" in weights,
        device="meta",
    )
    return [work.layer(node, layer, weights)]


def _pooling(work: _Work, node: Node) -> list[fx.Node]:
    assert isinstance(node.layer, Pooling)
    param = node.layer.param.pooling_param
    if len(node.tops) > 1:
        raise work.refused(node, "a second top")
    if param.global_pooling:
        return [work.layer(node, nn.AdaptiveMaxPool2d(1) if param.pool == "MAX" else nn.AdaptiveAvgPool2d(1))]
    window = node.layer.window((1, 1, 1 << 20, 1 << 20))
    pairs = zip(window.kernel, window.stride, window.pad, strict=True)
    if any(2 * pad > kernel or stride > kernel for kernel, stride, pad in pairs):
        raise work.refused(node, "a pad over half of the kernel, or a stride over it")
    kind: Any = nn.MaxPool2d if param.pool == "MAX" else nn.AvgPool2d
    return [work.layer(node, kind(window.kernel, window.stride, window.pad, ceil_mode=param.round_mode == "CEIL"))]


def _inner_product(work: _Work, node: Node) -> list[fx.Node]:
    param, weights = node.layer.param.inner_product_param, _weights(node)
    if param.axis != 1:
        raise work.refused(node, f"axis {param.axis}")
    if param.transpose:
        weights["weight"] = weights["weight"].T
    outputs, channels = weights["weight"].shape
    flat = work.layer(node, nn.Flatten(1))
    return [work.layer_on(node, nn.Linear(channels, outputs, "bias" in weights, device="meta"), flat, weights)]


def _relu(work: _Work, node: Node) -> list[fx.Node]:
    slope = node.layer.param.relu_param.negative_slope
    return [work.layer(node, nn.ReLU() if slope == 0 else nn.LeakyReLU(slope))]


def _prelu(work: _Work, node: Node) -> list[fx.Node]:
    slope = node.blobs[0].data.reshape(-1)
    return [work.layer(node, nn.PReLU(len(slope)), {"weight": slope})]


def _lrn(work: _Work, node: Node) -> list[fx.Node]:
    param = node.layer.param.lrn_param
    if param.norm_region != "ACROSS_CHANNELS":
        raise work.refused(node, param.norm_region)
    return [work.layer(node, nn.LocalResponseNorm(param.local_size, param.alpha, param.beta, param.k))]


def _batch_norm(work: _Work, node: Node) -> list[fx.Node]:
    assert isinstance(node.layer, BatchNorm)
    if not node.layer.stored:
        raise work.refused(
            node, "it goes by the batch's own numbers, so that a photo's scores depend on its neighbours"
        )
    blobs = [cell.data for cell in node.blobs]
    layer = _norm_for(work, node)(len(blobs[0]), eps=node.layer.param.batch_norm_param.eps, affine=False)
    if blobs[0].is_meta:
        return [work.layer(node, layer)]
    mean, variance = node.layer.statistics(blobs)
    return [work.layer(node, layer, {"running_mean": mean, "running_var": variance})]


def _norm_for(work: _Work, node: Node) -> type[nn.modules.batchnorm._BatchNorm]:
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    axes = len(node.bottoms[0].shape)
    if axes not in kinds:
        raise work.refused(node, f"its bottom has {axes} axes")
    return kinds[axes]


def _scale(work: _Work, node: Node) -> list[fx.Node]:
    """A convolution of 1 x 1, a group a channel; where there are no rows and columns a norm that only scales."""
    bias_alone = node.layer.param.type == "Bias"
    param = node.layer.param.bias_param if bias_alone else node.layer.param.scale_param
    if len(node.bottoms) > 1 or param.axis != 1 or param.num_axes != 1:
        raise work.refused(node, "two bottoms, or not one number a channel")
    channels = node.shapes[0][0]
    weights = _weights(node)
    if bias_alone:
        weights = {"weight": torch.ones(channels), "bias": weights["weight"]}
    if len(node.bottoms[0].shape) != _MAP:
        still = {"running_mean": torch.zeros(channels), "running_var": torch.ones(channels)}
        weights = {"bias": torch.zeros(channels), **still, **weights}
        return [work.layer(node, _norm_for(work, node)(channels, eps=0.0), weights)]
    weights["weight"] = weights["weight"].reshape(-1, 1, 1, 1)
    layer = nn.Conv2d(channels, channels, 1, groups=channels, bias="bias" in weights, device="meta")
    return [work.layer(node, layer, weights)]


def _flatten(work: _Work, node: Node) -> list[fx.Node]:
    param = node.layer.param.flatten_param
    return [work.layer(node, nn.Flatten(param.axis, param.end_axis))]


def _eltwise(work: _Work, node: Node) -> list[fx.Node]:
    param = node.layer.param.eltwise_param
    values = [work.of(cell) for cell in node.bottoms]
    coefficients = list(param.coeff) or [1.0] * len(values)
    if param.operation == "SUM":
        values = [v if by == 1 else work.call(operator.mul, v, by) for v, by in zip(values, coefficients, strict=True)]
    function = {"SUM": operator.add, "PROD": operator.mul, "MAX": torch.maximum}[param.operation]
    top = values[0]
    for value in values[1:]:
        top = work.call(function, top, value)
    return [top]


def _power(work: _Work, node: Node) -> list[fx.Node]:
    param = node.layer.param.power_param
    top = work.of(node.bottoms[0])
    top = top if param.scale == 1 else work.call(operator.mul, top, param.scale)
    top = top if param.shift == 0 else work.call(operator.add, top, param.shift)
    return [top if param.power == 1 else work.call(operator.pow, top, param.power)]


def _crop(work: _Work, node: Node) -> list[fx.Node]:
    param = node.layer.param.crop_param
    if param.axis not in (2, -2):
        raise work.refused(node, f"axis {param.axis}")
    offsets = list(param.offset) or [0]
    offsets = offsets if len(offsets) == 2 else offsets * 2
    value, like = (work.of(cell) for cell in node.bottoms)
    ends = [
        work.call(operator.add, work.module.graph.call_method("size", (like, axis)), offset)
        for axis, offset in zip((2, 3), offsets, strict=True)
    ]
    whole = slice(None)
    rows, columns = (slice(offset, end) for offset, end in zip(offsets, ends, strict=True))
    return [work.call(operator.getitem, value, (whole, whole, rows, columns))]


def _slice(work: _Work, node: Node) -> list[fx.Node]:
    param = node.layer.param.slice_param
    axis = param.slice_dim if param.has("slice_dim") else param.axis
    if axis != 1:
        raise work.refused(node, f"axis {axis}")
    found, first = [], 0
    for cell in node.tops:
        last = first + cell.shape[1]
        found.append(work.call(operator.getitem, work.of(node.bottoms[0]), (slice(None), slice(first, last))))
        first = last
    return found


def _concat(work: _Work, node: Node) -> list[fx.Node]:
    param = node.layer.param.concat_param
    axis = param.concat_dim if param.has("concat_dim") else param.axis
    return [work.call(torch.cat, [work.of(cell) for cell in node.bottoms], axis)]


def _plainly(make: Callable[[Node], nn.Module]) -> Callable[[_Work, Node], list[fx.Node]]:
    return lambda work, node: [work.layer(node, make(node))]


TORCH_LAYERS: Mapping[str, Callable[[_Work, Node], list[fx.Node]]] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Pooling": _pooling,
    "InnerProduct": _inner_product,
    "ReLU": _relu,
    "PReLU": _prelu,
    "ELU": _plainly(lambda node: nn.ELU(node.layer.param.elu_param.alpha)),
    "Sigmoid": _plainly(lambda node: nn.Sigmoid()),
    "TanH": _plainly(lambda node: nn.Tanh()),
    "AbsVal": lambda work, node: [work.call(torch.abs, work.of(node.bottoms[0]))],
    "LRN": _lrn,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Bias": _scale,
    "Dropout": _plainly(lambda node: nn.Dropout(node.layer.param.dropout_param.dropout_ratio)),
    "Softmax": _plainly(lambda node: nn.Softmax(node.layer.param.softmax_param.axis)),
    "Flatten": _flatten,
    "Eltwise": _eltwise,
    "Power": _power,
    "Crop": _crop,
    "Slice": _slice,
    "Concat": _concat,
    "Split": lambda work, node: [work.of(node.bottoms[0])] * len(node.tops),
}
