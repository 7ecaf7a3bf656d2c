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
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
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


def a_classifier(layers: str) -> Graph:
    """A convolution to maps of 5 x 5, the layers, then InnerProduct to scores; weights drawn."""
    graph = Graph(
        parse_prototxt(f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 3 dim: 7 dim: 7 }} }} }}
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "x"
                convolution_param {{ num_output: 4 kernel_size: 3 }} }}
        {layers}
        layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {{ num_output: 5 }} }}
    """)
    )
    draw = torch.Generator().manual_seed(0)
    for cell in graph.learnable:
        cell.put(torch.rand(cell.shape, generator=draw) + 0.1)
    return graph


BATCH_NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" batch_norm_param { %s } }'
NARROW = 'layer { name: "fc1" type: "InnerProduct" bottom: "x" top: "x1" inner_product_param { num_output: 6 } }'
NORMS = """
    layer { name: "bn" type: "BatchNorm" bottom: "x1" top: "x2" }
    layer { name: "scale" type: "Scale" bottom: "x2" top: "x3" scale_param { bias_term: true } }
    layer { name: "scale2" type: "Scale" bottom: "x3" top: "x4" }
    layer { name: "bias" type: "Bias" bottom: "x4" top: "x5" }
    layer { name: "relu" type: "ReLU" bottom: "x5" top: "x5" }
    layer { name: "fc2" type: "InnerProduct" bottom: "x5" top: "score" inner_product_param { num_output: 3 } }
"""


def must_be_followed(graph: Graph, output: str) -> None:
    """Raises unless the network gives the blob as the graph's own layers do."""
    photos = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    graph.cells["data"].data = photos
    graph.forward()
    with torch.no_grad():
        found = network_of(graph, output)(photos)
    must_be_close(found.numpy(), graph.cells[output].data.numpy(), 1e-5, output)


@pytest.mark.parametrize("ends", ["", "axis: 2", "end_axis: 2", "axis: 1 end_axis: -2", "axis: -2 end_axis: -1"])
def test_flatten_is_followed_from_axis_to_end_axis(ends: str) -> None:
    flatten = f'layer {{ name: "flat" type: "Flatten" bottom: "x" top: "flat" flatten_param {{ {ends} }} }}'
    must_be_followed(a_classifier(flatten), "flat")


def test_batch_norm_by_the_batchs_own_numbers_is_refused() -> None:
    with pytest.raises(NetError, match="the batch's own numbers"):
        network_of(a_classifier(BATCH_NORM % "use_global_stats: false"), "fc")
    must_be_followed(a_classifier(BATCH_NORM % "use_global_stats: true"), "fc")


def test_norms_after_an_inner_product_are_followed_and_proved() -> None:
    graph = a_classifier(NARROW + NORMS)
    must_be_followed(graph, "score")
    network = network_of(graph, "score")
    assert fc.prove(network, fc.convolutionalize(network, 7)).holds


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


def test_a_classifier_of_grey_photos_is_refused_as_such(golden: Path) -> None:
    folder = golden.parent / "data/caffe-models/lenet"
    with pytest.raises(NetError, match="N x 3 x H x W") as refused:
        fc.read_classifier(f"{folder}/lenet.prototxt:{folder}/lenet_iter_10000.caffemodel")
    assert "[[64, 1, 28, 28]]" in refused.value.found
