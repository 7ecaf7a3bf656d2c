"""Linear layers inside the body become 1x1 convolutions, and the network computes what it computed."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from fullconv.base.errors import SurgeryError
from fullconv.nets.proof import TOLERANCE
from fullconv.nets.surgery import Converted, convolutionalize

WIDTH = 8


class ChannelsLast(nn.Module):
    """ConvNeXt's block: depthwise, then norm and two Linear layers on (N, H, W, C), scaled, added."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.gamma = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.around(x).permute(0, 2, 3, 1))
        y = self.narrow(nn.functional.gelu(self.wide(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class Squeeze(nn.Module):
    """Squeeze-and-excitation with Linear layers on (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(WIDTH, 2), nn.Linear(2, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.shape
        y = x.mean((2, 3))
        return x * torch.sigmoid(self.up(torch.relu(self.down(y)))).view(n, c, 1, 1)


class SqueezeFlat(Squeeze):
    """The same by a pooling layer, a flatten and new axes."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)
        return x * torch.sigmoid(self.up(torch.relu(self.down(y))))[:, :, None, None]


class Tokens(nn.Module):
    """A Linear layer on (N, H W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.mix(self.norm(x.flatten(2).transpose(1, 2)))
        return x + y.transpose(1, 2).reshape(n, c, h, w)


class SqueezeNormed(Squeeze):
    """Squeeze-and-excitation with a batch norm on (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.down(x.mean((2, 3)))).relu()
        return x * torch.sigmoid(self.up(y))[:, :, None, None]


class ResponseNorm(nn.Module):
    """ConvNeXt V2: the norm of each channel over the positions, over its mean, on (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.scale, self.shift = (nn.Parameter(torch.rand(2 * WIDTH)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(x.permute(0, 2, 3, 1))
        response = y.norm(p=2, dim=(1, 2), keepdim=True)
        response = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
        y = y + torch.addcmul(self.shift.view(1, 1, 1, -1), self.scale.view(1, 1, 1, -1), y * response)
        return x + self.narrow(y).permute(0, 3, 1, 2)


class Halved(nn.Module):
    """A Linear layer on (N, H, W, C) whose result meets a step that has no straight form: a softmax over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x.permute(0, 2, 3, 1)).softmax(-1).permute(0, 3, 1, 2)


BLOCKS = {
    one.__name__: one for one in (ChannelsLast, Squeeze, SqueezeFlat, SqueezeNormed, Tokens, ResponseNorm, Halved)
}


def classifier(block: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 4, 4), block, nn.Conv2d(WIDTH, WIDTH, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(WIDTH, 5),
    )  # fmt: skip


def connected(converted: Converted) -> list[str]:
    return [n for n, m in converted.network.named_modules() if isinstance(m, nn.Linear | nn.Flatten)]


@pytest.mark.parametrize("name", BLOCKS)
def test_no_linear_layer_is_left_and_nothing_is_lost(name: str) -> None:
    model = classifier(BLOCKS[name]()).eval()
    converted = convolutionalize(model, 64)
    assert converted.proof.holds, converted.proof.at_window
    assert connected(converted) == []
    assert set(dict(converted.network.named_parameters())) == set(dict(model.named_parameters()))
    kernels = [n for n, p in model.named_parameters() if p.dim() == 2]
    assert list(converted.proof.account.reshaped) == sorted(kernels)
    assert converted.proof.account.dropped == converted.proof.account.fresh == ()
    assert converted.network(torch.rand(2, 3, 96, 72)).shape == (2, 5, 5, 2)


@pytest.mark.parametrize("name", [b for b in BLOCKS if b != "Halved"])
def test_the_straight_network_turns_no_dimension_round(name: str) -> None:
    converted = convolutionalize(classifier(BLOCKS[name]()).eval(), 64)
    turned = [
        n.target for n in converted.network.graph.nodes if n.target in ("permute", "transpose", "flatten", "view")
    ]
    assert [t for t in turned if t != "view"] == []


class Functional(nn.Module):
    """Linear layers without a module: F.linear, and a product with a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(WIDTH, WIDTH)), nn.Parameter(torch.rand(WIDTH))
        self.matrix = nn.Parameter(torch.rand(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.linear(x.permute(0, 2, 3, 1), self.weight, self.bias)
        return x + (y.relu() @ self.matrix).permute(0, 3, 1, 2)


class Additive(nn.Module):
    """SwiftFormer: tokens are weighted, normalized over the positions, and summed to one vector that all meet."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.last = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.weight = nn.Parameter(torch.rand(WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        tokens = x.flatten(2).permute(0, 2, 1)
        query, key = (nn.functional.normalize(layer(tokens), dim=-1) for layer in (self.query, self.key))
        one = nn.functional.normalize(query @ self.weight, dim=1)
        one = torch.sum(one * query, dim=1, keepdim=True)
        return (self.last(one * key) + query).permute(0, 2, 1).reshape(n, -1, h, w)


@pytest.mark.parametrize("block", [Functional, Additive])
def test_linear_layers_by_hand_become_convolutions_by_the_same_weights(block: type[nn.Module]) -> None:
    model = classifier(block()).eval()
    converted = convolutionalize(model, 64)
    assert converted.proof.holds, converted.proof.at_window
    assert connected(converted) == []
    words = [str(getattr(n.target, "__name__", n.target)) for n in converted.network.graph.nodes]
    assert {"linear", "matmul", "flatten"}.isdisjoint(words)
    assert {n for n, p in model.named_parameters() if "weight" not in n or "1.weight" in n} <= set(
        converted.proof.account.copied
    )
    assert converted.proof.account.dropped == converted.proof.account.fresh == ()


def test_layers_that_share_a_weight_go_on_to_share_it() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            y = self.two(self.one(self.one(x.permute(0, 2, 3, 1)).relu()))
            return x + y.permute(0, 3, 1, 2)

    converted = convolutionalize(classifier(Twice()).eval(), 64)
    assert converted.proof.holds
    assert connected(converted) == []
    assert converted.network.get_submodule("1.one").weight is converted.network.get_submodule("1.two").weight
    assert converted.proof.account.reshaped == ("1.one.weight", "1.two.weight", "5.weight")


def test_the_straight_network_learns() -> None:
    converted = convolutionalize(classifier(ChannelsLast()).eval(), 64)
    converted.network.train()(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in converted.network.parameters())


def test_a_linear_layer_over_positions_is_refused() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(256, 256)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.mix(x.flatten(2)).view_as(x)

    with pytest.raises(SurgeryError, match="mix"):
        convolutionalize(classifier(Mixer()).eval(), 64)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.convnext_tiny(weights=None, num_classes=7),
        lambda: timm.create_model("convnext_atto", num_classes=7),
        lambda: timm.create_model("mambaout_femto", num_classes=7),
    ],
    ids=["torchvision convnext", "timm convnext", "timm mambaout"],
)
def test_real_networks_of_this_kind(make: object) -> None:
    model = make().eval()  # type: ignore[operator]
    converted = convolutionalize(model, 64)
    assert connected(converted) == []
    assert converted.proof.at_window.relative_difference <= TOLERANCE
