"""Supervisely: `<data set>/img/<photo>` beside `<data set>/ann/<photo>.json`, the later object over the earlier.

Polygons have whole coordinates that are pixels, the outline included, and may have holes; bitmaps are PNGs, packed.
Knows no pixels but those of bitmaps.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fullconv.base.errors import AnnotationError
from fullconv.data.formats.annotations import (
    UNREADABLE_SHAPES,
    Annotated,
    Photos,
    Table,
    classes_by_name,
    drawn_listing,
    files_in,
    holds_keys,
    read_json,
    split_of,
)
from fullconv.data.formats.listing import Listing, count
from fullconv.data.samples import Skipped
from fullconv.labels.drawing import Drawing, Points, Runs, Sketch, Thing, runs_of

_AREAS = ("polygon", "bitmap", "rectangle")
_MOST_BYTES = 1 << 28  # of an unpacked bitmap's PNG: far more than any photo's


def recognise(root: Path) -> str | None:
    """Why `root` is a Supervisely project, or None."""
    files = _files(root)
    if files and holds_keys(files[0], "objects", "size"):
        return f"{files[0].relative_to(root).as_posix()} and others hold `objects` and `size` beside img/"
    return None


def list_pairs(root: Path) -> Listing:
    """The photos of all data sets of the project, with their objects drawn; a file that cannot be read is skipped."""
    photos = Photos(root)
    documents: list[tuple[Path, Any]] = []
    skipped = []
    for path in _files(root):
        try:
            documents.append((path, _checked(read_json(path))))
        except (AnnotationError, *UNREADABLE_SHAPES) as error:
            reason = error.found if isinstance(error, AnnotationError) else f"no {error}"
            skipped.append(Skipped(path.stem, (path,), f"unreadable: {path.name}: {reason}"))
    objects = [thing for _, document in documents for thing in document["objects"]]
    table = classes_by_name([*_named(root), *(str(thing["classTitle"]) for thing in objects)], [root])
    annotated = []
    for path, document in documents:
        try:
            annotated.append(_annotated(path, document, photos, table, root))
        except UNREADABLE_SHAPES as error:
            skipped.append(Skipped(path.stem, (path,), f"unreadable: {path.name}: {error}"))
    left = Counter(str(thing["geometryType"]) for thing in objects if thing["geometryType"] not in _AREAS)
    notes = [f"Not drawn: {', '.join(count(n, kind) for kind, n in sorted(left.items()))}."] if left else []
    alone = [path for path in photos.alone(one.photo for one in annotated if one.photo) if path.parent.name == "img"]
    return drawn_listing("supervisely", annotated, root=root, table=table, alone=alone, notes=notes, skipped=skipped)


def _files(root: Path) -> list[Path]:
    folders = [path for path in (root / "ann", *sorted(root.glob("*/ann"))) if (path.parent / "img").is_dir()]
    return [path for folder in folders for path in files_in(folder, ".json", depth=0)]


def _checked(document: Any) -> Any:
    """The document, if it has what all Supervisely files have. Raises: KeyError, TypeError."""
    document["size"]["height"], document["size"]["width"]
    for thing in document["objects"]:
        thing["classTitle"], thing["geometryType"]
    return document


def _named(root: Path) -> list[str]:
    """The classes of meta.json, where there is one: some may not be annotated."""
    meta = root / "meta.json"
    if not meta.is_file():
        return []
    return [str(entry["title"]) for entry in read_json(meta).get("classes", [])]


def _annotated(path: Path, document: Mapping[str, Any], photos: Photos, table: Table, root: Path) -> Annotated:
    said = path.name.removesuffix(".json")
    size = int(document["size"]["height"]), int(document["size"]["width"])
    things = tuple(
        Thing(table.id_of(str(thing["classTitle"])), _shape(thing, size))
        for thing in document["objects"]
        if thing["geometryType"] in _AREAS
    )
    photo = photos.find(said, near=path.parent.parent / "img")
    drawing = Drawing(path, said, "Supervisely", size, things, table.ground)
    return Annotated(said, photo, drawing, split_of(path, root))


def _shape(thing: Mapping[str, Any], size: tuple[int, int]) -> Sketch | Runs:
    if thing["geometryType"] == "bitmap":
        left, top = thing["bitmap"]["origin"]
        return runs_of(_bitmap(thing["bitmap"]["data"]), top=int(top), left=int(left), size=size)
    exterior = _points(thing["points"]["exterior"])
    if thing["geometryType"] == "rectangle":
        return Sketch("rectangle", exterior)
    if len(exterior) < 3:
        raise ValueError(f"a polygon ({thing['classTitle']}) of {len(exterior)} points")
    return Sketch("polygon", exterior, tuple(_points(hole) for hole in thing["points"].get("interior") or []))


def _points(given: Any) -> Points:
    return tuple((float(x), float(y)) for x, y in given)


def _bitmap(packed: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Opacity, where the PNG has it, says what belongs to the object."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(packed), _MOST_BYTES)
    with Image.open(io.BytesIO(data)) as image:
        opaque = image.convert("RGBA").getchannel("A") if "A" in image.mode or "transparency" in image.info else image
        return np.asarray(opaque.convert("L"), bool)
