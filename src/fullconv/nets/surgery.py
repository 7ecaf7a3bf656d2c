"""A classifier made fully convolutional, with its proof. Road: nets, after trace. In: a classifier. Out: Converted.

The graph is traced at the window's size. Where a tensor loses its rows and columns for good the head begins; from there
on every (N, F) tensor of the classifier is a (N, F, 1, 1) map of the converted network, which on a larger photo is a
(N, F, h, w) map: one cell a window. A Linear layer over flattened (C, h, w) is a convolution of kernel h x w, a Linear
layer over pooled channels a convolution of kernel 1, a pooling over the whole map a fixed pooling of stride 1.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from fullconv.base.errors import FullconvError, SurgeryError, UsageError
from fullconv.geometry.geometry import Geometry
from fullconv.nets import layout as lay
from fullconv.nets import lifts
from fullconv.nets.folding import fold_norms
from fullconv.nets.graph import Size, in_modes, label, spot, trace
from fullconv.nets.idioms import in_plain_forms
from fullconv.nets.layers import WindowContext
from fullconv.nets.places import (
    ATTENTION,
    POSITIONS,
    UNLIKE,
    Follower,
    Place,
    convolution_settings,
    is_tensor,
    kind_of,
    pair,
    places,
    pools_maximum,
    pools_mean,
    shape_of,
)
from fullconv.nets.proof import TOLERANCE, Account, Photos, Proof, compare_at_window
from fullconv.nets.straight import straightened

POOLINGS = {
    "window": "each cell scores one window: the pooling over the whole map becomes a fixed pooling of stride 1",
    "cell": "each cell is scored by itself: the pooling over the whole map is dropped (class activation map)",
}
NORMS = {
    "kept": "batch normalisation stays a layer of its own",
    "folded": "batch normalisation with learned statistics is written into the convolution before it",
}
CONTEXTS = {
    "global": "pooling over the whole map inside the body (squeeze-and-excitation) stays as it is",
    "window": "pooling over the whole map inside the body becomes a pooling over one window round each cell",
}


@dataclass(frozen=True)
class Convolutional:
    """A fully convolutional network that was a classifier: what heads are built on.

    `network` gives (N, K, h, w) scores; `geometry` is that of the score grid at the window's size; `head` names the
    nodes of its graph that stand for the classifier's head: what comes after the last map of the body.
    """

    network: fx.GraphModule
    account: Account
    geometry: Geometry
    window: Size
    head: tuple[str, ...]


@dataclass(frozen=True)
class Converted(Convolutional):
    """The same with the proof that it equals the classifier."""

    proof: Proof


def convolutionalize(
    model: nn.Module,
    window: int | Size,
    *,
    pooling: str = "window",
    context: str = "global",
    norms: str = "kept",
    photos: Photos | None = None,
) -> Converted:
    """Rewrite a classifier so that it takes any size and gives a grid of scores, and prove it at the window.

    Args:
        model: the classifier; it is not changed.
        window: the size it was trained at, (rows, columns) or one number.
        pooling: one of POOLINGS.
        context: one of CONTEXTS.
        norms: one of NORMS; "folded" is what training starts from (train faster, on any batch), "kept" what the
            classifier is.
        photos: (N, 3, h, w) prepared photos of the window's size to prove it on; seeded pictures if None.
    Returns: Converted; its `network` keeps parameter names where it can, and is trainable.
    Raises: SurgeryError naming the layer and the reason where the network cannot be converted.
    """
    window = as_window(window)
    if not isinstance(model, nn.Module):
        raise UsageError("a classifier is a torch.nn.Module", f"{type(model).__name__}", "build it: Model(), not Model")
    chosen("pooling", pooling, POOLINGS)
    chosen("context", context, CONTEXTS)
    chosen("norms", norms, NORMS)
    made = rewritten(model, window, pooling=pooling, context=context, norms=norms)
    check = compare_at_window(model, made.network, window, photos)
    proof = Proof(window, made.geometry, pooling, check, made.account)
    if pooling == "window" and not check.relative_difference <= allowed(model):  # not a number is no equality either
        raise SurgeryError(
            "the converted network gives the classifier's scores at the window",
            f"they differ by {check.relative_difference:.1e} of the largest; steps that change what they read, or have "
            "other effects than their results, are the usual cause",
            "check that the classifier gives the same scores twice; write y = f(x) instead of changing x in place",
        )
    return Converted(**vars(made), proof=proof)


def allowed(model: nn.Module) -> float:
    """The relative difference that rounding may make."""
    halves = any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters())
    return 0.05 if halves else TOLERANCE


def as_window(window: int | Size) -> Size:
    """(rows, columns). Raises: UsageError unless it is one or two whole numbers from 1."""
    sides = window if isinstance(window, (tuple, list)) else (window, window)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise UsageError("a window is (rows, columns) in pixels, or one number for both", repr(window), "window=224")
    return int(sides[0]), int(sides[1])


def chosen(what: str, word: str, choices: dict[str, str]) -> None:
    if word not in choices:
        raise UsageError(
            f"{what} is one of {', '.join(choices)}", f"{what}={word!r}", f"{what}={next(iter(choices))!r}"
        )


def rewritten(
    model: nn.Module, window: Size, *, pooling: str = "window", context: str = "global", norms: str = "kept"
) -> Convolutional:
    """As `convolutionalize`, without the comparison: also for weights without data (the meta device)."""
    training = {name: module.training for name, module in model.named_modules()}
    graph_module = trace(copied(model), window)
    in_plain_forms(graph_module)
    work = Surgery(graph_module, places(graph_module, disagreement="span"), pooling=pooling, context=context)
    work.refuse_what_cannot_be_followed()
    reshaped = straightened(graph_module, work.follower, work.head())
    if reshaped:
        graph_module = trace(tidied(graph_module), window)
        follower = places(graph_module, disagreement="span")
        work = Surgery(graph_module, follower, pooling=pooling, context=context, reshaped=reshaped)
    work.operate()
    if norms == "folded":
        work.folded += fold_norms(graph_module)
    account = work.account(model, graph_module)
    network = trace(tidied(graph_module), window)
    in_modes(network, training)
    after = places(network, disagreement="span")
    scores = output_of(network).all_input_nodes
    place = after.place[scores[0]] if scores else None
    if place is None or place.geometry is None or not lay.is_map(place.layout):
        raise no_map(label(scores[0]) if scores else "the output", after.why)
    grows(network, window, place.geometry)
    head = tuple(n.name for n in head_nodes(network, after, {n.name for n in work.new}))
    for node in network.graph.nodes:
        node.meta.pop("concrete", None)
    return Convolutional(network, account, place.geometry, window, head)


GROWTH = (1, 2, 4, 8)
"""Strides by which a photo is made larger to see the grid grow: some networks want a multiple of a coarser stride."""


def grows(network: fx.GraphModule, window: Size, geometry: Geometry) -> None:
    """Raises: SurgeryError unless a photo that is some strides larger gives a grid that is as many cells larger."""
    step = [max(1, round(stride)) for stride in geometry.stride]
    fault: FullconvError | None = None
    for count in GROWTH:
        size = (window[0] + count * step[0], window[1] + count * step[1])
        try:
            larger = trace(network, size)
        except FullconvError as error:
            fault = fault or error
            continue
        cells = [shape_of(n)[2:] for n in output_of(larger).all_input_nodes]
        if all(c == (geometry.size[0] + count, geometry.size[1] + count) for c in cells):
            return
        raise fixed_size(network, larger)
    assert fault is not None
    raise SurgeryError(
        "a converted network runs on photos of any size",
        fault.found,
        "steps with a size of their own cannot be converted",
    ) from fault


def fixed_size(network: fx.GraphModule, larger: fx.GraphModule) -> SurgeryError:
    """Names the first tensor that is no larger on a larger photo, though what it was made from is."""
    for small, large in zip(network.graph.nodes, larger.graph.nodes, strict=True):
        source = large.all_input_nodes[0] if large.all_input_nodes else None
        if source is None or not (is_tensor(large) and is_tensor(source)) or large.op == "output":
            continue
        before = next(n for n in network.graph.nodes if n.name == source.name)
        stays = shape_of(large) == shape_of(small) and shape_of(source) != shape_of(before)
        if stays and len(shape_of(large)) == 4 and shape_of(large)[2:] != (1, 1):
            return fixed(f"'{spot(small)}' gives {shape_of(small)[2:]} cells whatever the photo's size")
    return fixed("the grid of scores does not grow with the photo by one cell a stride")


def fixed(found: str) -> SurgeryError:
    return SurgeryError(
        "every map of a fully convolutional network grows with the photo",
        found,
        "take the size from the tensor (x.shape), or give the factor instead of the size",
    )


def copied(model: nn.Module) -> nn.Module:
    """A deep copy; tensors that were computed (by weight norm) are copied as they stand."""
    computed = [v for m in model.modules() for v in vars(m).values() if isinstance(v, Tensor) and not v.is_leaf]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})


def tidied(graph_module: fx.GraphModule) -> fx.GraphModule:
    graph_module.graph.lint()
    graph_module.recompile()
    graph_module.delete_all_unused_submodules()
    return graph_module


def rank(why: str) -> int:
    """Which reasons are told first: those that say what kind of network it is."""
    return next((i for i, kind in enumerate(UNLIKE) if why.startswith(kind)), len(UNLIKE))


def output_of(graph_module: fx.GraphModule) -> fx.Node:
    nodes: list[fx.Node] = list(graph_module.graph.nodes)
    return next(n for n in nodes if n.op == "output")


def head_nodes(network: fx.GraphModule, follower: Follower, new: set[str]) -> list[fx.Node]:
    """The nodes that surgery wrote, and all after a convolution over its whole map (an fc6 that is one already)."""
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
    reasons = "; ".join(f"'{spot(node)}': {reason}" for node, reason in list(why.items())[:3])
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
    unfolded: dict[fx.Node, Size] = field(default_factory=dict)
    kernels: lifts.Kernels = field(default_factory=dict)

    @property
    def graph(self) -> fx.Graph:
        return self.module.graph

    def operate(self) -> None:
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
        for pooling in self.unfolded:
            if pooling in set(self.graph.nodes):
                raise self.refused(pooling, "has bins of unequal size, and is read by other than a Linear layer")
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
        reasons = list(self.follower.why.items())
        reasons += [(n, ATTENTION) for n in self.attention()]
        reasons += [(node, why) for node in self.graph.nodes for why in self.positions(node)]
        reasons += [(n, "writes into a part of a tensor") for n in self.graph.nodes if n.target is operator.setitem]
        if reasons:
            reasons = sorted(dict(reasons).items(), key=lambda found: rank(found[1]))
            raise SurgeryError(
                "every step must act alike at every position of the map",
                "; ".join(f"'{spot(node)}' ({kind_of(node, self.module)}): {why}" for node, why in reasons[:3]),
                "use a convolutional classifier; attention and fixed positions have no fully convolutional form",
            )

    def attention(self) -> list[fx.Node]:
        """Attention, also where what leads to it could not be followed: products of the photo's own tensors."""
        found = []
        for node in self.graph.nodes:
            kind, factors = kind_of(node, self.module), [n for n in node.all_input_nodes if n in self.follower.photo]
            by_hand = kind == "product" and len(factors) > 1 and self.follower.place.get(node) is None
            if kind == "attention" or by_hand:
                found.append(node)
        return found

    def positions(self, node: fx.Node) -> list[str]:
        """Parameters of the step that differ from position to position."""
        place, found = self.follower.place.get(node), []
        for other in node.all_input_nodes:
            if place is None or other in self.follower.photo or not is_tensor(node) or not is_tensor(other):
                continue
            value = other.meta["concrete"]
            if value.dim() > len(place.layout) or kind_of(node, self.module) in ("convolution", "linear", "product"):
                continue
            aligned = (1,) * (len(place.layout) - value.dim()) + tuple(value.shape)
            if any(size > 1 for run, size in zip(place.layout, aligned, strict=True) if lay.is_spatial(run)):
                found.append(f"{POSITIONS}: '{label(other)}' is a fixed positional embedding of {tuple(value.shape)}")
        return found

    # ------------------------------------------------------------------ the head, node by node

    def lift(self, node: fx.Node) -> fx.Node:
        """The node of the converted network whose map stands for the tensor that `node` makes in the classifier."""
        with self.graph.inserting_before(node):
            return lifts.LIFTS.get(kind_of(node, self.module), lifts.lift_pointwise)(self, node)

    def source(self, node: fx.Node) -> fx.Node:
        """The map that stands for the first input, its dimensions in the order (N, C, H, W)."""
        first = self.first(node)
        if first in self.lifted:
            return self.lifted[first]
        if first in self.unfolded:  # the Linear layer that reads it takes the bins into its kernel
            return first.all_input_nodes[0]
        place = self.place(first)
        rows, columns = lay.where(place.layout, "h"), lay.where(place.layout, "w")
        if len(place.layout) != 4 or rows is None or columns is None:
            raise self.refused(node, f"reads a tensor of ({lay.names(place.layout)})")
        order = (*(d for d in range(4) if d not in (rows, columns)), rows, columns)
        return first if order == (0, 1, 2, 3) else self.graph.call_method("permute", (first, *order))

    def place(self, node: fx.Node) -> Place:
        place = self.follower.place[node]
        assert place is not None, label(node)
        return place

    def before(self, node: fx.Node) -> Place:
        return self.place(self.first(node))

    def first(self, node: fx.Node) -> fx.Node:
        for other in node.all_input_nodes:
            if self.follower.place.get(other) is not None:
                return other
        raise self.refused(node, "reads nothing that could be followed from the photo")

    def refused(self, node: fx.Node, why: str) -> SurgeryError:
        return SurgeryError(
            "every step of a classifier's head must have a fully convolutional form",
            f"'{spot(node)}' ({kind_of(node, self.module)}) {why}",
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
        """An adaptive pooling that leaves a map: dropped where it changes nothing, else of fixed size.

        Bins of unequal size have no fixed pooling: they are folded into the Linear layer that reads them.
        """
        source = node.all_input_nodes[0]
        size, bins = pair(shape_of(source)[2:]), pair(shape_of(node)[2:])
        replacement = source
        if any(s % b for s, b in zip(size, bins, strict=True)):
            if pools_maximum(node, self.module):
                raise self.refused(node, f"takes the maximum of {size} cells in {bins} bins of unequal size")
            self.unfolded[node] = bins
            return
        if size != bins:
            step = (size[0] // bins[0], size[1] // bins[1])
            layer = nn.MaxPool2d(step, step) if pools_maximum(node, self.module) else nn.AvgPool2d(step, step)
            name = str(node.target) if node.op == "call_module" else self.free(node.name)
            with self.graph.inserting_before(node):
                replacement = self.insert(name, layer, source)
            replacement.meta["concrete"] = node.meta["concrete"]
            self.follower.place[replacement] = self.follower.place[node]
        node.replace_all_uses_with(replacement)
        self.graph.erase_node(node)

    def folded_bins(self, node: fx.Node) -> tuple[Size, Size] | None:
        """For a Linear layer that reads an adaptive pooling which was taken out: the map's size and the bins."""
        before = node.all_input_nodes[0]
        while before not in self.unfolded:
            if kind_of(before, self.module) not in (
                "reshape",
                "permute",
                "Permute",
                "Dropout",
                "Identity",
                "contiguous",
            ):
                return None
            before = before.all_input_nodes[0]
        return pair(shape_of(before.all_input_nodes[0])[2:]), self.unfolded[before]

    def context_in_windows(self) -> None:
        for node in list(self.graph.nodes):
            if node.op in ("output", "placeholder") or self.follower.place.get(node) is None or self.has_map(node):
                continue
            kind, factors = kind_of(node, self.module), [n for n in node.all_input_nodes if n in self.follower.photo]
            source, weighted = node.all_input_nodes[0], kind == "product" and len(factors) > 1
            if not weighted and (kind not in ("adaptive", "reduce") or not self.has_map(source)):
                continue
            if weighted or self.place(node).layout[2:] != ((), ()) or not pools_mean(node, self.module):
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
            dropped=tuple(sorted(old - new - set(self.folded))),
            fresh=tuple(sorted(new - old - set(self.folded))),
        )
