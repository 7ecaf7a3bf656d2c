"""Where every tensor of a graph lies: its layout and its geometry. Road: nets, after graph. In: a graph. Out: places.

One rule a kind of step, in RULES; a step without a rule keeps the place of what it reads if it keeps the shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fullconv.base.errors import GeometryError
from fullconv.geometry import geometry as geo
from fullconv.geometry.geometry import Geometry
from fullconv.nets import layout as lay
from fullconv.nets.graph import Size, concretes, label, pads_as_needed, spot
from fullconv.nets.layers import CellGroupNorm
from fullconv.nets.layout import Layout


@dataclass(frozen=True)
class Place:
    """Where a tensor's cells lie: its layout, and the geometry while it has rows and columns (or had: one cell)."""

    layout: Layout
    geometry: Geometry | None


@dataclass
class Follower:
    """Follows layout and geometry through a traced graph.

    Attributes:
        place: of every tensor that could be followed.
        why: tells where and why a tensor lost its place.
        photo: all that is computed from the photo, followed or not.
    """

    module: fx.GraphModule
    disagreement: str = "error"
    place: dict[fx.Node, Place | None] = field(default_factory=dict)
    why: dict[fx.Node, str] = field(default_factory=dict)
    photo: set[fx.Node] = field(default_factory=set)

    def run(self) -> Follower:
        for node in self.module.graph.nodes:
            if node.op == "placeholder" or (has_tensor(node) and any(n in self.photo for n in node.all_input_nodes)):
                self.photo.add(node)
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
            raise GeometryError(error.must, f"at '{spot(node)}': {error.found}", error.try_) from error

    def lost(self, node: fx.Node, why: str) -> Place | None:
        self.why[node] = why
        return None


ATTENTION = "attention: every position meets every other"
POSITIONS = "positions: what is learnt belongs to fixed rows and columns"
RECURRENCE = "recurrence: a state is carried along rows and columns"
UNLIKE = (ATTENTION, POSITIONS, RECURRENCE)
"""How each reason begins why a network is no convolutional one: its positions do not act alike."""

Before = list[tuple[fx.Node, Place]]
Step = Callable[[geo.Axis, int], geo.Axis]


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
    "pad": (
        nn.modules.padding._ConstantPadNd,
        nn.modules.padding._ReflectionPadNd,
        nn.modules.padding._ReplicationPadNd,
    ),
    "interpolate": (nn.Upsample,),
    "reshape": (nn.Flatten, nn.Unflatten),
    "attention": (nn.MultiheadAttention,),
    "recurrent": (nn.RNNBase,),
    "pixel_shuffle": (nn.PixelShuffle,),
    "pixel_unshuffle": (nn.PixelUnshuffle,),
    "norm_over_map": (nn.GroupNorm, nn.modules.instancenorm._InstanceNorm),
}

WORDS: dict[str, str] = {
    "conv2d": "convolution",
    "group_norm": "norm_over_map",
    "instance_norm": "norm_over_map",
    "conv_transpose2d": "transposed",
    "max_pool2d": "pooling",
    "boolean_dispatch": "pooling",
    "avg_pool2d": "pooling",
    "adaptive_avg_pool2d": "adaptive",
    "adaptive_max_pool2d": "adaptive",
    "flatten": "reshape",
    "view": "reshape",
    "reshape": "reshape",
    "reshape_as": "reshape",
    "view_as": "reshape",
    "unflatten": "reshape",
    "squeeze": "reshape",
    "unsqueeze": "reshape",
    "mean": "reduce",
    "sum": "reduce",
    "amax": "reduce",
    "amin": "reduce",
    "std": "reduce",
    "var": "reduce",
    "norm": "reduce",
    "vector_norm": "reduce",
    "transpose": "permute",
    "swapaxes": "permute",
    "movedim": "permute",
    "matmul": "product",
    "bmm": "product",
    "baddbmm": "product",
    "einsum": "product",
    "scaled_dot_product_attention": "attention",
    "shifted_window_attention": "attention",
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


def sliding(follower: Follower, node: fx.Node, before: Before, step: Step) -> Place | None:
    """A step over a map of (N, C, H, W) or over one pooled cell of (N, C, 1, 1)."""
    _, place = before[0]
    value = node.meta["concrete"]
    shape = tuple((value[0] if isinstance(value, (tuple, list)) else value).shape)
    if len(shape) != 4 or place.geometry is None or len(place.layout) != 4:
        return follower.lost(node, "slides over a tensor that has no rows and columns")
    if lay.where(place.layout, "h") != 2 or lay.where(place.layout, "w") != 3:
        if place.layout[2:] == ((), ()) and shape[2:] == (1, 1):
            return Place((place.layout[0], (lay.Atom("c", shape[1]),), (), ()), place.geometry)
        return follower.lost(node, f"slides over dimensions that hold ({lay.names(place.layout)})")
    geometry = geo.each_axis(place.geometry, step)
    if geometry.size != shape[2:]:
        return follower.lost(node, f"gives {shape[2:]} cells where its settings say {geometry.size}")
    return Place((place.layout[0], *lay.of_map(shape)[1:]), geometry)


def convolution(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    kernel, stride, padding, dilation = convolution_settings(node, follower.module)
    layout, size = before[0][1].layout, shape_of(before[0][0])[2:]
    each_by_itself = kernel == stride == (1, 1) and padding == (0, 0)
    if each_by_itself and len(layout) == 4 and not lay.is_map(layout) and not lay.is_spatial(layout[1]):
        return Place((layout[0], (lay.Atom("c", shape_of(node)[1]),), *layout[2:]), before[0][1].geometry)

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
        assert isinstance(layer, nn.ConvTranspose2d)
        assert not isinstance(layer.padding, str)
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


def reduced(node: fx.Node) -> tuple[int, ...] | None:
    """The dimensions that a reduction takes away; None where it takes all."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    dims = argument(node, 2 if "norm" in name else 1, "dim", None)  # a norm's order stands first
    if dims is None:
        return None
    whole = len(shape_of(node.all_input_nodes[0]))
    return tuple(d % whole for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))


def highest(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """torch.max(x, 1): the largest along a dimension, and where it stands."""
    _, place = before[0]
    value = node.meta["concrete"]
    if isinstance(value, Tensor):  # of two tensors, or of all there is
        return pointwise(follower, node, before)
    dim = int(argument(node, 1, "dim", 0)) % len(place.layout)
    if lay.is_spatial(place.layout[dim]):
        return follower.lost(node, "takes the largest along rows or columns")
    return Place(lay.without(place.layout, (dim,), value[0].dim() == len(place.layout)), place.geometry)


def reduce(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    dims = reduced(node)
    if dims is None:
        return follower.lost(node, "reduces the whole tensor to one number")
    keep = len(shape_of(node)) == len(place.layout)
    gone = {atom.root for d in dims for atom in place.layout[d]}
    if {"h", "w"} <= gone:
        return pooled(place, dims, keep)
    if gone & {"h", "w"}:
        return follower.lost(node, "reduces rows without columns, or columns without rows")
    return Place(lay.without(place.layout, dims, keep), place.geometry)


def reshape(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    layout = lay.reshaped(place.layout, shape_of(node))
    if layout is None:
        found = f"reshapes ({lay.names(place.layout)}) to {shape_of(node)[1:]}"
        return follower.lost(node, f"{found}, which tears rows or columns apart")
    layout, block = lay.settled(layout), lay.block(layout)
    if block is None or place.geometry is None:
        return Place(layout, place.geometry)
    return Place(lay.of_blocks(layout), in_blocks(place.geometry, block))


def in_blocks(geometry: Geometry, block: Size) -> Geometry:
    """Space to depth: each cell holds a block of the cells before, as a convolution that strides by it would."""
    return geo.each_axis(geometry, lambda axis, i: geo.windows(axis, block[i], block[i], 0, 0))


def unbind(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    dim = int(argument(node, 1, "dim", 0)) % len(place.layout)
    if lay.is_spatial(place.layout[dim]):
        return follower.lost(node, "takes rows or columns apart")
    return Place(place.layout[:dim] + place.layout[dim + 1 :], place.geometry)


def stack(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    place = meeting(follower, node, before)
    if place is None:
        return None
    shape = shape_of(node)
    dim = int(argument(node, 1, "dim", 0)) % len(shape)
    return Place((*place.layout[:dim], (lay.Atom("stacked", shape[dim]),), *place.layout[dim:]), place.geometry)


def permute(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    # The order is read off a small tensor that goes through the same step.
    probe = torch.empty([i + 2 for i in range(len(place.layout))])
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


def on_one_axis(geometry: Geometry, which: int, axis: geo.Axis) -> Geometry:
    return geo.each_axis(geometry, lambda other, i: axis if i == which else other)


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
    rest, geometry = list(zip(place.layout, shape_of(source), strict=True)), place.geometry
    layout: list[lay.Run] = []
    for i in index:
        if i is None:
            layout.append(())
            continue
        run, size = rest.pop(0)
        which = {"h": 0, "w": 1}.get(run[0].name) if len(run) == 1 else None
        if isinstance(i, int):
            if lay.is_spatial(run):
                return follower.lost(node, "picks one row or column")
            continue
        start, stop, step = i.indices(size)
        count = len(range(start, stop, step))
        if count == size and step == 1:
            layout.append(run)
            continue
        if lay.is_spatial(run) and which is None:
            return follower.lost(node, "cuts a dimension that mixes rows or columns with others")
        layout.append((lay.Atom(run[0].name if which is not None else "c", count),))
        if which is not None and geometry is not None:
            geometry = on_one_axis(geometry, which, geo.cropped(geometry.axis(which), start, count, step))
    layout += [run for run, _ in rest]
    return Place(tuple(layout), geometry)


def padding_of(node: fx.Node, module: fx.GraphModule) -> list[int]:
    """Left, right, top, bottom, ... of a padding step."""
    if node.op == "call_module":
        layer: Any = module.get_submodule(str(node.target))
        return [int(v) for v in layer.padding]
    return [int(v) for v in argument(node, 1, "pad", [])]


def pad(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    amounts = padding_of(node, follower.module)
    geometry, shape = place.geometry, shape_of(node)
    layout = list(place.layout)
    for k in range(len(amounts) // 2):
        dim, (left, right) = len(layout) - 1 - k, (amounts[2 * k], amounts[2 * k + 1])
        if left == right == 0:
            continue
        run = layout[dim]
        if len(run) != 1:
            return follower.lost(node, "pads a dimension that holds several things")
        layout[dim] = (lay.Atom(run[0].name, shape[dim]),)
        which = {"h": 0, "w": 1}.get(run[0].name)
        if which is not None and geometry is not None:
            geometry = on_one_axis(geometry, which, geo.padded(geometry.axis(which), left, right))
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


def pixel_unshuffle(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    was, now = shape_of(before[0][0])[2:], shape_of(node)[2:]
    factor = was[0] // now[0]
    return sliding(follower, node, before, lambda axis, _: geo.windows(axis, factor, factor, 0, 0))


def linear(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    _, place = before[0]
    spatial = lay.is_spatial(place.layout[-1])
    if spatial and lay.holds(place.layout[:-1], "c"):
        return follower.lost(node, f"{POSITIONS}: a Linear layer over positions, channel by channel")
    geometry = place.geometry
    if spatial and geometry is not None:
        geometry = geo.each_axis(geometry, lambda axis, _: geo.windows(axis, axis.size, 1, 0, 0))
    return Place((*place.layout[:-1], (lay.Atom("c", shape_of(node)[-1]),)), geometry)


def cat(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    dim = int(argument(node, 1, "dim", 0))
    layout = before[0][1].layout
    merged = meeting(follower, node, before)
    if merged is None:
        return None
    if lay.is_spatial(layout[dim]):
        return follower.lost(node, "joins tensors along rows or columns")
    shape = shape_of(node)
    dim %= len(shape)
    return Place((*layout[:dim], (lay.Atom("c", shape[dim]),), *layout[dim + 1 :]), merged.geometry)


def attention(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    return follower.lost(node, ATTENTION)


def softmax(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """Over the channels, or over all positions; over blocks of rows and columns it is attention among the blocks."""
    layout = before[0][1].layout
    layer: Any = follower.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    dim = argument(node, 1, "dim", None) if layer is None else layer.dim
    if dim is not None and any(atom.name != atom.root for atom in layout[dim]) and lay.is_spatial(layout[dim]):
        return follower.lost(node, ATTENTION)
    place = pointwise(follower, node, before)
    return unbounded(place) if dim is not None and place is not None and lay.is_spatial(layout[dim]) else place


def unbounded(place: Place) -> Place:
    """The same place; a cell depends on the whole map."""
    if place.geometry is None:
        return place
    return Place(place.layout, Geometry(place.geometry.stride, place.geometry.offset, None, place.geometry.size))


def normalize(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """F.normalize divides by the length along a dimension: over positions, a cell depends on all of them."""
    layout, place = before[0][1].layout, pointwise(follower, node, before)
    dim = argument(node, 2, "dim", 1)
    over = [layout[d] for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    return unbounded(place) if place is not None and any(lay.is_spatial(run) for run in over) else place


def functional_layer_norm(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """F.layer_norm over the last dimensions: over positions, a cell depends on the whole map."""
    layout, place = before[0][1].layout, pointwise(follower, node, before)
    shape = argument(node, 1, "normalized_shape", ())
    over = layout[-len(shape) :] if len(shape) else ()
    return unbounded(place) if place is not None and any(lay.is_spatial(run) for run in over) else place


def mixes(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """Steps that bring what lies at one position to another, though they keep the shape."""
    _, place = before[0]
    if not any(lay.is_spatial(run) for run in place.layout):
        return pointwise(follower, node, before)
    return follower.lost(node, f"{POSITIONS}: '{kind_of(node, follower.module)}' reorders or sums along them")


MIXING = (
    *("flip", "fliplr", "flipud", "roll", "rot90", "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"),
    *("sort", "argsort", "topk", "fft_fft", "fft_fft2", "fft_rfft", "fft_rfft2", "fft_fftn", "fft_ifft2", "fft_irfft2"),
)


def window_context(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """The mean over a window round each cell: as many cells more to each side, counted for the farther one."""
    layer: Any = follower.module.get_submodule(str(node.target))

    def step(axis: geo.Axis, i: int) -> geo.Axis:
        more = 2 * (layer.size[i] // 2) * axis.stride
        return geo.Axis(axis.stride, axis.offset, None if axis.field is None else axis.field + more, axis.size)

    return sliding(follower, node, before, step)


def recurrent(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    return follower.lost(node, RECURRENCE)


def matrix_product(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """A matrix that belongs to the network acts on one dimension; two of the photo's tensors pool, or are attention."""
    factors, shape = node.all_input_nodes, shape_of(node)
    plain = len(factors) == 2 and "einsum" not in label(node) and all(len(shape_of(f)) > 1 for f in factors)
    if sum(f in follower.photo for f in factors) > 1:
        pools = plain and len(before) == 2
        return weighted_pooling(follower, node, before) if pools else follower.lost(node, ATTENTION)
    if not plain:
        return follower.lost(node, "multiplies by a matrix in a way that has no rule")
    _, place = before[0]
    dim = -1 if place is follower.place.get(factors[0]) else -2
    if lay.is_spatial(place.layout[dim]):
        return follower.lost(node, f"{POSITIONS}: a matrix over positions")
    layout = list((((),) * len(shape) + place.layout)[-len(shape) :])
    layout[dim] = (lay.Atom("c", shape[dim]),)
    return Place(tuple(layout), place.geometry)


def weighted_pooling(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """(N, C, H W) times one weight for each position, (N, H W, 1): a pooling over the whole map, weighted."""
    (_, left), (_, right) = before
    one, other = left.layout[-1], right.layout[-2]
    inside = one == other and lay.holds((one,), "h") and lay.holds((one,), "w")
    rest = (*left.layout[:-1], *right.layout[:-2], right.layout[-1])
    single = left.layout[-2] == () or right.layout[-1] == ()
    if not inside or not single or any(lay.is_spatial(run) for run in rest):
        return follower.lost(node, ATTENTION)
    layout = (*left.layout[:-2], left.layout[-2], right.layout[-1])
    return pooled(Place(layout, left.geometry), (), keep=True)


def meeting(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """Tensors that meet in one step: the layout of the one with rows and columns, the geometry of all.

    A factor of one cell (squeeze-and-excitation) takes the bound from the receptive field, and nothing else; so does
    a branch that was brought to the size of the others from fewer cells than fit (a gate of 3 rows beside 7).
    """
    mapped = [(n, p) for n, p in before if p.geometry is not None and lay.is_map(p.layout)]
    if not mapped:
        return next((p for _, p in before if lay.holds(p.layout, "h")), before[0][1])
    first, meet = mapped[0][1], [(spot(n), g) for n, p in mapped if (g := p.geometry)]
    if follower.disagreement == "span":
        meet = [(name, g) for name, g in meet if all(s.denominator == 1 for s in g.stride)] or meet
    geometry = geo.merged(dict(meet), disagreement=follower.disagreement)
    if len(meet) < len(before):
        geometry = Geometry(geometry.stride, geometry.offset, None, geometry.size)
    return Place(first.layout, geometry)


def norm_over_map(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """GroupNorm and its kin divide by what they measure over the whole map: a cell depends on all of it."""
    place = pointwise(follower, node, before)
    layer = follower.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    fixed = isinstance(layer, CellGroupNorm) or bool(getattr(layer, "track_running_stats", False))
    if place is None or place.geometry is None or not lay.is_map(place.layout) or fixed:
        return place
    return unbounded(place)


def layer_norm(follower: Follower, node: fx.Node, before: Before) -> Place | None:
    """Over the channels it acts on each cell; over rows and columns too it has weights for fixed ones."""
    _, place = before[0]
    layer: Any = follower.module.get_submodule(str(node.target))
    over = place.layout[-len(layer.normalized_shape) :]
    if lay.is_map(place.layout) and any(lay.is_spatial(run) for run in over):
        return follower.lost(node, f"{POSITIONS}: it normalizes over rows and columns of one size")
    return pointwise(follower, node, before)


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
            return sized(place, shapes[0])
        if all((s[h], s[w]) == place.geometry.size for s in shapes):
            return sized(place, shapes[0])
    return follower.lost(node, f"'{kind_of(node, follower.module)}' has no rule and changes the shape")


def sized(place: Place, shape: tuple[int, ...]) -> Place:
    """The place with channels as they now are (a split, a step that changes the number of channels)."""
    runs = []
    for run, size in zip(place.layout, shape, strict=True):
        if lay.size_of(run) == size:
            runs.append(run)
        elif not run or lay.is_spatial(run):
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
    "max": highest,
    "min": highest,
    "reshape": reshape,
    "permute": permute,
    "Permute": permute,
    "getitem": getitem,
    "pad": pad,
    "interpolate": interpolate,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "unbind": unbind,
    "stack": stack,
    "softmax": softmax,
    "Softmax": softmax,
    "recurrent": recurrent,
    "WindowContext": window_context,
    "norm_over_map": norm_over_map,
    "LayerNorm": layer_norm,
    "layer_norm": functional_layer_norm,
    "normalize": normalize,
    **dict.fromkeys(MIXING, mixes),
    "linear": linear,
    "cat": cat,
    "attention": attention,
    "product": matrix_product,
}


def is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("concrete"), Tensor)


def has_tensor(node: fx.Node) -> bool:
    """A tensor, or several (of a split)."""
    value = node.meta.get("concrete")
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(isinstance(v, Tensor) for v in value))


def pools_maximum(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.AdaptiveMaxPool2d)
    return "max" in str(getattr(node.target, "__name__", node.target))


def pools_mean(node: fx.Node, module: fx.GraphModule) -> bool:
    if kind_of(node, module) == "adaptive":
        return not pools_maximum(node, module)
    return str(getattr(node.target, "__name__", node.target)) == "mean"


def places(graph_module: fx.GraphModule, *, disagreement: str = "error") -> Follower:
    """Layout and geometry of every tensor of a traced graph, at the size it was traced or last followed at."""
    return Follower(graph_module, disagreement).run()
