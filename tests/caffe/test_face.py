"""pycaffe's names and shapes: the script that people hold runs, and so do the ways of other scripts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

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


def test_level_and_stages_are_those_of_the_rules(golden: Path) -> None:
    model = str(golden / "nets/phase_rules.prototxt")
    for state in json.loads((golden / "nets/phase_rules.states.json").read_text()):
        phase = {"TRAIN": caffe.TRAIN, "TEST": caffe.TEST}[state["phase"]]
        for net in (
            caffe.Net(model, phase, state["level"], state["stages"]),
            caffe.Net(model, phase, level=state["level"], stages=state["stages"], weights=None),
        ):
            assert [name for name in net.layer_dict if "split" not in name] == state["layers"]


@pytest.mark.parametrize(
    ("args", "named", "match"),
    [
        ((caffe.TEST, 0, "deploy"), {}, "stages are a list"),
        ((caffe.TEST,), {"stages": "deploy"}, "stages are a list"),
        (("w.caffemodel", "v.caffemodel", caffe.TEST), {}, "at most one file"),
        (("w.caffemodel", caffe.TEST), {"weights": "v.caffemodel"}, "given once"),
        (("TEST",), {}, "caffe.TRAIN or caffe.TEST"),
        (("w.caffemodel", "TEST"), {}, "caffe.TRAIN or caffe.TEST"),
        ((), {"phase": "TEST"}, "caffe.TRAIN or caffe.TEST"),
        ((caffe.TEST, 1.5), {}, "level is a whole number"),
        ((2,), {}, "has a phase"),
        ((caffe.TEST, 0, None, None, 1), {}, "a net takes a model"),
    ],
)
def test_what_is_no_argument_of_a_net_is_refused(
    files: tuple[str, str], args: tuple[Any, ...], named: dict[str, Any], match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        caffe.Net(files[0], *args, **named)


def test_the_places_of_arguments_are_pycaffes(files: tuple[str, str]) -> None:
    wanted = caffe.Net(*files, caffe.TEST).params["score_fr"][0].data
    assert np.array_equal(caffe.Net(files[0], caffe.TEST, 0, None, files[1]).params["score_fr"][0].data, wanted)
    assert not np.array_equal(caffe.Net(files[0], caffe.TEST, 0).params["score_fr"][0].data, wanted)


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


def test_a_gradient_that_is_held_stays_the_blobs(golden: Path) -> None:
    net = caffe.Net(str(golden / "layers/conv_basic.prototxt"), caffe.TEST)
    held, top = net.blobs["x"].diff, net.blobs["y"].diff
    for factor in (1, 2):
        net.params["layer"][0].data[...] = factor
        net.forward()
        top[...] = 1
        assert net.backward()["x"] is not None
        assert np.array_equal(held, net.blobs["x"].diff)
        assert held.max() == factor * net.params["layer"][0].data[:, 0].size


def test_gradients_of_two_blobs_are_two_arrays(tmp_path: Path) -> None:
    (tmp_path / "sum.prototxt").write_text(
        """
        force_backward: true
        layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 2 } } }
        layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "y" }
        """
    )
    net = caffe.Net(tmp_path / "sum.prototxt", caffe.TRAIN)
    net.forward()
    net.blobs["y"].diff[...] = 3
    net.backward()
    net.blobs["a"].diff[...] = 5
    assert net.blobs["b"].diff.tolist() == [[3, 3]]
    assert net.blobs["y"].diff.tolist() == [[3, 3]]


def test_clear_param_diffs_leaves_zeros(golden: Path) -> None:
    net = caffe.Net(str(golden / "layers/conv_basic.prototxt"), caffe.TEST)
    held = net.params["layer"][0].diff
    net.forward()
    net.blobs["y"].diff[...] = 1
    net.blobs["x"].data[...] = 1
    net.forward()
    net.backward()
    assert held.any()
    net.clear_param_diffs()
    assert not held.any()


@pytest.mark.parametrize("shape", [(1, -3, 4, 4), (0, 3, 4, 4), (1,) * 33, (2**16, 2**16)])
def test_shapes_that_no_blob_has_are_refused(files: tuple[str, str], shape: tuple[int, ...]) -> None:
    net = caffe.Net(*files, caffe.TEST)
    before = net.blobs["data"].shape
    with pytest.raises(CaffeError, match="sizes of at least 1"):
        net.blobs["data"].reshape(*shape)
    assert net.blobs["data"].shape == before


def test_a_parameter_keeps_its_numbers(files: tuple[str, str]) -> None:
    net = caffe.Net(*files, caffe.TEST)
    blob = net.params["score_fr"][0]
    before, scores = blob.data.copy(), net.forward()["score"].copy()
    blob.reshape(before.size)
    assert np.array_equal(blob.data, before.ravel())
    assert np.array_equal(net.forward()["score"], scores)
    with pytest.raises(CaffeError, match="as its layer made it"):
        blob.reshape(before.size + 1)


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
    for blobs in (["nope"], "score"):
        with pytest.raises(UsageError, match="list of blobs"):
            net.forward(blobs=blobs)
        with pytest.raises(UsageError, match="list of blobs"):
            net.backward(diffs=blobs)
    for one in (net.forward_all, net.forward_backward_all):
        with pytest.raises(UsageError, match="all inputs are given"):
            one()


def test_what_a_net_is_made_of(files: tuple[str, str]) -> None:
    net = caffe.Net(*files, caffe.TEST)
    assert net.inputs == ["data"]
    assert net.outputs == ["score"]
    assert [blob.shape for blob in net.params["score_fr"]][1] == (net.params["score_fr"][0].shape[0],)
    assert net.layer_dict["conv1_1"].type == "Convolution"
    assert list(net.layer_dict.values()) == net.layers
    for place, name in enumerate(net._layer_names):
        layer = net.layers[place]
        assert layer.name == layer.param.name == name
        assert [blob.shape for blob in layer.blobs] == [blob.shape for blob in net.params.get(name, [])]
    assert net.layer_dict["score_fr"].blobs[0] is net.params["score_fr"][0]
    assert net._blob_names == list(net.blobs)
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


def test_gradients_of_any_number_of_items(golden: Path) -> None:
    net = caffe.Net(str(golden / "layers/conv_basic.prototxt"), caffe.TEST)
    net.params["layer"][0].data[...] = np.random.default_rng(2).normal(size=net.params["layer"][0].shape)
    rng, number = np.random.default_rng(0), net.blobs["x"].shape[0] + 1
    photos, tops = (rng.normal(size=(number, *net.blobs[name].shape[1:])).astype(np.float32) for name in "xy")
    found, gradients = net.forward_backward_all(x=photos, y=tops)
    assert len(found["y"]) == len(gradients["x"]) == number
    for place in range(number):
        one = {name: np.repeat(items[place : place + 1], number - 1, 0) for name, items in (("x", photos), ("y", tops))}
        must_be_close(net.forward(x=one["x"])["y"][0], found["y"][place], 1e-5, "scores")
        must_be_close(net.backward(y=one["y"])["x"][0], gradients["x"][place], 1e-5, "gradients")


def test_one_number_a_batch_is_not_joined(golden: Path) -> None:
    net = caffe.Net(str(golden / "nets/two_losses.prototxt"), caffe.TRAIN)
    inputs = {name: np.zeros(net.blobs[name].shape) for name in net.inputs}
    with pytest.raises(UsageError, match="one number a batch"):
        net.forward_all(**inputs)


def test_the_weights_of_losses_are_told(golden: Path) -> None:
    net = caffe.Net(str(golden / "nets/two_losses.prototxt"), caffe.TRAIN)
    said = {layer.param.top[0]: list(layer.param.loss_weight) for layer in net.layers if layer.type.endswith("Loss")}
    assert len(said) == 2
    for name, weights in said.items():
        assert net.blob_loss_weights[name] == (weights or [1])[0]
    assert net.blob_loss_weights[net.inputs[0]] == 0


def test_nets_that_share_have_one_memory(files: tuple[str, str]) -> None:
    one, other = caffe.Net(*files, caffe.TEST), caffe.Net(files[0], caffe.TEST)
    held = other.blobs["data"].data
    other.share_with(one)
    one.params["score_fr"][1].data[...] = 7
    assert np.array_equal(other.params["score_fr"][1].data, one.params["score_fr"][1].data)
    assert other.layer_dict["score_fr"].blobs[1] is other.params["score_fr"][1]
    held[...] = one.blobs["data"].data[...] = np.random.default_rng(0).normal(0, 50, held.shape)
    assert np.array_equal(other.forward()["score"], one.forward()["score"])


RULES = {
    "adam": caffe.AdamSolver,
    "nesterov": caffe.NesterovSolver,
    "adagrad": caffe.AdaGradSolver,
    "rmsprop": caffe.RMSPropSolver,
    "adadelta": caffe.AdaDeltaSolver,
    "step_l2": caffe.SGDSolver,
}


@pytest.mark.parametrize("name", RULES)
def test_the_class_of_a_solver_is_its_rule(training: Path, name: str) -> None:
    """Its file without a type, or of another one, gives Caffe's run of that rule."""
    own = (training / f"{name}.solver.prototxt").read_text()
    kept = np.load(f"{name}.npz")
    types = ("", "solver_type: SGD") if RULES[name] is caffe.SGDSolver else ("", 'type: "AdaDelta"', "solver_type: SGD")
    for other in types:
        lines = [line for line in own.splitlines() if not line.startswith("type")]
        (training / "other.prototxt").write_text("\n".join([*lines, other]))
        solver = RULES[name]("other.prototxt")
        solver.net.copy_from(f"{name}.init.caffemodel")
        for blob in ("data", "label"):
            solver.net.blobs[blob].data[...] = kept[blob][0]
        solver.step(1)
        for key in kept:
            if key.startswith("it1:"):
                _, layer, place = key.split(":")
                must_be_close(solver.net.params[layer][int(place)].data, kept[key], 1e-4, key)


@pytest.mark.parametrize("name", RULES)
def test_get_solver_and_sgd_solver_follow_the_file(training: Path, name: str) -> None:
    found = caffe.get_solver(f"{name}.solver.prototxt")
    assert type(found) is RULES[name]
    assert caffe.SGDSolver(f"{name}.solver.prototxt").param.type == found.param.type


def test_a_step_by_hand_is_a_step(training: Path) -> None:
    solvers = [caffe.get_solver("adam.solver.prototxt") for _ in range(2)]
    kept = np.load("adam.npz")
    for solver in solvers:
        solver.net.copy_from("adam.init.caffemodel")
        for blob in ("data", "label"):
            solver.net.blobs[blob].data[...] = kept[blob][0]
    solvers[0].step(1)
    solvers[1].net.clear_param_diffs()
    solvers[1].net.forward()
    solvers[1].net.backward()
    solvers[1].apply_update()
    assert solvers[1].iter == 1
    for layer, blobs in solvers[0].net.params.items():
        for one, other in zip(blobs, solvers[1].net.params[layer], strict=True):
            assert np.array_equal(one.data, other.data)


def test_callbacks_are_called_around_the_gradients(training: Path) -> None:
    solver = caffe.get_solver("adam.solver.prototxt")
    called: list[tuple[str, int, bool]] = []
    held = next(iter(solver.net.params.values()))[0]

    def tell(what: str) -> None:
        called.append((what, solver.iter, bool(held.diff.any())))

    solver.net.copy_from("adam.init.caffemodel")
    kept = np.load("adam.npz")
    for blob in ("data", "label"):
        solver.net.blobs[blob].data[...] = kept[blob][0]
    solver.add_callback(lambda: tell("start"), lambda: (tell("ready"), held.diff.fill(0)))
    solver.step(2)
    assert [one[:2] for one in called] == [("start", 0), ("ready", 0), ("start", 1), ("ready", 1)]
    assert called[1][2]


def test_gradients_that_are_held_are_those_of_the_last_step(training: Path) -> None:
    solver, kept = caffe.get_solver("adam.solver.prototxt"), np.load("adam.npz")
    solver.net.copy_from("adam.init.caffemodel")
    held = solver.net.blobs["conv1_1"].diff
    for blob in ("data", "label"):
        solver.net.blobs[blob].data[...] = kept[blob][0]
    for _ in range(2):
        held[...] = 0
        solver.step(1)
        assert held.any()
        assert np.array_equal(held, solver.net.blobs["conv1_1"].diff)


def test_a_parameter_of_another_shape_is_trained_alike(training: Path) -> None:
    kept, trained = np.load("adam.npz"), []
    for flat in (False, True):
        solver = caffe.get_solver("adam.solver.prototxt")
        solver.net.copy_from("adam.init.caffemodel")
        for blob in ("data", "label"):
            solver.net.blobs[blob].data[...] = kept[blob][0]
        one = solver.net.params["conv1_1"][0]
        if flat:
            one.reshape(one.count)
        solver.step(2)
        trained.append(one.data.ravel())
    assert np.array_equal(*trained)


def test_what_is_written_into_a_solvers_param_counts(training: Path) -> None:
    solver = caffe.get_solver("adam.solver.prototxt")
    assert solver.param.max_iter == 100
    solver.param.base_lr = 0.25
    assert solver.lr == 0.25


def test_a_solver_tells_its_loss_by_logging(training: Path, caplog: pytest.LogCaptureFixture) -> None:
    caffe.init_log(2, True)
    caffe.set_logging_disabled()
    with caplog.at_level(logging.INFO, logger="fullconv"):
        caffe.get_solver("adam.solver.prototxt").step(1)
        caffe.log("100% told")
    assert "Iteration 0, loss =" in caplog.text
    assert "100% told" in caplog.text


@pytest.mark.parametrize("name", ["Detector", "draw", "NCCL", "Layer", "NetSpec", "layers", "params", "nothing"])
def test_a_name_that_is_not_here_says_what_to_use(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'{name}'" if name == "nothing" else f"'{name}': "):
        getattr(caffe, name)


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
