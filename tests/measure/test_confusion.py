"""The confusion matrix, against a plain loop and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import confusion_matrix
from tests.measure.conftest import loop_confusion, random_pair, space_of

from fullconv.base.errors import SizeMismatch, UnknownLabel
from fullconv.labels.space import LabelSpace
from fullconv.measure.confusion import confusion

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(st.data(), SHAPES, st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_counts_equal_a_plain_loop(data: st.DataObject, shape: tuple[int, int], classes: int) -> None:
    labels = st.one_of(st.integers(0, classes - 1), st.just(255))
    truth = data.draw(arrays.arrays(np.uint8, shape, elements=labels))
    guess = data.draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, classes - 1)))
    assert confusion(truth, guess, space_of(classes)).tolist() == loop_confusion(truth, guess, classes, 255)


def test_counts_equal_scikit_learn() -> None:
    truth, guess = random_pair(1)
    kept = truth != 255
    expected = confusion_matrix(truth[kept], guess[kept], labels=range(4))
    assert np.array_equal(confusion(truth, guess, space_of(4)), expected)


def test_void_pixels_change_no_count(space: LabelSpace) -> None:
    truth, guess = random_pair(2)
    other = np.where(truth == 255, (guess + 1) % 4, guess)
    assert not np.array_equal(guess, other)
    assert np.array_equal(confusion(truth, guess, space), confusion(truth, other, space))
    assert confusion(truth, guess, space).sum() == (truth != 255).sum()


def test_a_guess_may_be_void_only_where_the_truth_is(space: LabelSpace) -> None:
    truth, guess = np.array([[255, 1]], np.uint8), np.array([[255, 1]], np.uint8)
    assert confusion(truth, guess, space).sum() == 1
    with pytest.raises(UnknownLabel, match="the prediction has 255 at row 0, column 1"):
        confusion(np.array([[1, 1]], np.uint8), guess[:, ::-1] * 0 + np.array([[1, 255]], np.uint8), space)


def test_a_guess_of_no_class_is_refused_under_void_too(space: LabelSpace) -> None:
    with pytest.raises(UnknownLabel, match="the prediction has 7"):
        confusion(np.array([[255]], np.uint8), np.array([[7]], np.uint8), space)


def test_one_class_counts_exactly_past_what_float32_holds() -> None:
    truth = np.zeros((4097, 4097), np.uint8)
    assert confusion(truth, truth, space_of(1)).tolist() == [[4097 * 4097]]


def test_many_classes_do_not_wrap_around() -> None:
    space = space_of(300)
    truth = np.array([[299, 0, space.void]], np.uint16)
    matrix = confusion(truth, np.array([[298, 0, 5]], np.uint16), space)
    assert matrix[299, 298] == 1
    assert matrix[0, 0] == 1
    assert matrix.sum() == 2


def test_another_size_is_refused_with_both_sizes(space: LabelSpace) -> None:
    with pytest.raises(SizeMismatch, match="the label map is 2 x 3, the prediction 3 x 2"):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), space)


def test_an_unknown_label_is_named_with_its_pixel(space: LabelSpace) -> None:
    truth = np.zeros((3, 5), np.uint8)
    truth[2, 1:3] = 7
    with pytest.raises(UnknownLabel, match=r"the label map has 7 at row 2, column 1 \(2 such pixels\)"):
        confusion(truth, np.zeros((3, 5), np.uint8), space)
    with pytest.raises(UnknownLabel, match="the prediction has -1 at row 0, column 0"):
        confusion(np.zeros((1, 1), np.uint8), np.array([[-1]]), space)
