"""The FCN authors' own nets at full width: layers, parameters and shapes are Caffe's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.caffe.conftest import GOLDEN

from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.rules import State

SHAPES: dict[str, Any] = json.loads((GOLDEN / "fcn_shapes.json").read_text()) if GOLDEN.is_dir() else {}
LABELS = ("label", "sem", "geo")


@pytest.mark.parametrize("name", SHAPES)
def test_a_net_is_built_as_by_caffe(golden: Path, name: str) -> None:
    wanted, path = SHAPES[name], golden.parent / "data/caffe-models/fcn-prototxt" / name
    graph = Graph(read_prototxt(path), State(wanted["phase"]), of=name, folder=path.parent)
    own = [node for node in graph.nodes if node.layer.param.type not in ("Split", "Python", "Input")]
    assert [[node.name, node.layer.param.type] for node in own] == [
        one for one in wanted["layers"] if one[1] != "Input"
    ]
    assert {node.name: [list(shape) for shape in node.shapes] for node in own if node.blobs} == wanted["params"]
    for key, size in (("blob_shapes_500x375", (500, 375)), ("blob_shapes_33x47", (33, 47))):
        for blob in graph.inputs:
            graph.cells[blob].reshape((*graph.cells[blob].shape[:2], *size))
        graph.reshape()
        for blob, shape in wanted[key].items():
            assert list(graph.cells[blob].shape) == list(shape), (key, blob)
