"""Samples written in another format and read again are the same, pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from drawn_folders import label_map, photo

from fullconv.base.errors import UsageError
from fullconv.cli import main
from fullconv.data.convert import WRITERS, convert_samples, regions_of
from fullconv.data.read import read_samples
from fullconv.labels.builtin import VOC_21

HEIGHT, WIDTH = 24, 32


def spotted(root: Path, classes: str, top: int) -> Path:
    """Samples whose label maps are noise of all ids below `top` and void: single pixels, holes, touching corners."""
    for split, names in (("train", "abc"), ("val", "de")):
        for number, name in enumerate(names):
            photo(root / f"images/{split}/{name}.png", number)
            ids = np.random.default_rng(number).integers(0, top + 1, (HEIGHT, WIDTH)).astype(np.uint8)
            ids[ids == top] = 255
            label_map(root / f"masks/{split}/{name}.png", ids)
    (root / "classes.txt").write_text(classes)
    return root


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("classes", ["background\ncat\ndog\n", "sky\ncat\ndog\n"])
def test_every_pixel_class_and_split_survives(tmp_path: Path, to: str, classes: str) -> None:
    before = read_samples(spotted(tmp_path / "data", classes, 3))
    assert convert_samples(before, to, tmp_path / "out") == 5
    after = read_samples(tmp_path / "out")
    assert after.label_space.names == before.label_space.names
    for split in ("train", "val"):
        assert [sample.name for sample in after.split(split)] == [sample.name for sample in before.split(split)]
        for new, old in zip(after.split(split), before.split(split), strict=True):
            assert (new.read()[0] == old.read()[0]).all()
            assert (new.read_labels() == old.read_labels()).all()


def test_regions_are_connected_and_cover_all_but_the_background() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    painted = np.zeros_like(labels)
    for region in regions_of(labels, VOC_21):
        height, width = region.mask.shape
        place = painted[region.top : region.top + height, region.left : region.left + width]
        assert not place[region.mask].any()
        place[region.mask] = region.label
    assert (painted == labels).all()


def test_the_originals_are_not_touched_and_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    root = spotted(tmp_path / "data", "background\ncat\ndog\n", 3)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    convert_samples(read_samples(root), "voc", tmp_path / "out")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="holds something"):
        convert_samples(read_samples(root), "voc", tmp_path / "out")


def test_coco_files_hold_what_other_tools_need(tmp_path: Path) -> None:
    convert_samples(read_samples(spotted(tmp_path / "data", "background\ncat\ndog\n", 3)), "coco", tmp_path / "out")
    document = json.loads((tmp_path / "out/train/_annotations.coco.json").read_text())
    assert [entry["name"] for entry in document["categories"]] == ["background", "cat", "dog", "__ignore__"]
    thing = document["annotations"][0]
    assert thing.keys() >= {"id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd"}
    assert sum(one["area"] for one in document["annotations"]) > 0


def test_cvat_finds_the_frames_of_a_task_by_their_bare_names_or_by_their_order(tmp_path: Path) -> None:
    convert_samples(read_samples(spotted(tmp_path / "data", "background\ncat\ndog\n", 3)), "cvat", tmp_path / "out")
    images = ElementTree.parse(tmp_path / "out/annotations.xml").getroot().findall("image")
    assert [image.get("name") for image in images] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert [image.get("id") for image in images] == list("01234")
    assert [image.get("subset") for image in images] == ["train"] * 3 + ["val"] * 2
    labels = [name.text for name in ElementTree.parse(tmp_path / "out/annotations.xml").iterfind(".//label/name")]
    assert labels == ["background", "cat", "dog", "__ignore__"]


@pytest.mark.parametrize("to", WRITERS)
def test_the_command_writes_real_samples_that_read_the_same(shared: Path, tmp_path: Path, to: str) -> None:
    source = shared / "data/label-formats/coco/labelme2coco"
    with pytest.raises(SystemExit) as ended:
        main(["data", "convert", str(source), "--to", to, "--out", str(tmp_path / "out")])
    assert ended.value.code == 0
    before = {sample.name: sample for sample in read_samples(source).split("all")}
    after = {sample.name: sample for sample in read_samples(tmp_path / "out").split("all")}
    assert before.keys() == after.keys()
    for name, sample in after.items():
        names = np.array([*sample.label_space.names, *[""] * 300])[sample.read_labels()]
        original = before[name]
        assert (names == np.array([*original.label_space.names, *[""] * 300])[original.read_labels()]).all()
