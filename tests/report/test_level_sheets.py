"""The drawings of levels: boxes and points where the geometry says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fullconv.dense.levels import Level
from fullconv.geometry.geometry import Geometry
from fullconv.report.level_sheets import (
    MOST_MAPS,
    cells_panel,
    change_sheet,
    colour_of,
    field_box,
    fields_panel,
    geometry_sheet,
    level_sheet,
    only_seen,
    tile_size,
)

PHOTO = np.full((60, 90, 3), 200, np.uint8)


def level(stride: int, offset: int, field: int | None, size: tuple[int, int]) -> Level:
    fraction = Fraction(field) if field is not None else None
    geometry = Geometry(
        (Fraction(stride), Fraction(stride)),
        (Fraction(offset), Fraction(offset)),
        None if fraction is None else (fraction, fraction),
        size,
    )
    return Level(f"layer{stride}", (20, *size), stride, geometry)


COARSE, WIDE, WHOLE = level(10, 5, 21, (6, 9)), level(30, 15, 301, (2, 3)), level(30, 15, None, (2, 3))


def test_the_box_is_centred_on_the_middle_cell() -> None:
    """Cell (3, 4) of stride 10 and offset 5 lies at (35, 45); 21 pixels are 10 on each side."""
    assert field_box(COARSE) == (35, 25, 56, 46)
    seen = only_seen(COARSE, PHOTO)
    assert (seen[25:46, 35:56] == 200).all()
    assert (seen == 200).all(axis=2).sum() == 21 * 21


def test_a_field_without_bound_is_the_whole_photo() -> None:
    assert field_box(WHOLE) is None
    assert (only_seen(WHOLE, PHOTO) == PHOTO).all()
    assert "sees the whole photo" in cells_panel(WHOLE, PHOTO, (255, 0, 0)).note


def test_boxes_are_to_scale_of_the_largest() -> None:
    panel = fields_panel([COARSE, WIDE], PHOTO)
    widths = []
    for i in (0, 1):
        columns = np.argwhere((panel == colour_of(i)).all(axis=2))[:, 1]
        widths.append(np.ptp(columns) + 1)
    assert widths[1] / widths[0] == pytest.approx(301 / 21, rel=0.15)


def test_cells_that_lie_close_are_magnified() -> None:
    fine, coarse = cells_panel(level(1, 0, 5, (60, 90)), PHOTO, (255, 0, 0)), cells_panel(COARSE, PHOTO, (255, 0, 0))
    assert "1 pixel apart; the middle, magnified 3 times. One cell sees 5x5 pixels" in fine.note
    assert "magnified" not in coarse.note
    assert "more than this photo" in cells_panel(WIDE, PHOTO, (255, 0, 0)).note
    assert fine.picture.shape == coarse.picture.shape == (200, 300, 3)


def test_the_maps_that_vary_most_come_first() -> None:
    maps = np.zeros((20, 6, 9), np.float32)
    for i in range(20):
        maps[i, 0, 0] = (i * 7) % 20
    drawing, shown = level_sheet(COARSE, maps, PHOTO)
    assert len(shown) == MOST_MAPS
    assert [(i * 7) % 20 for i in shown] == sorted(((i * 7) % 20 for i in range(20)), reverse=True)[:MOST_MAPS]
    assert drawing.width > 6 * tile_size((6, 9))[1]


def test_tiles_show_whole_pixels_a_cell() -> None:
    assert tile_size((6, 9)) == (96, 144)
    assert tile_size((300, 150)) == (150, 75)


def test_the_whole_sheets_are_drawn() -> None:
    curve = {what: [(0.0, 0.0), (1.0, 0.5)] for what in ("shift", "scale", "rotation")}
    assert geometry_sheet([COARSE, WIDE, WHOLE], PHOTO, title="a").height > 600
    assert change_sheet([COARSE, WIDE], [curve, curve], [0.8, 0.9], title="b").width > 1000
