"""Scores as plain text for a terminal: no colour, no box lines. Road: measure. In: the scores' document. Out: text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MEASURES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")


def scores_table(document: dict[str, Any]) -> str:
    """The per-class table, the four measures and what is to be known about them, from `Scores.to_json()`."""
    rows = [
        (row["name"], f"{row['pixels']:,}", *(_three(row[key]) for key in ("precision", "recall", "iou")), _span(row))
        for row in document["classes"]
    ]
    lines = aligned(("class", "pixels", "precision", "recall", "IoU", "95% interval"), rows)
    absent = [f"absent, so not scored: {', '.join(document['absent'])}"] if document["absent"] else []
    measures = aligned(("", "all classes", "without background"), _measure_rows(document))
    return "\n".join([*lines, "", *measures, *(["", *absent] if absent else [])])


def difference_line(difference: dict[str, Any], *, first: str, second: str) -> str:
    """One sentence on a paired comparison, from `Difference.to_json()`."""
    low, high = difference["interval"]
    verdict = "more than chance" if low is not None and (low > 0 or high < 0) else "may be chance"
    return (
        f"mean IoU of {first} less that of {second}: {difference['mean_iou']:+.3f} "
        f"(95% interval {low:+.3f} to {high:+.3f}, paired by photo: {verdict})"
    )


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in (head, *rows)
    ]


def _measure_rows(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    others = document["without_background"] or {}
    rows = [(name.replace("_", " "), _three(document[name]), _three(others.get(name))) for name in MEASURES]
    low, high = document["mean_iou_interval"]
    return [*rows, ("mean iou, 95% interval", f"{_three(low)} to {_three(high)}", "")]


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(row: dict[str, Any]) -> str:
    low, high = row["iou_interval"]
    return "-" if low is None else f"{low:.3f} to {high:.3f}"
