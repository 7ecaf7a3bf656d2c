"""Batch normalisation folded into convolutions: the same scores, and an account of every weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fullconv as fc
from fullconv.nets.classifiers import build_classifier


class Small(nn.Module):
    """One normalisation after each kind of thing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.shared, self.shared_norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.before = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first_norm(self.first(x)).relu()
        x = self.before(x)  # reads no convolution
        x = self.shared(x)
        x = self.shared_norm(x) + x  # the convolution has two readers
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def stirred(network: nn.Module) -> nn.Module:
    """With statistics and factors that are not those of the start."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    return network.eval()


def norms(network: nn.Module) -> list[str]:
    return sorted(name for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d))


def test_only_a_norm_that_alone_reads_a_convolution_is_folded() -> None:
    converted = fc.convolutionalize(stirred(Small()), 32, norms="folded")
    assert norms(converted.network) == ["before", "shared_norm"]
    assert converted.proof.at_window.relative_difference < 1e-5
    account = converted.account
    assert {"first.weight", "first.bias", "first_norm.weight", "first_norm.running_var"} <= set(account.folded)
    assert not account.dropped
    assert not account.fresh
    assert "before.weight" in account.copied


@pytest.mark.parametrize("name", ["timm:tf_efficientnet_lite0", "torchvision:resnet18", "torchvision:mobilenet_v2"])
def test_published_classifiers_lose_every_norm_and_no_score(name: str) -> None:
    classifier = build_classifier(name, weights="none")
    converted = fc.convolutionalize(stirred(classifier.network), classifier.window, norms="folded")
    assert norms(converted.network) == []
    assert converted.proof.at_window.relative_difference < 1e-4
    assert norms(classifier.network)  # the classifier itself is as it was


def test_kept_unless_asked() -> None:
    assert norms(fc.convolutionalize(stirred(Small()), 32).network) == ["before", "first_norm", "shared_norm"]


def test_a_batch_of_a_folded_network_is_its_photos_one_by_one() -> None:
    classifier = stirred(build_classifier("torchvision:resnet18", weights="none").network)
    network = fc.convolutionalize(classifier, 64, norms="folded")
    photos = torch.randn(3, 3, 64, 64)
    net = network.network.train()
    with torch.no_grad():
        together, alone = net(photos), torch.cat([net(photo[None]) for photo in photos])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * float(together.abs().max()))
