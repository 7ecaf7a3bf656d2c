"""Measuring a function on samples, and the command."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from tests.measure.conftest import random_pair

from fullconv.base.errors import DataError, SizeMismatch, UsageError
from fullconv.cli.evaluate import command
from fullconv.data.samples import Sample
from fullconv.labels.maps import write_index_png
from fullconv.labels.space import LabelSpace
from fullconv.measure.evaluate import evaluate_with


def guess_in(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The samples' photos hold a guess in their red channel."""
    return photo[..., 0]


@pytest.fixture
def samples(tmp_path: Path, space: LabelSpace) -> tuple[Sample, ...]:
    made = []
    for index in range(4):
        truth, guess = random_pair(index, size=(24 + index, 30))
        photo, label_map = tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"
        Image.fromarray(np.repeat(guess[..., None], 3, axis=2)).save(photo)
        write_index_png(label_map, truth, space)
        readable = replace(space, void_values=(255,))
        made.append(Sample(str(index), photo, label_map, (24 + index, 30), readable))
    return tuple(made)


def test_a_function_is_scored_on_every_photo_at_its_own_size(samples: tuple[Sample, ...]) -> None:
    scores = evaluate_with(guess_in, samples)
    pairs = [random_pair(index, size=(24 + index, 30)) for index in range(4)]
    right = sum(int((truth == guess).sum()) for truth, guess in pairs)
    assert scores.photos == ("0", "1", "2", "3")
    assert scores.pixel_accuracy == right / sum(int((truth != 255).sum()) for truth, _ in pairs)
    assert scores.void_pixels == sum(int((truth == 255).sum()) for truth, _ in pairs)
    assert scores.edges is not None


def test_a_split_is_scored_as_the_sum_of_its_photos(samples: tuple[Sample, ...]) -> None:
    whole = evaluate_with(guess_in, samples)
    parts = [evaluate_with(guess_in, [sample]) for sample in samples]
    assert np.array_equal(whole.confusion, sum(part.confusion for part in parts))


def test_no_sample_is_an_error_that_says_what_to_type() -> None:
    with pytest.raises(DataError, match="--split train"):
        evaluate_with(guess_in, [])


def test_a_guess_of_another_size_is_refused(samples: tuple[Sample, ...]) -> None:
    with pytest.raises(SizeMismatch):
        evaluate_with(lambda photo: photo[1:, :, 0], samples)


@dataclass
class FakeNet:
    """Guesses what is in the photo, plus a shift of classes."""

    shift: int


@dataclass
class FakeBundle:
    net: FakeNet
    label_space: LabelSpace
    card: dict[str, Any]

    def predict(self, photo: NDArray[np.uint8], *, precision: str) -> FakePrediction:
        shift = self.net.shift if precision == "fp32" else 1
        return FakePrediction((photo[..., 0] + shift * (photo[..., 0] == 2)).astype(np.uint8))


@dataclass
class FakeSet:
    samples: tuple[Sample, ...]
    contents: dict[str, str]

    def split(self, name: str) -> tuple[Sample, ...]:
        return self.samples if name == "val" else ()


@dataclass
class FakePrediction:
    labels: NDArray[np.uint8]


@pytest.fixture
def bundles(samples: tuple[Sample, ...], space: LabelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles called good, bad and other, without networks."""
    made = {
        "good": FakeBundle(FakeNet(0), space, {}),
        "bad": FakeBundle(FakeNet(1), space, {"samples": {"train": ["0" * 16, "1" * 16, "f" * 16]}}),
        "other": FakeBundle(FakeNet(0), replace(space, names=("w", "x", "y", "z")), {}),
    }

    def read(data: Path, *, like: LabelSpace, splits: Path | None, seed: int) -> FakeSet:
        assert like is space
        return FakeSet(samples, {sample.name: str(i) * 64 for i, sample in enumerate(samples)})

    monkeypatch.setattr("fullconv.nets.bundle.load", lambda folder: made[folder.name])
    monkeypatch.setattr("fullconv.data.read.read_samples", read)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


@pytest.mark.usefixtures("bundles")
def test_the_command_prints_one_json_document(samples: tuple[Sample, ...]) -> None:
    document = json.loads(call("good", "DATA", "--json").stdout)
    assert document == evaluate_with(guess_in, samples).to_json() | {"trained_on": None}


@pytest.mark.usefixtures("bundles")
def test_samples_that_the_bundle_learned_from_are_counted_and_said() -> None:
    result = call("bad", "DATA", "--json")
    assert json.loads(result.stdout)["trained_on"] == 2
    assert "2 of the 4 samples were trained on" in result.stderr


@pytest.mark.usefixtures("bundles")
def test_against_another_bundle_the_difference_is_given() -> None:
    document = json.loads(call("good", "DATA", "--against", "bad", "--json").stdout)
    assert document["difference"]["mean_iou"] > 0
    assert len(document["difference"]["interval"]) == 2
    assert "mean IoU of good less that of bad: +" in call("good", "DATA", "--against", "bad").stdout


@pytest.mark.usefixtures("bundles")
def test_the_table_names_bundle_data_and_split() -> None:
    assert call("good", "DATA").stdout.startswith("good on 4 samples of DATA (val)\n\nclass ")


@pytest.mark.usefixtures("bundles")
def test_bundles_of_other_classes_cannot_be_compared() -> None:
    assert isinstance(call("good", "DATA", "--against", "other").exception, UsageError)


@pytest.mark.usefixtures("bundles")
def test_an_empty_split_is_an_error() -> None:
    assert isinstance(call("good", "DATA", "--split", "test").exception, DataError)


@pytest.mark.usefixtures("bundles")
def test_the_precision_is_asked_for() -> None:
    plain, narrow, other = (
        json.loads(call(*words, "DATA", "--json").stdout)["mean_iou"]
        for words in (["good"], ["good", "--precision", "bf16"], ["bad"])
    )
    assert narrow == other != plain
