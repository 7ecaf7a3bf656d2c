"""labelme JSON: one file a photo, shapes in the order of painting, pixels by the rule of labelme's own export.

Knows no pixels but those of `mask` shapes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
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
    size_of,
    split_of,
)
from fullconv.data.formats.listing import Listing, some
from fullconv.data.samples import Skipped
from fullconv.labels.drawing import FEWEST_CORNERS, SKETCHES, Drawing, Runs, Sketch, Thing, runs_of

_LOOKED_AT = 8
_FEWEST = {"polygon": FEWEST_CORNERS, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1, "points": 1}


def recognise(root: Path) -> str | None:
    """Why `root` is a folder of labelme files, or None."""
    files = files_in(root, ".json")
    if any(_is_labelme(path) for path in files[:_LOOKED_AT]):
        return f"{files[0].relative_to(root).as_posix()} and others hold `shapes` and `imagePath`"
    return None


def list_pairs(root: Path) -> Listing:
    """The photos of all labelme files in the folder, with their shapes drawn; a file that cannot be read is skipped."""
    photos = Photos(root)
    documents: dict[Path, Any] = {}
    skipped = []
    for path in files_in(root, ".json"):
        try:
            if _is_labelme(path):
                documents[path] = _checked(read_json(path))
        except (AnnotationError, *UNREADABLE_SHAPES) as error:
            skipped.append(Skipped(path.stem, (path,), f"unreadable: {path.name}: {_reason(error)}"))
    shapes = [shape for document in documents.values() for shape in document["shapes"]]
    table = classes_by_name((str(shape["label"]) for shape in shapes), [root])
    annotated = []
    for path, document in documents.items():
        photo = photos.find(str(document["imagePath"]), near=path.parent) or photos.beside(path)
        try:
            annotated.append(_annotated(path, document, photo, table, root))
        except UNREADABLE_SHAPES as error:
            skipped.append(Skipped(path.stem, (path,), f"unreadable: {path.name}: {error}"))
    alone = photos.alone(one.photo for one in annotated if one.photo)
    return drawn_listing(
        "labelme", annotated, root=root, table=table, alone=alone, notes=_notes(shapes), skipped=skipped
    )


def _is_labelme(path: Path) -> bool:
    return holds_keys(path, "shapes", "imagePath")


def _checked(document: Any) -> Any:
    """The document, if it has what all labelme files have. Raises: KeyError, TypeError."""
    for shape in document["shapes"]:
        shape["label"], shape["points"]
    document["imagePath"]
    return document


def _reason(error: Exception) -> str:
    return error.found if isinstance(error, AnnotationError) else f"no {error}"


def _notes(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    thin = sorted({kind for shape in shapes if (kind := _kind(shape)) in ("line", "linestrip", "point", "points")})
    if not thin:
        return []
    return [f"Shapes without an area ({some(thin)}) are drawn as labelme does: lines 10 pixels wide, points 11 across."]


def _annotated(path: Path, document: Mapping[str, Any], photo: Path | None, table: Table, root: Path) -> Annotated:
    said = str(document["imagePath"])
    size = _size(document, photo)
    things = tuple(_thing(shape, size, table) for shape in document["shapes"])
    return Annotated(said, photo, Drawing(path, said, "labelme", size, things, table.ground), split_of(path, root))


def _size(document: Mapping[str, Any], photo: Path | None) -> tuple[int, int]:
    if document.get("imageHeight") and document.get("imageWidth"):
        return int(document["imageHeight"]), int(document["imageWidth"])
    return size_of(photo)


def _kind(shape: Mapping[str, Any]) -> str:
    return str(shape.get("shape_type") or "polygon")


def _thing(shape: Mapping[str, Any], size: tuple[int, int], table: Table) -> Thing:
    kind = _kind(shape)
    points = tuple((float(x), float(y)) for x, y in shape["points"])
    value = table.id_of(str(shape["label"]))
    if kind == "mask":
        return Thing(value, _mask(shape["mask"], points[0], size))
    if kind not in SKETCHES:
        raise ValueError(f"the shape type {kind!r} is none of {', '.join(SKETCHES)}, mask")
    if len(points) < _FEWEST[kind]:
        raise ValueError(f"a {kind} ({shape['label']}) of {len(points)} points")
    return Thing(value, Sketch(kind, points))


def _mask(encoded: str, corner: tuple[float, float], size: tuple[int, int]) -> Runs:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        mask = np.asarray(image.convert("L"), bool)
    return runs_of(mask, top=int(corner[1]), left=int(corner[0]), size=size)
