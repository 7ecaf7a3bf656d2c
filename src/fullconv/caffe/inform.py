"""What a Caffe net is, layer by layer, as rows for a person. Road: caffe, beside the graph. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fullconv.caffe.coordinates import Grid, grids_of
from fullconv.caffe.graph import Graph, Node
from fullconv.caffe.layer import count


def rows_of(graph: Graph) -> list[dict[str, Any]]:
    """One a layer, Splits left out: `name`, `type`, `shapes` of tops, `parameters`, `multiplications`, `stride`,
    `offset`, `receptive_field`.

    `parameters`: those that a layer shares with one before it are counted there.
    The last three are of the first top, rows and columns, in pixels of the photo, as text; None where not told.
    """
    rows, seen, grids = [], set[int](), grids_of(graph)
    for node in graph.nodes:
        if node.layer.param.type != "Split":
            own = {id(cell): count(cell.shape) for cell in node.blobs if id(cell) not in seen}
            rows.append(_row(node, own, grids.get(node.tops[0].name) if node.tops else None))
        seen |= {id(cell) for cell in node.blobs}
    return rows


def _row(node: Node, parameters: Mapping[int, int], grid: Grid | None) -> dict[str, Any]:
    place = (None, None, None) if grid is None else (grid.stride, grid.offset, grid.field)
    told = [None if one is None else [str(along) for along in one] for one in place]
    return {
        "name": node.name,
        "type": str(node.layer.param.type),
        "shapes": [list(cell.shape) for cell in node.tops],
        "parameters": sum(parameters.values()),
        "multiplications": _multiplications(node),
        **dict(zip(("stride", "offset", "receptive_field"), told, strict=True)),
    }


def _multiplications(node: Node) -> int:
    """Of convolutions and InnerProduct; each weight is used once a place, of the bottom for a deconvolution."""
    kind = node.layer.param.type
    if kind not in ("Convolution", "Deconvolution", "InnerProduct") or not node.tops:
        return 0
    weight = node.shapes[0]
    if kind == "InnerProduct":
        return count(weight) * count(node.tops[0].shape[:-1])
    cell = node.bottoms[0] if kind == "Deconvolution" else node.tops[0]
    axis = node.layer.param.convolution_param.axis % len(cell.shape)
    return count(weight) * count(cell.shape[:axis]) * count(cell.shape[axis + 1 :])
