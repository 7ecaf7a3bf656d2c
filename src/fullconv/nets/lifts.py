"""What each step of a classifier's head becomes on a map. Road: nets, a part of surgery. One function a kind of step.

In: the step's node in the classifier's graph. Out: the node whose (N, F, h, w) map stands for its (N, F) tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.nets import layout as lay
from fullconv.nets.graph import Size, label
from fullconv.nets.layers import ChannelNorm
from fullconv.nets.places import kind_of, pair, pools_maximum

if TYPE_CHECKING:
    from fullconv.nets.surgery import Surgery


def lift_pool(work: Surgery, node: fx.Node) -> fx.Node:
    """A pooling over the whole map: fixed, of the window's size and stride 1; or dropped."""
    source = work.source(node)
    place = work.before(node)
    if not lay.holds(place.layout, "h") and not lay.holds(place.layout, "w"):
        return lift_layout(work, node)
    if place.geometry is None or not (lay.is_map(place.layout) or lay.holds(place.layout, "h")):
        raise work.refused(node, f"pools a tensor of ({lay.names(place.layout)})")
    name = str(getattr(node.target, "__name__", node.target))
    if kind_of(node, work.module) == "reduce" and name not in ("mean", "amax"):
        raise work.refused(node, "reduces the map by other than its mean or maximum")
    if work.pooling == "cell":
        return source
    size = place.geometry.size
    if size == (1, 1):
        return source
    layer = nn.MaxPool2d(size, 1) if pools_maximum(node, work.module) else nn.AvgPool2d(size, 1)
    name = str(node.target) if node.op == "call_module" else work.free(node.name)
    return work.insert(name, layer, source)


def lift_layout(work: Surgery, node: fx.Node) -> fx.Node:
    """Flatten, reshape, permute, squeeze: the map stays as it is."""
    return work.source(node)


def lift_linear(work: Surgery, node: fx.Node) -> fx.Node:
    """A Linear layer: a convolution whose kernel is the part of the map that it reads."""
    source, run = work.source(node), work.before(node).layout[-1]
    if node.op == "call_module":
        name = str(node.target)
        layer = work.module.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        weight, bias = layer.weight, layer.bias
    else:
        raise work.refused(node, "is a Linear step without a layer of its own")
    kernel, inputs = as_kernel(weight.detach(), run)
    bins = work.folded_bins(node)
    if bins is not None:
        kernel = folded(kernel, *bins)
    where: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
    conv = nn.Conv2d(inputs, weight.shape[0], pair(kernel.shape[2:]), bias=bias is not None, **where)
    with torch.no_grad():
        conv.weight.copy_(kernel)
        if bias is not None and conv.bias is not None:
            conv.bias.copy_(bias)
            conv.bias.requires_grad_(bias.requires_grad)
    conv.weight.requires_grad_(weight.requires_grad)
    (work.folded if bins is not None else work.reshaped).append(f"{name}.weight")
    return work.insert(name, conv, source)


def as_kernel(weight: Tensor, run: lay.Run) -> tuple[Tensor, int]:
    """A (out, in) matrix whose inputs are laid out as `run` -> (out, C, h, w), and C."""
    parts = weight.reshape(weight.shape[0], *(atom.size for atom in run))
    last = {"h": 1, "w": 2}
    order = sorted(range(len(run)), key=lambda i: (last.get(run[i].name, 0), channel_rank(run[i].name)))
    sizes = {name: next((a.size for a in run if a.name == name), 1) for name in "hw"}
    kernel = parts.permute(0, *(i + 1 for i in order)).reshape(weight.shape[0], -1, sizes["h"], sizes["w"])
    return kernel.contiguous(), kernel.shape[1]


def folded(kernel: Tensor, size: Size, bins: Size) -> Tensor:
    """The kernel over the map itself that does what `kernel` does over its adaptive average pooling to `bins`."""
    rows, columns = (shares(size[i], bins[i]).to(kernel) for i in (0, 1))
    return torch.einsum("ocij,iy,jx->ocyx", kernel, rows, columns).contiguous()


def shares(size: int, bins: int) -> Tensor:
    """(bins, size): how much each cell counts in each bin of an adaptive average pooling."""
    matrix = torch.zeros(bins, size)
    for i in range(bins):
        start, stop = i * size // bins, -(-(i + 1) * size // bins)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def channel_rank(name: str) -> tuple[int, ...]:
    """Parts of the channels in their order in the map: "c.0" before "c.1"."""
    return tuple(int(part) for part in name.split(".")[1:])


def lift_batch_norm(work: Surgery, node: fx.Node) -> fx.Node:
    layer = work.module.get_submodule(str(node.target))
    if isinstance(layer, nn.BatchNorm2d):
        return lift_pointwise(work, node)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    if lay.holds(work.before(node).layout[1:2], "h") or lay.holds(work.before(node).layout[1:2], "w"):
        raise work.refused(node, "normalizes each position by itself, before a Linear layer")
    twin = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    twin.load_state_dict(layer.state_dict())
    return work.insert(str(node.target), twin, work.source(node))


def lift_layer_norm(work: Surgery, node: fx.Node) -> fx.Node:
    layer = work.module.get_submodule(str(node.target))
    assert isinstance(layer, nn.LayerNorm)
    run = work.before(node).layout[-1]
    if len(layer.normalized_shape) != 1 or any(atom.name in "hw" for atom in run):
        raise work.refused(node, f"normalizes over ({' '.join(a.name for a in run)}), not over the channels alone")
    twin = ChannelNorm(layer.normalized_shape, layer.eps, layer.elementwise_affine, bias=layer.bias is not None)
    twin.load_state_dict(layer.state_dict())
    return work.insert(str(node.target), twin, work.source(node))


def lift_softmax(work: Surgery, node: fx.Node) -> fx.Node:
    run = work.before(node).layout[-1]
    if any(atom.name in "hw" for atom in run):
        raise work.refused(node, "takes a softmax over positions")
    make = F.log_softmax if "log" in kind_of(node, work.module).lower() else F.softmax
    return work.graph.call_function(make, (work.source(node),), {"dim": 1})


def lift_cat(work: Surgery, node: fx.Node) -> fx.Node:
    tensors = [work.lifted[n] for n in node.all_input_nodes if n in work.lifted]
    if len(tensors) != len(node.all_input_nodes):
        raise work.refused(node, "joins the head with something else")
    return work.graph.call_function(torch.cat, (tensors, 1))


ACTIVATIONS = (
    *("relu", "relu6", "gelu", "silu", "mish", "elu", "selu", "leaky_relu", "prelu", "tanh", "sigmoid", "softplus"),
    *("hardswish", "hardtanh", "hardsigmoid"),
)
ARITHMETIC = ("add", "sub", "mul", "truediv", "neg", "abs", "exp", "iadd", "imul")
POINTWISE = frozenset({*ACTIVATIONS, *ARITHMETIC, "dropout", "contiguous", "clone", "float", "to", "detach"})
"""Functions and methods that act on each value by itself."""


def lift_pointwise(work: Surgery, node: fx.Node) -> fx.Node:
    """A step that acts on each cell by itself: the same step on the map."""
    kind = kind_of(node, work.module)
    if node.op == "call_module":
        layer = work.module.get_submodule(str(node.target))
        fitting = isinstance(layer, nn.Conv2d) or not list(layer.parameters()) or is_map_norm(layer)
        if isinstance(layer, nn.Dropout1d | nn.Softmax2d | nn.GLU) or not fitting:
            raise work.refused(node, "has no known fully convolutional form")
    elif kind.rstrip("_") not in POINTWISE:
        raise work.refused(node, "has no known fully convolutional form")
    outside = [n for n in node.all_input_nodes if n not in work.lifted and not work.has_map(n)]
    if outside:
        raise work.refused(node, f"meets '{label(outside[0])}', which is no map")
    copy_ = work.graph.node_copy(node, lambda n: work.lifted.get(n, n))
    copy_.meta = {}
    return copy_


def is_map_norm(layer: nn.Module) -> bool:
    own = isinstance(layer, nn.LayerNorm) and type(layer) is not nn.LayerNorm  # torchvision's and timm's LayerNorm2d
    return own or isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.PReLU)


LIFTS: dict[str, Callable[[Surgery, fx.Node], fx.Node]] = {
    "adaptive": lift_pool,
    "reduce": lift_pool,
    "reshape": lift_layout,
    "permute": lift_layout,
    "Permute": lift_layout,
    "Identity": lift_layout,
    "linear": lift_linear,
    "BatchNorm1d": lift_batch_norm,
    "LayerNorm": lift_layer_norm,
    "Softmax": lift_softmax,
    "softmax": lift_softmax,
    "LogSoftmax": lift_softmax,
    "log_softmax": lift_softmax,
    "cat": lift_cat,
}
