"""The sharp head: any size, every weight learns, maps land where their cells lie."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fullconv.nets.sharp import bring


@given(
    factor=st.sampled_from([2, 4]),
    lag_y=st.integers(0, 6),
    lag_x=st.integers(0, 6),
    cells=st.integers(1, 5),
)
def test_maps_are_brought_to_where_their_cells_lie(factor: int, lag_y: int, lag_x: int, cells: int) -> None:
    """A map that holds the place of its own cells holds, brought to the finer grid, the place of the finer cells."""
    halves = Fraction(1, 2)
    lag = tuple(min(Fraction(part) * halves, Fraction(factor - 1)) for part in (lag_y, lag_x))
    if factor % 2 or any((part.denominator == 2) != (lag[0].denominator == 2) for part in lag):
        return
    size = (cells * factor, (cells + 1) * factor)
    rows = torch.arange(cells).double() * factor + float(lag[0])
    columns = torch.arange(cells + 1).double() * factor + float(lag[1])
    maps = torch.stack([rows[:, None].expand(cells, cells + 1), columns[None].expand(cells, cells + 1)])[None]
    brought = bring(maps, factor=factor, lag=(lag[0], lag[1]), size=size)
    for axis, places in enumerate((rows, columns)):
        fine = torch.arange(size[axis]).double().clamp(float(places[0]), float(places[-1]))
        expected = fine[:, None].expand(size) if axis == 0 else fine[None].expand(size)
        assert torch.allclose(brought[0, axis], expected), (lag, factor)


@pytest.mark.parametrize("lag", [Fraction(0), Fraction(1, 2), Fraction(1)])
def test_constant_maps_stay_constant(lag: Fraction) -> None:
    assert torch.allclose(
        bring(torch.full((1, 1, 3, 4), 2.5), factor=2, lag=(lag, lag), size=(6, 8)), torch.tensor(2.5)
    )
