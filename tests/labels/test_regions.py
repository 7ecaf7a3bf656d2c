"""Connected regions: those that labelling class by class finds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from fullconv.labels.regions import regions


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 255])))
def test_they_are_those_of_labelling_each_class(labels: NDArray[np.uint8]) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for value in np.unique(labels).tolist():
        numbered, _ = ndimage.label(labels == value)
        expected.update((value, pixels) for pixels in np.bincount(numbered.ravel())[1:].tolist())
    values, pixels = regions(labels)
    assert Counter(zip(values.tolist(), pixels.tolist(), strict=True)) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_a_region_inside_anothers_box_is_not_joined(dtype: type[np.integer]) -> None:
    labels = np.array([[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [2, 2, 2, 2]], dtype)
    values, pixels = regions(labels)
    assert sorted(zip(values.tolist(), pixels.tolist(), strict=True)) == [(0, 10), (1, 1), (1, 1), (2, 4)]
    assert values.dtype == dtype
