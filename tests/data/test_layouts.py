"""Layouts, pairing and splits: which files belong together, and to which split."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import SIZE, blocks, label_map, paired, photo

from fullconv.base.errors import FullconvError, LayoutUnknown, PairingError, SplitError
from fullconv.data.read import read_samples
from fullconv.data.samples import SampleSet
from fullconv.labels.builtin import CAMVID_11, VOC_21, VOC_PALETTE


def names(samples: SampleSet, split: str = "all") -> list[str]:
    return sorted(sample.name for sample in samples.split(split))


def said(samples: SampleSet) -> str:
    return "\n".join(samples.notes)


def voc(root: Path, number: int = 6) -> Path:
    palette = [channel for colour in VOC_PALETTE for channel in colour]
    for index in range(number):
        photo(root / f"JPEGImages/2007_{index}.jpg", index)
        label_map(root / f"SegmentationClass/2007_{index}.png", blocks([0, 8, 255]), palette)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"2007_{index}\n" for index in range(number - 2)))
    (lists / "val.txt").write_text("".join(f"2007_{index}\n" for index in range(number - 2, number)))
    (lists / "trainval.txt").write_text("".join(f"2007_{index}\n" for index in range(number)))
    return root


def segnet(root: Path, ids: tuple[int, ...] = (0, 3, 11)) -> Path:
    paired(root, 4, ids=ids, photos="train/{}.png", maps="trainannot/{}.png")
    paired(root, 2, ids=ids, photos="val/{}.png", maps="valannot/{}.png", first=4)
    return root


# ---- layouts --------------------------------------------------------------------------------------------------------


def test_voc_devkit_is_read_with_its_lists_and_21_classes(tmp_path: Path) -> None:
    samples = read_samples(voc(tmp_path))
    assert samples.layout == "voc"
    assert samples.label_space == VOC_21
    assert len(samples.train) == 4
    assert names(samples, "val") == ["2007_4", "2007_5"]
    assert "JPEGImages/ and SegmentationClass/" in said(samples)
    assert np.unique(samples.train[0].read()[1]).tolist() == [0, 8, 255]


def test_voc_devkit_is_found_below_the_folder_given(tmp_path: Path) -> None:
    voc(tmp_path / "VOCdevkit/VOC2012")
    samples = read_samples(tmp_path)
    assert samples.root == tmp_path / "VOCdevkit/VOC2012"
    assert "VOCdevkit/VOC2012" in said(samples)


def test_two_data_sets_in_one_folder_stop_and_are_named(tmp_path: Path) -> None:
    voc(tmp_path / "VOC2007")
    voc(tmp_path / "VOC2012")
    with pytest.raises(LayoutUnknown, match="VOC2007, VOC2012"):
        read_samples(tmp_path)


def test_voc_photos_without_label_map_are_only_counted(tmp_path: Path) -> None:
    voc(tmp_path)
    for index in range(20):
        photo(tmp_path / f"JPEGImages/2008_{index}.jpg", 100 + index)
    (tmp_path / "ImageSets/Segmentation/test.txt").write_text("2008_1\n2008_2\n")
    samples = read_samples(tmp_path)
    assert samples.skipped == ()
    assert samples.test == ()
    assert "20 photos without a label map" in said(samples)
    assert "2 photos of test have no label map" in said(samples)


def test_voc_with_a_class_file_has_its_classes(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "class_names.txt").write_text("".join(f"thing {index}\n" for index in range(9)))
    assert read_samples(tmp_path).label_space.names[8] == "thing 8"


def test_segnet_folder_with_ids_0_to_11_is_camvid(tmp_path: Path) -> None:
    samples = read_samples(segnet(tmp_path))
    assert (samples.layout, samples.label_space) == ("segnet", CAMVID_11)
    assert (len(samples.train), len(samples.val)) == (4, 2)
    assert np.unique(samples.val[0].read()[1]).tolist() == [0, 3, 255]


def test_segnet_folder_with_other_ids_is_not_camvid(tmp_path: Path) -> None:
    assert read_samples(segnet(tmp_path, (0, 1))).label_space.names == ("class_0", "class_1")


def test_segnet_lists_of_pairs_with_old_paths_choose_samples(tmp_path: Path) -> None:
    segnet(tmp_path)
    lines = [f"/SegNet/CamVid/train/{i:04d}.png /SegNet/CamVid/trainannot/{i:04d}.png" for i in range(3)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    samples = read_samples(tmp_path)
    assert names(samples, "train") == ["0000", "0001", "0002"]
    assert "1 sample not named in train.txt" in said(samples)


PAIRED_LAYOUTS = {
    "images and masks": [("images/{}.jpg", "masks/{}.png")],
    "images and labels": [("images/{}.jpg", "labels/{}.png")],
    "images and annotations": [("Images/{}.JPG", "Annotations/{}.PNG")],
    "tif": [("img/{}.tif", "mask/{}.tif")],
    "suffix on maps": [("images/{}.jpg", "masks/{}_mask.png")],
    "prefix on maps": [("images/{}.jpg", "masks/gt-{}.png")],
    "suffix on photos": [("images/{}_img.jpg", "masks/{}.png")],
    "affix on both": [("images/img_{}.jpg", "masks/mask_{}.png")],
    "suffix on both": [("images/{}_leftImg8bit.png", "gtFine/{}_gtFine_labelIds.png")],
    "photo name and .png": [("images/{}.jpg", "masks/{}.jpg.png")],
    "below folders": [("images/city/{}.jpg", "masks/city/{}.png")],
    "side by side with a word": [("{}.jpg", "{}_mask.png")],
    "side by side, PNG beside JPEG": [("{}.jpg", "{}.png")],
    "spaces and accents": [("images/Straße {} é.jpg", "masks/Straße {} é.png")],
    "mixed names": [("Training_Images/{}.jpg", "Ground_Truth/{}.png")],
}
SPLIT_LAYOUTS = {
    "splits below": [("images/train/{}.jpg", "masks/train/{}.png"), ("images/val/{}.jpg", "masks/val/{}.png")],
    "splits above": [("train/images/{}.jpg", "train/masks/{}.png"), ("valid/images/{}.jpg", "valid/masks/{}.png")],
    "beside": [("train/{}.jpg", "train_labels/{}.png"), ("val/{}.jpg", "val_labels/{}.png")],
    "beside, with suffix": [("train/{}.jpg", "train_labels/{}_L.png"), ("val/{}.jpg", "val_labels/{}_L.png")],
    "split in both": [("train_images/{}.jpg", "train_masks/{}.png"), ("val_images/{}.jpg", "val_masks/{}.png")],
    "split last": [("images_train/{}.jpg", "masks_train/{}.png"), ("images_val/{}.jpg", "masks_val/{}.png")],
    "splits side by side": [("train/{}.jpg", "train/{}_mask.png"), ("val/{}.jpg", "val/{}_mask.png")],
    "ADE": [
        ("images/training/{}.jpg", "annotations/training/{}.png"),
        ("images/validation/{}.jpg", "annotations/validation/{}.png"),
    ],
}


@pytest.mark.parametrize("layout", PAIRED_LAYOUTS)
def test_paired_folder_is_read(tmp_path: Path, layout: str) -> None:
    ((photos, maps),) = PAIRED_LAYOUTS[layout]
    samples = read_samples(paired(tmp_path, 12, photos=photos, maps=maps))
    assert (samples.layout, len(samples.split("all")), samples.skipped) == ("paired", 12, ())
    assert samples.label_space.names == ("class_0", "class_1", "class_2")
    for sample in samples.split("all"):
        number = re.search(r"\d{4}", sample.name)
        assert number is not None
        assert number[0] in sample.label_map.name
        assert sample.photo.with_suffix("").as_posix().endswith(f"/{sample.name}")


@pytest.mark.parametrize("layout", SPLIT_LAYOUTS)
def test_split_folders_are_the_splits(tmp_path: Path, layout: str) -> None:
    (train, val) = SPLIT_LAYOUTS[layout]
    paired(tmp_path, 4, photos=train[0], maps=train[1])
    paired(tmp_path, 2, photos=val[0], maps=val[1], first=4)
    samples = read_samples(tmp_path)
    assert (len(samples.train), len(samples.val)) == (4, 2)
    assert samples.skipped == ()


def test_same_stem_in_two_splits_gets_the_split_in_its_name(tmp_path: Path) -> None:
    paired(tmp_path, 3, photos="train/images/{}.jpg", maps="train/masks/{}.png")
    paired(tmp_path, 3, photos="val/images/{}.jpg", maps="val/masks/{}.png")
    samples = read_samples(tmp_path)
    assert names(samples, "val") == ["val/0000", "val/0001", "val/0002"]
    assert "more than one of the splits" in said(samples)


def test_names_in_two_spellings_of_an_accent_pair(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    paired(tmp_path, 3, photos=f"images/{composed}{{}}{composed}.jpg", maps=f"masks/{apart}{{}}{apart}.png")
    assert len(read_samples(tmp_path).split("all")) == 3


def test_hidden_and_foreign_files_are_left_alone(tmp_path: Path) -> None:
    paired(tmp_path)
    for name in (
        "images/.DS_Store",
        "images/._0000.jpg",
        "images/Thumbs.db",
        "masks/notes.txt",
        "__MACOSX/images/._0.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    samples = read_samples(tmp_path)
    assert (len(samples.split("all")), samples.skipped) == (5, ())


def test_what_is_left_over_is_listed_as_unpaired(tmp_path: Path) -> None:
    paired(tmp_path)
    photo(tmp_path / "images/alone.jpg", 90)
    label_map(tmp_path / "masks/lost.png", blocks([0, 1]))
    samples = read_samples(tmp_path)
    assert {(item.name, item.why) for item in samples.skipped} == {
        ("alone", "unpaired: photo without a label map"),
        ("lost", "unpaired: label map without a photo"),
    }


def test_split_folder_without_label_maps_is_named_as_not_used(tmp_path: Path) -> None:
    paired(tmp_path, 5, photos="train/images/{}.jpg", maps="train/masks/{}.png")
    photo(tmp_path / "test/images/1.jpg", 5)
    samples = read_samples(tmp_path)
    assert "test/ is not used" in said(samples)
    assert (len(samples.train), len(samples.val)) == (4, 1)


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_no_folder_a_file_and_an_empty_folder_stop(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    for name, found in (("nowhere", "is not there"), ("data.zip", "is a file"), ("empty", "holds nothing")):
        with pytest.raises(LayoutUnknown, match=found):
            read_samples(tmp_path / name)


def test_photos_without_label_maps_stop_and_say_what_is_missing(tmp_path: Path) -> None:
    photo(tmp_path / "images/1.jpg")
    (tmp_path / "masks").mkdir()
    with pytest.raises(LayoutUnknown, match=r"masks/ \(no image in it\)"):
        read_samples(tmp_path)


def test_annotations_in_json_stop_and_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "images/1.jpg")
    (tmp_path / "annotations.json").write_text("{}")
    with pytest.raises(LayoutUnknown) as error:
        read_samples(tmp_path)
    assert "into label maps" in error.value.try_


def test_class_folders_as_data_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "cat/1.jpg")
    photo(tmp_path / "dog/1.jpg")
    with pytest.raises(LayoutUnknown) as error:
        read_samples(tmp_path)
    assert "--classifier-data" in error.value.try_


def test_two_folders_of_label_maps_stop(tmp_path: Path) -> None:
    paired(paired(tmp_path), maps="labels/{}.png")
    with pytest.raises(LayoutUnknown, match="labels/, masks/"):
        read_samples(tmp_path)


def test_nothing_that_pairs_stops_with_examples(tmp_path: Path) -> None:
    photo(tmp_path / "images/abc.jpg")
    label_map(tmp_path / "masks/xyz.png", blocks([0, 1]))
    with pytest.raises(PairingError, match=r"images/abc\.jpg; masks/xyz\.png"):
        read_samples(tmp_path)


def test_two_photos_of_one_stem_stop(tmp_path: Path) -> None:
    paired(tmp_path)
    photo(tmp_path / "images/0001.png", 50)
    with pytest.raises(PairingError, match=r"0001\.jpg and 0001\.png"):
        read_samples(tmp_path)


def test_two_kinds_of_label_maps_for_each_photo_stop(tmp_path: Path) -> None:
    paired(paired(tmp_path, maps="masks/{}_color.png"), maps="masks/{}_ids.png")
    with pytest.raises(PairingError, match=r"\*_color, \*_ids"):
        read_samples(tmp_path)


def test_extra_files_beside_label_maps_of_the_photos_stem_are_unpaired(tmp_path: Path) -> None:
    paired(paired(tmp_path), maps="masks/{}_color.png")
    samples = read_samples(tmp_path)
    assert len(samples.split("all")) == 5
    assert len(samples.skipped) == 5


# ---- splits ---------------------------------------------------------------------------------------------------------


def test_no_split_given_holds_out_a_fifth_by_seed(tmp_path: Path) -> None:
    paired(tmp_path, 20)
    samples = read_samples(tmp_path)
    assert (len(samples.train), len(samples.val), len(samples.test)) == (16, 4, 0)
    assert names(samples, "val") == names(read_samples(tmp_path), "val")
    assert names(samples, "val") != names(read_samples(tmp_path, seed=1), "val")
    assert "drawn with seed 0" in said(samples)


def test_every_class_is_on_both_sides_of_the_split(tmp_path: Path) -> None:
    for index in range(20):
        photo(tmp_path / f"images/{index}.jpg", index)
        rare = [5] if index < 2 else [6] if index < 5 else []
        label_map(tmp_path / f"masks/{index}.png", blocks([0, 1, *rare]))
    for seed in range(10):
        samples = read_samples(tmp_path, seed=seed)
        for part in (samples.train, samples.val):
            seen = np.sum([samples.pixels[sample.name] for sample in part], axis=0)
            assert (seen[:4] > 0).all(), seed
        assert 3 <= len(samples.val) <= 5


def test_exact_duplicates_are_never_across_a_drawn_split(tmp_path: Path) -> None:
    for index in range(20):
        photo(tmp_path / f"images/{index}.png", index // 4)
        label_map(tmp_path / f"masks/{index}.png", blocks([0, 1]))
    for seed in range(10):
        samples = read_samples(tmp_path, seed=seed)
        sides = [{int(sample.name) // 4 for sample in part} for part in (samples.train, samples.val)]
        assert samples.val
        assert not sides[0] & sides[1]
    assert "5 photos there more than once" in said(samples)


def test_train_and_test_without_val_takes_val_from_train(tmp_path: Path) -> None:
    paired(tmp_path, 10, photos="train/{}.jpg", maps="train_labels/{}.png")
    paired(tmp_path, 3, photos="test/{}.jpg", maps="test_labels/{}.png", first=10)
    samples = read_samples(tmp_path)
    assert (len(samples.train), len(samples.val)) == (8, 2)
    assert names(samples, "test") == ["0010", "0011", "0012"]
    assert "test is not touched" in said(samples)


def test_lists_beside_the_folders_are_the_splits(tmp_path: Path) -> None:
    paired(tmp_path, 6)
    (tmp_path / "train.txt").write_text("0000\n0001.jpg\nimages/0002.jpg masks/0002.png\n\n# a comment\n0003\n0003\n")
    (tmp_path / "val.txt").write_text("./images/0004.jpg\n0099\n")
    samples = read_samples(tmp_path)
    assert names(samples, "train") == ["0000", "0001", "0002", "0003"]
    assert names(samples, "val") == ["0004"]
    assert [item.name for item in samples.skipped] == ["0099"]
    assert "1 sample not named" in said(samples)


def test_a_list_of_val_alone_leaves_the_rest_to_train(tmp_path: Path) -> None:
    paired(tmp_path, 6)
    (tmp_path / "valid.txt").write_text("0004.jpg\n0005.jpg\n")
    samples = read_samples(tmp_path)
    assert names(samples, "val") == ["0004", "0005"]
    assert len(samples.train) == 4


def test_names_with_spaces_are_found_in_lists(tmp_path: Path) -> None:
    paired(tmp_path, 4, photos="images/a photo {}.jpg", maps="masks/a photo {}.png")
    (tmp_path / "train.txt").write_text("a photo 0000\na photo 0001\na photo 0002.jpg")
    (tmp_path / "val.txt").write_text("a photo 0003\n")
    assert names(read_samples(tmp_path), "val") == ["a photo 0003"]


def test_a_sample_in_train_and_val_stops(tmp_path: Path) -> None:
    paired(tmp_path, 4)
    (tmp_path / "train.txt").write_text("0000\n0001\n0002\n")
    (tmp_path / "val.txt").write_text("0002\n0003\n")
    with pytest.raises(SplitError, match="0002"):
        read_samples(tmp_path)


def test_lists_that_mostly_name_what_is_not_there_stop(tmp_path: Path) -> None:
    paired(tmp_path, 4)
    (tmp_path / "train.txt").write_text("0000\n0001\nx\ny\nz\n")
    with pytest.raises(SplitError, match="3 of 5 names"):
        read_samples(tmp_path)


SPLIT_FILES = {
    "splits.json": json.dumps({"train": ["0000", "0001", "0002"], "val": ["0003"], "test": ["0004"]}),
    "by_name.json": json.dumps({"0000": "train", "0001": "train", "0002": "train", "0003": "val", "0004": "test"}),
    "samples.json": json.dumps(
        {
            "splits": {
                "training": [{"name": "0000"}, {"name": "0001"}, {"name": "0002"}],
                "validation": ["0003"],
                "test": ["0004"],
            }
        }
    ),
    "lines.txt": "0000 train\n0001 train\n0002\ttrain\n0003 val\n0004 test\n",
    "turned.txt": "train 0000\ntrain 0001\ntrain 0002\nval 0003\ntest 0004\n",
    "headed.txt": "train:\n0000\n0001\n0002\nval:\n0003\ntest:\n0004\n",
    "table.csv": "name,split\n0000.jpg,train\n0001.jpg,train\n0002.jpg,train\n0003.jpg,val\n0004.jpg,test\n",
}


@pytest.mark.parametrize("file", SPLIT_FILES)
def test_a_splits_file_wins_over_the_folder(tmp_path: Path, file: str) -> None:
    paired(tmp_path / "data", 5)
    (tmp_path / "data/train.txt").write_text("0004\n0003\n0002\n")
    (tmp_path / file).write_text(SPLIT_FILES[file])
    samples = read_samples(tmp_path / "data", splits=tmp_path / file)
    assert names(samples, "train") == ["0000", "0001", "0002"]
    assert (names(samples, "val"), names(samples, "test")) == (["0003"], ["0004"])


def test_a_folder_of_lists_is_a_splits_file_too(tmp_path: Path) -> None:
    paired(tmp_path / "data", 4)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text("0000\n0001\n0002\n")
    (tmp_path / "lists/val.txt").write_text("0003\n")
    assert names(read_samples(tmp_path / "data", splits=tmp_path / "lists"), "val") == ["0003"]


@pytest.mark.parametrize("text", ["", "0000\n0001\n", "{", "[1, 2]", '{"fold": ["0000"]}'])
def test_what_is_no_splits_file_stops(tmp_path: Path, text: str) -> None:
    paired(tmp_path / "data", 4)
    for name in ("a.txt", "a.json"):
        (tmp_path / name).write_text(text)
        with pytest.raises(SplitError):
            read_samples(tmp_path / "data", splits=tmp_path / name)
    with pytest.raises(SplitError, match="not there"):
        read_samples(tmp_path / "data", splits=tmp_path / "none.txt")


def test_fewer_than_two_training_samples_stop(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="1 in train"):
        read_samples(paired(tmp_path, 1))


def test_no_train_split_stops_and_says_how_to_give_one(tmp_path: Path) -> None:
    paired(tmp_path, 4, photos="test/images/{}.jpg", maps="test/masks/{}.png")
    with pytest.raises(SplitError, match="0 in train; 4 samples") as error:
        read_samples(tmp_path)
    assert "--splits" in error.value.try_


def test_every_refusal_has_three_parts(tmp_path: Path) -> None:
    with pytest.raises(FullconvError) as error:
        read_samples(tmp_path / "nowhere")
    assert [line[:7] for line in str(error.value).splitlines()] == ["error: ", "found: ", "try:   "]


def test_the_document_of_a_sample_set_holds_every_decision(tmp_path: Path) -> None:
    paired(tmp_path, 5)
    photo(tmp_path / "images/alone.jpg", 90)
    document = json.loads(json.dumps(read_samples(tmp_path).to_json()))
    assert document["schema"] == "fullconv.samples/1"
    assert document["counts"] == {"train": 4, "val": 1, "test": 0, "skipped": 1}
    assert document["skipped"] == [
        {"name": "alone", "files": ["images/alone.jpg"], "why": "unpaired: photo without a label map"}
    ]
    assert document["splits"]["train"][0]["label_map"].startswith("masks/")
    assert document["splits"]["train"][0]["size"] == list(SIZE)
    assert document["notes"]


# ---- the real ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "layout", "train", "val", "classes"),
    [("voc-animals", "voc", 437, 200, 21), ("camvid", "segnet", 367, 101, 11), ("human-seg", "paired", 72, 18, 2)],
)
def test_real_folders_are_read(shared: Path, folder: str, layout: str, train: int, val: int, classes: int) -> None:
    samples = read_samples(shared / "data" / folder)
    assert (samples.layout, len(samples.train), len(samples.val)) == (layout, train, val)
    assert samples.label_space.size == classes
    assert samples.skipped == ()


def test_real_counts_of_pixels_are_those_of_the_label_maps(shared: Path) -> None:
    samples = read_samples(shared / "data/voc-animals", classes=["background", "cat"], others="background")
    for sample in samples.val[:5]:
        labels = sample.read_labels()
        counted = [(labels == value).sum() for value in (0, 1, 255)]
        assert samples.pixels[sample.name] == tuple(counted)


def test_a_few_label_maps_among_many_photos_pair(tmp_path: Path) -> None:
    for index in range(200):
        photo(tmp_path / "images" / f"{index:04d}.jpg", index)
    for index in range(20, 30):
        label_map(tmp_path / "masks" / f"{index:04d}_mask.png", blocks((0, 1, 2)))
    samples = read_samples(tmp_path)
    assert {sample.name for sample in samples.split("all")} == {f"{index:04d}" for index in range(20, 30)}
