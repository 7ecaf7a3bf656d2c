"""CVAT for images 1.1: one XML file, things in the order of `z_order`, then of the file; pixels by COCO's rule.

CVAT paints boxes and ellipses as areas and leaves points and lines out when it exports masks; so does this reader.
CVAT's other export, segmentation mask 1.1, is a VOC devkit with labelmap.txt. Knows no pixels but those of masks.
"""

from __future__ import annotations

from collections import Counter
from math import cos, pi, radians, sin
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from fullconv.base.errors import AnnotationError
from fullconv.data.formats.annotations import (
    UNREADABLE_SHAPES,
    Annotated,
    Photos,
    Table,
    classes_by_name,
    drawn_listing,
    files_in,
    read_xml,
    split_in,
    split_of,
)
from fullconv.data.formats.listing import Listing, count
from fullconv.data.samples import Skipped
from fullconv.labels.drawing import Drawing, Polygon, Runs, Thing, polygon, runs_of

_AREAS = ("polygon", "mask", "box", "ellipse")
_ELLIPSE_CORNERS = 72


def recognise(root: Path) -> str | None:
    """Why `root` is a CVAT export, or None."""
    files = _files(root)
    return f"{files[0].relative_to(root).as_posix()} holds CVAT annotations" if files else None


def list_pairs(root: Path) -> Listing:
    """The photos of all CVAT files in the folder, with what is annotated in them drawn."""
    photos = Photos(root)
    documents = [(path, read_xml(path)) for path in _files(root)]
    _check_no_tracks(documents)
    images = [(path, image) for path, document in documents for image in document.iter("image")]
    names = [label.text or "" for _, document in documents for label in document.iterfind(".//label/name")]
    names += [shape.get("label", "") for _, image in images for shape in image if shape.tag in _AREAS]
    table = classes_by_name(names, [root])
    annotated, skipped = [], []
    for path, image in images:
        try:
            annotated.append(_annotated(path, image, photos, table, root))
        except UNREADABLE_SHAPES as error:
            said = image.get("name", "")
            skipped.append(Skipped(said, (path,), f"unreadable: {path.name}, {said}: {error}"))
    left = Counter(shape.tag for _, image in images for shape in image if shape.tag not in (*_AREAS, "tag"))
    notes = ["Where things overlap, the higher z_order counts, then the later in the file, as in CVAT's own masks."]
    notes += [f"Without an area, left out: {', '.join(count(n, kind) for kind, n in sorted(left.items()))}."] * bool(
        left
    )
    alone = photos.alone(one.photo for one in annotated if one.photo)
    return drawn_listing("cvat", annotated, root=root, table=table, alone=alone, notes=notes, skipped=skipped)


def _files(root: Path) -> list[Path]:
    found = []
    for path in files_in(root, ".xml", depth=1):
        with path.open("rb") as file:
            head = file.read(4096)
        if b"<annotations" in head and b"<annotation>" not in head:
            found.append(path)
    return found


def _check_no_tracks(documents: list[tuple[Path, Element]]) -> None:
    for path, document in documents:
        tracks = len(document.findall("track"))
        if tracks:
            raise AnnotationError(
                "CVAT annotations are those of images",
                f"{path} holds {count(tracks, 'track')} of a video",
                "export the task from CVAT as `CVAT for images 1.1`, with its frames",
            )


def _annotated(path: Path, image: Element, photos: Photos, table: Table, root: Path) -> Annotated:
    said = image.get("name", "")
    size = int(image.attrib["height"]), int(image.attrib["width"])
    shapes = sorted((shape for shape in image if shape.tag in _AREAS), key=lambda shape: int(shape.get("z_order", 0)))
    drawn = [(shape.get("label", ""), _shape(shape, size)) for shape in shapes]
    things = tuple(Thing(table.id_of(name), shape) for name, shape in drawn if shape is not None)
    split = split_in(image.get("subset", "")) or split_of(path, root)
    photo = photos.find(said, near=path.parent, split=split)
    return Annotated(said, photo, Drawing(path, said, "CVAT", size, things, table.ground), split)


def _shape(shape: Element, size: tuple[int, int]) -> Polygon | Runs | None:
    if shape.tag == "mask":
        return _mask(shape, size)
    if shape.tag == "polygon":
        corners = [float(number) for pair in shape.attrib["points"].split(";") for number in pair.split(",")]
        return polygon([corners])
    turn = radians(float(shape.get("rotation", 0)))
    if shape.tag == "ellipse":
        x, y, rx, ry = (float(shape.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        angles = [2 * pi * step / _ELLIPSE_CORNERS for step in range(_ELLIPSE_CORNERS)]
        around = [(rx * cos(angle), ry * sin(angle)) for angle in angles]
    else:
        left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        x, y = (left + right) / 2, (top + bottom) / 2
        around = [(px - x, py - y) for px, py in ((left, top), (right, top), (right, bottom), (left, bottom))]
    return polygon([[number for dx, dy in around for number in _turned(x, y, dx, dy, turn)]])


def _turned(x: float, y: float, dx: float, dy: float, turn: float) -> tuple[float, float]:
    """A corner turned round the middle, clockwise as CVAT counts."""
    return x + dx * cos(turn) - dy * sin(turn), y + dx * sin(turn) + dy * cos(turn)


def _mask(shape: Element, size: tuple[int, int]) -> Runs:
    """Run lengths along the rows of a box, what is not covered first."""
    left, top, width, height = (int(float(shape.attrib[key])) for key in ("left", "top", "width", "height"))
    runs = [int(number) for number in shape.attrib["rle"].split(",")]
    if sum(runs) != width * height:
        raise ValueError(f"run lengths of {sum(runs)} pixels in a box of {width}x{height}")
    covered = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return runs_of(covered, top=top, left=left, size=size)
