"""The study as a document: study.json. Road: study, last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fullconv.data.fingerprint import SHRINKS
from fullconv.data.formats.listing import UNSPLIT
from fullconv.data.samples import SPLITS
from fullconv.measure.ratios import number, ratio
from fullconv.study.case import Case
from fullconv.study.findings import Finding
from fullconv.study.suspects import WrongLabels


def study_json(case: Case, findings: Sequence[Finding], wrong: WrongLabels | None, out: Path) -> dict[str, Any]:
    """The document of study.json (DESIGN: fullconv.study/1), as far as it was asked for.

    Args:
        wrong: what networks say of the labels; None where none were asked.
        out: the study's folder.
    """
    fix = f"fullconv study --apply {out / 'fixes.json'} --to MENDED"
    return {
        "schema": "fullconv.study/1",
        "data": str(case.root),
        "layout": case.listing.layout,
        "notes": list(case.notes),
        "samples": {
            "found": len(case.looks),
            "usable": len(case.samples),
            "splits": {
                split: sum(case.splits[place] == split for place in case.samples)
                for split in (*SPLITS, UNSPLIT)
                if split in case.splits
            },
        },
        "classes": _classes(case, wrong),
        "ceiling": {} if case.content is None else {str(f): _round(case.content.mean_ceiling[f]) for f in SHRINKS},
        "findings": [finding.to_json(fix) for finding in findings],
        **({} if wrong is None or case.space is None else _wrong(wrong, case.space.names)),
    }


def _wrong(wrong: WrongLabels, names: Sequence[str]) -> dict[str, Any]:
    directions: dict[tuple[int, int], list[int]] = {}
    for one in wrong.suspects:
        directions.setdefault((one.given, one.likely), []).append(one.pixels)
    return {
        "suspects": [
            asdict(one) | {"box": list(one.box), "given": names[one.given], "likely": names[one.likely]}
            for one in wrong.suspects
        ],
        "sample_scores": {name: _round(value) for name, value in sorted(wrong.quality.items())},
        "confusions": [
            {"given": names[given], "likely": names[likely], "regions": len(pixels), "pixels": sum(pixels)}
            for (given, likely), pixels in sorted(directions.items(), key=lambda item: -sum(item[1]))
        ],
    }


def _classes(case: Case, wrong: WrongLabels | None) -> list[dict[str, Any]]:
    if case.content is None or case.space is None:
        return []
    pixels = case.content.pixels
    unseen = [{} for _ in case.space.names] if wrong is None else _unseen(wrong)
    return [
        {
            "id": index,
            "name": name,
            "images": int((pixels[:, index] > 0).sum()),
            "pixels": int(pixels[:, index].sum()),
            "regions": int(case.content.regions[index]),
            "tiny_regions": {str(factor): int(case.content.tiny[factor][index]) for factor in SHRINKS},
            "ceiling": {str(factor): _round(case.content.ceiling[factor][index]) for factor in SHRINKS},
            **unseen[index],
        }
        for index, name in enumerate(case.space.names)
    ]


def _unseen(wrong: WrongLabels) -> list[dict[str, Any]]:
    """Per class: precision and recall of networks on samples that they have not seen, and its suspect regions."""
    hits = wrong.pixels.diagonal()
    precision, recall = ratio(hits, wrong.pixels.sum(0)), ratio(hits, wrong.pixels.sum(1))
    suspects = Counter(index for one in wrong.suspects for index in (one.given, one.likely))
    return [
        {
            "precision": _round(number(precision[index])),
            "recall": _round(number(recall[index])),
            "suspects": suspects[index],
        }
        for index in range(len(hits))
    ]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
