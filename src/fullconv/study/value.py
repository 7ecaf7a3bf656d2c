"""What each sample is worth: how much it raises or lowers recall, precision and IoU on val. Road: study, on small nets.

In: small samples of train and val. Out: an estimate for every sample and class, from the last layer of a few networks
trained on all of train (`refit`); what to do with each sample; how well trainings on halves of train bear that out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from fullconv.base.files import content_hash
from fullconv.base.progress import progress
from fullconv.base.seeds import rng
from fullconv.measure.ratios import mean
from fullconv.nets.sharp import SharpHead
from fullconv.study.check import PAIRS, Foretold, agreement, foretold, halves_of, retrained
from fullconv.study.refit import Cells, Floats, effects, measures, refit
from fullconv.study.small import Small, cells_seen, class_weights, labels_at_cells, outcomes_of

MEASURES = ("recall", "precision", "iou")
CELLS, VAL_CELLS = 600, 3000  # of a sample, in random places
ALL_CELLS = 400_000  # of all samples together, or memory grows with their number
GAIN_TRAININGS = 3  # of train as it is, and as many of train without what the advice names
BORNE_OUT = (
    0.5  # of what is foretold of precision, beside recall, trainings on halves bear out (docs/log.md, fifth part)
)
_DEVIATIONS = 3.0  # of the mean over networks, by which a sample must do harm to be dropped


@dataclass(frozen=True)
class Seen:
    """What a network's last layer sees of train and of val, and the weights that fit train best."""

    train: Cells
    val: Cells
    weights: Floats

    def of_val(self, samples: NDArray[np.bool_]) -> Seen:
        """The same of some samples of val: (S,) whether to keep each."""
        return replace(self, val=self.val.of(samples))


def seen_by_networks(
    heads: Sequence[SharpHead], train: Sequence[Small], val: Sequence[Small], *, seed: int
) -> list[Seen]:
    """What the last layers of some networks, trained on all of train, see."""
    seen = []
    for head in progress(heads, what="what samples are worth", total=len(heads)):
        of_train = cells_of(head, train, seed=seed)
        seen.append(Seen(of_train, cells_of(head, val, seed=seed, most=VAL_CELLS), refit(of_train)))
    return seen


def sample_values(seen: Sequence[Seen]) -> Floats:
    """(networks, S, 3, K): what a sample of train adds to recall, precision and IoU of each class on val.

    Recall to first order, precision at half of that, as trainings on halves bear out; the IoU by both.
    """
    return np.stack([_values(one) for one in seen])


def _values(one: Seen) -> Floats:
    """(S, 3, K), see `sample_values`. The IoU is 1 / (1/R + 1/P - 1)."""
    recall, precision = np.maximum(measures(one.val, one.weights), 1e-9)
    of_recall, of_precision = effects(one.train, one.val, one.weights).transpose(1, 0, 2)
    of_precision = BORNE_OUT * of_precision
    iou = 1 / (1 / recall + 1 / precision - 1)
    return np.stack(
        [of_recall, of_precision, (iou / recall) ** 2 * of_recall + (iou / precision) ** 2 * of_precision], 1
    )


def cells_of(head: SharpHead, samples: Sequence[Small], *, seed: int, most: int = CELLS) -> Cells:
    """What the score layer of a head sees in random cells of each sample, at most so many."""
    classes = head.score.out_channels
    number = min(most, max(1, ALL_CELLS // len(samples)))
    draw = rng(seed, "cells")
    features = np.ones((len(samples), number, head.score.in_channels + 1), np.float32)
    labels = np.full((len(samples), number), classes, np.int64)
    for place, sample in enumerate(samples):
        at_cells, (read, _) = labels_at_cells(head, sample).ravel(), cells_seen(head, sample)
        cells = draw.permutation(at_cells.size)[:number]
        features[place, : len(cells), :-1] = read.flatten(1)[:, cells].T.numpy()
        labels[place, : len(cells)] = np.minimum(at_cells[cells], classes)
    return Cells(features, labels, class_weights(samples))


# ---- what to do -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Advice:
    """Samples of train to look at, by name; what is not named is to be kept.

    Args:
        fix: their label maps are likely wrong: draw them anew.
        drop: they lower the mean IoU on val, as all networks say, and nothing in them is likely wrong.
    """

    fix: tuple[str, ...]
    drop: tuple[str, ...]


@dataclass(frozen=True)
class Worth:
    """What the samples of train are worth, and how sure that is.

    Args:
        names: of the S samples.
        values: (networks, S, 3, K), see `sample_values`.
        agreement: measure -> how well the values foretell trainings on halves of train.
        ceiling: measure -> how well one training of a half foretells another of the same half.
        trainings: on halves.
        advice: by the values for one half of val.
        gain: mean IoU on the other half of val of networks trained without what the advice names, less that of networks
            trained on all: mean and 95% interval over trainings; None where it names nothing.
    """

    names: tuple[str, ...]
    values: Floats
    agreement: dict[str, Foretold]
    ceiling: dict[str, Foretold]
    trainings: int
    advice: Advice
    gain: tuple[float, float, float] | None


def worth_of(
    heads: Sequence[SharpHead],
    train: Sequence[Small],
    val: Sequence[Small],
    doubtful: Sequence[str],
    folder: Path,
    *,
    seed: int,
    pairs: int = PAIRS,
) -> Worth:
    """Estimate what small samples of train are worth, check the estimate, and try what follows from it.

    Args:
        heads: some, trained on all of train.
        doubtful: names of samples whose label maps are likely wrong.
        folder: keeps the trainings.
        pairs: of halves, for the check.
    Raises: TrainingError, DiskFull.
    """
    seen = seen_by_networks(heads, train, val, seed=seed)
    values = sample_values(seen)
    halves = halves_of(len(train), seed=seed, pairs=pairs)
    outcomes = retrained(train, val, halves, folder / "halves.jsonl")
    asked = np.arange(len(val)) % 2 == 0
    names = tuple(sample.name for sample in train)
    advice = advise(names, sample_values([one.of_val(asked) for one in seen]), doubtful)
    return Worth(
        names,
        values,
        {what: agreement(values.mean(0)[:, at], halves, outcomes[:, :, at]) for at, what in enumerate(MEASURES)},
        {what: foretold(outcomes[:, 0, at], outcomes[:, 1, at]) for at, what in enumerate(MEASURES)},
        outcomes.shape[0] * outcomes.shape[1],
        advice,
        _gain(train, val[1::2], {*advice.fix, *advice.drop}, folder, seed=seed),
    )


def advise(names: Sequence[str], values: Floats, doubtful: Sequence[str]) -> Advice:
    """What to do with each sample of train.

    Args:
        names: of the S samples.
        values: (networks, S, 3, K), see `sample_values`.
        doubtful: samples whose label maps are likely wrong; those of other names are not of train.
    """
    known = set(names)
    fix = tuple(name for name in doubtful if name in known)
    on_mean_iou = values[:, :, 2].mean(-1)
    highest = on_mean_iou.mean(0) + _DEVIATIONS * on_mean_iou.std(0, ddof=1) / np.sqrt(len(on_mean_iou))
    drop = [name for name, most in zip(names, highest, strict=True) if most < 0 and name not in fix]
    return Advice(fix, tuple(drop))


def _gain(
    train: Sequence[Small], val: Sequence[Small], without: set[str], folder: Path, *, seed: int
) -> tuple[float, float, float] | None:
    if not without:
        return None
    kept = tuple(sample for sample in train if sample.name not in without)
    all_of, rest = (
        mean(
            outcomes_of(
                [(np.arange(len(part)), seed + 100 + number) for number in range(GAIN_TRAININGS)],
                part,
                val,
                folder / f"gain-{content_hash([one.name for one in part])[:12]}.jsonl",
            )[:, -1]
        )
        for part in (train, kept)
    )
    found = ttest_ind(rest, all_of)
    low, high = found.confidence_interval()
    return float(np.mean(rest) - np.mean(all_of)), float(low), float(high)
