"""Nested parts of train, and the curves through what was trained on them."""

from __future__ import annotations

import numpy as np
import pytest

from fullconv.study.growth import IOU, RECALL, fitted, nested_parts


def test_parts_are_nested_and_each_size_covers_all() -> None:
    parts = nested_parts(37, seed=0)
    assert [len(part) for part in parts] == [37] * 4 + [19, 18, 10, 9, 9, 9] * 2
    for first, last in ((4, 6), (6, 10), (10, 12), (12, 16)):
        assert sorted(np.concatenate(parts[first:last])) == list(range(37))
    for halves, quarters in ((parts[4:6], parts[6:10]), (parts[10:12], parts[12:])):
        assert all(any(set(quarter) <= set(half) for half in halves) for quarter in quarters)
    assert set(parts[4]) != set(parts[10]), "the second order is another"


def test_curves_go_through_what_was_reached() -> None:
    parts = nested_parts(400, seed=0)
    has = np.ones((400, 2), bool)
    has[::4, 1] = False
    sizes = np.array([len(part) for part in parts])
    outcomes = np.full((len(parts), 3, 2), np.nan)
    outcomes[:, IOU] = (0.8 - 2 / sizes**0.5)[:, None]
    outcomes[:, RECALL, 1] = 0.9 - 1 / sizes**0.5
    growth = fitted(parts, has, outcomes)
    assert growth.images.tolist() == [400, 300]
    assert growth.curve.at(800).figure == pytest.approx(0.8 - 2 / 800**0.5, abs=0.01)
    recall = growth.recalls[1]
    assert recall is not None
    assert recall.most == 300
    assert recall.at(600).figure == pytest.approx(0.9 - 1 / 800**0.5, abs=0.01)
    assert growth.recalls[0] is None, "it was never told"


def test_a_class_that_hardly_any_training_had_gets_no_curve() -> None:
    parts = nested_parts(8, seed=0)
    has = np.zeros((8, 1), bool)
    has[parts[6][0]] = has[parts[7][0]] = True
    assert fitted(parts, has, np.full((len(parts), 3, 1), 0.5)).recalls[0] is not None
    outcomes = np.full((len(parts), 3, 1), 0.5)
    outcomes[:-3, RECALL] = np.nan
    assert fitted(parts, has, outcomes).recalls[0] is None
