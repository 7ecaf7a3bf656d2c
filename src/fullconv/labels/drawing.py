"""Label maps that are drawn as shapes, not stored as pixels. Road: labels, beside `decode`. Knows no label space.

Two rules say which pixels a shape covers, and which holds is a matter of the tool that wrote the file:

- `Polygon`, `Runs`: COCO's. Pixel (row, column) is the square from (column, row) to (column + 1, row + 1), and its
  middle decides. What COCO's own library computes, as it is that library that is called.
- `Sketch`: Pillow's, by which labelme makes label maps. Whole coordinates are pixels, and the outline belongs to the
  shape, so that a shape is half a pixel larger on every side.

Shapes are painted in the order given: where two overlap, the later one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fullconv.labels.decode import Raw, unreadable

Points = tuple[tuple[float, float], ...]

FEWEST_CORNERS = 3
_LINE_WIDTH = 10  # px, as labelme draws a line into a label map
_POINT_RADIUS = 5  # px, likewise


@dataclass(frozen=True)
class Polygon:
    """One thing as polygons, all parts together, by COCO's rule.

    Args:
        parts: x, y, x, y ... in pixels, at least three corners each.
    """

    parts: tuple[tuple[float, ...], ...]

    def cover(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W): the pixels of the thing on a photo of `size`."""
        height, width = size
        runs = coco.merge(coco.frPyObjects([list(part) for part in self.parts], height, width))
        return np.asarray(coco.decode(runs), bool)


@dataclass(frozen=True)
class Runs:
    """One thing as run lengths down the columns, in COCO's compressed form.

    Args:
        size: (H, W) that the runs fill.
    """

    counts: bytes
    size: tuple[int, int]

    def cover(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W): the pixels of the thing; `size` is that of the runs."""
        assert size == self.size
        return np.asarray(coco.decode({"size": list(self.size), "counts": self.counts}), bool)


@dataclass(frozen=True)
class Sketch:
    """One thing by Pillow's rule.

    Args:
        kind: one of `SKETCHES`.
        points: (x, y) in pixels: the corners; two opposite corners of a rectangle; a circle's middle and a point on it.
        holes: corners of polygons that are cut out.
    """

    kind: str
    points: Points
    holes: tuple[Points, ...] = ()

    def cover(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W): the pixels of the thing on a photo of `size`."""
        canvas = Image.new("L", (size[1], size[0]))
        pen = ImageDraw.Draw(canvas)
        SKETCHES[self.kind](pen, self.points)
        for hole in self.holes:
            pen.polygon(list(hole), fill=0, outline=0)
        return np.asarray(canvas, bool)


@dataclass(frozen=True)
class Thing:
    """A shape and the id that its pixels have."""

    value: int
    shape: Polygon | Runs | Sketch


@dataclass(frozen=True)
class Drawing:
    """The label map of one photo, as shapes.

    Args:
        source: the annotation file.
        photo: what it calls the photo.
        kind: the format of the file: "COCO", "labelme", ...
        size: (H, W) of the photo that was annotated.
        things: painted in this order, the later over the earlier.
        ground: the id of pixels that no shape covers.
    """

    source: Path
    photo: str
    kind: str
    size: tuple[int, int]
    things: tuple[Thing, ...]
    ground: int = 0

    @property
    def name(self) -> str:
        """For messages: the photo, and the file that says what is in it."""
        return self.photo if self.source.stem == Path(self.photo).stem else f"{self.photo} ({self.source.name})"

    def raw(self) -> Raw:
        """The label map as a file would hold it. Raises: UnreadableImage if run lengths do not fit the photo."""
        try:
            return Raw(self.paint(), None, None, "shapes", self.kind)
        except ValueError as error:
            raise unreadable(self.source, error) from error

    def paint(self) -> NDArray[Any]:
        """(H, W) ids: uint8 where all fit, else uint16."""
        largest = max([self.ground, *(thing.value for thing in self.things)])
        ids = np.full(self.size, self.ground, np.uint8 if largest < 256 else np.uint16)
        for thing in self.things:
            ids[thing.shape.cover(self.size)] = thing.value
        return ids


def runs_of(mask: NDArray[np.bool_], *, top: int = 0, left: int = 0, size: tuple[int, int] | None = None) -> Runs:
    """The runs of a mask that lies at `top`, `left` of a photo of `size` (its own if None); what is outside is cut."""
    size = size or (mask.shape[0], mask.shape[1])
    whole = np.zeros(size, np.uint8, order="F")
    rows, columns = (slice(max(0, start), max(0, start + n)) for start, n in zip((top, left), mask.shape, strict=True))
    inside = whole[rows, columns]
    inside[...] = mask[max(0, -top) :, max(0, -left) :][: inside.shape[0], : inside.shape[1]]
    return Runs(coco.encode(whole)["counts"], size)


def runs_of_counts(counts: Sequence[int] | str | bytes, size: tuple[int, int]) -> Runs:
    """COCO's run lengths, compressed or not, of a photo of `size`. Raises: ValueError if they do not fill it."""
    if isinstance(counts, str | bytes):
        packed = counts.encode() if isinstance(counts, str) else counts
    else:
        if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
            raise ValueError(f"run lengths of {sum(counts)} pixels on {size[1]}x{size[0]}")
        packed = coco.frPyObjects({"size": list(size), "counts": list(counts)}, *size)["counts"]
    return Runs(packed, size)


def polygon(parts: Sequence[Sequence[float]]) -> Polygon | None:
    """The polygon of what has three corners or more; None if no part has."""
    whole = tuple(
        tuple(float(number) for number in part[: len(part) // 2 * 2])
        for part in parts
        if len(part) // 2 >= FEWEST_CORNERS
    )
    return Polygon(whole) if whole else None


def _polygon(pen: ImageDraw.ImageDraw, points: Points) -> None:
    pen.polygon(list(points), fill=1, outline=1)


def _rectangle(pen: ImageDraw.ImageDraw, points: Points) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]  # two corners, or all four
    pen.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=1, outline=1)


def _circle(pen: ImageDraw.ImageDraw, points: Points) -> None:
    (x, y), (rim_x, rim_y) = points
    _disc(pen, x, y, hypot(x - rim_x, y - rim_y))


def _line(pen: ImageDraw.ImageDraw, points: Points) -> None:
    pen.line(list(points), fill=1, width=_LINE_WIDTH)


def _point(pen: ImageDraw.ImageDraw, points: Points) -> None:
    for x, y in points:
        _disc(pen, x, y, _POINT_RADIUS)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)


SKETCHES: dict[str, Callable[[ImageDraw.ImageDraw, Points], None]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "line": _line,
    "linestrip": _line,
    "point": _point,
    "points": _point,
}
