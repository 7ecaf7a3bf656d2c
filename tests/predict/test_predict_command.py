"""`fullconv predict` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fullconv.cli import main
from fullconv.nets.bundle import save_bundle
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.heads import fcn32s
from fullconv.nets.surgery import convolutionalize
from small_nets import PREPARATION, SPACE


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = build_classifier("timm:test_resnet", classes=3, weights="none")
    net = fcn32s(
        convolutionalize(backbone.network, backbone.window),
        label_space=SPACE,
        preparation=PREPARATION,
        backbone={"name": "timm:test_resnet", "classes": 3},
    )
    with torch.no_grad():
        net.network.scores["stride32"].bias[1] = 1.001  # a cat everywhere, and no number of 8 bits
    return save_bundle(net, tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos in two folders, one of them broken."""
    picture = np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8)
    for name in ("one/street.jpg", "one/grey.png", "two/street.jpg", "two/wide.tif", "two/deep.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture if "grey" not in name else picture[..., 0]).save(tmp_path / name)
    (tmp_path / "two" / "broken.jpg").write_bytes(b"no photo")
    return tmp_path


def exit_code(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def test_folders_patterns_and_files_are_segmented_and_a_bad_one_is_named_and_skipped(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = exit_code("predict", bundle, photos / "one", photos / "two" / "*", "--out", out, "--json")
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert code == 1
    assert len(document["photos"]) == 5
    assert [Path(record["photo"]).name for record in document["failed"]] == ["broken.jpg"]
    assert "broken.jpg" in printed.err
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.png")) == [
        "deep.png", "grey.png", "one/street.png", "two/street.png", "wide.png",
    ]  # fmt: skip
    assert all(Path(file).is_file() for record in document["photos"] for file in record["files"])
    assert document["photos"][0]["size"] == [30, 44]
    assert document["photos"][0]["shares"] == {"cat": 1.0}


def test_all_good_photos_end_in_0_and_a_sentence(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("predict", bundle, photos / "one", "--out", tmp_path / "out") == 0
    assert "2 photos segmented" in capsys.readouterr().out


def test_scores_are_written_when_asked_for(bundle: Path, photos: Path, tmp_path: Path) -> None:
    assert exit_code("predict", bundle, photos / "one" / "grey.png", "--out", tmp_path / "out", "--scores") == 0
    assert (tmp_path / "out" / "grey_scores.npz").is_file()
    assert len(list((tmp_path / "out" / "grey_scores").iterdir())) == 3


def test_the_precision_is_asked_for(bundle: Path, photos: Path, tmp_path: Path) -> None:
    kept = {}
    for precision in ("fp32", "bf16"):
        words = ["--out", tmp_path / precision, "--scores", "--precision", precision]
        assert exit_code("predict", bundle, photos / "one" / "grey.png", *words) == 0
        kept[precision] = np.load(tmp_path / precision / "grey_scores.npz")["scores"]
    assert not np.array_equal(kept["fp32"], kept["bf16"])


def test_a_photo_on_its_side_is_segmented_upright(bundle: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (44, 30)).save(tmp_path / "p.jpg", exif=exif)
    assert exit_code("predict", bundle, tmp_path / "p.jpg", "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / "p.png") as image:
        assert image.size == (30, 44)


@pytest.mark.parametrize("word", ["empty", "nothing*.jpg"])
def test_a_folder_or_pattern_without_photos_is_a_wrong_command(
    bundle: Path, tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert exit_code("predict", bundle, tmp_path / word, "--out", tmp_path / "out") == 2
    assert word in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_said_in_three_lines(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("predict", photos, photos / "one", "--out", tmp_path / "out") == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["error:", "found:", "try:"]
    assert not (tmp_path / "out").exists()


def test_photos_beside_the_output_are_not_overwritten(
    bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (photos / "one" / "grey.png").read_bytes()
    assert exit_code("predict", bundle, photos / "one", "--out", photos / "one") == 2
    assert (photos / "one" / "grey.png").read_bytes() == before
    assert "grey.png" in capsys.readouterr().err
