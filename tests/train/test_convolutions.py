"""Quick convolutions give what torch's give in float32, forward and back, and leave the network as it was.

Torch's own gradients in bfloat16 are off by 1% on processors that have no instructions for it: no standard for ours.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.train.convolutions import GROUP, activated, quick_convolutions
from fullconv.train.precision import autocast, quick_bfloat16

CHANNELS = 6
MANY = 2 * GROUP  # weights of large kernels in groups


def gradients(quick: bool, x: Tensor, weight: Tensor, bias: Tensor, **how: int | tuple[int, int]) -> list[Tensor]:
    """Of a random sum of the outputs: quick ones by autocast to bfloat16, torch's in float32."""
    mode = quick_convolutions(nn.Identity()) if quick else nullcontext()
    with torch.autocast("cpu", torch.bfloat16, enabled=quick), mode:
        made = F.conv2d(x, weight, bias, groups=len(weight), **how)
    torch.manual_seed(1)
    return list(torch.autograd.grad(made, (x, weight, bias), torch.randn(made.shape).to(made.dtype)))


@pytest.mark.parametrize("channels", [CHANNELS, MANY])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("padding", [0, 1, "half"])
@pytest.mark.parametrize("size", [(16, 16), (17, 20)])
def test_gradients_equal_those_of_torch(
    channels: int, kernel: int, stride: int | tuple[int, int], padding: int | str, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, channels, *size, requires_grad=True)
    weight = torch.randn(channels, 1, kernel, kernel, requires_grad=True)
    bias = torch.randn(channels, requires_grad=True)
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
    with torch.autocast("cpu", torch.bfloat16), quick_convolutions(nn.Identity()):
        made = F.conv2d(torch.randn(1, CHANNELS, 9, 9), weight, **arguments)
    assert type(made.grad_fn).__name__ == "ConvolutionBackward0"


def test_in_float32_torch_goes_its_own_way() -> None:
    weight = torch.randn(CHANNELS, 1, 3, 3, requires_grad=True)
    with quick_convolutions(nn.Identity()):
        made = F.conv2d(torch.randn(1, CHANNELS, 9, 9), weight, groups=CHANNELS)
    assert type(made.grad_fn).__name__ == "ConvolutionBackward0"


@pytest.mark.parametrize("kernel", [(8, 8), (8, 7), (4, 9)], ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_deconvolution_equals_that_of_torch(
    kernel: tuple[int, int], groups: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, CHANNELS, 5, 7).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(CHANNELS, 9 // groups, *kernel, requires_grad=True)
    plain = F.conv_transpose2d(x, weight, stride=4, groups=groups)
    with torch.autocast("cpu", torch.bfloat16), quick_convolutions(nn.Identity()):
        quick = F.conv_transpose2d(x, weight, stride=4, groups=groups)
    assert quick.dtype == torch.bfloat16
    assert not type(quick.grad_fn).__name__.startswith("Convolution")
    assert quick.shape == plain.shape
    seen = torch.randn(plain.shape)
    for got, wanted in zip(
        (quick, *torch.autograd.grad(quick, (x, weight), seen.bfloat16())),
        (plain, *torch.autograd.grad(plain, (x, weight), seen)),
        strict=True,
    ):
        assert torch.allclose(got.float(), wanted, atol=0.02 * float(wanted.detach().abs().max()))


@pytest.mark.parametrize(
    "arguments", [{"stride": 2}, {"stride": (4, 8)}, {"stride": 4, "padding": 1}, {"stride": 4, "dilation": 2}], ids=str
)
def test_other_deconvolutions_are_left_to_torch(arguments: dict[str, int]) -> None:
    weight = torch.randn(CHANNELS, 2, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), quick_convolutions(nn.Identity()):
        made = F.conv_transpose2d(torch.randn(1, CHANNELS, 5, 5), weight, **arguments)
    assert type(made.grad_fn).__name__.startswith("Convolution")


class Small(nn.Module):
    """A convolution of each kind, each with a ReLU behind it; the last ReLU reads what another layer reads too."""

    def __init__(self, relu: type[nn.Module], channels: int = 16) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2, padding=1), relu())
        self.depthwise = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels), relu(), nn.Conv2d(channels, channels, 1)
        )
        self.grouped = nn.Sequential(nn.Conv2d(channels, channels, 3, groups=4, dilation=2, padding="same"), relu())
        self.last = nn.Conv2d(channels, channels, (1, 3))
        self.relu = relu()

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.grouped(self.depthwise(self.first(x) * 4)))
        return y + self.relu(y)


def passes(network: nn.Module, x: Tensor, precision: str) -> list[Tensor]:
    """What the network gives, and the gradients of a random sum of it by all its parameters and the input."""
    with autocast(precision, x.device):
        made = network(x)
    torch.manual_seed(1)
    return [made, *torch.autograd.grad(made, [x, *network.parameters()], torch.randn(made.shape).to(made.dtype))]


@pytest.mark.parametrize("relu", [nn.ReLU, nn.ReLU6])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_network_gives_the_same_forward_and_back(
    relu: type[nn.Module], precision: str, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    network = fx.symbolic_trace(Small(relu)).to(memory_format=layout)
    x = (3 * torch.randn(2, 3, 20, 23)).contiguous(memory_format=layout).requires_grad_()
    plain = passes(network, x, precision)
    with quick_convolutions(network):
        quick = passes(network, x, precision)
    within = 1e-5 if precision == "fp32" else 0.01 if quick_bfloat16(x.device) else 0.02
    for got, wanted in zip(quick, plain, strict=True):
        assert torch.allclose(got, wanted, atol=within * float(wanted.detach().abs().max()))


def test_a_relu_is_taken_into_the_convolution_that_it_alone_reads() -> None:
    network = fx.symbolic_trace(Small(nn.ReLU6))
    with quick_convolutions(network):
        made = network.get_submodule("first.0")(torch.full((1, 3, 8, 8), 100.0))
        assert network.get_submodule("first.1")(torch.tensor(-1.0)) == -1
        assert network.relu(torch.tensor(-1.0)) == 0
    assert float(made.detach().max()) <= 6
    assert type(made.grad_fn).__name__ == "_ConvolutionBackward"


class Pair(nn.Module):
    """A convolution and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU6()


def test_a_relu_whose_map_is_written_over_is_left_alone() -> None:
    class Written(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.layer(x)).mul_(2)

    network = fx.symbolic_trace(Written())
    with quick_convolutions(network):
        network(torch.randn(1, 3, 5, 5)).sum().backward()
    assert network.layer.weight.grad is not None


def test_a_layer_that_is_used_twice_is_left_alone() -> None:
    class Twice(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.relu(self.layer(x)))

    assert activated(fx.symbolic_trace(Twice())) == []


def test_afterwards_every_layer_is_as_it_was_even_if_the_pass_failed() -> None:
    network = fx.symbolic_trace(Small(nn.ReLU))
    with pytest.raises(RuntimeError), quick_convolutions(network):
        network(torch.randn(1, 5, 8, 8))
    assert not any("forward" in vars(module) for module in network.modules() if module is not network)
