"""The levels of a network, drawn: where their cells lie, what they hold, how they change. Road: report.

In: levels, maps and figures of `dense.levels`, a photo. Out: pictures. Knows no files, no network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fullconv.dense.levels import Level
from fullconv.report.sheets import (
    INK,
    LINES,
    MARGIN_PX,
    PAPER,
    SOFT_INK,
    Block,
    Cell,
    Colour,
    Picture,
    enlarged,
    heat,
    lines,
    rgb,
    sheet,
)

PANEL_PX = 300  # the longer side of a drawing of cells
TILE_PX = 150  # of a feature picture
MOST_MAPS = 16
APART_PX = 8  # cells are drawn at least so far apart: finer ones magnified
CHART_PX = (470, 340)
Box = tuple[float, float, float, float]  # left, top, right, bottom

AXES = {
    "shift": ("the photo shifted", "pixels"),
    "scale": ("the photo enlarged", "times"),
    "rotation": ("the photo turned", "degrees"),
}
"""What is done to the photo -> title and unit of its chart."""


# ---------------------------------------------------------------------- geometry


def geometry_sheet(levels: Sequence[Level], photo: Picture, *, title: str = "") -> Image.Image:
    """All receptive fields to scale, then for each level the centres of its cells and what the middle one sees."""
    first = Cell(
        fields_panel(levels, photo),
        "receptive fields, to scale",
        "what the middle cell of each level sees of the photo and beyond it, in that level's colour",
    )
    panels = [cells_panel(level, photo, colour_of(i)) for i, level in enumerate(levels)]
    return sheet([first, *panels], columns=3, title=title)


def colour_of(index: int) -> Colour:
    """Of a level: the same as of its line in a chart."""
    return rgb(LINES[index % len(LINES)])


def fields_panel(levels: Sequence[Level], photo: Picture) -> Picture:
    """The photo, small enough that the largest receptive field fits, with a box for each."""
    boxes = [field_box(level) or (0.0, 0.0, float(photo.shape[1]), float(photo.shape[0])) for level in levels]
    left, top = (min(0.0, *(box[i] for box in boxes)) for i in (0, 1))
    right, bottom = (max(float(photo.shape[1 - i]), *(box[2 + i] for box in boxes)) for i in (0, 1))
    scale = (PANEL_PX - 4) / max(right - left, bottom - top)
    panel = Image.new("RGB", (math.ceil((right - left) * scale) + 4, math.ceil((bottom - top) * scale) + 4), PAPER)
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    panel.paste(Image.fromarray(paled(photo)).resize(size), (round(-left * scale) + 2, round(-top * scale) + 2))
    pen = ImageDraw.Draw(panel)
    for i, box in reversed(list(enumerate(boxes))):
        corners = [(v - (left, top)[j % 2]) * scale + 2 for j, v in enumerate(box)]
        pen.rectangle(corners, outline=colour_of(i), width=2)
    return np.asarray(panel)


def cells_panel(level: Level, photo: Picture, colour: Colour) -> Cell:
    """The photo with the centres of the cells; where they lie close, its middle, magnified."""
    height, width = photo.shape[:2]
    scale = PANEL_PX / max(height, width)
    times = max(1, math.ceil(APART_PX / (level.stride * scale)))
    box = middle_of(level, photo, times)
    size = (round((box[2] - box[0]) * scale * times), round((box[3] - box[1]) * scale * times))
    panel = Image.fromarray(paled(photo)).resize(size, Image.Resampling.BILINEAR, box=box)
    pen = ImageDraw.Draw(panel)

    def put(x: float, y: float, radius: float, colour: Colour) -> None:
        across, down = (x - box[0]) * scale * times, (y - box[1]) * scale * times
        pen.ellipse((across - radius, down - radius, across + radius, down + radius), colour)

    for y in centres(level, 0):
        for x in centres(level, 1):
            put(x, y, 1.5, SOFT_INK)
    put(*middle_cell(level), 3.5, colour)
    field = field_box(level)
    if field is not None:
        corners = [(v - box[i % 2]) * scale * times for i, v in enumerate(field)]
        pen.rectangle(corners, outline=colour, width=2)
    near = f"; the middle, magnified {times} times" if times > 1 else ""
    apart = f"{level.stride} pixel{'s' if level.stride > 1 else ''} apart"
    beyond = ", more than this photo" if field is not None and not within(field, photo) else ""
    note = f"{level.shape[1]}x{level.shape[2]} cells, {apart}{near}. One cell sees {seen(level)}{beyond}"
    return Cell(np.asarray(panel), f"stride {level.stride}: {level.name}", note)


def seen(level: Level) -> str:
    """The receptive field in words."""
    field = level.geometry.receptive_field
    return "the whole photo" if field is None else f"{field[0]}x{field[1]} pixels"


def centres(level: Level, which: int) -> list[float]:
    """Of the cells along one axis, from the photo's edge: the centre of its first pixel is at 0.5."""
    axis = level.geometry.axis(which)
    return [float(axis.offset + i * axis.stride) + 0.5 for i in range(axis.size)]


def middle_cell(level: Level) -> tuple[float, float]:
    """(x, y) of its centre, from the photo's edges."""
    y, x = (centres(level, which) for which in (0, 1))
    return x[len(x) // 2], y[len(y) // 2]


def field_box(level: Level) -> Box | None:
    """What the middle cell sees, from the photo's edges; it may reach beyond them. None where it has no bound."""
    field = level.geometry.receptive_field
    if field is None:
        return None
    x, y = middle_cell(level)
    half = float(field[1]) / 2, float(field[0]) / 2
    return x - half[0], y - half[1], x + half[0], y + half[1]


def within(box: Box, photo: Picture) -> bool:
    return bool(box[2] - box[0] <= photo.shape[1] and box[3] - box[1] <= photo.shape[0])


def middle_of(level: Level, photo: Picture, times: int) -> Box:
    """The part of the photo round the middle cell that fills the panel when it is magnified."""
    x, y = middle_cell(level)
    height, width = photo.shape[0] / times, photo.shape[1] / times
    left = min(max(0.0, x - width / 2), photo.shape[1] - width)
    top = min(max(0.0, y - height / 2), photo.shape[0] - height)
    return left, top, left + width, top + height


def paled(photo: Picture) -> Picture:
    """Halfway to white, so that what is drawn on it is seen."""
    return np.asarray(photo // 2 + 127, np.uint8)


# ---------------------------------------------------------------------- feature pictures


def level_sheet(level: Level, maps: NDArray[np.float32], photo: Picture) -> tuple[Image.Image, list[int]]:
    """The maps of a level that vary most, each in its own range of colours, after the photo and what one cell sees.

    Args:
        maps: (C, h, w).
        photo: (H, W, 3), of the size that the maps belong to.
    Returns: the sheet, and the channels that it shows.
    """
    chosen = [int(i) for i in np.argsort(-maps.var(axis=(1, 2)), kind="stable")[:MOST_MAPS]]
    size = tile_size(maps.shape[1:])
    cells = [
        Cell(fitted(photo, size), "the photo"),
        Cell(fitted(only_seen(level, photo), size), "what one cell sees", seen(level)),
        *(map_cell(maps[i], f"map {i}", size) for i in chosen),
    ]
    title = f"stride {level.stride}: {level.name}, {'x'.join(map(str, level.shape))}; one cell sees {seen(level)}"
    return sheet(cells, columns=6, title=title), chosen


def tile_size(grid: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) of a picture of a map: whole pixels a cell where the map is smaller than the tile."""
    longest = max(grid)
    factor = TILE_PX // longest if longest <= TILE_PX else TILE_PX / longest
    return max(1, round(grid[0] * factor)), max(1, round(grid[1] * factor))


def fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """Brought to (rows, columns): cells stay blocks when it grows, are averaged when it shrinks."""
    if picture.shape[0] <= size[0]:
        return enlarged(picture, size)
    return np.array(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BOX))


def map_cell(values: NDArray[np.float32], title: str, size: tuple[int, int]) -> Cell:
    """A map in its own range of colours, without the hundredth part at either end: single cells would take it all."""
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    return Cell(fitted(heat(values, low=low, high=high), size), title, f"{low:.2g} to {high:.2g}")


def only_seen(level: Level, photo: Picture) -> Picture:
    """The photo, dark where the middle cell does not look."""
    box = field_box(level)
    if box is None:
        return photo
    left, top, right, bottom = (max(0, round(v)) for v in box)
    picture = np.asarray(photo // 5, np.uint8)
    picture[top:bottom, left:right] = photo[top:bottom, left:right]
    return picture


# ---------------------------------------------------------------------- change


def change_sheet(
    levels: Sequence[Level],
    curves: Sequence[Mapping[str, Sequence[tuple[float, float]]]],
    unrelated: Sequence[float],
    *,
    title: str = "",
) -> Image.Image:
    """A chart for each thing that is done to the photo, a line a level.

    Args:
        curves: for each level: what is done -> (how much, change).
        unrelated: for each level, the change between places with other content.
    """
    highest = max((value for curve in curves for points in curve.values() for _, value in points), default=1.0)
    charts = []
    for what, (said, unit) in AXES.items():
        series = {f"stride {lv.stride}": curve[what] for lv, curve in zip(levels, curves, strict=True)}
        chart = lines(series, title=said, x=unit, y="change of the features", size=CHART_PX, y_span=(0, highest))
        charts.append(Cell(np.asarray(chart), ""))
    note = (
        "Change: one minus the cosine of the feature vectors at the same cell, the mean over all cells (and over "
        f"shifts down and to the right). 0: the same; places half a photo apart differ by {min(unrelated):.2f} to "
        f"{max(unrelated):.2f}."
    )
    named = "; ".join(f"stride {lv.stride}: {lv.name}, one cell sees {seen(lv)}" for lv in levels)
    return captioned(sheet(charts, columns=3, title=title), f"{note}\n{named}.")


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """A picture with a text of its own width below."""
    block = Block(text, 13, picture.width - 2 * MARGIN_PX, INK)
    page = Image.new("RGB", (picture.width, picture.height + block.height + MARGIN_PX // 2), PAPER)
    page.paste(picture, (0, 0))
    block.draw(page, (MARGIN_PX, picture.height - MARGIN_PX // 2))
    return page
