"""Small classifiers that score photos: without padding, with padding, with TF-SAME padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.small_nets import PREPARATION, tf_same
from torch import nn

from fullconv.base import seeds
from fullconv.dense.ways import DenseClassifier, dense_classifier
from fullconv.nets.classifiers import Classifier

WINDOW = 24


def unpadded(classes: int = 4) -> nn.Module:
    """Stride 8 by a convolution, a maximum and an average, nothing padded; fully connected over 2 x 2 cells."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(6, 6, 2), nn.ReLU(), nn.AvgPool2d(2, 2),
        nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, classes),
    ).eval()  # fmt: skip


def padded() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(6, 6, 3, 2, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    ).eval()  # fmt: skip


def dense(network: nn.Module, window: int = WINDOW, pooling: str = "window") -> DenseClassifier:
    classifier = Classifier(network, "test:small", (window, window), PREPARATION, None, "random weights")
    return dense_classifier(classifier, pooling=pooling)


@pytest.fixture
def plain() -> DenseClassifier:
    return dense(unpadded())


@pytest.fixture
def bordered() -> DenseClassifier:
    return dense(padded())


@pytest.fixture
def same() -> DenseClassifier:
    torch.manual_seed(5)
    return dense(tf_same().eval(), 64)


def photo(height: int = 61, width: int = 80) -> NDArray[np.uint8]:
    """Smooth and not symmetric, from a seed."""
    values = seeds.rng(0, "photo", height, width).integers(0, 256, (height, width, 3))
    ramp = np.linspace(0, 120, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    return (0.4 * values + ramp).astype(np.uint8)
