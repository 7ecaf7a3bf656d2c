"""All scores, from one confusion matrix and the counts of each photo. Road: measure. Knows no torch, no photos.

Letters: N photos, K classes. Truth, guess and hit are pixels per class: in the label map, in the prediction, in both.
The rule for absent classes: a class that occurs neither in truth nor in prediction is absent, is listed and not scored.
A class that is only predicted scores an IoU of 0; its recall is undefined (null), so the mean accuracy leaves it out.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.files import write_bytes
from fullconv.labels.space import LabelSpace
from fullconv.measure.edges import EdgeScores, add_edges
from fullconv.measure.intervals import LEVEL, METHOD, RESAMPLES, percentiles, resampled_sums
from fullconv.measure.ratios import Floats, iou, mean, number, ratio

SCHEMA = "fullconv.scores/1"


@dataclass(frozen=True, eq=False)
class Scores:
    """What was counted, and every score that follows from it.

    Args:
        class_names: K names.
        background: index of the background class, None where the label space names none.
        photos: N names.
        confusion: (K, K) int64, row = truth.
        truth, guess, hit: (N, K) int64 pixels that are not void, per photo and class.
        void_pixels: pixels never scored.
        edges: how well edges are met, where it was measured.
    """

    class_names: tuple[str, ...]
    background: int | None
    photos: tuple[str, ...]
    confusion: NDArray[np.int64]
    truth: NDArray[np.int64]
    guess: NDArray[np.int64]
    hit: NDArray[np.int64]
    void_pixels: int
    edges: EdgeScores | None = None

    @property
    def pixels(self) -> int:
        """Pixels that were scored."""
        return int(self.confusion.sum())

    @property
    def iou(self) -> Floats:
        """(K,) intersection over union; NaN for absent classes."""
        return iou(*_sums(self.confusion))

    @property
    def precision(self) -> Floats:
        """(K,) share of a class's predicted pixels that are right; NaN where it is never predicted."""
        _, guess, hit = _sums(self.confusion)
        return ratio(hit, guess)

    @property
    def recall(self) -> Floats:
        """(K,) share of a class's true pixels that are found; NaN where it has none."""
        truth, _, hit = _sums(self.confusion)
        return ratio(hit, truth)

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels that are right."""
        return self._four["pixel_accuracy"]

    @property
    def mean_accuracy(self) -> float:
        """Mean recall over the classes that occur in the truth."""
        return self._four["mean_accuracy"]

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction (the paper's "mean IU")."""
        return self._four["mean_iou"]

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean IoU weighted by each class's share of the true pixels."""
        return self._four["frequency_weighted_iou"]

    @property
    def without_background(self) -> dict[str, float] | None:
        """The same four over the other classes: a background pixel counts only where it was taken for one of them."""
        if self.background is None:
            return None
        others = np.arange(len(self.class_names)) != self.background
        return four_measures(*_sums(self.confusion), chosen=others)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes that occur neither in truth nor in prediction."""
        return tuple(name for name, value in zip(self.class_names, self.iou, strict=True) if np.isnan(value))

    @property
    def mean_iou_other_rules(self) -> dict[str, float]:
        """What the mean IoU would be under the other rules in use."""
        return {
            "absent_as_0": float(np.nan_to_num(self.iou, nan=0.0).mean()),
            "absent_as_1": float(np.nan_to_num(self.iou, nan=1.0).mean()),
            "truth_only": float(mean(np.where(_sums(self.confusion)[0] > 0, self.iou, np.nan))),
        }

    @property
    def iou_interval(self) -> Floats:
        """(K, 2) interval of each class's IoU."""
        return percentiles(self._iou_draws).T

    @property
    def mean_iou_interval(self) -> tuple[float, float]:
        """Interval of the mean IoU."""
        low, high = percentiles(mean(self._iou_draws))
        return float(low), float(high)

    @cached_property
    def _four(self) -> dict[str, float]:
        return four_measures(*_sums(self.confusion), chosen=np.ones(len(self.class_names), bool))

    @cached_property
    def _iou_draws(self) -> Floats:
        return iou_draws(self)

    def to_json(self) -> dict[str, Any]:
        """The document of `scores.json` and `evaluate --json`; what is undefined is null."""
        return {
            "schema": SCHEMA,
            "images": len(self.photos),
            "pixels": self.pixels,
            "void_pixels": self.void_pixels,
            **_numbers(self._four),
            "without_background": None if self.without_background is None else _numbers(self.without_background),
            "classes": self._class_rows(),
            "mean_iou_interval": [number(end) for end in self.mean_iou_interval],
            "interval": {"level": LEVEL, "method": METHOD, "resamples": RESAMPLES},
            "absent": list(self.absent),
            "mean_iou_other_rules": _numbers(self.mean_iou_other_rules),
            "confusion": self.confusion.tolist(),
            "edges": None if self.edges is None else self.edges.to_json(),
        }

    def _class_rows(self) -> list[dict[str, Any]]:
        images, pixels = (self.truth > 0).sum(axis=0), self.confusion.sum(axis=1)
        measures = zip(self.precision, self.recall, self.iou, self.iou_interval, strict=True)
        return [
            {
                "id": index,
                "name": self.class_names[index],
                "images": int(images[index]),
                "pixels": int(pixels[index]),
                "precision": number(precision),
                "recall": number(recall),
                "iou": number(value),
                "iou_interval": [number(end) for end in interval],
            }
            for index, (precision, recall, value, interval) in enumerate(measures)
        ]


@dataclass(frozen=True, eq=False)
class PhotoCounts:
    """What was counted on one photo: its confusion (K, K), its void pixels, and its edges."""

    name: str
    confusion: NDArray[np.int64]
    void_pixels: int
    edges: EdgeScores


def collect(counted: Iterable[PhotoCounts], space: LabelSpace) -> Scores:
    """Gather the counts of photos, one at a time, into Scores; holds 3 K numbers a photo."""
    total, void_pixels = np.zeros((space.size, space.size), np.int64), 0
    edges: EdgeScores | None = None
    names: list[str] = []
    rows: list[NDArray[np.int64]] = []
    for photo in counted:
        names.append(photo.name)
        rows.append(np.stack(_sums(photo.confusion)))
        total += photo.confusion
        void_pixels += photo.void_pixels
        edges = photo.edges if edges is None else add_edges(edges, photo.edges)
    truth, guess, hit = np.moveaxis(np.stack(rows), 1, 0)
    return Scores(tuple(space.names), space.background, tuple(names), total, truth, guess, hit, void_pixels, edges)


def four_measures(
    truth: NDArray[np.int64], guess: NDArray[np.int64], hit: NDArray[np.int64], *, chosen: NDArray[np.bool_]
) -> dict[str, float]:
    """The paper's four measures over the chosen classes, from (K,) counts."""
    overlap, true = iou(truth, guess, hit)[chosen], truth[chosen]
    return {
        "pixel_accuracy": float(ratio(hit[chosen].sum(), true.sum())),
        "mean_accuracy": float(mean(ratio(hit, truth)[chosen])),
        "mean_iou": float(mean(overlap)),
        "frequency_weighted_iou": float(ratio((true * np.nan_to_num(overlap)).sum(), true.sum())),
    }


def iou_draws(scores: Scores) -> Floats:
    """(R, K) IoU of each class in each draw of the photos; the draws of two Scores of the same photos are paired."""
    table = np.concatenate([scores.truth, scores.guess, scores.hit], axis=1)
    return iou(*np.split(resampled_sums(table), 3, axis=1))


def write_counts(scores: Scores, path: Path) -> None:
    """Keep the counts of each photo (.npz): a later run can compare with these scores without predicting again."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        class_names=np.array(scores.class_names),
        background=np.array(-1 if scores.background is None else scores.background),
        photos=np.array(scores.photos),
        confusion=scores.confusion,
        counts=np.stack([scores.truth, scores.guess, scores.hit]),
        void_pixels=np.array(scores.void_pixels),
    )
    write_bytes(path, buffer.getvalue())


def read_counts(path: Path) -> Scores:
    """The Scores that `write_counts` kept, without their edges."""
    with np.load(path, allow_pickle=False) as kept:
        background, (truth, guess, hit) = int(kept["background"]), kept["counts"]
        return Scores(
            tuple(map(str, kept["class_names"])),
            None if background < 0 else background,
            tuple(map(str, kept["photos"])),
            kept["confusion"],
            truth,
            guess,
            hit,
            int(kept["void_pixels"]),
        )


def _sums(matrix: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(K,) truth, guess and hit of a confusion matrix."""
    return matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix)


def _numbers(measures: dict[str, float]) -> dict[str, float | None]:
    return {name: number(value) for name, value in measures.items()}
