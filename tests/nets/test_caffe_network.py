"""Caffe nets as torch networks: the same scores, a proof of surgery for classifiers, bundles for FCNs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.caffe.conftest import GOLDEN, must_be_close

import fullconv as fc
from fullconv.base.errors import FullconvError, NetError
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.weights import copy_weights
from fullconv.cli.caffe import command
from fullconv.nets.caffe_network import CaffeNetwork, network_of

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


def test_an_fcn_becomes_a_bundle_that_predicts_the_same(golden: Path, tmp_path: Path) -> None:
    prototxt, weights = (golden / f"nets/fcn8s_atonce.{kind}" for kind in ("prototxt", "caffemodel"))
    (tmp_path / "names.txt").write_text("ground\nhouse\ntree\n")
    asked = ["convert", str(prototxt), str(weights), "--out", str(tmp_path / "bundle")]
    done = CliRunner().invoke(command, [*asked, "--class-names", str(tmp_path / "names.txt")], catch_exceptions=False)
    assert done.exit_code == 0
    bundle = fc.load(tmp_path / "bundle")
    assert bundle.label_space.names == ("ground", "house", "tree")
    photo = np.random.default_rng(0).integers(0, 256, (47, 61, 3), np.uint8)
    graph = built(golden, "fcn8s_atonce")
    mean = np.array([104.00698793, 116.66876762, 122.67891434], np.float32)
    graph.cells["data"].data = torch.from_numpy((photo[:, :, ::-1] - mean).transpose(2, 0, 1)[None].copy())
    graph.reshape()
    graph.forward()
    found = bundle.predict(photo)
    must_be_close(found.scores, graph.cells["score"].data[0].numpy(), 2e-5, "scores")
    assert found.labels.shape == (47, 61)


def test_gradients_reach_a_caffe_nets_blobs_and_changed_ones_count(golden: Path) -> None:
    network = CaffeNetwork(built(golden, "fcn8s_vgg"), "score")
    photo = 50 * torch.randn(1, 3, 80, 65, generator=torch.Generator().manual_seed(0))
    scores = network(photo)
    scores.square().mean().backward()
    gradient = network.get_parameter("conv1_1_0").grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0
    with torch.inference_mode():
        must_be_close(network(photo).numpy(), scores.detach().numpy(), 1e-5, "score")
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    moved = network(photo).detach()
    assert not torch.allclose(moved, scores)
    with torch.inference_mode():
        must_be_close(network(photo).numpy(), moved.numpy(), 1e-5, "score")


def test_a_caffe_net_predicts_by_the_engine_in_fp32_and_bf16(golden: Path) -> None:
    network = CaffeNetwork(built(golden, "fcn8s_vgg"), "score")
    photo = 50 * torch.randn(1, 3, 80, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = network(photo)
        assert network._engines[torch.float32].outputs.keys() == {"score"}
        with torch.autocast("cpu", torch.bfloat16):
            near = network(photo)
        assert torch.equal(network(photo), exact)
    assert near.dtype == torch.float32
    assert 0 < float((near - exact).abs().max()) < 0.05 * float(exact.abs().max())


def test_a_bundle_has_as_many_classes_as_there_are_scores(golden: Path, tmp_path: Path) -> None:
    prototxt, weights = (golden / f"nets/fcn8s_vgg.{kind}" for kind in ("prototxt", "caffemodel"))
    (tmp_path / "names.txt").write_text("ground\nhouse\n")
    asked = [
        "convert",
        str(prototxt),
        str(weights),
        "--out",
        str(tmp_path / "b"),
        "--class-names",
        str(tmp_path / "names.txt"),
    ]
    with pytest.raises(NetError, match="each of 2 classes"):
        CliRunner().invoke(command, asked, catch_exceptions=False)
    with pytest.raises(NetError, match="has no 'scores'"):
        CliRunner().invoke(command, [*asked, "--output", "scores"], catch_exceptions=False)


def test_info_shows_shapes_parameters_and_strides(golden: Path) -> None:
    path = golden.parent / "data/caffe-models/fcn-prototxt/voc-fcn8s/deploy.prototxt"
    done = CliRunner().invoke(command, ["info", str(path), "--size", "500x375"], catch_exceptions=False)
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert "1x21x500x375" in lines["score"]
    assert "102,764,544" in lines["fc6"]
    assert "stride 32" in lines["score_fr"]
    assert "134,489,759 parameters" in done.output
