"""Surgery on every backbone of the road, on small networks window by window, and on what cannot be converted."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fullconv.base.errors import SurgeryError, UsageError
from fullconv.nets.proof import TOLERANCE, prove, score_geometry
from fullconv.nets.surgery import CONTEXTS, POOLINGS, Converted, convolutionalize


def from_torchvision(name: str) -> nn.Module:
    extra = {"googlenet": {"init_weights": False, "aux_logits": True}}.get(name, {})
    return torchvision.models.get_model(name, weights=None, **extra)


def small_vgg16() -> nn.Module:
    """torchvision's VGG16 with an eighth of its channels and a small head; the full width is the same code."""
    widths = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    network = torchvision.models.VGG(torchvision.models.vgg.make_layers(widths), num_classes=10)
    network.classifier[0], network.classifier[3] = nn.Linear(64 * 49, 32), nn.Linear(32, 32)
    network.classifier[6] = nn.Linear(32, 10)
    return network


def small_timm_vgg16() -> nn.Module:
    widths = (8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M")
    return timm.models.vgg.VGG(widths, num_classes=10, mlp_ratio=0.01)


BACKBONES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision:alexnet": (lambda: from_torchvision("alexnet"), 224),
    "torchvision:vgg16 (narrow)": (small_vgg16, 224),
    "torchvision:googlenet": (lambda: from_torchvision("googlenet"), 96),
    "torchvision:resnet18": (lambda: from_torchvision("resnet18"), 64),
    "torchvision:resnet50": (lambda: from_torchvision("resnet50"), 64),
    "torchvision:mobilenet_v3_small": (lambda: from_torchvision("mobilenet_v3_small"), 64),
    "torchvision:mobilenet_v3_large": (lambda: from_torchvision("mobilenet_v3_large"), 64),
    "torchvision:convnext_tiny": (lambda: from_torchvision("convnext_tiny"), 64),
    "timm:vgg16 (narrow)": (small_timm_vgg16, 224),
    "timm:resnet18": (lambda: timm.create_model("resnet18"), 64),
    "timm:resnet50": (lambda: timm.create_model("resnet50"), 64),
    "timm:mobilenetv3_small_100": (lambda: timm.create_model("mobilenetv3_small_100"), 64),
    "timm:mobilenetv3_large_100": (lambda: timm.create_model("mobilenetv3_large_100"), 64),
    "timm:convnext_tiny": (lambda: timm.create_model("convnext_tiny"), 64),
    "timm:tf_efficientnet_lite0": (lambda: timm.create_model("tf_efficientnet_lite0"), 64),
    "timm:tf_efficientnet_lite1": (lambda: timm.create_model("tf_efficientnet_lite1"), 80),
    "timm:tf_efficientnet_lite2": (lambda: timm.create_model("tf_efficientnet_lite2"), 100),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_convert_and_nothing_is_lost(name: str) -> None:
    build, window = BACKBONES[name]
    torch.manual_seed(1)
    model = build().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    converted = convolutionalize(model, window)
    # equal at the window
    assert converted.proof.holds, converted.proof.at_window
    assert converted.geometry.size == (1, 1)
    # the classifier is as it was, and stays so when the network is trained further
    with torch.no_grad():
        trained = copy.deepcopy(converted.network)
        for parameter in converted.network.parameters():
            parameter.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    # names are kept, every weight is accounted for, and none is fresh
    account, after = converted.proof.account, trained.state_dict()
    assert account.fresh == ()
    assert sorted(account.copied + account.reshaped + account.folded + account.dropped) == sorted(before)
    assert set(account.copied + account.reshaped) == set(after)
    assert all(torch.equal(after[k], before[k]) for k in account.copied)
    assert all(torch.equal(after[k].flatten(), before[k].flatten()) for k in account.reshaped)
    assert all(k.startswith("aux") for k in account.dropped)
    # what is left takes any size, and nothing in its head is fully connected
    assert not any(
        isinstance(converted.network.get_submodule(n.rpartition(".")[0]), nn.Linear) for n in account.reshaped
    )
    larger = converted.network(torch.zeros(1, 3, window + 32, window + 64))
    assert larger.shape[2:] == score_geometry(converted, (window + 32, window + 64)).size == (2, 3)


def test_the_full_vgg16_has_the_published_geometry() -> None:
    """Traced without data or weights that are drawn: the published numbers of VGG16 at its own window."""
    with torch.device("meta"):
        model = torchvision.models.vgg16(weights=None, init_weights=False)
    from fullconv.nets.surgery import rewritten

    made = rewritten(model, (224, 224))
    assert made.geometry.receptive_field == (404, 404)  # Long et al. 2015, table 1
    assert made.geometry.stride == (32, 32)
    assert made.network.get_submodule("classifier.0").weight.shape == (4096, 512, 7, 7)
    assert made.account.reshaped == ("classifier.0.weight", "classifier.3.weight", "classifier.6.weight")


def test_gradients_reach_every_weight_and_dropout_drops() -> None:
    torch.manual_seed(2)
    converted = convolutionalize(small_vgg16(), 224)
    network = converted.network.train()
    x = torch.rand(2, 3, 256, 224)
    assert not torch.equal(network(x), network(x))
    network(x).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    assert [n for n, p in network.named_parameters() if not p.grad.abs().sum() > 0] == []


class Unpadded(nn.Module):
    """Nothing is padded: every cell of the dense pass must equal the classifier on its window."""

    def __init__(self, window: tuple[int, int], order: str, norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 5, 3, 2), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, (3, 2)), nn.MaxPool2d(2, 2), nn.GELU()
        )
        self.order = order
        with torch.no_grad():
            _, c, h, w = self.body(torch.zeros(1, 3, *window)).shape
        self.fc1, self.drop, self.fc2 = nn.Linear(c * h * w, 7), nn.Dropout(0.5), nn.Linear(7, 4)
        self.norm: nn.Module = nn.BatchNorm1d(7) if norm else nn.LayerNorm(7)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.order == "flatten":
            x = torch.flatten(x, 1)
        elif self.order == "view":
            x = x.view(x.size(0), -1)
        elif self.order == "channels last":
            x = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        elif self.order == "shuffled":
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).flatten(1)
        elif self.order == "shuffled tokens":
            x = x.flatten(2).unflatten(1, (2, 3)).transpose(1, 2).flatten(1)
        elif self.order == "tokens":
            x = x.flatten(2).transpose(1, 2).flatten(1)
        else:
            x = x.transpose(2, 3).flatten(1)  # columns before rows
        return self.fc2(self.drop(self.norm(self.fc1(x)).relu()))


ORDERS = ("flatten", "view", "channels last", "tokens", "columns first", "shuffled", "shuffled tokens")


@settings(deadline=None, max_examples=12)
@given(
    window=st.tuples(st.integers(12, 22), st.integers(12, 22)),
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    order=st.sampled_from(ORDERS),
    norm=st.booleans(),
    seed=st.integers(0, 99),
)
def test_without_padding_every_cell_equals_its_window(
    window: tuple[int, int], more: tuple[int, int], order: str, norm: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    model = Unpadded(window, order, norm).eval()
    photo = torch.randn(3, window[0] + more[0], window[1] + more[1])
    proof = prove(model, convolutionalize(model, window), photos=[photo])
    dense = proof.dense
    assert dense is not None
    assert dense.exact, dense
    assert dense.grid == (more[0] // 4 + 1, more[1] // 4 + 1)
    assert dense.windows == dense.grid[0] * dense.grid[1]
    assert "nothing is padded" in dense.why


def by_hand(model: nn.Module, converted: Converted, photo: Tensor, stride: int) -> float:
    """The plain double loop: the largest difference between each cell and the classifier on its window."""
    scores = converted.network(photo[None])[0]
    h, w = converted.window
    worst = 0.0
    for i in range(scores.shape[1]):
        for j in range(scores.shape[2]):
            window = photo[None, :, i * stride : i * stride + h, j * stride : j * stride + w]
            worst = max(worst, float((model(window)[0] - scores[:, i, j]).abs().max()))
    return worst


@pytest.mark.parametrize("order", ORDERS)
def test_the_double_loop_agrees_with_the_proof(order: str) -> None:
    torch.manual_seed(3)
    model = Unpadded((17, 21), order, True).eval()
    converted = convolutionalize(model, (17, 21))
    photo = torch.randn(3, 26, 33)
    with torch.no_grad():
        assert by_hand(model, converted, photo, 4) < 1e-5
        broken = copy.deepcopy(converted.network.get_submodule("fc1").weight)
        converted.network.get_submodule("fc1").weight.copy_(broken.flip(2))  # rows upside down: the loop must see it
        assert by_hand(model, converted, photo, 4) > 1e-3


class Pooled(nn.Module):
    def __init__(self, pool: Callable[[Tensor], Tensor], head: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3, 2))
        self.pool, self.head = pool, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.body(x)))


class Affine(nn.Module):
    """Parameters of its own: one number, and one for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(1)), nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.square(self.scale * x.relu()) + self.shift


class OverDeviation(nn.Module):
    """A reduction over the channels, after the pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(torch.var(x, dim=1, keepdim=True) + 1e-6)


class FunctionalHead(nn.Module):
    """Linear layers without a module."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.bias = nn.Parameter(torch.rand(6, features)), nn.Parameter(torch.rand(6))
        self.second = nn.Parameter(torch.rand(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.first, self.bias).relu() @ self.second


POOLS: dict[str, tuple[Callable[[Tensor], Tensor], nn.Module]] = {
    "adaptive": (nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Flatten(), nn.Linear(8, 4))),
    "adaptive maximum": (nn.AdaptiveMaxPool2d((1, 1)), nn.Sequential(nn.Flatten(), nn.Linear(8, 4))),
    "mean of two dimensions": (lambda x: x.mean((2, 3)), nn.Linear(8, 4)),
    "mean one after the other, kept": (
        lambda x: x.mean([2, 3], keepdim=True),
        nn.Sequential(nn.Conv2d(8, 4, 1), nn.Flatten()),
    ),
    "tokens": (lambda x: x.flatten(2).mean(-1), nn.Linear(8, 4)),
    "squeezed": (lambda x: nn.functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), nn.Linear(8, 4)),
    "norm and softmax": (lambda x: x.amax((-2, -1)), nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4), nn.Softmax(-1))),
    "two poolings": (
        lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1),
        nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 4)),
    ),
    "whole cells": (nn.AdaptiveAvgPool2d((2, 2)), nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(32, 4))),
    "unequal bins": (nn.AdaptiveAvgPool2d((3, 5)), nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(120, 4))),
    "more bins than cells": (nn.AdaptiveAvgPool2d(7), nn.Sequential(nn.Flatten(), nn.Linear(8 * 49, 4))),
    "scaled, squared, shifted": (lambda x: x.mean((2, 3)), nn.Sequential(Affine(), nn.Linear(8, 4))),
    "divided by its deviation": (lambda x: x.mean((2, 3)), nn.Sequential(OverDeviation(), nn.Linear(8, 4))),
    "functional": (lambda x: x.flatten(2).mean(-1), FunctionalHead(8)),
    "functional over cells": (lambda x: x.permute(0, 2, 3, 1).flatten(1), FunctionalHead(8 * 16)),
    "one layer twice": (lambda x: x.mean((2, 3)), nn.Sequential(SAME := nn.Linear(8, 8), nn.ReLU(), SAME)),
}


@pytest.mark.parametrize("name", POOLS)
def test_heads_after_a_pooling_equal_every_window(name: str) -> None:
    torch.manual_seed(4)
    model = Pooled(*POOLS[name]).eval()
    converted = convolutionalize(model, (19, 19))  # 4x4 cells
    assert converted.proof.holds
    dense = prove(model, converted).dense
    assert dense is not None
    assert dense.exact, dense
    assert dense.windows == 9
    assert (converted.proof.account.folded == ("head.1.weight",)) == (
        name == "more bins than cells"
    ) or name == "unequal bins"


def test_cells_scored_by_themselves_average_to_the_classifier_where_the_rest_is_linear() -> None:
    torch.manual_seed(5)
    model = Pooled(*POOLS["adaptive"]).eval()
    converted = convolutionalize(model, 19, pooling="cell")
    assert converted.geometry.size == (4, 4)
    assert converted.proof.holds
    dense = prove(model, converted).dense
    assert dense is not None
    assert dense.exact
    curved = convolutionalize(Pooled(*POOLS["norm and softmax"]).eval(), 19, pooling="cell")
    assert not curved.proof.holds


class SpaceToDepth(nn.Module):
    """TResNet's stem: blocks of 2x2 cells among the channels."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous()
        return x.view(n, c * 4, h // 2, w // 2)


class SpaceToDepthLast(nn.Module):
    """The same on (N, H, W, C), as patch merging does."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).flatten(3)
        return x.permute(0, 3, 1, 2)


class Selective(nn.Module):
    """A selective kernel: two branches stacked, weighted, summed. Its weights come from each cell alone."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.choose = nn.Conv2d(3, 12, 3), nn.Conv2d(3, 12, 3), nn.Conv2d(12, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.stack([self.one(x), self.two(x)], dim=1)
        n, paths, c, h, w = x.shape
        weights = self.choose(x.sum(1)).view(n, paths, c, h, w).softmax(dim=1)
        return torch.sum(x * weights, dim=1)


class InPlace(nn.Module):
    """Steps that change their input, whose results nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv2d(3, 12, 3), nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x.mul_(self.gain).add_(1.0)
        return x.sin()


CUTS: dict[str, Callable[[], nn.Module]] = {
    "space to depth": SpaceToDepth,
    "space to depth, channels last": SpaceToDepthLast,
    "pixel unshuffle": lambda: nn.PixelUnshuffle(2),
    "selective kernel": Selective,
    "in place": InPlace,
}


@pytest.mark.parametrize("name", CUTS)
def test_bodies_of_every_kind_equal_every_window(name: str) -> None:
    torch.manual_seed(8)
    body = CUTS[name]()
    size = body(torch.zeros(1, 3, 20, 20)).shape
    model = nn.Sequential(
        body, nn.Conv2d(12, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    converted = convolutionalize(model.eval(), 20, photos=torch.randn(1, 3, 20, 20))
    stride = 4 if size[2] == 10 else 2
    assert converted.geometry.stride == (stride, stride)
    dense = prove(model, converted, photos=[torch.randn(3, 20 + 2 * stride, 20 + 2 * stride)]).dense
    assert dense is not None
    assert dense.exact, dense
    assert dense.windows == 9


def test_a_network_whose_first_convolution_reads_blocks_takes_photos() -> None:
    model = nn.Sequential(SpaceToDepth(), nn.Conv2d(12, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    converted = convolutionalize(model.eval(), 16, photos=torch.rand(2, 3, 16, 16))
    assert converted.proof.holds
    assert converted.geometry.receptive_field == (16, 16)


class GlobalContext(nn.Module):
    """One weight for each position, by a softmax over all: a weighted pooling, which every position then meets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.mix = nn.Conv2d(6, 1, 1), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weight = self.weight(x).reshape(n, 1, h * w).softmax(-1).unsqueeze(3)
        context = (x.reshape(n, c, h * w).unsqueeze(1) @ weight).view(n, c, 1, 1)
        return x * self.mix(context).sigmoid()


class Gate(nn.Module):
    """A gate of fewer cells than fit, brought to the map's size: 3 beside 7."""

    def forward(self, x: Tensor) -> Tensor:
        gate = nn.functional.avg_pool2d(x, 2, 2).sigmoid()
        return x * nn.functional.interpolate(gate, size=(x.shape[-2], x.shape[-1]), mode="nearest")


@pytest.mark.parametrize("block", [GlobalContext, Gate])
def test_what_looks_at_the_whole_map_inside_the_body_stays(block: type[nn.Module]) -> None:
    torch.manual_seed(9)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), block(), nn.Conv2d(6, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()
    converted = convolutionalize(model, 15)
    assert converted.proof.holds
    assert converted.geometry.receptive_field is None
    assert converted.network(torch.rand(1, 3, 33, 29)).shape == (1, 4, 10, 8)


def test_a_weighted_pooling_has_no_form_in_windows() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), GlobalContext(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    with pytest.raises(SurgeryError, match="has no windowed form here"):
        convolutionalize(model, 15, context="window")


class Excited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.last = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 3)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x * self.gate(nn.functional.adaptive_avg_pool2d(x, 1)).sigmoid()
        return self.fc(self.pool(self.last(x)).flatten(1))


def test_pooling_inside_the_body_stays_global_or_gets_a_window() -> None:
    torch.manual_seed(6)
    model = Excited().eval()
    whole, local = (convolutionalize(model, 17, context=context) for context in CONTEXTS)
    assert whole.proof.holds
    assert local.proof.holds
    assert whole.geometry.receptive_field is None
    assert local.geometry.receptive_field is not None
    dense = prove(model, whole).dense
    assert dense is not None
    assert "pool the whole map" in dense.why
    with torch.no_grad():
        photo = torch.rand(1, 3, 60, 60)
        other = photo.clone()
        other[..., 50:, 50:] = 5.0
        assert not torch.equal(whole.network(photo)[..., 0, 0], whole.network(other)[..., 0, 0])
        assert torch.equal(local.network(photo)[..., 0, 0], local.network(other)[..., 0, 0])


class Patches(nn.Module):
    """Patches, a fixed position each, attention: a small transformer."""

    def __init__(self, *, attends: bool) -> None:
        super().__init__()
        self.stem, self.position = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 16, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True) if attends else None
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.position
        if self.attention is not None:
            x = self.attention(x, x, x)[0]
        return self.fc(x.mean(1))


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sort(1)[0]


class PartOfChannels(nn.Module):
    """After the pooling, a reduction over some channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).unflatten(1, (2, 2)).sum(1)


class Recurrent(nn.Module):
    """A state that runs along the positions, as Sequencer has."""

    def __init__(self) -> None:
        super().__init__()
        self.run, self.fc = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.run(x.flatten(2).transpose(1, 2))[0].mean(1))


class InBlocks(nn.Module):
    """Attention inside blocks of 2x2 cells, after steps that have no place."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q = x.unfold(2, 2, 2).unfold(3, 2, 2).reshape(n, c, h * w // 4, 4).permute(0, 2, 3, 1)
        return (q @ q.transpose(-1, -2)).softmax(-1).mean((1, 2))


class AmongBlocks(nn.Module):
    """MobileViT's second version: a softmax over the blocks of 2x2 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.choose = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, c, 4, -1)
        return (x * self.choose(x).softmax(-1)).sum(-1).mean(-1)


class PartWritten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x[:, :, 0] = 1.0
        return x.mean((2, 3))


class OverPositions(nn.Module):
    """A matrix over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.rand(36, 36))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(2) @ self.matrix).mean(2)


CONV = nn.Conv2d(3, 4, 3)
IMPOSSIBLE: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "a transformer": (lambda: timm.create_model("vit_tiny_patch16_224"), 224, r"'blocks\.0\.attn.*attention"),
    "attention": (lambda: Patches(attends=True), 16, "'attention'.*attention: every position meets"),
    "fixed positions": (
        lambda: Patches(attends=False),
        16,
        r"'position' is a fixed positional embedding of \(1, 16, 8\)",
    ),
    "sorting": (lambda: nn.Sequential(CONV, Sorted(), nn.Linear(4 * 36, 2)), 8, r"'1 \("),
    "a norm of positions": (
        lambda: nn.Sequential(CONV, nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 2)),
        8,
        "'2'",
    ),
    "a window too small": (lambda: from_torchvision("alexnet"), 32, r"'features\.\d+'"),
    "recurrence": (lambda: nn.Sequential(CONV, Recurrent()), 8, "'1.run'.*recurrence: a state is carried"),
    "attention in blocks": (lambda: nn.Sequential(CONV, InBlocks()), 8, r"'1 \(matmul\)'.*attention: every position"),
    "attention among blocks": (lambda: nn.Sequential(CONV, AmongBlocks()), 8, r"'1 \(softmax\)'.*attention: every"),
    "a part written": (lambda: nn.Sequential(CONV, PartWritten()), 8, r"'1 \(setitem\)'.*writes into a part"),
    "a part of the channels": (
        lambda: nn.Sequential(CONV, PartOfChannels()),
        8,
        r"'1 \(sum.*reduces a part of \(n, c.0",
    ),
    "a matrix over positions": (lambda: nn.Sequential(CONV, OverPositions()), 8, "positions: .*: a matrix over"),
    "positions mixed": (lambda: nn.Sequential(CONV, nn.Flatten(2), nn.Linear(36, 2)), 8, "'2'.*over positions"),
    "no map": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LSTM(6, 2)), 8, "."),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_converted_is_an_error_that_names_layer_and_reason(name: str) -> None:
    build, window, found = IMPOSSIBLE[name]
    with pytest.raises(SurgeryError) as refused:
        convolutionalize(build(), window)
    assert re.search(found, refused.value.found), refused.value.found
    assert str(refused.value).count("\n") == 2


def test_words_that_are_no_choice_are_refused() -> None:
    for bad in ({"pooling": "max"}, {"context": "local"}):
        with pytest.raises(UsageError, match="is one of"):
            convolutionalize(nn.Sequential(CONV), 8, **bad)
    assert set(POOLINGS) == {"window", "cell"}
    assert TOLERANCE <= 1e-4


def test_a_norm_over_the_whole_map_takes_the_bound_from_the_receptive_field_and_the_proof_says_so() -> None:
    torch.manual_seed(0)
    for norm in (nn.GroupNorm(2, 8), nn.InstanceNorm2d(8)):
        body = [nn.Conv2d(3, 8, 3, 2), norm, nn.ReLU(), nn.Conv2d(8, 8, 3, 2)]
        model = nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 49, 5)).eval()
        made = convolutionalize(model, 31)
        assert made.proof.holds
        assert made.geometry.receptive_field is None
        found = prove(model, made).dense
        assert found is not None
        assert not found.exact
        assert "normalize over it" in found.why


def test_a_group_norm_in_the_head_is_of_each_cell_by_itself() -> None:
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(8 * 49, 12), nn.GroupNorm(3, 12), nn.ReLU(), nn.Linear(12, 5)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), *head).eval()
    with torch.no_grad():
        model[5].weight.normal_()
        model[5].bias.normal_()
    made = convolutionalize(model, 31)
    found = prove(model, made).dense
    assert found is not None
    assert found.exact, found.why
    assert found.windows == 9


def test_a_layer_norm_over_rows_and_columns_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.LayerNorm([8, 15, 15]), nn.Flatten(), nn.Linear(8 * 225, 5))
    with pytest.raises(SurgeryError, match=r"'1' \(LayerNorm\).*rows and columns of one size"):
        convolutionalize(model.eval(), 31)


class Summed(nn.Module):
    """The head reads the sum over the map."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).relu().sum((2, 3)))


def test_a_sum_over_the_map_becomes_a_sum_over_each_window() -> None:
    torch.manual_seed(0)
    model = Summed().eval()
    made = convolutionalize(model, 21)
    found = prove(model, made).dense
    assert found is not None
    assert found.exact, found.why
    with pytest.raises(SurgeryError, match="mean, maximum"):
        convolutionalize(model, 21, pooling="cell")
