"""The last layer fitted anew: the optimum, and what one sample does to it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fullconv.study.refit import DECAY, Cells, effects, measures, refit

EVEN, UNEVEN = (1.0, 1.0, 1.0), (0.3, 1.0, 1.7)


def cells(seed: int, weights: tuple[float, ...] = EVEN, samples: int = 30, each: int = 20) -> Cells:
    """Three overlapping classes in four dimensions; a tenth of the cells does not count."""
    classes = len(weights)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (samples, each))
    centres = np.random.default_rng(0).normal(0, 1.2, (classes, 4))
    features = centres[labels] + rng.normal(0, 1, (samples, each, 4))
    labels = np.where(rng.random(labels.shape) < 0.1, classes, labels)
    ones = np.ones((samples, each, 1))
    return Cells(np.concatenate([features, ones], 2).astype(np.float32), labels, np.array(weights))


@pytest.mark.parametrize("weights", [EVEN, UNEVEN])
def test_the_fit_is_that_of_logistic_regression(weights: tuple[float, ...]) -> None:
    train = cells(1, weights)
    features, truth, _ = train.counted()
    counts = (truth @ weights) * len(features) / (truth @ weights).sum()
    oracle = LogisticRegression(C=1 / (DECAY * len(features)), fit_intercept=False, tol=1e-8, max_iter=10_000)
    oracle.fit(features, truth.argmax(1), counts)
    guess = features @ refit(train)
    guess = np.exp(guess) / np.exp(guess).sum(1, keepdims=True)
    np.testing.assert_allclose(guess, oracle.predict_proba(features), atol=2e-3)


def test_cells_that_do_not_count_change_nothing() -> None:
    train = cells(1)
    changed = Cells(np.where((train.labels == 3)[..., None], 9.0, train.features), train.labels, train.weights)
    np.testing.assert_allclose(refit(changed), refit(train))


def test_measures_are_those_of_certain_answers() -> None:
    train = cells(1)
    features, truth, _ = train.counted()
    sure = refit(train) * 1e4  # probabilities of 0 and 1
    answers = np.eye(3)[(features @ sure).argmax(1)]
    hits = (answers * truth).sum(0)
    expected = np.stack([hits / truth.sum(0), hits / answers.sum(0)])
    np.testing.assert_allclose(measures(train, sure), expected, atol=1e-6)


@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize("weights_of_classes", [EVEN, UNEVEN])
def test_an_effect_is_what_leaving_the_sample_out_takes_away(
    spoiled: bool, weights_of_classes: tuple[float, ...]
) -> None:
    train, val = cells(1, weights_of_classes), cells(2)
    if spoiled:
        train.labels[:5] = np.where(train.labels[:5] < 3, (train.labels[:5] + 1) % 3, 3)
    weights = refit(train)
    told = effects(train, val, weights)
    assert told.shape == (30, 2, 3)
    left_out = np.array([measures(val, refit(train.of(np.arange(30) != place), weights)) for place in range(30)])
    truly = measures(val, weights) - left_out
    for what in range(2):
        for index in range(3):
            assert np.corrcoef(told[:, what, index], truly[:, what, index])[0, 1] > 0.97
            assert np.polyfit(told[:, what, index], truly[:, what, index], 1)[0] == pytest.approx(1, rel=0.4)
    if spoiled:
        assert told[:5].mean() < 0 < told[5:].mean(), "wrong labels cost recall and precision"
