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
from fullconv.nets.layers import CellGroupNorm, ChannelNorm
from fullconv.nets.places import argument, is_tensor, kind_of, pair, pools_maximum, reduced, shape_of

if TYPE_CHECKING:
    from fullconv.nets.surgery import Surgery


def lift_pool(work: Surgery, node: fx.Node) -> fx.Node:
    """A pooling over the whole map: fixed, of the window's size and stride 1; or dropped."""
    source = work.source(node)
    place = work.before(node)
    if not any(lay.is_spatial(run) for run in place.layout):
        return lift_over_channels(work, node)
    if place.geometry is None or not (lay.is_map(place.layout) or lay.holds(place.layout, "h")):
        raise work.refused(node, f"pools a tensor of ({lay.names(place.layout)})")
    name = str(getattr(node.target, "__name__", node.target))
    reduces = kind_of(node, work.module) == "reduce"
    if reduces and name not in ("mean", "amax") and (name, work.pooling) != ("sum", "window"):
        raise work.refused(node, "reduces the map by other than its mean, maximum or (window by window) sum")
    if work.pooling == "cell":
        return source
    size = place.geometry.size
    if size == (1, 1):
        return source
    summed = 1 if reduces and name == "sum" else None
    highest = pools_maximum(node, work.module)
    layer = nn.MaxPool2d(size, 1) if highest else nn.AvgPool2d(size, 1, divisor_override=summed)
    name = str(node.target) if node.op == "call_module" else work.free(node.name)
    return work.insert(name, layer, source)


def lift_over_channels(work: Surgery, node: fx.Node) -> fx.Node:
    """A reduction after the pooling: over the channels, or over dimensions of size 1, which are the map's no more."""
    layout = work.before(node).layout
    dims = () if node.op == "call_module" else reduced(node) or ()
    if not any(layout[d] for d in dims):
        return lift_layout(work, node)
    again = reduction(work.graph, node, work.source(node), (1,))
    if again is None or lay.holds(lay.without(layout, dims, keep=True), "c"):
        raise work.refused(node, f"reduces a part of ({lay.names(layout)})")
    return again


REDUCTIONS = ("mean", "sum", "amax", "amin", "norm", "var", "std")


def reduction(graph: fx.Graph, node: fx.Node, x: fx.Node, over: tuple[int, ...]) -> fx.Node | None:
    """The reduction that `node` is, of `x` over other dimensions, which are kept; None where there is none."""
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", ""))
    if name not in REDUCTIONS or not over:
        return None
    options: dict[str, Any] = {key: node.kwargs[key] for key in ("unbiased", "correction", "p") if key in node.kwargs}
    if name == "norm":
        options.setdefault("p", argument(node, 1, "p", "fro"))
    elif name in ("var", "std") and len(node.args) > 2:
        options["unbiased"] = node.args[2]
    return graph.call_method(name, (x,), {**options, "dim": over, "keepdim": True})


def lift_layout(work: Surgery, node: fx.Node) -> fx.Node:
    """Flatten, reshape, permute, squeeze: the map stays as it is."""
    return work.source(node)


def lift_linear(work: Surgery, node: fx.Node) -> fx.Node:
    """A Linear layer: a convolution whose kernel is the part of the map that it reads."""
    source, run = work.source(node), work.before(node).layout[-1]
    bins = work.folded_bins(node)
    if node.op != "call_module":
        if bins is not None:
            raise work.refused(node, "has no layer of its own into which a pooling could be folded")
        args, kwargs = node.args, node.kwargs
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        return functional_convolution(work.graph, source, args[1] if len(args) > 1 else kwargs["weight"], bias, run)
    name = str(node.target)
    conv = as_convolution(work.module.get_submodule(name), run, work.kernels, bins)
    (work.folded if bins is not None else work.reshaped).append(f"{name}.weight")
    return work.insert(name, conv, source)


Kernels = dict[tuple[int, lay.Run], tuple[nn.Parameter, nn.Parameter]]
"""By its id and layout, each weight that became a kernel, and the kernel: layers that share one go on to share it."""


def as_convolution(layer: Any, run: lay.Run, kernels: Kernels, bins: tuple[Size, Size] | None = None) -> nn.Conv2d:
    """The convolution that does what a Linear layer does whose inputs are laid out as `run`."""
    weight: nn.Parameter = layer.weight
    kernel, inputs = as_kernel(weight.detach(), run)
    if bins is not None:
        kernel = folded(kernel, *bins)
    conv = nn.Conv2d(inputs, len(kernel), pair(kernel.shape[2:]), bias=layer.bias is not None, device="meta")
    fresh = nn.Parameter(kernel.clone(), requires_grad=weight.requires_grad)
    _, conv.weight = kernels.setdefault((id(weight), run), (weight, fresh))
    conv.bias = layer.bias
    return conv


def functional_convolution(graph: fx.Graph, source: fx.Node, weight: Any, bias: Any, run: lay.Run) -> fx.Node:
    """F.linear: a convolution by the same weight, brought into a kernel's shape as the network runs."""
    sizes, order, kernel = kernel_plan(run)
    if len(run) > 1:
        weight = graph.call_method("permute", (graph.call_method("reshape", (weight, -1, *sizes)), order))
    return graph.call_function(F.conv2d, (source, graph.call_method("reshape", (weight, -1, *kernel)), bias))


def lift_product(work: Surgery, node: fx.Node) -> fx.Node:
    """A product with a matrix of the network: a Linear layer by hand."""
    matrix = matrix_of(node, work.follower.photo)
    if matrix is None:
        raise work.refused(node, "has no known fully convolutional form")
    turned = work.graph.call_method("t", (matrix,))
    return functional_convolution(work.graph, work.source(node), turned, None, work.before(node).layout[-1])


def matrix_of(node: fx.Node, photo: set[fx.Node]) -> fx.Node | None:
    """The (in, out) matrix of the network by which a product acts on the last dimension, if it is one."""
    factors = node.all_input_nodes
    if len(factors) != 2 or factors[0] not in photo or factors[1] in photo or len(shape_of(factors[1])) != 2:
        return None
    return factors[1]


def as_kernel(weight: Tensor, run: lay.Run) -> tuple[Tensor, int]:
    """A (out, in) matrix whose inputs are laid out as `run` -> (out, C, h, w), and C."""
    sizes, order, kernel = kernel_plan(run)
    return weight.reshape(-1, *sizes).permute(order).reshape(-1, *kernel).contiguous(), kernel[0]


def kernel_plan(run: lay.Run) -> tuple[list[int], list[int], tuple[int, int, int]]:
    """How a matrix whose inputs are laid out as `run` becomes a kernel: parts, their order behind `out`, (C, h, w)."""
    last = {"h": 1, "w": 2}
    order = sorted(range(len(run)), key=lambda i: (last.get(run[i].root, 0), channel_rank(run[i].name)))
    h, w = (lay.size_of(tuple(a for a in run if a.root == name)) for name in "hw")
    return [atom.size for atom in run], [0, *(i + 1 for i in order)], (lay.size_of(run) // (h * w), h, w)


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
    if lay.is_spatial(work.before(node).layout[1]):
        raise work.refused(node, "normalizes each position by itself, before a Linear layer")
    return work.insert(str(node.target), as_batch_norm_2d(layer), work.source(node))


def as_batch_norm_2d(layer: nn.Module) -> nn.BatchNorm2d:
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    twin = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    twin.weight, twin.bias = layer.weight, layer.bias
    for name, value in layer.named_buffers(recurse=False):
        setattr(twin, name, value)
    return twin


def lift_layer_norm(work: Surgery, node: fx.Node) -> fx.Node:
    layer = work.module.get_submodule(str(node.target))
    assert isinstance(layer, nn.LayerNorm)
    run = work.before(node).layout[-1]
    if len(layer.normalized_shape) != 1 or lay.is_spatial(run):
        raise work.refused(node, f"normalizes over ({' '.join(a.name for a in run)}), not over the channels alone")
    return work.insert(str(node.target), as_channel_norm(layer), work.source(node))


def as_channel_norm(layer: nn.LayerNorm) -> ChannelNorm:
    shape = list(layer.normalized_shape)
    twin = ChannelNorm(shape, layer.eps, layer.elementwise_affine, bias=layer.bias is not None)
    twin.weight, twin.bias = layer.weight, layer.bias
    return twin


def lift_getitem(work: Surgery, node: fx.Node) -> fx.Node:
    """pool(x)[:, :, 0, 0] and x[:, :, None]: the map stays as it is."""
    before, after = work.before(node).layout, work.place(node).layout
    if [run for run in before if run] != [run for run in after if run]:
        raise work.refused(node, "picks a part of its tensor")
    return work.source(node)


def lift_normalize(work: Surgery, node: fx.Node) -> fx.Node:
    """F.normalize over the features: of each cell by itself."""
    dim, layout = int(argument(node, 2, "dim", 1)), work.before(node).layout
    if not any(atom.root == "c" for atom in layout[dim]) or any(lay.is_spatial(run) for run in layout):
        raise work.refused(node, "normalizes along positions")
    p, eps = argument(node, 1, "p", 2.0), argument(node, 3, "eps", 1e-12)
    return work.graph.call_function(F.normalize, (work.source(node),), {"p": p, "dim": 1, "eps": eps})


def lift_softmax(work: Surgery, node: fx.Node) -> fx.Node:
    run = work.before(node).layout[-1]
    if lay.is_spatial(run):
        raise work.refused(node, "takes a softmax over positions")
    layer: Any = work.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    dim = argument(node, 1, "dim", None) if layer is None else layer.dim
    layout = work.before(node).layout
    if dim is not None and not any(atom.root == "c" for atom in layout[int(dim)]):
        raise work.refused(node, f"takes a softmax over dimension {dim}, which does not hold the classes")
    make = F.log_softmax if "log" in kind_of(node, work.module).lower() else F.softmax
    return work.graph.call_function(make, (work.source(node),), {"dim": 1})


def lift_cat(work: Surgery, node: fx.Node) -> fx.Node:
    tensors = [work.lifted[n] for n in node.all_input_nodes if n in work.lifted]
    if len(tensors) != len(node.all_input_nodes):
        raise work.refused(node, "joins the head with something else")
    return work.graph.call_function(torch.cat, (tensors, 1))


ACTIVATIONS = (
    *("relu", "relu6", "gelu", "silu", "mish", "elu", "selu", "leaky_relu", "prelu", "tanh", "sigmoid", "softplus"),
    *("hardswish", "hardtanh", "hardsigmoid", "logsigmoid", "softsign", "celu"),
)
ARITHMETIC = (
    *("add", "sub", "mul", "div", "truediv", "true_divide", "neg", "abs", "exp", "log", "iadd", "isub", "imul"),
    *("itruediv", "square", "pow", "sqrt", "rsqrt", "reciprocal", "clamp", "clip", "maximum", "minimum", "sign"),
    *("sin", "cos", "erf", "addcmul", "rsub", "lerp"),
)
POINTWISE = frozenset({*ACTIVATIONS, *ARITHMETIC, "dropout", "contiguous", "clone", "float", "to", "detach", "type_as"})
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
    forms: dict[fx.Node, Any] = {}
    for other in node.all_input_nodes:
        if other in work.lifted or work.has_map(other):
            forms[other] = work.lifted.get(other, other)
            continue
        if isinstance(other.meta.get("concrete"), int | float):  # worked out from the window's shape, as h * w
            forms[other] = other.meta["concrete"]
            continue
        fixed = is_tensor(other) and other not in work.follower.photo
        form = beside(work.graph, work.place(node).layout, other) if fixed else None
        if form is None:
            raise work.refused(node, f"meets '{label(other)}', which is no map")
        forms[other] = form
    copy_ = work.graph.node_copy(node, lambda n: forms[n])
    copy_.meta = {}
    return copy_


def beside(graph: fx.Graph, layout: lay.Layout, other: fx.Node) -> fx.Node | None:
    """What meets a tensor of `layout`, for its map: a number as it is, values along the channels as (C, 1, 1)."""
    value = other.meta.get("concrete")
    if not isinstance(value, Tensor) or value.numel() == 1:
        return other
    aligned = (1,) * (len(layout) - value.dim()) + tuple(value.shape)
    long = [run for run, size in zip(layout, aligned, strict=False) if size > 1]
    if len(aligned) != len(layout) or len(long) != 1 or long[0] == layout[0] or lay.is_spatial(long[0]):
        return None
    return graph.call_method("reshape", (other, -1, 1, 1))


def lift_group_norm(work: Surgery, node: fx.Node) -> fx.Node:
    """GroupNorm of an (N, F) tensor: of each cell by itself."""
    layer = work.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(layer, nn.GroupNorm) or any(lay.holds(work.before(node).layout, name) for name in "hw"):
        raise work.refused(node, "normalizes over positions")
    twin = CellGroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
    twin.load_state_dict(layer.state_dict())
    return work.insert(str(node.target), twin, work.source(node))


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
    "product": lift_product,
    "BatchNorm1d": lift_batch_norm,
    "norm_over_map": lift_group_norm,
    "LayerNorm": lift_layer_norm,
    "getitem": lift_getitem,
    "normalize": lift_normalize,
    "Softmax": lift_softmax,
    "softmax": lift_softmax,
    "LogSoftmax": lift_softmax,
    "log_softmax": lift_softmax,
    "cat": lift_cat,
}
