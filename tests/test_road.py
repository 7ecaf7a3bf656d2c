"""The whole road on a handful of drawn scenes: what it leaves behind, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import fullconv as fc
from fullconv import road
from fullconv.base.errors import UnreadableImage, UsageError
from fullconv.base.journal import read_journal
from fullconv.cli import main
from fullconv.data.scenes import write_scenes
from fullconv.measure.evaluate import evaluate_with
from fullconv.measure.scores import Scores
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.segmentation import SegmentationNet
from fullconv.train.benchmark import measure_machine
from fullconv.train.checkpoint import checkpoint_step
from fullconv.train.plan import Measured
from fullconv.train.recipe import Recipe

STEPS = 6
EAGER = """
import sys
from fullconv.cli import main
from fullconv.train import loop

loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=8, val=4, seed=1, size=(64, 96))


@pytest.fixture(scope="module")
def finished(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[fc.Asked, list[str]]:
    asked = fc.Asked(data=scenes, out=tmp_path_factory.mktemp("run"), head="16s", steps=STEPS)
    said: list[str] = []
    fc.run(asked, say=said.append, baselines=("nearest colour",))
    return asked, said


def test_a_run_leaves_every_file_of_the_design(finished: tuple[fc.Asked, list[str]]) -> None:
    out = finished[0].out
    for name in (
        "run.json",
        "samples.json",
        "plan.json",
        "report.html",
        "bundle/card.json",
        "bundle/model.safetensors",
    ):
        assert (out / name).stat().st_size > 0, name
    for stage in ("classifier", "32s", "16s"):
        assert len(read_journal(out / stage / "journal.jsonl")) == STEPS
        assert (out / stage / "scores.json").exists()
    assert json.loads((out / "classifier" / "proof.json").read_text())["at_window"]["relative_difference"] < 1e-4


def test_the_samples_are_studied_first_and_what_harms_is_said(finished: tuple[fc.Asked, list[str]]) -> None:
    asked, said = finished
    document = json.loads((asked.out / "study" / "study.json").read_text())
    harming = [finding for finding in document["findings"] if finding["severity"] != "note"]
    assert len([sentence for sentence in said if sentence.startswith("study: ")]) == len(harming) + 1
    assert "study/study.html" in (asked.out / "report.html").read_text()


def test_samples_that_stop_a_run_are_studied_all_the_same(scenes: Path, tmp_path: Path) -> None:
    data = tmp_path / "scenes"
    shutil.copytree(scenes, data)
    for path in sorted((data / "masks").rglob("*.png"))[:7]:
        path.write_bytes(b"")
    said: list[str] = []
    with pytest.raises(UnreadableImage):
        fc.run(fc.Asked(data=data, out=tmp_path / "run", steps=1), say=said.append)
    findings = json.loads((tmp_path / "run" / "study" / "study.json").read_text())["findings"]
    (found,) = (one for one in findings if one["kind"] == "unreadable_mask")
    assert len(found["samples"]) == 7
    assert "study: unreadable_mask: 7 label maps" in " ".join(said)


def test_every_decision_has_rule_evidence_and_override(finished: tuple[fc.Asked, list[str]]) -> None:
    decisions = json.loads((finished[0].out / "plan.json").read_text())["decisions"]
    names = [decision["name"] for decision in decisions]
    assert {"crop", "batch", "precision", "channels_last", "class_aware", "16s.steps"} <= set(names)
    assert all(decision[field] != "" for decision in decisions for field in ("value", "rule", "evidence", "override"))
    assert all(any(name in sentence for sentence in finished[1]) for name in names), "nothing is chosen in silence"


def test_a_finer_stage_is_compared_with_the_one_before(finished: tuple[fc.Asked, list[str]]) -> None:
    document = json.loads((finished[0].out / "run.json").read_text())
    coarse, fine = document["stages"]
    assert fine["difference"]["mean_iou"] == pytest.approx(fine["mean_iou"] - coarse["mean_iou"])
    assert fine["kept"] == (fine["mean_iou"] >= coarse["mean_iou"])
    assert document["baselines"][0]["name"] == "nearest colour"


def test_the_bundle_scores_what_the_run_says(finished: tuple[fc.Asked, list[str]], scenes: Path) -> None:
    bundle = fc.load(finished[0].out / "bundle")
    scores = fc.evaluate(bundle.net, fc.read_samples(scenes).val)
    assert scores.mean_iou == pytest.approx(bundle.card["scores"]["mean_iou"], abs=1e-9)


def test_measuring_is_timed_as_if_every_pixel_were_guessed_right(
    finished: tuple[fc.Asked, list[str]], scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Scores] = []
    monkeypatch.setattr(
        road, "evaluate_with", lambda function, samples: judged.append(evaluate_with(function, samples))
    )
    val = fc.read_samples(scenes).val
    assert road._seconds_a_photo(fc.load(finished[0].out / "bundle").net, val) > 0
    assert judged[-1].pixel_accuracy == 1
    assert len(judged[-1].photos) == min(len(val), road.TIMED_PHOTOS)


def test_the_card_tells_the_recipe_of_the_stage_that_was_kept(
    finished: tuple[fc.Asked, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 16s that is made to lose falls back to 32s, whose recipe goes on the card: its rate in the paper's recipe."""
    monkeypatch.setattr("fullconv.road.evaluate", losing_at_the_second_call())
    monkeypatch.setattr("fullconv.road._seconds_a_photo", lambda net, val: 0.1)
    fc.run(replace(finished[0], out=tmp_path, steps=2, recipe="paper", no_classifier=True))
    rows = json.loads((tmp_path / "run.json").read_text())["stages"]
    assert [row["kept"] for row in rows] == [True, False]
    assert fc.load(tmp_path / "bundle").card["recipe"]["rate"] == 1e-10


def losing_at_the_second_call() -> Callable[[SegmentationNet, Sequence[fc.Sample]], Scores]:
    """Scores of the truth for 32s, of one class everywhere for 16s."""
    stages = []

    def measure(net: SegmentationNet, samples: Sequence[fc.Sample]) -> Scores:
        stages.append(net)
        truths = iter([sample.read()[1] for sample in samples])
        lost = len(stages) == 2
        return evaluate_with(lambda photo: np.zeros(photo.shape[:2], np.uint8) if lost else next(truths), samples)

    return measure


def test_the_same_run_again_does_no_step(finished: tuple[fc.Asked, list[str]]) -> None:
    before = (finished[0].out / "bundle" / "model.safetensors").read_bytes()
    steps = [(finished[0].out / stage / "journal.jsonl").read_bytes() for stage in ("32s", "16s")]
    fc.run(finished[0])
    assert (finished[0].out / "bundle" / "model.safetensors").read_bytes() == before
    assert [(finished[0].out / stage / "journal.jsonl").read_bytes() for stage in ("32s", "16s")] == steps
    assert all(steps)


def test_another_seed_in_the_same_folder_starts_anew(finished: tuple[fc.Asked, list[str]], tmp_path: Path) -> None:
    asked = replace(finished[0], out=tmp_path, head="32s", steps=2)
    fc.run(asked)
    first = (tmp_path / "bundle" / "model.safetensors").read_bytes()
    fc.run(replace(asked, seed=1))
    assert (tmp_path / "bundle" / "model.safetensors").read_bytes() != first


def test_another_run_in_the_same_folder_leaves_nothing_of_the_old_one(
    finished: tuple[fc.Asked, list[str]], tmp_path: Path
) -> None:
    """Neither its time counts nor its stages are reported as this run's."""
    said: list[str] = []
    fc.run(replace(finished[0], out=tmp_path, head="32s", steps=2))
    fc.run(
        replace(finished[0], out=tmp_path, head="sharp", steps=None, minutes=0.5, no_classifier=True), say=said.append
    )
    assert any("begun anew" in sentence for sentence in said)
    assert not (tmp_path / "32s").exists()
    assert not (tmp_path / "classifier" / "journal.jsonl").exists()
    again = json.loads((tmp_path / "plan.json").read_text())["replanned"]["sharp"]
    assert 1 <= len(again) <= 2, "twice, but for a machine too busy to reach half of the steps in time"
    assert all(one["steps"] > one["after"] for one in again)
    assert sum("sharp.steps" in sentence for sentence in said) == 1 + len(again), "planned, and planned again, aloud"


def test_the_border_between_train_and_val_is_part_of_the_run(scenes: Path, tmp_path: Path) -> None:
    names = [sample.name for sample in fc.read_samples(scenes).split("all")]
    keys = []
    for held_out in (4, 3):
        splits = tmp_path / f"{held_out}.csv"
        rows = [f"{name},{'val' if i >= len(names) - held_out else 'train'}" for i, name in enumerate(names)]
        splits.write_text("\n".join(["name,split", *rows]))
        out = tmp_path / "run"
        fc.run(fc.Asked(data=scenes, out=out, head="32s", steps=1, no_classifier=True, splits=splits))
        keys.append(json.loads((out / "run.json").read_text())["key"])
        assert json.loads((out / "32s" / "scores.json").read_text())["images"] == held_out
    assert keys[0] != keys[1]


def test_measuring_on_photos_that_were_trained_on_is_said(
    finished: tuple[fc.Asked, list[str]], scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, learned in (("train", 8), ("val", 0)):
        with pytest.raises(SystemExit):
            main(["evaluate", str(finished[0].out / "bundle"), str(scenes), "--split", split, "--json"])
        out, err = capsys.readouterr()
        assert json.loads(out)["trained_on"] == learned
        assert ("trained on" in err) == bool(learned)


def test_a_folder_that_cannot_be_written_to_stops_before_anything_is_read(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="folder can be made"):
        fc.run(fc.Asked(data=scenes, out=tmp_path / "file" / "run"), say=lambda _: pytest.fail("read"))


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_a_run_killed_in_the_middle_ends_with_the_same_weights(scenes: Path, tmp_path: Path) -> None:
    words = ["run", str(scenes), "--steps", "8", "--no-classifier", "--head", "32s"]
    command = [sys.executable, "-c", EAGER, *words]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, "--out", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = killed / "32s" / "checkpoint.safetensors"
    while process.poll() is None and checkpoint_step(checkpoint) < 3:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 3 <= checkpoint_step(checkpoint) < 8
    assert not (killed / "report.html").exists()
    subprocess.run([*command, "--out", str(killed)], check=True, capture_output=True)
    plan = json.loads((killed / "plan.json").read_text())
    whole.mkdir()
    (whole / "plan.json").write_text(json.dumps(plan))  # what the plan takes from the clock must be the same
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    assert (killed / "bundle" / "model.safetensors").read_bytes() == (
        whole / "bundle" / "model.safetensors"
    ).read_bytes()


def test_an_unknown_head_is_an_error_in_three_lines(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"error: .*\nfound: '2s'\ntry:   --head sharp"):
        fc.Asked(data=scenes, out=tmp_path, head="2s")


def test_fresh_layers_are_drawn_by_the_seed(scenes: Path, tmp_path: Path) -> None:
    samples = fc.read_samples(scenes)
    classifier = build_classifier("embedded:efficientnet_lite0", weights="none")
    converted = fc.convolutionalize(classifier.network, classifier.window)

    def fresh(seed: int) -> torch.Tensor:
        this = SimpleNamespace(asked=fc.Asked(data=scenes, out=tmp_path, seed=seed), samples=samples)
        net = road._build("sharp", this, classifier, converted, None)  # type: ignore[arg-type]
        return torch.cat([net.get_parameter(name).flatten() for name in net.parameter_groups()["fresh"]])

    assert torch.equal(fresh(1), fresh(1))
    assert not torch.equal(fresh(1), fresh(2))


def test_random_weights_and_class_folders(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Recipe] = []

    def watched(net: SegmentationNet, *, crop: tuple[int, int], recipe: Recipe) -> Iterator[Measured]:
        measured.append(recipe)
        return measure_machine(net, crop=crop, recipe=recipe)

    monkeypatch.setattr(road, "measure_machine", watched)
    folders = tmp_path / "folders"
    for name, value in (("dark", 40), ("light", 210)):
        (folders / name).mkdir(parents=True)
        for index in range(6):
            noise = np.random.default_rng(index).integers(-20, 20, (48, 60, 3))
            Image.fromarray((value + noise).clip(0, 255).astype(np.uint8)).save(folders / name / f"{index}.png")
    out = tmp_path / "run"
    fc.run(fc.Asked(data=scenes, out=out, classifier_data=folders, weights="none", head="32s", steps=2))
    assert [row["name"] for row in json.loads((out / "classifier" / "scores.json").read_text())["classes"]] == [
        "dark",
        "light",
    ]
    assert [how.frozen for how in measured] == [0]  # measured as it is trained: every layer learns
