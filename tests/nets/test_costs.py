"""What each step costs: against torch's own count, and against published figures."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fullconv.nets.costs import layers_of


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v3_small", "convnext_tiny", "densenet121"])
def test_multiply_adds_are_those_that_torch_counts(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None).eval()
    layers = layers_of(model, (224, 192))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 224, 192))
    assert sum(layer.multiply_adds for layer in layers) == counter.get_total_flops() // 2
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in model.parameters())


def test_the_published_cost_of_vgg16() -> None:
    """15.5 thousand million multiply-adds, 138.4 million parameters (Simonyan, Zisserman 2015, table 2)."""
    with torch.device("meta"):
        layers = layers_of(torchvision.models.vgg16(weights=None, init_weights=False), 224)
    assert round(sum(layer.multiply_adds for layer in layers) / 1e9, 1) == 15.5
    assert round(sum(layer.parameters for layer in layers) / 1e6, 1) == 138.4
    pool5 = next(layer for layer in layers if layer.name == "features.30")
    assert (pool5.kind, pool5.shape, pool5.bytes) == ("pooling", (512, 7, 7), 4 * 512 * 49)
    assert pool5.geometry is not None
    assert pool5.geometry.stride == (32, 32)


def test_a_transposed_convolution_and_a_shared_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.up = nn.Conv2d(3, 3, 3, padding=1), nn.ConvTranspose2d(3, 5, 4, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(self.same(self.same(x)))

    layers = layers_of(Twice(), 8)
    assert [layer.multiply_adds for layer in layers] == [0, 64 * 3 * 27, 64 * 3 * 27, 64 * 3 * 5 * 16]
    assert [layer.parameters for layer in layers] == [0, 84, 0, 240]
    assert layers[-1].to_json()["geometry"]["stride"] == ["1/2", "1/2"]
