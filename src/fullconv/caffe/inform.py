"""What a Caffe net is, layer by layer, as rows for a person. Road: caffe, beside the graph. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fullconv.caffe.coordinates import stride_of
from fullconv.caffe.graph import Graph, Node
from fullconv.caffe.layer import count

_AXES_OF_MAPS = 4  # (N, C, H, W)


def rows_of(graph: Graph) -> list[dict[str, Any]]:
    """One a layer, Splits left out: `name`, `type`, `shapes` of tops, `parameters`, `multiplications`, `stride`.

    `parameters`: those that a layer shares with one before it are counted there.
    `stride`: photo pixels from a place of the first top to the next, rows and columns, as text; None where not told.
    """
    rows, seen = [], set[int]()
    for node in graph.nodes:
        if node.layer.param.type != "Split":
            rows.append(_row(graph, node, {id(cell): count(cell.shape) for cell in node.blobs if id(cell) not in seen}))
        seen |= {id(cell) for cell in node.blobs}
    return rows


def _row(graph: Graph, node: Node, parameters: Mapping[int, int]) -> dict[str, Any]:
    maps = bool(node.tops) and len(node.tops[0].shape) == _AXES_OF_MAPS
    stride = stride_of(graph, node.tops[0]) if maps else None
    return {
        "name": node.name,
        "type": str(node.layer.param.type),
        "shapes": [list(cell.shape) for cell in node.tops],
        "parameters": sum(parameters.values()),
        "multiplications": _multiplications(node),
        "stride": None if stride is None else [str(one) for one in stride],
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
