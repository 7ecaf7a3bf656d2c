"""A constant for each class's score, so that the classes called give the best mean IoU. Road: train, after a stage's
last step. In: a network and the samples it learned from. Out: the constants, in the network.

A network that gives true probabilities does not give the best mean IoU by calling the likeliest class: a pixel that is
a pole by one chance in three should be called one. Source: Nowozin 2014 (the IoU case); Koyejo et al. 2014 (a threshold
a class is enough).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fullconv.base import seeds
from fullconv.data.samples import Sample
from fullconv.nets.prediction import predict_photo
from fullconv.nets.segmentation import SegmentationNet

PHOTOS = 40  # of train, evenly over the list
PIXELS = 10_000  # of each
LARGEST = 2.0  # what a class may gain or lose in all: a factor of 7 on its chances
GRID = torch.linspace(-LARGEST, LARGEST, 33)
SWEEPS = 2
TAKEN = 0.5  # share of what fits best: the network knows the photos that it is fitted on better than others
WORTH = 1e-5  # gain in mean IoU below which a class stays where it is


def fit_offsets(net: SegmentationNet, samples: Sequence[Sample], *, seed: int = 0) -> Tensor:
    """Set `net.offsets` to TAKEN of the constants that give the best mean IoU on pixels of some of `samples`.

    Args:
        net: the segmenter; its scores in evaluation mode change by the constants.
        samples: what it learned from; never those that it is measured on.
        seed: draws the pixels.
    Returns: (K,) float32, what is added to each class's score, at most TAKEN * LARGEST either way.
    """
    net.offsets.zero_()
    step = max(1, -(-len(samples) // PHOTOS))
    drawn = [_drawn(net, sample, seed) for sample in samples[::step]]
    scores, labels = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    net.offsets.copy_(TAKEN * best_offsets(scores, labels))
    return net.offsets.cpu().clone()


def _drawn(net: SegmentationNet, sample: Sample, seed: int) -> tuple[Tensor, Tensor]:
    """(P, K) scores and (P,) labels of pixels that are not void."""
    photo, labels = sample.read()
    known = np.flatnonzero(labels != sample.label_space.void)
    if len(known) > PIXELS:
        known = seeds.rng(seed, "offsets", sample.name).choice(known, PIXELS, replace=False)
    scores = predict_photo(net, photo).scores
    return torch.from_numpy(scores.reshape(len(scores), -1)[:, known].T.copy()), torch.from_numpy(
        labels.ravel()[known].astype(np.int64)
    )


def best_offsets(scores: Tensor, labels: Tensor) -> Tensor:
    """(K,) constants by searching one class after another, each over all of GRID at once.

    Args:
        scores: (P, K) float.
        labels: (P,) int64, 0..K-1; classes that do not occur keep 0.
    """
    offsets = torch.zeros(scores.shape[1])
    for _ in range(SWEEPS):
        for k in torch.bincount(labels, minlength=len(offsets)).nonzero()[:, 0].tolist():
            candidates = mean_ious(scores + offsets, labels, k)
            stays = int(len(GRID) // 2)
            allowed = (offsets[k] + GRID).abs() <= LARGEST
            best = int(torch.where(allowed, candidates, -1).argmax())
            if candidates[best] > candidates[stays] + WORTH:
                offsets[k] += GRID[best]
    return offsets


def mean_ious(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """(len(GRID),) mean IoU over the classes that occur, if a value of GRID were added to the scores of class `k`."""
    classes, count = scores.shape[1], len(GRID)
    others = scores.index_fill(1, torch.tensor([k]), -torch.inf)
    best, other = others.max(1)
    taken = torch.searchsorted(
        GRID, best - scores[:, k], right=True
    )  # the first value from which the pixel is called k
    right = labels == other
    lost, lost_right = (
        torch.bincount(taken[some] * classes + other[some], minlength=(count + 1) * classes)
        .view(count + 1, classes)[:count]
        .cumsum(0)
        for some in (slice(None), right)
    )
    guess = torch.bincount(other, minlength=classes) - lost
    hit = torch.bincount(other[right], minlength=classes) - lost_right
    guess[:, k] = torch.bincount(taken, minlength=count + 1)[:count].cumsum(0)
    hit[:, k] = torch.bincount(taken[labels == k], minlength=count + 1)[:count].cumsum(0)
    truth = torch.bincount(labels, minlength=classes)
    there = truth > 0
    return (hit / (truth + guess - hit).clamp(min=1))[:, there].mean(1)
