"""The micro-benchmark times whole training steps and counts what they keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.small_nets import PREPARATION, converted
from torch import nn

from fullconv.data.samples import SampleSet
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.sharp import sharp
from fullconv.train.benchmark import COMPARED_AT, measure_machine, one_step, rows_to_come
from fullconv.train.recipe import recipe

CROP = (32, 32)
PLAIN = replace(recipe("modern"), precision="fp32", channels_last=False, loss="softmax", batch=2)


class Branches(nn.Module):
    """As many convolutions of one map, whose scores are added."""

    def __init__(self, count: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 1)
        self.branches = nn.ModuleList(nn.Conv2d(64, classes, 1) for _ in range(count))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        maps = self.first(photos)
        return torch.stack([branch(maps) for branch in self.branches]).sum(0)


def test_a_map_that_several_layers_read_is_kept_once(scenes: SampleSet) -> None:
    def kept(count: int) -> int:
        network = Branches(count, scenes.label_space.size)
        net = SegmentationNet(network, label_space=scenes.label_space, preparation=Preparation())
        return one_step(net, PLAIN, CROP)[1]

    one_map = PLAIN.batch * 64 * CROP[0] * CROP[1] * 4
    assert one_map < kept(1)
    assert kept(4) - kept(1) < one_map / 2


@pytest.mark.parametrize(("quick", "tried"), [(True, {"fp32", "bf16"}), (False, {"fp32"})])
def test_bf16_is_tried_where_it_is_quick(
    quick: bool, tried: set[str], scenes: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.train.benchmark.quick_bfloat16", lambda device: quick)
    net = sharp(converted("tf_same"), label_space=scenes.label_space, preparation=PREPARATION)
    rows = list(measure_machine(net, crop=CROP, recipe=replace(PLAIN, batch=8)))
    assert len(rows) == rows_to_come(torch.device("cpu"))
    assert {row.precision for row in rows if row.batch == COMPARED_AT} == tried


def test_layers_that_will_not_learn_keep_nothing_while_the_machine_is_measured(scenes: SampleSet) -> None:
    backbone = converted("tf_same")
    kept = {}
    for frozen in (4, 0):
        net = sharp(backbone, label_space=scenes.label_space, preparation=PREPARATION)
        rows = list(measure_machine(net, crop=CROP, recipe=replace(PLAIN, frozen=frozen, batch=8)))
        kept[frozen] = [row.activation_bytes for row in rows]
    assert all(part < whole for part, whole in zip(kept[4], kept[0], strict=True))
