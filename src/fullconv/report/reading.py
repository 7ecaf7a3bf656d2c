"""Read a run folder for the report. Road: report. In: a folder. Out: one record; what is not there is left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullconv.base.files import read_json
from fullconv.base.journal import read_journal

Document = dict[str, Any]
STAGE_FOLDERS = ("classifier", "32s", "16s", "8s", "4s", "sharp")
FALLBACK_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#edc948", "#76b7b2", "#9c755f", "#ff9da7")


@dataclass(frozen=True)
class Stage:
    """One training run on the road.

    Args:
        name: folder and stage in one.
        record: its entry in run.json: seconds, mean_iou, interval, difference, kept.
        scores: its scores.json.
        steps: the step lines of its journal.
    """

    name: str
    record: Document
    scores: Document
    steps: list[Document]

    @property
    def kept(self) -> bool:
        """Whether the road went on from this stage."""
        return bool(self.record.get("kept", True))

    @property
    def seconds(self) -> float | None:
        """Wall time, from run.json, else from the journal."""
        if self.record.get("seconds") is not None:
            return float(self.record["seconds"])
        return sum(step.get("seconds") or 0.0 for step in self.steps) if self.steps else None

    @property
    def mean_iou(self) -> float | None:
        """On the photos held out."""
        value = self.record.get("mean_iou", self.scores.get("mean_iou"))
        return None if value is None else float(value)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the mean IoU."""
        return pair(self.record.get("interval") or self.scores.get("mean_iou_interval"))

    @property
    def difference(self) -> Document:
        """To the stage before: mean_iou and interval."""
        return self.record.get("difference") or {}


@dataclass(frozen=True)
class RunRecord:
    """All that the report tells of, as it lay in the folder."""

    name: str
    run: Document
    samples: Document
    plan: Document
    classifier: Document
    proof: Document
    study: Document
    stages: tuple[Stage, ...]

    @property
    def segmenters(self) -> tuple[Stage, ...]:
        """The stages that were scored as segmenters."""
        return tuple(stage for stage in self.stages if stage.mean_iou is not None and stage.name != "classifier")

    @property
    def final(self) -> Stage | None:
        """The stage whose network is the bundle: the last one kept."""
        kept = [stage for stage in self.segmenters if stage.kept and stage.scores]
        return kept[-1] if kept else None

    @property
    def scores(self) -> Document:
        """The final scores."""
        return self.final.scores if self.final else {}

    @property
    def class_names(self) -> list[str]:
        """From the label space, else from the scores."""
        return [str(row["name"]) for row in self._classes]

    @property
    def colours(self) -> list[str]:
        """One CSS colour a class."""
        return [
            "#{:02x}{:02x}{:02x}".format(*row["colour"]) if row.get("colour") else FALLBACK_COLOURS[index % 9]
            for index, row in enumerate(self._classes)
        ]

    @property
    def _classes(self) -> list[Document]:
        space = self.samples.get("label_space") or {}
        return space.get("classes") or self.scores.get("classes") or []


def read_run(folder: Path) -> RunRecord:
    """Read what the stations wrote; a file that is missing or was cut off is an empty record."""
    run = _document(folder / "run.json")
    return RunRecord(
        name=folder.resolve().name,
        run=run,
        samples=_document(folder / "samples.json"),
        plan=_document(folder / "plan.json"),
        classifier=_document(folder / "classifier" / "scores.json"),
        proof=_document(folder / "classifier" / "proof.json"),
        study=_document(folder / "study" / "study.json"),
        stages=_stages(folder, run),
    )


def pair(value: Any) -> tuple[float, float] | None:
    """Two numbers, or nothing."""
    if not value or len(value) != 2 or value[0] is None or value[1] is None:
        return None
    return float(value[0]), float(value[1])


def _stages(folder: Path, run: Document) -> tuple[Stage, ...]:
    records = {str(record["name"]): record for record in run.get("stages") or []}
    names = [*records, *(name for name in STAGE_FOLDERS if name not in records and _was_trained(folder / name))]
    order = {name: index for index, name in enumerate(STAGE_FOLDERS)}
    return tuple(
        Stage(
            name,
            records.get(name, {}),
            _document(folder / name / "scores.json"),
            [line for line in read_journal(folder / name / "journal.jsonl") if line.get("event") == "step"],
        )
        for name in sorted(names, key=lambda name: order.get(name, len(order)))
    )


def _was_trained(folder: Path) -> bool:
    """A folder may hold a proof alone, where a classifier was converted as it came."""
    return (folder / "journal.jsonl").is_file() or (folder / "scores.json").is_file()


def _document(path: Path) -> Document:
    if not path.is_file():
        return {}
    try:
        document = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}
