"""Faults drawn into label maps: each kind does what it says, and void stays out of the count."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fullconv.labels.space import LabelSpace
from fullconv.study import faults
from fullconv.study.faults import FAULTS, spoil, wrong_pixels

VOID = 255
GROUND, CAT, DOG = range(3)
SPACE = LabelSpace(
    ("ground", "cat", "dog"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), ((0,), (1,), (2,)), (VOID,), background=GROUND
)


def scene() -> NDArray[np.uint8]:
    """Two cats with a rim of void, on the ground."""
    labels = np.full((80, 100), GROUND, np.uint8)
    for top, left in ((10, 10), (10, 60)):
        labels[top - 2 : top + 42, left - 2 : left + 32] = VOID
        labels[top : top + 40, left : left + 30] = CAT
    return labels


def dog() -> NDArray[np.uint8]:
    labels = np.full((80, 100), GROUND, np.uint8)
    labels[50:75, 30:70] = DOG
    return labels


def spoiled(kind: str, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> NDArray[np.uint8]:
    monkeypatch.setattr(faults, "FAULTS", (kind,))
    after = spoil(scene(), dog(), SPACE, np.random.default_rng(seed))
    assert after is not None
    assert after.dtype == np.uint8
    return after


def changes(after: NDArray[np.uint8]) -> set[tuple[int, int]]:
    """(before, after) of the pixels that changed."""
    wrong = wrong_pixels(scene(), after, SPACE)
    return set(zip(scene()[wrong].tolist(), after[wrong].tolist(), strict=True))


@pytest.mark.parametrize(
    ("kind", "expected", "pixels"),
    [
        ("class", {(CAT, DOG)}, 2400),
        ("thing", {(CAT, DOG)}, 1200),
        ("missing", {(CAT, GROUND)}, 1200),
        ("phantom", {(GROUND, DOG)}, None),
        ("shrunk", {(CAT, GROUND)}, None),
        ("shifted", {(CAT, GROUND), (GROUND, CAT)}, None),
    ],
)
def test_each_fault_does_what_it_says(
    kind: str, expected: set[tuple[int, int]], pixels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = spoiled(kind, monkeypatch)
    assert changes(after) == expected
    if pixels:
        assert wrong_pixels(scene(), after, SPACE).sum() == pixels


def test_a_thing_that_is_missing_leaves_no_rim_of_void(monkeypatch: pytest.MonkeyPatch) -> None:
    after = spoiled("missing", monkeypatch)
    assert (after == VOID).sum() == (scene() == VOID).sum() / 2


def test_the_seed_says_which_fault() -> None:
    kinds = [spoil(scene(), dog(), SPACE, np.random.default_rng(seed)) for seed in range(40)]
    again = [spoil(scene(), dog(), SPACE, np.random.default_rng(seed)) for seed in range(40)]
    for one, other in zip(kinds, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({None if one is None else one.tobytes() for one in kinds}) > len(FAULTS)


def test_what_has_no_things_cannot_be_spoiled() -> None:
    ground = np.full((20, 20), GROUND, np.uint8)
    assert all(spoil(ground, dog(), SPACE, np.random.default_rng(seed)) is None for seed in range(20))
    assert all(spoil(ground * 0 + VOID, dog(), SPACE, np.random.default_rng(seed)) is None for seed in range(20))


def test_a_map_of_one_class_alone_has_nothing_to_fill_with() -> None:
    cats = np.full((40, 40), CAT, np.uint8)
    for seed in range(30):
        after = spoil(cats, dog(), SPACE, np.random.default_rng(seed))
        assert after is None or set(np.unique(after)) <= {CAT, DOG}
