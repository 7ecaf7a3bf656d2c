"""The segmenter: what it carries, what it refuses, how it is made anew."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from fullconv.base.errors import BundleError, SizeMismatch
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.heads import fcn8s
from fullconv.nets.segmentation import HEADS, SegmentationNet, architecture_of, build_from
from fullconv.nets.surgery import convolutionalize
from small_nets import PREPARATION, SPACE, converted

BACKBONE = {"name": "timm:test_resnet", "classes": 5}


def named() -> SegmentationNet:
    classifier = build_classifier("timm:test_resnet", classes=5, weights="none")
    return fcn8s(
        convolutionalize(classifier.network, classifier.window),
        label_space=SPACE,
        preparation=PREPARATION,
        alignment="paper",
        deconvolution="frozen",
        at_once=True,
        backbone=BACKBONE,
    )


def test_a_net_carries_its_classes_preparation_and_description() -> None:
    net = named()
    assert net.label_space is SPACE
    assert net.preparation is PREPARATION
    assert net.architecture == {
        "head": "fcn8s",
        "backbone": BACKBONE,
        "window": [160, 160],
        "arguments": {"alignment": "paper", "deconvolution": "frozen", "at_once": True},
    }
    assert json.loads(json.dumps(net.architecture)) == net.architecture


def test_the_description_builds_the_same_net_anew() -> None:
    net = named()
    assert net.architecture is not None
    again = build_from(net.architecture, label_space=SPACE, preparation=PREPARATION)
    assert again.architecture == net.architecture
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in net.state_dict().items()}
    assert again.network.body.smallest == net.network.body.smallest
    assert all(p.is_meta for p in again.network.body.parameters())  # no memory is spent on weights that are replaced
    assert again.network.scales == net.network.scales
    assert again.network.axes == net.network.axes
    assert [n for n, p in again.named_parameters() if p.requires_grad] == [
        n for n, p in net.named_parameters() if p.requires_grad
    ]


def test_a_users_own_backbone_has_no_name_in_the_description() -> None:
    net = fcn8s(converted("residual"), label_space=SPACE, preparation=PREPARATION)
    assert net.architecture == architecture_of(
        "fcn8s", (224, 224), None, {"alignment": "same", "deconvolution": "learned", "at_once": False}
    )
    assert net.architecture["backbone"] is None


def test_an_unknown_head_is_named_with_those_there_are() -> None:
    with pytest.raises(BundleError, match="fcn2s") as caught:
        build_from(
            {"head": "fcn2s", "backbone": BACKBONE, "window": [160, 160], "arguments": {}},
            label_space=SPACE,
            preparation=PREPARATION,
        )
    assert all(head in caught.value.must for head in HEADS)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8)])
def test_another_shape_is_refused_with_the_remedy(shape: tuple[int, ...]) -> None:
    net = SegmentationNet(nn.Identity(), label_space=SPACE, preparation=PREPARATION)
    with pytest.raises(SizeMismatch, match=" x ".join(map(str, shape))) as caught:
        net(torch.zeros(shape))
    assert "prepare" in caught.value.try_


def test_without_a_body_every_parameter_is_fresh() -> None:
    net = SegmentationNet(nn.Conv2d(3, 3, 1), label_space=SPACE, preparation=PREPARATION)
    assert net.parameter_groups() == {"pretrained": [], "fresh": ["network.weight", "network.bias"]}
