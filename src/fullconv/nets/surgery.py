"""A classifier made fully convolutional, with its proof. Road: nets, after trace. In: a classifier. Out: Converted.

The graph is traced at the window's size. Where a tensor loses its rows and columns for good the head begins; from there
on every (N, F) tensor of the classifier is a (N, F, 1, 1) map of the converted network, which on a larger photo is a
(N, F, h, w) map: one cell a window. A Linear layer over flattened (C, h, w) is a convolution of kernel h x w, a Linear
layer over pooled channels a convolution of kernel 1, a pooling over the whole map a fixed pooling of stride 1.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.base.errors import SurgeryError, UsageError
from fullconv.geometry import geometry as geo
from fullconv.geometry.geometry import Geometry
from fullconv.nets import layout as lay
from fullconv.nets.proof import Account, Proof, at_window
from fullconv.nets.trace import Follower, Place, Size, convolution_settings, kind_of, label, pair, places, shape_of, trace

POOLINGS = {
    "window": "each cell scores one window: the pooling over the whole map becomes a fixed pooling of stride 1",
    "cell": "each cell is scored by itself: the pooling over the whole map is dropped (class activation map)",
}
CONTEXTS = {
    "global": "pooling over the whole map inside the body (squeeze-and-excitation) stays as it is",
    "window": "pooling over the whole map inside the body becomes a pooling over one window round each cell",
}


@dataclass(frozen=True)
class Converted:
    """A fully convolutional network that was a classifier, and what is known of it.

    `network` gives (N, K, h, w) scores; `geometry` is that of the score grid at the window's size; `head` names the nodes
    of its graph that stand for the classifier's head: what comes after the last map of the body.
    """

    network: fx.GraphModule
    proof: Proof
    geometry: Geometry
    window: Size
    head: tuple[str, ...]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a (N, C, H, W) map."""

    def forward(self, input: Tensor) -> Tensor:
        last = F.layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


class WindowContext(nn.Module):
    """The mean over a window of `size` cells round each cell, kept inside the map; on a map no larger, its mean."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        h, w = min(self.size[0], x.shape[2]), min(self.size[1], x.shape[3])
        inner = F.avg_pool2d(x, (h, w), stride=1)
        up, left = (h - 1) // 2, (w - 1) // 2
        return F.pad(inner, (left, w - 1 - left, up, h - 1 - up), mode="replicate")


def convolutionalize(
    model: nn.Module,
    window: int | Size,
    *,
    pooling: str = "window",
    context: str = "global",
    photos: Sequence[np.ndarray] | Tensor | None = None,
) -> Converted:
    """Rewrite a classifier so that it takes any size and gives a grid of scores, and prove it at the window.

    Args:
        model: the classifier; it is not changed.
        window: the size it was trained at, (rows, columns) or one number.
        pooling: one of POOLINGS.
        context: one of CONTEXTS.
        photos: (N, 3, h, w) prepared photos of the window's size to prove it on; seeded pictures if None.
    Returns: Converted; its `network` keeps parameter names where it can, and is trainable.
    Raises: SurgeryError naming the layer and the reason where the network cannot be converted.
    """
    window = pair(window)
    chosen("pooling", pooling, POOLINGS)
    chosen("context", context, CONTEXTS)
    network, account, geometry, head = rewritten(model, window, pooling=pooling, context=context)
    check = at_window(model, network, window, photos)
    proof = Proof(window, geometry, pooling, check, account)
    return Converted(network, proof, geometry, window, head)


def chosen(what: str, word: str, choices: dict[str, str]) -> None:
    if word not in choices:
        raise UsageError(f"{what} is one of {', '.join(choices)}", f"{what}={word!r}", f"{what}={next(iter(choices))!r}")


def rewritten(model: nn.Module, window: Size, *, pooling: str, context: str) -> Rewritten:
    """The converted network, the account of weights, its score grid at the window's size, and the nodes of its head."""
    graph_module = trace(copy.deepcopy(model), window)
    follower = places(graph_module, disagreement="span")
    work = Surgery(graph_module, follower, pooling=pooling, context=context)
    work.operate()
    account = work.account(model, graph_module)
    network = trace(tidied(graph_module), window)
    network.train(model.training)
    after = places(network, disagreement="span")
    scores = output_of(network).all_input_nodes[0]
    place = after.place[scores]
    if place is None or place.geometry is None or not lay.is_map(place.layout):
        raise no_map(label(scores), after.why)
    head = tuple(n.name for n in head_nodes(network, after, {n.name for n in work.new}))
    for node in network.graph.nodes:
        node.meta.pop("concrete", None)
    return network, account, place.geometry, head


Rewritten = tuple[fx.GraphModule, Account, Geometry, tuple[str, ...]]


def tidied(graph_module: fx.GraphModule) -> fx.GraphModule:
    graph_module.graph.lint()
    graph_module.recompile()
    graph_module.delete_all_unused_submodules()
    return graph_module


def output_of(graph_module: fx.GraphModule) -> fx.Node:
    return next(n for n in graph_module.graph.nodes if n.op == "output")


def head_nodes(network: fx.GraphModule, follower: Follower, new: set[str]) -> list[fx.Node]:
    """The nodes that surgery wrote, and those after a convolution that covers its whole map (an fc6 that is one already)."""
    head: list[fx.Node] = []
    for node in network.graph.nodes:
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        covers = (
            kind_of(node, network) == "convolution"
            and source is not None
            and is_tensor(source)
            and shape_of(node)[2:] == (1, 1) != shape_of(source)[2:]
            and convolution_settings(node, network)[0] == shape_of(source)[2:]
        )
        if node.op != "output" and (node.name in new or covers or any(n in head for n in node.all_input_nodes)):
            head.append(node)
    return head


def no_map(name: str, why: dict[fx.Node, str]) -> SurgeryError:
    reasons = "; ".join(f"'{label(node)}': {reason}" for node, reason in list(why.items())[:3])
    return SurgeryError(
        "the classifier's scores must come from a map with rows and columns",
        f"no spatial map leads to '{name}'" + (f" ({reasons})" if reasons else ""),
        "give a convolutional classifier that takes (N, 3, H, W) and gives (N, K)",
    )


@dataclass
class Surgery:
    """Rewrites the head of a traced classifier, node by node, in place."""

    module: fx.GraphModule
    follower: Follower
    pooling: str
    context: str
    reshaped: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    lifted: dict[fx.Node, fx.Node] = field(default_factory=dict)
    new: list[fx.Node] = field(default_factory=list)

    @property
    def graph(self) -> fx.Graph:
        return self.module.graph

    def operate(self) -> None:
        self.refuse_what_cannot_be_followed()
        head, before = self.head(), set(self.graph.nodes)
        for node in list(self.graph.nodes):
            if node in head:
                self.lifted[node] = self.lift(node)
            elif kind_of(node, self.module) == "adaptive" and node.op != "output" and self.has_map(node):
                self.fix_adaptive(node)
        output = output_of(self.module)
        output.args = fx.map_arg(output.args, lambda n: self.lifted.get(n, n))
        for node in reversed(list(self.graph.nodes)):
            if node in head and not node.users:
                self.graph.erase_node(node)
        self.graph.eliminate_dead_code()
        self.new = [n for n in self.graph.nodes if n in set(self.lifted.values()) - before]
        if self.context == "window":
            self.context_in_windows()

    # ------------------------------------------------------------------ what is head, what cannot be

    def has_map(self, node: fx.Node) -> bool:
        place = self.follower.place.get(node)
        return place is not None and lay.is_map(place.layout)

    def head(self) -> set[fx.Node]:
        """Tensors without rows and columns of their own, from which no tensor that has them is computed again."""
        head: set[fx.Node] = set()
        for node in reversed(list(self.graph.nodes)):
            if node.op in ("output", "placeholder", "get_attr") or not is_tensor(node):
                continue
            place = self.follower.place.get(node)
            onward = [u for u in node.users if u.op != "output" and is_tensor(u)]
            if place is not None and not lay.is_map(place.layout) and all(u in head for u in onward):
                head.add(node)
        for node in output_of(self.module).all_input_nodes:
            if node not in head and not self.has_map(node):
                raise no_map(label(node), self.follower.why)
        return head

    def refuse_what_cannot_be_followed(self) -> None:
        for node, why in self.follower.why.items():
            raise SurgeryError(
                "every step must act alike at every position of the map",
                f"'{label(node)}' ({kind_of(node, self.module)}): {why}",
                "use a convolutional classifier; attention over all positions has no fully convolutional form",
            )
        for node in self.graph.nodes:
            for other in node.all_input_nodes:
                if other.op == "get_attr" and self.has_map(node) and kind_of(node, self.module) in ("add", "iadd", "mul"):
                    self.refuse_positions(node, other)

    def refuse_positions(self, node: fx.Node, parameter: fx.Node) -> None:
        value, place = parameter.meta["concrete"], self.follower.place[node]
        assert place is not None
        rows, columns = lay.where(place.layout, "h"), lay.where(place.layout, "w")
        assert rows is not None and columns is not None
        aligned = (1,) * (len(place.layout) - value.dim()) + tuple(value.shape)
        if aligned[rows] > 1 or aligned[columns] > 1:
            raise SurgeryError(
                "every step must act alike at every position of the map",
                f"'{label(parameter)}' at '{label(node)}' is a fixed positional embedding of {tuple(value.shape)}",
                "use a classifier without positional embedding",
            )

    # ------------------------------------------------------------------ the head, node by node

    def lift(self, node: fx.Node) -> fx.Node:
        """The node of the converted network whose map stands for the tensor that `node` makes in the classifier."""
        with self.graph.inserting_before(node):
            return LIFTS.get(kind_of(node, self.module), lift_pointwise)(self, node)

    def source(self, node: fx.Node) -> fx.Node:
        """The map that stands for the first input, its dimensions in the order (N, C, H, W)."""
        first = next(n for n in node.all_input_nodes if self.follower.place.get(n) is not None)
        if first in self.lifted:
            return self.lifted[first]
        place = self.place(first)
        order = tuple(lay.where(place.layout, name) for name in "hw")
        if order == (2, 3) and len(place.layout) == 4:
            return first
        if order == (1, 2) and len(place.layout) == 4:
            return self.graph.call_method("permute", (first, 0, 3, 1, 2))
        raise self.refused(node, f"reads a tensor of ({lay.names(place.layout)})")

    def place(self, node: fx.Node) -> Place:
        place = self.follower.place[node]
        assert place is not None, label(node)
        return place

    def before(self, node: fx.Node) -> Place:
        return self.place(next(n for n in node.all_input_nodes if self.follower.place.get(n) is not None))

    def refused(self, node: fx.Node, why: str) -> SurgeryError:
        return SurgeryError(
            "every step of a classifier's head must have a fully convolutional form",
            f"'{label(node)}' ({kind_of(node, self.module)}) {why}",
            "replace this step in your classifier, or cut the head off and give only the body",
        )

    def insert(self, name: str, layer: nn.Module, source: fx.Node) -> fx.Node:
        """A call of `layer` under `name`, which replaces what had that name."""
        self.module.add_submodule(name, layer)
        return self.graph.call_module(name, (source,))

    def free(self, name: str) -> str:
        taken = {n for n, _ in self.module.named_modules()}
        while name in taken or hasattr(self.module, name):
            name += "_"
        return name

    # ------------------------------------------------------------------ pooling inside the body

    def fix_adaptive(self, node: fx.Node) -> None:
        """An adaptive pooling that leaves a map: dropped where it changes nothing, else of fixed size."""
        source = node.all_input_nodes[0]
        size, bins = shape_of(source)[2:], shape_of(node)[2:]
        if size == bins:
            node.replace_all_uses_with(source)
            self.lifted[node] = source
            self.graph.erase_node(node)
            return
        if any(s % b for s, b in zip(size, bins, strict=True)):
            raise self.refused(node, f"pools {size[0]}x{size[1]} cells to {bins[0]}x{bins[1]}, which needs bins of unequal size")
        step = (size[0] // bins[0], size[1] // bins[1])
        layer = nn.MaxPool2d(step, step) if pools_maximum(node, self.module) else nn.AvgPool2d(step, step)
        name = str(node.target) if node.op == "call_module" else self.free(node.name)
        with self.graph.inserting_before(node):
            fixed = self.insert(name, layer, source)
        fixed.meta["concrete"], self.follower.place[fixed] = node.meta["concrete"], self.follower.place[node]
        node.replace_all_uses_with(fixed)
        self.graph.erase_node(node)

    def context_in_windows(self) -> None:
        for node in list(self.graph.nodes):
            if node.op in ("output", "placeholder") or node not in self.follower.place or self.has_map(node):
                continue
            if kind_of(node, self.module) not in ("adaptive", "reduce"):
                continue
            source = node.all_input_nodes[0]
            if not self.has_map(source):
                continue
            if self.place(node).layout[2:] != ((), ()) or pools_maximum(node, self.module):
                raise self.refused(node, "pools the whole map in a way that has no windowed form here")
            with self.graph.inserting_before(node):
                name = str(node.target) if node.op == "call_module" else self.free(node.name + "_window")
                h, w = shape_of(source)[2:]
                inside = self.insert(name, WindowContext((h, w)), source)
            node.replace_all_uses_with(inside)
            self.graph.erase_node(node)

    # ------------------------------------------------------------------ the account

    def account(self, model: nn.Module, network: nn.Module) -> Account:
        old, new = set(model.state_dict()), set(network.state_dict())
        return Account(
            copied=tuple(sorted((old & new) - set(self.reshaped) - set(self.folded))),
            reshaped=tuple(sorted(self.reshaped)),
            folded=tuple(sorted(self.folded)),
            dropped=tuple(sorted(old - new)),
            fresh=tuple(sorted(new - old)),
        )


def is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("concrete"), Tensor)


def pools_maximum(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.AdaptiveMaxPool2d)
    return "max" in str(getattr(node.target, "__name__", node.target))


def lift_pool(work: Surgery, node: fx.Node) -> fx.Node:
    """A pooling over the whole map: fixed, of the window's size and stride 1; or dropped."""
    source = work.source(node)
    place = work.before(node)
    if not lay.holds(place.layout, "h") and not lay.holds(place.layout, "w"):
        return lift_layout(work, node)
    if place.geometry is None or not (lay.is_map(place.layout) or lay.holds(place.layout, "h")):
        raise work.refused(node, f"pools a tensor of ({lay.names(place.layout)})")
    if kind_of(node, work.module) == "reduce" and str(getattr(node.target, "__name__", node.target)) not in ("mean", "amax"):
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
        names = [f"{name}.weight"] + ([f"{name}.bias"] if bias is not None else [])
    else:
        raise work.refused(node, "is a Linear step without a layer of its own")
    kernel, inputs = as_kernel(weight.detach(), run)
    conv = nn.Conv2d(inputs, weight.shape[0], kernel.shape[2:], bias=bias is not None, dtype=weight.dtype, device=weight.device)
    with torch.no_grad():
        conv.weight.copy_(kernel)
        if bias is not None and conv.bias is not None:
            conv.bias.copy_(bias)
    conv.weight.requires_grad_(weight.requires_grad)
    work.reshaped += names[:1]
    return work.insert(name, conv, source)


def as_kernel(weight: Tensor, run: lay.Run) -> tuple[Tensor, int]:
    """A (out, in) matrix whose inputs are laid out as `run` -> (out, C, h, w), and C."""
    parts = weight.reshape(weight.shape[0], *(atom.size for atom in run))
    last = {"h": 1, "w": 2}
    order = sorted(range(len(run)), key=lambda i: (last.get(run[i].name, 0), channel_rank(run[i].name)))
    sizes = {name: next((a.size for a in run if a.name == name), 1) for name in "hw"}
    kernel = parts.permute(0, *(i + 1 for i in order)).reshape(weight.shape[0], -1, sizes["h"], sizes["w"])
    return kernel.contiguous(), kernel.shape[1]


def channel_rank(name: str) -> tuple[int, ...]:
    """Parts of the channels in their order in the map: "c.0" before "c.1"."""
    return tuple(int(part) for part in name.split(".")[1:])


def lift_batch_norm(work: Surgery, node: fx.Node) -> fx.Node:
    layer = work.module.get_submodule(str(node.target))
    if isinstance(layer, nn.BatchNorm2d):
        return lift_pointwise(work, node)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    if work.before(node).layout[1:] and lay.holds(work.before(node).layout[1:2], "h"):
        raise work.refused(node, "normalizes each position by itself, before a Linear layer")
    twin = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    twin.load_state_dict(layer.state_dict())
    return work.insert(str(node.target), twin, work.source(node))


def lift_layer_norm(work: Surgery, node: fx.Node) -> fx.Node:
    layer = work.module.get_submodule(str(node.target))
    if type(layer).__name__ != "LayerNorm" or len(work.before(node).layout) == 4 and not work.before(node).layout[2]:
        return lift_pointwise(work, node)
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


POINTWISE = frozenset(
    "dropout relu relu6 gelu silu hardswish hardtanh hardsigmoid sigmoid tanh leaky_relu elu selu mish softplus prelu add sub mul "
    "truediv neg contiguous clone float to detach abs exp iadd imul".split()
)
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
    name = type(layer).__name__
    return isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.PReLU) or name.startswith("LayerNorm") and name != "LayerNorm"


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
