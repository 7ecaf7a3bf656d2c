"""Write the report of a run: one self-contained page. Road: report. In: a run folder and examples. Out: report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fullconv.base.files import write_text
from fullconv.report import words
from fullconv.report.charts import loss_curve
from fullconv.report.pictures import Example, ExamplePictures, example_pictures
from fullconv.report.reading import Document, RunRecord, Stage, pair, read_run

TEMPLATES = Path(__file__).parent / "templates"
MOST_CLASSES_IN_CONFUSION = 32
GROUPS = ("Best", "Median", "Worst")
STRIDES = ("32", "16", "8", "4")
SPLITS = {"train": "to train on", "val": "to validate on", "test": "kept for a test"}
MOST_SKIPPED = 10


def write_report(run_folder: Path, examples: Sequence[Example] = ()) -> Path:
    """Write `report.html` into the run folder; what the run has not written is left out of the page.

    Args:
        run_folder: as `fullconv.road.run` leaves it (docs/reference/files.md); any of its files may be missing.
        examples: samples to show with their prediction, in any order.
    Returns: the path of the page.
    """
    path = run_folder / "report.html"
    write_text(path, page(read_run(run_folder), examples))
    return path


def page(run: RunRecord, examples: Sequence[Example]) -> str:
    """The page as HTML."""
    environment = templates()
    environment.filters.update(
        three=words.three,
        percent=words.percent,
        signed=words.signed,
        span=words.span,
        duration=words.duration,
        tiny=words.tiny,
        text=words.text,
    )
    return environment.get_template("run.html.j2").render(
        run=run,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        learned=words.learned(run),
        tiles=_tiles(run),
        road=_road(run),
        classes=_class_rows(run),
        confusion=_confusion(run.scores),
        taken=_confusion(run.classifier),
        groups=_groups(examples, run.colours),
        legend=list(zip(run.class_names, run.colours, strict=True)),
        curves=[(stage, _curve(stage), _pace(stage)) for stage in run.stages if len(stage.steps) > 1],
        total_seconds=words.total_seconds(run),
        proof=_proof(run.proof),
        read=_read(run),
        splits=SPLITS,
        measured=_table(run.plan.get("measured")),
        asked=_flat({key: value for key, value in run.run.items() if key not in ("stages", "baselines", "schema")}),
    )


def templates() -> Environment:
    """The pages' templates: what is put in is escaped, and nothing may be missing."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _tiles(run: RunRecord) -> list[tuple[str, str, str]]:
    """The few figures that matter: (what, figure, note)."""
    scores = run.scores
    tiles = []
    if scores.get("mean_iou") is not None:
        tiles.append(("mean IoU", words.three(scores["mean_iou"]), words.span(scores.get("mean_iou_interval"))))
        note = f"{scores['images']:,} photos held out"
        tiles.append(("pixels right", words.percent(scores["pixel_accuracy"]), note))
    if run.classifier.get("accuracy") is not None:
        note = "of answers on windows" if run.classifier.get("kind") == "multi-label" else "of photos held out"
        tiles.append(("classifier right", words.percent(run.classifier["accuracy"]), note))
    seconds = words.total_seconds(run)
    if seconds is not None:
        minutes = run.plan.get("minutes")
        tiles.append(("time trained", words.duration(seconds), f"{minutes:g} min asked" if minutes else "all stages"))
    return tiles


def _road(run: RunRecord) -> list[Document]:
    """Baselines and stages as bars of mean IoU, in road order."""
    rows: list[Document] = [
        {
            "name": row["name"],
            "kind": "baseline",
            "mean_iou": row["mean_iou"],
            "interval": pair(row.get("interval")),
            "difference": {},
            "seconds": row.get("seconds"),
        }
        for row in run.run.get("baselines") or []
    ]
    for stage in run.stages:
        rows.append(
            {
                "name": stage.name,
                "kind": "stage" if stage.kept else "dropped",
                "mean_iou": stage.mean_iou if stage.name != "classifier" else None,
                "interval": stage.interval,
                "difference": stage.difference,
                "seconds": stage.seconds,
            }
        )
    return rows


def _class_rows(run: RunRecord) -> list[Document]:
    colours = run.colours
    total = sum(row["pixels"] for row in run.scores.get("classes", [])) or 1
    return [
        {
            **row,
            "colour": colours[row["id"]] if row["id"] < len(colours) else "transparent",
            "share": row["pixels"] / total,
            "interval": pair(row["iou_interval"]),
        }
        for row in run.scores.get("classes", [])
    ]


def _confusion(scores: Document) -> Document | None:
    """Rows of shares of each true class; with many classes, those with the most pixels."""
    matrix = scores.get("confusion")
    if not matrix:
        return None
    names = [row["name"] for row in scores["classes"]]
    totals = [sum(row) for row in matrix]
    shown = [index for index in sorted(range(len(names)), key=lambda index: -totals[index]) if totals[index]]
    shown = sorted(shown[:MOST_CLASSES_IN_CONFUSION])
    rows = [(names[row], [_cell(matrix, totals, row, column, names) for column in shown]) for row in shown]
    return {"names": [names[index] for index in shown], "rows": rows, "left_out": len(names) - len(shown)}


def _cell(matrix: list[list[int]], totals: list[int], row: int, column: int, names: list[str]) -> Document:
    share = matrix[row][column] / totals[row]
    return {
        "share": round(share, 4),
        "right": row == column,
        "label": f"{100 * share:.0f}" if share >= 0.005 else "",
        "title": f"{names[row]} taken for {names[column]}: {words.percent(share)}",
    }


def _groups(examples: Sequence[Example], colours: Sequence[str]) -> list[tuple[str, list[ExamplePictures]]]:
    """Examples in three groups, best first; fewer than three are one group."""
    drawn = [example_pictures(example, colours) for example in sorted(examples, key=lambda example: -example.iou)]
    if len(drawn) < len(GROUPS):
        return [("Samples", drawn)] if drawn else []
    third = len(drawn) // len(GROUPS)
    ends = (0, third, len(drawn) - third, len(drawn))
    return [(name, drawn[ends[index] : ends[index + 1]]) for index, name in enumerate(GROUPS)]


def _curve(stage: Stage) -> Any:
    return loss_curve([line["step"] for line in stage.steps], [line["loss"] for line in stage.steps])


def _pace(stage: Stage) -> list[tuple[str, str]]:
    """What the journal says beside the loss."""
    steps = stage.steps
    waits = [line["wait_share"] for line in steps if line.get("wait_share") is not None]
    speeds = sorted(line["images_per_second"] for line in steps if line.get("images_per_second") is not None)
    rates = [line["rate"] for line in steps if line.get("rate") is not None]
    return [
        ("steps", f"{steps[-1]['step']:,}"),
        ("time", words.duration(stage.seconds)),
        *([("photos a second", f"{speeds[len(speeds) // 2]:.1f}")] if speeds else []),
        *([("waited for data", words.percent(sum(waits) / len(waits)))] if waits else []),
        *([("highest rate", f"{max(rates):.2g}")] if rates else []),
    ]


def _proof(proof: Document) -> list[tuple[str, list[tuple[str, str]]]]:
    """The proof of the surgery in groups of (what, figure)."""
    if not proof:
        return []
    window, dense = proof.get("at_window") or {}, proof.get("dense") or {}
    groups = [
        (
            "Score grid",
            [
                (key.replace("_", " "), _pixels(proof.get(key)))
                for key in ("window", "stride", "offset", "receptive_field")
            ],
        ),
        ("One window", _differences(window, "pictures compared", "images")),
        ("Dense pass beside every window", _dense(dense)),
        ("Account of the weights", [(key, _amount(value)) for key, value in (proof.get("account") or {}).items()]),
        ("Cost, one pass against every window", _cost(proof)),
    ]
    return [(name, rows) for name, rows in groups if rows]


def _dense(dense: Document) -> list[tuple[str, str]]:
    if not dense:
        return []
    rows = [("photo", _pixels(dense.get("size"))), ("grid", words.text(dense.get("grid")))]
    rows += _differences(dense, "windows", "windows")
    if dense.get("top1_agreement") is not None:
        rows.append(("same first class", words.percent(dense["top1_agreement"])))
    rows.append(("exact", words.text(dense.get("exact"))))
    return rows


def _differences(part: Document, what: str, key: str) -> list[tuple[str, str]]:
    if not part:
        return []
    return [
        (what, words.text(part.get(key))),
        ("largest difference", words.tiny(part.get("largest_difference"))),
        ("relative to the largest score", words.tiny(part.get("relative_difference"))),
    ]


def _cost(proof: Document) -> list[tuple[str, str]]:
    seconds, memory = proof.get("seconds") or {}, proof.get("peak_bytes") or {}
    rows = [
        (f"time, {key}", words.duration(seconds[key])) for key in ("dense", "windows") if seconds.get(key) is not None
    ]
    return rows + [(f"memory, {key}", f"{memory[key] / 1e6:.0f} MB") for key in ("dense", "windows") if memory.get(key)]


def _pixels(value: Any) -> str:
    if not isinstance(value, list):
        return words.text(value)
    same = len({str(part) for part in value}) == 1
    return f"{words.text(value[0])} px" if same else " × ".join(map(words.text, value)) + " px"


def _amount(value: Any) -> str:
    return f"{len(value):,}" if isinstance(value, list | dict) else words.text(value)


def _read(run: RunRecord) -> Document:
    """What was read: counts of the splits, notes, skipped, and the fingerprint per class."""
    fingerprint, skipped = run.samples.get("fingerprint") or {}, run.samples.get("skipped") or []
    counts, ceiling = run.samples.get("counts") or {}, fingerprint.get("ceiling") or {}
    return {
        "splits": [(name, counts[name]) for name in SPLITS if counts.get(name)],
        "notes": run.samples.get("notes") or [],
        "skipped": skipped[:MOST_SKIPPED],
        "skipped_count": len(skipped),
        "void_share": fingerprint.get("void_share"),
        "classes": [
            {**row, "ceiling": [(row.get("ceiling") or {}).get(stride) for stride in STRIDES]}
            for row in fingerprint.get("classes") or []
        ],
        "ceiling": [(stride, ceiling.get(stride)) for stride in STRIDES],
    }


def _table(rows: Any) -> Document | None:
    """Any list of records as head and cells."""
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    head = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[words.text(row[key]) if key in row else "" for key in head] for row in rows]
    return {"head": [key.replace("_", " ") for key in head], "rows": cells}


def _flat(document: Document, prefix: str = "") -> list[tuple[str, str]]:
    """Every leaf of a document as (path, text)."""
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        name = f"{prefix}{key}".replace("_", " ")
        rows += _flat(value, f"{name} · ") if isinstance(value, dict) else [(name, words.text(value))]
    return rows
