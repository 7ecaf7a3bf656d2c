"""Trained nets as found: MTCNN, LeNet, WeChat's super-resolution, beside what Caffe computed from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.caffe.conftest import GOLDEN, must_be_close

from fullconv.base.errors import CaffeError
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.weights import copy_weights, read_weights

MODELS = GOLDEN.parent / "data/caffe-models"
LISTED: list[dict[str, Any]] = json.loads((MODELS / "index.json").read_text()) if MODELS.is_dir() else []
RUNNING = [model for model in LISTED if model["golden"]]


@pytest.mark.parametrize("model", RUNNING, ids=[model["golden"] for model in RUNNING])
def test_a_trained_net_gives_caffes_outputs(golden: Path, model: dict[str, Any]) -> None:
    kept = np.load(MODELS / model["golden"])
    graph = Graph(read_prototxt(MODELS / model["prototxt"]), of=model["prototxt"])
    copy_weights(graph, MODELS / model["model"])
    for key in kept:
        if key.startswith("input:"):
            graph.cells[key[6:]].data = torch.from_numpy(kept[key])
    graph.reshape()
    graph.forward()
    for key in kept:
        kind, blob = key.split(":", 1)
        if kind in ("blob", "sample"):
            found = graph.cells[blob].data.numpy()
            if kind == "sample":
                found = found.ravel()[np.linspace(0, found.size - 1, len(kept[key])).astype(np.int64)]
            must_be_close(found, kept[key], 1e-5, key)
    assert {blob: list(graph.cells[blob].shape) for blob in graph.outputs} == model["outputs"]


@pytest.mark.parametrize("model", LISTED, ids=[model["golden"] or model["model"] for model in LISTED])
def test_a_file_holds_as_many_parameters_as_it_should(model: dict[str, Any]) -> None:
    blobs = [blob for _, layer in read_weights(MODELS / model["model"]) for blob in layer]
    assert sum(blob.data.size for blob in blobs) == model["wire"]["parameters"]
    assert any(blob.four for blob in blobs) == model["wire"]["legacy_4d_shapes"]


def test_a_net_of_a_fork_is_refused_by_the_field_that_caffe_has_not(golden: Path) -> None:
    with pytest.raises(CaffeError, match="permute_param") as refused:
        read_prototxt(MODELS / "wechat-qr/detect.prototxt")
    assert "line 2078" in refused.value.found
