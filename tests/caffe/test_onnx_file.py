"""Caffe nets as ONNX files, run by onnx's own reference: Caffe's numbers, at other sizes than the one written at.

Three of its operators are wrong and stand here by definition: LRN (counts items for channels), ConvTranspose (fails for
groups of several channels) and MaxPool (with stride 1 it takes the pads in another order).
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from tests.caffe.conftest import GOLDEN, listed, must_be_close

import fullconv as fc
from fullconv.base.errors import CaffeError, UsageError
from fullconv.caffe import onnx_file
from fullconv.caffe.graph import Graph
from fullconv.caffe.onnx_file import OPERATORS, write_onnx
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
from fullconv.caffe.rules import State
from fullconv.caffe.weights import copy_weights
from fullconv.cli.caffe import command
from fullconv.nets.preparation import Preparation

onnx = pytest.importorskip("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402

Array = NDArray[Any]
CLOSE = 1e-5
NETS = sorted(path.name.removesuffix(".a.npz") for path in (GOLDEN / "nets").glob("*.a.npz"))
CASES = {case["name"]: case for case in listed("layers/index.json", "cases")}
REFUSED = {  # of layers that ONNX has
    "conv_axis2": "channels are not axis 1",
    "conv_kernel_over_edge": "kernel is larger than its padded bottom",
    "pool_max_mask": "a second top",
    "bn_train": "the batch's own mean",
    "bn_train_frac": "the batch's own mean",
    "bn_test_batch": "the batch's own mean",
    "dropout_train_shape": "a random mask",
    "silence": "has none",
}
KINDS = {name: (case["types"] or ["Split"])[-1] for name, case in CASES.items()}
WRITTEN = [name for name, kind in KINDS.items() if name not in REFUSED and kind in OPERATORS]


class LRN(OpRun):
    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        half = size // 2
        sums = np.stack([(x[:, max(0, c - half) : c + half + 1] ** 2).sum(1) for c in range(x.shape[1])], 1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(np.float32),)


class ConvTranspose(OpRun):
    def _run(self, x: Array, w: Array, b: Any = None, **settings: Any) -> tuple[Array]:
        """Each number puts the kernel times itself onto the map; what falls on the pad is cut off."""
        group, (rows, columns), (top, left, *_) = settings["group"], settings["strides"], settings["pads"]
        (down, right), (high, wide) = settings["dilations"], w.shape[2:]
        number, _, height, width = x.shape
        whole = (rows * (height - 1) + down * (high - 1) + 1, columns * (width - 1) + right * (wide - 1) + 1)
        y = np.zeros((number, group, w.shape[1], *whole), np.float32)
        x, w = x.reshape(number, group, -1, height, width), w.reshape(group, -1, *w.shape[1:])
        for i, j in product(range(high), range(wide)):
            at = (
                slice(i * down, i * down + rows * height, rows),
                slice(j * right, j * right + columns * width, columns),
            )
            y[(..., *at)] += np.einsum("ngchw,gco->ngohw", x, w[..., i, j])
        y = y.reshape(number, -1, *whole)[:, :, top : whole[0] - top, left : whole[1] - left]
        return (y if b is None else y + b[:, None, None],)


class MaxPool(OpRun):
    def _run(self, x: Array, **settings: Any) -> tuple[Array]:
        (high, wide), strides, (top, left, bottom, right) = (settings[k] for k in ("kernel_shape", "strides", "pads"))
        whole = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(whole, (high, wide), (2, 3))
        return (windows[:, :, :: strides[0], :: strides[1]].max((4, 5)),)


def evaluated(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    runtime = ReferenceEvaluator(str(path), new_ops=[LRN, ConvTranspose, MaxPool])
    with np.errstate(all="ignore"):
        found = runtime.run(None, {name: inputs[name] for name in runtime.input_names})
    return dict(zip(runtime.output_names, map(np.asarray, found), strict=True))


def computed(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """What the graph gives. Raises: CaffeError if the inputs do not fit."""
    for name, values in inputs.items():
        graph.cells[name].data = torch.from_numpy(values)
    graph.reshape()
    graph.forward()
    return {name: graph.cells[name].data.numpy().copy() for name in graph.outputs}


def sizes_of(path: Path) -> dict[str, list[int | str]]:
    """Of inputs and outputs: numbers, names, or "" for what is free."""
    graph = onnx.load(path).graph
    return {
        one.name: [dim.dim_value or dim.dim_param for dim in one.type.tensor_type.shape.dim]
        for one in (*graph.input, *graph.output)
    }


def must_be_equal(path: Path, inputs: dict[str, Array], wanted: dict[str, Array]) -> None:
    onnx.checker.check_model(path)
    sizes, found = sizes_of(path), evaluated(path, inputs)
    for name, values in wanted.items():
        own = f"{name}.out" if name in inputs else name
        must_be_close(found[own], values, CLOSE, name)
    for name, values in {**found, **inputs}.items():
        said = sizes.get(name, values.shape)
        assert len(said) == values.ndim, "it has as many axes as the file says"
        assert all(one == size for one, size in zip(said, values.shape, strict=True) if isinstance(one, int))


def of_text(text: str, **shapes: list[int]) -> Graph:
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: {shape} }} }} }}'
        for name, shape in shapes.items()
    )
    return Graph(parse_prototxt(inputs + text, of="text"), of="text")


def of_net(golden: Path, name: str) -> Graph:
    graph = Graph(read_prototxt(golden / f"nets/{name}.prototxt"), of=name)
    copy_weights(graph, golden / f"nets/{name}.caffemodel")
    return graph


def of_layer(golden: Path, name: str) -> tuple[Graph, dict[str, Array], dict[str, Array]]:
    """A graph of one layer, its inputs and what Caffe gave."""
    kept = np.load(golden / f"layers/{name}.npz")
    graph = Graph(read_prototxt(golden / f"layers/{name}.prototxt"), State(CASES[name]["phase"]), of=name)
    for key in kept:
        if key.startswith("param:"):
            _, layer, place = key.split(":")
            graph.parameters[layer][int(place)].data = torch.from_numpy(kept[key])
    parts = ({key[len(kind) :]: kept[key] for key in kept if key.startswith(kind)} for kind in ("bottom:", "top:"))
    return graph, *parts


# ---- Caffe's numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_a_net_written_once_gives_caffes_outputs_at_both_sizes(golden: Path, name: str, tmp_path: Path) -> None:
    graph = of_net(golden, name)
    write_onnx(graph, tmp_path / "net.onnx")
    for size in "ab":
        kept = np.load(golden / f"nets/{name}.{size}.npz")
        inputs = {key[6:]: kept[key] for key in kept if key.startswith("input:")}
        must_be_equal(tmp_path / "net.onnx", inputs, {name: kept[f"blob:{name}"] for name in graph.outputs})


@pytest.mark.parametrize("name", WRITTEN)
def test_a_layer_gives_caffes_numbers_and_the_graphs_at_other_sizes(golden: Path, name: str, tmp_path: Path) -> None:
    graph, inputs, tops = of_layer(golden, name)
    path, rng = tmp_path / "net.onnx", np.random.default_rng(1)
    write_onnx(graph, path)
    must_be_equal(path, inputs, tops)
    sizes, compared = sizes_of(path), 0
    for more in [(1, 0, 1, 2), (2, 0, 2, 1), (0, 0, 3, 3), (1, 0, -1, -1)]:
        others = {}
        for blob, values in inputs.items():
            free = [isinstance(size, str) for size in sizes[blob]]
            shape = [size + by * one for size, by, one in zip(values.shape, (*more, 1), free, strict=False)]
            others[blob] = rng.choice(values.ravel(), shape)  # what the layer takes: numbers of its case
        try:
            wanted = computed(graph, others)
        except CaffeError:  # an odd number that is divided in two
            continue
        must_be_equal(path, others, wanted)
        compared += 1
    assert compared


def test_every_operator_has_a_case() -> None:
    if not CASES:
        pytest.skip("what Caffe computed is not here")
    assert set(OPERATORS) - {KINDS[name] for name in WRITTEN} == {"Parameter"}


def test_a_parameter_is_a_constant(tmp_path: Path) -> None:
    own = 'layer { name: "own" type: "Parameter" top: "own" parameter_param { shape { dim: 2 dim: 3 } } }'
    sum_ = 'layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "own" top: "y" }'
    graph = of_text(own + sum_, x=[2, 3])
    graph.cells["own"].data = graph.parameters["own"][0].data = torch.arange(6.0).reshape(2, 3)
    write_onnx(graph, tmp_path / "net.onnx")
    inputs = {"x": np.ones((2, 3), np.float32)}
    must_be_equal(tmp_path / "net.onnx", inputs, computed(graph, inputs))


def test_a_number_without_axes_stays_one(tmp_path: Path) -> None:
    graph = of_text('layer { name: "r" type: "Reduction" bottom: "x" top: "y" reduction_param { coeff: 3 } }', x=[2, 3])
    write_onnx(graph, tmp_path / "net.onnx")
    assert evaluated(tmp_path / "net.onnx", {"x": np.ones((5, 3), np.float32)})["y"].shape == ()


def test_a_blob_may_be_called_as_values_between_are(tmp_path: Path) -> None:
    graph = of_text('layer { name: "r" type: "ReLU" bottom: "x" top: "r:1" }', x=[2, 3])
    write_onnx(graph, tmp_path / "net.onnx")
    inputs = {"x": np.ones((2, 3), np.float32)}
    must_be_equal(tmp_path / "net.onnx", inputs, computed(graph, inputs))


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("round_mode", ["CEIL", "FLOOR"])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_pooling_has_caffes_windows_at_every_size(pool: str, round_mode: str, kernel: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for stride, pad, other in product((1, 2, 3, 4), range(kernel), range(kernel)):
        if pool == "AVE" and round_mode == "CEIL" and stride > kernel and pad == other == 0:
            continue  # refused
        text = f"pool: {pool} kernel_size: {kernel} stride: {stride} pad_h: {pad} pad_w: {other}"
        layer = f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param {{ {text} }} }}'
        graph = of_text(layer.replace("} }", f"round_mode: {round_mode} }} }}"), x=[1, 1, 6, 6])
        write_onnx(graph, tmp_path / "net.onnx")
        for size in [(5, 8), (6, 7), (7, 6), (8, 5)]:
            inputs = {"x": rng.standard_normal((2, 1, *size)).astype(np.float32) - 3}  # a 0 of the pad would win
            must_be_equal(tmp_path / "net.onnx", inputs, computed(graph, inputs))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("fcn8s_vgg", {"data": ["batch", 3, "height", "width"], "score": ["", 3, "", ""]}),
        ("googlenet_like", {"data": ["batch", 3, "height", "width"], "prob": ["", 10]}),
        ("lenet_like", {"data": ["batch", 1, 28, 28], "prob": ["", 10]}),
        ("shared_permissive", {"data": ["batch", 12], "b": ["", 12]}),
        (
            "legacy_bn_inputs",
            {
                "data": ["data.batch", 3, "data.height", "data.width"],
                "mask": ["mask.batch", 1, "mask.height", "mask.width"],
                "mul": ["", 3, "", ""],
            },
        ),
    ],
)
def test_the_file_says_which_sizes_are_free(
    golden: Path, name: str, sizes: dict[str, list[int | str]], tmp_path: Path
) -> None:
    write_onnx(of_net(golden, name), tmp_path / "net.onnx")
    assert sizes_of(tmp_path / "net.onnx") == sizes


def test_a_map_of_another_size_is_refused_by_an_inner_product(golden: Path, tmp_path: Path) -> None:
    write_onnx(of_net(golden, "lenet_like"), tmp_path / "net.onnx")
    with pytest.raises(TypeError, match="MatMul"):
        evaluated(tmp_path / "net.onnx", {"data": np.zeros((1, 1, 40, 40), np.float32)})


def test_a_crop_beyond_its_bottom_is_refused_as_it_runs(tmp_path: Path) -> None:
    crop = 'layer { name: "c" type: "Crop" bottom: "x" bottom: "like" top: "y" crop_param { offset: 2 } }'
    graph = of_text(crop, x=[1, 1, 6, 6], like=[1, 1, 4, 4])
    write_onnx(graph, tmp_path / "net.onnx")
    fits, beyond = (
        {"x": np.zeros((1, 1, 9, 9), np.float32), "like": np.zeros((1, 1, 7, n), np.float32)} for n in (7, 8)
    )
    must_be_equal(tmp_path / "net.onnx", fits, computed(graph, fits))
    with pytest.raises(CaffeError, match="crop lies within"):
        computed(graph, beyond)
    with pytest.raises(ValueError, match="reshape"):
        evaluated(tmp_path / "net.onnx", beyond)


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(CASES) - set(WRITTEN)))
def test_what_onnx_has_not_is_refused_by_name(golden: Path, name: str, tmp_path: Path) -> None:
    graph, _, _ = of_layer(golden, name)
    with pytest.raises(CaffeError) as caught:
        write_onnx(graph, tmp_path / "net.onnx")
    assert REFUSED.get(name, f"'layer' ({KINDS[name]}): {KINDS[name]} has no ONNX operator") in caught.value.found
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        ('type: "Pooling" pooling_param { pool: AVE kernel_size: 1 stride: 2 }', [1, 1, 7, 7], "lie outside"),
        ('type: "MVN"', [2, 3], "axes that its mean is of"),
        ('type: "BatchNorm"', [3], "bottom of one axis"),
    ],
)
def test_what_onnx_would_compute_otherwise_is_refused(layer: str, shape: list[int], said: str, tmp_path: Path) -> None:
    graph = of_text(f'layer {{ name: "one" bottom: "x" top: "y" {layer} }}', x=shape)
    with pytest.raises(CaffeError, match=f"layer 'one'.*{said}"):
        write_onnx(graph, tmp_path / "net.onnx")


def test_outputs_leave_out_what_comes_after_them(tmp_path: Path) -> None:
    relu = 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" } layer { name: "l" type: "EuclideanLoss" '
    graph = of_text(relu + 'bottom: "r" bottom: "label" top: "l" }', x=[2, 3], label=[2, 3])
    with pytest.raises(CaffeError, match="--output BLOB"):
        write_onnx(graph, tmp_path / "net.onnx")
    write_onnx(graph, tmp_path / "net.onnx", outputs=["r"])
    assert sizes_of(tmp_path / "net.onnx") == {"x": ["batch", 3], "r": ["", 3]}
    with pytest.raises(CaffeError, match="has no 's'"):
        write_onnx(graph, tmp_path / "net.onnx", outputs=["s"])


def test_weights_of_more_than_2_gb_are_refused(golden: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 1000)
    with pytest.raises(CaffeError, match="at most 2 GB"):
        write_onnx(of_net(golden, "lenet_like"), tmp_path / "net.onnx")


# ---- the command ----------------------------------------------------------------------------------------------------


def converted(golden: Path, name: str, *words: str | Path) -> str:
    """What the command prints."""
    pair = [str(golden / f"nets/{name}.{kind}") for kind in ("prototxt", "caffemodel")]
    return CliRunner().invoke(command, ["convert", *pair, *map(str, words)], catch_exceptions=False).output


def preparation_of(path: Path) -> Preparation:
    said = {one.key: one.value for one in onnx.load(path).metadata_props}
    return Preparation.from_json(json.loads(said["preparation"]))


def test_the_file_beside_the_bundle_gives_its_scores(golden: Path, tmp_path: Path) -> None:
    names, path, bundle = tmp_path / "names.txt", tmp_path / "net.onnx", tmp_path / "bundle"
    names.write_text("ground\nhouse\ntree\n")
    said = converted(golden, "fcn_alexnet", "--onnx", path, "--out", bundle, "--class-names", names)
    assert f"{path} holds the net; it reads prepared photos, BGR" in said
    assert f"{bundle} holds the bundle" in said
    photo = np.random.default_rng(0).integers(0, 256, (37, 51, 3), np.uint8)
    found = evaluated(path, {"data": preparation_of(path).prepare(photo)[None].numpy()})
    must_be_close(found["score"][0], fc.load(bundle).predict(photo).scores, CLOSE, "scores")


def test_the_file_alone_is_of_any_net(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert converted(golden, "lenet_like", "--onnx", path, "--output", "ip2") == f"{path} holds the net\n"
    assert list(tmp_path.iterdir()) == [path]
    assert list(sizes_of(path)) == ["data", "ip2"]
    assert not onnx.load(path).metadata_props  # one channel is none of a photo


def test_the_file_tells_the_preparation_that_was_given(golden: Path, tmp_path: Path) -> None:
    own = Preparation("RGB", (1.0, 2.0, 3.0), (0.5, 0.5, 0.5))
    (tmp_path / "own.json").write_text(json.dumps(own.to_json()))
    converted(golden, "squeezenet_like", "--onnx", tmp_path / "net.onnx", "--preparation", tmp_path / "own.json")
    assert preparation_of(tmp_path / "net.onnx") == own


def test_the_file_is_a_classifier_as_the_two_of_caffe_are(golden: Path, tmp_path: Path) -> None:
    write_onnx(of_net(golden, "caffenet_like"), tmp_path / "net.onnx")
    kept = np.load(golden / "nets/caffenet_like.a.npz")
    with torch.no_grad():
        found = fc.read_classifier(str(tmp_path / "net.onnx")).network(torch.from_numpy(kept["input:data"]))
    must_be_close(found.numpy(), kept["blob:prob"], CLOSE, "scores")


def test_one_of_both_is_asked_for() -> None:
    with pytest.raises(UsageError, match="--out FOLDER or --onnx FILE"):
        CliRunner().invoke(command, ["convert", "a.prototxt", "a.caffemodel"], catch_exceptions=False)


def test_without_the_package_the_command_says_how_to_get_it(golden: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"fullconv\[onnx\]"):
        converted(golden, "lenet_like", "--onnx", tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
