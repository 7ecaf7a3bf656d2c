"""Learning curves: intervals that hold the truth as often as they say, and numbers of samples that give the figure."""

from __future__ import annotations

import numpy as np
import pytest

from fullconv.study.curve import fit_curve

SIZES = np.repeat([25, 50, 100, 200], 3)


def truth(samples: float, end: float = 0.8, rise: float = 0.15, power: float = 0.5) -> float:
    return end - rise * (samples / 200) ** -power


def noisy(seed: int, **shape: float) -> np.ndarray:
    """Trainings on fewer samples stray more: by one over their number."""
    strays = np.random.default_rng(seed).normal(0, 0.005, len(SIZES)) * 200 / SIZES
    return np.array([truth(n, **shape) for n in SIZES]) + strays


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        ({}, 0.85),
        ({"power": 1.2}, 0.85),
        ({"power": 0.25, "end": 0.9, "rise": 0.3}, 0.8),  # far from what is expected of a power
        ({"rise": 0.02}, 0.85),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(shape: dict[str, float], share: float) -> None:
    fits = [fit_curve(SIZES, noisy(seed, **shape)).at(400) for seed in range(40)]
    held = [one.low <= truth(400, **shape) <= one.high for one in fits]
    assert np.mean(held) >= share
    assert np.mean([one.high - one.low for one in fits]) < 0.05


def test_what_was_measured_without_noise_goes_on_as_it_began() -> None:
    curve = fit_curve(SIZES, [truth(n) for n in SIZES])
    assert curve.at(400).figure == pytest.approx(truth(400), abs=0.005)
    assert curve.gain(400).figure == pytest.approx(truth(400) - truth(200), abs=0.005)


def test_the_number_of_samples_is_that_where_the_curve_has_the_figure() -> None:
    curve = fit_curve(SIZES, noisy(0))
    middle, best, worst = curve.samples_for(curve.at(800).figure)
    assert best < middle < worst
    assert middle == pytest.approx(800, rel=0.25)
    assert curve.samples_for(1.01) == (np.inf,) * 3


def test_figures_that_do_not_rise_promise_little() -> None:
    gain = fit_curve(SIZES, 0.6 + np.random.default_rng(0).normal(0, 0.001, len(SIZES)) * 200 / SIZES).gain(400)
    assert -0.02 < gain.low < 0 < gain.high < 0.02


def test_a_figure_that_falls_is_reached_while_it_is_not_below() -> None:
    curve = fit_curve(SIZES, [truth(n, end=0.6, rise=-0.1) for n in SIZES])
    assert curve.at(400).figure < truth(200, end=0.6, rise=-0.1)
    assert curve.samples_for(0.65)[0] == 200
    assert curve.samples_for(0.75)[0] == np.inf


def test_figures_that_fall_give_a_curve_all_the_same() -> None:
    expected = fit_curve([100, 200], [0.9, 0.5]).at(400)
    assert 0 <= expected.low <= expected.high <= 1


def test_more_trainings_on_the_same_samples_tell_more_but_not_as_much_as_other_samples_would() -> None:
    sizes = np.array([200, 100, 100, 50, 50, 50, 50])
    figures = [truth(n) for n in sizes] + np.array([0, 0.01, -0.01, 0.02, -0.02, 0.02, -0.02])

    def width(trainings: float) -> float:
        at = fit_curve(sizes, figures, [trainings, *[1] * 6]).at(200)
        return at.high - at.low

    assert width(1000) < width(4) < width(1) < 2 * width(1000)


def test_what_strays_less_with_fewer_samples_leans_less_on_the_most() -> None:
    figures = np.array([truth(n) for n in SIZES]) + np.where(SIZES == 200, 0.02, 0)
    by_number, by_root = (fit_curve(SIZES, figures, strays=strays).at(200).figure for strays in (1.0, 0.5))
    assert truth(200) < by_root < by_number
