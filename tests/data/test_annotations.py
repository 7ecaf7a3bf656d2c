"""Annotation files: shapes become label maps as the tools that wrote them would make them; what is odd is said."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_folders import paired
from drawn_folders import photo as any_photo
from numpy.typing import NDArray
from PIL import Image

from fullconv.base.errors import AnnotationError, DataError, SizeMismatch, SplitError, UnknownLabel
from fullconv.data.detect import detect
from fullconv.data.formats.annotations import Photos, classes_by_name, classes_by_number
from fullconv.data.read import read_samples
from fullconv.data.samples import Sample, SampleSet

HEIGHT, WIDTH = 24, 36


def photo(path: Path, seed: int) -> None:
    any_photo(path, seed, (HEIGHT, WIDTH))


def said(samples: SampleSet) -> str:
    return "\n".join(samples.notes)


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def by_name(samples: SampleSet) -> dict[str, Sample]:
    return {sample.name: sample for sample in samples.split("all")}


def pixels(sample: Sample, name: str) -> NDArray[np.bool_]:
    return np.asarray(sample.read_labels() == sample.label_space.names.index(name))


def box(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def square(top: float, left: float, bottom: float, right: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


# ---- COCO -----------------------------------------------------------------------------------------------------------


def coco_file(root: Path, things: list[dict[str, Any]], names: dict[int, str], photos: int = 4, **more: Any) -> Path:
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(photos)]
    for n in range(photos):
        photo(root / f"images/{n}.png", n)
    categories = [{"id": number, "name": name} for number, name in names.items()]
    document = {"images": images, "annotations": things, "categories": categories, **more}
    write(root / "annotations/instances.json", document)
    return root


def test_coco_polygons_cover_the_pixels_whose_middles_lie_inside(tmp_path: Path) -> None:
    things = [{"id": 1, "image_id": 0, "category_id": 1, "segmentation": [square(2, 3, 10, 20)], "iscrowd": 0}]
    sample = by_name(read_samples(coco_file(tmp_path, things, {1: "cat"})))["0"]
    assert (pixels(sample, "cat") == box(2, 3, 10, 20)).all()
    assert (pixels(sample, "background") == ~box(2, 3, 10, 20)).all()


def test_coco_paints_the_smaller_thing_over_the_larger_and_all_over_crowds(tmp_path: Path) -> None:
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[:4, :4] = True
    flat = crowd.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    counts = [0, *counts] if flat[0] else counts
    things = [
        {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [square(0, 0, 4, 2)], "iscrowd": 0},
        {"id": 2, "image_id": 0, "category_id": 2, "segmentation": [square(0, 0, 20, 30)], "iscrowd": 0},
        {
            "id": 3,
            "image_id": 0,
            "category_id": 3,
            "segmentation": {"counts": counts, "size": [HEIGHT, WIDTH]},
            "iscrowd": 1,
        },
    ]
    sample = by_name(read_samples(coco_file(tmp_path, things, {1: "cat", 2: "dog", 3: "sheep"})))["0"]
    assert (pixels(sample, "cat") == box(0, 0, 4, 2)).all()
    assert (pixels(sample, "dog") == (box(0, 0, 20, 30) & ~box(0, 0, 4, 2))).all()
    assert not pixels(sample, "sheep").any()


def test_a_coco_class_numbered_0_is_not_taken_for_background(tmp_path: Path) -> None:
    things = [{"id": 1, "image_id": 0, "category_id": 0, "segmentation": [square(2, 3, 10, 20)]}]
    samples = read_samples(coco_file(tmp_path, things, {0: "cat", 1: "dog"}))
    assert samples.label_space.names == ("background", "cat", "dog")
    assert samples.label_space.file_values == ((0,), (1,), (2,))
    assert pixels(by_name(samples)["0"], "cat").sum() == 8 * 17


def test_coco_splits_are_those_of_the_file_names(tmp_path: Path) -> None:
    things = [{"id": 1, "image_id": 0, "category_id": 1, "segmentation": [square(2, 3, 10, 20)]}]
    for split in ("train", "valid"):
        root = coco_file(tmp_path / "x", things, {1: "cat"})
        (root / "annotations/instances.json").rename(root / f"annotations/{split}.json")
        for path in (root / "images").iterdir():
            (tmp_path / split).mkdir(exist_ok=True)
            path.rename(tmp_path / split / f"{split}_{path.name}")
        document = json.loads((root / f"annotations/{split}.json").read_text())
        for image in document["images"]:
            image["file_name"] = f"{split}_{image['file_name']}"
        write(tmp_path / split / "_annotations.coco.json", document)
        (root / f"annotations/{split}.json").unlink()
    samples = read_samples(tmp_path)
    assert [len(samples.train), len(samples.val)] == [4, 4]


def test_a_coco_file_that_is_broken_or_names_a_strange_category_is_said(tmp_path: Path) -> None:
    things = [{"id": 9, "image_id": 0, "category_id": 5, "segmentation": [square(2, 3, 10, 20)]}]
    root = coco_file(tmp_path, things, {1: "cat"})
    with pytest.raises(UnknownLabel, match=r"0\.png \(instances\.json\) has 'class 5' at row 2, column 3"):
        read_samples(root)
    path = root / "annotations/instances.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(AnnotationError, match=r"instances\.json"):
        read_samples(root)


def test_photos_whose_shapes_cannot_be_read_are_listed_and_the_others_read(tmp_path: Path) -> None:
    broken = {"counts": [3, 5], "size": [HEIGHT, WIDTH]}
    things = [
        {"id": 1, "image_id": 0, "category_id": 1, "segmentation": broken, "iscrowd": 1},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [square(2, 3, 10, 20)]},
    ]
    samples = read_samples(coco_file(tmp_path, things, {1: "cat"}))
    assert sorted(by_name(samples)) == ["1", "2", "3"]
    (broken_one,) = [item for item in samples.skipped if item.why.startswith("unreadable")]
    assert "run lengths of 8 pixels" in broken_one.why


def test_two_files_about_the_same_photos_are_laid_over_each_other(tmp_path: Path) -> None:
    cat = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [square(2, 3, 10, 20)]}
    dog = {"id": 1, "image_id": "0", "category_id": 2, "segmentation": [square(12, 3, 20, 20)]}
    root = coco_file(tmp_path, [cat], {1: "cat", 2: "dog"})
    (root / "annotations/instances.json").rename(root / "annotations/cats.json")
    coco_file(tmp_path, [dog], {1: "cat", 2: "dog"})
    write(root / "annotations/guesses.json", [dog | {"category_id": 1, "score": 0.9}])
    samples = read_samples(root)
    sample = by_name(samples)["0"]
    assert (pixels(sample, "cat") == box(2, 3, 10, 20)).all()
    assert (pixels(sample, "dog") == box(12, 3, 20, 20)).all()
    assert "Not read: guesses.json" in said(samples)


def test_the_group_that_roboflow_numbers_0_is_no_class(tmp_path: Path) -> None:
    things = [{"id": 1, "image_id": 0, "category_id": 1, "segmentation": [square(2, 3, 10, 20)]}]
    root = coco_file(tmp_path, things, {0: "pets", 1: "cat"})
    path = root / "annotations/instances.json"
    document = json.loads(path.read_text())
    document["categories"] = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
    ]
    write(path, document)
    assert read_samples(root).label_space.names == ("background", "cat")


def test_numbers_beyond_16_bits_are_taken_in_their_order(tmp_path: Path) -> None:
    things = [{"id": 1, "image_id": 0, "category_id": 900001, "segmentation": [square(2, 3, 10, 20)]}]
    samples = read_samples(coco_file(tmp_path, things, {900001: "cat", -7: "dog"}))
    assert samples.label_space.names == ("background", "dog", "cat")
    assert (pixels(by_name(samples)["0"], "cat") == box(2, 3, 10, 20)).all()


def test_things_with_a_box_alone_are_void_below_what_is_known(tmp_path: Path) -> None:
    things = [
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], "segmentation": []},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [square(2, 3, 10, 20)]},
    ]
    samples = read_samples(coco_file(tmp_path, things, {1: "cat"}))
    assert "1 thing with a box alone: the boxes are void" in said(samples)
    sample = by_name(samples)["0"]
    assert ((sample.read_labels() == sample.label_space.void) == box(0, 0, 9, 9)).all()


def test_boxes_alone_are_refused(tmp_path: Path) -> None:
    things = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9]}]
    with pytest.raises(AnnotationError, match="all of them boxes"):
        read_samples(coco_file(tmp_path, things, {1: "cat"}))


def test_a_bundle_reads_classes_by_name_whatever_their_numbers(tmp_path: Path) -> None:
    thing = {"id": 1, "image_id": 0, "segmentation": [square(2, 3, 10, 20)]}
    first = read_samples(coco_file(tmp_path / "a", [thing | {"category_id": 1}], {1: "cat", 2: "dog"}))
    second = coco_file(tmp_path / "b", [thing | {"category_id": 7}], {5: "dog", 7: "cat"})
    sample = by_name(read_samples(second, like=first.label_space))["0"]
    assert (pixels(sample, "cat") == box(2, 3, 10, 20)).all()


# ---- labelme --------------------------------------------------------------------------------------------------------


def labelme(root: Path, shapes: list[dict[str, Any]], number: int = 4) -> Path:
    for n in range(number):
        photo(root / f"{n}.png", n)
        document = {"shapes": shapes, "imagePath": f"{n}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
        write(root / f"{n}.json", document)
    return root


def shape(label: str, points: list[list[float]], kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def test_labelme_shapes_are_painted_in_their_order_outlines_included(tmp_path: Path) -> None:
    shapes = [
        shape("dog", [[3, 2], [19, 2], [19, 9], [3, 9]]),
        shape("cat", [[3, 2], [5, 4]], "rectangle"),
    ]
    sample = by_name(read_samples(labelme(tmp_path, shapes)))["0"]
    assert (pixels(sample, "cat") == box(2, 3, 5, 6)).all()
    assert (pixels(sample, "dog") == (box(2, 3, 10, 20) & ~box(2, 3, 5, 6))).all()


def test_labelme_masks_lie_where_their_first_point_is(tmp_path: Path) -> None:
    mask = np.array([[1, 0, 1], [0, 1, 0]], np.uint8) * 255
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    encoded = base64.b64encode(stream.getvalue()).decode()
    sample = by_name(read_samples(labelme(tmp_path, [shape("cat", [[30, 5], [32, 6]], "mask", mask=encoded)])))["0"]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:7, 30:33] = mask > 0
    assert (pixels(sample, "cat") == expected).all()


def test_what_labelme_ignores_is_void(tmp_path: Path) -> None:
    shapes = [shape("cat", [[3, 2], [19, 9]], "rectangle"), shape("__ignore__", [[0, 0], [4, 4]], "rectangle")]
    sample = by_name(read_samples(labelme(tmp_path, shapes)))["0"]
    assert ((sample.read_labels() == sample.label_space.void) == box(0, 0, 5, 5)).all()


def test_a_labelme_file_that_cannot_be_read_is_listed_and_the_rest_is_read(tmp_path: Path) -> None:
    labelme(tmp_path, [shape("cat", [[3, 2], [19, 9]], "rectangle")], number=5)
    (tmp_path / "1.json").write_text('{"shapes": [], "imagePath": ')
    write(tmp_path / "2.json", {"shapes": [shape("cat", [[1, 1]])], "imagePath": "2.png"})
    samples = read_samples(tmp_path)
    assert sorted(by_name(samples)) == ["0", "3", "4"]
    why = {item.name: item.why for item in samples.skipped if item.why.startswith("unreadable")}
    assert why.keys() == {"1", "2"}
    assert "1 points" in why["2"]


def test_the_real_labelme_files_give_the_label_maps_that_labelme_made(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/label-formats/labelme"
    for path in source.iterdir():
        if path.is_file() and not path.name.startswith("primitives"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    samples = read_samples(tmp_path)
    assert samples.layout == "labelme"
    for name, sample in by_name(samples).items():
        truth = np.array(Image.open(source / f"expected_SegmentationClass/{name}.png"))
        truth = np.where(truth == 255, sample.label_space.void, truth)
        assert (sample.read_labels() == truth).all(), name


# ---- CVAT -----------------------------------------------------------------------------------------------------------


def cvat(root: Path, shapes: str, number: int = 4) -> Path:
    images = ""
    for n in range(number):
        photo(root / f"images/{n}.png", n)
        images += f'<image id="{n}" name="{n}.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0"?><annotations><version>1.1</version>{images}</annotations>'
    )
    return root


def test_cvat_paints_by_z_order_then_by_the_order_of_the_file(tmp_path: Path) -> None:
    shapes = (
        '<box label="dog" xtl="0" ytl="0" xbr="10" ybr="10" z_order="1"/>'
        '<polygon label="cat" points="0,0;20,0;20,20;0,20" z_order="0"/>'
        '<polygon label="cow" points="0,0;4,0;4,4;0,4" z_order="1"/>'
        '<polyline label="line" points="0,0;4,4" z_order="9"/>'
    )
    samples = read_samples(cvat(tmp_path, shapes))
    sample = by_name(samples)["0"]
    assert (pixels(sample, "cow") == box(0, 0, 4, 4)).all()
    assert (pixels(sample, "dog") == (box(0, 0, 10, 10) & ~box(0, 0, 4, 4))).all()
    assert (pixels(sample, "cat") == (box(0, 0, 20, 20) & ~box(0, 0, 10, 10))).all()
    assert "4 polylines" in said(samples)
    assert "line" not in sample.label_space.names


def test_cvat_masks_are_runs_along_the_rows_of_their_box(tmp_path: Path) -> None:
    shapes = '<mask label="cat" rle="1, 2, 3, 1, 2" left="30" top="5" width="3" height="3" z_order="0"/>'
    sample = by_name(read_samples(cvat(tmp_path, shapes)))["0"]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:8, 30:33] = [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert (pixels(sample, "cat") == expected).all()


def test_cvat_xml_with_a_document_type_is_refused(tmp_path: Path) -> None:
    root = cvat(tmp_path, '<box label="dog" xtl="0" ytl="0" xbr="10" ybr="10"/>')
    path = root / "annotations.xml"
    path.write_text(path.read_text().replace("<annotations>", '<!DOCTYPE x [<!ENTITY a "b">]><annotations>', 1))
    with pytest.raises(AnnotationError, match="document type"):
        read_samples(root)


# ---- Label Studio ---------------------------------------------------------------------------------------------------


def label_studio(root: Path, regions: list[dict[str, Any]], key: str = "annotations") -> Path:
    tasks = []
    for n in range(4):
        photo(root / f"{n}.png", n)
        sized = [region | {"original_width": WIDTH, "original_height": HEIGHT} for region in regions]
        tasks.append({"id": n, "data": {"image": f"/data/upload/1/0123abcd-{n}.png"}, key: [{"result": sized}]})
    write(root / "export.json", tasks)
    return root


def pack_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Label Studio's run lengths of one word each, as plain as the format allows."""
    words = np.repeat((mask * 255).astype(np.uint8).ravel(), 4)
    bits = f"{words.size:032b}" + f"{7:05b}" + 4 * f"{15:04b}"
    start = 0
    while start < words.size:
        end = start
        while end < words.size and words[end] == words[start] and end - start < 65536:
            end += 1
        bits += "1" + "00" + f"{end - start - 1:016b}" + f"{words[start]:08b}"
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def test_label_studio_brushes_and_polygons_are_painted_in_order(tmp_path: Path) -> None:
    mask = box(3, 4, 12, 30) & ~box(5, 6, 7, 8)
    corners = [[0, 0], [100 * 10 / WIDTH, 0], [100 * 10 / WIDTH, 50], [0, 50]]
    regions = [
        {"id": "a", "type": "brushlabels", "value": {"rle": pack_brush(mask), "brushlabels": ["cat"]}},
        {"id": "b", "type": "polygonlabels", "value": {"points": corners, "polygonlabels": ["dog"]}},
    ]
    samples = read_samples(label_studio(tmp_path, regions))
    sample = by_name(samples)["0"]
    assert (pixels(sample, "dog") == box(0, 0, 12, 10)).all()
    assert (pixels(sample, "cat") == (mask & ~box(0, 0, 12, 10))).all()


def test_label_studio_predictions_are_taken_where_nothing_else_is_and_said(tmp_path: Path) -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["cat"]}
    samples = read_samples(
        label_studio(tmp_path, [{"id": "a", "type": "rectanglelabels", "value": value}], "predictions")
    )
    assert (pixels(by_name(samples)["0"], "cat") == box(0, 0, 12, 18)).all()
    assert "4 tasks with predictions only" in said(samples)


def test_brushes_that_end_too_soon_are_an_error_that_names_the_task(tmp_path: Path) -> None:
    packed = pack_brush(box(3, 4, 12, 30))[:20]
    region = {"id": "a", "type": "brushlabels", "value": {"rle": packed, "brushlabels": ["cat"]}}
    with pytest.raises(AnnotationError, match=r"export\.json, task 0: run lengths"):
        read_samples(label_studio(tmp_path, [region]))


def test_the_real_brush_gives_the_picture_that_it_was_made_of(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/label-formats/label-studio/brush"
    task = json.loads((source / "task.json").read_text())
    with Image.open(source / "test.png") as image:
        truth = np.asarray(image.convert("L")) > 0
    for name in ("test", "other"):
        Image.new("RGB", truth.shape[::-1]).save(tmp_path / f"{name}.jpg")
    other = task | {"data": {"image": "other.jpg"}}
    write(tmp_path / "tasks.json", [task, other])
    sample = read_samples(tmp_path).train[0]
    drawn = sample.read_labels() != sample.label_space.names.index("background")
    assert drawn.shape == truth.shape
    assert (drawn == truth).all()


# ---- Supervisely ----------------------------------------------------------------------------------------------------


def test_supervisely_polygons_have_holes_and_bitmaps_their_origin(tmp_path: Path) -> None:
    hole = [[8, 6], [12, 6], [12, 9], [8, 9]]
    exterior = [[4, 3], [20, 3], [20, 15], [4, 15]]
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    picture = Image.fromarray(mask * 255).convert("P")
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=0)
    packed = base64.b64encode(zlib.compress(stream.getvalue())).decode()
    objects = [
        {"classTitle": "cat", "geometryType": "polygon", "points": {"exterior": exterior, "interior": [hole]}},
        {"classTitle": "dog", "geometryType": "bitmap", "bitmap": {"data": packed, "origin": [30, 20]}},
        {"classTitle": "line", "geometryType": "line", "points": {"exterior": [[0, 0], [9, 9]], "interior": []}},
    ]
    for n in range(4):
        photo(tmp_path / f"ds/img/{n}.png", n)
        write(tmp_path / f"ds/ann/{n}.png.json", {"size": {"height": HEIGHT, "width": WIDTH}, "objects": objects})
    samples = read_samples(tmp_path)
    sample = by_name(samples)["0"]
    assert (pixels(sample, "cat") == (box(3, 4, 16, 21) & ~box(6, 8, 10, 13))).all()
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[20:22, 30:32] = mask > 0
    assert (pixels(sample, "dog") == expected).all()
    assert "4 lines" in said(samples)


# ---- YOLO -----------------------------------------------------------------------------------------------------------


def yolo(root: Path, lines: list[str], names: str = "names: ['cat', 'dog']") -> Path:
    for split, first in (("train", 0), ("valid", 4)):
        for n in range(first, first + 4):
            photo(root / f"{split}/images/{n}.png", n)
            path = root / f"{split}/labels/{n}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"train: ../train/images\nnc: 2\n{names}\n")
    return root


def test_yolo_polygons_are_shares_of_the_photo_the_smaller_over_the_larger(tmp_path: Path) -> None:
    lines = ["1 0 0 0.25 0 0.25 0.25 0 0.25", "0 0 0 0.5 0 0.5 0.5 0 0.5", "0 0.75 0.75 0.5 0.5"]
    samples = read_samples(yolo(tmp_path, lines))
    sample = by_name(samples)["0"]
    assert (pixels(sample, "dog") == box(0, 0, 6, 9)).all()
    assert (pixels(sample, "cat") == (box(0, 0, 12, 18) & ~box(0, 0, 6, 9))).all()
    assert "8 things with a box alone: the boxes are void" in said(samples)
    assert ((sample.read_labels() == sample.label_space.void) == box(12, 18, 24, 36)).all()
    assert [len(samples.train), len(samples.val)] == [4, 4]


def test_yolo_labels_that_count_from_1_are_seen(tmp_path: Path) -> None:
    samples = read_samples(yolo(tmp_path, ["1 0 0 0.25 0 0.25 0.25 0 0.25", "2 0.5 0 0.75 0 0.75 0.25 0.5 0.25"]))
    assert "taken as counted from 1" in said(samples)
    assert pixels(by_name(samples)["0"], "cat").sum() == 6 * 9


def test_yolo_splits_are_those_of_the_data_file(tmp_path: Path) -> None:
    for n in range(6):
        photo(tmp_path / f"images/all/{n}.png", n)
        path = tmp_path / f"labels/all/{n}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\ufeff0 0 0 0.5 0 0.5 0.5 0 0.5\n", encoding="utf-8")
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        (tmp_path / f"{split}.txt").write_text("".join(f"./images/all/{n}.png\n" for n in numbers))
    (tmp_path / "data.yaml").write_text("path: ../x\ntrain: train.txt\nval: val.txt\nnames:\n  0: cat\n")
    samples = read_samples(tmp_path)
    assert sorted(sample.name for sample in samples.val) == ["4", "5"]
    assert len(samples.train) == 4


def test_a_yolo_file_with_a_line_that_is_none_is_listed_not_taken_as_background(tmp_path: Path) -> None:
    root = yolo(tmp_path, ["1 0 0 0.25 0 0.25 0.25 0 0.25"])
    (root / "train/labels/0.txt").write_text("1 0 0 0.25 0 0.25 0.25 0 oops\n")
    samples = read_samples(root)
    assert "0" not in by_name(samples)
    assert [item.name for item in samples.skipped if item.why.startswith("unreadable")] == ["0"]


def test_yolo_classes_that_no_name_belongs_to_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownLabel, match=r"list them in data\.yaml"):
        read_samples(yolo(tmp_path, ["7 0 0 0.25 0 0.25 0.25 0 0.25"]))


def test_a_name_that_the_class_file_lacks_is_said_and_its_samples_can_be_left_out(tmp_path: Path) -> None:
    labelme(tmp_path, [shape("cat", [[3, 2], [19, 9]], "rectangle")])
    document = json.loads((tmp_path / "0.json").read_text())
    write(tmp_path / "0.json", document | {"shapes": [shape("cow", [[3, 2], [19, 9]], "rectangle")]})
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ncat\n")
    with pytest.raises(UnknownLabel, match=r"0\.png has 'cow' at row 2, column 3"):
        read_samples(tmp_path)
    assert sorted(by_name(read_samples(tmp_path, skip_bad=True))) == ["1", "2", "3"]


def test_stems_that_are_there_twice_are_told_apart_by_their_path(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        objects = [{"classTitle": folder, "geometryType": "rectangle", "points": {"exterior": [[0, 0], [9, 9]]}}]
        for n in range(2):
            photo(tmp_path / folder / f"img/{n}.png", n)
            document = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}
            write(tmp_path / folder / f"ann/{n}.png.json", document)
    samples = by_name(read_samples(tmp_path))
    assert sorted(samples) == ["one/img/0", "one/img/1", "two/img/0", "two/img/1"]
    assert pixels(samples["two/img/1"], "two").any()


def test_photos_in_no_split_are_not_mixed_into_those_that_are_in_one(tmp_path: Path) -> None:
    root = yolo(tmp_path, ["1 0 0 0.25 0 0.25 0.25 0 0.25"])
    photo(root / "extra/images/9.png", 9)
    (root / "extra/labels").mkdir(parents=True)
    (root / "extra/labels/9.txt").write_text("1 0 0 0.25 0 0.25 0.25 0 0.25\n")
    samples = read_samples(root)
    assert [len(samples.train), len(samples.val)] == [4, 4]
    assert "1 annotated photo in no split, left out" in said(samples)


def test_label_maps_are_read_before_annotation_files(tmp_path: Path) -> None:
    paired(tmp_path / "set", 5)
    labels = tmp_path / "set/labels"
    labels.mkdir()
    (labels / "0000.txt").write_text("0 0 0 0.5 0 0.5 0.5 0 0.5\n")
    assert read_samples(tmp_path).layout == "paired"


# ---- what they share ------------------------------------------------------------------------------------------------


def test_photos_are_found_by_as_much_of_their_path_as_is_given(tmp_path: Path) -> None:
    for place in ("a/x.png", "b/x.png", "b/y z.png"):
        photo(tmp_path / place, 0)
    photos = Photos(tmp_path)
    assert photos.find("x.png") is None
    assert photos.find("..\\b\\x.png") == tmp_path / "b/x.png"
    assert photos.find("x.png", near=tmp_path / "a") == tmp_path / "a/x.png"
    assert photos.find("https://host/data/y%20z.png?token=1") == tmp_path / "b/y z.png"


def test_names_get_the_ids_of_the_class_file_there_is(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    classes = classes_by_name(["cat"], [tmp_path])
    assert classes.classes.space.names == ("_background_", "dog", "cat")
    assert [classes.id_of("cat"), classes.id_of("__ignore__"), classes.ground] == [2, 255, 0]
    assert classes_by_name(["cow"], [tmp_path]).classes.strange == {3: "cow"}


def test_two_categories_of_one_name_stay_apart() -> None:
    classes = classes_by_number({0: "tree", 1: "tree", 2: "bush"}, [0], "x.json")
    assert classes.classes.space.names == ("background", "tree", "tree_1", "bush")
    assert [classes.id_of(n) for n in (0, 1, 2)] == [1, 2, 3]


REAL: dict[str, tuple[str, type[DataError] | None]] = {
    "labelme": ("labelme", UnknownLabel),  # primitives.json has names of its own
    "coco/labelme2coco": ("coco", None),
    "cvat/coins": ("cvat", None),
    "ade20k": ("ade20k", SplitError),  # one sample
    "cityscapes": ("cityscapes", SplitError),
    "supervisely": ("supervisely", None),
    "yolo-seg": ("yolo", SplitError),  # val alone
    "coco/results-rle": ("coco", SizeMismatch),
    "coco/datumaro-tiny": ("coco", SplitError),
    "label-studio/polygons": ("label-studio", AnnotationError),  # its photos are not there
    "label-studio/brush": ("label-studio", AnnotationError),
    "cvat/doc-example": ("cvat", AnnotationError),
}


@pytest.mark.parametrize("folder", REAL)
def test_the_real_files_are_recognised_and_what_is_wrong_with_them_is_said(shared: Path, folder: str) -> None:
    layout, error = REAL[folder]
    root, found, _ = detect(shared / "data/label-formats" / folder)
    assert found == layout
    if error is None:
        samples = read_samples(root)
        for sample in samples.split("all"):
            assert sample.read_labels().shape == sample.size
    else:
        with pytest.raises(error):
            read_samples(root)
