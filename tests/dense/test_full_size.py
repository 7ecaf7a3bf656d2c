"""Maps come to full size as a slow double loop says, in strips as in one piece."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fullconv.dense import full_size
from fullconv.dense.full_size import DenseScores, Part, between_cells, between_pixels, over_windows


def some_scores(classes: int = 5) -> DenseScores:
    values = torch.randn(classes, 4, 6, generator=torch.Generator().manual_seed(1))
    rows = between_cells(30, 4, stride=Fraction(8), offset=Fraction(7, 2))
    columns = between_cells(50, 6, stride=Fraction(8), offset=Fraction(4))
    return DenseScores((Part(values, rows, columns),))


def test_a_pixel_on_a_cell_centre_has_that_cells_value_and_one_between_two_their_mean() -> None:
    matrix = between_cells(30, 4, stride=Fraction(8), offset=Fraction(4))
    assert matrix[4].tolist() == [1, 0, 0, 0]
    assert matrix[12].tolist() == [0, 1, 0, 0]
    assert matrix[8].tolist() == [0.5, 0.5, 0, 0]
    assert matrix[0].tolist() == [1, 0, 0, 0], "before the first cell its value goes on"
    assert matrix[29].tolist() == [0, 0, 0, 1]


def test_a_map_of_one_cell_is_constant() -> None:
    assert between_cells(3, 1, stride=Fraction(32), offset=Fraction(5)).tolist() == [[1], [1], [1]]


def test_pixels_of_another_size_are_read_as_torch_interpolates() -> None:
    picture = torch.randn(1, 1, 7, 9, generator=torch.Generator().manual_seed(2))
    rows, columns = between_pixels(11, 7), between_pixels(5, 9)
    assert rows is not None
    assert columns is not None
    expected = F.interpolate(picture, (11, 5), mode="bilinear", align_corners=False)
    torch.testing.assert_close(rows @ picture[0, 0] @ columns.T, expected[0, 0])
    assert between_pixels(7, 7) is None


def test_a_pixel_takes_the_mean_of_the_windows_that_cover_it() -> None:
    matrix = over_windows(7, [0, 2], 4)
    assert matrix[0].tolist() == [1, 0]
    assert matrix[3].tolist() == [0.5, 0.5]
    assert matrix[5].tolist() == [0, 1]
    assert matrix[6].tolist() == [0, 1], "covered by none: the nearest"


def test_strips_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = some_scores()
    whole = scores.of(range(5))
    monkeypatch.setattr(full_size, "STRIP_BYTES", 4 * 5 * 50 * 7)  # seven rows
    strips = list(scores.strips())
    assert [rows.stop - rows.start for rows, _ in strips] == [7, 7, 7, 7, 2]
    np.testing.assert_allclose(np.concatenate([part.numpy() for _, part in strips], 1), whole, atol=1e-6)
    labels, shares = scores.best()
    np.testing.assert_array_equal(labels, whole.argmax(0))
    powers = np.exp(whole - whole.max(0))
    np.testing.assert_allclose(shares, (powers / powers.sum(0)).max(0), atol=1e-6)


def test_more_than_256_classes_need_more_than_8_bits() -> None:
    assert some_scores(300).best()[0].dtype == np.uint16
    assert some_scores(256).best()[0].dtype == np.uint8


def test_parts_are_averaged() -> None:
    one, other = some_scores().parts[0], some_scores().parts[0]
    twice = DenseScores((one, Part(other.values * 3, other.rows, other.columns)))
    np.testing.assert_allclose(twice.of([0, 2]), 2 * some_scores().of([0, 2]), atol=1e-5)


def test_a_map_of_the_photos_size_stays_as_it_is_and_is_not_written_to() -> None:
    values = torch.randn(3, 8, 9, generator=torch.Generator().manual_seed(3))
    scores = DenseScores((Part(values, None, None), Part(values, None, None)))
    kept = values.clone()
    np.testing.assert_array_equal(scores.of([1])[0], values[1].numpy())
    scores.best()
    assert torch.equal(values, kept)
