"""What to label next: rare doubts first, nothing twice, and label maps to begin with that other tools read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.study.test_wrong_labels import command

import fullconv as fc
from fullconv.base.errors import UsageError
from fullconv.data.convert import convert_samples
from fullconv.data.scenes import write_scenes
from fullconv.study import label_next as station
from fullconv.study.label_next import (
    TILE,
    Doubt,
    doubt_of,
    in_order,
    label_next,
    redundancy,
    relevance,
    standard_looks,
    teaching,
)
from fullconv.study.prelabels import FORMS, photos_to_label, seen_small, write_prelabels
from fullconv.study.small import Small, cells_seen, guess, shrink_photo, shrink_samples, train_several


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("next") / "scenes", train=6, val=3, size=(150, 220))


@pytest.fixture(scope="module")
def small(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, ...]:
    return shrink_samples(fc.read_samples(scenes).split("all"), tmp_path_factory.mktemp("small"))


# ---- the order ------------------------------------------------------------------------------------------------------


def test_a_photo_like_one_that_is_labelled_or_chosen_comes_later() -> None:
    looks = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0.02], [0.6, 0, 0.8], [1, 0, 0.02]])
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    labelled, photos = looks[:1], looks[1:]
    found = in_order(np.array([3.0, 2.9, 1.0, 9.0]), photos, labelled, 4)
    assert [(place, nearest) for place, nearest, _ in found] == [(0, 0), (2, 0), (3, 0), (1, 1)]
    np.testing.assert_allclose([likeness for _, _, likeness in found], [0, 0.6, 1, 1], atol=1e-3)
    assert [place for place, _, _ in in_order(np.array([2.9, 3.0, 1.0, 9.0]), photos, labelled, 2)] == [1, 2]
    assert len(in_order(np.array([3.0, 2.9, 1.0, 9.0]), photos, labelled, 9)) == 4, "no photo is there twice"


def test_where_all_are_equally_unlike_the_doubt_alone_decides() -> None:
    looks = np.eye(7)
    found = in_order(np.array([0.2, 0.9, 0.5, 0.7]), looks[3:], looks[:3], 4)
    assert [place for place, _, _ in found] == [1, 3, 2, 0]


def test_the_same_doubt_counts_more_the_rarer_its_class_is() -> None:
    one, other = np.zeros((2, 3, 2)), np.zeros((2, 3, 2))
    one[0, 1, 0] = other[1, 2, 1] = 5.0
    common, rare = teaching([Doubt(one, np.array([0.9, 0.1]), 600), Doubt(other, np.array([0.7, 0.3]), 600)])
    assert np.argwhere(common).tolist() == [[0, 1, 0]]
    assert np.argwhere(rare).tolist() == [[1, 2, 1]]
    assert rare.sum() / common.sum() == pytest.approx(0.801 / 0.201)
    assert common.sum() == pytest.approx(5 / 600 / 0.801)


# ---- the doubt ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_doubt_is_what_the_mean_of_networks_is_unsure_of_tile_by_tile(small: tuple[Small, ...], tmp_path: Path) -> None:
    heads = train_several(small[:6], 3, tmp_path / "heads", seed=0)
    doubt = doubt_of(heads, small[7])
    shares = np.stack([cells_seen(head, small[7])[1].softmax(0).numpy() for head in heads])
    mean = shares.mean(0)
    assert doubt.unsure.shape == (-(-150 // TILE), -(-220 // TILE), small[0].label_space.size)
    assert doubt.cells == shares[0, 0].size == 37 * 55  # centres at 2, 6, 10 ...
    np.testing.assert_allclose(doubt.unsure.sum((0, 1)), (mean * (1 - mean)).sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(doubt.unsure[1, 2], (mean * (1 - mean))[:, 16:32, 32:48].sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(doubt.shares, shares.mean((0, 2, 3)), rtol=1e-4)


@pytest.mark.usefixtures("quick")
def test_cells_are_what_the_whole_guess_says_at_their_centres(small: tuple[Small, ...], tmp_path: Path) -> None:
    (head,) = train_several(small[:2], 1, tmp_path / "heads", seed=0)
    _, scores = cells_seen(head, small[0])
    top, left = (int(part) for part in head.taps[head.first].offset)
    np.testing.assert_allclose(guess(head, small[0])[:, top::4, left::4], scores, atol=1e-4)


# ---- how photos look ------------------------------------------------------------------------------------------------


def test_copies_look_alike_and_other_scenes_do_not(scenes: Path, small: tuple[Small, ...], tmp_path: Path) -> None:
    with Image.open(fc.read_samples(scenes).train[0].photo) as image:
        image.resize((440, 300), Image.Resampling.BICUBIC).save(tmp_path / "copy.jpg", quality=90)
    copy = shrink_photo("copy", tmp_path / "copy.jpg", small[0].label_space, tmp_path / "small")
    looks = standard_looks([*small, copy])
    likeness = looks @ looks.T
    np.testing.assert_allclose(np.diag(likeness), 1)
    assert likeness[-1, :-1].argmax() == 0
    assert likeness[-1, 0] > 0.6 > np.sort(likeness[-1, :-1])[-2] + 0.2
    assert redundancy(standard_looks([*small, *small])) == pytest.approx(1)
    assert redundancy(standard_looks(small)) < 0.6
    others = likeness - 2 * np.eye(len(likeness))
    assert redundancy(looks) == pytest.approx(others.max(1).mean())


def test_photos_like_those_that_are_wished_for_count_more() -> None:
    looks = np.array([[1.0, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [-1, 0, 0]])
    np.testing.assert_allclose(relevance(looks, looks[:1]), [1, 0, 0.6**4, 0])
    np.testing.assert_allclose(relevance(looks, looks[:2]), [0.5, 0.5, (0.6**4 + 0.8**4) / 2, 0])


@pytest.mark.usefixtures("quick")
def test_of_equal_doubts_the_photo_like_val_is_first(small: tuple[Small, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    equal = Doubt(np.ones((3, 4, 8)), np.full(8, 0.125), 2035)
    monkeypatch.setattr(station, "doubt_of", lambda *_: equal)
    photos = small[3:]
    monkeypatch.setattr(station, "REDUNDANT", -1.0)
    for wished in photos:
        assert label_next([], small[:3], [wished], photos, 1).choices[0].name == wished.name
    monkeypatch.setattr(station, "REDUNDANT", 1.1)
    monkeypatch.setattr(station, "relevance", lambda *_: pytest.fail("where photos are of many scenes val is asked"))
    assert not label_next([], small[:3], photos[:1], photos, 1).like_val


@pytest.mark.usefixtures("quick")
def test_a_batch_says_why_each_photo_is_in_it(small: tuple[Small, ...], tmp_path: Path) -> None:
    train, photos = small[:4], (*small[4:], small[0])  # the last is labelled
    chosen = label_next(train_several(train, 2, tmp_path / "heads", seed=0), train, (), photos, 9)
    assert [one.name for one in chosen.choices][-1] == small[0].name
    assert sorted(one.name for one in chosen.choices) == sorted(one.name for one in photos)
    assert chosen.choices[-1].likeness == pytest.approx(1)
    assert chosen.choices[-1].nearest == small[0].name
    assert chosen.choices[0].nearest in {one.name for one in train}
    assert np.median([one.promise for one in chosen.choices]) == pytest.approx(1)
    for one in chosen.choices:
        assert one.classes
        area = sum((bottom - top) * (right - left) for top, left, bottom, right in one.parts)
        assert 0 < area < 1
        assert all(0 <= top < bottom <= 1 and 0 <= left < right <= 1 for top, left, bottom, right in one.parts)


# ---- label maps to begin with ---------------------------------------------------------------------------------------


def test_what_labelme_cvat_and_coco_tools_open_is_what_the_network_saw(scenes: Path, tmp_path: Path) -> None:
    given = fc.read_samples(scenes)
    photos = {one.name: one.photo for one in given.val}
    truth = {one.name: one.read_labels() for one in given.val}
    flat = {name.replace("/", "_"): name for name in truth}
    folder = write_prelabels(photos, lambda name, _: truth[name], "somebody", given.label_space, tmp_path)
    for form in FORMS:
        read = fc.read_samples(folder / form)
        assert read.layout == form
        for one in read.split("all"):
            own = [
                read.label_space.names.index(name) for name in given.label_space.names if name in read.label_space.names
            ]
            assert len(own) == read.label_space.size
            names = np.array([*given.label_space.names, "void"])
            of_truth = names[np.minimum(truth[flat[one.name]], given.label_space.size)]
            of_form = np.array([*read.label_space.names, "void"])[np.minimum(one.read_labels(), read.label_space.size)]
            assert (of_form == of_truth).all()
    assert not list(tmp_path.glob("unfinished*"))


def test_a_corrected_batch_and_the_samples_laid_together_are_one_set(scenes: Path, tmp_path: Path) -> None:
    given = fc.read_samples(scenes)
    others = fc.read_samples(write_scenes(tmp_path / "others", train=3, val=1, size=(150, 220), seed=5)).train
    photos = {f"new/{one.name}": one.photo for one in others}
    truth = {f"new/{one.name}": one.read_labels() for one in others}
    folder = write_prelabels(photos, lambda name, _: truth[name], "somebody", given.label_space, tmp_path)
    for form in FORMS:
        together, corrected = tmp_path / form / "together", tmp_path / form / "corrected"
        convert_samples(fc.read_samples(folder / form), "paired", corrected)
        convert_samples(given, "paired", together)
        for part in ("images", "masks"):
            shutil.copytree(corrected / part, together / part, dirs_exist_ok=True)
        with (together / "train.txt").open("a") as names:
            names.write("".join((corrected / f"{split}.txt").read_text() for split in ("train", "val")))
        after = fc.read_samples(together)
        assert after.label_space.names == given.label_space.names
        assert len(after.train) == len(given.train) + len(others)
        for one in after.train[len(given.train) :]:
            (name,) = (name for name in truth if name.replace("/", "_") == one.name)
            assert (one.read_labels() == truth[name]).all()


def test_what_was_corrected_is_not_written_over(scenes: Path, tmp_path: Path) -> None:
    given = fc.read_samples(scenes)
    photos = {one.name: one.photo for one in given.val}
    nothing = lambda _, photo: np.zeros(photo.shape[:2], np.uint8)  # noqa: E731
    folder = write_prelabels(photos, nothing, "somebody", given.label_space, tmp_path)
    corrected = folder / "cvat" / "annotations.xml"
    corrected.write_text("corrected")
    assert write_prelabels(photos, nothing, "somebody", given.label_space, tmp_path) == folder
    assert corrected.read_text() == "corrected"
    assert write_prelabels(photos, nothing, "another", given.label_space, tmp_path) != folder


@pytest.mark.usefixtures("quick")
def test_small_networks_see_a_photo_at_its_own_size(small: tuple[Small, ...], tmp_path: Path) -> None:
    heads = train_several(small[:6], 2, tmp_path / "heads", seed=0)
    own = seen_small(heads, small[7], small[7].size)
    means = sum(guess(head, small[7]).softmax(0) for head in heads)
    np.testing.assert_array_equal(own, means.argmax(0))
    large = seen_small(heads, small[7], (300, 440))
    assert large.shape == (300, 440)
    assert (large[1::2, 1::2] == own).mean() > 0.95


def test_photos_that_are_labelled_twice_there_or_broken_are_left_out(
    scenes: Path, small: tuple[Small, ...], tmp_path: Path
) -> None:
    given, folder = fc.read_samples(scenes), tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for place, one in enumerate(given.val):
        shutil.copy(one.photo, folder / f"{place}.jpg")
    shutil.copy(given.val[0].photo, folder / "more" / "0.jpg")
    shutil.copy(given.train[0].photo, folder / "labelled.jpg")
    (folder / "broken.jpg").write_bytes(given.val[1].photo.read_bytes()[:900])
    Image.new("RGB", (900, 5)).save(folder / "rule.png")
    labelled = [given.contents[one.name] for one in given.train]
    kept, left_out = photos_to_label(folder, labelled, small[0].label_space, tmp_path / "small")
    assert [one.photo.name for one in kept.values()] == ["0.jpg", "1.jpg", "2.jpg"]
    assert {path.name: why.split()[0] for path, why in left_out.items()} == {
        "0.jpg": "labelled",
        "labelled.jpg": "labelled",
        "broken.jpg": str(folder / "broken.jpg"),
        "rule.png": "too",
    }
    with pytest.raises(UsageError, match="left out"):
        photos_to_label(folder, given.contents.values(), small[0].label_space, tmp_path / "small")


@pytest.mark.usefixtures("quick")
def test_the_command_offers_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=9, val=1, size=(64, 96))
    write_scenes(tmp_path / "others", train=7, val=1, size=(64, 96), seed=5)
    asked = [scenes, "--next", tmp_path / "others/images", "--batch", "3", "--out", tmp_path / "study"]
    assert command(*asked) == 0
    printed = capsys.readouterr().out
    assert "To label next, of 8 photos" in printed
    offered = json.loads((tmp_path / "study" / "study.json").read_text())["label_next"]
    assert len(offered["photos"]) == 3
    assert all(Path(one["photo"]).is_relative_to(tmp_path / "others") for one in offered["photos"])
    folder = Path(offered["prelabels"])
    assert str(folder) in printed
    assert len(list((folder / "labelme").rglob("*.json"))) == 3
    assert len(json.loads(next((folder / "coco").rglob("*.json")).read_text())["images"]) == 3
    assert (folder / "cvat" / "annotations.xml").read_text().count("<image ") == 3
    page = (tmp_path / "study" / "study.html").read_text()
    assert page.count("what the network sees") == 3
    assert command(*asked, "--json") == 0
    assert json.loads(capsys.readouterr().out)["label_next"] == offered
