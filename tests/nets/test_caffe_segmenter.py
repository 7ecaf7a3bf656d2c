"""Caffe FCNs as segmenters: bundles that predict the same, gradients, the engine."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from tests.caffe.conftest import must_be_close

import fullconv as fc
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import parse_prototxt, read_prototxt
from fullconv.caffe.weights import copy_weights
from fullconv.cli.caffe import command
from fullconv.labels.space import LabelSpace
from fullconv.nets.bundle import save_bundle
from fullconv.nets.caffe_network import CAFFE_PHOTO
from fullconv.nets.caffe_segmenter import CaffeNetwork, caffe_segmenter


def built(golden: Path, name: str) -> Graph:
    graph = Graph(read_prototxt(golden / f"nets/{name}.prototxt"), of=name)
    copy_weights(graph, golden / f"nets/{name}.caffemodel")
    return graph


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


def test_copies_and_pickles_of_a_bundles_net_give_the_same_scores(golden: Path, tmp_path: Path) -> None:
    space = LabelSpace(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), ((0,), (1,), (2,)), (255,))
    text = (golden / "nets/fcn8s_atonce.prototxt").read_text()
    made = caffe_segmenter(built(golden, "fcn8s_atonce"), text, label_space=space, preparation=CAFFE_PHOTO)
    save_bundle(made, tmp_path / "bundle")
    net = fc.load(tmp_path / "bundle").net
    photo = 50 * torch.randn(1, 3, 47, 61, generator=torch.Generator().manual_seed(0))
    before = len(pickle.dumps(net))
    with torch.no_grad():
        scores = net(photo)
    assert len(pickle.dumps(net)) < before + 1000  # weights once, though the engine and its graph have them now
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.deepcopy(copy.deepcopy(net))):
        with torch.no_grad():
            assert torch.equal(other(photo), scores)
        must_be_close(other(photo).detach().numpy(), scores.numpy(), 1e-5, "by layers")
        with torch.no_grad():
            next(other.parameters()).mul_(2)
            assert not torch.equal(other(photo), scores)
            assert torch.equal(net(photo), scores)


def test_copies_and_pickles_of_a_shared_parameter_share_it() -> None:
    branch = """layer { name: "%s" type: "Convolution" bottom: "data" top: "%s"
        param { name: "w" } convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }"""
    graph = Graph(
        parse_prototxt(f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 4 dim: 4 }} }} }}
        {branch % ("a", "a")} {branch % ("b", "b")}
        layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }}
    """)
    )
    graph.learnable[0].put(torch.eye(3)[:, :, None, None])
    net = pickle.loads(pickle.dumps(copy.deepcopy(CaffeNetwork(graph, "sum"))))
    assert [name for name, _ in net.named_parameters()] == ["a_0"]
    photo = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        assert torch.equal(net(photo), 2 * photo)
    assert torch.equal(net(photo), 2 * photo)


def test_an_input_beside_the_photo_has_no_part() -> None:
    text = """
    layer { name: "in" type: "Input" top: "label" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 9 } } }
    layer { name: "c" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 2 kernel_size: 1
      weight_filler { type: "gaussian" } } }
    """
    network = CaffeNetwork(Graph(parse_prototxt(text)), "score")
    photo = torch.randn(1, 3, 5, 6)
    scores = network(photo).detach()
    with torch.no_grad():
        must_be_close(network(photo).numpy(), scores.numpy(), 1e-5, "score")
