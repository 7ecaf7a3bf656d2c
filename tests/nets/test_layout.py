"""Where rows, columns and channels lie after reshapes, by hand."""

from __future__ import annotations

import pytest

from fullconv.nets.layout import Layout, block, holds, is_map, is_spatial, names, of_blocks, of_map, permuted, reshaped
from fullconv.nets.layout import settled as settle

MAP = of_map((2, 3, 8, 12))


def after(layout: Layout, shape: tuple[int, ...]) -> Layout:
    found = reshaped(layout, shape)
    assert found is not None, (names(layout), shape)
    return settle(found)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 288), "n, c h w"),
        ((2, 3, 96), "n, c, h w"),
        ((2, 3, 1, 96), "n, c, 1, h w"),
        ((6, 8, 12), "n c, h, w"),
        ((2, 3, 4, 2, 6, 2), "n, c, h.0, h.1, w.0, w.1"),
    ],
)
def test_a_reshape_moves_what_a_dimension_holds(shape: tuple[int, ...], said: str) -> None:
    assert names(after(MAP, shape)) == said


def test_blocks_among_the_channels_are_a_map_of_larger_cells() -> None:
    apart = after(MAP, (2, 3, 4, 2, 6, 2))
    assert not is_map(apart)
    assert holds(apart, "h")
    assert [is_spatial(run) for run in apart] == [False, False, True, True, True, True]
    together = after(permuted(apart, (0, 3, 5, 1, 2, 4)), (2, 12, 4, 6))
    assert names(together) == "n, h.1 w.1 c, h.0, w.0"
    assert block(together) == (2, 2)
    assert names(of_blocks(together)) == "n, c, h, w"


def test_blocks_brought_back_into_rows_are_the_map_that_they_were() -> None:
    apart = permuted(after(MAP, (2, 3, 4, 2, 6, 2)), (0, 2, 4, 1, 3, 5))
    back = permuted(apart, (0, 3, 1, 4, 2, 5))
    assert after(back, (2, 3, 8, 12)) == MAP


def test_a_map_holds_no_blocks_and_a_second_split_is_not_followed() -> None:
    assert block(MAP) is None
    assert reshaped(after(MAP, (2, 3, 4, 2, 12)), (2, 3, 2, 2, 2, 12)) is None
