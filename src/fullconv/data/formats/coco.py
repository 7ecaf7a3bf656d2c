"""COCO JSON: `images`, `annotations`, `categories` in one file, as COCO, LVIS, Roboflow and many tools write it.

Things have polygons, run lengths, or are a crowd of things as run lengths. The format knows no order of painting, so
that the larger thing lies below the smaller, and crowds lie below all. Of a thing with a box alone nobody knows the
pixels: the box is void, below all that is known. Knows no pixels.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faster_coco_eval.core import mask as coco

from fullconv.base.errors import AnnotationError
from fullconv.data.formats.annotations import (
    UNREADABLE_SHAPES,
    Annotated,
    Photos,
    Table,
    classes_by_number,
    drawn_listing,
    files_in,
    holds_keys,
    read_json,
    size_of,
    split_in,
    split_of,
)
from fullconv.data.formats.listing import Listing, count, some
from fullconv.data.samples import Skipped
from fullconv.labels.drawing import Drawing, Polygon, Runs, Thing, polygon, runs_of_counts

_OTHER_TASKS = {"captions", "keypoints", "panoptic", "stuff", "info"}
_LOOKED_AT = 12


def recognise(root: Path) -> str | None:
    """Why `root` is a COCO folder, or None."""
    found = _read(files_in(root, ".json", depth=2)[:_LOOKED_AT])
    return "it has " + some((path.relative_to(root).as_posix() for path in found), 3) if found else None


def list_pairs(root: Path) -> Listing:
    """The photos of all COCO files in the folder, with what is annotated in them drawn.

    A list of results (guesses of a network, with scores) is read only where there is nothing else.
    """
    photos = Photos(root)
    found = files_in(root, ".json", depth=2)
    files = _read(found)
    documents = [(path, read_json(path)) for path in files]
    truth = [(path, document) for path, document in documents if isinstance(document, dict)]
    used = [(path, document) for path, document in truth if document["annotations"]] or truth or documents
    passed = [path for path in found if path not in {file for file, _ in used}]
    table = classes_by_number(_categories(used), _numbers(used), used[0][0].name)
    annotated: list[Annotated] = []
    skipped: list[Skipped] = []
    boxes: Counter[str] = Counter()
    notes = []
    for path, document in used:
        notes += _of_file(path, document, table, photos, root, annotated, skipped, boxes)
    if boxes["boxes"] and not boxes["shapes"]:
        raise AnnotationError(
            "things have polygons or run lengths",
            f"{count(boxes['boxes'], 'annotation')} in {used[0][0].name} and others, all of them boxes",
            "annotate outlines: a box says too little about pixels",
        )
    notes += [f"{count(boxes['boxes'], 'thing')} with a box alone: the boxes are void."] if boxes["boxes"] else []
    notes += [f"Not read: {some((path.name for path in passed), 4)}."] if passed else []
    notes.append("The larger thing is painted below the smaller, crowds below all: COCO gives no order.")
    alone = photos.alone(one.photo for one in annotated if one.photo)
    return drawn_listing("coco", annotated, root=root, table=table, alone=alone, notes=notes, skipped=skipped)


def _read(files: Sequence[Path]) -> list[Path]:
    return [
        path for path in files if not _OTHER_TASKS & set(_words(path.stem)) and (_is_truth(path) or _is_results(path))
    ]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _is_truth(path: Path) -> bool:
    return holds_keys(path, "images", "annotations", "categories") and not holds_keys(path, "segments_info")


def _is_results(path: Path) -> bool:
    """Whether a file is a list of results: things with scores, without photos and categories."""
    with path.open("rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    return head.startswith(b"[") and holds_keys(path, "image_id", "category_id", "segmentation")


def _categories(documents: Sequence[tuple[Path, Any]]) -> dict[int, str]:
    """Number -> name, of all files together. Raises: AnnotationError if two files call one number differently.

    Roboflow's number 0 is the group of all others, and no thing has it: it is no class.
    """
    names: dict[int, str] = {}
    groups: dict[int, str] = {}
    for path, document in documents:
        if isinstance(document, list):
            found = {int(thing["category_id"]): f"class_{thing['category_id']}" for thing in document}
            names = found | names
            continue
        for category in document["categories"]:
            number, name = int(category["id"]), str(category["name"])
            groups[number] = str(category.get("supercategory"))
            if names.setdefault(number, name) != name:
                raise AnnotationError(
                    "all COCO files of a folder have the same categories",
                    f"{path.name} calls category {number} {name!r}, another file {names[number]!r}",
                    "give one of the files, in a folder of its own",
                )
    others = [group for number, group in groups.items() if number != 0]
    if others and 0 in names and set(others) == {names[0]} and 0 not in _numbers(documents):
        del names[0]
    return names


def _numbers(documents: Sequence[tuple[Path, Any]]) -> set[int]:
    """The category numbers that annotations have."""
    things = (document if isinstance(document, list) else document["annotations"] for _, document in documents)
    return {int(thing["category_id"]) for found in things for thing in found}


def _of_file(
    path: Path,
    document: Any,
    table: Table,
    photos: Photos,
    root: Path,
    annotated: list[Annotated],
    skipped: list[Skipped],
    boxes: Counter[str],
) -> list[str]:
    """Add the photos of one file; what is to be said of it."""
    results = isinstance(document, list)
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for thing in document if results else document["annotations"]:
        by_image[str(thing["image_id"])].append(thing)
    images = _images_of_results(by_image, photos) if results else {str(one["id"]): one for one in document["images"]}
    split = split_in(path.stem) or split_of(path, root)
    for number, image in images.items():
        said = str(image.get("file_name") or image.get("coco_url") or f"image {number}")
        photo = photos.find(said, near=path.parent, split=split)
        try:
            size = _size(image, by_image[number], photo)
            drawn = _things(by_image[number], size, table, boxes)
        except UNREADABLE_SHAPES as error:
            skipped.append(Skipped(said, (path,), f"unreadable: {path.name}, {said}: {error}"))
            continue
        annotated.append(Annotated(said, photo, Drawing(path, said, "COCO", size, drawn, table.ground), split))
    orphans = sum(len(things) for number, things in by_image.items() if number not in images)
    notes = [f"{path.name}: {count(orphans, 'annotation')} of photos that it does not list."] if orphans else []
    if results:
        notes.append(f"{path.name} is a list of results: guesses of a network with scores, no ground truth.")
    return notes


def _images_of_results(by_image: Mapping[str, Any], photos: Photos) -> dict[str, dict[str, Any]]:
    """The photos that results mean: those whose names end in the image's number, as COCO's do."""
    by_number = {
        digits[-1].lstrip("0"): path.name for path in photos.alone(()) if (digits := re.findall(r"\d+", path.stem))
    }
    return {number: {"file_name": by_number.get(number.lstrip("0"), f"image {number}")} for number in by_image}


def _size(image: Mapping[str, Any], things: Sequence[Mapping[str, Any]], photo: Path | None) -> tuple[int, int]:
    if image.get("height") and image.get("width"):
        return int(image["height"]), int(image["width"])
    for thing in things:
        if isinstance(thing.get("segmentation"), dict):
            height, width = thing["segmentation"]["size"]
            return int(height), int(width)
    return size_of(photo)


def _things(
    annotations: Sequence[Mapping[str, Any]], size: tuple[int, int], table: Table, boxes: Counter[str]
) -> tuple[Thing, ...]:
    """The things in the order of painting."""
    ranked = []
    for annotation in annotations:
        shape = _shape(annotation, size)
        if shape is not None:
            boxes["shapes"] += 1
            thing = Thing(table.id_of(int(annotation["category_id"])), shape)
            ranked.append((1 if annotation.get("iscrowd") else 2, -area_of(shape), thing))
        elif annotation.get("bbox"):
            boxes["boxes"] += 1
            left, top, width, height = (float(number) for number in annotation["bbox"])
            ranked.append((0, -width * height, Thing(table.void, box_of(left, top, left + width, top + height))))
    return tuple(thing for *_, thing in sorted(ranked, key=lambda entry: entry[:2]))


def _shape(annotation: Mapping[str, Any], size: tuple[int, int]) -> Polygon | Runs | None:
    drawn = annotation.get("segmentation")
    if not drawn:
        return None
    if not isinstance(drawn, dict):
        return polygon(drawn if isinstance(drawn[0], list) else [drawn])
    height, width = drawn["size"]
    if (height, width) != size:
        raise ValueError(f"run lengths of {width}x{height} on a photo of {size[1]}x{size[0]}")
    return runs_of_counts(drawn["counts"], size)


def box_of(left: float, top: float, right: float, bottom: float) -> Polygon:
    """A box as a polygon."""
    return Polygon(((left, top, right, top, right, bottom, left, bottom),))


def area_of(shape: Polygon | Runs) -> float:
    """The area of a shape in pixels, that of polygons by their corners."""
    if isinstance(shape, Runs):
        return float(coco.area({"size": list(shape.size), "counts": shape.counts}))
    return sum(abs(_shoelace(part)) for part in shape.parts)


def _shoelace(part: Sequence[float]) -> float:
    xs, ys = part[::2], part[1::2]
    return sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs))) / 2
