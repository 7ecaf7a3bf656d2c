"""The classifier's report, against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, confusion_matrix, precision_score, recall_score

from fullconv.base.errors import DataError
from fullconv.measure.classification import average_precision, multi_label_scores, single_label_scores

NAMES = ("cat", "cow", "dog")


def test_single_label_measures_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    document = single_label_scores(NAMES, truth.tolist(), guess.tolist()).to_json()
    assert document["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert document["confusion"] == confusion_matrix(truth, guess).tolist()
    assert [row["precision"] for row in document["classes"]] == pytest.approx(
        precision_score(truth, guess, average=None)
    )
    assert [row["recall"] for row in document["classes"]] == pytest.approx(recall_score(truth, guess, average=None))
    low, high = document["accuracy_interval"]
    assert low < document["accuracy"] < high


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30).filter(
        lambda x: any(t for t, _ in x)
    )
)
@settings(deadline=None, max_examples=80)
def test_average_precision_equals_scikit_learn_with_ties(answers: list[tuple[bool, int]]) -> None:
    truth, score = np.array([t for t, _ in answers]), np.array([s / 5 for _, s in answers])
    assert average_precision(truth, score) == pytest.approx(average_precision_score(truth, score))


def test_average_precision_of_a_class_that_never_occurs_is_undefined() -> None:
    assert np.isnan(average_precision(np.zeros(3, bool), np.arange(3.0)))


def test_multi_label_measures_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((40, 3)) < 0.4
    probability = (0.5 * truth + 0.75 * rng.random((40, 3))).clip(0, 1)
    scores = multi_label_scores(NAMES, truth, probability)
    document = scores.to_json()
    assert document["kind"] == "multi-label"
    assert [scores.accuracy, document["accuracy"]] == pytest.approx([(truth == (probability >= 0.5)).mean()] * 2)
    assert document["mean_average_precision"] == pytest.approx(average_precision_score(truth, probability))
    guess = probability >= 0.5
    assert [row["precision"] for row in document["classes"]] == pytest.approx(
        precision_score(truth, guess, average=None)
    )
    assert [row["recall"] for row in document["classes"]] == pytest.approx(recall_score(truth, guess, average=None))


def test_the_documents_have_the_agreed_keys() -> None:
    single = single_label_scores(NAMES, [0, 1], [0, 0]).to_json()
    multi = multi_label_scores(NAMES, np.eye(3)[:2], np.eye(3)[:2]).to_json()
    head = ["schema", "kind", "images", "accuracy", "accuracy_interval", "interval"]
    assert list(single) == [*head, "mean_accuracy", "classes", "confusion"]
    assert list(multi) == [*head, "mean_average_precision", "classes"]
    assert single["schema"] == multi["schema"] == "fullconv.classifier-scores/1"
    assert single["classes"][2] == {"id": 2, "name": "dog", "images": 0, "precision": None, "recall": None}
    json.dumps([single, multi], allow_nan=False)


def test_no_photo_held_out_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="at least two photos a class"):
        single_label_scores(NAMES, [], [])
