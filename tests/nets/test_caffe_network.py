"""Caffe nets as torch networks: the same scores, a proof of surgery for classifiers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.caffe.conftest import GOLDEN, must_be_close

import fullconv as fc
from fullconv.base.errors import FullconvError, NetError
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.weights import copy_weights
from fullconv.nets.caffe_network import network_of

OTHER_LAYERS = ("many_outputs", "v1_all")  # ArgMax, Exp
TWO_INPUTS = ("legacy_bn_inputs", "siamese_shared", "two_stream_fusion")
NAMES = sorted(path.name.removesuffix(".a.npz") for path in (GOLDEN / "nets").glob("*.a.npz"))


def built(golden: Path, name: str) -> Graph:
    graph = Graph(read_prototxt(golden / f"nets/{name}.prototxt"), of=name)
    copy_weights(graph, golden / f"nets/{name}.caffemodel")
    return graph


@pytest.mark.parametrize("name", NAMES)
def test_a_network_gives_caffes_outputs_at_any_size(golden: Path, name: str) -> None:
    graph = built(golden, name)
    if name in (*OTHER_LAYERS, *TWO_INPUTS):
        with pytest.raises(NetError):
            [network_of(graph, output) for output in graph.outputs]
        return
    for size in "ab":
        kept = np.load(golden / f"nets/{name}.{size}.npz")
        photos = torch.from_numpy(kept[f"input:{graph.inputs[0]}"])
        graph.cells[graph.inputs[0]].data = photos
        graph.reshape()
        for output in graph.outputs:
            with torch.no_grad():
                found = network_of(graph, output)(photos)
            must_be_close(found.numpy(), kept[f"blob:{output}"], 2e-5, output)


@pytest.mark.parametrize("name", ["surgery_valid", "surgery_padded"])
def test_a_caffe_classifier_becomes_its_fcn_with_proof(golden: Path, name: str) -> None:
    folder = golden / "surgery"
    classifier = fc.read_classifier(f"{folder}/{name}_fc.prototxt:{folder}/{name}_fc.caffemodel")
    assert classifier.preparation.channel_order == "BGR"
    converted = fc.convolutionalize(classifier.network, classifier.window)
    assert fc.prove(classifier.network, converted).holds
    kept = np.load(folder / f"{name}.npz")  # what Caffe's own convolutional form gave
    with torch.no_grad():
        found = converted.network(torch.from_numpy(kept["input:data"]))
    must_be_close(found.numpy(), kept["conv:fc8"], 1e-5, "scores")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("a.prototxt", "two files"),
        ("a.caffemodel:b.prototxt", "two files"),
        ("a.prototxt:b.caffemodel", "No such file"),
    ],
)
def test_what_is_no_pair_of_files_is_refused(model: str, said: str) -> None:
    with pytest.raises(FullconvError, match=said):
        fc.read_classifier(model)
