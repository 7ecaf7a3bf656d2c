"""A stage plans again on the way, writes that down first, and follows it when it goes on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.train.conftest import tiny_net

from fullconv.base.journal import read_journal
from fullconv.data.samples import SampleSet
from fullconv.train.loop import training_steps
from fullconv.train.recipe import recipe
from fullconv.train.stages import Stage, stage_record, stage_steps

HOW = replace(recipe("modern"), steps=20, batch=2, crop=(32, 32), precision="fp32", workers=0)


def stage(folder: Path, *, key: str = "k", seconds: float | None = 1e9) -> Stage:
    return Stage("32s", folder, key, HOW, None if seconds is None else lambda: seconds)


def steps_of(samples: SampleSet, net: torch.nn.Module) -> partial[object]:
    return partial(training_steps, net, samples.train)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullconv.train.stages.plan_again", lambda done, seconds, left: 7)


@pytest.mark.usefixtures("short")
def test_the_later_plans_are_kept_and_the_journal_is_whole(scenes: SampleSet, tmp_path: Path) -> None:
    net = tiny_net(scenes.label_space)
    done = list(stage_steps(stage(tmp_path), steps_of(scenes, net)))  # type: ignore[arg-type]
    assert [step.step for step in done] == list(range(1, 8))
    again = stage_record(tmp_path)["replanned"]
    assert [(one["after"], one["steps"]) for one in again] == [(2, 7), (4, 7)]
    assert all("are left" in one["because"] for one in again)
    assert [line["step"] for line in read_journal(tmp_path / "journal.jsonl")] == list(range(1, 8))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_stopped_anywhere_it_ends_alike(
    scenes: SampleSet, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.train.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole, stopped, resumed = (tiny_net(scenes.label_space) for _ in range(3))
    list(stage_steps(stage(tmp_path / "whole"), steps_of(scenes, whole)))  # type: ignore[arg-type]
    steps = stage_steps(stage(tmp_path / "cut"), steps_of(scenes, stopped))  # type: ignore[arg-type]
    for _ in range(stop):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    list(stage_steps(stage(tmp_path / "cut"), steps_of(scenes, resumed)))  # type: ignore[arg-type]
    assert all(
        torch.equal(left, right)
        for left, right in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert [line["step"] for line in read_journal(tmp_path / "cut" / "journal.jsonl")] == list(range(1, 8))


def test_another_key_starts_anew(scenes: SampleSet, tmp_path: Path) -> None:
    list(stage_steps(stage(tmp_path, seconds=None), steps_of(scenes, tiny_net(scenes.label_space))))  # type: ignore[arg-type]
    again = stage_steps(stage(tmp_path, key="other", seconds=None), steps_of(scenes, tiny_net(scenes.label_space)))  # type: ignore[arg-type]
    assert next(iter(again)).step == 1


def test_a_finished_stage_does_no_step(scenes: SampleSet, tmp_path: Path) -> None:
    list(stage_steps(stage(tmp_path, seconds=None), steps_of(scenes, tiny_net(scenes.label_space))))  # type: ignore[arg-type]
    assert list(stage_steps(stage(tmp_path, seconds=None), steps_of(scenes, tiny_net(scenes.label_space)))) == []  # type: ignore[arg-type]
