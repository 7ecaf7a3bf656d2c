"""`fullconv caffe info` and `convert`: what they print, write and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fullconv as fc
from fullconv.base.errors import NetError
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


def test_info_shows_shapes_parameters_and_strides(golden: Path) -> None:
    path = golden.parent / "data/caffe-models/fcn-prototxt/voc-fcn8s/deploy.prototxt"
    done = CliRunner().invoke(command, ["info", str(path), "--size", "500x375"], catch_exceptions=False)
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert "1x21x500x375" in lines["score"]
    assert "102,764,544" in lines["fc6"]
    assert "stride 32" in lines["score_fr"]
    assert "134,489,759 parameters" in done.output
