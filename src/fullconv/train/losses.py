"""Losses at every pixel. Road: train. In: scores and label maps. Out: one number."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_loss(scores: Tensor, labels: Tensor, *, void: int, weights: Tensor | None, reduction: str) -> Tensor:
    """Softmax loss at every pixel that is not void.

    Args:
        scores: (N, K, H, W) float.
        labels: (N, H, W) int64, 0..K-1 or `void`.
        void: pixels of this id count nothing.
        weights: (K,) or None; a pixel counts as much as its class's weight.
        reduction: "sum", or "mean" over the weights of the pixels that are not void (0 where all are void).
    Source: Long et al. 2015, 3.1 and 4.3.
    """
    total = F.cross_entropy(scores, labels, weight=weights, ignore_index=void, reduction="sum")
    if reduction == "sum":
        return total
    known = labels != void
    count = weights[labels[known]].sum() if weights is not None else known.sum()
    return total / count.clamp(min=1e-6)


def focal_loss(scores: Tensor, labels: Tensor, *, void: int, weights: Tensor | None, reduction: str) -> Tensor:
    """Softmax loss with pixels that are already right counted less, by (1 - p)^2. Source: Lin et al. 2017, equation
    4.
    """
    per_pixel = F.cross_entropy(scores, labels, ignore_index=void, reduction="none")
    known = labels != void
    focus = (1 - torch.exp(-per_pixel.detach())) ** 2
    if weights is not None:
        focus = focus * weights[labels.where(known, 0)]
    total = (per_pixel * focus)[known].sum()
    return total if reduction == "sum" else total / known.sum().clamp(min=1)


LOSSES: dict[str, Callable[..., Tensor]] = {"softmax": softmax_loss, "focal": focal_loss}
