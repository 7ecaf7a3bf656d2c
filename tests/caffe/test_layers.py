"""Every layer beside Caffe: 213 nets of one layer, forward and backward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.caffe.conftest import listed, must_be_close

from fullconv.caffe.graph import Graph
from fullconv.caffe.kinds import LAYERS
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.rules import State

CASES = listed("layers/index.json", "cases")
FORWARD, GRADIENT = 1e-5, 2e-5
ROOTS = ("lrn", "pow")  # powers: 2e-5


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_layer_computes_what_caffe_does(golden: Path, case: dict[str, Any]) -> None:
    name = case["name"]
    kept = np.load(golden / f"layers/{name}.npz")
    graph = Graph(read_prototxt(golden / f"layers/{name}.prototxt"), State(case["phase"]), of=name)
    keys: dict[str, list[str]] = {}
    for key in kept:
        keys.setdefault(key.split(":", 1)[0], []).append(key)

    def parameter(key: str) -> Any:
        _, layer, place = key.split(":")
        return graph.parameters[layer][int(place)]

    for key in keys.get("bottom", []):
        graph.cells[key[7:]].data = torch.from_numpy(kept[key])
    for key in keys.get("param", []):
        assert parameter(key).shape == kept[key].shape
        parameter(key).data = torch.from_numpy(kept[key])
    graph.reshape()
    shapes = {key: graph.cells[key[4:]].shape for key in keys.get("top", [])}
    graph.forward()
    if "dropout_train" in name:  # a random mask: what is kept is over 1 - ratio
        given, top = kept["bottom:x"], graph.cells["y"].data.numpy()
        must_be_close(np.where(top == 0, 0, given / 0.75), top, FORWARD, name)
        assert 0 < (top == 0).mean() < 0.6
        return
    for key in keys.get("top", []):
        if name != "filter":  # as many items as are chosen
            assert shapes[key] == kept[key].shape, "the shape is known before"
        must_be_close(
            graph.cells[key[4:]].data.numpy(), kept[key], GRADIENT if name.startswith(ROOTS) else FORWARD, key
        )
    for key in keys.get("param_after", []):
        must_be_close(parameter(key).data.numpy(), kept[key], FORWARD, key)
    if not case.get("backward", True) or "topdiff" not in keys:
        return
    for key in keys["topdiff"]:
        cell = graph.cells[key[8:]]
        cell.diff = torch.from_numpy(kept[key]).reshape(cell.shape)
    graph.clear_parameter_diffs()
    graph.backward()
    for key in keys.get("bottomdiff", []):
        must_be_close(graph.cells[key[11:]].diff.numpy(), kept[key], GRADIENT, key)
    for key in keys.get("paramdiff", []):
        must_be_close(parameter(key).diff.numpy(), kept[key], GRADIENT, key)


def test_every_layer_type_has_a_case() -> None:
    if not CASES:
        pytest.skip("what Caffe computed is not here")
    seen = {kind for case in CASES for kind in case["types"]}
    assert set(LAYERS) - seen <= {"Split", "Input", "DummyData", "HDF5Data", "Parameter", "InfogainLoss", "Python"}
