"""Which regions are faults: learned from known ones, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from fullconv.study.disagreements import Disagreement
from fullconv.study.suspects import SHOWN, Judge, Looked, Suspect, faulty_share, kind_of, learned, likeliest, signs

RATES = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.001, 0.999]])
THIN = Disagreement("a", (0, 0, 40, 4), 0, 1, 160, margin=0.5, odds=1.0, depth=2, of_given=0.05, of_likely=0.1)
WHOLE = Disagreement("b", (0, 0, 40, 40), 2, 1, 1600, margin=0.8, odds=2.0, depth=20, of_given=1.0, of_likely=0.9)


def several(of: Disagreement, number: int, seed: int) -> list[Disagreement]:
    """Regions like this one, more or less."""
    rng = np.random.default_rng(seed)
    return [
        replace(of, margin=of.margin * rng.uniform(0.7, 1.2), depth=of.depth * rng.uniform(0.5, 2))
        for _ in range(number)
    ]


def maps(*of: list[Disagreement], faults: bool = False, doubt: float = 0.5) -> list[Looked]:
    """One label map a list of regions, all of them the fault or none."""
    return [Looked(tuple(each), doubt, 1.0, (True,) * len(each) if faults else ()) for each in of]


def scores_of(judge: Judge, *regions: Disagreement) -> list[float]:
    """Of each, alone in a label map like any."""
    return [float(judge.scores(Looked((one,), 0.5, 1.0))[0]) for one in regions]


def each(regions: list[Disagreement]) -> list[list[Disagreement]]:
    return [[one] for one in regions]


def test_what_is_like_known_faults_scores_above_what_networks_err_in() -> None:
    sound = maps(*each(several(THIN, 200, 0) + several(WHOLE, 3, 1)))
    judge = learned(sound, maps(*each(several(WHOLE, 60, 2)), faults=True), RATES)
    whole, thin = scores_of(judge, WHOLE, THIN)
    assert whole > 0.5
    assert thin < 0.05


def test_what_faults_look_like_is_learned_and_not_known() -> None:
    judge = learned(maps(*each(several(WHOLE, 200, 0))), maps(*each(several(THIN, 60, 1)), faults=True), RATES)
    whole, thin = scores_of(judge, WHOLE, THIN)
    assert thin > whole


def test_regions_of_a_spoiled_map_that_are_not_its_fault_teach_nothing() -> None:
    sound = maps(*each(several(THIN, 200, 0)))
    both = [Looked((*faulty.regions, THIN), 0.5, 1.0, (True, False)) for faulty in maps(*each(several(WHOLE, 60, 2)))]
    alone = maps(*each(several(WHOLE, 60, 2)), faults=True)
    np.testing.assert_allclose(*(learned(sound, known, RATES).weights for known in (both, alone)))


def test_a_score_is_the_share_of_faults_among_regions_like_it() -> None:
    """60 known faults at one in twenty weigh as much as 3 regions."""
    judge = learned(maps(*each(several(WHOLE, 30, 0))), maps(*each(several(WHOLE, 60, 0)), faults=True), RATES)
    alike = replace(judge, share=0.0)  # nothing is said of label maps
    assert scores_of(alike, WHOLE)[0] == pytest.approx(3 / 33, abs=0.03)


def test_classes_that_are_often_held_for_each_other_speak_less_for_a_fault() -> None:
    often, seldom = signs([replace(WHOLE, given=0, likely=1), replace(WHOLE, given=0, likely=2)], RATES)
    assert seldom[3] > often[3]
    np.testing.assert_array_equal(np.delete(seldom, 3), np.delete(often, 3))


@pytest.mark.parametrize(("real", "known"), [([], [WHOLE]), ([THIN, WHOLE], []), ([], [])])
def test_without_anything_to_learn_from_the_margin_ranks(real: list[Disagreement], known: list[Disagreement]) -> None:
    judge = learned(maps(*each(real)), maps(*each(known), faults=True), RATES)
    whole, thin = scores_of(judge, WHOLE, THIN)
    assert 0 < thin < whole < 1
    assert 0 < judge.quality(Looked((WHOLE,), 0.5, 1.0)) < 1


def test_a_sample_has_its_likeliest_errors_first_and_not_too_many() -> None:
    judge = learned(maps(*each(several(THIN, 200, 0))), maps(*each(several(WHOLE, 60, 2)), faults=True), RATES)
    found = judge.suspects(Looked((*several(THIN, 40, 3), WHOLE), 0.5, 1.0))
    assert len(found) == 30
    assert (found[0].box, found[0].kind) == (WHOLE.box, "swapped")
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert judge.suspects(Looked((), 0.5, 1.0)) == []


def with_doubt() -> Judge:
    """Learned where spoiled label maps are in more doubt, and stranger."""
    rng = np.random.default_rng(0)

    def looked(of: Disagreement, number: int, low: float, high: float) -> list[Looked]:
        return [Looked((one,), *rng.uniform(low, high, 2), (True,)) for one in several(of, number, number)]

    return learned(looked(THIN, 200, 0, 1), looked(WHOLE, 60, 1, 3), RATES)


def test_a_label_map_s_quality_falls_with_doubt_and_with_strangeness() -> None:
    judge = with_doubt()
    sound, in_doubt, strange, both = (
        judge.quality(Looked((), *each)) for each in ((0.5, 0.5), (2.5, 0.5), (0.5, 2.5), (2.5, 2.5))
    )
    assert 1 >= sound > max(in_doubt, strange)
    assert min(in_doubt, strange) > both > 0
    assert sound > 0.9


def test_what_speaks_against_a_label_map_counts_for_each_of_its_regions() -> None:
    judge = with_doubt()
    usual, doubtful = (Looked((THIN, WHOLE), doubt, 0.5) for doubt in (0.5, 2.5))
    assert judge.against(usual) < judge.against(doubtful)
    more = logit(judge.scores(doubtful)) - logit(judge.scores(usual))
    np.testing.assert_allclose(more, judge.against(doubtful) - judge.against(usual))
    assert logit(1 - judge.quality(doubtful)) == pytest.approx(judge.against(doubtful) + np.log(judge.share))


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_the_share_of_faulty_label_maps_is_told_from_how_high_they_rank(share: float) -> None:
    rng = np.random.default_rng(0)
    faulty, sound = rng.normal(3, 1, round(1000 * share)), rng.normal(0, 1, round(1000 * (1 - share)))
    told = faulty_share(np.concatenate([faulty, sound]), rng.normal(3, 1, 400))
    assert told == pytest.approx(share, rel=0.5)
    assert faulty_share(sound, rng.normal(3, 1, 400)) < 0.03
    assert faulty_share(sound, rng.normal(3, 1, 10)) == 0.05, "too few to tell"


def test_as_many_label_maps_as_are_estimated_faulty_hold_most_of_the_faults() -> None:
    rng = np.random.default_rng(0)

    def looked(regions: list[Disagreement], doubt: float) -> list[Looked]:
        return [Looked((one,), *rng.uniform(doubt, doubt + 1, 2), (True,)) for one in regions]

    maps = [*looked(several(THIN, 300, 0), 0.0), *looked(several(WHOLE, 100, 1), 0.8)]
    judge = learned(maps, looked(several(WHOLE, 300, 2), 0.8), RATES)
    assert judge.share == pytest.approx(0.25, rel=0.3)
    order = np.argsort([judge.quality(one) for one in maps])
    assert np.mean(order[: round(judge.share * 400)] >= 300) > 0.9


@pytest.mark.parametrize(
    ("shares", "kind"),
    [((1.0, 1.0), "swapped"), ((1.0, 0.1), "phantom"), ((0.1, 1.0), "missing"), ((0.1, 0.1), "shifted")],
)
def test_the_kind_follows_from_what_of_the_thing_the_region_is(shares: tuple[float, float], kind: str) -> None:
    assert kind_of(*shares) == kind


def test_of_each_sample_the_likeliest_error_is_shown() -> None:
    found = [Suspect(f"{at // 2}", (0, 0, 9, 9), "swapped", 0, 1, 81, 1 - at / 100) for at in range(2 * SHOWN + 6)]
    assert likeliest(found) == tuple(found[: 2 * SHOWN : 2])
