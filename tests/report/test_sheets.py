"""Sheets, heat maps and line charts: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fullconv.report.sheets import (
    HEAT,
    LINES,
    Cell,
    apart,
    drawable,
    enlarged,
    font,
    heat,
    laid_over,
    lines,
    rgb,
    sheet,
    ticks_round,
    ticks_within,
    wrapped,
)


def plain(height: int, width: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def pixels_of(page: Image.Image, colour: tuple[int, int, int]) -> NDArray[np.intp]:
    """(n, 2) rows and columns."""
    return np.argwhere((np.asarray(page) == colour).all(axis=2))


def test_every_picture_stands_whole_in_its_column_and_row() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    sizes = [(40, 130), (60, 90), (20, 150)]
    cells = [Cell(plain(*size, colour), "a") for size, colour in zip(sizes, colours, strict=True)]
    found = [pixels_of(sheet(cells, columns=2, title="all"), colour) for colour in colours]
    for where, (height, width) in zip(found, sizes, strict=True):
        assert len(where) == height * width
        assert (np.ptp(where, axis=0) + 1).tolist() == [height, width]
    corners = [where.min(axis=0).tolist() for where in found]
    assert corners[0][0] == corners[1][0] < corners[2][0]
    assert corners[0][1] == corners[2][1] < corners[1][1]


def test_words_make_room_for_themselves() -> None:
    picture = plain(30, 200, (9, 99, 9))
    bare = sheet([Cell(picture, "")], columns=3)
    told = sheet([Cell(picture, "above", "below " * 40)], columns=3)
    assert bare.width == told.width
    below = told.height - pixels_of(told, (9, 99, 9))[:, 0].max()
    assert below > 100 > bare.height - pixels_of(bare, (9, 99, 9))[:, 0].max()


def test_wrapped_lines_fit_and_lose_no_letter() -> None:
    text = "one two three\nantidisestablishmentarianism_and_more four"
    of = font(14)
    found = wrapped(text, of, 80)
    assert all(of.getlength(line) <= 80 for line in found)
    assert "".join(found).replace(" ", "") == "".join(text.split())


def test_letters_that_the_font_lacks_are_spelled() -> None:
    assert drawable("Käse 3×3 – 30°, 猫") == "Kase 3x3 - 30°, ?"


def test_heat_goes_from_dark_to_light_and_shows_what_is_no_number() -> None:
    picture = heat(np.array([[0.0, 0.25, 0.5, 0.75, 1.0, np.nan, np.inf]]))
    assert picture.shape == (1, 7, 3)
    assert tuple(picture[0, 0]) == rgb(HEAT[0])
    assert tuple(picture[0, 4]) == rgb(HEAT[-1])
    light = picture[0, :5].astype(int).sum(axis=1)
    assert (np.diff(light) > 0).all()
    assert (picture[0, 5:] == 150).all()


def test_heat_keeps_to_the_range_that_it_is_given() -> None:
    values = np.array([[-5.0, 0.0, 2.0, 9.0]])
    picture = heat(values, low=0, high=2)
    assert (picture[0, 0] == picture[0, 1]).all()
    assert (picture[0, 2] == picture[0, 3]).all()
    assert (heat(np.full((2, 2), 3.0)) == rgb(HEAT[0])).all()
    assert heat(np.full((1, 1), np.nan)).tolist() == [[[150, 150, 150]]]


def test_a_heat_map_over_a_photo_is_of_the_photos_size() -> None:
    photo = plain(20, 30, (100, 100, 100))
    assert (laid_over(photo, plain(2, 3, (200, 0, 50)), share=0.5) == (150, 50, 75)).all()


def test_enlarged_cells_are_blocks() -> None:
    small = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert (enlarged(small, (6, 4)) == small.repeat(3, axis=0).repeat(2, axis=1)).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0.97, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0.95, 0.99, (0.95, 0.96, 0.97, 0.98, 0.99)),
        (-3, 5, (-4, -2, 0, 2, 4, 6)),
        (0, 0, (0, 0.2)),
        (7, 7, (6, 8)),
    ],
)
def test_ticks_are_round_and_hold_the_numbers(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert ticks_round(low, high) == expected
    assert expected[0] <= low
    assert high <= expected[-1]


def test_ticks_within_do_not_go_beyond() -> None:
    assert ticks_within(0, 32) == (0, 10, 20, 30)
    assert ticks_within(1, 1.5) == (1, 1.1, 1.2, 1.3, 1.4, 1.5)


def test_names_that_would_meet_move_apart() -> None:
    moved = apart({"a": 50.0, "b": 52.0, "c": 99.0, "d": 99.0}, 10, low=0, high=100)
    assert list(moved) == ["a", "b", "c", "d"]
    assert (np.diff(list(moved.values())) >= 10).all()
    assert moved["d"] <= 100


def test_a_line_is_drawn_where_its_numbers_are() -> None:
    rising = [(float(i), float(i)) for i in range(40)]
    flat = [(float(i), 0.0) for i in range(40)]
    page = lines({"rising": rising, "flat": flat, "none": [(0, float("nan"))]}, title="t", x="x", y="y")
    assert page.size == (720, 420)
    first, second = (pixels_of(page, rgb(colour)) for colour in LINES[:2])
    assert np.corrcoef(first[:, 0], first[:, 1])[0, 1] < -0.9  # up the page as it goes right
    assert np.ptp(second[second[:, 1] < 600][:, 0]) <= 8  # its name at the right end left out
    assert len(pixels_of(page, rgb(LINES[2]))) == 0


def test_charts_side_by_side_may_share_their_heights() -> None:
    points = [(0.0, 0.0), (1.0, 1.0)]
    alone = lines({"a": points}, title="", x="", y="")
    beside = lines({"a": points}, title="", x="", y="", y_span=(0, 4))
    top_alone, top_beside = (pixels_of(page, rgb(LINES[0]))[:, 0].min() for page in (alone, beside))
    assert top_beside > top_alone + 100


def test_a_chart_and_a_sheet_of_nothing_are_drawn() -> None:
    assert lines({}, title="", x="", y="").size == (720, 420)
    assert sheet([], columns=3, title="none").width > 0
