"""A network as a graph whose tensors know where they lie. Road: nets, after places. In: a module. Out: Geometry."""

from __future__ import annotations

from torch import Tensor, nn

from fullconv.geometry.geometry import Geometry
from fullconv.nets.graph import Size, label, trace
from fullconv.nets.places import pair, places

__all__ = ["geometry_of", "trace"]


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
