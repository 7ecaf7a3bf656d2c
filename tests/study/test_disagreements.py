"""Regions that a network holds for another class: which pixels they are, and what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fullconv.labels.space import LabelSpace
from fullconv.study import disagreements as station
from fullconv.study.disagreements import Disagreement, Trust, disagreements, doubt, strangeness
from fullconv.study.suspects import kind_of

VOID = 255
GROUND, CAT, DOG = range(3)
SPACE = LabelSpace(("ground", "cat", "dog"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), ((0,), (1,), (2,)))
SURE = np.full(3, 0.5, np.float32)


def found_in(
    labels: NDArray[np.uint8], probabilities: NDArray[np.float32], thresholds: NDArray[np.float32]
) -> list[Disagreement]:
    return [one for one, _ in disagreements("a", labels, probabilities, thresholds)]


def sees(truth: NDArray[np.uint8], probability: float = 0.9, classes: int = 3) -> NDArray[np.float32]:
    """(K, H, W) of a network that holds each pixel for its class, with this probability."""
    rest = (1 - probability) / (classes - 1)
    return np.where(truth[None] == np.arange(classes)[:, None, None], probability, rest).astype(np.float32)


def scene(*things: tuple[int, int, int, int, int]) -> NDArray[np.uint8]:
    """A ground of 80 x 100 with rectangles: class, top, left, bottom, right."""
    labels = np.full((80, 100), GROUND, np.uint8)
    for which, top, left, bottom, right in things:
        labels[top:bottom, left:right] = which
    return labels


CAT_LEFT, DOG_RIGHT = (CAT, 20, 10, 50, 40), (DOG, 20, 60, 50, 90)


@pytest.mark.parametrize(
    ("drawn", "kind", "classes", "box"),
    [
        (scene((DOG, *CAT_LEFT[1:]), DOG_RIGHT), "swapped", (DOG, CAT), (20, 10, 50, 40)),
        (scene(DOG_RIGHT), "missing", (GROUND, CAT), (20, 10, 50, 40)),
        (scene(CAT_LEFT, DOG_RIGHT, (CAT, 55, 45, 75, 58)), "phantom", (CAT, GROUND), (55, 45, 75, 58)),
        (scene((CAT, 20, 10, 58, 40), DOG_RIGHT), "shifted", (CAT, GROUND), (50, 10, 58, 40)),
        (scene((CAT, 20, 10, 42, 40), DOG_RIGHT), "shifted", (GROUND, CAT), (42, 10, 50, 40)),
    ],
)
def test_a_wrong_region_is_found_with_its_kind(
    drawn: NDArray[np.uint8], kind: str, classes: tuple[int, int], box: tuple[int, ...]
) -> None:
    (found,) = found_in(drawn, sees(scene(CAT_LEFT, DOG_RIGHT)), SURE)
    assert (kind_of(found.of_given, found.of_likely), (found.given, found.likely), found.box) == (kind, classes, box)
    height, width = box[2] - box[0], box[3] - box[1]
    assert found.pixels == height * width
    assert found.depth == -(-min(height, width) // 2)
    assert found.margin == pytest.approx(0.85, abs=1e-6)
    assert found.odds == pytest.approx(np.log(0.9 / 0.05), abs=0.02)


def test_void_is_never_held_for_anything_and_a_region_ends_there() -> None:
    drawn = scene(DOG_RIGHT)
    drawn[20:50, 10:30] = VOID
    (found,) = found_in(drawn, sees(scene(CAT_LEFT, DOG_RIGHT)), SURE)
    assert found.box == (20, 30, 50, 40)


def test_what_is_right_has_no_regions() -> None:
    truth = scene(CAT_LEFT, DOG_RIGHT)
    assert found_in(truth, sees(truth), SURE) == []


def test_a_class_must_be_as_probable_as_where_it_is_given() -> None:
    drawn, seen = scene(DOG_RIGHT), sees(scene(CAT_LEFT, DOG_RIGHT), 0.6)
    assert found_in(drawn, seen, np.float32([0.5, 0.7, 0.5])) == []
    assert len(found_in(drawn, seen, np.float32([0.5, 0.55, 0.5]))) == 1


@given(seed=st.integers(0, 2**32 - 1))
def test_the_pixels_are_those_of_confident_learning(seed: int) -> None:
    """Pixel by pixel: the most probable of the classes that reach their thresholds, where it is not the given one."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), (9, 11)).transpose(2, 0, 1).astype(np.float32)
    labels = rng.choice([0, 1, 2, 3, VOID], (9, 11)).astype(np.uint8)
    thresholds = rng.uniform(0.2, 0.6, 4).astype(np.float32)
    expected = np.zeros((9, 11), bool)
    for place in np.ndindex(9, 11):
        reached = [k for k in range(4) if probabilities[k][place] >= thresholds[k]]
        likely = max(reached, key=lambda k: probabilities[k][place], default=labels[place])
        expected[place] = labels[place] != VOID and likely != labels[place]
    found = np.zeros((9, 11), int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(station, "_SMALLEST", 1)
        for one, region in disagreements("a", labels, probabilities, thresholds):
            top, left, bottom, right = one.box
            found[top:bottom, left:right] += region
            assert set(labels[top:bottom, left:right][region]) == {one.given}
    np.testing.assert_array_equal(found, expected)


def test_doubt_is_that_of_the_hundredth_of_the_pixels_that_are_least_probable() -> None:
    truth = scene(CAT_LEFT, DOG_RIGHT)
    seen, few, many = sees(truth, 0.99), truth.copy(), truth.copy()
    few[25:29, 15:25], many[:60] = DOG, CAT  # 40 and some 3,000 of 8,000 pixels
    sure, unsure = -np.log(0.99), -np.log(0.005)
    assert doubt(truth, seen) == pytest.approx(sure, rel=1e-4)
    assert doubt(few, seen) == pytest.approx((sure + unsure) / 2, rel=1e-4)
    assert doubt(many, seen) == pytest.approx(unsure, rel=1e-4)
    few[25:29, 15:25] = VOID
    assert doubt(few, seen) == pytest.approx(sure, rel=1e-4)
    assert doubt(np.full_like(truth, VOID), seen) == 0
    assert doubt(many, np.round(seen)) == pytest.approx(-np.log(1e-4)), "no infinity where a class is impossible"


def test_strange_is_a_label_map_that_is_held_for_what_its_classes_are_seldom_held_for() -> None:
    """160 of 8,000 pixels: a fiftieth. The network gives 0.9 to what it sees, 0.05 to each other."""
    truth, drawn = scene(CAT_LEFT, DOG_RIGHT), scene(CAT_LEFT, DOG_RIGHT)
    drawn[20:36, 10:20] = DOG  # held for cat
    rates = np.array([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 0.8]])
    odds = np.log(0.9 / 0.05)
    assert strangeness(truth, sees(truth), rates) == 0
    assert strangeness(drawn, sees(truth), rates) == pytest.approx(-odds * np.log(0.2 + 1e-3), rel=1e-4)
    rates[2, 1] = 0.0
    assert strangeness(drawn, sees(truth), rates) == pytest.approx(-odds * np.log(1e-3), rel=1e-4)
    drawn[20:28, 10:20] = CAT
    assert strangeness(drawn, sees(truth), rates) == pytest.approx(-odds * np.log(1e-3) / 2, rel=1e-4)
    assert strangeness(np.full_like(truth, VOID), sees(truth), rates) == 0


def trusted(parts: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]) -> Trust:
    trust = Trust.nothing(SPACE)
    for labels, probabilities in parts:
        trust.add(labels, probabilities)
    return trust


def test_thresholds_are_the_mean_probability_where_a_class_is_given() -> None:
    cats, dogs = np.full((4, 5), CAT, np.uint8), np.full((7, 3), DOG, np.uint8)
    dogs[0] = VOID
    trust = trusted([(cats, sees(cats, 0.9)), (cats[:2], sees(cats[:2], 0.6)), (dogs, sees(dogs, 0.7))])
    assert trust.thresholds()[CAT] == pytest.approx((20 * 0.9 + 10 * 0.6) / 30, abs=1e-6)
    assert trust.thresholds()[DOG] == pytest.approx(0.7, abs=1e-6)
    assert trust.thresholds()[GROUND] > 1, "a class given nowhere is never likely"
    assert trust.rates().tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert trust.pixels.tolist() == [[0, 0, 0], [0, 30, 0], [0, 0, 18]]
