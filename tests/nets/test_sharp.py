"""The sharp head: any size, every weight learns, maps land where their cells lie."""

from __future__ import annotations

from fractions import Fraction

import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fullconv.labels.space import LabelSpace
from fullconv.nets.heads import fcn8s
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.sharp import Sharp, bring, sharp
from fullconv.nets.surgery import convolutionalize

SPACE = LabelSpace(("sky", "road", "car"), ((0, 0, 255), (90, 90, 90), (255, 0, 0)), ((0,), (1,), (2,)))

BACKBONES = {
    "alexnet": (lambda: torchvision.models.alexnet(weights=None, num_classes=4), 224),
    "vgg16": (lambda: torchvision.models.vgg16(weights=None, num_classes=4), 224),
    "googlenet": (
        lambda: torchvision.models.googlenet(weights=None, num_classes=4, aux_logits=False, init_weights=False),
        224,
    ),
    "resnet18": (lambda: torchvision.models.resnet18(weights=None, num_classes=4), 64),
    "resnet50": (lambda: torchvision.models.resnet50(weights=None, num_classes=4), 64),
    "mobilenet_v3_large": (lambda: torchvision.models.mobilenet_v3_large(weights=None, num_classes=4), 64),
    "convnext_tiny": (lambda: timm.create_model("convnext_tiny", num_classes=4), 64),
    "efficientnet_lite0": (lambda: timm.create_model("tf_efficientnet_lite0", num_classes=4), 64),
}


def sharp_on(name: str) -> SegmentationNet:
    torch.manual_seed(3)
    build, window = BACKBONES[name]
    return sharp(convolutionalize(build(), window), label_space=SPACE, preparation=Preparation())


@given(
    factor=st.sampled_from([2, 4]),
    lag_y=st.integers(0, 6),
    lag_x=st.integers(0, 6),
    cells=st.integers(1, 5),
    beyond=st.integers(0, 12),
)
def test_maps_are_brought_to_where_their_cells_lie(
    factor: int, lag_y: int, lag_x: int, cells: int, beyond: int
) -> None:
    """A map that holds the place of its own cells holds, brought to the finer grid, the place of the finer cells."""
    halves = Fraction(1, 2)
    lag = tuple(min(Fraction(part) * halves, Fraction(factor - 1)) for part in (lag_y, lag_x))
    if factor % 2 or any((part.denominator == 2) != (lag[0].denominator == 2) for part in lag):
        return
    size = (cells * factor + beyond, (cells + 1) * factor + beyond)
    rows = torch.arange(cells).double() * factor + float(lag[0])
    columns = torch.arange(cells + 1).double() * factor + float(lag[1])
    maps = torch.stack([rows[:, None].expand(cells, cells + 1), columns[None].expand(cells, cells + 1)])[None]
    brought = bring(maps, factor=factor, lag=(lag[0], lag[1]), size=size)
    for axis, places in enumerate((rows, columns)):
        fine = torch.arange(size[axis]).double().clamp(float(places[0]), float(places[-1]))
        expected = fine[:, None].expand(size) if axis == 0 else fine[None].expand(size)
        assert torch.allclose(brought[0, axis], expected), (lag, factor)


@pytest.mark.parametrize("lag", [Fraction(0), Fraction(1, 2), Fraction(1)])
def test_constant_maps_stay_constant(lag: Fraction) -> None:
    assert torch.allclose(
        bring(torch.full((1, 1, 3, 4), 2.5), factor=2, lag=(lag, lag), size=(6, 8)), torch.tensor(2.5)
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_both_heads_stand_on_every_backbone(name: str) -> None:
    """Any size in, the same size out; at the first step the sharp head is a plain sum."""
    torch.manual_seed(3)
    build, window = BACKBONES[name]
    converted = convolutionalize(build(), window)
    for head in (sharp, fcn8s):
        net = head(converted, label_space=SPACE, preparation=Preparation()).eval()
        with torch.no_grad():
            for size in [(1, 1), (37, 70)]:
                assert net(torch.rand(1, 3, *size)).shape == (1, 3, *size), head.__name__


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "alexnet"])
def test_every_weight_of_the_sharp_head_learns(name: str) -> None:
    """After a first step has moved what starts at zero, a gradient reaches every weight."""
    net = sharp_on(name).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    photos, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    for _ in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(photos), labels).backward()
        optimiser.step()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_the_sharp_head_reads_the_last_block_and_not_what_widens_it() -> None:
    network = sharp_on("efficientnet_lite0").network
    assert isinstance(network, Sharp)
    assert [(tap.stride, tap.channels) for tap in network.head.taps] == [
        (2, 16),
        (4, 24),
        (8, 40),
        (16, 112),
        (32, 320),
    ]


def test_a_correction_at_stride_2_and_none_without_such_a_map() -> None:
    fine, coarse = sharp_on("efficientnet_lite0").network, sharp_on("alexnet").network
    assert isinstance(fine, Sharp)
    assert isinstance(coarse, Sharp)
    assert fine.head.first == 1
    assert coarse.head.first == 0
    assert coarse.head.taps[0].stride == 4


def test_in_training_each_photo_does_without_some_channels_of_a_tap_and_afterwards_none() -> None:
    head = sharp_on("resnet18").network.head
    head.dropout.p = 0.2
    seen: list[torch.Tensor] = []
    head.laterals[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    maps = [torch.ones(4, tap.channels, 64 // tap.stride, 64 // tap.stride) for tap in head.taps]
    for training in (True, False):
        head.train(training)(maps, (64, 64))
    in_training, afterwards = seen
    channels = in_training.amax((2, 3))
    assert torch.equal(channels, in_training.amin((2, 3))), "whole channels or none"
    assert 0.15 < float((channels == 0).float().mean()) < 0.25
    assert not torch.equal(channels[0], channels[1])
    assert torch.allclose(channels.mean(), torch.tensor(1.0), atol=0.1)
    assert torch.equal(afterwards, maps[-1])


@pytest.mark.parametrize(
    "name", ["alexnet", "resnet18", "mobilenet_v3_large", "efficientnet_lite0", "vgg16", "convnext_tiny"]
)
@pytest.mark.parametrize("size", [(64, 96), (65, 98), (33, 70)])
def test_cells_are_the_scores_of_their_pixels(name: str, size: tuple[int, int]) -> None:
    net = sharp_on(name).eval()
    nn.init.normal_(net.network.head.score.weight)
    net.offsets.fill_(0.5)
    photos = torch.randn(1, 3, *size)
    with torch.no_grad():
        cells, whole = net.cells(photos), net(photos) - 0.5
    own = cells.of(torch.arange(size[0] * size[1]).view(1, *size))  # the pixel that each cell says it is of
    assert own.shape[1:] == cells.scores.shape[2:]
    assert torch.allclose(cells.scores.flatten(2), whole.flatten(2)[:, :, own.flatten()], atol=1e-4)
    assert (cells.stride > 1) == (name not in ("vgg16", "convnext_tiny")), "there no cell's centre is a pixel"


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg16"])
def test_training_on_cells_moves_every_weight_that_training_on_pixels_moves(name: str) -> None:
    net = sharp_on(name).train()
    photos = torch.randn(2, 3, 64, 64)
    moved = []
    for scores in (net(photos), net.cells(photos).scores):
        net.zero_grad()
        scores.square().mean().backward()
        moved.append({n for n, p in net.named_parameters() if p.grad is not None and p.grad.any()})
    assert moved[0] == moved[1]
    assert moved[0]
