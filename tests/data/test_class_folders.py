"""Class folders: one folder of photos a class, some held out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from drawn_folders import paired, photo

from fullconv.base.errors import LabelSpaceError, LayoutUnknown, SplitError, UnreadableImage
from fullconv.data.formats.class_folders import ClassFolders, read_class_folders


def folders(root: Path, number: int = 10, names: tuple[str, ...] = ("cat", "dog"), first: int = 0) -> Path:
    for label, name in enumerate(names):
        for index in range(number):
            photo(root / f"{name}/{index}.jpg", 1000 * label + first + index)
    return root


def in_class(found: ClassFolders, side: str, label: int) -> int:
    return sum(item.label == label for item in getattr(found, side))


def test_a_fifth_of_each_class_is_held_out_by_seed(tmp_path: Path) -> None:
    found = read_class_folders(folders(tmp_path))
    assert found.class_names == ("cat", "dog")
    assert [in_class(found, side, label) for side in ("train", "val") for label in (0, 1)] == [8, 8, 2, 2]
    assert found.val == read_class_folders(tmp_path).val
    assert found.val != read_class_folders(tmp_path, seed=5).val
    assert len(read_class_folders(tmp_path, share=0.5).val) == 10


def test_train_and_val_folders_are_taken_as_given_and_test_is_not_touched(tmp_path: Path) -> None:
    folders(tmp_path / "train", 4)
    folders(tmp_path / "test", 3, first=700)
    found = read_class_folders(tmp_path)
    assert (len(found.train), len(found.val)) == (6, 2)
    folders(tmp_path / "val", 2, first=500)
    found = read_class_folders(tmp_path)
    assert (len(found.train), len(found.val)) == (8, 4)
    assert not any("test" in item.path.parts for item in (*found.train, *found.val))


def test_exact_duplicates_are_on_one_side(tmp_path: Path) -> None:
    for name, label in (("cat", 0), ("dog", 100)):
        for index in range(12):
            photo(tmp_path / f"{name}/{index}.png", label + index // 3)
    for seed in range(8):
        found = read_class_folders(tmp_path, seed=seed)
        sides = [{(item.label, int(item.path.stem) // 3) for item in part} for part in (found.train, found.val)]
        assert found.val
        assert not sides[0] & sides[1]


def test_a_photo_in_two_classes_is_left_out(tmp_path: Path) -> None:
    folders(tmp_path)
    photo(tmp_path / "cat/same.png", 77)
    photo(tmp_path / "dog/same.png", 77)
    found = read_class_folders(tmp_path)
    assert sorted(item.name for item in found.skipped) == ["cat/same", "dog/same"]


def test_unreadable_photos_are_skipped_and_more_than_half_stop(tmp_path: Path) -> None:
    folders(tmp_path, 5)
    (tmp_path / "cat/0.jpg").write_bytes((tmp_path / "cat/0.jpg").read_bytes()[:200])
    found = read_class_folders(tmp_path)
    assert [item.name for item in found.skipped] == ["cat/0"]
    for path in [*(tmp_path / "cat").iterdir(), tmp_path / "dog/0.jpg"]:
        path.write_bytes(b"")
    with pytest.raises(UnreadableImage, match="6 of 10"):
        read_class_folders(tmp_path)


def test_what_is_no_class_folder_tree_stops(tmp_path: Path) -> None:
    with pytest.raises(LayoutUnknown, match="not there"):
        read_class_folders(tmp_path / "nowhere")
    photo(tmp_path / "flat/1.jpg")
    with pytest.raises(LayoutUnknown, match="1 photo and 0 folders"):
        read_class_folders(tmp_path / "flat")
    with pytest.raises(LabelSpaceError, match="only cat/"):
        read_class_folders(folders(tmp_path / "one", names=("cat",)))
    photo(folders(tmp_path / "few", names=("cat",)) / "dog/1.jpg", 5000)
    with pytest.raises(SplitError, match=r"dog \(1\)"):
        read_class_folders(tmp_path / "few")
    with pytest.raises(LayoutUnknown, match="samples to segment"):
        read_class_folders(paired(tmp_path / "samples"))


def test_a_class_in_val_alone_stops(tmp_path: Path) -> None:
    folders(tmp_path / "train", 3)
    folders(tmp_path / "val", 3, ("cat", "cow"))
    with pytest.raises(SplitError, match="cow"):
        read_class_folders(tmp_path)


def test_a_folder_round_the_class_folders_is_passed(tmp_path: Path) -> None:
    folders(tmp_path / "animals/photos", 3)
    assert read_class_folders(tmp_path).class_names == ("cat", "dog")


def test_the_real_class_folders_are_read(shared: Path) -> None:
    found = read_class_folders(shared / "data/animals-classification")
    assert found.class_names == ("cat", "cow", "dog", "horse", "person", "sheep")
    assert (len(found.train), len(found.val), found.skipped) == (480, 120, ())


def test_photos_that_are_held_out_are_not_learned_from(tmp_path: Path) -> None:
    """Given val/ and the val of the samples alike, byte for byte."""
    for seed in range(4):
        photo(tmp_path / "train" / "cat" / f"{seed}.png", seed)
        photo(tmp_path / "train" / "dog" / f"{seed}.png", 10 + seed)
    photo(tmp_path / "val" / "cat" / "again.png", 0)
    photo(tmp_path / "val" / "dog" / "other.png", 50)
    kept_back = hashlib.sha256((tmp_path / "train" / "dog" / "1.png").read_bytes()).hexdigest()
    found = read_class_folders(tmp_path, kept_back=frozenset({kept_back}))
    assert {item.name for item in found.train} == {"cat/1", "cat/2", "cat/3", "dog/0", "dog/2", "dog/3"}
    assert [item.why for item in found.skipped] == ["the same photo is held out"] * 2
    assert any("held out" in note and "left out" in note for note in found.notes)


def test_without_any_photo_to_hold_out_it_stops_before_training(tmp_path: Path) -> None:
    folders(tmp_path, number=2)
    with pytest.raises(SplitError, match="held out"):
        read_class_folders(tmp_path)


def test_a_val_without_class_folders_is_as_good_as_none(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    photo(tmp_path / "val" / "loose.png", 99)
    assert read_class_folders(tmp_path).val
