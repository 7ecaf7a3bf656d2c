"""A network and samples small enough to train in a test."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fullconv.data.read import read_samples
from fullconv.data.samples import SampleSet
from fullconv.data.scenes import write_scenes
from fullconv.labels.space import LabelSpace
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import SegmentationNet


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    folder = write_scenes(tmp_path_factory.mktemp("scenes"), train=6, val=2, seed=3, size=(48, 64))
    return read_samples(folder)


def tiny_net(space: LabelSpace, *, seed: int = 0) -> SegmentationNet:
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
    network = nn.Sequential()
    network.add_module("body", body)
    network.add_module("score", nn.Conv2d(8, space.size, 1))
    return SegmentationNet(network, label_space=space, preparation=Preparation())
