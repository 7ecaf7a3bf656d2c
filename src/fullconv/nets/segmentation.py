"""The segmenter: a network with its label space, its preparation and how it was built. Road: nets, between the heads
and everything that trains, measures or uses one.

In: a network of scores. Out: `SegmentationNet`. Knows no data, no files.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fullconv.base.errors import BundleError, SizeMismatch

if TYPE_CHECKING:
    from fullconv.labels.space import LabelSpace
    from fullconv.nets.preparation import Preparation

# Builder -> the module that defines a function of that name. Names and not functions: heads import this module.
HEADS = {
    "fcn32s": "fullconv.nets.heads",
    "fcn16s": "fullconv.nets.heads",
    "fcn8s": "fullconv.nets.heads",
    "fcn4s": "fullconv.nets.heads",
    "sharp": "fullconv.nets.sharp",
}


@dataclass(frozen=True)
class Cells:
    """Scores of some of the pixels: cell (i, j) is that of pixel (offset[0] + stride * i, offset[1] + stride * j).

    scores: (N, K, h, w).
    """

    scores: Tensor
    stride: int
    offset: tuple[int, int]

    def of(self, labels: Tensor) -> Tensor:
        """(N, h, w) of the (N, H, W) label maps: what the cells are to say."""
        rows, columns = self.scores.shape[2:]
        return labels[:, self.offset[0] :: self.stride, self.offset[1] :: self.stride][:, :rows, :columns]


class SegmentationNet(nn.Module):
    """Full-size scores for photos of any size.

    Args:
        network: (N, 3, H, W) prepared photos -> (N, K, H, W) scores for every H, W >= 1. Its part named `body`, if it
            has one, is what came from the classifier.
        label_space: the K classes.
        preparation: what turns a photo of 8 bits into the network's input.
        architecture: what `build_from` makes the network anew from (see `architecture_of`); None for a network that
            no builder of ours knows.

    `offsets`, (K,), is added to the scores in evaluation mode: zero until train.offsets fits it.
    """

    offsets: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        label_space: LabelSpace,
        preparation: Preparation,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.label_space = label_space
        self.preparation = preparation
        self.architecture = None if architecture is None else dict(architecture)
        self.register_buffer("offsets", torch.zeros(label_space.size))

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) float prepared photos -> (N, K, H, W) scores. Raises: SizeMismatch for another shape."""
        if photos.ndim != 4 or photos.shape[1] != 3 or min(photos.shape[2:]) < 1:
            raise SizeMismatch(
                "a network takes a batch of prepared photos: N x 3 x H x W, with H and W at least 1",
                f"a tensor of shape {' x '.join(map(str, photos.shape))}",
                "prepare the photo first: net.preparation.prepare(photo)[None]",
            )
        scores: Tensor = self.network(photos)
        return scores if self.training else scores + self.offsets[:, None, None]

    def cells(self, photos: Tensor) -> Cells:
        """As `forward`, but only as fine as the network works: what it brings to full size without learning is left
        out. Training on these is training on every pixel whose score is not a mean of its neighbours', at less cost.
        """
        made = self.network.cells(photos) if hasattr(self.network, "cells") else None  # type: ignore[operator]
        return Cells(self.network(photos), 1, (0, 0)) if made is None else made

    def parameter_groups(self) -> dict[str, list[str]]:
        """Names of the parameters that came from the classifier ("pretrained") and of the new ones ("fresh")."""
        groups: dict[str, list[str]] = {"pretrained": [], "fresh": []}
        for name, _ in self.named_parameters():
            groups["pretrained" if name.startswith("network.body.") else "fresh"].append(name)
        return groups


def architecture_of(
    head: str, window: Sequence[int], backbone: Mapping[str, Any] | None, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What a head writes down of itself.

    Args:
        head: a name in HEADS.
        window: (height, width) of the classifier's window.
        backbone: {"name": "embedded:efficientnet_lite0", "classes": 7 or None, "norms": "folded"}; None for a user's
            own classifier.
        arguments: the builder's keyword arguments that are not the label space or the preparation; JSON values.
    """
    named = None if backbone is None else dict(backbone)
    return {"head": head, "backbone": named, "window": list(window), "arguments": dict(arguments)}


def without_memory(network: nn.Module) -> nn.Module:
    """Move what a state dict holds to the meta device, in place; what it does not hold could not be given back."""
    if not any(module._non_persistent_buffers_set for module in network.modules()):
        network.to("meta")
    return network


def build_from(
    architecture: Mapping[str, Any], *, label_space: LabelSpace, preparation: Preparation
) -> SegmentationNet:
    """Build a network from its description, for weights that are assigned to it (`load_state_dict(assign=True)`).

    Its backbone has no memory until then. Raises: BundleError for a head that is not known.
    """
    from fullconv.nets.classifiers import build_classifier
    from fullconv.nets.surgery import rewritten

    head = architecture["head"]
    if head not in HEADS:
        raise BundleError(
            f"a network's head is one of {', '.join(HEADS)}",
            f"the description names {head!r}",
            "use the version of fullconv that wrote it (card.json, versions), or a newer one",
        )
    backbone = architecture["backbone"]
    classifier = build_classifier(backbone["name"], classes=backbone["classes"], weights="none")
    norms = backbone.get("norms", "kept")
    converted = rewritten(without_memory(classifier.network), tuple(architecture["window"]), norms=norms)
    builder = getattr(importlib.import_module(HEADS[head]), head)
    net: SegmentationNet = builder(
        converted,
        label_space=label_space,
        preparation=preparation,
        backbone=backbone,
        **architecture["arguments"],
    )
    return net
