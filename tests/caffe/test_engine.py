"""The engine gives what the layers give, at every size, and nobody can tell that it runs in their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.caffe.conftest import GOLDEN, must_be_close

import fullconv.caffe as caffe
from fullconv.base.errors import CaffeError
from fullconv.caffe.engine import Engine
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
from fullconv.caffe.weights import copy_weights

NAMES = sorted(path.name.removesuffix(".a.npz") for path in (GOLDEN / "nets").glob("*.a.npz"))
PADDED = ("fcn32s_vgg", "fcn16s_vgg", "fcn8s_vgg", "fcn8s_atonce", "fcn_alexnet", "two_heads")


def built(golden: Path, name: str) -> Graph:
    graph = Graph(read_prototxt(golden / f"nets/{name}.prototxt"), of=name)
    copy_weights(graph, golden / f"nets/{name}.caffemodel")
    return graph


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_caffes_the_first_time_and_after(golden: Path, name: str) -> None:
    graph = built(golden, name)
    engine = Engine(graph)
    for size in "aba":
        kept = np.load(golden / f"nets/{name}.{size}.npz")
        photos = [torch.from_numpy(kept[f"input:{blob}"]) for blob in graph.inputs]
        for blob, found in engine.run(photos).items():
            must_be_close(found.numpy(), kept[f"blob:{blob}"], 2e-5, blob)


@pytest.mark.parametrize("name", PADDED)
def test_what_the_photo_does_not_reach_is_not_computed_again(golden: Path, name: str) -> None:
    graph = built(golden, name)
    engine = Engine(graph)
    for size in ((130, 97), (333, 471)):
        for seed in (0, 1):
            photo = 50 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))
            graph.cells[graph.inputs[0]].data = photo
            graph.reshape()
            graph.forward()
            for blob, found in engine.run([photo]).items():
                must_be_close(found.numpy(), graph.cells[blob].data.numpy(), 1e-5, blob)
    (sized,) = [one for shapes, one in engine._sizes.items() if shapes == ((1, 3, 333, 471),)]
    assert sum(region is not None for region in sized.regions.values()) > 5
    assert max(sized.blanks[engine.inputs[0]].shape[2:]) < 100, "a small blank photo is enough"


window = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 30))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["conv", "pool", "relu"]), window), min_size=1, max_size=6),
    st.integers(20, 90),
    st.integers(20, 90),
)
def test_any_chain_of_windows(layers: list[tuple[str, tuple[int, int, int]]], rows: int, columns: int) -> None:
    text = f'input: "b0" input_dim: [1, 2, {rows}, {columns}] '
    for place, (kind, (kernel, stride, pad)) in enumerate(layers):
        ends = f'name: "l{place}" bottom: "b{place}" top: "b{place + 1}"'
        if kind == "relu":
            text += f'layer {{ {ends} type: "ReLU" }} '
        elif kind == "pool":
            stride, pad = min(stride, kernel), min(pad, kernel - 1)
            text += f'layer {{ {ends} type: "Pooling" pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }} }} '
        else:
            own = f"num_output: 2 kernel_size: {kernel} stride: {stride} pad: {pad}"
            filler = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
            text += f'layer {{ {ends} type: "Convolution" convolution_param {{ {own} {filler} }} }} '
    try:
        graph = Graph(parse_prototxt(text))
    except CaffeError:
        assume(False)  # a kernel larger than its map
    photo = torch.randn(1, 2, rows, columns)
    graph.cells["b0"].data = photo
    graph.forward()
    engine = Engine(graph)
    for _ in range(2):
        for blob, found in engine.run([photo]).items():
            must_be_close(found.numpy(), graph.cells[blob].data.numpy(), 1e-5, blob)


# ---- behind pycaffe's face ------------------------------------------------------------------------------------------


@pytest.fixture
def net(golden: Path) -> caffe.Net:
    return caffe.Net(str(golden / "nets/fcn8s_vgg.prototxt"), str(golden / "nets/fcn8s_vgg.caffemodel"), caffe.TEST)


def photo_of(net: caffe.Net, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 50, net.blobs["data"].shape).astype(np.float32)


def by_layers(net: caffe.Net, photo: np.ndarray) -> dict[str, np.ndarray]:
    """All blobs of a pass, layer by layer."""
    graph = net.graph
    graph.cells["data"].data = torch.from_numpy(photo)
    graph.forward()
    return {name: cell.data.numpy().copy() for name, cell in graph.cells.items()}


def test_inner_blobs_are_those_of_the_last_pass(net: caffe.Net) -> None:
    first, second = (photo_of(net, seed) for seed in (0, 1))
    wanted = by_layers(net, first)
    net.forward(data=first)
    net.blobs["data"].data[...] = second
    for name in ("conv1_1", "pool3", "score_fr"):
        must_be_close(net.blobs[name].data, wanted[name], 1e-5, name)
    assert np.array_equal(net.blobs["data"].data, second)


def test_an_array_of_an_inner_blob_that_is_held_is_kept_up_to_date(net: caffe.Net) -> None:
    held = net.blobs["pool3"].data
    photo = photo_of(net, 3)
    wanted = by_layers(net, photo)["pool3"]
    held[...] = 0
    net.forward(data=photo)
    must_be_close(held, wanted, 1e-5, "pool3")


@pytest.mark.parametrize("when", ["before", "after", "held"])
def test_weights_written_into_count(net: caffe.Net, when: str) -> None:
    photo = photo_of(net, 4)
    weights = net.params["conv3_1"][0].data if when == "held" else None
    if when != "before":
        net.forward(data=photo)
    if weights is not None:
        weights *= 2
    else:
        net.params["conv3_1"][0].data[...] *= 2
    found = net.forward(data=photo)["score"].copy()
    must_be_close(found, by_layers(net, photo)["score"], 1e-5, "score")


def test_weights_copied_in_count(net: caffe.Net, golden: Path) -> None:
    photo = photo_of(net, 5)
    before = net.forward(data=photo)["score"].copy()
    net.params["score_fr"][0].data[...] = 0
    net.forward(data=photo)
    net.copy_from(str(golden / "nets/fcn8s_vgg.caffemodel"))
    must_be_close(net.forward(data=photo)["score"], before, 1e-6, "score")
