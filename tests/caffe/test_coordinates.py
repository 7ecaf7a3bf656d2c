"""Crop offsets derived from strides and pads are those that the FCN authors' files have, and Caffe's own rules give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.caffe.conftest import GOLDEN

from fullconv.base.errors import GeometryError
from fullconv.caffe.coordinates import crop_offset, stride_of
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
from fullconv.caffe.rules import State

SHAPES = json.loads((GOLDEN / "fcn_shapes.json").read_text()) if GOLDEN.is_dir() else {}

NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 40 dim: 48 }} }} }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
    convolution_param {{ num_output: 2 kernel_size: 3 pad: {pad} }} }}
layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "up" type: "Deconvolution" bottom: "p" top: "up"
    convolution_param {{ num_output: 2 kernel_size: {kernel} stride: 2 }} }}
"""


def net(pad: int, kernel: int) -> Graph:
    return Graph(parse_prototxt(NET.format(pad=pad, kernel=kernel)))


@pytest.mark.parametrize("name", SHAPES)
def test_crops_of_the_authors_nets_are_derived(golden: Path, name: str) -> None:
    path = golden.parent / "data/caffe-models/fcn-prototxt" / name
    graph = Graph(read_prototxt(path), State(SHAPES[name]["phase"]), folder=path.parent)
    crops = [node for node in graph.nodes if node.layer.param.type == "Crop"]
    assert crops
    for node in crops:
        offset = node.layer.param.crop_param.offset[0]
        assert crop_offset(graph, node.bottoms[0].name, node.bottoms[1].name) == (offset, offset)


def test_the_stride_of_a_blob_is_told() -> None:
    graph = net(10, 4)
    assert stride_of(graph, graph.cells["p"]) == (2, 2)
    assert stride_of(graph, graph.cells["up"]) == (1, 1)


def test_what_cannot_be_cropped_is_refused() -> None:
    assert crop_offset(net(10, 4), "up", "data") == (10, 10)
    with pytest.raises(GeometryError, match="whole offset"):
        crop_offset(net(10, 3), "up", "data")
    with pytest.raises(GeometryError, match="whole offset"):
        crop_offset(net(0, 4), "p", "data")
    with pytest.raises(GeometryError, match="come from one blob"):
        crop_offset(Graph(parse_prototxt('input: "a" input: "b" input_dim: [1,1,4,4,1,1,4,4]')), "a", "b")
