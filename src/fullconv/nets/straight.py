"""Linear layers inside the body become 1x1 convolutions. Road: nets, a part of surgery, before the head is rewritten.

ConvNeXt and its kin keep their maps as (N, H, W, C) so that Linear layers act on the channels; squeeze-and-excitation
pools to (N, C) for the same reason. Here every such tensor gets its straight form, (N, C, H, W), and the steps on it
are written anew for that form; what only turned dimensions round falls away.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from fullconv.nets import layout as lay
from fullconv.nets.layers import ChannelNorm
from fullconv.nets.layout import Layout
from fullconv.nets.lifts import (
    POINTWISE,
    Kernels,
    as_batch_norm_2d,
    as_channel_norm,
    as_convolution,
    beside,
    functional_convolution,
    is_map_norm,
    matrix_of,
    reduction,
)
from fullconv.nets.places import Follower, Place, argument, is_tensor, kind_of, reduced

TURNS = ("reshape", "permute", "Permute", "getitem", "contiguous", "Identity")
"""Steps that only lay a tensor out otherwise: in the straight form they do nothing."""


PARTS = {"split": 2, "chunk": 2}
ALONG = {**PARTS, "cat": 1, "softmax": 1, "log_softmax": 1}
"""Functions along one dimension, and the position of that dimension among their arguments."""


@dataclass
class Straightening:
    """Rewrites the body of a traced network, in place.

    Attributes:
        head: nodes that are left as they are.
        straight: node -> the node of its straight form.
        reshaped: names of the weights that became kernels.
        kernels: these kernels, by their weight.
        kinds: of the steps as they were.
    """

    module: fx.GraphModule
    follower: Follower
    head: set[fx.Node]
    straight: dict[fx.Node, fx.Node] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    kernels: Kernels = field(default_factory=dict)
    kinds: dict[fx.Node, str] = field(default_factory=dict)

    def run(self) -> None:
        """Give every tensor its straight form, use it where the network comes back to maps, drop what is not used."""
        # Read before any layer is written anew: a layer that is used twice is the same kind both times.
        self.kinds = {node: kind_of(node, self.module) for node in self.graph.nodes}
        for node in list(self.graph.nodes):
            place = self.follower.place.get(node)
            parts = kind_of(node, self.module) in PARTS if node.op.startswith("call") else False
            if node in self.head or place is None or not (parts or is_tensor(node)) or node.op == "placeholder":
                continue
            source = self.first(node)
            if is_straight(place.layout):
                if source in self.straight and turns(node, self.module):
                    node.replace_all_uses_with(self.straight[source])
            elif has_straight_form(place.layout) and source is not None:
                with self.graph.inserting_before(node):
                    made = self.made(node, source)
                if made is not None:
                    self.straight[node] = made
                    if "concrete" not in made.meta:  # a new step lies in the block of the one that it stands for
                        made.meta = {key: value for key, value in node.meta.items() if key != "concrete"}
        self.turn_back()
        self.graph.eliminate_dead_code()

    @property
    def graph(self) -> fx.Graph:
        return self.module.graph

    def first(self, node: fx.Node) -> fx.Node | None:
        return next((n for n in node.all_input_nodes if self.follower.place.get(n) is not None), None)

    def place(self, node: fx.Node) -> Place:
        place = self.follower.place[node]
        assert place is not None
        return place

    def form(self, node: fx.Node) -> fx.Node | None:
        """The straight form of a tensor: itself, what was made for it, or none."""
        return node if is_straight(self.place(node).layout) else self.straight.get(node)

    def made(self, node: fx.Node, source: fx.Node) -> fx.Node | None:
        """The node of the straight form, or None where a step has none: then the network's own step stays."""
        x, kind = self.form(source), self.kinds[node]
        if x is None:
            return None
        if kind == "getitem" and not is_tensor(source):
            return self.graph.call_function(operator.getitem, (x, node.args[1]))
        if kind in TURNS:
            return x if turns(node, self.module) else None
        if kind in ALONG and node.op != "call_module":
            return self.along_channels(node, kind)
        if kind == "reduce":
            return self.pooled(node, source, x)
        if kind in ("linear", "product"):
            return self.convolution(node, source, x)
        if kind in ("LayerNorm", "ChannelNorm"):
            return self.norm(node, source, x)
        if kind == "normalize":
            return self.normalized(node, source, x)
        if kind == "BatchNorm1d":
            return self.batch_norm(node, source, x)
        return self.pointwise(node, kind)

    def pooled(self, node: fx.Node, source: fx.Node, x: fx.Node) -> fx.Node | None:
        """A reduction over the positions, or the channels, or a norm over them: the same over the straight form's."""
        return reduction(self.graph, node, x, self.dimensions(source, reduced(node) or ()))

    def normalized(self, node: fx.Node, source: fx.Node, x: fx.Node) -> fx.Node | None:
        """F.normalize, which takes the positions as its two dimensions."""
        over = self.dimensions(source, (argument(node, 2, "dim", 1),))
        if not over:
            return None
        kept = {"p": argument(node, 1, "p", 2.0), "eps": argument(node, 3, "eps", 1e-12)}
        return self.graph.call_function(F.normalize, (x,), {**kept, "dim": over if len(over) > 1 else over[0]})

    def dimensions(self, source: fx.Node, dims: tuple[int, ...]) -> tuple[int, ...]:
        """Where the straight form has what lies in these dimensions; none where it has not."""
        layout = self.place(source).layout
        roots = [atom.root for d in dims for atom in layout[d]]
        found = {{"c": 1, "h": 2, "w": 3}.get(root, 0) for root in roots}
        return () if 0 in found else tuple(sorted(found))

    def convolution(self, node: fx.Node, source: fx.Node, x: fx.Node) -> fx.Node | None:
        run = self.place(source).layout[-1]
        if lay.is_spatial(run):
            return None
        if node.op != "call_module":
            return self.functional(node, x, run)
        layer: Any = self.module.get_submodule(str(node.target))
        if isinstance(layer, nn.Conv2d):  # a second use
            return self.graph.call_module(str(node.target), (x,))
        self.reshaped.append(f"{node.target}.weight")
        return self.call(node, as_convolution(layer, run, self.kernels), x)

    def functional(self, node: fx.Node, x: fx.Node, run: lay.Run) -> fx.Node | None:
        if kind_of(node, self.module) == "linear":
            args, kwargs = node.args, node.kwargs
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            return functional_convolution(self.graph, x, args[1] if len(args) > 1 else kwargs["weight"], bias, run)
        matrix = matrix_of(node, self.follower.photo)
        if matrix is None:
            return None
        return functional_convolution(self.graph, x, self.graph.call_method("t", (matrix,)), None, run)

    def batch_norm(self, node: fx.Node, source: fx.Node, x: fx.Node) -> fx.Node | None:
        if not is_run(self.place(source).layout[1], "c"):
            return None
        layer = self.module.get_submodule(str(node.target))
        twin = layer if isinstance(layer, nn.BatchNorm2d) else as_batch_norm_2d(layer)
        return self.call(node, twin, x)

    def norm(self, node: fx.Node, source: fx.Node, x: fx.Node) -> fx.Node | None:
        layer: Any = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        run = self.place(source).layout[-1]
        if layer is None or len(layer.normalized_shape) != 1 or lay.is_spatial(run):
            return None
        return self.call(node, layer if isinstance(layer, ChannelNorm) else as_channel_norm(layer), x)

    def call(self, node: fx.Node, layer: nn.Module, x: fx.Node) -> fx.Node:
        """The layer under the name of the one that it stands for; every use of that one is turned back later."""
        self.module.add_submodule(str(node.target), layer)
        return self.graph.call_module(str(node.target), (x,))

    def pointwise(self, node: fx.Node, kind: str) -> fx.Node | None:
        if node.op == "call_module":
            layer = self.module.get_submodule(str(node.target))
            if isinstance(layer, nn.Conv2d | nn.Softmax | nn.GLU) or list(layer.parameters()) or is_map_norm(layer):
                return None
        elif kind.rstrip("_") not in POINTWISE:
            return None
        forms: dict[fx.Node, fx.Node] = {}
        for other in node.all_input_nodes:
            followed = self.follower.place.get(other) is not None
            form = self.form(other) if followed else beside(self.graph, self.place(node).layout, other)
            if form is None:
                return None
            forms[other] = form
        copied = self.graph.node_copy(node, lambda n: forms[n])
        copied.meta = {}
        return copied

    def along_channels(self, node: fx.Node, kind: str) -> fx.Node | None:
        """A function along the channels, which the straight form has as its dimension 1."""
        dim, layout = argument(node, ALONG[kind], "dim", 0), self.place(node).layout
        if not is_run(layout[dim % len(layout)], "c"):
            return None
        forms = {other: self.form(other) for other in node.all_input_nodes}
        if None in forms.values():
            return None
        copied = self.graph.node_copy(node, lambda n: forms[n] or n)
        kept = {name: value for name, value in copied.kwargs.items() if name != "dim"}
        copied.args, copied.kwargs, copied.meta = copied.args[: ALONG[kind]], {**kept, "dim": 1}, {}
        return copied

    def turn_back(self) -> None:
        """What still reads a layer that was written anew, reads that one's result in the layout it knows."""
        for node, form in self.straight.items():
            if node.op == "call_module" and form.op == "call_module" and form.target == node.target:
                with self.graph.inserting_after(form):
                    back = self.original(form, self.place(node).layout)
                node.replace_all_uses_with(back)

    def original(self, form: fx.Node, layout: Layout) -> fx.Node:
        """(N, C, H, W) laid out as `layout`."""
        if len(layout) == 4:
            order = [("n", "c", "h", "w").index(run[0].name.partition(".")[0]) for run in layout]
            return self.graph.call_method("permute", (form, *order))
        if len(layout) == 2:
            return self.graph.call_method("mean", (form, (2, 3)))
        tokens = self.graph.call_method("flatten", (form, 2))
        if any(atom.name == "h" for atom in layout[2]):
            return tokens
        with self.graph.inserting_after(tokens):
            return self.graph.call_method("transpose", (tokens, 1, 2))


def is_straight(layout: Layout) -> bool:
    """(N, C, H, W), or (N, C, 1, 1) after a pooling over the whole map."""
    if len(layout) != 4 or not is_run(layout[0], "n") or not is_run(layout[1], "c"):
        return False
    pooled = layout[2] == layout[3] == ()
    return pooled or (lay.where(layout, "h") == 2 and lay.where(layout, "w") == 3)


def has_straight_form(layout: Layout) -> bool:
    """(N, H, W, C) and other orders of the four, (N, H W, C), (N, C, H W), (N, C); any of them pooled to one."""
    if not layout or not is_run(layout[0], "n"):
        return False
    rest = [run for run in layout[1:] if run]
    channels = [run for run in rest if is_run(run, "c")]
    places = [tuple(a.name for a in run) for run in rest if run not in channels]
    return len(channels) == 1 - (() in layout and not channels) and places in ([("h",), ("w",)], [("h", "w")], [])


def is_run(run: lay.Run, name: str) -> bool:
    """Does the dimension hold this alone, its parts in order?"""
    parts = [atom.name for atom in run]
    return bool(run) and all(part.partition(".")[0] == name for part in parts) and parts == sorted(parts)


def turns(node: fx.Node, module: fx.GraphModule) -> bool:
    """Does the step only lay a tensor out otherwise?"""
    kind = kind_of(node, module)
    return kind in TURNS and (kind != "getitem" or only_new_axes(node))


def only_new_axes(node: fx.Node) -> bool:
    """x[:, :, None, None]."""
    index = argument(node, 1, "", None)
    index = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or i == slice(None) for i in index)


def straightened(module: fx.GraphModule, follower: Follower, head: set[fx.Node]) -> list[str]:
    """Rewrite the body in place. Returns: the names of the weights that became kernels."""
    if not has_linear(module, head):
        return []
    work = Straightening(module, follower, head)
    work.run()
    return work.reshaped


def has_linear(module: fx.GraphModule, nodes: set[fx.Node]) -> bool:
    """Whether a Linear layer of the network, or one by hand, is used outside `nodes`."""
    return any(kind_of(n, module) in ("linear", "product") for n in module.graph.nodes if n not in nodes)
