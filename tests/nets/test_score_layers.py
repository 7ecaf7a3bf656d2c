"""The layers of heads: exact bilinear filters, zero scores, crops and borders."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fullconv.nets.score_layers import bilinear_deconvolution, bilinear_filter, cut, pad, repeat_border, score_layer


def by_hand(factor: int, size: int, i: int, j: int) -> float:
    """The filter of Long et al.'s surgery, entry by entry."""
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    return (1 - abs(i - centre) / factor) * (1 - abs(j - centre) / factor)


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("odd", [0, 1])
def test_the_filter_is_the_authors_entry_by_entry(factor: int, odd: int) -> None:
    size = 2 * factor - odd
    found = bilinear_filter(factor, (size, size))
    expected = torch.tensor([[by_hand(factor, size, i, j) for j in range(size)] for i in range(size)])
    assert torch.equal(found, expected.float())


@pytest.mark.parametrize("factor", [2, 4, 8, 32])
def test_an_even_kernel_equals_half_pixel_interpolation_away_from_the_border(factor: int) -> None:
    x = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    kernel = 2 * factor - factor % 2
    layer = bilinear_deconvolution(3, factor, (kernel, kernel), learned=True)
    margin = -(-(factor - 1) // 2)  # ceil((f - 1) / 2), the padding that the formula asks for
    found = layer(x)[:, :, margin : margin + 5 * factor, margin : margin + 6 * factor]
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    inner = slice(factor, -factor)
    torch.testing.assert_close(found[:, :, inner, inner], expected[:, :, inner, inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_an_odd_kernel_equals_interpolation_with_aligned_corners(factor: int) -> None:
    x = torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(2))
    layer = bilinear_deconvolution(2, factor, (2 * factor - 1, 2 * factor - 1), learned=True)
    found = layer(x)[:, :, factor - 1 : 1 - factor or None, factor - 1 : 1 - factor or None]
    expected = F.interpolate(x, size=(3 * factor + 1, 4 * factor + 1), mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [(8, 7), (7, 8)])
def test_rows_and_columns_may_differ_in_parity(kernel: tuple[int, int]) -> None:
    found = bilinear_filter(4, kernel)
    assert found.shape == kernel
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            expected = (1 - abs(i - (kernel[0] - 1) / 2) / 4) * (1 - abs(j - (kernel[1] - 1) / 2) / 4)
            assert found[i, j].item() == pytest.approx(expected)


def test_another_kernel_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="8 or 7 taps, not 9"):
        bilinear_filter(4, (8, 9))


def test_learned_and_frozen_give_the_same_numbers_and_only_the_learned_learns() -> None:
    x = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(3))
    learned = bilinear_deconvolution(4, 8, (16, 16), learned=True)
    frozen = bilinear_deconvolution(4, 8, (16, 16), learned=False)
    torch.testing.assert_close(learned(x), frozen(x), atol=1e-6, rtol=0)
    assert learned.weight.shape == (4, 4, 16, 16)  # as the authors' nets: full, not one group a class
    assert frozen.weight.shape == (4, 1, 16, 16)
    assert learned.weight.requires_grad
    assert not frozen.weight.requires_grad


def test_score_layers_start_at_zero() -> None:
    layer = score_layer(5, 3)
    assert not layer.weight.any()
    assert layer.bias is not None
    assert not layer.bias.any()


def test_cut_pad_and_repeat_border() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert cut(x, (1, 1), (1, 2)).tolist() == [[[[4.0, 5.0]]]]
    assert pad(x, (1, 0), (0, 2)).shape == (1, 1, 3, 5)
    assert pad(x, (1, 0), (0, 2))[0, 0, 0].tolist() == [0.0] * 5
    assert repeat_border(x, (0, 1), (1, 0))[0, 0].tolist() == [[0, 0, 1, 2], [3, 3, 4, 5], [3, 3, 4, 5]]
    assert pad(x, (0, 0), (0, 0)) is x
