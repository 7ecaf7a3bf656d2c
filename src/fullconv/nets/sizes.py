"""The size rule of a network: which photos give which grid. Road: nets, after graph. In: a network. Out: sizes."""

from __future__ import annotations

from torch import Tensor, fx, nn

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
    grids = Grids(trace(network, near))
    rows, columns = (_range(grids, which, cells, near[which]) for which, cells in enumerate(grid))
    return rows, columns


class Grids:
    """The grid that a square photo gives, worked out once a side; (0, 0) where some step would have no cell."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = shape_only(traced)
        self.known: dict[int, Size] = {}

    def cells(self, side: int, which: int) -> int:
        if side < 1:
            return 0
        if side not in self.known:
            self.known[side] = self._grid(side)
        return self.known[side][which]

    def _grid(self, side: int) -> Size:
        try:
            return grid_size(self.traced, (side, side))
        except GeometryError:
            return 0, 0


SHAPELESS = (nn.modules.batchnorm._BatchNorm, nn.Identity, nn.Dropout, nn.ReLU, nn.Hardtanh, nn.SiLU, nn.GELU)
"""Layers that leave the shape as it is; batch normalization takes most of the time on tensors without data."""


def shape_only(traced: fx.GraphModule) -> fx.GraphModule:
    """The graph without the layers that leave the shape as it is, in place."""
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), SHAPELESS):
            node.replace_all_uses_with(node.all_input_nodes[0])
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _range(grids: Grids, which: int, cells: int, near: int) -> tuple[int, int]:
    first = _first(grids, which, cells, near)
    beyond = _first(grids, which, cells + 1, first)
    if first == beyond:
        raise GeometryError(
            "a grid has as many cells as some size gives",
            f"no size gives {cells} {('rows', 'columns')[which]}: {first} pixels give more, {first - 1} fewer",
            f"{cells + 1} or {cells - 1}",
        )
    return first, beyond - 1


def _first(grids: Grids, which: int, cells: int, near: int) -> int:
    """The smallest side that gives at least that many cells, looked for from `near` outwards."""
    step = max(1, near // max(1, grids.cells(near, which)))
    low = high = near  # low gives fewer, high gives as many
    while grids.cells(high, which) < cells:
        low, high, step = high, high + step, 2 * step
        if high > LARGEST:
            raise GeometryError("a grid has as many cells as some size gives", f"{cells} cells", "a smaller grid")
    while low > 0 and grids.cells(low, which) >= cells:
        low, high, step = max(0, low - step), low, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if grids.cells(middle, which) >= cells else (middle, high)
    return high
