"""Windows and patches: what they score, at the places they say, and what they cost."""

from __future__ import annotations

import pytest
import torch
from tests.dense.conftest import WINDOW, photo, unpadded

from fullconv.base.errors import UsageError
from fullconv.dense.ways import DenseClassifier
from fullconv.dense.windows import begins, patch_costs, patches, slide


def test_windows_start_every_step_and_the_last_one_ends_at_the_border() -> None:
    assert begins(50, 24, 8) == [0, 8, 16, 24, 26]
    assert begins(24, 24, 8) == [0]
    assert begins(40, 24, 8) == [0, 8, 16]


@pytest.mark.parametrize(("length", "step"), [(23, 8), (50, 0)])
def test_no_window_and_no_step_are_errors(length: int, step: int) -> None:
    with pytest.raises(UsageError, match="at least one window"):
        begins(length, 24, step)


def test_each_window_has_the_classifiers_own_scores(plain: DenseClassifier) -> None:
    model, x = plain.classifier.network, plain.prepared(photo())
    with torch.inference_mode():
        part = slide(model, x, window=(WINDOW, WINDOW), step=8).parts[0]
        third = model(x[None, :, 16 : 16 + WINDOW, 8 : 8 + WINDOW])[0]
    torch.testing.assert_close(part.values[:, 2, 1], third)


def test_one_pass_equals_windows_at_the_stride_where_nothing_is_padded(plain: DenseClassifier) -> None:
    x = plain.prepared(photo())
    with torch.inference_mode():
        apart = slide(plain.classifier.network, x, window=(WINDOW, WINDOW), step=8).parts[0].values
        together = plain.converted.network(x[None])[0]
    rows, columns = (61 - WINDOW) // 8 + 1, (80 - WINDOW) // 8 + 1  # whole windows; one more would lie over the border
    assert together.shape[1] >= rows > 1
    torch.testing.assert_close(together[:, :rows, :columns], apart[:, :rows, :columns], atol=1e-5, rtol=1e-5)


def test_every_pixel_has_the_score_of_its_own_patch(plain: DenseClassifier) -> None:
    model, x = plain.classifier.network, plain.prepared(photo(31, 40))
    with torch.inference_mode():
        scores = torch.from_numpy(patches(model, x, size=25).of(range(4)))
        own = model(x[None, :, 3:28, 8:33])[0]
    assert scores.shape == (4, 31, 40)
    torch.testing.assert_close(scores[:, 15, 20], own)


@pytest.mark.parametrize("size", [14, 81])
def test_a_patch_needs_a_middle_and_a_photo_that_holds_it(size: int, plain: DenseClassifier) -> None:
    with pytest.raises(UsageError, match="odd side"):
        patches(plain.classifier.network, plain.prepared(photo(31, 40)), size=size)


def test_the_costs_of_patches_are_counted(plain: DenseClassifier) -> None:
    costs = patch_costs(unpadded(), plain.converted.network, (31, 40), size=25)
    assert costs.bytes == 3 * 25 * 25 * 31 * 40
    assert costs.photo_bytes == 3 * 31 * 40
    first = 6 * 12 * 12 * 27  # the first convolution on one patch of 25 gives 12 x 12 cells
    assert costs.multiply_adds > 31 * 40 * first
    assert costs.one_pass_multiply_adds < costs.multiply_adds / 100
