"""Fit a head's alignment to a backbone: which body, which padding, where its maps lie. Road: nets, between body and
heads.

In: a converted classifier and strides. Out: its body, and the alignment of rows and columns. All from derived geometry.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

from torch import fx, nn

from fullconv.geometry.geometry import Axis
from fullconv.nets.alignment import CAFFE_PAD, Paper, Same, best
from fullconv.nets.body import Body, body_of
from fullconv.nets.places import places
from fullconv.nets.surgery import Convolutional
from fullconv.nets.trace import trace

POOLING_FUNCTIONS = ("max_pool2d", "avg_pool2d", "boolean_dispatch")


def fit_same(converted: Convolutional, strides: Sequence[int]) -> tuple[Body, tuple[Same, Same]]:
    """The body up to the last map before the pooling, and the paddings that lay its cells evenly on a photo.

    The padded length need not be a multiple of the coarsest stride: where cells lie on the borders (ResNet), or move
    with the length (TF-SAME), one pixel or half a stride more lays them better than a whole stride would.
    """
    body = body_of(converted, strides)
    taken = tuple(tap.stride for tap in body.taps)
    plain = plain_length(body, converted)
    rows: list[Same] = []
    columns: list[Same] = []
    for remainder in sorted({0, 1 % taken[-1], taken[-1] // 2}):
        length = plain + remainder
        maps = maps_at(body, length)
        for which, choices in enumerate((rows, columns)):
            axes = [axes[which] for axes in maps]
            offsets = tuple(axis.offset for axis in axes)
            missing = tuple(length // stride - axis.size for stride, axis in zip(taken, axes, strict=True))
            choices.append(Same(taken, offsets, missing, remainder))
    return body, (best(rows), best(columns))


def fit_paper(converted: Convolutional, strides: Sequence[int]) -> tuple[Body, tuple[Paper, Paper]]:
    """The body as the authors' nets have it: poolings that round up, fc6 and fc7 in it, poolings themselves as taps."""
    network = copy.deepcopy(converted.network)
    round_up(network)
    rounded = dataclasses.replace(converted, network=network)
    body = body_of(rounded, strides, through_fc=has_fully_connected(converted), pick="pooling")
    taken = tuple(tap.stride for tap in body.taps)
    own = first_padding(body.network)
    plain = plain_length(body, converted)
    maps, longer = maps_at(body, plain), [maps_at(body, plain + more) for more in (1, taken[-1] // 2)]
    both = []
    for which in (0, 1):
        offsets = tuple(axes[which].offset for axes in maps)
        moves = any(tuple(axes[which].offset for axes in other) != offsets for other in longer)
        both.append(Paper(taken, offsets, CAFFE_PAD - own[which], multiple=taken[-1] if moves else 1))
    return body, (both[0], both[1])


def plain_length(body: Body, converted: Convolutional) -> int:
    """A length that the coarsest stride divides, at which every map has cells."""
    stride = body.taps[-1].stride
    return stride * (1 + -(-max(*converted.window, body.smallest) // stride))


def maps_at(body: Body, length: int) -> list[tuple[Axis, Axis]]:
    """Rows and columns of every tap, finest first, for a square photo."""
    traced = trace(body.network, (length, length))
    follower = places(traced, disagreement="span")
    output = next(node for node in traced.graph.nodes if node.op == "output")
    found = []
    for node in output.all_input_nodes:
        place = follower.place[node]
        assert place is not None, f"the tap '{node.name}' has lost its place"
        assert place.geometry is not None, f"the tap '{node.name}' has lost its place"
        found.append((place.geometry.axis(0), place.geometry.axis(1)))
    return found


def has_fully_connected(converted: Convolutional) -> bool:
    """Whether a layer over the whole flattened map became a convolution (fc6 of VGG16 and AlexNet)."""
    weights = dict(converted.network.named_parameters())
    return any(max(weights[name].shape[2:], default=1) > 1 for name in converted.account.reshaped if name in weights)


def round_up(network: fx.GraphModule) -> None:
    """Make every pooling round its number of cells up, as Caffe does: rounded down, the crops leave some sizes
    uncovered.
    """
    for module in network.modules():
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            module.ceil_mode = True
    for node in network.graph.nodes:
        if node.op == "call_function" and getattr(node.target, "__name__", "") in POOLING_FUNCTIONS:
            node.kwargs = {**node.kwargs, "ceil_mode": True}
    network.recompile()


def first_padding(network: fx.GraphModule) -> tuple[int, int]:
    """The padding (y, x) of the first convolution, which is part of the paper's 100."""
    for node in network.graph.nodes:
        if node.op == "call_module":
            layer = network.get_submodule(str(node.target))
            if isinstance(layer, nn.Conv2d):
                return (0, 0) if isinstance(layer.padding, str) else (int(layer.padding[0]), int(layer.padding[1]))
    return 0, 0
