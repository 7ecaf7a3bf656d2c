"""The bootstrap, against drawing photos one by one."""

from __future__ import annotations

import numpy as np
import pytest

from fullconv.base.seeds import rng
from fullconv.measure import intervals
from fullconv.measure.intervals import percentiles, resampled_sums


def test_sums_equal_adding_up_the_drawn_photos_one_by_one() -> None:
    counts = np.random.default_rng(0).integers(0, 1000, (7, 3))
    draws = rng(5, "bootstrap").multinomial(7, np.full(7, 1 / 7), size=20)
    expected = [
        [sum(times * row[column] for times, row in zip(draw, counts, strict=True)) for column in range(3)]
        for draw in draws
    ]
    assert np.array_equal(resampled_sums(counts, resamples=20, seed=5), expected)


def test_working_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(1).integers(0, 1000, (9, 2))
    whole = resampled_sums(counts)
    monkeypatch.setattr(intervals, "_CELLS_A_BLOCK", 40)
    assert np.array_equal(resampled_sums(counts), whole)


def test_percentiles_leave_out_undefined_draws() -> None:
    values = np.column_stack([np.arange(101.0), np.full(101, np.nan)])
    values[:1, 0] = np.nan
    low, high = percentiles(values)
    assert low[0] == pytest.approx(3.475)
    assert high[0] == pytest.approx(97.525)
    assert np.isnan([low[1], high[1]]).all()


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(200):
        sample = np.random.default_rng(seed).integers(0, 11, (80, 1))
        low, high = percentiles(resampled_sums(sample, resamples=300, seed=seed)[:, 0] / 80)
        held += bool(low <= 5 <= high)
    assert 180 <= held <= 198
