"""Sheets of pictures, heat maps and line charts, dark on white. Road: report. In: arrays. Out: pictures. No files.

Drawn with Pillow and its own font, so that a picture needs nothing that is not there already.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]  # (H, W, 3)
Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK, SOFT_INK, RULE, PAPER = (24, 28, 36), (92, 98, 110), (222, 225, 230), (255, 255, 255)
TITLE_PX, TEXT_PX, NOTE_PX = 18, 14, 12
MARGIN_PX, GAP_PX = 20, 16
NARROWEST_PX = 120  # a column as wide as a few words, however small its pictures

HEAT = ("#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4")
"""Anchors of inferno, evenly apart: lightness grows with the value, so that it reads in grey print too."""
UNKNOWN = (150, 150, 150)  # values that are no numbers

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56a0d0", "#7d3c98", "#5f6773")
"""Okabe and Ito's colours, the pale ones darkened: told apart by people who see few colours."""
CHART_SIZE = (720, 420)

BEYOND_ASCII = "©«°±·»‘’“”…"  # what Pillow's font holds besides
SPELLED = {"×": "x", "–": "-", "—": "-", "−": "-", "→": "->", "≤": "<=", "≥": ">=", "ß": "ss"}


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a sheet.

    Args:
        picture: (H, W, 3) uint8, shown as it is.
        title: above it.
        note: below it, smaller; "" for none. Both are wrapped to the picture's width.
    """

    picture: Picture
    title: str
    note: str = ""


# ---------------------------------------------------------------------- sheets


def sheet(cells: Sequence[Cell], *, columns: int, title: str = "") -> Image.Image:
    """Pictures in rows, each with its title above and its note below.

    Args:
        cells: of any sizes; a column is as wide as the widest.
        columns: cells a row; fewer cells make a narrower sheet.
        title: of the whole, "" for none.
    """
    columns = max(1, min(columns, len(cells)))
    width = max([NARROWEST_PX, *(cell.picture.shape[1] for cell in cells)])
    across = 2 * MARGIN_PX + columns * width + (columns - 1) * GAP_PX
    head = Block(title, TITLE_PX, across - 2 * MARGIN_PX)
    rows = [_Row(cells[i : i + columns], width) for i in range(0, len(cells), columns)]
    top = MARGIN_PX + (head.height + GAP_PX if title else 0)
    down = top + sum(row.height + GAP_PX for row in rows) - (GAP_PX if rows else 0) + MARGIN_PX
    page = Image.new("RGB", (across, down), PAPER)
    head.draw(page, (MARGIN_PX, MARGIN_PX))
    for row in rows:
        row.draw(page, top, width)
        top += row.height + GAP_PX
    return page


class _Row:
    """Cells that stand side by side: titles, pictures and notes each begin on one line."""

    def __init__(self, cells: Sequence[Cell], width: int) -> None:
        self.cells = cells
        self.titles = [Block(cell.title, TEXT_PX, width) for cell in cells]
        self.notes = [Block(cell.note, NOTE_PX, width, SOFT_INK) for cell in cells]
        self.above = max(title.height for title in self.titles)
        self.tall = max(cell.picture.shape[0] for cell in cells)
        self.height = self.above + self.tall + max(note.height for note in self.notes)

    def draw(self, page: Image.Image, top: int, width: int) -> None:
        for i, cell in enumerate(self.cells):
            left = MARGIN_PX + i * (width + GAP_PX)
            self.titles[i].draw(page, (left, top + self.above - self.titles[i].height))
            page.paste(Image.fromarray(cell.picture), (left, top + self.above))
            self.notes[i].draw(page, (left, top + self.above + cell.picture.shape[0] + 3))


class Block:
    """Text wrapped to a width: `height` is what it takes, 0 for no text."""

    def __init__(self, text: str, size_px: int, width: int, colour: Colour = INK) -> None:
        self.font, self.colour = font(size_px), colour
        self.step = round(1.3 * size_px)
        self.lines = wrapped(drawable(text), self.font, width)
        self.height = self.step * len(self.lines) + (4 if self.lines else 0)

    def draw(self, page: Image.Image, corner: tuple[int, int]) -> None:
        """Onto the page, from its upper left corner (x, y)."""
        pen = ImageDraw.Draw(page)
        for i, line in enumerate(self.lines):
            pen.text((corner[0], corner[1] + i * self.step), line, self.colour, self.font)


def font(size_px: int) -> Font:
    """Pillow's own font."""
    return ImageFont.load_default(size=size_px)


def drawable(text: str) -> str:
    """The text in characters that the font has: accents dropped, signs spelled, what is left over as "?"."""
    spelled = "".join(SPELLED.get(c, c) for c in text)
    plain = (c for c in unicodedata.normalize("NFKD", spelled) if not unicodedata.combining(c))
    return "".join(c if c.isascii() or c in BEYOND_ASCII else "?" for c in plain)


def wrapped(text: str, of: Font, width: int) -> list[str]:
    """Lines of a text that fit a width; a word that does not is cut."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            while word:
                longer = f"{line} {word}".strip()
                if of.getlength(longer) <= width:
                    line, word = longer, ""
                elif line:
                    lines, line = [*lines, line], ""
                else:
                    fits = next((n for n in range(len(word), 1, -1) if of.getlength(word[:n]) <= width), 1)
                    lines, word = [*lines, word[:fits]], word[fits:]
        lines += [line] if line else []
    return lines


# ---------------------------------------------------------------------- heat maps


def heat(values: NDArray[Any], *, low: float | None = None, high: float | None = None) -> Picture:
    """(h, w) numbers -> (h, w, 3) uint8: dark where they are low, light where they are high.

    Args:
        low, high: what gets the first and the last colour; the least and largest of the values if None. What lies
            beyond is drawn as they are; what is no number, grey.
    """
    known = np.isfinite(values)
    least, most = (float(f(values[known])) if known.any() else 0.0 for f in (np.min, np.max))
    low, high = least if low is None else low, most if high is None else high
    span = high - low if high > low else 1.0
    share = np.where(known, (np.where(known, values, low) - low) / span, 0.0).clip(0, 1)
    anchors = np.array([rgb(colour) for colour in HEAT], np.float64)
    at = share * (len(anchors) - 1)
    picture = np.stack([np.interp(at, range(len(anchors)), anchors[:, c]) for c in range(3)], axis=-1)
    return np.asarray(np.where(known[..., None], picture, UNKNOWN).round(), np.uint8)


def laid_over(photo: Picture, heat_map: Picture, share: float = 0.6) -> Picture:
    """(H, W, 3): the heat map, brought to the photo's size, over the photo in grey; `share` of it is the heat map."""
    height, width = photo.shape[:2]
    over = np.asarray(Image.fromarray(heat_map).resize((width, height), Image.Resampling.BILINEAR), np.float64)
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    return np.asarray((share * over + (1 - share) * grey).round(), np.uint8)


def enlarged(picture: Picture, size: tuple[int, int]) -> Picture:
    """(h, w, 3) -> (*size, 3), (rows, columns): each cell a block of one colour, so that cells are seen."""
    return np.array(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.NEAREST))


def rgb(colour: str) -> Colour:
    """ "#rrggbb" -> three numbers of 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


# ---------------------------------------------------------------------- line charts


def lines(
    series: Mapping[str, Points],
    *,
    title: str,
    x: str,
    y: str,
    size: tuple[int, int] = CHART_SIZE,
    y_span: tuple[float, float] | None = None,
) -> Image.Image:
    """A line chart; each line carries its name at its right end, in its colour.

    Args:
        series: name -> points (x, y), from left to right; points that are no numbers are left out.
        title: of the chart.
        x, y: names of the axes, with their units.
        size: of the picture, (width, height).
        y_span: what the y axis shows at least, so that charts side by side compare.
    """
    kept = {drawable(name): [p for p in points if all(map(math.isfinite, p))] for name, points in series.items()}
    page = Image.new("RGB", size, PAPER)
    frame = _frame(kept, size, title, y_span)
    _draw_axes(page, frame, drawable(x), drawable(y))
    Block(title, TITLE_PX, size[0] - 2 * MARGIN_PX).draw(page, (MARGIN_PX, MARGIN_PX - 6))
    _draw_lines(page, frame, kept)
    return page


@dataclass(frozen=True)
class _Frame:
    """Where the drawing area lies on the page, and what numbers it spans."""

    left: int
    top: int
    right: int
    bottom: int
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    x_span: tuple[float, float]

    def across(self, x: float) -> float:
        low, high = self.x_span
        return self.left + (self.right - self.left) * (x - low) / (high - low)

    def down(self, y: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.bottom - (self.bottom - self.top) * (y - low) / (high - low)


def _frame(
    series: Mapping[str, Points], size: tuple[int, int], title: str, y_span: tuple[float, float] | None
) -> _Frame:
    xs = [x for points in series.values() for x, _ in points] or [0.0, 1.0]
    ys = [*(y for points in series.values() for _, y in points), *(y_span or ())] or [0.0, 1.0]
    y_ticks = ticks_round(min(ys), max(ys))
    names = max((font(TEXT_PX).getlength(name) for name in series), default=0)
    numbers = max(font(NOTE_PX).getlength(written(v)) for v in y_ticks)
    left = MARGIN_PX + round(numbers) + 8
    right = max(left + 60, size[0] - MARGIN_PX - round(names) - 12)
    top = MARGIN_PX + Block(title, TITLE_PX, size[0] - 2 * MARGIN_PX).height + NOTE_PX + 10
    x_span = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, min(xs) + 0.5)
    bottom = max(top + 40, size[1] - MARGIN_PX - 2 * NOTE_PX - 12)
    return _Frame(left, top, right, bottom, ticks_within(*x_span), y_ticks, x_span)


def ticks_within(low: float, high: float) -> tuple[float, ...]:
    """Up to about six round numbers, none beyond `low` and `high`."""
    step = round_step(high - low)
    return tuple(round(step * i, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))


def ticks_round(low: float, high: float) -> tuple[float, ...]:
    """Up to about six round numbers, the first at or below `low`, the last at or above `high`, at least two.

    Zero is among them where the numbers come near it, so that heights can be compared.
    """
    low, high = min(low, 0.0) if low <= high / 2 else low, max(high, 0.0) if high >= low / 2 else high
    step = round_step(high - low or abs(high) or 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(step * i, 12) for i in range(first, max(last, first + 1) + 1))


def round_step(span: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, at most six of them in the span."""
    power = float(10.0 ** math.floor(math.log10(span)))
    return next(power * part for part in (0.2, 0.25, 0.5, 1, 2) if span / (power * part) <= 6)


def written(value: float) -> str:
    """A number at an axis."""
    return f"{value:,.10g}"


def _draw_axes(page: Image.Image, frame: _Frame, x: str, y: str) -> None:
    pen, small = ImageDraw.Draw(page), font(NOTE_PX)
    for tick in frame.y_ticks:
        at = frame.down(tick)
        pen.line((frame.left, at, frame.right, at), RULE, 1)
        pen.text((frame.left - 8, at), written(tick), SOFT_INK, small, anchor="rm")
    for tick in frame.x_ticks:
        at = frame.across(tick)
        pen.line((at, frame.bottom, at, frame.bottom + 4), SOFT_INK, 1)
        pen.text((at, frame.bottom + 7), written(tick), SOFT_INK, small, anchor="ma")
    pen.line((frame.left, frame.bottom, frame.right, frame.bottom), SOFT_INK, 1)
    pen.text((frame.left, frame.top - 10), y, SOFT_INK, small, anchor="lb")
    pen.text((frame.right, page.height - MARGIN_PX + 4), x, SOFT_INK, small, anchor="rb")


FINER = 3  # lines are drawn this much larger and shrunk: Pillow's own have steps


def _draw_lines(page: Image.Image, frame: _Frame, series: Mapping[str, Points]) -> None:
    drawn = {name: points for name, points in series.items() if points}
    colours = {name: rgb(LINES[i % len(LINES)]) for i, name in enumerate(drawn)}
    for name, points in drawn.items():
        cover = Image.new("L", (page.width * FINER, page.height * FINER), 0)
        path = [(FINER * frame.across(x), FINER * frame.down(y)) for x, y in points]
        pen = ImageDraw.Draw(cover)
        pen.line(path, 255, 2 * FINER, joint="curve")
        for px, py in path if len(path) <= 24 else path[-1:]:
            pen.ellipse((px - 3 * FINER, py - 3 * FINER, px + 3 * FINER, py + 3 * FINER), 255)
        page.paste(Image.new("RGB", page.size, colours[name]), mask=cover.resize(page.size, Image.Resampling.BOX))
    ends = {name: frame.down(points[-1][1]) for name, points in drawn.items()}
    pen = ImageDraw.Draw(page)
    for name, at in apart(ends, TEXT_PX + 3, low=frame.top, high=frame.bottom).items():
        pen.text((frame.right + 10, at), name, colours[name], font(TEXT_PX), anchor="lm")


def apart(places: Mapping[str, float], least: float, *, low: float, high: float) -> dict[str, float]:
    """The same places moved so that neighbours stand at least `least` apart: downwards, then up from `high`."""
    order = sorted(places, key=lambda name: places[name])
    moved: dict[str, float] = {}
    for i, name in enumerate(order):
        moved[name] = max(places[name], low if i == 0 else moved[order[i - 1]] + least)
    limit = high
    for name in reversed(order):
        moved[name] = min(moved[name], limit)
        limit = moved[name] - least
    return moved
