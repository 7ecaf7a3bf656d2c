"""The size rule of a network: which photos give which grid. Road: nets, after graph. In: a network. Out: sizes."""

from __future__ import annotations

from torch import Tensor, nn

from fullconv.base.errors import GeometryError
from fullconv.nets.graph import Size, trace

LARGEST = 1 << 14  # pixels a side that are looked at


def grid_size(network: nn.Module, size: Size) -> Size:
    """Rows and columns of what a network gives for a photo of `size` (rows, columns); its first map if it gives more.

    Raises: GeometryError for a photo that leaves some step without a cell; SurgeryError for steps that cannot be
        followed, or if what comes out has no rows and columns.
    """
    traced = trace(network, size)
    output = next(n for n in traced.graph.nodes if n.op == "output")
    value = output.all_input_nodes[0].meta["concrete"]
    if not isinstance(value, Tensor) or value.dim() != 4:
        raise GeometryError(
            "a grid has rows and columns", f"the network gives {tuple(value.shape)}", "convert it first"
        )
    return int(value.shape[2]), int(value.shape[3])


def sizes_giving(network: nn.Module, grid: Size, *, near: Size) -> tuple[tuple[int, int], tuple[int, int]]:
    """The sizes of photos that give a grid: (smallest, largest) rows, and (smallest, largest) columns.

    Args:
        network: gives a map; more pixels never give fewer cells.
        grid: (rows, columns) of the map.
        near: a size that the network can be followed at.
    Raises: GeometryError if no size gives that grid (some step makes the number of cells jump over it).

    Example: VGG16 converted gives a 6x6 grid for 384 to 415 pixels.
    """
    traced = trace(network, near)
    rows, columns = (_range(traced, which, cells) for which, cells in enumerate(grid))
    return rows, columns


def _range(traced: nn.Module, which: int, cells: int) -> tuple[int, int]:
    first, beyond = _first(traced, which, cells), _first(traced, which, cells + 1)
    if first == beyond:
        raise GeometryError(
            "a grid has as many cells as some size gives",
            f"no size gives {cells} {('rows', 'columns')[which]}: {first} pixels give more, {first - 1} fewer",
            f"{cells + 1} or {cells - 1}",
        )
    return first, beyond - 1


def _first(traced: nn.Module, which: int, cells: int) -> int:
    """The smallest side that gives at least that many cells."""
    low, high = 0, 1
    while _cells(traced, high, which) < cells:
        low, high = high, 2 * high
        if high > LARGEST:
            raise GeometryError("a grid has as many cells as some size gives", f"{cells} cells", "a smaller grid")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _cells(traced, middle, which) >= cells else (middle, high)
    return high


def _cells(traced: nn.Module, side: int, which: int) -> int:
    try:
        return grid_size(traced, (side, side))[which]
    except GeometryError:
        return 0
