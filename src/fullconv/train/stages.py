"""One stage of the road: train, journal, plan again on the way, and know what is finished. Road: train.

In: something that yields steps. Out: the same steps, and in the stage's folder stage.json, journal.jsonl,
checkpoint.safetensors.
A stage whose checkpoint is at its last step is finished: running it again takes the weights up and does no step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fullconv.base.files import read_json, write_json
from fullconv.base.journal import append_journal, cut_journal, read_journal
from fullconv.train.checkpoint import checkpoint_step
from fullconv.train.loop import Step
from fullconv.train.plan import FEWEST_STEPS, REPLANNED_AFTER, plan_again
from fullconv.train.recipe import Recipe, head_first_steps

SCHEMA = "fullconv.stage/2"
Again = dict[str, Any]


class Steps(Protocol):
    """`training_steps` or `classifier_steps` with everything but these given."""

    def __call__(self, *, recipe: Recipe, checkpoint: Path, until: int | None) -> Iterator[Step]: ...


@dataclass(frozen=True)
class Replanning:
    """How a stage is planned again, and where that is written down: the same plan.json gives the same run.

    Attributes:
        known: what was planned again before, as {"after": step, "steps": in all, "because": why}.
        seconds_left: how long the stage may still take, given the seconds that its steps took.
        keep: writes down what is planned again, before the first step that uses it.
    """

    known: Sequence[Again]
    seconds_left: Callable[[float], float]
    keep: Callable[[Sequence[Again]], None]


@dataclass(frozen=True)
class Stage:
    """What a stage is.

    Attributes:
        name: "classifier", "32s", "16s", "8s", "4s" or "sharp".
        folder: RUN/name.
        key: content hash of all that decides the stage; what lies in the folder under another key is thrown away.
        recipe: with the steps as first planned.
        replanning: plans the steps again on the way; None keeps them as they are.
    """

    name: str
    folder: Path
    key: str
    recipe: Recipe
    replanning: Replanning | None


def stage_steps(stage: Stage, steps: Steps) -> Iterator[Step]:
    """Train the stage, from where it stands; yield its steps (none if it is finished)."""
    checkpoint, journal = stage.folder / "checkpoint.safetensors", stage.folder / "journal.jsonl"
    _open(stage)
    if journal.exists():
        cut_journal(journal, after_step=checkpoint_step(checkpoint))

    def journalled(recipe: Recipe, until: int | None) -> Iterator[Step]:
        for step in steps(recipe=recipe, checkpoint=checkpoint, until=until):
            append_journal(journal, step.to_json())
            yield step

    recipe, replanning = stage.recipe, stage.replanning
    again, done = (list(replanning.known) if replanning else []), 0
    counted = 0
    for share in REPLANNED_AFTER if replanning else ():
        after = max(FEWEST_STEPS, round((recipe.head_first + share * (1 - recipe.head_first)) * recipe.steps))
        if not done < after < recipe.steps:
            continue
        yield from journalled(recipe, after)
        if replanning and len(again) == counted:
            since = max(again[-1]["after"] if again else 0, head_first_steps(recipe))
            again.append(_planned_again(stage, replanning, since, after))
            replanning.keep(again)
        recipe, done = replace(recipe, steps=again[counted]["steps"]), after
        counted += 1
    yield from journalled(recipe, None)


def _planned_again(stage: Stage, replanning: Replanning, since: int, done: int) -> Again:
    """The steps in all, by what those since the last plan took, the quick ones of the head alone left out."""
    seconds = [float(line["seconds"]) for line in read_journal(stage.folder / "journal.jsonl")]
    left = replanning.seconds_left(sum(seconds))
    lately = seconds[since:] or seconds or [left]
    because = f"{len(lately)} steps took {sum(lately):.0f} s; {left:.0f} s are left for this stage"
    return {"after": done, "steps": plan_again(done, lately, left), "because": because}


def seconds_spent(folder: Path) -> float:
    """Seconds of training that the stage's journal tells of."""
    return sum(float(record.get("seconds", 0)) for record in read_journal(folder / "journal.jsonl"))


def _open(stage: Stage) -> None:
    """What lies in the folder under another key is thrown away."""
    path = stage.folder / "stage.json"
    if path.exists() and read_json(path).get("key") == stage.key:
        return
    shutil.rmtree(stage.folder, ignore_errors=True)
    record = {"schema": SCHEMA, "name": stage.name, "key": stage.key, "recipe": stage.recipe.to_json()}
    write_json(path, record)
