"""What each sample is worth: how much it raises or lowers recall, precision and IoU on val. Road: study, on small nets.

In: small samples of train and val. Out: an estimate for every sample and class, from the last layer of a few networks
trained on all of train (`refit`); and its check: trainings on halves of train, and how well the estimate foretold them.

Source: the check is the linear datamodeling score (Park et al. 2023, TRAK, section 2): over random halves, the rank
correlation between what a half's samples are worth in sum and what a network trained on that half reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fullconv.base.journal import append_journal, read_journal
from fullconv.base.progress import progress
from fullconv.base.seeds import rng
from fullconv.data.samples import Sample
from fullconv.measure.intervals import percentiles
from fullconv.measure.ratios import iou, ratio
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.sharp import Sharp
from fullconv.predict.photo import predict_photo
from fullconv.study.refit import Cells, Floats, effects, refit
from fullconv.study.small import pixels_by_guess, train_small

NETWORKS = 4  # whose last layers are asked
CELLS = 200  # of a sample, in random places
PAIRS, SEEDS = 12, 2  # halves with their complements; trainings of each
_DRAWS = 1000


@dataclass(frozen=True)
class Foretold:
    """A rank correlation over halves, averaged over classes, with its 95% interval."""

    mean: float
    low: float
    high: float


def sample_values(train: tuple[Sample, ...], val: tuple[Sample, ...], *, seed: int, networks: int = NETWORKS) -> Floats:
    """(networks, S, 3, K): what a sample of train adds to recall, precision and IoU of each class on val.

    By the last layer of each network.

    Raises: TrainingError.
    """
    found = []
    for number in progress(range(networks), what="what samples are worth"):
        net = train_small(train, seed=seed + number)
        of_train, of_val = cells_of(net, train, seed=seed), cells_of(net, val, seed=seed)
        found.append(effects(of_train, of_val, refit(of_train)))
    return np.stack(found)


def cells_of(net: SegmentationNet, samples: Sequence[Sample], *, seed: int, number: int = CELLS) -> Cells:
    """What the score layer of a network with the sharp head sees in random places of each sample."""
    assert isinstance(net.network, Sharp)
    head = net.network.head
    tap, classes = head.taps[head.first], net.label_space.size
    top, left = (int(part) for part in tap.offset)
    seen: list[torch.Tensor] = []
    handle = head.score.register_forward_pre_hook(lambda _, maps: seen.append(maps[0][0]))
    draw = rng(seed, "cells")
    features = np.ones((len(samples), number, head.score.in_channels + 1), np.float32)
    labels = np.full((len(samples), number), classes, np.int64)
    for place, sample in enumerate(samples):
        photo, truth = sample.read()
        predict_photo(net, photo)
        at_cells = truth[top :: tap.stride, left :: tap.stride]
        rows, columns = (draw.integers(0, length, number) for length in at_cells.shape)
        features[place, :, :-1] = seen.pop()[:, rows, columns].T.float().numpy()
        labels[place] = np.minimum(at_cells[rows, columns], classes)
    handle.remove()
    return Cells(features, labels, classes)


# ---- the check ------------------------------------------------------------------------------------------------------


def halves_of(samples: int, *, seed: int, pairs: int = PAIRS) -> NDArray[np.bool_]:
    """(2 pairs, S): which samples a half holds; the second of a pair holds those that the first does not."""
    draw = rng(seed, "halves")
    firsts = [np.isin(np.arange(samples), draw.permutation(samples)[: samples // 2]) for _ in range(pairs)]
    return np.array([half for first in firsts for half in (first, ~first)])


def retrained(
    train: Sequence[Sample], val: Sequence[Sample], halves: NDArray[np.bool_], journal: Path, *, seeds: int = SEEDS
) -> Floats:
    """(halves, seeds, 3, K): recall, precision and IoU on val of networks trained on the halves; NaN where undefined.

    Args:
        journal: what it holds is not trained again.
    Raises: TrainingError, DiskFull.
    """
    known = {(row["half"], row["seed"]): row["pixels"] for row in read_journal(journal)}
    todo = [(place, seed) for place in range(len(halves)) for seed in range(seeds) if (place, seed) not in known]
    for place, seed in progress(todo, what="training on halves"):
        part = tuple(sample for sample, held in zip(train, halves[place], strict=True) if held)
        known[place, seed] = pixels_by_guess(train_small(part, seed=1000 * place + seed), val).tolist()
        append_journal(journal, {"half": place, "seed": seed, "pixels": known[place, seed]})
    return measured(np.array([[known[place, seed] for seed in range(seeds)] for place in range(len(halves))]))


def measured(pixels: NDArray[np.int64]) -> Floats:
    """(..., 3, K) recall, precision and IoU of (..., K, K) pixels by class and by guess."""
    given, guessed, hits = pixels.sum(-1), pixels.sum(-2), np.diagonal(pixels, axis1=-2, axis2=-1)
    return np.stack([ratio(hits, given), ratio(hits, guessed), iou(given, guessed, hits)], -2)


def foretold(guess: Floats, found: Floats) -> Foretold:
    """How well (halves, K) guesses rank what the halves reached, (halves, K): Spearman's correlation, averaged over the
    classes that differ; its interval by drawing pairs of halves again. What is undefined counts as 0.
    """
    guess, found = np.nan_to_num(guess), np.nan_to_num(found)
    classes = [index for index in range(found.shape[1]) if np.ptp(found[:, index]) and np.ptp(guess[:, index])]
    if not classes:
        return Foretold(0.0, 0.0, 0.0)

    def mean(rows: NDArray[np.int64]) -> float:
        return float(np.nanmean([spearmanr(guess[rows, index], found[rows, index]).statistic for index in classes]))

    draw = rng(0, "foretold")
    pairs = np.arange(len(found)).reshape(-1, 2)
    draws = np.array([mean(pairs[draw.integers(0, len(pairs), len(pairs))].ravel()) for _ in range(_DRAWS)])
    low, high = percentiles(draws[:, None])[:, 0]
    return Foretold(mean(pairs.ravel()), float(low), float(high))
