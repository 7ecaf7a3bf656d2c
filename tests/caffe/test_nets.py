"""Whole nets beside Caffe: 27 small ones at two sizes, with weights in every form of file; and what saving writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.caffe.conftest import GOLDEN, listed, must_be_close

from fullconv.base.errors import CaffeError
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.rules import State
from fullconv.caffe.weights import copy_weights, write_weights

NETS = sorted(path.stem for path in (GOLDEN / "nets").glob("*.prototxt"))
SIZED = [(name, size) for name in NETS for size in "ab" if (GOLDEN / f"nets/{name}.{size}.npz").exists()]
WEIGHTS = sorted(path.name for path in (GOLDEN / "nets").glob("*.caffemodel*"))
SURGERY = json.loads((GOLDEN / "surgery/surgery_index.json").read_text()) if GOLDEN.is_dir() else {}
HALVES = 1e-3  # kept as float16


def built(golden: Path, name: str, weights: str | None = None, state: State | None = None) -> Graph:
    graph = Graph(read_prototxt(golden / f"nets/{name}.prototxt"), state, of=name)
    copy_weights(graph, golden / "nets" / (weights or f"{name}.caffemodel"))
    return graph


@pytest.mark.parametrize(("name", "size"), SIZED)
def test_all_blobs_are_caffes(golden: Path, name: str, size: str) -> None:
    kept = np.load(golden / f"nets/{name}.{size}.npz")
    graph = built(golden, name)
    for key in kept:
        if key.startswith("input:"):
            graph.cells[key[6:]].data = torch.from_numpy(kept[key])
    graph.reshape()
    shapes = {blob: cell.shape for blob, cell in graph.cells.items()}
    graph.forward()
    compared = 0
    for key in kept:
        kind, blob = key.split(":", 1)
        if kind == "shape":
            assert tuple(kept[key]) == shapes[blob] == graph.cells[blob].shape
        elif kind in ("blob", "blob16", "sample"):
            found = graph.cells[blob].data.numpy()
            if kind == "sample":
                found = found.ravel()[np.linspace(0, found.size - 1, len(kept[key])).astype(np.int64)]
            must_be_close(found, kept[key].astype(np.float32), HALVES if kind == "blob16" else 2e-5, key)
            compared += 1
    assert compared
    outputs = next(one for one in listed("nets/index.json") if one["name"] == name)["goldens"]["ab".index(size)][
        "outputs"
    ]
    assert {blob: list(graph.cells[blob].shape) for blob in graph.outputs} == outputs


@pytest.mark.parametrize("file", WEIGHTS)
def test_weights_of_every_form_are_the_same(golden: Path, file: str, tmp_path: Path) -> None:
    if file.endswith(".h5"):
        pytest.importorskip("h5py")
    name = file.split(".")[0]
    one, other = built(golden, name, file), built(golden, name)
    for layer, cells in one.parameters.items():
        for found, wanted in zip(cells, other.parameters[layer], strict=True):
            assert torch.equal(found.data, wanted.data), layer
    phase = State("TRAIN") if name == "two_losses" else None
    again = built(golden, name, file, phase)
    write_weights(again, tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == (golden / f"nets/{name}.caffemodel").read_bytes()


def test_weights_written_as_hdf5_come_back(golden: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    one = built(golden, "siamese_shared")
    write_weights(one, tmp_path / "one.caffemodel.h5")
    other = Graph(read_prototxt(golden / "nets/siamese_shared.prototxt"))
    copy_weights(other, tmp_path / "one.caffemodel.h5")
    for layer, cells in one.parameters.items():
        assert all(torch.equal(a.data, b.data) for a, b in zip(cells, other.parameters[layer], strict=True))


def test_layers_are_kept_by_phase_level_and_stage(golden: Path) -> None:
    kept = np.load(golden / "nets/phase_rules.npz")
    states = json.loads((golden / "nets/phase_rules.states.json").read_text())
    for number, one in enumerate(states):
        state = State(one["phase"], one["level"], frozenset(one["stages"]))
        graph = built(golden, "phase_rules", state=state)
        assert [node.name for node in graph.nodes if node.layer.param.type != "Split"] == [
            name for name in one["layers"] if "_split" not in name
        ]
        for key in kept:
            if key.startswith("input:") and key[6:] in graph.cells:
                graph.cells[key[6:]].data = torch.from_numpy(kept[key])
        graph.forward()
        for key in kept:
            if key.startswith(f"state{number}/"):
                must_be_close(graph.cells[key.split("/", 1)[1]].data.numpy(), kept[key], 1e-5, key)


def test_two_losses_add_up_and_go_back_through_what_they_share(golden: Path) -> None:
    kept = np.load(golden / "nets/two_losses.npz")
    graph = built(golden, "two_losses", state=State("TRAIN"))
    for key in kept:
        if key.startswith("input:"):
            graph.cells[key[6:]].data = torch.from_numpy(kept[key])
    total = graph.forward()
    graph.backward()
    assert total == pytest.approx(float(kept["total_loss"]), rel=1e-5)
    for key in kept:
        kind, _, rest = key.partition(":")
        if kind == "diff":
            must_be_close(graph.cells[rest].diff.numpy(), kept[key], 2e-5, key)
        elif kind == "paramdiff":
            layer, place = rest.split(":")
            must_be_close(graph.parameters[layer][int(place)].diff.numpy(), kept[key], 2e-5, key)


def scores(golden: Path, net: str, photos: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The blobs of a net of the folder surgery, with its weights, on photos."""
    graph = Graph(read_prototxt(golden / f"surgery/{net}.prototxt"), of=net)
    copy_weights(graph, golden / f"surgery/{net}.caffemodel")
    graph.cells["data"].data = torch.from_numpy(photos)
    graph.reshape()
    graph.forward()
    return {name: cell.data.numpy() for name, cell in graph.cells.items()}


@pytest.mark.parametrize("name", SURGERY)
def test_a_classifier_and_its_convolutional_form_are_caffes(golden: Path, name: str) -> None:
    kept = np.load(golden / f"surgery/{name}.npz")
    size, stride, grid = (SURGERY[name][key] for key in ("window", "stride", "map"))
    photo = kept["input:data"]
    found = scores(golden, f"{name}_conv", photo)
    must_be_close(found["fc8-conv"], kept["conv:fc8"], 1e-5, "the map")
    must_be_close(found["prob"], kept["conv:prob"], 1e-5, "probabilities")
    starts = [(stride * row, stride * column) for row in range(grid[2]) for column in range(grid[3])]
    windows = np.concatenate([photo[:, :, y : y + size, x : x + size] for y, x in starts])
    each = scores(golden, f"{name}_fc", windows)["fc8"]
    must_be_close(each.T.reshape(grid[1:]), kept["windows:fc8"], 1e-5, "windows")
    must_be_close(each[:1], kept["same_size:fc8"], 1e-5, "the first window")
    must_be_close(scores(golden, f"{name}_conv", windows[:1])["fc8-conv"], kept["same_size:fc8-conv"], 1e-5, "its map")


def test_a_size_that_an_inner_product_does_not_take_is_refused(golden: Path) -> None:
    graph = Graph(read_prototxt(golden / "nets/lenet_like.prototxt"))
    (name,) = graph.inputs
    cell = graph.cells[name]
    shape = cell.shape
    cell.reshape((*shape[:2], shape[2] + 8, shape[3] + 8))
    with pytest.raises(CaffeError, match=r"InnerProduct.*want others") as refused:
        graph.reshape()
    assert "its parameters have the shapes" in refused.value.must
    cell.reshape((shape[0], shape[1] + 1, *shape[2:]))
    with pytest.raises(CaffeError, match=r"Convolution.*want others"):
        graph.reshape()
