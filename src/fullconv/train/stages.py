"""One stage of the road: train, journal, plan again on the way, and know what is finished. Road: train.

In: something that yields steps. Out: the same steps, and in the stage's folder stage.json, journal.jsonl,
checkpoint.safetensors.
A stage whose checkpoint is at its last step is finished: running it again takes the weights up and does no step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fullconv.base.files import read_json, write_json
from fullconv.base.journal import Journal, cut_journal, read_journal
from fullconv.train.checkpoint import checkpoint_step
from fullconv.train.loop import Step
from fullconv.train.plan import REPLANNED_AFTER, plan_again
from fullconv.train.recipe import Recipe

SCHEMA = "fullconv.stage/2"


class Steps(Protocol):
    """`training_steps` or `classifier_steps` with everything but these given."""

    def __call__(self, *, recipe: Recipe, checkpoint: Path, until: int | None) -> Iterator[Step]: ...


@dataclass(frozen=True)
class Stage:
    """What a stage is.

    Attributes:
        name: "classifier", "32s", "16s", "8s", "4s" or "sharp".
        folder: RUN/name.
        key: content hash of all that decides the stage; what lies in the folder under another key is thrown away.
        recipe: with the steps as first planned.
        seconds_left: how long this stage may still take, asked where it is planned again; None keeps the steps as
            they are.
    """

    name: str
    folder: Path
    key: str
    recipe: Recipe
    seconds_left: Callable[[], float] | None


def stage_steps(stage: Stage, steps: Steps) -> Iterator[Step]:
    """Train the stage, from where it stands; yield its steps (none if it is finished)."""
    checkpoint = stage.folder / "checkpoint.safetensors"
    record = _opened(stage)
    journal = _journal(stage, checkpoint)
    try:
        recipe = stage.recipe
        for i, share in enumerate(REPLANNED_AFTER if stage.seconds_left else ()):
            done = max(1, round(share * recipe.steps))
            for step in steps(recipe=recipe, checkpoint=checkpoint, until=done):
                journal.write(step.to_json())
                yield step
            if len(record["replanned"]) == i:
                _plan_the_rest(stage, record)
            recipe = replace(recipe, steps=record["replanned"][i]["steps"])
        for step in steps(recipe=recipe, checkpoint=checkpoint, until=None):
            journal.write(step.to_json())
            yield step
    finally:
        journal.close()


def _plan_the_rest(stage: Stage, record: dict[str, Any]) -> None:
    """Plan the steps again, by what those since the last plan took; written down before the first step that uses
    it.
    """
    assert stage.seconds_left
    seconds = [float(line["seconds"]) for line in read_journal(stage.folder / "journal.jsonl")]
    done, left = len(seconds), stage.seconds_left()
    since = record["replanned"][-1]["after"] if record["replanned"] else 0
    lately = seconds[since:] or seconds
    record["replanned"].append(
        {
            "after": done,
            "steps": plan_again(done, lately, left),
            "because": f"{len(lately)} steps took {sum(lately):.0f} s; {left:.0f} s are left for this stage",
        }
    )
    write_json(stage.folder / "stage.json", record)


def stage_record(folder: Path) -> dict[str, Any]:
    """stage.json: key, steps as first planned, and each time that they were planned again: after which step, how many
    in all, why.
    """
    record: dict[str, Any] = read_json(folder / "stage.json")
    return record


def seconds_spent(folder: Path) -> float:
    """Seconds of training that the stage's journal tells of."""
    return sum(float(record.get("seconds", 0)) for record in read_journal(folder / "journal.jsonl"))


def _opened(stage: Stage) -> dict[str, Any]:
    path = stage.folder / "stage.json"
    if path.exists():
        record: dict[str, Any] = read_json(path)
        if record.get("key") == stage.key:
            return record
    shutil.rmtree(stage.folder, ignore_errors=True)
    record = {
        "schema": SCHEMA,
        "name": stage.name,
        "key": stage.key,
        "recipe": stage.recipe.to_json(),
        "steps": stage.recipe.steps,
        "replanned": [],
    }
    write_json(path, record)
    return record


def _journal(stage: Stage, checkpoint: Path) -> Journal:
    path = stage.folder / "journal.jsonl"
    if path.exists():
        cut_journal(path, after_step=checkpoint_step(checkpoint))
    return Journal(path)
