"""Scores, against scikit-learn and the definitions; the rule for absent classes; the JSON's keys."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score, precision_score, recall_score
from tests.measure.conftest import random_pair, scores_of, small, space_of

from fullconv.labels.space import LabelSpace
from fullconv.measure.scores import read_counts, write_counts

KEYS = [
    "schema",
    "images",
    "pixels",
    "void_pixels",
    "pixel_accuracy",
    "mean_accuracy",
    "mean_iou",
    "frequency_weighted_iou",
    "without_background",
    "classes",
    "mean_iou_interval",
    "interval",
    "absent",
    "mean_iou_other_rules",
    "confusion",
    "edges",
]
CLASS_KEYS = ["id", "name", "images", "pixels", "precision", "recall", "iou", "iou_interval"]


def test_every_measure_equals_scikit_learn(space: LabelSpace) -> None:
    pairs = [random_pair(seed) for seed in range(3)]
    scores = scores_of(pairs, space)
    truth = np.concatenate([truth[truth != 255] for truth, _ in pairs])
    guess = np.concatenate([guess[truth != 255] for truth, guess in pairs])
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(truth, guess))
    assert scores.mean_accuracy == pytest.approx(balanced_accuracy_score(truth, guess))
    assert scores.mean_iou == pytest.approx(jaccard_score(truth, guess, average="macro"))
    assert scores.frequency_weighted_iou == pytest.approx(jaccard_score(truth, guess, average="weighted"))
    assert scores.iou == pytest.approx(jaccard_score(truth, guess, average=None))
    assert scores.precision == pytest.approx(precision_score(truth, guess, average=None))
    assert scores.recall == pytest.approx(recall_score(truth, guess, average=None))


def test_a_case_small_enough_to_count_by_hand() -> None:
    scores = small([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2], classes=3)
    assert scores.iou.tolist() == pytest.approx([2 / 4, 1 / 3, 1])
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores.frequency_weighted_iou == pytest.approx((3 * 2 / 4 + 2 * 1 / 3 + 1) / 6)


def test_an_absent_class_is_listed_and_not_scored() -> None:
    scores = small([0, 0, 1], [0, 0, 1], classes=4)
    assert scores.absent == ("class_2", "class_3")
    assert scores.mean_iou == 1
    assert scores.mean_iou_other_rules == {"absent_as_0": 0.5, "absent_as_1": 1.0, "truth_only": 1.0}


def test_a_class_that_is_only_predicted_scores_0() -> None:
    scores = small([0, 0, 0, 1], [0, 0, 2, 1], classes=3)
    assert scores.absent == ()
    assert scores.mean_iou == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.mean_iou_other_rules["truth_only"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert scores.to_json()["classes"][2]["recall"] is None


def test_without_background_counts_what_background_is_taken_for() -> None:
    scores = small([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2], classes=3, background=0)
    assert scores.without_background == pytest.approx(
        {
            "pixel_accuracy": 2 / 3,
            "mean_accuracy": (1 / 2 + 1) / 2,
            "mean_iou": (1 / 3 + 1) / 2,
            "frequency_weighted_iou": (2 * 1 / 3 + 1) / 3,
        }
    )


def test_without_a_background_there_is_no_figure_without_it() -> None:
    assert small([0, 1], [0, 1], classes=2).to_json()["without_background"] is None


def test_the_document_has_the_agreed_keys_in_order(space: LabelSpace) -> None:
    document = scores_of([random_pair(0), random_pair(1)], space).to_json()
    assert list(document) == KEYS
    assert [list(row) for row in document["classes"]] == [CLASS_KEYS] * 4
    assert document["schema"] == "fullconv.scores/1"
    assert document["interval"] == {"level": 0.95, "method": "percentile bootstrap over images", "resamples": 1000}
    assert list(document["without_background"]) == [
        "pixel_accuracy",
        "mean_accuracy",
        "mean_iou",
        "frequency_weighted_iou",
    ]
    json.dumps(document, allow_nan=False)


def test_pixels_images_and_void_add_up(space: LabelSpace) -> None:
    pairs = [random_pair(seed) for seed in range(2)]
    document = scores_of(pairs, space).to_json()
    assert document["pixels"] + document["void_pixels"] == sum(truth.size for truth, _ in pairs)
    assert sum(row["pixels"] for row in document["classes"]) == document["pixels"] == np.sum(document["confusion"])
    assert document["images"] == 2
    assert document["classes"][1]["images"] == 2


def test_a_class_is_in_the_images_whose_label_map_holds_it() -> None:
    first = np.array([[0, 1]], np.uint8), np.array([[2, 1]], np.uint8)
    second = np.array([[0, 0]], np.uint8), np.array([[1, 0]], np.uint8)
    document = scores_of([first, second], space_of(3)).to_json()
    assert [row["images"] for row in document["classes"]] == [2, 1, 0]


def test_photos_of_void_alone_give_nulls_and_no_warning() -> None:
    document = small([255, 255], [0, 1], classes=2).to_json()
    assert document["mean_iou"] is None
    assert document["mean_iou_interval"] == [None, None]
    assert document["absent"] == ["class_0", "class_1"]
    json.dumps(document, allow_nan=False)


def test_the_interval_holds_the_score_and_narrows_with_more_photos(space: LabelSpace) -> None:
    few, many = (scores_of([random_pair(seed) for seed in range(count)], space) for count in (5, 60))
    for scores in (few, many):
        low, high = scores.mean_iou_interval
        assert low < scores.mean_iou < high
        assert ((scores.iou_interval[:, 0] < scores.iou) & (scores.iou < scores.iou_interval[:, 1])).all()
    assert np.ptp(many.mean_iou_interval) < 0.6 * np.ptp(few.mean_iou_interval)


def test_intervals_are_the_same_every_time(space: LabelSpace) -> None:
    pairs = [random_pair(seed) for seed in range(4)]
    assert scores_of(pairs, space).to_json() == scores_of(pairs, space).to_json()


def test_kept_counts_come_back_whole(space: LabelSpace, tmp_path: Path) -> None:
    scores = scores_of([random_pair(seed) for seed in range(3)], space)
    write_counts(scores, tmp_path / "counts.npz")
    again = read_counts(tmp_path / "counts.npz")
    assert again.to_json() == scores.to_json() | {"edges": None}
    assert again.photos == scores.photos
    assert again.background == 0
