"""Taps found by geometry alone, and bodies that take any size."""

from __future__ import annotations

from fractions import Fraction

import pytest
import timm
import torch
import torchvision
from torch import nn

from fullconv.base.errors import GeometryError, UsageError
from fullconv.nets.body import PICKS, Body, body_of
from fullconv.nets.surgery import Converted, convolutionalize

HALF = Fraction(1, 2)


def vgg16() -> nn.Module:
    """VGG16 with an eighth of its channels."""
    widths = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    network = torchvision.models.VGG(torchvision.models.vgg.make_layers(widths), num_classes=10)
    network.classifier[0], network.classifier[3] = nn.Linear(64 * 49, 24), nn.Linear(24, 20)
    network.classifier[6] = nn.Linear(20, 10)
    return network


CASES = {
    "efficientnet_lite0": (
        lambda: timm.create_model("tf_efficientnet_lite0"),
        64,
        {2: (16, 1), 4: (24, 3), 8: (40, 7), 16: (112, 15), 32: (1280, 31)},
    ),
    "resnet18": (
        lambda: torchvision.models.resnet18(weights=None),
        64,
        {2: (64, 0), 4: (64, 0), 8: (128, 0), 16: (256, 0), 32: (512, 0)},
    ),
    "mobilenet_v3_small": (
        lambda: torchvision.models.mobilenet_v3_small(weights=None),
        64,
        {2: (16, 0), 4: (16, 0), 8: (24, 0), 16: (48, 0), 32: (576, 0)},
    ),
    "vgg16": (
        vgg16,
        224,
        {2: (16, HALF), 4: (32, 3 * HALF), 8: (64, 7 * HALF), 16: (64, 15 * HALF), 32: (64, 31 * HALF)},
    ),
    "alexnet": (
        lambda: torchvision.models.alexnet(weights=None, num_classes=3),
        224,
        {4: (64, 3), 8: (192, 7), 16: (256, 15), 32: (256, 31)},
    ),
}


@pytest.fixture(scope="module")
def converted() -> dict[str, Converted]:
    torch.manual_seed(21)
    return {name: convolutionalize(build().eval(), window) for name, (build, window, _) in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_taps_have_the_strides_channels_and_offsets_that_geometry_gives(
    name: str, converted: dict[str, Converted]
) -> None:
    expected = CASES[name][2]
    body = body_of(converted[name], list(expected)[::-1])
    assert {t.stride: (t.channels, t.offset) for t in body.taps} == {s: (c, (o, o)) for s, (c, o) in expected.items()}
    assert [t.stride for t in body.taps] == sorted(expected)


@pytest.mark.parametrize(("name", "channels"), [("efficientnet_lite0", 320), ("mobilenet_v3_small", 96), ("vgg16", 64)])
def test_what_widens_the_last_block_for_the_scores_is_left_out(
    name: str, channels: int, converted: dict[str, Converted]
) -> None:
    """Without blocks (VGG16) the last map is taken."""
    assert body_of(converted[name], [32], pick="block").taps[0].channels == channels


@pytest.mark.parametrize("name", CASES)
def test_bodies_take_any_size(name: str, converted: dict[str, Converted]) -> None:
    body = body_of(converted[name], list(CASES[name][2])).eval()
    with torch.no_grad():
        for size in [(1, 1), (1, 50), (70, 3), (33, 97)]:
            maps = body(torch.rand(1, 3, *size))
            assert [m.shape[1] for m in maps] == [t.channels for t in body.taps]
            assert all(min(m.shape[2:]) >= 1 for m in maps)


def test_one_pixel_less_than_the_smallest_size_leaves_nothing(converted: dict[str, Converted]) -> None:
    body = body_of(converted["alexnet"], [4, 32])
    assert body.smallest == 63
    with torch.no_grad():
        body.network(torch.zeros(1, 3, 63, 63))
        with pytest.raises(RuntimeError):
            body.network(torch.zeros(1, 3, 62, 62))


def test_taps_of_lite0_are_those_that_timm_gives_out() -> None:
    torch.manual_seed(22)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    features = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    features.load_state_dict({k: v for k, v in model.state_dict().items() if k in features.state_dict()})
    body = body_of(convolutionalize(model, 64), [2, 4, 8, 16])
    x = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        for ours, theirs in zip(body(x), features(x)[:4], strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_taps_of_convnext_are_whole_stages() -> None:
    torch.manual_seed(23)
    model = timm.create_model("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 12, 16, 20)).eval()
    body = body_of(convolutionalize(model, 64), [4, 8, 16, 32])
    assert [t.channels for t in body.taps] == [8, 12, 16, 20]
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        stage = model.stages[0](model.stem(x))
        assert torch.allclose(body(x)[0], stage, atol=1e-5)


class Jump(nn.Module):
    """A road that forks at stride 2: what lies on one branch alone is no tap."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 1, 1), nn.Linear(10, 3)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        both = torch.cat([self.pool(x), self.pool(self.side(x).relu())], 1)
        return self.fc(both.mean((2, 3)))


def test_a_tap_lies_where_the_whole_road_passes() -> None:
    body = body_of(convolutionalize(Jump().eval(), 16), [2, 4])
    assert [(t.name, t.channels) for t in body.taps] == [("stem", 4), ("cat", 10)]


def names(body: Body) -> list[str]:
    return [tap.name for tap in body.taps]


def test_vgg_taps_may_be_the_poolings_of_the_paper_and_reach_fc7(converted: dict[str, Converted]) -> None:
    paper = body_of(converted["vgg16"], [8, 16, 32], through_fc=True, pick="pooling")
    assert names(paper) == ["features.16", "features.23", "classifier.5"]
    assert paper.taps[-1].channels == 20
    assert paper.taps[-1].offset == (223 * HALF, 223 * HALF)
    last = body_of(converted["vgg16"], [8, 16, 32])
    assert names(last) == ["features.22", "features.29", "features.30"]


def test_through_fc_stops_before_the_pooling_where_there_is_one(converted: dict[str, Converted]) -> None:
    assert names(body_of(converted["resnet18"], [32], through_fc=True)) == names(body_of(converted["resnet18"], [32]))


def test_a_body_has_weights_of_its_own_and_learns(converted: dict[str, Converted]) -> None:
    source = converted["resnet18"].network
    before = source.get_submodule("conv1").weight.clone()
    body = body_of(converted["resnet18"], [4, 32]).train()
    sum(m.square().mean() for m in body(torch.rand(2, 3, 64, 64))).backward()
    assert [n for n, p in body.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        for p in body.parameters():
            p.zero_()
    assert torch.equal(source.get_submodule("conv1").weight, before)
    assert not any(n.startswith("network.fc") for n in body.state_dict())


def test_a_stride_that_is_not_there_is_an_error_that_names_those_that_are(converted: dict[str, Converted]) -> None:
    with pytest.raises(GeometryError, match=r"no map of stride 2; there are 4, 8, 16, 32"):
        body_of(converted["alexnet"], [2, 32])
    with pytest.raises(UsageError, match="last"):
        body_of(converted["resnet18"], [32], pick="first")
    assert set(PICKS) == {"last", "pooling", "block"}
