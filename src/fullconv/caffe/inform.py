"""What a Caffe net is, layer by layer, as rows for a person. Road: caffe, beside the graph. Runs nothing."""

from __future__ import annotations

from typing import Any

from fullconv.caffe.coordinates import stride_of
from fullconv.caffe.graph import Graph, Node
from fullconv.caffe.layer import count


def rows_of(graph: Graph) -> list[dict[str, Any]]:
    """One a layer, Splits left out: `name`, `type`, `shapes` of tops, `parameters`, `multiplications`, `stride`.

    `stride`: photo pixels from a place of the first top to the next, rows and columns, as text; None where not told.
    """
    return [_row(graph, node) for node in graph.nodes if node.layer.param.type != "Split"]


def _row(graph: Graph, node: Node) -> dict[str, Any]:
    stride = stride_of(graph, node.tops[0]) if node.tops and len(node.tops[0].shape) == 4 else None
    return {
        "name": node.name,
        "type": str(node.layer.param.type),
        "shapes": [list(cell.shape) for cell in node.tops],
        "parameters": sum(count(shape) for shape in node.shapes),
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
