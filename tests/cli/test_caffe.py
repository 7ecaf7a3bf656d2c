"""`fullconv caffe info` and `convert`: what they print, write and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fullconv as fc
from fullconv.base.errors import CaffeError, NetError, WeightsError
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import parse_prototxt
from fullconv.caffe.weights import write_weights
from fullconv.cli.caffe import command

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
SCORES = """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
    convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }"""
SIDE = SCORES.replace('"score"', '"aside"')
SOFTMAX = 'layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }'
ARGMAX = 'layer { name: "label" type: "ArgMax" bottom: "%s" top: "label" argmax_param { axis: 1 } }'


def asked(what: str, folder: Path, *layers: str, weights: str = "", options: tuple[str, ...] = ()) -> Result:
    """`caffe info` or `convert` of a net of these layers, with weights of these, or of other ones."""
    text = "\n".join([INPUT, *layers])
    (folder / "net.prototxt").write_text(text)
    write_weights(Graph(parse_prototxt("\n".join([INPUT, weights]) if weights else text)), folder / "net.caffemodel")
    words = [what, str(folder / "net.prototxt"), str(folder / "net.caffemodel"), *options]
    return CliRunner().invoke(command, words, catch_exceptions=False)


def converted(folder: Path, *layers: str, weights: str = "", options: tuple[str, ...] = ()) -> Result:
    return asked("convert", folder, *layers, weights=weights, options=("--out", str(folder / "bundle"), *options))


@pytest.mark.parametrize("ends", [(ARGMAX % "score",), (SOFTMAX, ARGMAX % "prob"), (SOFTMAX, ARGMAX % "score")])
def test_the_scores_lie_under_softmax_and_argmax(ends: tuple[str, ...], tmp_path: Path) -> None:
    converted(tmp_path, SCORES, *ends)
    bundle = fc.load(tmp_path / "bundle")
    assert bundle.label_space.size == 3
    assert bundle.net.architecture["output"] == "score"


def test_one_score_is_no_segmenter(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="for each of 2 classes or more"):
        converted(tmp_path, SCORES.replace("num_output: 3", "num_output: 1"))
    with pytest.raises(NetError, match="for each of 2 classes or more"):
        converted(tmp_path, SCORES, ARGMAX % "score", options=("--output", "label"))


def test_a_net_without_outputs_has_no_scores(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="has none"):
        converted(tmp_path, SCORES, 'layer { name: "quiet" type: "Silence" bottom: "score" }')


def test_an_unknown_blob_is_named_before_anything_is_written(tmp_path: Path) -> None:
    onnx = tmp_path / "net.onnx"
    with pytest.raises(NetError, match="has no 'nope'"):
        converted(tmp_path, SCORES, options=("--output", "nope", "--onnx", str(onnx)))
    assert not onnx.exists()


def test_of_several_outputs_it_says_which_one_is_taken(tmp_path: Path) -> None:
    done = converted(tmp_path, SCORES, SIDE)
    assert "scores: 'score', of the last output by name; others: aside" in done.stderr
    assert converted(tmp_path, SCORES, SIDE, options=("--output", "aside")).stderr == ""


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


OTHER = SCORES.replace('"score"', '"other"')


@pytest.mark.parametrize("what", ["info", "convert"])
def test_weights_of_no_layer_of_the_net_are_refused(what: str, tmp_path: Path) -> None:
    options = ("--out", str(tmp_path / "bundle")) if what == "convert" else ()
    with pytest.raises(WeightsError, match=r"has other; .* has score: none is in both"):
        asked(what, tmp_path, SCORES, weights=OTHER, options=options)
    assert not (tmp_path / "bundle").exists()


def test_weights_of_some_layers_say_which_got_none(tmp_path: Path) -> None:
    done = asked("info", tmp_path, SCORES, SIDE, weights=SCORES)
    assert done.output.splitlines()[-1] == "The weights of net.caffemodel fit; none for aside."
    done = converted(tmp_path, SCORES, SIDE, weights=SCORES, options=("--output", "score"))
    assert done.stderr == "net.caffemodel has no weights for aside: filled as the net says\n"
    assert asked("info", tmp_path, SCORES, SIDE).output.splitlines()[-1] == "The weights of net.caffemodel fit."


def test_weights_of_a_classifier_are_of_its_layers(tmp_path: Path) -> None:
    score = 'layer { name: "%s" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }'
    model = f"{tmp_path}/net.prototxt:{tmp_path}/net.caffemodel"
    with pytest.raises(WeightsError, match="none is in both"):
        asked("info", tmp_path, score % "fc", weights=score % "other")
    with pytest.raises(WeightsError, match="none is in both"):
        fc.read_classifier(model)
    bias = 'layer { name: "bias" type: "Bias" bottom: "fc" top: "fc" }'
    asked("info", tmp_path, score % "fc", bias, weights=score % "fc")
    assert "which has none for bias" in fc.read_classifier(model).weights


def test_parameters_that_layers_share_count_once_and_are_filled_once(golden: Path) -> None:
    paths = [str(golden / f"nets/siamese_shared.{kind}") for kind in ("prototxt", "caffemodel")]
    lines = CliRunner().invoke(command, ["info", *paths], catch_exceptions=False).output.splitlines()
    assert lines[-2].startswith("774 parameters")
    assert lines[-1] == "The weights of siamese_shared.caffemodel fit."


def test_a_size_that_an_inner_product_does_not_take_is_refused(tmp_path: Path) -> None:
    score = 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }'
    with pytest.raises(CaffeError, match=r"found: layer 'fc' .*1, 3, 16, 16"):
        asked("info", tmp_path, score, options=("--size", "16"))
    assert asked("info", tmp_path, score, options=("--size", "8")).exit_code == 0
    assert "1x3x16x16" in asked("info", tmp_path, SCORES, options=("--size", "16")).output


def test_info_shows_shapes_parameters_and_strides(golden: Path) -> None:
    path = golden.parent / "data/caffe-models/fcn-prototxt/voc-fcn8s/deploy.prototxt"
    done = CliRunner().invoke(command, ["info", str(path), "--size", "500x375"], catch_exceptions=False)
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert "1x21x500x375" in lines["score"]
    assert "102,764,544" in lines["fc6"]
    assert lines["score_fr"].split()[-3:] == ["32", "12.5", "404"]
    assert lines["score"].split()[-3:-1] == ["1", "0"]
    assert "134,489,759 parameters" in done.output
