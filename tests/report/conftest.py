"""A made-up run folder as a run leaves it, with every part the report can show."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullconv.base.files import write_json, write_text
from fullconv.labels.space import LabelSpace
from fullconv.measure.classification import single_label_scores
from fullconv.measure.confusion import confusion
from fullconv.measure.edges import edges
from fullconv.measure.scores import PhotoCounts, Scores, collect
from fullconv.report.pictures import Example

NAMES = ("background", "brick ball", "leaf", "striped box", "ring", "star", "absent thing")
COLOURS = ((30, 30, 30), (200, 60, 60), (60, 160, 60), (70, 90, 210), (230, 170, 40), (150, 80, 190), (90, 200, 200))
SPACE = LabelSpace(NAMES, COLOURS, tuple((index,) for index in range(7)), (255,), background=0)


def label_maps(index: int, error: int) -> tuple[np.ndarray, np.ndarray]:
    """A label map (96, 128) of discs on background with a void border, and a guess that is moved by `error` pixels."""
    rng = np.random.default_rng(index)
    rows, columns = np.indices((96, 128))
    truth = np.zeros((96, 128), np.uint8)
    for _ in range(5):
        y, x, radius = rng.integers(10, 86), rng.integers(10, 118), rng.integers(8, 26)
        truth[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.integers(1, 6)
    guess = np.roll(truth, (error, error), (0, 1))
    if index % 2:
        guess[guess == 4] = 2
    truth[:3] = 255
    return truth, guess


def scores(error: int) -> Scores:
    """Scores of eight made-up photos."""
    counted = []
    for index in range(8):
        truth, guess = label_maps(index, error)
        matrix = confusion(truth, guess, SPACE)
        counts = edges(truth, guess, SPACE)
        counted.append(PhotoCounts(f"photo_{index}", matrix, int(truth.size - matrix.sum()), counts))
    return collect(counted, SPACE)


def journal(steps: int, start: float) -> str:
    """The lines of a stage's journal."""
    rng = np.random.default_rng(steps)
    lines: list[dict[str, Any]] = [
        {
            "event": "step",
            "step": step,
            "steps": steps,
            "loss": 0.25 + start * math.exp(-step / steps * 4) * float(rng.uniform(0.6, 1.4)),
            "rate": 1e-3 * (1 - step / steps),
            "seconds": 0.21,
            "images_per_second": 19.0,
            "wait_share": 0.012,
        }
        for step in range(1, steps + 1)
    ]
    return "".join(json.dumps(line) + "\n" for line in [*lines, {"event": "end", "steps": steps}])


PROOF = {
    "schema": "fullconv.proof/1",
    "window": [224, 224],
    "stride": [32, 32],
    "offset": ["223/2", "223/2"],
    "receptive_field": [299, 299],
    "at_window": {"images": 8, "largest_difference": 4.1e-06, "relative_difference": 3.2e-07},
    "dense": {
        "size": [320, 416],
        "grid": [4, 7],
        "windows": 28,
        "largest_difference": 0.81,
        "relative_difference": 0.064,
        "top1_agreement": 0.964,
        "exact": False,
        "why": "Inside a larger photo a window sees its neighbours where the classifier saw its padding.",
    },
    "account": {"copied": 147, "reshaped": 1, "folded": 0, "dropped": 0, "fresh": 0},
    "seconds": {"dense": 0.09, "windows": 1.31},
    "peak_bytes": {"dense": 91000000, "windows": 143000000},
}

DECISIONS = [
    ("crop", [96, 128], "the photo's size, where it fits", "all 120 photos are 96 x 128", "--recipe FILE with crop"),
    ("batch", 8, "the fastest that fits in memory", "4: 17.2, 8: 19.0, 16: 18.8 photos a second", "--recipe FILE"),
    ("crop_scale", [0.75, 1.75], "so that small objects are seen large", "shares 0.71 to 0.03", "--recipe"),
    ("sharp.steps", 1500, "seconds / seconds a step", "95 s, 0.06 s a step", "--steps N"),
    ("precision", "bf16", "the faster of fp32 and bf16", "fp32 11.3, bf16 19.0 photos a second", "--recipe FILE"),
    ("head", "sharp", "the default", "a ceiling of 0.86 at stride 32 and 0.99 at 4", "--head 8s"),
]


def write_made_up_run(folder: Path) -> Path:
    """Write every file that the report reads."""
    earlier, final = scores(4).to_json(), scores(2).to_json()
    classes = [
        {
            "name": name,
            "share": [0.71, 0.08, 0.07, 0.06, 0.05, 0.03, 0.0][index],
            "photos": 110 - 9 * index,
            "regions": 210 - 20 * index,
            "ceiling": {"32": 0.7 - 0.04 * index, "16": 0.84 - 0.02 * index, "8": 0.93, "4": 0.97},
        }
        for index, name in enumerate(NAMES)
    ]
    samples = {
        "schema": "fullconv.samples/1",
        "label_space": SPACE.to_json(),
        "counts": {"train": 120, "val": 8, "test": 0, "skipped": 1},
        "skipped": [{"name": "broken", "files": ["images/broken.png"], "why": "cannot be decoded"}],
        "notes": ["images/ and masks/ paired by stem: 129 pairs, 1 skipped", "classes.txt names 7 classes"],
        "fingerprint": {
            "void_share": 0.03,
            "classes": classes,
            "ceiling": {"32": 0.61, "16": 0.79, "8": 0.93, "4": 0.97},
        },
    }
    keys = ("name", "value", "rule", "evidence", "override")
    plan = {
        "schema": "fullconv.plan/1",
        "minutes": 4,
        "decisions": [dict(zip(keys, decision, strict=True)) for decision in DECISIONS],
        "measured": [{"precision": "fp32", "batch": 8, "images_per_second": 11.3}, {"precision": "bf16", "batch": 8}],
    }
    run = {
        "schema": "fullconv.run/1",
        "seed": 0,
        "asked": {"data": "scenes", "minutes": 4, "head": "sharp"},
        "versions": {"fullconv": "0.1.0", "torch": "2.14"},
        "machine": {"cores": 2},
        "stages": [
            {"name": "32s", "seconds": 62.0, "mean_iou": earlier["mean_iou"], "interval": earlier["mean_iou_interval"]},
            {
                "name": "sharp",
                "seconds": 95.4,
                "mean_iou": final["mean_iou"],
                "interval": final["mean_iou_interval"],
                "difference": {"mean_iou": 0.151, "interval": [0.12, 0.18]},
                "kept": True,
            },
        ],
        "baselines": [
            {"name": "nearest colour", "mean_iou": 0.161, "interval": [0.14, 0.18], "seconds": 2.1},
            {"name": "random forest on 15x15 patches", "mean_iou": 0.304, "interval": [0.28, 0.33], "seconds": 31.0},
        ],
    }
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(6), 10)
    answers = single_label_scores(NAMES[:6], truth.tolist(), np.where(rng.random(60) < 0.1, 0, truth).tolist())
    write_json(folder / "run.json", run)
    write_json(folder / "samples.json", samples)
    write_json(folder / "plan.json", plan)
    write_json(folder / "study" / "study.json", {"findings": [{"severity": "harm"}, {"severity": "note"}]})
    write_json(folder / "classifier" / "scores.json", answers.to_json())
    write_json(folder / "classifier" / "proof.json", PROOF)
    write_text(folder / "classifier" / "journal.jsonl", journal(200, 1.2))
    for stage, document, steps in (("32s", earlier, 300), ("sharp", final, 1500)):
        write_json(folder / stage / "scores.json", document)
        write_text(folder / stage / "journal.jsonl", journal(steps, 0.9))
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A made-up run."""
    return write_made_up_run(tmp_path / "RUN")


@pytest.fixture
def examples() -> list[Example]:
    """Six samples of falling quality."""
    made = []
    for index in range(6):
        truth, guess = label_maps(index, index)
        photo = np.asarray(COLOURS, np.uint8)[np.where(truth == 255, 0, truth)]
        made.append(Example(f"photo_{index}", photo, truth, guess, 0.9 - 0.1 * index))
    return made
