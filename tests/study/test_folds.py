"""Folds: every sample of train is looked at by a network that has not seen it, nor a copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.study.test_doctor import samples

from fullconv.base.errors import UsageError
from fullconv.base.files import read_json, write_json
from fullconv.data.read import read_samples
from fullconv.data.split import Item
from fullconv.study.case import read_case
from fullconv.study.folds import folds_of, unseen


@given(
    contents=st.lists(st.integers(0, 30), min_size=12, max_size=60),
    classes=st.data(),
    seed=st.integers(0, 5),
)
def test_folds_part_the_items_and_keep_copies_together(contents: list[int], classes: st.DataObject, seed: int) -> None:
    if len(set(contents)) < 8:
        return
    items = [
        Item(f"{place:02d}", frozenset(classes.draw(st.sets(st.integers(0, 3), max_size=3))), str(content))
        for place, content in enumerate(contents)
    ]
    folds = folds_of(items, seed=seed)
    assert sorted(name for fold in folds for name in fold) == sorted(item.name for item in items)
    for content in map(str, contents):
        assert sum(any(item.name in fold for item in items if item.content == content) for fold in folds) == 1
    assert folds == folds_of(items[::-1], seed=seed)


def test_folds_are_of_about_equal_size_with_every_class() -> None:
    items = [Item(f"{place:03d}", frozenset({0, 1 + place % 5}), str(place)) for place in range(120)]
    for fold in folds_of(items, seed=0):
        assert 36 <= len(fold) <= 44
        assert {next(iter(item.classes - {0})) for item in items if item.name in fold} == {1, 2, 3, 4, 5}


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="2 samples of train"):
        folds_of([Item("a", frozenset({0}), "1"), Item("b", frozenset({1}), "2")], seed=0)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """What an earlier run leaves behind, as far as the folds look at it."""
    data = samples(tmp_path / "data")
    (data / "images/train/00_again.jpg").write_bytes((data / "images/train/00.jpg").read_bytes())
    (data / "masks/train/00_again.png").write_bytes((data / "masks/train/00.png").read_bytes())
    write_json(tmp_path / "run" / "samples.json", read_samples(data).to_json())
    write_json(tmp_path / "run" / "bundle" / "card.json", {})
    return tmp_path / "run"


def test_no_network_looks_at_what_it_learned_from(earlier: Path, tmp_path: Path) -> None:
    learned: dict[Path, set[str]] = {}

    def again(splits: Path, folder: Path) -> Path:
        read = read_samples(tmp_path / "data", splits=splits)
        assert {one.name for one in read.val} & {one.name for one in read.train} == set()
        learned[folder] = {one.name for one in read.train}
        return folder

    parts = unseen(read_case(tmp_path / "data"), earlier, tmp_path / "folds", again, seed=0)
    train = {one["name"] for one in read_json(earlier / "samples.json")["splits"]["train"]}
    assert len(train) == 13
    learned[earlier / "bundle"] = train
    for part in parts:
        names = {one.name for one in part.samples}
        assert names
        assert not names & learned[part.bundle]
        assert not {"00", "00_again"} & names or not {"00", "00_again"} & learned[part.bundle], "a copy is no stranger"
    assert sorted(one.name for part in parts for one in part.samples) == sorted(
        one.name for one in read_case(tmp_path / "data").samples.values()
    )


def test_a_folder_without_a_run_and_a_run_of_other_samples_are_refused(earlier: Path, tmp_path: Path) -> None:
    case = read_case(tmp_path / "data")
    with pytest.raises(UsageError, match="no samples"):
        unseen(case, tmp_path / "nothing", tmp_path / "folds", lambda *_: tmp_path, seed=0)
    document = read_json(earlier / "samples.json")
    document["label_space"]["classes"][1]["name"] = "horse"
    write_json(earlier / "samples.json", document)
    with pytest.raises(UsageError, match="has others"):
        unseen(case, earlier, tmp_path / "folds", lambda *_: tmp_path, seed=0)
