"""pycaffe's names and shapes: the script that people hold runs, and so do the ways of other scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.caffe.conftest import must_be_close

import fullconv.caffe as caffe
from fullconv.base.errors import CaffeError, FullconvError, UsageError


@pytest.fixture
def files(golden: Path) -> tuple[str, str]:
    return str(golden / "nets/fcn8s_vgg.prototxt"), str(golden / "nets/fcn8s_vgg.caffemodel")


def test_the_articles_script_at_full_width(golden: Path) -> None:
    im = Image.open(golden.parent / "data/article/2007_000129.jpg")
    in_ = np.array(im, dtype=np.float32)
    in_ = in_[:, :, ::-1]
    in_ -= np.array((104.00698793, 116.66876762, 122.67891434))
    in_ = in_.transpose((2, 0, 1))
    caffe.set_random_seed(0)
    net = caffe.Net(str(golden.parent / "data/caffe-models/fcn-prototxt/voc-fcn8s/deploy.prototxt"), caffe.TEST)
    for name in ("conv1_1", "fc6", "score_fr"):  # the prototxt has no fillers: weights would all be 0
        weights = net.params[name][0].data
        weights[...] = np.random.default_rng(0).normal(0, 0.01, weights.shape[1:])
    net.blobs["data"].reshape(1, *in_.shape)
    assert in_.shape == (3, 500, 334)
    net.blobs["data"].data[...] = in_
    net.forward()
    assert net.blobs["score"].data[0].shape == (21, 500, 334)
    assert net.blobs["score"].data[0].argmax(axis=0).shape == (500, 334)


def test_phase_and_weights_come_in_either_order(files: tuple[str, str]) -> None:
    nets = [caffe.Net(*files, caffe.TEST), caffe.Net(files[0], caffe.TEST, weights=files[1])]
    photos = np.random.default_rng(0).normal(size=(1, 3, 40, 52)).astype(np.float32)
    scores = []
    for net in nets:
        net.blobs["data"].reshape(*photos.shape)
        scores.append(net.forward(data=photos)["score"].copy())
    assert np.array_equal(*scores)
    with pytest.raises(UsageError, match="phase"):
        caffe.Net(*files)


def test_arrays_stay_those_of_the_net(files: tuple[str, str]) -> None:
    net = caffe.Net(*files, caffe.TEST)
    net.reshape()
    given, found = net.blobs["data"].data, net.blobs["score"].data
    net.forward()
    before = found.copy()
    given[...] = np.random.default_rng(1).normal(size=given.shape)
    net.forward()
    assert not np.array_equal(found, before), "the array that was asked for before shows what came later"
    net.params["score_fr"][0].data[...] = 0
    net.params["score_fr"][1].data[...] = 0
    net.forward(start="score_fr")
    assert not net.blobs["score_fr"].data.any()


def test_a_part_of_a_net_runs_from_layer_to_layer(files: tuple[str, str]) -> None:
    net = caffe.Net(*files, caffe.TEST)
    net.forward()
    whole = net.blobs["pool3"].data.copy()
    found = net.forward(start="conv2_1", end="pool3")
    assert list(found) == ["pool3"]
    assert np.array_equal(found["pool3"], whole)
    with pytest.raises(UsageError, match="layers of the net"):
        net.forward(end="pool9")


def test_gradients_come_back_to_the_photo(golden: Path) -> None:
    net = caffe.Net(str(golden / "layers/conv_basic.prototxt"), caffe.TEST)
    net.params["layer"][0].data[...] = 1
    net.forward()
    net.blobs["y"].diff[...] = 1
    gradients = net.backward()
    assert gradients["x"].shape == net.blobs["x"].shape
    assert gradients["x"].max() == net.params["layer"][0].data[:, 0].size
    assert net.params["layer"][0].diff.shape == net.params["layer"][0].shape


def test_blobs_have_their_old_names_for_sizes(files: tuple[str, str]) -> None:
    blob = caffe.Net(*files, caffe.TEST).blobs["data"]
    assert (blob.num, blob.channels, blob.height, blob.width) == blob.shape
    assert blob.count == np.prod(blob.shape)


def test_inputs_are_checked(files: tuple[str, str]) -> None:
    net = caffe.Net(*files, caffe.TEST)
    with pytest.raises(CaffeError, match="reshape"):
        net.forward(data=np.zeros((1, 3, 5, 5), np.float32))
    with pytest.raises(UsageError, match="all inputs"):
        net.forward(photo=np.zeros(1))


def test_what_a_net_is_made_of(files: tuple[str, str]) -> None:
    net = caffe.Net(*files, caffe.TEST)
    assert net.inputs == ["data"]
    assert net.outputs == ["score"]
    assert [blob.shape for blob in net.params["score_fr"]][1] == (net.params["score_fr"][0].shape[0],)
    assert net.layer_dict["conv1_1"].type == "Convolution"
    assert net.top_names["score"] == ["score"]
    assert len(net.bottom_names["score"]) == 2


def test_saved_weights_come_back(files: tuple[str, str], tmp_path: Path) -> None:
    net = caffe.Net(*files, caffe.TEST)
    net.params["fc6"][0].data[...] *= 2
    net.save(str(tmp_path / "w.caffemodel"))
    again = caffe.Net(files[0], str(tmp_path / "w.caffemodel"), caffe.TEST)
    assert np.array_equal(again.params["fc6"][0].data, net.params["fc6"][0].data)


def test_any_number_of_items_goes_through_in_batches(golden: Path) -> None:
    net = caffe.Net(str(golden / "nets/lenet_like.prototxt"), str(golden / "nets/lenet_like.caffemodel"), caffe.TEST)
    shape = net.blobs["data"].shape
    items = np.random.default_rng(0).normal(size=(2 * shape[0] + 1, *shape[1:])).astype(np.float32)
    (found,) = net.forward_all(data=items).values()
    assert len(found) == len(items)
    last = net.forward(data=np.repeat(items[-1:], shape[0], 0))
    must_be_close(found[-1], next(iter(last.values()))[0], 1e-5, "the last item")


def test_a_solver_steps(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(golden / "training")
    solver = caffe.SGDSolver("heavy.solver.prototxt")
    solver.net.copy_from("heavy.init.caffemodel")
    before = solver.net.params["conv1_1"][0].data.copy()
    solver.net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=solver.net.blobs["data"].shape)
    solver.step(2)
    assert solver.iter == 2
    assert not np.array_equal(before, solver.net.params["conv1_1"][0].data)


def test_a_transformer_prepares_as_the_classification_example_does() -> None:
    transformer = caffe.io.Transformer({"data": (1, 3, 20, 30)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", np.array([104.0, 117, 123]))
    transformer.set_raw_scale("data", 255)
    transformer.set_channel_swap("data", (2, 1, 0))
    image = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    found = transformer.preprocess("data", image)
    must_be_close(found, (255 * image[:, :, ::-1] - [104, 117, 123]).transpose(2, 0, 1), 1e-6, "prepared")
    must_be_close(transformer.deprocess("data", found), image, 1e-5, "and back")
    assert transformer.preprocess("data", np.ones((40, 60, 3))).shape == (3, 20, 30)
    with pytest.raises(FullconvError, match="channels"):
        transformer.set_mean("data", np.zeros(4))


def test_bf16_is_asked_for(files: tuple[str, str]) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        net = caffe.Net(*files, caffe.TEST, precision=precision)
        net.blobs["data"].data[...] = np.random.default_rng(0).normal(0, 60, net.blobs["data"].shape)
        found[precision] = net.forward()["score"].copy()
    off = np.abs(found["bf16"] - found["fp32"]).max() / np.abs(found["fp32"]).max()
    assert found["bf16"].dtype == np.float32
    assert 0 < off < 0.05
    with pytest.raises(UsageError, match="fp32 or bf16"):
        caffe.Net(*files, caffe.TEST, precision="int4")
    with pytest.raises(UsageError, match="do not train"):
        caffe.Net(*files, caffe.TRAIN, precision="bf16")
