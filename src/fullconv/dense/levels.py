"""The levels of a network: the last map at each stride, and how much it changes when the photo does. Road: dense.

In: a network and a size, then a prepared photo. Out: maps, and curves of their change. Knows no files, no pictures.

The change between two photos is measured cell by cell, at the same place of the map: one minus the cosine of the two
feature vectors, averaged over the cells. 0 is the same features, 1 has nothing in common. Nothing is pooled first, so
that it tells what a score at that very place would notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.base.errors import GeometryError
from fullconv.geometry.geometry import Geometry
from fullconv.nets.body import choose, is_plain_map, narrow_road, stride_of, truncated
from fullconv.nets.graph import Size, label, trace
from fullconv.nets.places import Follower, kind_of, places, shape_of
from fullconv.nets.proof import evaluating

TURN_MOST, SHIFT_MOST = 30, 32

STEPS: dict[str, tuple[float, ...]] = {
    "shift": (0, 2, 4, 8, 16, 24, SHIFT_MOST),
    "scale": (1, 1.05, 1.1, 1.2, 1.35, 1.5),
    "rotation": (0, 5, 10, 15, 20, TURN_MOST),
}
"""What is done to the photo -> how much of it: pixels (down and to the right, the mean of both), times, degrees.
The first of each leaves the photo as it is."""


@dataclass(frozen=True)
class Level:
    """The last map at one stride.

    Attributes:
        name: of the layer that gives it; a layer's second use adds "#2".
        shape: (C, H, W).
        geometry: where its cells lie, on the photo's size that it was derived for.
    """

    name: str
    shape: tuple[int, int, int]
    stride: int
    geometry: Geometry

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape), "geometry": self.geometry.to_json()}


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of a network, finest first, and the network cut to give their maps for photos of `size`."""

    network: fx.GraphModule
    levels: tuple[Level, ...]
    size: Size

    def maps(self, photo: Tensor) -> list[Tensor]:
        """(3, H, W) prepared -> one (C, h, w) a level."""
        device = next(self.network.parameters()).device
        with evaluating(self.network), torch.inference_mode():
            return [m[0].float().cpu() for m in self.network(photo[None].to(device))]


def levels_of(network: nn.Module, size: Size, *, head: Collection[str] = ()) -> Levels:
    """The last map at each stride through which everything passes on its way to the scores.

    Args:
        network: a classifier, or one made fully convolutional.
        size: of the photo, (rows, columns).
        head: the steps of a converted network that stand for the classifier's head (`Convolutional.head`); a pooling
            over the whole map begins the head of any other.
    Raises: GeometryError if there is no map with one whole stride; SurgeryError where it cannot be followed.
    """
    traced = trace(network, size)
    follower = places(traced, disagreement="span")
    road = list(_before_head(_road(traced, follower), traced, head))
    strides = sorted({s for s in (stride_of(n, follower) for n in road if n.op != "placeholder") if s})
    chosen = [node for s in strides if (node := choose(road, follower, s, pick="last")) is not None]
    if not chosen:
        raise GeometryError(
            "a level is a map of rows and columns with one whole stride",
            f"{type(network).__name__} has none that can be followed",
            "the table of its layers, without pictures",
        )
    names = _names(traced)
    levels = tuple(_level(node, names[node], follower) for node in chosen)
    return Levels(truncated(traced, chosen), levels, size)


def _road(traced: fx.GraphModule, follower: Follower) -> list[fx.Node]:
    """The maps that lead to the scores; where that is not known (attention follows), all maps."""
    narrow = narrow_road(traced, follower)
    return narrow or [n for n in traced.graph.nodes if follower.place.get(n) and is_plain_map(n, follower)]


def _before_head(road: list[fx.Node], traced: fx.GraphModule, head: Collection[str]) -> Iterator[fx.Node]:
    for node in road:
        if node.name in head or kind_of(node, traced) in ("adaptive", "reduce"):
            return
        yield node


def _names(traced: fx.GraphModule) -> dict[fx.Node, str]:
    times: dict[str, int] = {}
    names = {}
    for node in traced.graph.nodes:
        name = label(node)
        times[name] = times.get(name, 0) + 1
        names[node] = name if times[name] == 1 else f"{name}#{times[name]}"
    return names


def _level(node: fx.Node, name: str, follower: Follower) -> Level:
    place, stride, shape = follower.place[node], stride_of(node, follower), shape_of(node)
    assert place is not None
    assert place.geometry is not None
    assert stride is not None
    return Level(name, (shape[1], shape[2], shape[3]), stride, place.geometry)


# ---------------------------------------------------------------------- change


def canvas_size(size: Size) -> Size:
    """How large a photo must be so that a window of `size` in its middle can be shifted and turned without an edge.

    Even pixels more than the window, so that a shift by whole pixels needs no interpolation.
    """
    turn = math.radians(TURN_MOST)
    across = size[0] * math.sin(turn), size[1] * math.sin(turn)
    along = size[0] * math.cos(turn), size[1] * math.cos(turn)
    height = max(size[0], along[0] + across[1], size[0] + 2 * SHIFT_MOST)
    width = max(size[1], along[1] + across[0], size[1] + 2 * SHIFT_MOST)
    return size[0] + 2 * math.ceil((height - size[0]) / 2 + 1), size[1] + 2 * math.ceil((width - size[1]) / 2 + 1)


def viewed(
    canvas: Tensor, size: Size, *, shift: tuple[float, float] = (0, 0), scale: float = 1, degrees: float = 0
) -> Tensor:
    """The middle of a photo after it was moved, enlarged and turned about that middle.

    Args:
        canvas: (3, H, W), larger than `size`.
        shift: (down, right) in pixels: where the photo's content goes.
        scale: times; degrees: clockwise.
    Returns: (3, *size), bicubic; exact for whole shifts.
    """
    height, width = canvas.shape[1:]
    y, x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in size)
    down, right = (v - s for v, s in zip(torch.meshgrid(y, x, indexing="ij"), shift, strict=True))
    turn = math.radians(degrees)
    rows = (math.cos(turn) * down - math.sin(turn) * right) / scale
    columns = (math.sin(turn) * down + math.cos(turn) * right) / scale
    grid = torch.stack([columns / (width / 2), rows / (height / 2)], dim=-1)[None].to(canvas.dtype)
    return F.grid_sample(canvas[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)[0]


VIEWS: dict[str, Callable[[Tensor, Size, float], list[Tensor]]] = {
    "shift": lambda c, size, by: [viewed(c, size, shift=(by, 0)), viewed(c, size, shift=(0, by))],
    "scale": lambda c, size, by: [viewed(c, size, scale=by)],
    "rotation": lambda c, size, by: [viewed(c, size, degrees=by)],
}
"""What is done to the photo -> the photos that come of it."""


def change(before: Tensor, after: Tensor) -> float:
    """(C, h, w) twice: one minus the cosine of the feature vectors, the mean over the cells.

    A cell without features in both has not changed; one without features in either has changed by 1.
    """
    likeness = F.cosine_similarity(before.double(), after.double(), dim=0)
    empty = (before == 0).all(0) & (after == 0).all(0)
    return max(0.0, float((1 - torch.where(empty, 1.0, likeness)).mean()))


def changes(levels: Levels, canvas: Tensor) -> Iterator[tuple[str, float, list[float]]]:
    """What was done to the photo, how much of it, and the change of each level: one after another.

    Args:
        canvas: (3, *canvas_size(levels.size)) prepared photo.
    """
    before = levels.maps(viewed(canvas, levels.size))
    for what, steps in STEPS.items():
        yield what, steps[0], [0.0] * len(before)
        for by in steps[1:]:
            after = [levels.maps(view) for view in VIEWS[what](canvas, levels.size, by)]
            found = [[change(b, a) for b, a in zip(before, maps, strict=True)] for maps in after]
            yield what, by, [sum(of_level) / len(found) for of_level in zip(*found, strict=True)]


def unrelated(maps: list[Tensor]) -> list[float]:
    """The change between each cell and the one half a map away: what places with other content differ by."""
    return [change(m, m.roll((m.shape[1] // 2, m.shape[2] // 2), (1, 2))) for m in maps]
