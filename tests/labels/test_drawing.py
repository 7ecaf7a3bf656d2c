"""Shapes cover the pixels that the tools they are from say, and are painted in order."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullconv.base.errors import UnreadableImage
from fullconv.labels.decode import decode
from fullconv.labels.drawing import (
    SKETCHES,
    Drawing,
    Runs,
    Sketch,
    Thing,
    polygon,
    runs_of,
    runs_of_counts,
)

SIZE = (40, 60)
CORNERS = st.lists(
    st.tuples(st.floats(-5, 65, width=32), st.floats(-5, 45, width=32)).map(list), min_size=3, max_size=8
)


def by_pycocotools(segmentation: object) -> np.ndarray:
    mask = pytest.importorskip("pycocotools.mask")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools is not made for numpy 2
        runs = mask.frPyObjects(segmentation, *SIZE)
        runs = mask.merge(runs) if isinstance(runs, list) else runs
        return np.asarray(mask.decode(runs), bool)


@given(st.lists(CORNERS, min_size=1, max_size=2))
def test_polygons_cover_what_cocos_own_tool_covers(parts: list[list[list[float]]]) -> None:
    flat = [[number for point in part for number in point] for part in parts]
    drawn = polygon(flat)
    assert drawn is not None
    assert (drawn.cover(SIZE) == by_pycocotools(flat)).all()


@given(st.integers(0, 2**32 - 1))
def test_run_lengths_decode_as_cocos_own_tool_decodes_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.choice(SIZE[0] * SIZE[1], rng.integers(1, 30), replace=False))
    counts = np.diff([0, *cuts, SIZE[0] * SIZE[1]]).tolist()
    drawn = runs_of_counts(counts, SIZE)
    assert (drawn.cover(SIZE) == by_pycocotools({"counts": counts, "size": list(SIZE)})).all()


def test_a_polygon_of_two_points_is_none() -> None:
    assert polygon([[1, 2, 3, 4]]) is None
    assert polygon([[1, 2, 3, 4], [0, 0, 9, 0, 9, 9, 5]]) is not None


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 1000))
def test_masks_lie_where_they_are_put_and_what_is_outside_is_cut(top: int, left: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 8)) < 0.5
    size = (10, 11)
    expected = np.zeros(size, bool)
    for row in range(7):
        for column in range(8):
            if 0 <= row + top < size[0] and 0 <= column + left < size[1]:
                expected[row + top, column + left] = mask[row, column]
    assert (runs_of(mask, top=top, left=left, size=size).cover(size) == expected).all()


@pytest.mark.parametrize("kind", SKETCHES)
def test_every_sketch_covers_its_first_point_and_not_everything(kind: str) -> None:
    points = ((10.0, 12.0), (30.0, 25.0), (20.0, 8.0))
    points = points[:2] if kind in ("rectangle", "circle", "line") else points
    cover = Sketch(kind, points).cover(SIZE)
    x, y = points[0]
    assert cover[int(y), int(x)] or cover[int(y), int(x) + 1]
    assert 20 < cover.sum() < 1800


def test_later_things_lie_over_earlier_ones() -> None:
    low, high = (Sketch("rectangle", ((0, 0), (end, end))) for end in (9, 19))
    small = Sketch("rectangle", ((50, 5), (55, 9)))
    drawing = Drawing(Path("x.json"), "x.jpg", "labelme", SIZE, (Thing(1, low), Thing(2, high), Thing(300, small)))
    ids = drawing.paint()
    assert ids.dtype == np.uint16
    assert np.unique(ids).tolist() == [0, 2, 300]


def test_run_lengths_that_do_not_fit_are_an_error_that_names_the_file() -> None:
    drawing = Drawing(Path("x.json"), "x.jpg", "COCO", (4, 5), (Thing(1, Runs(b"xxx", (4, 5))),))
    with pytest.raises(UnreadableImage, match=r"x\.json"):
        decode(drawing)
    with pytest.raises(ValueError, match="8 pixels"):
        runs_of_counts([3, 5], (4, 5))
