"""Edge measures, against double loops over all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.measure.conftest import random_pair, space_of

from fullconv.measure.edges import TRIMAP_PX, add_edges, edges

Labels = NDArray[np.uint8]


def square(*, left: int = 20, void_line: int = 0) -> Labels:
    """(96, 128) a square of class 1 on class 0; its outline may be drawn as a void line of so many pixels a side."""
    labels = np.zeros((96, 128), np.uint8)
    labels[30:60, left : left + 40] = 1
    if void_line:
        inner = slice(30 + void_line, 60 - void_line), slice(left + void_line, left + 40 - void_line)
        outer = slice(30 - void_line, 60 + void_line), slice(left - void_line, left + 40 + void_line)
        kept = labels[inner].copy()
        labels[outer] = 255
        labels[inner] = kept
    return labels


def slow_outline(labels: Labels, index: int) -> list[tuple[int, int]]:
    height, width = labels.shape
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if labels[y, x] == index
        and any(0 <= y + dy < height and 0 <= x + dx < width and labels[y + dy, x + dx] != index for dy, dx in steps)
    ]


def near(pixel: tuple[int, int], line: list[tuple[int, int]], reach: float) -> bool:
    return any((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 <= reach**2 for y, x in line)


def test_a_perfect_prediction_scores_1_everywhere() -> None:
    scores = edges(square(), square(), space_of(2))
    assert scores.boundary_f1 == scores.boundary_iou == 1
    assert set(scores.trimap_iou.values()) == {1.0}


def test_outlines_are_met_up_to_the_tolerance_and_not_beyond() -> None:
    by = [edges(square(), square(left=20 + shift), space_of(2)).boundary_f1 for shift in (0, 1, 2)]
    assert by[0] == by[1] == 1 > by[2]
    assert edges(square(), square(), space_of(2)).tolerance_px == (1, 1)  # 0.75% of 160


@pytest.mark.parametrize("seed", range(3))
def test_outline_counts_equal_a_double_loop(seed: int) -> None:
    truth, guess = random_pair(seed, void_share=0)
    scores = edges(truth, guess, space_of(4))
    for index in range(4):
        true_line, guess_line = slow_outline(truth, index), slow_outline(guess, index)
        met = sum(near(pixel, guess_line, scores.tolerance_px[0]) for pixel in true_line)
        back = sum(near(pixel, true_line, scores.tolerance_px[0]) for pixel in guess_line)
        assert scores.outline[:, index].tolist() == [len(true_line), met, len(guess_line), back]


@pytest.mark.parametrize("seed", range(3))
def test_band_counts_equal_a_double_loop(seed: int) -> None:
    truth, guess = random_pair(seed, size=(48, 60), void_share=0)
    scores, band = edges(truth, guess, space_of(4)), 2
    assert scores.band_px == (band, band)
    for index in range(4):
        bands = []
        for labels in (truth, guess):
            line = slow_outline(labels, index)
            inside = [tuple(map(int, pixel)) for pixel in np.argwhere(labels == index)]
            bands.append({pixel for pixel in inside if near(pixel, line, band - 1e-9)})
        assert scores.band[:, index].tolist() == [len(bands[0]), len(bands[1]), len(bands[0] & bands[1])]


def test_trimap_counts_equal_a_double_loop() -> None:
    truth, guess = random_pair(4, void_share=0)
    line = [pixel for index in range(4) for pixel in slow_outline(truth, index)]
    scores = edges(truth, guess, space_of(4))
    for place, width in enumerate(TRIMAP_PX):
        where = np.array([[near((y, x), line, width - 1e-9) for x in range(30)] for y in range(24)])
        expected = [
            [int((where & mask).sum()) for mask in (truth == k, guess == k, (truth == k) & (guess == k))]
            for k in range(4)
        ]
        assert scores.trimap[place].T.tolist() == expected


def test_an_edge_drawn_as_a_void_line_runs_along_its_middle() -> None:
    scores = edges(square(void_line=2), square(), space_of(2))
    assert scores.outline[:, 1].tolist() == [136, 136, 136, 136]
    assert scores.boundary_f1 == 1
    assert scores.boundary_iou == 1


def test_outlines_deep_inside_void_are_not_counted() -> None:
    truth = np.zeros((96, 128), np.uint8)
    truth[20:80, 20:100] = 255
    guess = truth * 0
    guess[45:55, 50:60] = 1
    scores = edges(truth, guess, space_of(2))
    assert scores.outline.sum() == 0
    assert scores.band.sum() == 0
    assert scores.trimap.sum() == 0


def test_what_is_guessed_inside_void_changes_no_band_and_no_trimap() -> None:
    truth, guess = random_pair(7)
    masked = np.where(truth == 255, 255, guess).astype(np.uint8)
    assert edges(truth, guess, space_of(4)).trimap.tolist() == edges(truth, masked, space_of(4)).trimap.tolist()


def test_the_border_of_the_photo_is_no_edge() -> None:
    plain = np.zeros((40, 40), np.uint8)
    scores = edges(plain, plain, space_of(2))
    assert scores.outline.sum() == 0
    assert scores.to_json()["boundary_f1"] is None


def test_a_photo_of_void_alone_counts_nothing() -> None:
    scores = edges(np.full((20, 20), 255, np.uint8), np.zeros((20, 20), np.uint8), space_of(2))
    assert scores.outline.sum() + scores.band.sum() + scores.trimap.sum() == 0


def test_photos_add_up() -> None:
    first, second = (edges(*random_pair(seed), space_of(4)) for seed in (0, 1))
    both = add_edges(first, edges(square(), square(left=24), space_of(4)))
    assert both.outline.sum() > first.outline.sum()
    assert (both.tolerance_px, both.band_px) == ((1, 1), (1, 3))
    assert np.array_equal(add_edges(first, second).band, first.band + second.band)
