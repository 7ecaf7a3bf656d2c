"""The quicker way back through depthwise convolutions gives the gradients that torch gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fullconv.train.depthwise import QuickDepthwise

CHANNELS = 6


def gradients(quick: bool, x: Tensor, weight: Tensor, bias: Tensor, **how: int | tuple[int, int]) -> list[Tensor]:
    """Of a random sum of the outputs, by autocast to bfloat16."""
    mode = QuickDepthwise() if quick else torch.autograd.graph.save_on_cpu()
    with torch.autocast("cpu", torch.bfloat16), mode:
        made = F.conv2d(x, weight, bias, groups=CHANNELS, **how)
    torch.manual_seed(1)
    return list(torch.autograd.grad(made, (x, weight, bias), torch.randn(made.shape).to(made.dtype)))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("padding", [0, 1, "half"])
@pytest.mark.parametrize("size", [(16, 16), (17, 20)])
def test_gradients_equal_those_of_torch(
    kernel: int, stride: int | tuple[int, int], padding: int | str, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, CHANNELS, *size, requires_grad=True)
    weight = torch.randn(CHANNELS, 1, kernel, kernel, requires_grad=True)
    bias = torch.randn(CHANNELS, requires_grad=True)
    how = {"stride": stride, "padding": kernel // 2 if padding == "half" else int(padding)}
    for quick, plain in zip(
        gradients(True, x, weight, bias, **how), gradients(False, x, weight, bias, **how), strict=True
    ):
        assert torch.allclose(quick, plain, atol=0.01 * float(plain.abs().max()))


@pytest.mark.parametrize(
    "arguments",
    [{"groups": 1}, {"groups": 2}, {"groups": CHANNELS, "dilation": 2}, {"groups": CHANNELS, "padding": "same"}],
    ids=str,
)
def test_other_convolutions_are_left_to_torch(arguments: dict[str, int]) -> None:
    weight = torch.randn(CHANNELS, CHANNELS // arguments["groups"], 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), QuickDepthwise():
        made = F.conv2d(torch.randn(1, CHANNELS, 9, 9), weight, **arguments)
    assert type(made.grad_fn).__name__ == "ConvolutionBackward0"


def test_in_float32_torch_goes_its_own_way() -> None:
    weight = torch.randn(CHANNELS, 1, 3, 3, requires_grad=True)
    with QuickDepthwise():
        made = F.conv2d(torch.randn(1, CHANNELS, 9, 9), weight, groups=CHANNELS)
    assert type(made.grad_fn).__name__ == "ConvolutionBackward0"
