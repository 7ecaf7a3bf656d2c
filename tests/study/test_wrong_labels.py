"""Wrong labels from end to end: planted errors come first, and the command trains, goes on, and says what it found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.study.test_doctor import HEIGHT, WIDTH, samples, scene

import fullconv as fc
from fullconv.base.errors import UsageError
from fullconv.cli import main
from fullconv.data.scenes import write_scenes
from fullconv.road import asked_of
from fullconv.study import wrong_labels as station
from fullconv.study.case import read_case
from fullconv.study.disagreements import Trust
from fullconv.study.folds import Unseen
from fullconv.study.wrong_labels import probabilities_of, wrong_labels

SPOILED = 5


@dataclass(frozen=True)
class Knows:
    """In place of a bundle: knows the scenes by heart, and blurs their edges as networks do."""

    def predict(self, photo: np.ndarray) -> Any:
        brightness = [np.abs(scene(seed)[0].astype(int) - photo).mean() for seed in range(16)]
        truth = scene(int(np.argmin(brightness)))[1]
        scores = np.stack([4.0 * (truth == index) for index in range(3)]).astype(np.float32)
        scores = (scores + np.roll(scores, 2, 1) + np.roll(scores, 2, 2)) / 3
        return type("Prediction", (), {"scores": scores})


def test_a_planted_error_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = samples(tmp_path)
    path = root / f"masks/train/{SPOILED:02d}.png"
    labels = np.array(Image.open(path))
    Image.fromarray(np.where(labels == 2, 1, labels).astype(np.uint8)).save(path)
    monkeypatch.setattr(station, "load", lambda folder: Knows())
    case = read_case(root)
    assert case.space is not None
    everything = tuple(case.samples.values())
    parts = [Unseen(tmp_path / "a", everything[:8]), Unseen(tmp_path / "b", everything[8:])]
    found = wrong_labels(partial(probabilities_of, parts), case.space)
    first = found.suspects[0]
    assert (first.sample, first.given, first.likely) == (f"{SPOILED:02d}", 1, 2)
    assert min(found.quality, key=lambda name: found.quality[name]) == f"{SPOILED:02d}"
    assert [one.score for one in found.suspects] == sorted((one.score for one in found.suspects), reverse=True)
    assert found.pixels.sum() == len(everything) * HEIGHT * WIDTH
    assert found.guesses[first.sample].shape == (HEIGHT, WIDTH)


def test_of_a_spoiled_map_only_the_regions_of_the_fault_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    space = fc.LabelSpace(("ground", "cat", "dog"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), ((0,), (1,), (2,)))
    truth = np.zeros((60, 80), np.uint8)
    sees, drawn = truth.copy(), truth.copy()
    sees[5:20, 5:20] = 1  # an error of the network's own
    drawn[30:50, 40:60] = 2
    monkeypatch.setattr(station, "spoil", lambda *_: drawn)
    probabilities = np.where(sees == np.arange(3)[:, None, None], 0.9, 0.05).astype(np.float32)
    (looked,) = station._with_fault(
        "a", truth, truth, probabilities, Trust(space, np.full(3, 0.5), np.eye(3, dtype=np.int64))
    )
    boxes = [one.box for one in looked.regions]
    assert dict(zip(boxes, looked.faults, strict=True)) == {(5, 5, 20, 20): False, (30, 40, 50, 60): True}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("scenes")
    scenes = write_scenes(root / "scenes", train=9, val=3, seed=1, size=(64, 96))
    fc.run(fc.Asked(data=scenes, out=root / "run", head="32s", steps=2, no_classifier=True))
    return scenes, root / "run"


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["study", *map(str, words)])
    return int(str(ended.value.code))


def test_the_command_trains_a_network_a_fold_and_goes_on(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes, run = finished
    asked = [scenes, "--run", run, "--out", tmp_path / "study"]
    assert command(*asked) == 0
    assert "Labels to look at" in capsys.readouterr().out
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    assert len(document["sample_scores"]) == 12
    assert {"precision", "recall", "suspects"} <= set(document["classes"][0])
    assert all(set(one) >= {"sample", "box", "kind", "given", "likely", "score"} for one in document["suspects"])
    plans = [
        json.loads((run / "plan.json").read_text()),
        *(json.loads(path.read_text()) for path in (tmp_path / "study/folds").glob("*/plan.json")),
    ]
    assert len(plans) == 4
    assert all(plan["measured"] == plans[0]["measured"] for plan in plans), "the machine is measured once"
    assert 'id="suspects"' in (tmp_path / "study" / "study.html").read_text()
    runs = [tmp_path / "study" / "folds" / f"fold{k}" / "run.json" for k in (1, 2, 3)]
    before = [path.stat().st_mtime_ns for path in runs]
    assert command(*asked, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again == document
    assert [path.stat().st_mtime_ns for path in runs] == before, "nothing is trained twice"


def test_the_run_says_what_the_classes_are(finished: tuple[Path, Path], tmp_path: Path) -> None:
    scenes, run = finished
    assert command(scenes, "--run", run, "--out", tmp_path, "--classes", "ball") == 2
    with pytest.raises(UsageError, match="a finished run"):
        asked_of(tmp_path)
