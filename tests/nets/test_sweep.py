"""Real networks of many kinds, smaller windows: the quick part of benchmarks/surgery.py."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fullconv.nets.costs import layers_of
from fullconv.nets.proof import TOLERANCE, score_geometry
from fullconv.nets.surgery import convolutionalize

NETWORKS = {
    "torchvision:squeezenet1_1": 64,  # ends in a convolution, then the pooling
    "torchvision:shufflenet_v2_x0_5": 64,  # channels shuffled by reshapes
    "torchvision:regnet_y_400mf": 64,  # squeeze-and-excitation, groups
    "timm:skresnet18": 64,  # selective kernels: branches stacked and weighted
    "timm:gcresnext26ts": 64,  # global context: a softmax over all positions
    "timm:resnest14d": 64,  # split attention over the channels
    "timm:resnetblur18": 64,  # anti-aliasing by a fixed filter
    "timm:convnextv2_atto": 64,  # (N, H, W, C), Linear layers, global response norm
    "timm:convnext_zepto_rms": 64,  # norms by hand, after the pooling too
    "timm:cs3darknet_focus_s": 64,  # space to depth by slices
    "timm:hgnetv2_b0": 64,  # single numbers as parameters, in the head too
    "timm:swiftformer_xs": 64,  # tokens pooled by learnt weights
    "timm:test_nfnet": 96,  # weights standardized as it runs
    "timm:test_efficientnet_evos": 64,  # norms over groups and positions
}
FULLY_CONNECTED = {"linear", "flatten", "unfold", "addmm"}


def built(name: str) -> nn.Module:
    source, model = name.split(":")
    return timm.create_model(model) if source == "timm" else torchvision.models.get_model(model, weights=None)


@torch.no_grad()
def stirred(model: nn.Module, pictures: torch.Tensor) -> nn.Module:
    """No constant weight, and batch norm of the pictures' own statistics: else the scores hardly depend on them."""
    for parameter in model.parameters():
        if parameter.dim() < 2 or not parameter.any():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.eval().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train().momentum = 1.0
    model(pictures)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_of_every_kind_convert(name: str) -> None:
    torch.manual_seed(5)
    window = NETWORKS[name]
    pictures = torch.randn(2, 3, window, window)
    model = stirred(built(name), pictures)
    with torch.no_grad():
        scores = model(pictures)
    assert (scores[0] - scores[1]).abs().max() > 1e-3 * scores.abs().max()
    converted = convolutionalize(model, window, photos=pictures)
    assert converted.proof.at_window.relative_difference <= TOLERANCE
    # nothing is connected, flattened or unfolded
    network = converted.network
    assert [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Flatten | nn.Unfold)] == []
    words = {str(getattr(n.target, "__name__", n.target)) for n in network.graph.nodes}
    assert words.isdisjoint(FULLY_CONNECTED)
    # on a larger photo: as many cells, and as many multiply-adds, as derived
    size = window + 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        scores = network(torch.randn(1, 3, size, size))
    derived = sum(layer.multiply_adds for layer in layers_of(network, size))
    assert counter.get_total_flops() / 2 == pytest.approx(derived, rel=0.02)
    assert scores.shape[2:] == score_geometry(converted, (size, size)).size
