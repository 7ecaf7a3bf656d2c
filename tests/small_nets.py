"""Small backbones of known geometry, one of each kind, for the tests of heads, bundles and prediction."""

from __future__ import annotations

from functools import lru_cache

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from fullconv.labels.space import LabelSpace
from fullconv.nets.preparation import Preparation
from fullconv.nets.surgery import Converted, convolutionalize

SPACE = LabelSpace(
    names=("background", "cat", "dog"),
    colours=((0, 0, 0), (200, 30, 30), (30, 200, 30)),
    file_values=((0,), (1,), (2,)),
    background=0,
)
PREPARATION = Preparation("RGB", (120.0, 115.0, 105.0), (0.02, 0.02, 0.02))
WIDTH = 6


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Residual(nn.Module):
    """A block with a shortcut, as ResNet's."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(conv(inputs, outputs, 3, stride), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.short = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.short(x))


def pooled(body: list[nn.Module]) -> nn.Module:
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 4))


def residual() -> nn.Module:
    """Padding on both sides: every stride has its first cell on pixel 0."""
    blocks = [Residual(WIDTH, WIDTH, stride) for stride in (1, 2, 2, 2)]
    return pooled([conv(3, WIDTH, 7, 2), nn.MaxPool2d(3, 2, 1), *blocks])


def tf_same() -> nn.Module:
    """Padding as the size asks for: offsets 1, 3, 7, 15, 31 on even sizes, 0 on odd ones."""
    layers: list[nn.Module] = []
    for i, kernel in enumerate((3, 3, 5, 3, 5)):
        layers += [Conv2dSame(3 if i == 0 else WIDTH, WIDTH, kernel, 2, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU6()]
        layers += [Conv2dSame(WIDTH, WIDTH, 3, 1, groups=WIDTH), nn.ReLU6()]
    return pooled(layers)


def patches() -> nn.Module:
    """Patches of 4, then of 2, as ConvNeXt's: cells lie half a pixel between pixels."""
    steps = [nn.Conv2d(3, WIDTH, 4, 4)]
    for _ in range(3):
        steps += [nn.Conv2d(WIDTH, WIDTH, 7, padding=3, groups=WIDTH), nn.GELU(), nn.Conv2d(WIDTH, WIDTH, 2, 2)]
    return pooled([*steps, nn.GELU()])


def vgg(layers: tuple[int, ...] = (1, 1, 1, 1, 1)) -> nn.Module:
    """VGG's shape: 3x3 convolutions, 2x2 poolings, three fully connected layers on 7x7 cells."""
    steps: list[nn.Module] = []
    for stage, count in enumerate(layers):
        for i in range(count):
            steps += [nn.Conv2d(3 if stage == i == 0 else WIDTH, WIDTH, 3, padding=1), nn.ReLU()]
        steps.append(nn.MaxPool2d(2, 2))
    head = [
        nn.Linear(WIDTH * 49, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(8, 4),
    ]
    return nn.Sequential(*steps, nn.Flatten(), *head)


def alexnet() -> nn.Module:
    """AlexNet's shape: a first convolution of 11 with stride 4, poolings of 3 with stride 2 and no padding."""
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 11, 4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(WIDTH, WIDTH, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(), nn.Linear(WIDTH * 36, 8), nn.ReLU(), nn.Linear(8, 4),
    )  # fmt: skip


BACKBONES = {"residual": residual, "tf_same": tf_same, "patches": patches, "vgg": vgg, "alexnet": alexnet}


@lru_cache
def converted(kind: str) -> Converted:
    """A converted classifier of one kind, random weights from a seed; heads copy it, so that tests may share it."""
    torch.manual_seed(7)
    return convolutionalize(BACKBONES[kind]().eval(), 224)
