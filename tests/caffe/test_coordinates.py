"""Crop offsets derived from strides and pads are those that the FCN authors' files have, and Caffe's own rules give."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.caffe.conftest import GOLDEN

from caffe_pairs import LAYOUTS, Layout
from fullconv.base.errors import GeometryError
from fullconv.caffe.coordinates import crop_offset, grids_of
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
from fullconv.caffe.rules import State
from fullconv.caffe.weights import copy_weights

SHAPES = json.loads((GOLDEN / "fcn_shapes.json").read_text()) if GOLDEN.is_dir() else {}

NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 40 dim: 48 }} }} }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
    convolution_param {{ num_output: 2 kernel_size: 3 pad: {pad} }} }}
layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "up" type: "Deconvolution" bottom: "p" top: "up"
    convolution_param {{ num_output: 2 kernel_size: {kernel} stride: 2 }} }}
"""

CROPS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "crop_offsets.json").read_text()) if GOLDEN.is_dir() else {}
Step = tuple[str, int, int, int]  # of a convolution (C), pooling (P) or deconvolution (D): kernel, stride, pad


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


def test_where_a_blob_lies_is_told() -> None:
    grids = grids_of(net(10, 4))
    assert grids["p"].stride == (2, 2)
    assert grids["up"].stride == (1, 1)
    assert grids["data"].field == (1, 1)


def test_offsets_and_fields_are_what_a_photo_shows(golden: Path) -> None:
    """A pixel of the photo changes those places of a blob whose field it lies in, and no others."""
    graph = Graph(read_prototxt(golden / "nets/fcn8s_atonce.prototxt"))
    copy_weights(graph, golden / "nets/fcn8s_atonce.caffemodel")
    (photo,), grids = graph.inputs, grids_of(graph)
    shape, names = graph.cells[photo].shape, ("conv2_1", "pool3", "conv4_1")
    seen = {name: torch.zeros(shape[2], graph.cells[name].shape[2], dtype=torch.bool) for name in names}
    draw = torch.Generator().manual_seed(0)
    at = torch.randn(shape, generator=draw)
    before = graph.numbers({photo: at})
    for row in range(shape[2]):
        moved = at.clone()
        moved[:, :, row] += 100 * torch.randn(shape[1], shape[3], generator=draw)
        after = graph.numbers({photo: moved})
        for name in names:
            seen[name][row] = (after[name] != before[name]).any(3).any(1)[0]
    for name in names:
        stride, offset, field = (float(one[0]) for one in (grids[name].stride, grids[name].offset, grids[name].field))
        for place in seen[name].any(0).nonzero().flatten().tolist():
            rows = seen[name][:, place].nonzero().flatten()
            middle = offset + stride * place
            assert middle - (field - 1) / 2 <= rows.min() <= rows.max() <= middle + (field - 1) / 2
        if name == "conv2_1":
            rows = seen[name][:, round((shape[2] / 2 - offset) / stride)].nonzero().flatten()
            assert rows.max() - rows.min() + 1 == field


def test_what_cannot_be_cropped_is_refused() -> None:
    assert crop_offset(net(10, 4), "up", "data") == (10, 10)
    with pytest.raises(GeometryError, match="whole offset"):
        crop_offset(net(10, 3), "up", "data")
    with pytest.raises(GeometryError, match="whole offset"):
        crop_offset(net(0, 4), "p", "data")
    with pytest.raises(GeometryError, match="come from one blob"):
        crop_offset(Graph(parse_prototxt('input: "a" input: "b" input_dim: [1,1,4,4,1,1,4,4]')), "a", "b")


# ---- every layout that Caffe derived --------------------------------------------------------------------------------


def vgg(pad: int, fc_pad: int, deep: int) -> list[Step]:
    blocks = [step for convs in (2, 2, deep, deep, deep) for step in [*[("C", 3, 1, 1)] * convs, ("P", 2, 2, 0)]]
    return [("C", 3, 1, pad), *blocks[1:], ("C", 7, 1, fc_pad)]


def alexnet(pad: int) -> list[Step]:
    pool, inner = ("P", 3, 2, 0), [("C", 3, 1, 1)] * 3
    return [("C", 11, 4, pad), pool, ("C", 5, 1, 2), pool, *inner, pool, ("C", 6, 1, 0)]


def googlenet(pad: int, last: list[Step]) -> list[Step]:
    pool, inception = ("P", 3, 2, 0), ("C", 1, 1, 0)  # its branch of 1 x 1, as all branches have one map
    stem = [("C", 7, 2, pad), pool, ("C", 3, 1, 1), pool]
    return [*stem, *[inception] * 2, pool, *[inception] * 5, pool, *[inception] * 2, *last]


def body(layout: Layout) -> list[Step]:
    if layout.network in ("vgg16", "vgg19"):
        return vgg(layout.pad, layout.fc_pad, 3 if layout.network == "vgg16" else 4)
    if layout.network == "alexnet":
        return alexnet(layout.pad)
    return googlenet(layout.pad, [("P", 7, 1, 0)] if layout.network == "googlenet_pool5_ave7" else [])


def graph_of(steps: list[Step]) -> Graph:
    """A chain of layers; tops are called C1, P1, D1 and so on."""
    text, bottom = 'input: "data" input_dim: [1, 3, 500, 500]', "data"
    number = dict.fromkeys("CPD", 0)
    for kind, kernel, stride, pad in steps:
        number[kind] += 1
        top = f"{kind}{number[kind]}"
        window = f"kernel_size: {kernel} stride: {stride} pad: {pad}"
        param = f"pooling_param {{ {window} }}" if kind == "P" else f"convolution_param {{ num_output: 1 {window} }}"
        type_ = {"C": "Convolution", "P": "Pooling", "D": "Deconvolution"}[kind]
        text += f' layer {{ name: "{top}" type: "{type_}" bottom: "{bottom}" top: "{top}" {param} }}'
        bottom = top
    return Graph(parse_prototxt(text))


@pytest.mark.parametrize("name", sorted({*CROPS} - {"_how", "concat_has_no_rule"}))
def test_every_crop_is_the_one_that_caffe_derives(name: str) -> None:
    layout = LAYOUTS[name]
    graph = graph_of([*body(layout), *[("D", kernel, stride, 0) for kernel, stride in layout.enlargements]])
    ends = {
        "score_pool4c": ("P4", "D1"),
        "score_pool3c": ("P3", "D2"),
        "score": (f"D{len(layout.enlargements)}", "data"),
    }
    for crop, record in CROPS[name].items():
        if "refused" in record:
            with pytest.raises(GeometryError) as refused:
                crop_offset(graph, *ends[crop])
            assert f"scale 1, shift {Fraction(record['shift'][0])}" in refused.value.found
        else:
            assert crop_offset(graph, *ends[crop]) == (record["offset"][0],) * 2, crop


def test_where_caffe_has_no_rule_there_is_none() -> None:
    text = """input: "data" input_dim: [1, 3, 40, 40]
        layer { name: "a" type: "Pooling" bottom: "data" top: "a" pooling_param { kernel_size: 2 stride: 2 } }
        layer { name: "b" type: "Concat" bottom: "a" bottom: "a" top: "b" }
        layer { name: "c" type: "Deconvolution" bottom: "b" top: "c"
            convolution_param { num_output: 1 kernel_size: 4 stride: 2 } }"""
    with pytest.raises(GeometryError, match="come from one blob"):
        crop_offset(Graph(parse_prototxt(text)), "c", "data")
