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
from fullconv.caffe.regions import small_size
from fullconv.caffe.steps import steps_of
from fullconv.caffe.weights import copy_weights

NAMES = sorted(path.name.removesuffix(".a.npz") for path in (GOLDEN / "nets").glob("*.a.npz"))
PADDED = ("fcn32s_vgg", "fcn16s_vgg", "fcn8s_vgg", "fcn8s_atonce", "fcn_alexnet", "two_heads")


def built(golden: Path, name: str) -> Graph:
    graph = Graph(read_prototxt(golden / f"nets/{name}.prototxt"), of=name)
    copy_weights(graph, golden / f"nets/{name}.caffemodel")
    return graph


def by_layers(graph: Graph, photo: torch.Tensor) -> dict[str, np.ndarray]:
    """All blobs of a pass, layer by layer."""
    graph.cells[graph.inputs[0]].data = photo
    graph.reshape()
    graph.forward()
    return {name: cell.data.numpy().copy() for name, cell in graph.cells.items()}


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
    before: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for shape in ((1, 3, 130, 97), (1, 3, 333, 471), (2, 3, 333, 471)):
        for seed in (0, 1):
            photo = 50 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
            outputs = engine.run([photo])
            for blob, found in outputs.items():
                must_be_close(found.numpy(), by_layers(graph, photo)[blob], 1e-5, blob)
            for found, copy in before.values():
                assert torch.equal(found, copy), "a later photo is not written into an earlier one's scores"
            before = {blob: (found, found.clone()) for blob, found in outputs.items()}
    regions = engine._sizes[(1, 3, 333, 471),].regions
    assert sum(region is not None for region in regions.values()) > 5


def test_inner_blobs_may_be_asked_for(golden: Path) -> None:
    graph = built(golden, "fcn8s_vgg")
    photo = 50 * torch.randn(1, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    inner = ["pool3", "conv4_1", "upscore2", "fuse_pool4", "score"]
    wanted = by_layers(graph, photo)
    for blob, found in Engine(graph, outputs=inner).run([photo]).items():
        must_be_close(found.numpy(), wanted[blob], 1e-5, blob)


def test_a_small_blank_photo_is_enough(golden: Path) -> None:
    steps, _, _ = steps_of(built(golden, "fcn8s_vgg"), ["score"])
    windows = [step.window for step in steps if step.slides and step.window is not None]
    assert max(small_size((3330, 4710), windows[:13])) < 500


@pytest.mark.parametrize("size", [40, 6], ids=["a convolution", "a product"])
def test_bfloat16_is_near_and_only_where_it_is_asked_for(size: int) -> None:
    graph = Graph(parse_prototxt(CHAIN))
    photo = torch.randn(1, 2, size, size, generator=torch.Generator().manual_seed(0))
    exact = by_layers(graph, photo)["scores"]
    engine = Engine(graph, torch.bfloat16)
    assert [step.node.name for step in engine.steps if step.narrow] == ["a", "b"]
    (found,) = engine.run([photo]).values()
    assert found.dtype == torch.float32
    assert 1e-4 < np.abs(found.numpy() - exact).max() / np.abs(exact).max() < 2e-2
    (found,) = Engine(graph).run([photo]).values()
    must_be_close(found.numpy(), exact, 1e-5, "fp32")


CHAIN = """
input: "data" input_dim: [1, 2, 40, 40]
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 64 kernel_size: 3
  weight_filler { type: "msra" } } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param { num_output: 64 kernel_size: 3
  weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "s" type: "Convolution" bottom: "b" top: "scores" convolution_param { num_output: 3 kernel_size: 1
  weight_filler { type: "msra" } } }
"""


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["bilinear", "groups", "other"]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    pad=st.integers(0, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    offset=st.one_of(st.none(), st.tuples(st.integers(0, 6), st.integers(0, 6))),
)
def test_deconvolutions_whole_and_cropped(
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: int,
    size: tuple[int, int],
    offset: tuple[int, int] | None,
) -> None:
    sides = f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]}"
    own = f"num_output: 3 {sides} pad: {pad}"
    filler = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
    text = f"""input: "small" input_dim: [2, 3, {size[0]}, {size[1]}] input: "like" input_dim: [2, 3, 3, 4]
    layer {{ name: "up" type: "Deconvolution" bottom: "small" top: "up" convolution_param {{ {own} {filler}
      group: {3 if kind == "groups" else 1} }} }}"""
    if offset is not None:
        text += f"""layer {{ name: "crop" type: "Crop" bottom: "up" bottom: "like" top: "crop"
          crop_param {{ axis: 2 offset: {offset[0]} offset: {offset[1]} }} }}"""
    try:
        graph = Graph(parse_prototxt(text))
    except CaffeError:
        assume(False)  # the crop is larger than its map
    if kind == "bilinear":
        rows, columns = (1 - np.abs(np.arange(k) / k - 0.4) for k in kernel)
        weight = graph.parameters["up"][0].data
        weight[:] = torch.eye(3)[:, :, None, None] * torch.from_numpy(np.outer(rows, columns))
        weight[2, 2] *= -3  # each channel its own
    photos = [torch.randn(graph.cells[name].shape) for name in graph.inputs]
    for name, photo in zip(graph.inputs, photos, strict=True):
        graph.cells[name].data = photo
    graph.forward()
    engine = Engine(graph)
    for blob, found in engine.run(photos).items():
        must_be_close(found.numpy(), graph.cells[blob].data.numpy(), 1e-5, blob)
    separable = kind == "bilinear" or min(kernel) == 1
    step = next(step for step in engine.steps if step.node.name == "up")
    assert (step.factors is not None) == (kind != "other" and separable)


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
            own = f"kernel_size: {kernel} stride: {stride} pad: {pad}"
            text += f'layer {{ {ends} type: "Pooling" pooling_param {{ {own} }} }} '
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


CONV = (
    'convolution_param { num_output: 4 kernel_size: 3 pad: 9 weight_filler { type: "gaussian" } '
    'bias_filler { type: "gaussian" } }'
)
SCALE = 'scale_param { AXIS bias_term: true filler { type: "gaussian" } bias_filler { type: "gaussian" } }'
DECONV = (
    'convolution_param { num_output: 4 group: 4 kernel_size: 4 stride: 2 weight_filler { type: "bilinear" } '
    'bias_filler { type: "gaussian" } }'
)
BESIDE = {  # layers that may not be drawn into the one before them, or not be computed of a part alone
    "a ReLU beside another reader": [
        ("Convolution", "data", "c", CONV),
        ("ReLU", "c", "r", ""),
        ("Eltwise", "c r", "e", ""),
    ],
    "a ReLU behind Dropout beside another reader": [
        ("Convolution", "data", "c", CONV),
        ("Dropout", "c", "d", ""),
        ("ReLU", "d", "r", ""),
        ("Eltwise", "c r", "e", ""),
    ],
    "a ReLU in place, after another reader": [
        ("Convolution", "data", "c", CONV),
        ("Split", "c", "s1 s2", ""),
        ("Power", "s1", "p", "power_param { scale: 2 }"),
        ("ReLU", "s2", "s2", ""),
    ],
    "two crops of one deconvolution": [
        ("Convolution", "data", "c", CONV),
        ("Deconvolution", "c", "u", DECONV),
        ("Crop", "u c", "x", "crop_param { offset: 3 }"),
        ("Crop", "u data", "y", "crop_param { offset: 18 }"),
    ],
    "a Scale by rows": [
        ("Convolution", "data", "c", "convolution_param { num_output: 4 kernel_h: 1 kernel_w: 1 }"),
        ("Scale", "c", "s", SCALE.replace("AXIS", "axis: 2")),
    ],
    "a Scale by columns, behind a pad": [
        ("Convolution", "data", "c", CONV),
        ("Pooling", "c", "p", "pooling_param { kernel_size: 2 }"),
        ("Scale", "p", "s", SCALE.replace("AXIS", "axis: 3")),
        ("Convolution", "s", "t", CONV),
    ],
    "LRN within a channel, behind a pad": [
        ("Convolution", "data", "c", CONV),
        ("LRN", "c", "l", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"),
        ("Convolution", "l", "t", CONV),
    ],
    "a BatchNorm by the batch's own numbers": [
        ("Convolution", "data", "c", CONV),
        ("BatchNorm", "c", "b", "batch_norm_param { use_global_stats: false }"),
        ("Convolution", "b", "t", CONV),
    ],
}


def written(layers: list[tuple[str, str, str, str]], photo: tuple[int, ...]) -> Graph:
    """A net of layers (type, bottoms, tops, parameters)."""
    text = f'input: "data" input_dim: {list(photo)} '
    for kind, bottoms, tops, param in layers:
        ends = " ".join([f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()])
        text += f'layer {{ name: "{kind} {tops}" type: "{kind}" {ends} {param} }} '
    return Graph(parse_prototxt(text))


def must_agree(graph: Graph, *photos: torch.Tensor) -> None:
    engine = Engine(graph)
    for photo in photos:
        wanted = by_layers(graph, photo)
        for blob, found in engine.run([photo]).items():
            must_be_close(found.numpy(), wanted[blob], 1e-5, blob)


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_is_computed_too(name: str) -> None:
    torch.manual_seed(0)
    graph = written(BESIDE[name], (1, 3, 4, 11))
    must_agree(graph, torch.randn(1, 3, 4, 11), torch.randn(1, 3, 4, 11))


def test_a_photo_that_no_kernel_reaches() -> None:
    sparse = "convolution_param { num_output: 2 kernel_size: 1 stride: 3 pad: 1 }"
    must_agree(written([("Convolution", "data", "c", sparse)], (1, 3, 6, 1)), torch.randn(1, 3, 6, 1))


def test_a_stride_and_one_column() -> None:
    """oneDNN gives anything there, in bfloat16 (torch 2.14)."""
    narrow = 'num_output: 40 kernel_h: 1 kernel_w: 5 stride_h: 1 stride_w: 2 weight_filler { type: "xavier" }'
    graph = written([("Convolution", "data", "c", f"convolution_param {{ {narrow} }}")], (1, 33, 70, 6))
    photo = torch.randn(1, 33, 70, 6)
    (found,) = Engine(graph, torch.bfloat16).run([photo]).values()
    must_be_close(found.numpy(), by_layers(graph, photo)["c"], 2e-2, "c")


def test_a_pad_along_one_axis_and_hardly_any_along_the_other() -> None:
    own = 'num_output: 2 kernel_size: 11 pad_h: 30 pad_w: 3 weight_filler { type: "gaussian" }'
    layers = [
        ("Convolution", "data", "c", f"convolution_param {{ {own} bias_filler {{ type: 'gaussian' }} }}"),
        ("ReLU", "c", "c", ""),
        ("Pooling", "c", "p", "pooling_param { kernel_size: 2 stride: 2 }"),
    ]
    must_agree(written(layers, (1, 3, 34, 13)), torch.randn(1, 3, 34, 13), torch.randn(1, 3, 34, 13))


def test_a_separable_kernel_is_so_in_each_channel() -> None:
    own = "convolution_param { num_output: 2 group: 2 kernel_size: 2 stride: 2 }"
    graph = written([("Deconvolution", "data", "u", own)], (1, 2, 5, 6))
    weight = graph.parameters["Deconvolution u"][0].data
    weight[1] = 1e-7 * torch.randn(2, 2)  # no product of a column and a row
    weight[0] = 1
    (found,) = Engine(graph).run([torch.ones(1, 2, 5, 6)]).values()
    wanted = by_layers(graph, torch.ones(1, 2, 5, 6))["u"]
    must_be_close(found[:, 1].numpy(), wanted[:, 1], 1e-5, "the small channel")


def test_bfloat16_pools_at_edges() -> None:
    pooling = "pooling_param { kernel_size: 3 stride: 2 pad: 2 }"
    graph = written([("Pooling", "data", "p", pooling)], (1, 3, 8, 8))
    photo = -torch.rand(1, 3, 8, 8)
    (found,) = Engine(graph, torch.bfloat16).run([photo]).values()
    must_be_close(found.numpy(), by_layers(graph, photo)["p"], 1e-2, "p")


@st.composite
def networks(draw: st.DrawFn) -> list[tuple[str, str, str, str]]:
    """Layers that read any blobs before them, some in place."""
    layers: list[tuple[str, str, str, str]] = []
    free = ["padded"]  # blobs of four channels, all of one size
    for number in range(draw(st.integers(2, 9))):
        bottom, top = draw(st.sampled_from(free)), f"b{number}"
        kind = draw(
            st.sampled_from(["conv", "conv", "relu", "bn", "scale", "split", "dropout", "eltwise", "lrn", "crop"])
        )
        if kind == "conv":
            pad = draw(st.integers(1, 6))
            own = f"num_output: 4 kernel_size: {2 * pad + 1} pad: {pad}"
            fill = 'weight_filler { type: "xavier" } bias_filler { type: "gaussian" }'
            layers.append(("Convolution", bottom, top, f"convolution_param {{ {own} {fill} }}"))
        elif kind in ("eltwise", "crop"):
            other = draw(st.sampled_from(free))
            layers.append(("Eltwise" if kind == "eltwise" else "Crop", f"{bottom} {other}", top, ""))
        elif kind == "split":
            layers.append(("Split", bottom, f"{top} {top}x", ""))
            free.append(f"{top}x")
        else:
            named = {"relu": "ReLU", "bn": "BatchNorm", "scale": "Scale", "dropout": "Dropout", "lrn": "LRN"}[kind]
            in_place = kind != "lrn" and bottom != "padded" and not any(bottom in one[1].split() for one in layers)
            top = bottom if in_place and draw(st.booleans()) else top
            layers.append((named, bottom, top, SCALE.replace("AXIS", "") if kind == "scale" else ""))
        free.append(top)
    return layers


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(5, 12), st.integers(5, 12), st.integers(0, 5))
def test_any_net(layers: list[tuple[str, str, str, str]], rows: int, columns: int, seed: int) -> None:
    torch.manual_seed(seed)
    graph = written([("Convolution", "data", "padded", CONV), *layers], (1, 3, rows, columns))
    for name, cells in graph.parameters.items():
        if name.startswith("BatchNorm"):
            for cell in cells:
                cell.data = torch.rand(cell.shape) + 0.5
    must_agree(graph, torch.randn(1, 3, rows, columns), torch.randn(1, 3, rows, columns))


# ---- behind pycaffe's face ------------------------------------------------------------------------------------------


@pytest.fixture
def net(golden: Path) -> caffe.Net:
    return caffe.Net(str(golden / "nets/fcn8s_vgg.prototxt"), str(golden / "nets/fcn8s_vgg.caffemodel"), caffe.TEST)


def photo_of(net: caffe.Net, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 50, net.blobs["data"].shape).astype(np.float32)


def test_inner_blobs_are_those_of_the_last_pass(net: caffe.Net) -> None:
    first, second = (photo_of(net, seed) for seed in (0, 1))
    wanted = by_layers(net.graph, torch.from_numpy(first))
    net.forward(data=first)
    net.blobs["data"].data[...] = second
    for name in ("conv1_1", "pool3", "score_fr"):
        must_be_close(net.blobs[name].data, wanted[name], 1e-5, name)
    assert np.array_equal(net.blobs["data"].data, second)


def test_an_array_of_an_inner_blob_that_is_held_is_kept_up_to_date(net: caffe.Net) -> None:
    held = net.blobs["pool3"].data
    photo = photo_of(net, 3)
    wanted = by_layers(net.graph, torch.from_numpy(photo))["pool3"]
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
    must_be_close(found, by_layers(net.graph, torch.from_numpy(photo))["score"], 1e-5, "score")


def test_weights_copied_in_count(net: caffe.Net, golden: Path) -> None:
    photo = photo_of(net, 5)
    before = net.forward(data=photo)["score"].copy()
    net.params["score_fr"][0].data[...] = 0
    net.forward(data=photo)
    net.copy_from(str(golden / "nets/fcn8s_vgg.caffemodel"))
    must_be_close(net.forward(data=photo)["score"], before, 1e-6, "score")


def test_a_reshape_shows_in_all_blobs_after_a_pass(net: caffe.Net) -> None:
    held = net.blobs["data"].data
    net.forward(data=photo_of(net, 0))
    rows, columns = (side + 32 for side in held.shape[2:])
    net.blobs["data"].reshape(2, 3, rows, columns)
    photo = photo_of(net, 1)
    net.forward(data=photo)
    assert net.blobs["conv1_1"].shape[0] == 2
    assert net.blobs["score"].shape[2:] == (rows, columns)
    net.blobs["data"].reshape(*held.shape)
    net.reshape()
    assert net.blobs["conv1_1"].shape[0] == 1
    net.blobs["data"].data[...] = photo[:1, :, : held.shape[2], : held.shape[3]]
    wanted = net.blobs["data"].data.copy()
    assert not net.blobs["pool3"].data.any(), "no pass of this size yet"
    assert np.array_equal(net.blobs["data"].data, wanted)


def test_weights_that_another_net_shares_count(golden: Path) -> None:
    files = [str(golden / f"nets/fcn8s_vgg.{kind}") for kind in ("prototxt", "caffemodel")]
    first, second = caffe.Net(*files, caffe.TEST), caffe.Net(files[0], caffe.TEST)
    second.share_with(first)
    photo = photo_of(first, 0)
    assert np.array_equal(second.forward(data=photo)["score"], first.forward(data=photo)["score"])
    for name in ("score_fr", "upscore8"):
        first.params[name][0].data[...] *= 2
    wanted = by_layers(first.graph, torch.from_numpy(photo))["score"]
    must_be_close(second.forward(data=photo)["score"], wanted, 1e-5, "score")


def test_what_has_a_memory_of_its_own_is_left_to_its_layers(tmp_path: Path) -> None:
    text = """
    layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 dim: 1 dim: 2 dim: 2 }
      data_filler { type: "gaussian" } } }
    layer { name: "r" type: "ReLU" bottom: "x" top: "y" }
    layer { name: "p" type: "Power" bottom: "y" top: "z" power_param { scale: 2 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    drawn = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    found = drawn.forward()["z"].copy()
    assert np.array_equal(2 * drawn.blobs["y"].data, found), "inner blobs are of the same draw"


def test_a_pass_of_what_remembers_counts_once(tmp_path: Path) -> None:
    text = """
    input: "x" input_shape { dim: 2 dim: 1 dim: 3 } input: "going_on" input_shape { dim: 2 dim: 1 }
    layer { name: "l" type: "LSTM" bottom: "x" bottom: "going_on" top: "y" recurrent_param { num_output: 2
      weight_filler { type: "gaussian" } } }
    layer { name: "p" type: "Power" bottom: "y" top: "z" power_param { scale: 2 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.blobs["x"].data[...] = 1
    net.blobs["going_on"].data[...] = 1
    first = net.forward()["z"].copy()
    must_be_close(2 * net.blobs["y"].data, first, 1e-6, "y")
    assert not np.array_equal(net.forward()["z"], first), "it goes on from the pass before"


def test_an_input_that_no_output_needs(tmp_path: Path) -> None:
    text = """
    layer { name: "l" type: "Input" top: "label" input_param { shape { dim: 1 } } }
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 2 dim: 3 } } }
    layer { name: "s" type: "Silence" bottom: "label" }
    layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.blobs["x"].data[...] = 3
    assert (net.forward()["y"] == 6).all()


def test_an_input_changed_in_place_is_changed(tmp_path: Path) -> None:
    text = """
    input: "x" input_dim: [1, 1, 1, 2]
    layer { name: "r" type: "ReLU" bottom: "x" top: "x" }
    layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.blobs["x"].data[...] = [[[[-1, 2]]]]
    net.forward()
    assert net.blobs["x"].data.tolist() == [[[[0, 2]]]]
