"""The classifier's own report. Road: measure. In: answers on photos held out. Out: records for classifier/scores.json.

Single-label: one class a photo (class folders). Multi-label: which classes are in a window (windows cut from samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import DataError
from fullconv.measure.intervals import LEVEL, METHOD, RESAMPLES, percentiles, resampled_sums
from fullconv.measure.ratios import Floats, mean, number, ratio

SCHEMA = "fullconv.classifier-scores/1"


@dataclass(frozen=True, eq=False)
class SingleLabelScores:
    """One answer a photo.

    Args:
        class_names: K names.
        truth, guess: (N,) class of each photo.
    """

    class_names: tuple[str, ...]
    truth: NDArray[np.int64]
    guess: NDArray[np.int64]

    def __post_init__(self) -> None:
        _need_answers(len(self.truth), self.truth.shape == self.guess.shape)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K) photos, row = truth."""
        size = len(self.class_names)
        return np.bincount(self.truth * size + self.guess, minlength=size * size).reshape(size, size)

    @property
    def accuracy(self) -> float:
        """Share of photos that are right."""
        return float((self.truth == self.guess).mean())

    def to_json(self) -> dict[str, Any]:
        """The document of `classifier/scores.json`."""
        matrix = self.confusion
        precision = ratio(np.diagonal(matrix), matrix.sum(axis=0))
        recall = ratio(np.diagonal(matrix), matrix.sum(axis=1))
        rows = zip(self.class_names, matrix.sum(axis=1), precision, recall, strict=True)
        return {
            **_head("single-label", len(self.truth), self.truth == self.guess),
            "mean_accuracy": number(mean(recall)),
            "classes": [
                {"id": index, "name": name, "images": int(images), "precision": number(p), "recall": number(r)}
                for index, (name, images, p, r) in enumerate(rows)
            ],
            "confusion": matrix.tolist(),
        }


@dataclass(frozen=True, eq=False)
class MultiLabelScores:
    """Any number of classes a window.

    Args:
        class_names: K names.
        truth: (N, K) bool, whether the class is in the window.
        probability: (N, K) between 0 and 1; from 0.5 on the answer is yes.
    """

    class_names: tuple[str, ...]
    truth: NDArray[np.bool_]
    probability: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        _need_answers(len(self.truth), self.truth.shape == self.probability.shape)
        if self.probability.min() < 0 or self.probability.max() > 1:
            raise ValueError("a probability lies between 0 and 1; scores go through the logistic function first")

    @property
    def accuracy(self) -> float:
        """Share of right answers over all windows and classes."""
        return float((self.truth == self._guess).mean())

    @property
    def mean_average_precision(self) -> float:
        """Mean over the classes that occur."""
        return float(mean(self._average_precision))

    @property
    def _guess(self) -> NDArray[np.bool_]:
        return self.probability >= 0.5

    @property
    def _average_precision(self) -> Floats:
        return np.array([average_precision(t, p) for t, p in zip(self.truth.T, self.probability.T, strict=True)])

    def to_json(self) -> dict[str, Any]:
        """The document of `classifier/scores.json`."""
        hit, there, said = (table.sum(axis=0) for table in (self.truth & self._guess, self.truth, self._guess))
        rows = zip(self.class_names, there, ratio(hit, said), ratio(hit, there), self._average_precision, strict=True)
        return {
            **_head("multi-label", len(self.truth), (self.truth == self._guess).mean(axis=1)),
            "mean_average_precision": number(self.mean_average_precision),
            "classes": [
                {
                    "id": index,
                    "name": name,
                    "images": int(images),
                    "precision": number(p),
                    "recall": number(r),
                    "average_precision": number(average),
                }
                for index, (name, images, p, r, average) in enumerate(rows)
            ],
        }


def average_precision(truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]) -> float:
    """Mean of the precision at each threshold, weighted by the recall it adds; equal scores are one threshold.

    Args:
        truth: (N,) whether the class is there.
        score: (N,) higher means more likely there.
    Returns: 0 to 1; NaN where the class is never there.
    Example: average_precision(np.array([True, False]), np.array([0.9, 0.1])) == 1.0
    """
    if not truth.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last_of_equals = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    hits = np.cumsum(truth[order])[last_of_equals]
    precision = hits / (last_of_equals + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / truth.sum())


def _head(kind: str, images: int, right: NDArray[Any]) -> dict[str, Any]:
    draws = resampled_sums(right[:, None])[:, 0] / images
    return {
        "schema": SCHEMA,
        "kind": kind,
        "images": images,
        "accuracy": float(right.mean()),
        "accuracy_interval": [float(end) for end in percentiles(draws)],
        "interval": {"level": LEVEL, "method": METHOD, "resamples": RESAMPLES},
    }


def _need_answers(images: int, same_shape: bool) -> None:
    assert same_shape, "truth and answers differ in shape"
    if images == 0:
        raise DataError(
            "a classifier needs photos that were held out to be measured on",
            "no photo was held out",
            "give at least two photos a class",
        )


def single_label_scores(class_names: Sequence[str], truth: Sequence[int], guess: Sequence[int]) -> SingleLabelScores:
    """The report on photos of one class each."""
    return SingleLabelScores(tuple(class_names), np.asarray(truth, np.int64), np.asarray(guess, np.int64))


def multi_label_scores(
    class_names: Sequence[str], truth: NDArray[Any], probability: NDArray[np.floating[Any]]
) -> MultiLabelScores:
    """The report on windows that hold any number of classes; both arrays (N, K)."""
    return MultiLabelScores(tuple(class_names), np.asarray(truth, bool), np.asarray(probability))
