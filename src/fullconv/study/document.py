"""The study as a document: study.json. Road: study, last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from fullconv.data.fingerprint import SHRINKS
from fullconv.data.formats.listing import UNSPLIT
from fullconv.data.samples import SPLITS
from fullconv.measure.ratios import number, ratio
from fullconv.study.case import Case
from fullconv.study.curve import Curve, Expected
from fullconv.study.findings import Finding
from fullconv.study.suspects import WrongLabels

if TYPE_CHECKING:  # what trains, and with it torch
    from fullconv.study.growth import Growth
    from fullconv.study.prelabels import Batch
    from fullconv.study.value import Worth

CURVE_AT = (0.125, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # of the samples there are
MORE = 2.0  # times the samples there are, of which the sentences speak
_LEVEL = 0.95


@dataclass(frozen=True)
class Answers:
    """What was asked of a study beyond its findings; None: not asked.

    Args:
        wrong: what networks say of the labels.
        worth: what the samples of train are worth.
        growth: what more samples would bring.
        batch: photos to label next.
    """

    wrong: WrongLabels | None = None
    worth: Worth | None = None
    growth: Growth | None = None
    batch: Batch | None = None


def study_json(case: Case, findings: Sequence[Finding], answers: Answers, out: Path) -> dict[str, Any]:
    """The document of study.json (DESIGN: fullconv.study/1), as far as it was asked for.

    Args:
        out: the study's folder.
    """
    wrong, names = answers.wrong, () if case.space is None else case.space.names
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
        **({} if wrong is None else _wrong(wrong, names)),
        **({} if answers.worth is None else _worth(answers.worth, names)),
        **({} if answers.growth is None else {"learning_curve": _growth(answers.growth, names)}),
        **({} if answers.batch is None else {"label_next": _next(answers.batch, names)}),
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
        "doubtful": list(wrong.doubtful),
        "sample_scores": {name: _round(value) for name, value in sorted(wrong.quality.items())},
        "confusions": [
            {"given": names[given], "likely": names[likely], "regions": len(pixels), "pixels": sum(pixels)}
            for (given, likely), pixels in sorted(directions.items(), key=lambda item: -sum(item[1]))
        ],
    }


def _worth(worth: Worth, names: Sequence[str]) -> dict[str, Any]:
    middle = worth.values.mean(0)
    networks = len(worth.values)
    reach = stdtrit(networks - 1, (1 + _LEVEL) / 2) * worth.values.std(0, ddof=1) / np.sqrt(networks)
    ends = np.stack([middle, middle - reach, middle + reach], -1)  # (S, 3, K, 3)
    return {
        "sample_value": [
            {
                "sample": name,
                "class": of_class,
                "effect": {
                    what: [_short(one) for one in ends[place, at, k]] for at, what in enumerate(worth.agreement)
                },
            }
            for place, name in enumerate(worth.names)
            for k, of_class in enumerate(names)
        ],
        "value_check": {
            "trainings": worth.trainings,
            "agreement": {what: asdict(one) for what, one in worth.agreement.items()},
            "ceiling": {what: asdict(one) for what, one in worth.ceiling.items()},
        },
        "advice": {
            "fix": list(worth.advice.fix),
            "drop": list(worth.advice.drop),
            "keep": len(worth.names) - len(worth.advice.fix) - len(worth.advice.drop),
            "gain": None if worth.gain is None else [_round(end) for end in worth.gain],
        },
    }


def _growth(growth: Growth, names: Sequence[str]) -> dict[str, Any]:
    most = growth.curve.most
    return {
        "parts": [
            {"samples": int(samples), "mean_iou": _round(float(reached))}
            for samples, reached in zip(growth.samples, growth.mean_iou, strict=True)
        ],
        "mean_iou": [
            {"samples": round(share * most), **_expected(growth.curve.at(share * most))} for share in CURVE_AT
        ],
        "classes": [
            {
                "class": name,
                "images": int(images),
                "recall": _of_class(recall),
                "precision": _of_class(precision),
            }
            for name, images, recall, precision in zip(
                names, growth.images, growth.recalls, growth.precisions, strict=True
            )
        ],
    }


def _next(batch: Batch, names: Sequence[str]) -> dict[str, Any]:
    return {
        "of": len(batch.photos),
        "redundancy": _round(batch.chosen.redundancy),
        "like_val": batch.chosen.like_val,
        "photos": [
            {
                "name": one.name,
                "photo": str(batch.photos[one.name]),
                "promise": _short(one.promise),
                "classes": [names[index] for index in one.classes],
                "nearest": one.nearest,
                "likeness": _round(one.likeness),
                "parts": [[_short(end) for end in box] for box in one.parts],
            }
            for one in batch.chosen.choices
        ],
        "left_out": [{"photo": str(photo), "why": why} for photo, why in batch.left_out.items()],
        "prelabels": str(batch.folder),
    }


def _of_class(curve: Curve | None) -> dict[str, Any] | None:
    """What a class's figure is with the samples it has, with twice as many, and how many bring it halfway to there.

    No number of samples where more are not expected to raise it.
    """
    if curve is None:
        return None
    now, more = curve.at(curve.most), curve.at(MORE * curve.most)
    halfway = (now.figure + more.figure) / 2
    needed = curve.samples_for(halfway)
    plan = {"figure": _round(halfway), "images": [None if np.isinf(one) else round(one) for one in needed]}
    return {
        "now": _expected(now),
        "more": {"images": round(MORE * curve.most), **_expected(more)},
        "plan": plan if more.figure > now.figure else None,
    }


def _expected(one: Expected) -> dict[str, float | None]:
    return {"figure": _round(one.figure), "low": _round(one.low), "high": _round(one.high)}


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


def _short(value: float) -> float:
    """Effects of one sample are small."""
    return float(f"{value:.3g}")


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
