"""A convolution written as a matrix: equal to the convolution, and its shares counted one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fullconv.base.errors import UsageError
from fullconv.nets.matrix import conv_as_linear


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
)
def test_the_matrix_gives_what_the_convolution_gives(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    bias: bool,
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias)
    made = conv_as_linear(conv, size)
    x = torch.randn(2, 4, *size)
    with torch.no_grad():
        truth = conv(x)
    assert made.size == truth.shape[2:]
    assert torch.allclose(made(x), truth, atol=1e-5)
    assert made.largest_difference < 1e-5


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_padding_of_an_even_kernel() -> None:
    conv = nn.Conv2d(2, 3, 4, padding="same")
    assert conv_as_linear(conv, (5, 6)).largest_difference < 1e-5


def test_the_shares_are_those_counted_one_by_one() -> None:
    """3x3 on 12x12x16: zeros and repeated entries, by loops over rows and kernel places."""
    conv = nn.Conv2d(16, 4, 3, padding=1, bias=False)
    made = conv_as_linear(conv, 12)
    kept = sum(
        16
        for _ in range(4)
        for y in range(12)
        for x in range(12)
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if 0 <= y + i < 12 and 0 <= x + j < 12
    )
    assert made.matrix.shape == (4 * 144, 16 * 144)
    assert made.matrix.nnz == kept
    assert made.zeros == pytest.approx(1 - kept / (4 * 144 * 16 * 144))
    assert made.repeated == pytest.approx(1 - conv.weight.numel() / kept)


def test_a_weight_that_only_meets_padding_is_not_in_the_matrix() -> None:
    made = conv_as_linear(nn.Conv2d(1, 1, 3, padding=1, bias=False), 1)
    assert made.matrix.nnz == 1
    assert made.repeated == 0


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(UsageError, match="reflect"):
        conv_as_linear(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), 8)
    with pytest.raises(UsageError, match="5, 5"):
        conv_as_linear(nn.Conv2d(1, 1, 5), 4)
    with pytest.raises(UsageError, match="entries"):
        conv_as_linear(nn.Conv2d(512, 512, 3), 64)
