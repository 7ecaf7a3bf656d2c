"""`fullconv study --value --curve` from end to end: what is asked is answered, kept, and said."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from tests.study.test_wrong_labels import command

import fullconv as fc
from fullconv import study_answers
from fullconv.data.scenes import write_scenes
from fullconv.study.value import worth_of

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(autouse=True)
def few_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_answers, "worth_of", partial(worth_of, pairs=1))


def test_what_samples_are_worth_and_what_more_would_bring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=9, val=3, size=(64, 96))
    asked = [scenes, "--value", "--curve", "--out", tmp_path / "study"]
    assert command(*asked) == 0
    printed = capsys.readouterr().out
    assert "Samples of train: keep" in printed
    assert "18 samples: mean IoU" in printed
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    assert len(document["sample_value"]) == 9 * len(document["classes"])
    advice = document["advice"]
    assert advice["keep"] + len(advice["fix"]) + len(advice["drop"]) == 9
    assert len(document["learning_curve"]["parts"]) == 16
    page = (tmp_path / "study" / "study.html").read_text()
    assert 'id="value"' in page
    assert 'id="curve"' in page
    kept = list((tmp_path / "study" / "small").rglob("*.jsonl"))
    assert {path.name.split("-")[0] for path in kept} >= {"halves.jsonl", "parts.jsonl"}
    before = [path.stat().st_mtime_ns for path in kept]
    assert command(*asked, "--json") == 0
    assert json.loads(capsys.readouterr().out) == document
    assert [path.stat().st_mtime_ns for path in kept] == before, "no half and no part is trained twice"


def test_other_label_maps_are_asked_anew(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=9, val=3, size=(64, 96))
    asked = [scenes, "--curve", "--out", tmp_path / "study"]
    assert command(*asked) == 0
    masks = sorted((scenes / "masks/train").iterdir())
    masks[0].write_bytes(masks[1].read_bytes())
    assert command(*asked) == 0
    assert len(list((tmp_path / "study" / "small").iterdir())) == 2


def test_too_few_samples_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=4, val=2, size=(64, 96))
    write_scenes(tmp_path / "others", train=2, val=1, size=(64, 96), seed=5)
    for asked in (["--value"], ["--curve"], ["--next", tmp_path / "others/images"]):
        assert command(scenes, *asked, "--out", tmp_path / "study") == 2
        assert "at least 8 samples of train" in capsys.readouterr().err


def test_a_study_from_python_checks_what_it_is_asked(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=3, val=1, size=(64, 96))
    studied = fc.study_samples(fc.Questions(data=scenes, out=tmp_path / "study"))
    assert studied.document == json.loads((tmp_path / "study" / "study.json").read_text())
    assert [finding.kind for finding in studied.findings] == [one["kind"] for one in studied.document["findings"]]
    assert len(studied.case.samples) == 4
    with pytest.raises(fc.FullconvError, match="at least one photo"):
        fc.Questions(data=scenes, out=tmp_path, batch=0)
    with pytest.raises(fc.FullconvError, match="those of the run"):
        fc.Questions(data=scenes, out=tmp_path, run=tmp_path, classes=("a",))
