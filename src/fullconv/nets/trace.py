"""A network as a graph whose tensors know where they lie. Road: nets, after classifiers. In: a module. Out: fx graph, Geometry.

`trace` records what a network does at one size, on tensors without data, so that code which asks for shapes can be
followed. `places` then follows the layout and the geometry of every tensor through that graph, at any size.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fullconv.base.errors import FullconvError, GeometryError, SurgeryError
from fullconv.geometry import geometry as geo
from fullconv.geometry.geometry import Geometry
from fullconv.nets import layout as lay
from fullconv.nets.layout import Layout

Size = tuple[int, int]

LEAVES: tuple[type[nn.Module], ...] = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.Linear,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
"""Subclasses of these (timm's Conv2dSame, BatchNormAct2d, LayerNorm2d, ...) stay one node."""
LEAF_NAMES = frozenset({"StochasticDepth", "DropPath", "WindowContext", "ChannelNorm"})
"""Other modules that stay one node: what they do in training must not be frozen at tracing."""

BATCH = 2  # photos in the tensors without data: two, so that `squeeze()` does not take the batch away


class Followed(fx.Proxy):
    """A proxy that also holds what it stands for: a tensor without data, a size, a number."""

    concrete: Any

    def __len__(self) -> int:
        return len(self.concrete)

    def __index__(self) -> int:
        return operator.index(self.concrete)


class Tracer(fx.Tracer):
    """torch.fx's tracer, which also runs every step on tensors without data: `if x.shape[2] < 7` has an answer."""

    def __init__(self, fake: FakeTensorMode, inputs: list[Tensor]) -> None:
        super().__init__()
        self.fake, self.inputs = fake, list(inputs)
        self.running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        named = type(m).__name__ in LEAF_NAMES
        return named or isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> Followed:
        return Followed(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        proxy.node.meta["concrete"] = proxy.concrete = self.run(kind, target, args, kwargs)
        return proxy

    def run(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self.inputs.pop(0) if self.inputs else (args[0] if args else None)
        args, kwargs = concretes(args), concretes(kwargs)
        self.running = True
        try:
            with self.fake, torch.no_grad():
                if kind == "call_module":
                    return self.root.get_submodule(target).forward(*args, **kwargs)  # type: ignore[operator]
                if kind == "get_attr":
                    return operator.attrgetter(target)(self.root)
                if kind == "call_method":
                    return getattr(args[0], target)(*args[1:], **kwargs)
                return target(*args, **kwargs) if kind == "call_function" else None
        finally:
            self.running = False

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(value_of(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return iter([obj[i] for i in range(len(value_of(obj)))])

    def keys(self, obj: fx.Proxy) -> Any:
        return value_of(obj).keys()


def value_of(proxy: fx.Proxy) -> Any:
    return proxy.node.meta["concrete"]  # `.node` also makes the node of an attribute that was not yet used


def concretes(value: Any) -> Any:
    """The same arguments with each proxy or node replaced by what it stands for."""
    if isinstance(value, fx.Proxy):
        return value_of(value)
    if isinstance(value, fx.Node):
        return value.meta["concrete"]
    if isinstance(value, (tuple, list)):
        items = [concretes(v) for v in value]
        return type(value)(items) if type(value) in (tuple, list) else tuple(items)
    if isinstance(value, dict):
        return {k: concretes(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(concretes(value.start), concretes(value.stop), concretes(value.step))
    return value


def trace(network: nn.Module, size: Size) -> fx.GraphModule:
    """What the network does, in evaluation mode, on a photo of `size` (rows, columns).

    Module structure and parameter names are kept; parameters are shared with `network`, modules that are never used
    (auxiliary heads) are left out. Each node's `meta["concrete"]` holds its tensor without data, for two photos.

    Raises: SurgeryError naming what could not be followed.
    """
    if isinstance(network, fx.GraphModule):
        graph_module = fx.GraphModule(network, copy.deepcopy(network.graph))
        Shapes(graph_module, size).follow()
        return graph_module
    training = {name: module.training for name, module in network.named_modules()}
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    tracer = Tracer(fake, [nothing(fake, network, size)])
    try:
        network.eval()
        graph = tracer.trace(network)
    except FullconvError:
        raise
    except Exception as error:  # whatever the network's own code raises is answered here, once
        raise not_followed(network, size, tracer, error) from error
    finally:
        for name, module in network.named_modules():
            module.training = training[name]
    graph_module = fx.GraphModule(tracer.root, graph, type(network).__name__)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    graph_module.delete_all_unused_submodules()
    graph_module.train(network.training)
    return graph_module


def nothing(fake: FakeTensorMode, network: nn.Module, size: Size) -> Tensor:
    """The tensor without data that stands for the photos."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), None)
    dtype = torch.float32 if weight is None else weight.dtype
    channels = next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)), 3)
    with fake:
        return torch.empty((BATCH, channels, *size), dtype=dtype, device="cpu" if weight is None else weight.device)


def not_followed(network: nn.Module, size: Size, tracer: Tracer, error: Exception) -> SurgeryError:
    nodes = [n for n in tracer.graph.nodes] if hasattr(tracer, "graph") else []
    after = f" after '{nodes[-1].target if nodes[-1].op == 'call_module' else nodes[-1].name}'" if nodes else ""
    return SurgeryError(
        "the network must run on a photo of the window's size, by steps that torch.fx can follow",
        f"{type(network).__name__} at {size[0]}x{size[1]} stopped{after}: {type(error).__name__}: {str(error)[:300]}",
        "check the window; steps that depend on pixel values (not on shapes) cannot be followed",
    )


class Shapes(fx.Interpreter):
    """Runs a graph on a photo of `size` without data and notes each node's value in its meta."""

    def __init__(self, module: fx.GraphModule, size: Size) -> None:
        super().__init__(module)
        self.size = size
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        n.meta["concrete"] = value
        return value

    def follow(self) -> None:
        modules = list(self.module.modules())
        training = [m.training for m in modules]
        photo = nothing(self.fake, self.module, self.size)
        last: list[str] = []
        try:
            self.module.eval()
            with self.fake, torch.no_grad():
                self.run(photo)
        except FullconvError:
            raise
        except Exception as error:
            done = [n for n in self.module.graph.nodes if "concrete" in n.meta]
            last = [label(done[-1])] if done else []
            raise GeometryError(
                "every tensor of the network must have at least one cell",
                f"a photo of {self.size[0]}x{self.size[1]} stops after '{''.join(last)}': {str(error)[:200]}",
                "give a larger size",
            ) from error
        finally:
            for module, mode in zip(modules, training, strict=True):
                module.training = mode


def label(node: fx.Node) -> str:
    """How messages and tables call a node: the module's path, else the node's own name."""
    return str(node.target) if node.op in ("call_module", "get_attr") else node.name


@dataclass(frozen=True)
class Place:
    """Where a tensor's cells lie: its layout, and the geometry while it has rows and columns (or had: one cell)."""

    layout: Layout
    geometry: Geometry | None


@dataclass
class Follower:
    """Follows layout and geometry through a traced graph. `why` tells where and why a tensor lost its place."""

    module: fx.GraphModule
    disagreement: str = "error"
    place: dict[fx.Node, Place | None] = field(default_factory=dict)
    why: dict[fx.Node, str] = field(default_factory=dict)

    def run(self) -> Follower:
        for node in self.module.graph.nodes:
            self.place[node] = self.step(node)
        return self

    def step(self, node: fx.Node) -> Place | None:
        if node.op == "placeholder":
            value = node.meta["concrete"]
            if isinstance(value, Tensor) and value.dim() == 4:
                shape = tuple(value.shape)
                return Place(lay.of_map(shape), geo.of_photo((shape[2], shape[3])))
            return None
        before = [(n, p) for n in node.all_input_nodes if (p := self.place.get(n)) is not None]
        if not before or node.op in ("get_attr", "output"):
            return None
        value = node.meta["concrete"]
        if not isinstance(value, (Tensor, tuple, list)) or isinstance(value, torch.Size):
            return None
        try:
            return RULES.get(kind_of(node, self.module), pointwise)(self, node, before)
        except GeometryError as error:
            raise GeometryError(error.must, f"at '{label(node)}': {error.found}", error.try_) from error

    def lost(self, node: fx.Node, why: str) -> None:
        self.why[node] = why


Before = list[tuple[fx.Node, Place]]


def kind_of(node: fx.Node, module: fx.GraphModule) -> str:
    """One word for what a node does, whether it is a module, a function or a method."""
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        for kind, types in MODULES.items():
            if isinstance(layer, types):
                return kind
        return type(layer).__name__
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return WORDS.get(name, name)


MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "transposed": (nn.ConvTranspose2d,),
    "convolution": (nn.Conv2d,),
    "pooling": (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d),
    "adaptive": (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    "linear": (nn.Linear,),
    "pad": (nn.modules.padding._ConstantPadNd, nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd),
    "interpolate": (nn.Upsample,),
    "reshape": (nn.Flatten, nn.Unflatten),
    "attention": (nn.MultiheadAttention,),
    "pixel_shuffle": (nn.PixelShuffle,),
}

WORDS: dict[str, str] = {
    "conv2d": "convolution",
    "conv_transpose2d": "transposed",
    "max_pool2d": "pooling",
    "boolean_dispatch": "pooling",
    "avg_pool2d": "pooling",
    "adaptive_avg_pool2d": "adaptive",
    "adaptive_max_pool2d": "adaptive",
    "flatten": "reshape",
    "view": "reshape",
    "reshape": "reshape",
    "unflatten": "reshape",
    "squeeze": "reshape",
    "unsqueeze": "reshape",
    "mean": "reduce",
    "sum": "reduce",
    "amax": "reduce",
    "amin": "reduce",
    "std": "reduce",
    "var": "reduce",
    "transpose": "permute",
    "swapaxes": "permute",
    "movedim": "permute",
    "matmul": "attention",
    "bmm": "attention",
    "baddbmm": "attention",
    "einsum": "attention",
    "scaled_dot_product_attention": "attention",
    "concat": "cat",
    "concatenate": "cat",
}


def arguments(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return concretes(node.args), concretes(node.kwargs)


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    args, kwargs = arguments(node)
    return args[position] if len(args) > position else kwargs.get(name, default)


def pair(value: Any) -> Size:
    if isinstance(value, (tuple, list)):
        return (int(value[0]), int(value[-1]))
    return (int(value), int(value))


def shape_of(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["concrete"].shape)


def sizes_of(layout: Layout, shape: tuple[int, ...]) -> Size:
    h, w = lay.where(layout, "h"), lay.where(layout, "w")
    return (1 if h is None else shape[h], 1 if w is None else shape[w])


def with_sizes(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of a map or of one pooled cell, after a step that keeps the order of dimensions and changes sizes."""
    after = []
    for run, size in zip(layout, shape, strict=True):
        after.append((lay.Atom(run[0].name, size),) if len(run) == 1 and run[0].name in "hw" else run)
    return tuple(after)


def sliding(follower: Follower, node: fx.Node, before: Before, step: Callable[[geo.Axis, int], geo.Axis]) -> Place | None:
    """A step over a map of (N, C, H, W) or over one pooled cell of (N, C, 1, 1)."""
    source, place = before[0]
    value = node.meta["concrete"]
    shape = tuple((value[0] if isinstance(value, (tuple, list)) else value).shape)
    if len(shape) != 4 or place.geometry is None or len(place.layout) != 4:
        return follower.lost(node, "slides over a tensor that has no rows and columns")
    if lay.where(place.layout, "h") != 2 or lay.where(place.layout, "w") != 3:
        if place.layout[2:] == ((), ()) and shape[2:] == (1, 1):
            return Place((place.layout[0], (lay.Atom("c", shape[1]),), (), ()), place.geometry)
        return follower.lost(node, f"slides over dimensions that hold ({lay.names(place.layout)})")
    geometry = geo.each_axis(place.geometry, step)
    assert geometry.size == shape[2:], (label(node), geometry, shape)
    return Place((place.layout[0], *lay.of_map(shape)[1:]), geometry)


def convolution(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    kernel, stride, padding, dilation = convolution_settings(node, follower.module)
    size = shape_of(before[0][0])[2:]

    def step(axis: geo.Axis, i: int) -> geo.Axis:
        reach = dilation[i] * (kernel[i] - 1)
        if padding == "same":
            around = (reach // 2, reach - reach // 2)
        elif padding == "tf-same":
            around = geo.same_padding(size[i], kernel[i], stride[i], dilation[i])
        else:
            around = (padding[i], padding[i])
        return geo.windows(axis, kernel[i], stride[i], *around, dilation=dilation[i])

    return sliding(follower, node, before, step)


def pads_as_needed(layer: nn.Module) -> bool:
    """Does the layer pad by what the input's size asks for (TF-SAME), as timm's Conv2dSame and its kin?"""
    return type(layer).__name__.endswith("Same") or bool(getattr(layer, "same_pad", False))


def convolution_settings(node: fx.Node, module: fx.GraphModule) -> tuple[Size, Size, Any, Size]:
    """Kernel, stride, padding (a pair, "same" or "tf-same") and dilation of a convolution."""
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        assert isinstance(layer, nn.Conv2d)
        padding: Any = "tf-same" if pads_as_needed(layer) else layer.padding
        kernel, stride, dilation = pair(layer.kernel_size), pair(layer.stride), pair(layer.dilation)
    else:
        kernel = pair(tuple(argument(node, 1, "weight", None).shape[-2:]))
        stride, padding = pair(argument(node, 3, "stride", 1)), argument(node, 4, "padding", 0)
        dilation = pair(argument(node, 5, "dilation", 1))
    if padding == "valid":
        padding = 0
    return kernel, stride, padding if isinstance(padding, str) else pair(padding), dilation


def transposed(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    if node.op == "call_module":
        layer = follower.module.get_submodule(str(node.target))
        assert isinstance(layer, nn.ConvTranspose2d) and not isinstance(layer.padding, str)
        kernel, stride, padding = pair(layer.kernel_size), pair(layer.stride), pair(layer.padding)
        extra, dilation = pair(layer.output_padding), pair(layer.dilation)
    else:
        kernel = pair(tuple(argument(node, 1, "weight", None).shape[-2:]))
        stride, padding = pair(argument(node, 3, "stride", 1)), pair(argument(node, 4, "padding", 0))
        extra, dilation = pair(argument(node, 5, "output_padding", 0)), pair(argument(node, 7, "dilation", 1))

    def step(axis: geo.Axis, i: int) -> geo.Axis:
        return geo.transposed(axis, kernel[i], stride[i], padding[i], extra[i], dilation[i])

    return sliding(follower, node, before, step)


def pooling_settings(node: fx.Node, module: fx.GraphModule) -> tuple[Size, Size, Any, Size, bool]:
    """Kernel, stride, padding (a pair or "tf-same"), dilation and whether the number of cells is rounded up."""
    if node.op == "call_module":
        layer: Any = module.get_submodule(str(node.target))
        kernel = pair(layer.kernel_size)
        stride = pair(layer.stride if layer.stride is not None else layer.kernel_size)
        padding: Any = "tf-same" if pads_as_needed(layer) else pair(getattr(layer, "padding", 0))
        return kernel, stride, padding, pair(getattr(layer, "dilation", 1)), bool(layer.ceil_mode)
    kernel = pair(argument(node, 1, "kernel_size", 1))
    stride, padding = argument(node, 2, "stride", None), pair(argument(node, 3, "padding", 0))
    average = "avg" in str(getattr(node.target, "__name__", node.target))
    dilation = (1, 1) if average else pair(argument(node, 4, "dilation", 1))
    ceil = argument(node, 4, "ceil_mode", False) if average else argument(node, 5, "ceil_mode", False)
    return kernel, pair(stride) if stride else kernel, padding, dilation, bool(ceil)


def pooling(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    kernel, stride, padding, dilation, ceil = pooling_settings(node, follower.module)
    size = shape_of(before[0][0])[2:]

    def step(axis: geo.Axis, i: int) -> geo.Axis:
        if padding == "tf-same":
            around = geo.same_padding(size[i], kernel[i], stride[i], dilation[i])
        else:
            around = (padding[i], padding[i])
        return geo.windows(axis, kernel[i], stride[i], *around, dilation=dilation[i], ceil=ceil)

    return sliding(follower, node, before, step)


def adaptive(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    shape = shape_of(node)
    if not lay.is_map(place.layout) or place.geometry is None:
        return pointwise(follower, node, before)
    if shape[-2:] == (1, 1):
        return pooled(place, (-2, -1), keep=True)
    return sliding(follower, node, before, lambda axis, i: geo.adaptive(axis, shape[2 + i]))


def pooled(place: Place, dims: tuple[int, ...], keep: bool) -> Place:
    geometry = None if place.geometry is None else geo.each_axis(place.geometry, lambda axis, _: geo.whole(axis))
    return Place(lay.without(place.layout, dims, keep), geometry)


def reduce(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    dims = argument(node, 1, "dim", None)
    if dims is None:
        return follower.lost(node, "reduces the whole tensor to one number")
    dims = tuple(d % len(place.layout) for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))
    keep = bool(argument(node, 2, "keepdim", False))
    gone = {atom.name for d in dims for atom in place.layout[d]}
    if {"h", "w"} <= gone:
        return pooled(place, dims, keep)
    if gone & {"h", "w"}:
        return follower.lost(node, "reduces rows without columns, or columns without rows")
    return Place(lay.without(place.layout, dims, keep), place.geometry)


def reshape(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    layout = lay.reshaped(place.layout, shape_of(node))
    if layout is None:
        return follower.lost(node, f"reshapes ({lay.names(place.layout)}) to {shape_of(node)[1:]}, which tears rows or columns")
    return Place(layout, place.geometry)


def permute(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    source, place = before[0]
    number = torch.arange(len(place.layout))
    # The order is read off a small tensor that goes through the same step.
    probe = torch.empty([i + 2 for i in range(len(number))])
    args, kwargs = arguments(node)
    if node.op == "call_module":
        layer = follower.module.get_submodule(str(node.target))
        after = layer(probe)
    elif node.op == "call_method":
        after = getattr(probe, str(node.target))(*args[1:], **kwargs)
    else:
        assert callable(node.target)
        after = node.target(probe, *args[1:], **kwargs)
    return Place(lay.permuted(place.layout, tuple(int(s) - 2 for s in after.shape)), place.geometry)


def getitem(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    source, place = before[0]
    if isinstance(source.meta["concrete"], (tuple, list)):
        return pointwise(follower, node, before)
    index = argument(node, 1, "", None)
    index = index if isinstance(index, tuple) else (index,)
    if not all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in index):
        return follower.lost(node, "picks cells by an index that is not a slice")
    if Ellipsis in index:
        at, real = index.index(Ellipsis), sum(1 for i in index if i is not None) - 1
        index = index[:at] + (slice(None),) * (len(place.layout) - real) + index[at + 1 :]
    shape, rest, geometry = shape_of(source), list(zip(place.layout, shape_of(source), strict=True)), place.geometry
    layout: list[lay.Run] = []
    for i in index:
        if i is None:
            layout.append(())
            continue
        run, size = rest.pop(0)
        which = {"h": 0, "w": 1}.get(run[0].name) if len(run) == 1 else None
        if isinstance(i, int):
            if any(a.name in "hw" for a in run):
                return follower.lost(node, "picks one row or column")
            continue
        start, stop, step = i.indices(size)
        count = len(range(start, stop, step))
        if count == size and step == 1:
            layout.append(run)
            continue
        if any(a.name in "hw" for a in run) and which is None:
            return follower.lost(node, "cuts a dimension that mixes rows or columns with others")
        layout.append((lay.Atom(run[0].name if which is not None else "c", count),))
        if which is not None and geometry is not None:

            def cut(axis: geo.Axis, axis_of: int, w: int = which, s: int = start, n: int = count, d: int = step) -> geo.Axis:
                return geo.cropped(axis, s, n, d) if axis_of == w else axis

            geometry = geo.each_axis(geometry, cut)
    layout += [run for run, _ in rest]
    del shape
    return Place(tuple(layout), geometry)


def pad(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    source, place = before[0]
    if node.op == "call_module":
        layer: Any = follower.module.get_submodule(str(node.target))
        amounts = list(layer.padding)
    else:
        amounts = list(argument(node, 1, "pad", []))
    geometry, shape = place.geometry, shape_of(node)
    layout = list(place.layout)
    for k in range(len(amounts) // 2):
        dim, (left, right) = len(layout) - 1 - k, (int(amounts[2 * k]), int(amounts[2 * k + 1]))
        if left == right == 0:
            continue
        run = layout[dim]
        if len(run) != 1:
            return follower.lost(node, "pads a dimension that holds several things")
        layout[dim] = (lay.Atom(run[0].name, shape[dim]),)
        which = {"h": 0, "w": 1}.get(run[0].name)
        if which is not None and geometry is not None:

            def extend(axis: geo.Axis, axis_of: int, w: int = which, a: int = left, b: int = right) -> geo.Axis:
                return geo.padded(axis, a, b) if axis_of == w else axis

            geometry = geo.each_axis(geometry, extend)
    return Place(tuple(layout), geometry)


REACH = {"nearest": 0, "nearest-exact": 0, "bilinear": 1, "bicubic": 3, "area": 1}


def interpolate(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    if node.op == "call_module":
        layer: Any = follower.module.get_submodule(str(node.target))
        mode, corners = str(layer.mode), bool(layer.align_corners)
    else:
        mode, corners = str(argument(node, 3, "mode", "nearest")), bool(argument(node, 4, "align_corners", False))
    shape = shape_of(node)

    def step(axis: geo.Axis, i: int) -> geo.Axis:
        if axis.size == shape[2 + i]:
            return axis
        return geo.interpolated(axis, shape[2 + i], reach=REACH.get(mode, 3), align_corners=corners)

    return sliding(follower, node, before, step)


def pixel_shuffle(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    shape = shape_of(node)
    return sliding(follower, node, before, lambda axis, i: geo.interpolated(axis, shape[2 + i], reach=0))


def linear(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    last = {atom.name for atom in place.layout[-1]}
    if last & {"h", "w"} and lay.holds(place.layout[:-1], "c"):
        return follower.lost(node, "a Linear layer over positions, channel by channel")
    geometry = place.geometry
    if last & {"h", "w"} and geometry is not None:
        geometry = geo.each_axis(geometry, lambda axis, _: geo.windows(axis, axis.size, 1, 0, 0))
    return Place((*place.layout[:-1], (lay.Atom("c", shape_of(node)[-1]),)), geometry)


def cat(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    dim = int(argument(node, 1, "dim", 0))
    layout = before[0][1].layout
    merged = meeting(follower, node, before)
    if merged is None:
        return None
    names = {atom.name for atom in layout[dim]}
    if names & {"h", "w"}:
        return follower.lost(node, "joins tensors along rows or columns")
    shape = shape_of(node)
    dim %= len(shape)
    return Place((*layout[:dim], (lay.Atom("c", shape[dim]),), *layout[dim + 1 :]), merged.geometry)


def attention(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    return follower.lost(node, "attention: every position meets every other")


def meeting(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """Tensors that meet in one step: the layout of the one with rows and columns, the geometry of all.

    A factor of one cell (squeeze-and-excitation) takes the bound from the receptive field, and nothing else.
    """
    mapped = [(n, p) for n, p in before if p.geometry is not None and lay.is_map(p.layout)]
    if not mapped:
        return before[0][1]
    first = mapped[0][1]
    if len(mapped) > 1:
        geometry = geo.merged({label(n): g for n, p in mapped if (g := p.geometry)}, disagreement=follower.disagreement)
    else:
        geometry = first.geometry  # type: ignore[assignment]
    if len(mapped) < len(before):
        geometry = Geometry(geometry.stride, geometry.offset, None, geometry.size)
    return Place(first.layout, geometry)


def pointwise(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """Every step without a rule of its own keeps the place if it keeps the shape."""
    place = meeting(follower, node, before)
    value = node.meta["concrete"]
    shapes = [tuple(v.shape) for v in (value if isinstance(value, (tuple, list)) else [value]) if isinstance(v, Tensor)]
    if place is None or not shapes:
        return place
    if all(len(s) == len(place.layout) for s in shapes):
        h, w = lay.where(place.layout, "h"), lay.where(place.layout, "w")
        if h is None or w is None or place.geometry is None:
            kept = shapes[0] == tuple(product(run) for run in place.layout)
            return place if kept or kind_of(node, follower.module) in KEEP else sized(place, shapes[0])
        if all((s[h], s[w]) == place.geometry.size for s in shapes):
            return sized(place, shapes[0])
    return follower.lost(node, f"'{kind_of(node, follower.module)}' has no rule and changes the shape")


KEEP = frozenset({"dropout"})


def product(run: lay.Run) -> int:
    n = 1
    for atom in run:
        n *= atom.size
    return n


def sized(place: Place, shape: tuple[int, ...]) -> Place:
    """The place with channels as they now are (a split, a step that changes the number of channels)."""
    runs = []
    for run, size in zip(place.layout, shape, strict=True):
        if product(run) == size:
            runs.append(run)
        elif not run or any(a.name in "hw" for a in run):
            runs.append((lay.Atom("x", size),))
        else:
            runs.append((lay.Atom("c", size),))
    return Place(tuple(runs), place.geometry)


RULES: dict[str, Callable[[Follower, fx.Node, Before], Place | None]] = {
    "convolution": convolution,
    "transposed": transposed,
    "pooling": pooling,
    "adaptive": adaptive,
    "reduce": reduce,
    "reshape": reshape,
    "permute": permute,
    "Permute": permute,
    "getitem": getitem,
    "pad": pad,
    "interpolate": interpolate,
    "pixel_shuffle": pixel_shuffle,
    "linear": linear,
    "cat": cat,
    "attention": attention,
}


def places(graph_module: fx.GraphModule, *, disagreement: str = "error") -> Follower:
    """Layout and geometry of every tensor of a traced graph, at the size it was traced or last followed at."""
    return Follower(graph_module, disagreement).run()


def geometry_of(network: nn.Module, size: Size | int, *, disagreement: str = "error") -> dict[str, Geometry]:
    """Stride, offset, receptive field and size of every tensor of a network that has rows and columns.

    Args:
        network: any module that takes a photo; it is not changed.
        size: of the photo, (rows, columns) or one number for a square.
        disagreement: what is done where branches meet that are not centred alike: "error", or "span" (see `merged`).
    Returns: tensor name -> Geometry, in the order of computation. A tensor is named by the path of the module that made
        it (the second use of a module adds "#2"), else by its step.
    Raises: GeometryError naming the branches that disagree; SurgeryError where the network cannot be followed.
    """
    height, width = pair(size)
    follower = places(trace(network, (height, width)), disagreement=disagreement)
    found: dict[str, Geometry] = {}
    times: dict[str, int] = {}
    for node, place in follower.place.items():
        if place is None or place.geometry is None or not isinstance(node.meta["concrete"], Tensor):
            continue
        name = label(node)
        times[name] = times.get(name, 0) + 1
        found[name if times[name] == 1 else f"{name}#{times[name]}"] = place.geometry
    return found
