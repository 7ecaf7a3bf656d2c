"""YOLO segmentation: `labels/<photo>.txt` beside `images/<photo>`, a line a thing: class x y x y ..., as shares of 1.

Pixels by COCO's rule; the larger thing lies below the smaller, as there is no order. A photo without a file, or with
an empty one, is background everywhere. Of a thing with a box alone nobody knows the pixels: the box is void, below all
that is known. Knows no pixels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fullconv.base.errors import AnnotationError
from fullconv.data.formats.annotations import (
    Annotated,
    Table,
    classes_by_number,
    drawn_listing,
    files_in,
    size_of,
    split_of,
)
from fullconv.data.formats.coco import area_of, box_of
from fullconv.data.formats.folders import SPLIT_WORDS, images_in, lines_of
from fullconv.data.formats.listing import Listing, SplitLists, count, some
from fullconv.data.samples import Skipped
from fullconv.labels.classfile import find_class_file, ids_of
from fullconv.labels.drawing import FEWEST_CORNERS, Drawing, Thing, polygon

Row = tuple[int, tuple[float, ...]]  # class, x y x y ...
_BOX = 4
_LOOKED_AT = 20


def recognise(root: Path) -> str | None:
    """Why `root` is a folder of YOLO segmentation labels, or None."""
    files = _label_files(root)
    if not any(_rows(path) for path in files[:_LOOKED_AT]):
        return None
    named = _data_file(root)
    return f"labels such as {files[0].relative_to(root).as_posix()}" + (f", classes in {named.name}" if named else "")


def list_pairs(root: Path) -> Listing:
    """The photos that have a `labels` folder beside their `images`, with their things drawn."""
    files = _label_files(root)
    read = {path: _rows(path) for path in files}
    rows = {path: found for path, found in read.items() if found is not None}
    photos = [path for folder in sorted({_photo_folder(path.parent) for path in files}) for path in images_in(folder)]
    _check_shapes(rows, root)
    found = sorted({number for of_file in rows.values() for number, _ in of_file})
    names, source, notes = _names(root, found)
    table = classes_by_number(names, found, source)
    given = _split_lists(root, photos)
    annotated = []
    for photo in photos:
        label = _label_of(photo)
        if label in rows or label not in read:
            split = None if given else split_of(photo, root)
            annotated.append(Annotated(photo.name, photo, _drawing(label, rows.get(label, ()), photo, table), split))
    skipped = [
        Skipped(path.stem, (path,), f"unreadable: {path.name} has a line that is none of YOLO's")
        for path, of_file in read.items()
        if of_file is None
    ]
    unlabelled = [photo for photo in photos if _label_of(photo) not in read]
    boxes = sum(len(numbers) == _BOX for of_file in rows.values() for _, numbers in of_file)
    notes += [f"{count(boxes, 'thing')} with a box alone: the boxes are void."] if boxes else []
    if unlabelled:
        said = some((path.name for path in unlabelled), 3)
        notes.append(f"{count(len(unlabelled), 'photo')} without labels, taken as background everywhere ({said}).")
    notes.append("The larger thing is painted below the smaller: YOLO gives no order.")
    return drawn_listing(
        "yolo", annotated, root=root, table=table, notes=notes, skipped=skipped, lists=[given] if given else None
    )


def _label_files(root: Path) -> list[Path]:
    return [
        path
        for path in files_in(root, ".txt")
        if "labels" in path.relative_to(root).parts[:-1] and _photo_folder(path.parent).is_dir()
    ]


def _photo_folder(labels: Path) -> Path:
    """The folder of photos that belongs to one of labels: `images` instead of the last `labels` in the path."""
    return _other_folder(labels, "labels", "images")


def _label_of(photo: Path) -> Path:
    return _other_folder(photo.parent, "images", "labels") / f"{photo.stem}.txt"


def _other_folder(folder: Path, name: str, other: str) -> Path:
    parts = list(folder.parts)
    place = len(parts) - 1 - parts[::-1].index(name)
    return Path(*parts[:place], other, *parts[place + 1 :])


def _rows(path: Path) -> tuple[Row, ...] | None:
    """The rows of a label file; None if a line is none: class and pairs of numbers."""
    rows = []
    for line in path.read_bytes().decode("utf-8-sig", errors="replace").splitlines():
        cells = line.split()
        try:
            numbers = [float(cell) for cell in cells]
        except ValueError:
            return None
        if not cells:
            continue
        if len(numbers) % 2 == 0 or len(numbers) <= _BOX or numbers[0] < 0 or not numbers[0].is_integer():
            return None
        rows.append((int(numbers[0]), tuple(numbers[1:])))
    return tuple(rows)


def _check_shapes(rows: Mapping[Path, Sequence[Row]], root: Path) -> None:
    """Raises: AnnotationError if the labels are of another task: boxes alone, or poses."""
    named = _data_file(root)
    pose = named is not None and "kpt_shape" in _document(named)
    kinds = Counter(len(numbers) == _BOX for of_file in rows.values() for _, numbers in of_file)
    if pose or (kinds[True] and not kinds[False]):
        raise AnnotationError(
            "YOLO labels are outlines: class x y x y x y ...",
            "key points of poses (kpt_shape)" if pose else f"{count(kinds[True], 'line')}, all of them boxes",
            "annotate outlines: a box says too little about pixels",
        )


def _data_file(root: Path) -> Path | None:
    found = sorted(path for kind in ("*.yaml", "*.yml") for path in root.glob(kind))
    return next((path for path in found if _document(path).get("names")), None)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def _names(root: Path, found: Sequence[int]) -> tuple[dict[int, str], str, list[str]]:
    """Number -> name, what lists them, and what is said about it.

    By the data file; else by a class file; else by the labels alone.
    """
    path = _data_file(root)
    listed = find_class_file([root]) if path is None else None
    if listed is not None:
        named = zip(ids_of(listed.entries), (entry.name for entry in listed.entries), strict=True)
        return dict(named), listed.path.name, []
    if path is None:
        return {number: f"class_{number}" for number in found}, "the labels", []
    given = _document(path)["names"]
    names = {
        int(number): str(name) for number, name in (given.items() if isinstance(given, dict) else enumerate(given))
    }
    if [number for number in found if number not in names] == [len(names)] and found[0] > 0:
        used = f"the labels use {found[0]} to {found[-1]} and never 0: taken as counted from 1."
        said = f"{path.name} names the {len(names)} classes 0 to {len(names) - 1}, {used}"
        return {number + 1: name for number, name in names.items()}, path.name, [said]
    return names, path.name, []


def _split_lists(root: Path, photos: Sequence[Path]) -> SplitLists | None:
    """The splits as the data file gives them, in folders or lists of photos; None unless two or more are there."""
    named = _data_file(root)
    document = _document(named) if named else {}
    lines: dict[str, list[str]] = {}
    for key, split in SPLIT_WORDS.items():
        for said in [document[key]] if isinstance(document.get(key), str) else document.get(key) or []:
            place = root / Path(*[part for part in re.split(r"[\\/]+", str(said)) if part not in ("", ".", "..")])
            if place.is_file():
                lines.setdefault(split, []).extend(lines_of(place))
            elif place.is_dir():
                inside = [path for path in photos if path.is_relative_to(place)]
                lines.setdefault(split, []).extend(path.relative_to(root).as_posix() for path in inside)
    there = {split: names for split, names in lines.items() if names}
    return SplitLists(there, named.name) if named and len(there) > 1 else None


def _drawing(label: Path, rows: Sequence[Row], photo: Path, table: Table) -> Drawing:
    height, width = size_of(photo)
    shapes: list[tuple[bool, float, Thing]] = []
    for number, numbers in rows:
        if len(numbers) == _BOX:
            x, y, w, h = (value * side for value, side in zip(numbers, (width, height, width, height), strict=True))
            box = box_of(x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            shapes.append((False, -area_of(box), Thing(table.void, box)))
        elif len(numbers) >= 2 * FEWEST_CORNERS:
            shape = polygon([[value * (height if place % 2 else width) for place, value in enumerate(numbers)]])
            assert shape is not None
            shapes.append((True, -area_of(shape), Thing(table.id_of(number), shape)))
    ordered = sorted(shapes, key=lambda entry: entry[:2])
    return Drawing(label, photo.name, "YOLO", (height, width), tuple(thing for *_, thing in ordered), table.ground)
