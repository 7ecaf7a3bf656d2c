"""A label space and slow definitions to measure against."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fullconv.labels.space import LabelSpace
from fullconv.measure.confusion import confusion
from fullconv.measure.edges import edges
from fullconv.measure.scores import PhotoCounts, Scores, collect

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def space_of(size: int, *, background: int | None = None) -> LabelSpace:
    """K classes called class_0 .. class_K-1."""
    names = tuple(f"class_{index}" for index in range(size))
    colours = tuple((index, 40, 200) for index in range(size))
    return LabelSpace(names, colours, tuple((index,) for index in range(size)), background=background)


def loop_confusion(truth: NDArray[np.uint8], guess: NDArray[np.uint8], classes: int, void: int) -> list[list[int]]:
    """The definition, pixel by pixel, in Python's whole numbers."""
    matrix = [[0] * classes for _ in range(classes)]
    for true_row, guess_row in zip(truth.tolist(), guess.tolist(), strict=True):
        for true, guessed in zip(true_row, guess_row, strict=True):
            if true != void:
                matrix[true][guessed] += 1
    return matrix


def random_pair(
    seed: int, *, classes: int = 4, size: tuple[int, int] = (24, 30), void_share: float = 0.1
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A blocky label map with void, and a guess that is right on most pixels."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, classes, (size[0] // 6 + 1, size[1] // 6 + 1))
    truth = np.kron(blocks, np.ones((6, 6), int))[: size[0], : size[1]].astype(np.uint8)
    guess = np.where(rng.random(size) < 0.2, rng.integers(0, classes, size), truth).astype(np.uint8)
    truth[rng.random(size) < void_share] = 255
    return truth, guess


def scores_of(pairs: list[Pair], space: LabelSpace) -> Scores:
    """Scores of photos given as arrays."""
    counted = []
    for index, (truth, guess) in enumerate(pairs):
        matrix = confusion(truth, guess, space)
        void = int((truth == space.void).sum())
        counted.append(PhotoCounts(f"photo_{index}", matrix, void, edges(truth, guess, space)))
    return collect(counted, space)


def small(truth: list[int], guess: list[int], *, classes: int, background: int | None = None) -> Scores:
    """Scores of one photo of one row."""
    pair = np.array([truth], np.uint8), np.array([guess], np.uint8)
    return scores_of([pair], space_of(classes, background=background))


@pytest.fixture
def space() -> LabelSpace:
    """Four classes, the first of them background."""
    return space_of(4, background=0)
