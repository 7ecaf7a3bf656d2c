"""Which regions are faults: learned from known ones, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fullconv.study.disagreements import Disagreement
from fullconv.study.suspects import Suspect, kind_of, learned, quality, signs_of

RATES = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.001, 0.999]])
THIN = Disagreement("a", (0, 0, 40, 4), 0, 1, 160, margin=0.5, depth=2, of_given=0.05, of_likely=0.1)
WHOLE = Disagreement("b", (0, 0, 40, 40), 2, 1, 1600, margin=0.8, depth=20, of_given=1.0, of_likely=0.9)


def several(of: Disagreement, number: int, seed: int) -> list[Disagreement]:
    """Regions like this one, more or less."""
    rng = np.random.default_rng(seed)
    return [
        replace(of, margin=of.margin * rng.uniform(0.7, 1.2), depth=of.depth * rng.uniform(0.5, 2))
        for _ in range(number)
    ]


def test_what_is_like_known_faults_scores_above_what_networks_err_in() -> None:
    judge = learned(several(THIN, 200, 0) + several(WHOLE, 3, 1), several(WHOLE, 60, 2), RATES)
    whole, thin = judge.scores([WHOLE, THIN])
    assert whole > 0.5
    assert thin < 0.05


def test_what_faults_look_like_is_learned_and_not_known() -> None:
    judge = learned(several(WHOLE, 200, 0), several(THIN, 60, 1), RATES)
    whole, thin = judge.scores([WHOLE, THIN])
    assert thin > whole


def test_a_score_is_the_share_of_faults_among_regions_like_it() -> None:
    """60 known faults at one in twenty weigh as much as 3 regions."""
    judge = learned(several(WHOLE, 30, 0), several(WHOLE, 60, 0), RATES)
    assert judge.scores([WHOLE])[0] == pytest.approx(3 / 33, abs=0.03)


def test_classes_that_are_often_held_for_each_other_speak_less_for_a_fault() -> None:
    often, seldom = signs_of([replace(WHOLE, given=0, likely=1), replace(WHOLE, given=0, likely=2)], RATES)
    assert seldom[3] > often[3]
    np.testing.assert_array_equal(np.delete(seldom, 3), np.delete(often, 3))


@pytest.mark.parametrize(("real", "known"), [([], [WHOLE]), ([THIN, WHOLE], []), ([], [])])
def test_without_anything_to_learn_from_the_margin_ranks(real: list[Disagreement], known: list[Disagreement]) -> None:
    whole, thin = learned(real, known, RATES).scores([WHOLE, THIN])
    assert 0 < thin < whole < 1


def test_a_sample_has_its_likeliest_errors_first_and_not_too_many() -> None:
    judge = learned(several(THIN, 200, 0), several(WHOLE, 60, 2), RATES)
    found = judge.suspects([*several(THIN, 40, 3), WHOLE])
    assert len(found) == 30
    assert (found[0].box, found[0].kind) == (WHOLE.box, "swapped")
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert judge.suspects([]) == []


def test_a_sample_s_quality_falls_with_each_suspect() -> None:
    one = Suspect("a", (0, 0, 5, 5), "missing", 0, 1, 25, 0.4)
    assert quality([]) == 1
    assert quality([one]) == pytest.approx(0.6)
    assert quality([one, one]) == pytest.approx(0.36)


@pytest.mark.parametrize(
    ("shares", "kind"),
    [((1.0, 1.0), "swapped"), ((1.0, 0.1), "phantom"), ((0.1, 1.0), "missing"), ((0.1, 0.1), "shifted")],
)
def test_the_kind_follows_from_what_of_the_thing_the_region_is(shares: tuple[float, float], kind: str) -> None:
    assert kind_of(*shares) == kind
