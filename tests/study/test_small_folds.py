"""Small networks judge label maps that they have not seen, by folds, and go on where they were stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fullconv as fc
from fullconv.data.scenes import write_scenes
from fullconv.study import small_folds
from fullconv.study.small import Small, cells_seen, enlarged, guess, shrink_samples, train_small
from fullconv.study.small_folds import seen_by_others
from fullconv.study.suspects import Suspect, WrongLabels
from fullconv.study.wrong_labels import at_own_size

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, ...]:
    root = tmp_path_factory.mktemp("folds")
    write_scenes(root / "scenes", train=7, val=1, size=(90, 150))
    return shrink_samples(fc.read_samples(root / "scenes").train, root / "small")


def rounds(small: tuple[Small, ...]) -> list[list[list[str]]]:
    names = [one.name for one in small]
    return [[names[:2], names[2:4], names[4:]], [names[::3], names[1::3], names[2::3]]]


def test_no_network_judges_what_it_was_trained_on(
    small: tuple[Small, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    asked: list[set[str]] = []

    def train(samples: list[Small], *, seed: int) -> object:
        trained.append({one.name for one in samples})
        asked.append(set())
        return train_small(samples, seed=seed)

    def look(head: object, one: Small) -> object:
        asked[-1].add(one.name)
        return cells_seen(head, one)  # type: ignore[arg-type]

    monkeypatch.setattr(small_folds, "train_small", train)
    monkeypatch.setattr(small_folds, "cells_seen", look)
    seen = list(seen_by_others(small, rounds(small), tmp_path, seed=0)("looking", None))
    assert asked == [set(fold) for folds in rounds(small) for fold in folds]
    everything = {one.name for one in small}
    assert all(
        not known & judged and known | judged == everything for known, judged in zip(trained, asked, strict=True)
    )
    for (name, labels, shares), one in zip(seen, small, strict=True):
        assert (name, shares.shape[1:]) == (one.name, one.size)
        np.testing.assert_array_equal(labels, one.labels())
        np.testing.assert_allclose(shares.sum(0), 1, atol=0.01)


def test_other_folds_are_other_networks(small: tuple[Small, ...], tmp_path: Path) -> None:
    first, other = rounds(small)
    by_first, by_other, again = (
        [shares for _, _, shares in seen_by_others(small, [folds], tmp_path, seed=0)("looking", None)]
        for folds in (first, other, first)
    )
    np.testing.assert_array_equal(by_first, again)
    assert np.abs(np.array(by_first) - np.array(by_other)).mean() > 1e-3


def test_what_is_kept_is_not_trained_again_and_some_can_be_asked_for(
    small: tuple[Small, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {
        name: shares for name, _, shares in seen_by_others(small, rounds(small), tmp_path, seed=0)("looking", None)
    }
    next(tmp_path.rglob("*.npy")).unlink()
    trained: list[int] = []

    def train(samples: list[Small], *, seed: int) -> object:
        trained.append(seed)
        return train_small(samples, seed=seed)

    monkeypatch.setattr(small_folds, "train_small", train)
    seen = seen_by_others(small, rounds(small), tmp_path, seed=0)
    assert len(trained) == 1
    (again,) = seen("looking", {small[2].name})
    assert again[0] == small[2].name
    np.testing.assert_allclose(again[2], before[small[2].name], atol=1e-3)


def test_cells_enlarged_are_what_the_head_gives(small: tuple[Small, ...]) -> None:
    head = train_small(small, seed=0)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    whole = guess(head, small[0]).numpy()
    np.testing.assert_allclose(
        enlarged(cells_seen(head, small[0])[1].numpy(), small[0].size)[inner], whole[inner], atol=1e-4
    )


def test_what_was_found_on_small_photos_lies_where_it_is_on_large_ones(small: tuple[Small, ...]) -> None:
    one = Suspect(small[0].name, (10, 20, 40, 60), "swapped", 1, 0, 900, 0.9)
    ids = np.zeros(small[0].size, np.uint8)
    ids[10:40, 20:60] = 1
    found = WrongLabels((one,), {one.sample: 0.1}, (one.sample,), np.eye(2, dtype=np.int64), {one.sample: ids})
    large = at_own_size(found, small, {sample.name: (180, 300) for sample in small})
    assert large.suspects[0].box == (20, 40, 80, 120)
    assert large.suspects[0].pixels == 3600
    rows, columns = np.nonzero(large.guesses[one.sample])
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (20, 80, 40, 120)
    assert (large.quality, large.doubtful) == (found.quality, found.doubtful)
