"""Figures as words. Road: report. In: a run's record. Out: sentences and formatted numbers. Knows no files."""

from __future__ import annotations

from typing import Any

from fullconv.report.reading import Document, RunRecord, Stage, pair


def learned(run: RunRecord) -> str:
    """What was learned, in one paragraph made from the figures."""
    sentences = [*_task(run), *_result(run), *_classes(run), *_classifier(run), *_stages(run)]
    return " ".join(sentences) or "Nothing has been measured yet in this run."


def three(value: float | None) -> str:
    """0.713, or a dash where there is nothing."""
    return "–" if value is None else f"{value:.3f}"


def percent(value: float | None, *, digits: int = 1) -> str:
    """71.3%, or a dash where there is nothing."""
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def signed(value: float | None) -> str:
    """+0.021 with a true minus sign."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def points(value: float) -> str:
    """Hundredths, with a sign: +0.021 for 0.00021."""
    return signed(100 * value)


def span(interval: Any, *, sign: bool = False) -> str:
    """0.691 to 0.733, or nothing."""
    ends = pair(interval)
    return "" if ends is None else " to ".join((signed if sign else three)(end) for end in ends)


def duration(seconds: float | None) -> str:
    """45 s, 19 min 40 s, 1 h 5 min."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def tiny(value: float | None) -> str:
    """A difference that is often small: 0.81, 2.1e-06; 0 is 0."""
    return "–" if value is None else "0" if value == 0 else f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def count(number: int, one: str, many: str | None = None) -> str:
    """1 photo, 2 photos, 12,345 photos."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def text(value: Any) -> str:
    """Any value of a document as a short text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and not value:
        return "none"
    if isinstance(value, list | tuple):
        return " × ".join(map(text, value)) if len(value) == 2 and _numbers(value) else ", ".join(map(text, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {text(inner)}" for key, inner in value.items())
    return "none" if value is None else str(value)


def _numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _task(run: RunRecord) -> list[str]:
    photos, seconds = (run.samples.get("counts") or {}).get("train"), total_seconds(run)
    if not photos or not run.class_names:
        return []
    took = f" in {duration(seconds)}" if seconds else ""
    return [
        f"From {count(photos, 'labelled photo')}, a segmenter for {len(run.class_names)} classes was trained{took}."
    ]


def _result(run: RunRecord) -> list[str]:
    scores = run.scores
    if scores.get("mean_iou") is None:
        return []
    ends = span(scores.get("mean_iou_interval"))
    photos, right = count(scores["images"], "photo"), percent(scores["pixel_accuracy"])
    reached = f"a mean IoU of {three(scores['mean_iou'])}" + (f" (95% interval {ends})" if ends else "")
    return [f"On {photos} that it had not seen it labels {right} of the pixels right and reaches {reached}."]


def _classes(run: RunRecord) -> list[str]:
    ranked = sorted(
        (row for row in run.scores.get("classes", []) if row["iou"] is not None), key=lambda row: -float(row["iou"])
    )
    if len(ranked) < 2:
        return []
    best = listed([f"{row['name']} ({row['iou']:.2f})" for row in ranked[: 2 if len(ranked) > 4 else 1]])
    worst = ranked[-1]
    sentences = [f"It knows {best} best and {worst['name']} ({worst['iou']:.2f}) least.", *_why(run.scores, worst)]
    absent = run.scores.get("absent") or []
    return [*sentences, *([f"Not scored, since they do not occur: {listed(absent)}."] if absent else [])]


def _why(scores: Document, row: Document) -> list[str]:
    """What the weakest class is taken for, or what is taken for it: whichever costs more."""
    matrix, index, name = scores.get("confusion"), row["id"], row["name"]
    if not matrix or row["recall"] is None:
        return []
    names = [other["name"] for other in scores["classes"]]
    missed = [pixels if other != index else 0 for other, pixels in enumerate(matrix[index])]
    phantom = [line[index] if other != index else 0 for other, line in enumerate(matrix)]
    if sum(missed) and (row["precision"] is None or row["recall"] <= row["precision"]):
        most, share = names[missed.index(max(missed))], max(missed) / sum(matrix[index])
        return [f"It misses {_whole(1 - row['recall'])} of {name}: {_whole(share)} is taken for {most}."]
    if sum(phantom):
        most = names[phantom.index(max(phantom))]
        return [f"Of what it calls {name}, {_whole(1 - row['precision'])} is something else, mostly {most}."]
    return []


def _whole(share: float) -> str:
    return percent(share, digits=0)


def _classifier(run: RunRecord) -> list[str]:
    sentences = []
    if run.classifier.get("accuracy") is not None:
        what = "of its answers on windows" if run.classifier.get("kind") == "multi-label" else "of the photos"
        sentences.append(
            f"The classifier it grew from was right on {percent(run.classifier['accuracy'])} {what} held out."
        )
    relative = (run.proof.get("at_window") or {}).get("relative_difference")
    if relative is not None:
        sentences.append(
            "Made fully convolutional, it gave the same scores"
            + (" exactly." if relative == 0 else f" up to {tiny(relative)} of the largest.")
        )
    return sentences


def _stages(run: RunRecord) -> list[str]:
    return [_step(stage) for stage in run.segmenters if pair(stage.difference.get("interval"))]


def _step(stage: Stage) -> str:
    value, interval = stage.difference["mean_iou"], stage.difference["interval"]
    chance = "" if interval[0] > 0 or interval[1] < 0 else ", which may be chance"
    fell = "" if stage.kept else "; it was not kept"
    return f"Stage {stage.name} changed the mean IoU by {signed(value)} ({span(interval, sign=True)}){chance}{fell}."


def total_seconds(run: RunRecord) -> float | None:
    """Wall time of all stages together."""
    known = [stage.seconds for stage in run.stages if stage.seconds is not None]
    return sum(known) if known else None
