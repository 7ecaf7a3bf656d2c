"""A stage plans again on the way, writes that down first, and follows it when it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.train.conftest import tiny_net

from fullconv.base.files import read_json, write_json
from fullconv.base.journal import read_journal
from fullconv.data.samples import SampleSet
from fullconv.train.loop import training_steps
from fullconv.train.recipe import recipe
from fullconv.train.stages import Replanning, Stage, stage_steps

HOW = replace(
    recipe("modern"),
    steps=60,
    batch=2,
    crop=(32, 32),
    precision="fp32",
    workers=0,
    stops_flat=False,
    head_first=0.0,
)


def stage(folder: Path, *, key: str = "k", planned_again: bool = True) -> Stage:
    kept = folder / "kept.json"

    def keep(again: object) -> None:
        write_json(kept, again)

    known = read_json(kept) if kept.exists() else []
    return Stage("32s", folder / "32s", key, HOW, Replanning(known, lambda spent: 1e9, keep) if planned_again else None)


def steps_of(samples: SampleSet, net: torch.nn.Module) -> partial[object]:
    return partial(training_steps, net, samples.train)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullconv.train.stages.plan_again", lambda done, seconds, left: 16)


@pytest.mark.usefixtures("short")
def test_the_later_plans_are_kept_and_the_journal_is_whole(scenes: SampleSet, tmp_path: Path) -> None:
    net = tiny_net(scenes.label_space)
    done = list(stage_steps(stage(tmp_path), steps_of(scenes, net)))  # type: ignore[arg-type]
    assert [step.step for step in done] == list(range(1, 17))
    again = read_json(tmp_path / "kept.json")
    assert [(one["after"], one["steps"]) for one in again] == [(6, 16), (8, 16)]
    assert all("are left" in one["because"] for one in again)
    assert [line["step"] for line in read_journal(tmp_path / "32s" / "journal.jsonl")] == list(range(1, 17))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("stop", [1, 6, 7, 8, 12])
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
    assert [line["step"] for line in read_journal(tmp_path / "cut" / "32s" / "journal.jsonl")] == list(range(1, 17))


def test_another_key_starts_anew(scenes: SampleSet, tmp_path: Path) -> None:
    list(stage_steps(stage(tmp_path, planned_again=False), steps_of(scenes, tiny_net(scenes.label_space))))  # type: ignore[arg-type]
    again = stage_steps(
        stage(tmp_path, key="other", planned_again=False), steps_of(scenes, tiny_net(scenes.label_space))
    )  # type: ignore[arg-type]
    assert next(iter(again)).step == 1


def test_a_finished_stage_does_no_step(scenes: SampleSet, tmp_path: Path) -> None:
    list(stage_steps(stage(tmp_path, planned_again=False), steps_of(scenes, tiny_net(scenes.label_space))))  # type: ignore[arg-type]
    assert list(stage_steps(stage(tmp_path, planned_again=False), steps_of(scenes, tiny_net(scenes.label_space)))) == []  # type: ignore[arg-type]


def test_the_same_later_plans_give_the_same_steps(scenes: SampleSet, tmp_path: Path) -> None:
    """What stands in plan.json is followed, not the clock."""
    known = [{"after": 6, "steps": 14, "because": ""}, {"after": 7, "steps": 10, "because": ""}]
    given = Replanning(known, lambda spent: pytest.fail("asked again"), lambda again: pytest.fail("written again"))
    one = Stage("32s", tmp_path / "32s", "k", HOW, given)
    assert [s.step for s in stage_steps(one, steps_of(scenes, tiny_net(scenes.label_space)))] == list(range(1, 11))  # type: ignore[arg-type]


@pytest.mark.parametrize(("steps", "after"), [(4, []), (20, [5])])
def test_a_short_stage_is_planned_again_only_after_steps_that_tell(
    scenes: SampleSet, tmp_path: Path, steps: int, after: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.train.stages.plan_again", lambda done, seconds, left: done + 1)
    kept: list[dict[str, object]] = []
    given = Replanning([], lambda spent: 1e9, lambda again: kept.extend(again))  # type: ignore[arg-type]
    one = Stage("32s", tmp_path / "32s", "k", replace(HOW, steps=steps), given)
    done = list(stage_steps(one, steps_of(scenes, tiny_net(scenes.label_space))))  # type: ignore[arg-type]
    assert [again["after"] for again in kept] == after
    assert len(done) == (after[-1] + 1 if after else steps)


def test_the_quick_steps_of_the_head_alone_do_not_count_for_the_pace(
    scenes: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def planned(done: int, seconds: Sequence[float], left: float) -> int:
        seen.append((done, len(seconds)))
        return 40

    monkeypatch.setattr("fullconv.train.stages.plan_again", planned)
    given = Replanning([], lambda spent: 1e9, lambda again: None)
    one = Stage("32s", tmp_path / "32s", "k", replace(HOW, steps=40, head_first=0.5), given)
    list(stage_steps(one, steps_of(scenes, tiny_net(scenes.label_space))))  # type: ignore[arg-type]
    assert seen == [(22, 2), (30, 8)]
