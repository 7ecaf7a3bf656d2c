"""`fullconv caffe info` and `convert`: what they print, write and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fullconv.base.errors import NetError
from fullconv.cli.caffe import command


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
