"""`fullconv classify`, `convert` and `dense` as a person types them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.small_nets import PREPARATION, SPACE
from torch import nn

from fullconv.base.errors import SurgeryError, UsageError
from fullconv.cli import main
from fullconv.data.scenes import write_scenes
from fullconv.nets.bundle import save_bundle
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.converted import load_converted
from fullconv.nets.heads import fcn32s
from fullconv.nets.surgery import Converted, convolutionalize
from fullconv.predict.classify import class_named, many_positions, one_crop

SMALL = ("--weights", "none")
TINY = "timm:test_resnet"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_scenes(tmp_path_factory.mktemp("scenes"), train=2, val=1, size=(200, 260))
    return next(iter(sorted(data.rglob("*.jpg"))))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = build_classifier(TINY, classes=3, weights="none")
    net = fcn32s(
        convolutionalize(backbone.network, backbone.window),
        label_space=SPACE,
        preparation=PREPARATION,
        backbone={"name": TINY, "classes": 3},
    )
    return save_bundle(net, tmp_path_factory.mktemp("bundle"))


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height."""
    with Image.open(picture) as image:
        return image.size


def three_lines(text: str) -> list[str]:
    return [line.split(":")[0] for line in text.strip().splitlines()]


# ---------------------------------------------------------------------- classify


@pytest.mark.parametrize("dense", [(), ("--dense",)])
def test_a_cat_is_among_the_first_five(
    dense: tuple[str, ...], shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "classify", shared / "data" / "article" / "cat.jpg", "--json", *dense)
    assert code == 0
    classes = json.loads(out)["photos"][0]["classes"]
    assert len(classes) == 5
    assert any("cat" in one["name"].replace(",", "").split() for one in classes)
    chances = [one["probability"] for one in classes]
    assert chances == sorted(chances, reverse=True)
    assert 0 < sum(chances) <= 1


def test_classes_without_names_are_numbered_and_names_of_a_file_are_used(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "classify", photo, "--model", TINY, *SMALL)
    assert "class " in out
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"thing {i}" for i in range(1000)))
    _, out, _ = run(capsys, "classify", photo, "--model", TINY, *SMALL, "--class-names", names)
    assert "thing " in out
    assert "class " not in out


def test_a_photo_that_is_broken_is_skipped_the_others_are_named(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    code, out, err = run(capsys, "classify", tmp_path / "broken.jpg", photo, "--model", TINY, *SMALL, "--json")
    assert code == 1
    assert [one["photo"] for one in json.loads(out)["photos"]] == [str(photo)]
    assert "broken.jpg" in err


@pytest.mark.parametrize("command", ["classify", "dense"])
def test_where_no_photo_can_be_read_it_is_three_lines(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    code, out, err = run(capsys, command, tmp_path / "text.jpg", "--model", TINY, *SMALL, "--json")
    assert (code, out) == (1, "")
    assert three_lines(err) == ["error", "found", "try"], err
    code, _, err = run(capsys, command, tmp_path / "text.jpg", tmp_path / "missing.jpg", "--model", TINY, *SMALL)
    assert code == 1
    assert [line for line in three_lines(err) if line in ("skipped", "error", "found", "try")] == [
        *("skipped", "error", "found", "try"),
    ]
    assert "missing.jpg is not there" in err


# ---------------------------------------------------------------------- convert


def test_what_is_converted_loads_without_the_classifiers_code(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(
        capsys, "convert", TINY, "--window", 160, *SMALL, "--photos", photo, "--out", tmp_path / "made", "--json"
    )
    assert code == 0, err
    record = json.loads(out)
    assert record == json.loads((tmp_path / "made" / "proof.json").read_text())
    assert record["schema"] == "fullconv.proof/1"
    assert record["window"] == [160, 160]
    assert record["at_window"]["relative_difference"] < 1e-4
    assert record["dense"]["windows"] >= 4
    assert size_of(tmp_path / "made" / "proof.png")[0] > 600
    scores = load_converted(tmp_path / "made").scores(np.zeros((192, 224, 3), np.uint8))
    assert scores.shape == (1000, 2, 3)


def test_the_proof_is_told_in_words(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "convert", TINY, "--window", 160, *SMALL, "--out", tmp_path)
    for part in ("at the window: equal", "a score every 32 pixels", "why: ", "reshaped", "program.pt2"):
        assert part in out


def test_a_network_that_cannot_be_converted_is_three_lines_that_name_the_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "convert", "timm:test_vit", *SMALL, "--out", tmp_path / "made")
    assert code == 1
    assert out == ""
    assert three_lines(err) == ["error", "found", "try"]
    assert "attention" in err
    assert "blocks" in err
    assert not (tmp_path / "made").exists()


def test_a_network_that_does_not_equal_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolutionalize refuses such a network itself: here the proof alone finds it, on a network that was changed."""

    def wrong(model: nn.Module, window: tuple[int, int], **words: str) -> Converted:
        made = convolutionalize(model, window, **words)
        with torch.no_grad():
            next(made.network.parameters()).mul_(2)
        return made

    monkeypatch.setattr("fullconv.nets.surgery.convolutionalize", wrong)
    code, out, err = run(capsys, "convert", TINY, *SMALL, "--out", tmp_path / "made")
    assert code == 1
    assert "at the window: NOT EQUAL" in out
    assert three_lines(err) == ["error", "found", "try"], err
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["proof.json", "proof.png"]


def test_a_network_that_convolutionalize_refuses_is_three_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise SurgeryError("the converted network equals its classifier", "it does not", "report it")

    monkeypatch.setattr("fullconv.nets.surgery.convolutionalize", refused)
    code, out, err = run(capsys, "convert", TINY, *SMALL, "--out", tmp_path / "made")
    assert (code, out) == (1, "")
    assert three_lines(err) == ["error", "found", "try"], err
    assert not (tmp_path / "made").exists()


NOISY = """
from torch import nn

print("imported")


class Net(nn.Sequential):
    def __init__(self, deviation=1.0):
        print("made")
        body = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4)
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        self[1].running_var.fill_(deviation)

    def forward(self, x):
        print("run")
        return super().forward(x)
"""


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "noisy_net.py").write_text(NOISY)
    monkeypatch.chdir(tmp_path)
    yield "noisy_net:Net"
    sys.modules.pop("noisy_net", None)


@pytest.mark.parametrize(
    "words",
    [
        ("classify", "PHOTO", "--model", "NET"),
        ("dense", "PHOTO", "--model", "NET", "--window", 32, "--way", "windows"),
        ("inspect", "NET", "--window", 32),
        ("convert", "NET", "--window", 32, "--out", "made"),
    ],
    ids=lambda words: words[0],
)
def test_what_a_persons_code_prints_stays_out_of_the_json(
    words: tuple[object, ...], noisy: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *({"PHOTO": photo, "NET": noisy}.get(str(w), w) for w in words), "--json")
    assert code == 0, err
    assert json.loads(out)["schema"].startswith("fullconv.")
    assert "imported\nmade\n" in err


def test_scores_that_are_no_numbers_are_three_lines_and_nothing_is_written(
    noisy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "convert", f"{noisy}(-5)", "--window", 32, "--out", tmp_path / "made", "--json")
    assert (code, out) == (1, "")
    assert three_lines(err)[-3:] == ["error", "found", "try"], err
    assert not (tmp_path / "made").exists()


def test_a_folder_below_a_file_is_three_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "afile").write_text("")
    code, _, err = run(capsys, "convert", TINY, *SMALL, "--out", tmp_path / "afile" / "sub")
    assert code == 2
    assert three_lines(err) == ["error", "found", "try"], err


def test_a_strip_that_would_grow_too_long_is_three_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strip = tmp_path / "strip.png"
    Image.new("RGB", (5000, 3)).save(strip)
    words = ("--window", 64, *SMALL, "--out", tmp_path / "made")
    for command in (("convert", TINY, "--photos", strip), ("dense", strip, "--model", TINY)):
        code, out, err = run(capsys, *command, *words)
        assert (code, out) == (2, "")
        assert three_lines(err) == ["error", "found", "try"], err
        assert "3x5000 would become" in err


# ---------------------------------------------------------------------- dense


def test_each_way_is_a_row_of_the_picture_and_a_record(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("dense", photo, "--model", TINY, *SMALL, "--classes", "3,5", "--out", tmp_path)
    code, out, err = run(capsys, *words, "--way", "once,shift,rarefied", "--json")
    assert code == 0, err
    ways = json.loads(out)["photos"][0]["ways"]
    assert [one["way"] for one in ways] == ["once", "shift", "rarefied"]
    assert all(one["seconds"] > 0 for one in ways)
    three = size_of(tmp_path / f"{photo.stem}_dense.png")[1]
    run(capsys, *words, "--json")
    assert size_of(tmp_path / f"{photo.stem}_dense.png")[1] < three / 2


def test_a_bundle_has_its_own_ways(
    photo: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "dense", photo, "--model", bundle, "--way", "all", "--out", tmp_path, "--json")
    assert code == 0, err
    record = json.loads(out)["photos"][0]
    assert [one["way"] for one in record["ways"]] == ["once", "bilinear", "scales"]
    assert {one["name"] for way in record["ways"] for one in way["classes"]} <= set(SPACE.names)


def test_a_photo_that_is_broken_is_skipped_the_others_are_drawn(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    words = (photo, tmp_path / "broken.jpg", "--model", TINY, *SMALL, "--out", tmp_path / "out", "--json")
    code, out, err = run(capsys, "dense", *words)
    assert code == 1
    assert [one["photo"] for one in json.loads(out)["photos"]] == [str(photo)]
    assert err.startswith("skipped: ")
    assert "broken.jpg" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{photo.stem}_dense.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--way", "magic"), "once, windows"),
        (("--classes", "unicorn"), "class"),
        (("--way", "shift", "--stride", "5"), "divides"),
        (("--way", "patches", "--patch", "14"), "odd"),
        (("--scales", "big"), "numbers"),
        (("--way", "scales", "--scales", "-1"), "positive"),
        (("--scales", "1,nan"), "positive"),
        (("--scales", "1e-9"), "positive"),
        (("--scales", "inf"), "positive"),
    ],
)
def test_what_makes_no_sense_is_three_lines(
    words: tuple[str, ...], said: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "dense", photo, "--model", TINY, *SMALL, "--out", tmp_path, *words)
    assert code in (1, 2)
    assert out == ""
    assert three_lines(err) == ["error", "found", "try"], err
    assert said in err


def test_a_class_is_found_by_one_of_its_names_and_near_names_are_offered() -> None:
    names = ("tench, Tinca tinca", "tabby, tabby cat", "tiger cat")
    assert class_named("Tabby Cat", names, 3) == class_named("1", names, 3) == 1
    assert class_named("tench, Tinca tinca", names, 3) == 0
    with pytest.raises(UsageError, match="tabby cat"):
        class_named("taby cat", names, 3)
    with pytest.raises(UsageError, match="number from 0 to 2"):
        class_named("3", None, 3)


def test_many_positions_of_a_photo_no_larger_than_the_window_are_the_window_and_its_mirror_image() -> None:
    classifier = build_classifier(TINY, weights="none")
    made = convolutionalize(classifier.network, classifier.window)
    picture = np.random.default_rng(0).integers(0, 256, (*classifier.window, 3), np.uint8)
    both = (one_crop(classifier, picture) + one_crop(classifier, np.ascontiguousarray(picture[:, ::-1]))) / 2
    np.testing.assert_allclose(many_positions(classifier, made, picture, enlarged=1.0), both, atol=1e-6)
    assert torch.is_grad_enabled()


def test_without_out_the_picture_lies_where_the_command_was_typed(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "dense", photo, "--model", TINY, *SMALL)
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == [f"{photo.stem}_dense.png"]
