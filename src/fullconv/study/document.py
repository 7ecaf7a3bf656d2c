"""The study as a document: study.json. Road: study, last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fullconv.data.fingerprint import SHRINKS
from fullconv.data.formats.listing import UNSPLIT
from fullconv.data.samples import SPLITS
from fullconv.study.case import Case
from fullconv.study.findings import Finding


def study_json(case: Case, findings: Sequence[Finding], out: Path) -> dict[str, Any]:
    """The document of study.json (DESIGN: fullconv.study/1), as far as the doctor fills it."""
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
        "classes": _classes(case),
        "ceiling": {} if case.content is None else {str(f): _round(case.content.mean_ceiling[f]) for f in SHRINKS},
        "findings": [finding.to_json(fix) for finding in findings],
    }


def _classes(case: Case) -> list[dict[str, Any]]:
    if case.content is None or case.space is None:
        return []
    pixels = case.content.pixels
    return [
        {
            "id": index,
            "name": name,
            "images": int((pixels[:, index] > 0).sum()),
            "pixels": int(pixels[:, index].sum()),
            "regions": int(case.content.regions[index]),
            "tiny_regions": {str(factor): int(case.content.tiny[factor][index]) for factor in SHRINKS},
            "ceiling": {str(factor): _round(case.content.ceiling[factor][index]) for factor in SHRINKS},
        }
        for index, name in enumerate(case.space.names)
    ]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
