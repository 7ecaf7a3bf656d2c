"""What Caffe accepts and refuses: 125 nets, weight files and solvers. Where Caffe is careless we refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caffe.conftest import listed

from fullconv.base.errors import FullconvError
from fullconv.caffe.graph import Graph
from fullconv.caffe.message import Message
from fullconv.caffe.prototxt import parse_prototxt
from fullconv.caffe.solver import Solver
from fullconv.caffe.weights import as_message, copy_weights
from fullconv.caffe.wire import write_binary

CASES = listed("refuse/cases.json", "cases")
KINDER = {  # Caffe computes garbage, crashes, or does nothing and says nothing
    *("inplace_pool", "input_shape_count", "conv_then_smaller_input", "weights_empty_file"),
    "weights_prototxt_text_file",
}


def offered(case: dict[str, Any], path: Path) -> None:
    """Write the weights that a case offers."""
    net = as_message(Graph(parse_prototxt(case.get("weights_prototxt", case["prototxt"]))))
    with_blobs = [layer for layer in net.layer if layer.blobs]
    for layer in with_blobs:
        for blob, shape in zip(layer.blobs, case.get("weights_legacy_shapes", ()), strict=False):
            del blob.shape
            blob.num, blob.channels, blob.height, blob.width = shape
        if case.get("weights_one_value_short"):
            layer.blobs[0].data = layer.blobs[0].data[:-1]
    if case.get("weights_layer_written_twice"):
        later: Message = with_blobs[0].copied()
        for blob in later.blobs:
            blob.data = np.full_like(blob.data, 7)
        net.add("layer", later)
    write_binary(net, path)
    if "weights_truncated_to_bytes" in case:
        path.write_bytes(path.read_bytes()[: case["weights_truncated_to_bytes"]])
    if case.get("weights_file_is_the_prototxt"):
        path.write_text(case["prototxt"])


def done(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Build what a case has, copy its weights, run it once; shapes of outputs and parameters."""
    if case["kind"] == "solver":
        (folder / "net.prototxt").write_text(case["prototxt"])
        (folder / "solver.prototxt").write_text('net: "net.prototxt" ' + case["solver"])
        solver = Solver(folder / "solver.prototxt")
        solver.step(1)
        return {"solver_class": f"{solver.param.type}Solver"}
    graph = Graph(parse_prototxt(case["prototxt"]))
    if case["kind"] == "weights":
        offered(case, folder / "w.caffemodel")
        copy_weights(graph, folder / "w.caffemodel")
    if "then_reshape_data_to" in case:
        graph.cells["data"].reshape(tuple(case["then_reshape_data_to"]))
    graph.reshape()
    graph.forward()
    first = {node.name: node for node in reversed(graph.nodes) if node.blobs}
    return {
        "outputs": {name: list(graph.cells[name].shape) for name in graph.outputs},
        "params": {name: [list(shape) for shape in first[name].shapes] for name in first},
        "first_param": {name: float(node.blobs[0].data.ravel()[0]) for name, node in first.items()},
    }


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_case_is_accepted_or_refused_as_by_caffe(case: dict[str, Any], tmp_path: Path) -> None:
    if case["verdict"] != "accepts" or case["name"] in KINDER:
        with pytest.raises(FullconvError) as refused:
            done(case, tmp_path)
        assert all((refused.value.must, refused.value.found, refused.value.try_))
        return
    found = done(case, tmp_path)
    for key, wanted in case["result"].items():
        assert found[key] == wanted or {k: found[key].get(k) for k in wanted} == wanted, key
