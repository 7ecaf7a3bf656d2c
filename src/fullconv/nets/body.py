"""The part of a converted network that heads read, and its taps. Road: nets, between surgery and heads.

Taps are found by geometry alone: for each stride the last map through which everything on the road to the scores
passes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.base.errors import GeometryError, UsageError
from fullconv.nets import layout as lay
from fullconv.nets.graph import label, trace
from fullconv.nets.places import Follower, kind_of, places, shape_of
from fullconv.nets.proof import evaluating
from fullconv.nets.surgery import Convolutional

__all__ = ["Body", "Tap", "body_of"]

PICKS = {
    "last": "the last map of a stride: what the next downsampling (or block that begins with one) reads",
    "pooling": "the pooling that began the stride (the paper's pool3 and pool4 on VGG16); else the last map",
    "block": "the last map of a stride that ends a block; what widens it for the scores (EfficientNet) is left out",
}


@dataclass(frozen=True)
class Tap:
    """An inner map that a head reads.

    `offset` (y, x) is the centre of its first cell, for even photos that the coarsest stride divides.
    """

    name: str
    channels: int
    stride: int
    offset: tuple[Fraction, Fraction]


class Body(nn.Module):
    """Gives one map a tap, finest first, for a photo of any size.

    A photo smaller than `smallest` (where a pooling would have nothing left) is extended by zeros below and to the
    right. `strides` holds the stride of what each layer gives, by the layer's name in `network`.
    """

    def __init__(
        self, network: fx.GraphModule, taps: tuple[Tap, ...], smallest: int, strides: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.taps = taps
        self.smallest = smallest
        self.strides = dict(strides or {})

    def layers_up_to(self, stride: int) -> list[nn.Module]:
        """The layers whose maps have at most this stride."""
        return [self.network.get_submodule(name) for name, own in self.strides.items() if own <= stride]

    def forward(self, x: Tensor) -> list[Tensor]:  # (N, 3, H, W) -> [(N, C, h, w), ...]
        below, right = max(0, self.smallest - x.shape[2]), max(0, self.smallest - x.shape[3])
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        return list(self.network(x))


def body_of(converted: Convolutional, strides: Sequence[int], *, through_fc: bool = False, pick: str = "last") -> Body:
    """Cut a converted classifier off before its head, and give out its maps at the strides asked for.

    Args:
        strides: for example (4, 8, 16, 32), in any order.
        through_fc: let the coarsest tap include the convolutions that were fully connected layers (fc6, fc7 of VGG16
            and AlexNet), all but the last, which gives the scores.
        pick: one of PICKS; "pooling" is for all taps but the coarsest, which is then the last map.
    Returns: Body. It holds a copy of the weights.
    Raises: GeometryError naming the strides that there are; UsageError for an unknown `pick`.
    """
    if pick not in PICKS:
        raise UsageError(f"pick is one of {', '.join(PICKS)}", f"pick={pick!r}", "pick='last'")
    wanted = sorted(set(strides))
    step = max(wanted, default=1)
    size = (-(-converted.window[0] // step) * step, -(-converted.window[1] // step) * step)
    size = (size[0] + size[0] % 2 * step, size[1] + size[1] % 2 * step)
    traced = trace(converted.network, size)
    follower = places(traced, disagreement="span")
    road = before_scores(narrow_road(traced, follower), converted, through_fc=through_fc)
    found = {s: choose(road, follower, s, pick="last" if s == step and pick == "pooling" else pick) for s in wanted}
    missing = [s for s, node in found.items() if node is None]
    if missing:
        there = sorted(s for s in {stride_of(n, follower) for n in road if n.op != "placeholder"} if s)
        raise GeometryError(
            "a tap has a stride that the network has",
            f"no map of stride {', '.join(map(str, missing))}; there are {', '.join(map(str, there))}",
            f"strides={there}",
        )
    nodes = [node for node in found.values() if node is not None]
    taps = tuple(tap_at(node, follower) for node in nodes)
    network = copy.deepcopy(truncated(traced, nodes))
    layers = [node for node in traced.graph.nodes if node.op == "call_module"]
    own = {str(node.target): stride for node in layers if (stride := stride_of(node, follower)) is not None}
    return Body(network, taps, smallest_size(network, max(size)), own)


def narrow_road(traced: fx.GraphModule, follower: Follower) -> list[fx.Node]:
    """The maps through which everything passes on its way from the photo to the scores, in order."""
    nodes = list(traced.graph.nodes)
    output = next(n for n in nodes if n.op == "output")
    onward = {output.all_input_nodes[0]}
    for node in reversed(nodes):
        if node in onward:
            onward.update(n for n in node.all_input_nodes if follower.place.get(n) is not None)
    on_road = [n for n in nodes if n in onward and follower.place.get(n) is not None]
    at = {n: i for i, n in enumerate(on_road)}
    furthest = -1  # the latest tensor that something before this one leads to: a branch that jumps over
    narrow = []
    for i, node in enumerate(on_road):
        if furthest <= i and is_plain_map(node, follower):
            narrow.append(node)
        furthest = max([furthest] + [at[u] for u in node.users if u in at])
    return narrow


def is_plain_map(node: fx.Node, follower: Follower) -> bool:
    """(N, C, H, W) with the geometry known."""
    place = follower.place[node]
    if place is None or place.geometry is None or not isinstance(node.meta["concrete"], Tensor):
        return False
    return len(place.layout) == 4 and lay.where(place.layout, "h") == 2 and lay.where(place.layout, "w") == 3


def stride_of(node: fx.Node, follower: Follower) -> int | None:
    """The stride where it is whole and the same on both axes."""
    place = follower.place[node]
    if place is None or place.geometry is None:
        return None
    y, x = place.geometry.stride
    return int(y) if y == x and y.denominator == 1 else None


def before_scores(road: list[fx.Node], converted: Convolutional, *, through_fc: bool) -> list[fx.Node]:
    """The road up to the last map of the body: before the pooling or the first fully connected layer, or the last."""
    start = next((i for i, n in enumerate(road) if n.name in converted.head), len(road))
    layers = [i for i, n in enumerate(road) if i >= start and is_convolution(n)]
    before_first = (
        road[start : layers[0]] if layers else []
    )  # AlexNet drops out before fc6; a pooling there ends the body
    if through_fc and layers and not any(kind_of(node, owner(node)) == "pooling" for node in before_first):
        return road[: layers[-1]]
    return road[:start]


def is_convolution(node: fx.Node) -> bool:
    return kind_of(node, owner(node)) == "convolution"


def owner(node: fx.Node) -> fx.GraphModule:
    module = node.graph.owning_module
    assert isinstance(module, fx.GraphModule)
    return module


def choose(road: list[fx.Node], follower: Follower, stride: int, *, pick: str) -> fx.Node | None:
    """The map of a stride that serves as tap."""
    maps = [n for n in road if stride_of(n, follower) == stride and n.op != "placeholder"]
    if not maps:
        return None
    if pick == "pooling" and kind_of(maps[0], owner(maps[0])) == "pooling":
        return maps[0]
    if maps[-1] is road[-1]:
        ends = [n for n in maps if blocks_of(n)] if pick == "block" else []
        return (ends or maps)[-1]
    inside = next_block(maps[-1], follower, stride)
    outside = [n for n in maps if inside is None or inside not in blocks_of(n)]
    return (outside or maps)[-1]


def next_block(node: fx.Node, follower: Follower, stride: int) -> str | None:
    """The block that holds the first step to another stride after `node`.

    An inverted residual widens its input before it goes to the coarser stride: what it widened is its own affair, its
    input is the tap. A block that holds more than one such step is a whole network, not a block.
    """
    nodes = list(node.graph.nodes)
    after = (n for n in nodes[nodes.index(node) + 1 :] if stride_of(n, follower) not in (None, stride))
    step = next((n for n in after if is_plain_map(n, follower)), None)
    blocks = blocks_of(step) if step is not None else []
    if not blocks:
        return None
    strides = {stride_of(n, follower) for n in nodes if blocks[-1] in blocks_of(n) and is_plain_map(n, follower)}
    return blocks[-1] if len(strides) <= 2 else None


def blocks_of(node: fx.Node) -> list[str]:
    """Paths of the modules that a step lies in, outermost first; plain sequences and the step's own layer left out."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    holders = stack[:-1] if node.op == "call_module" else stack
    return [str(path) for path, kind in holders if not (isinstance(kind, type) and issubclass(kind, nn.Sequential))]


def tap_at(node: fx.Node, follower: Follower) -> Tap:
    place, stride = follower.place[node], stride_of(node, follower)
    assert place is not None
    assert place.geometry is not None
    assert stride is not None
    return Tap(label(node), shape_of(node)[1], stride, place.geometry.offset)


def truncated(traced: fx.GraphModule, nodes: list[fx.Node]) -> fx.GraphModule:
    """The graph that gives `nodes` and does nothing else, in place."""
    output = next(n for n in traced.graph.nodes if n.op == "output")
    output.args = (tuple(nodes),)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    traced.delete_all_unused_submodules()
    for node in traced.graph.nodes:
        node.meta.pop("concrete", None)
    return traced


def smallest_size(network: fx.GraphModule, enough: int) -> int:
    """The smallest square photo on which every step has something left to work on."""
    low, high = 0, 1  # low fails, high is to be tried
    while high < enough and not runs(network, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(network, middle) else (middle, high)
    return high


def runs(network: fx.GraphModule, size: int) -> bool:
    weight = next(network.parameters())
    channels = next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)), 3)
    photo = torch.zeros(1, channels, size, size, dtype=weight.dtype, device=weight.device)
    try:
        with evaluating(network), torch.no_grad():
            maps = network(photo)
    except RuntimeError:  # torch's word for "output size is too small"
        return False
    return all(min(m.shape[2:]) > 0 for m in maps)
