"""Losses at every pixel. Road: train. In: scores and label maps. Out: one number."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LOVASZ_SHARE = 1.0  # of the Lovasz-softmax loss beside the softmax loss; docs/log.md
LOVASZ_PIXELS = 40_000  # drawn a step: in every pixel the loss would take a good part of it
ERROR_BINS = 1024  # errors in [0, 1] are ordered by counting; gradients are within 0.1% of those of a sort


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
    counts = torch.bincount(labels.flatten(), minlength=void + 1)[: scores.shape[1]]
    count = counts.sum() if weights is None else (counts * weights).sum()
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


def softmax_and_lovasz_loss(
    scores: Tensor, labels: Tensor, *, void: int, weights: Tensor | None, reduction: str
) -> Tensor:
    """Softmax loss, and LOVASZ_SHARE of the loss that stands for 1 - IoU: rare classes are found sooner, and of every
    class about as many pixels are called as there are.
    """
    every_pixel = softmax_loss(scores, labels, void=void, weights=weights, reduction=reduction)
    known = (labels != void).flatten().nonzero()[:, 0]
    if len(known) == 0:
        return every_pixel
    pixels = len(known) if reduction == "sum" else 1
    if len(known) > LOVASZ_PIXELS:
        known = known[torch.randint(len(known), (LOVASZ_PIXELS,), device=known.device)]
    some = scores.permute(0, 2, 3, 1).reshape(-1, scores.shape[1])[known].T.softmax(0)  # rows of pixels are quick
    return every_pixel + LOVASZ_SHARE * pixels * lovasz_softmax(some.T, labels.flatten()[known])


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean over the classes that occur of the Lovasz extension of 1 - IoU.

    Args:
        probabilities: (P, K), each row sums to 1.
        labels: (P,) int64, 0..K-1.
    Returns: 0 (all certain and right) to 1; where every probability is 0 or 1, the mean of 1 - IoU itself.
    Source: Berman, Triki, Blaschko 2018, equation 8 and algorithm 1; errors ordered by counting, see `_costs`.
    """
    inside = torch.arange(probabilities.shape[1], device=labels.device)[:, None] == labels  # (K, P)
    there = inside.any(1)
    inside = inside[there]
    errors = (inside.float() - probabilities.T[there]).abs()
    return (errors * _costs(errors.detach(), inside)).sum(1).mean()


def _costs(errors: Tensor, inside: Tensor) -> Tensor:
    """What each error takes from its class's IoU, the larger ones being wrong: the steps of the Lovasz extension.

    Sorting (K, P) errors took a tenth of a training step; here they are counted in ERROR_BINS. Inside a bin the pixels
    of the class are taken to come first and last, half each: so the steps of all errors still sum to 1 - IoU.

    Args:
        errors: (K, P) in [0, 1].
        inside: (K, P) bool, each row with at least one pixel of its class.
    Returns: (K, P).
    """
    classes = len(errors)
    # the largest errors first, and what is not a number
    rank = ((1 - errors) * ERROR_BINS).long().clamp_(0, ERROR_BINS - 1)
    place = (2 * torch.arange(classes, device=errors.device)[:, None] + inside) * ERROR_BINS + rank
    counts = torch.bincount(place.flatten(), minlength=2 * classes * ERROR_BINS).view(classes, 2, -1).float()
    outside, own = counts.cumsum(2).unbind(1)
    union = own[:, -1:] + outside  # were these and all larger errors wrong
    union_before = union - counts[:, 0]
    kept = own[:, -1:] - own + counts[:, 1] / 2
    steps = torch.stack([kept / (union_before * union), (1 / union_before + 1 / union) / 2], 1)
    return steps.flatten()[place]


LOSSES: dict[str, Callable[..., Tensor]] = {
    "softmax": softmax_loss,
    "focal": focal_loss,
    "softmax+lovasz": softmax_and_lovasz_loss,
}
