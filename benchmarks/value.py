"""What is a sample worth? Retrain a small FCN on many halves of train, and see which estimate foretells the outcome.

python benchmarks/value.py RUNS [CASE ...]      e.g. voc-animals; none: all. Retrains into RUNS (resumable).

The network is that of the study (study/small.py): photos of at most 256 pixels, the sharp head trained on the maps of
EfficientNet-Lite0, which stays as it is.
Halves come in pairs, one the complement of the other, so that each sample is in half of them; every half is trained with
two seeds. What is foretold: recall, precision and IoU of each class on val. Figures are Spearman's correlation over the
halves between what an estimate adds up to over a half's samples (linear datamodeling score, Park et al. 2023) and what
the half scores, averaged over classes, with the 95% interval of a bootstrap over pairs of halves. The ceiling is the
correlation of one seed with the other; estimates are held against single seeds too (the mean of both correlations), so
that the two can be compared. Writes benchmarks/results/value.json.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanlab.segmentation.rank import get_label_quality_scores
from road import DATA
from rows import run as run_cases
from rows import small_trained
from scipy.special import softmax
from trak import TRAKer
from trak.projectors import NoOpProjector

import fullconv as fc
from fullconv.study.check import agreement, foretold, halves_of, retrained
from fullconv.study.refit import Cells, Floats
from fullconv.study.small import NETWORKS, Small, guess, shrink_samples, train_several, train_small
from fullconv.study.value import MEASURES, Seen, sample_values, seen_by_networks

CLASSES = {"voc-animals": ("background", "cat", "cow", "dog", "horse", "person", "sheep"), "camvid": ()}
PAIRS = 24
FOLDS = 3
TRAK_CELLS, TRAK_TARGETS = 50, 20  # of a sample: a score a pair is kept
RIDGES = (1e-6, 1e-3, 1.0)
Samples = tuple[Small, ...]
Networks = Sequence[Seen]


def worth(name: str, runs: Path) -> dict[str, Any]:
    given = fc.read_samples(DATA / name, classes=CLASSES[name] or None)
    train, val = (shrink_samples(split, runs / f"value-{name}") for split in (given.train, given.val))
    halves = halves_of(len(train), seed=0, pairs=PAIRS)
    outcomes = retrained(train, val, halves, runs / f"value-{name}" / f"outcomes-{small_trained()}.jsonl")
    seen = seen_by_networks(train_several(train, NETWORKS, runs / f"value-{name}" / f"heads-{small_trained()}", seed=0), train, val, seed=0)
    return {
        "set": name,
        "samples": len(train),
        "halves": len(halves),
        "mean_iou": round(float(np.nanmean(outcomes[:, :, 2])), 4),
        "ceiling": {what: asdict(foretold(outcomes[:, 0, at], outcomes[:, 1, at])) for at, what in enumerate(MEASURES)},
        "estimates": {estimate: judged(of(train, val, seen), halves, outcomes) for estimate, of in ESTIMATES.items()},
    }


def judged(values: Floats, halves: Any, outcomes: Floats) -> dict[str, Any]:
    """Of (S, 3, K) values, for each measure."""
    return {what: asdict(agreement(values[:, at], halves, outcomes[:, :, at])) for at, what in enumerate(MEASURES)}


def _random(train: Samples, val: Samples, seen: Networks) -> Floats:
    return np.random.default_rng(1).normal(size=(len(train), len(MEASURES), train[0].label_space.size))


def _pixels(train: Samples, val: Samples, seen: Networks) -> Floats:
    """A sample is worth to a class the pixels that it has of it."""
    space = train[0].label_space
    pixels = [np.bincount(sample.labels().ravel(), minlength=space.void + 1)[: space.size] for sample in train]
    return np.repeat(np.array(pixels, np.float64)[:, None], len(MEASURES), 1)


def _loss(train: Samples, val: Samples, seen: Networks) -> Floats:
    """The higher its loss, the less a sample is worth, to all classes alike."""
    losses = []
    for one in seen:
        features, truth, sample = one.train.counted()
        of_given = (softmax(features @ one.weights, axis=1) * truth).sum(1)
        losses.append(np.bincount(sample, -np.log(of_given), len(train)) / np.maximum(np.bincount(sample, minlength=len(train)), 1))
    return _alike(-np.mean(losses, 0), train)


def _cleanlab(train: Samples, val: Samples, seen: Networks) -> Floats:
    """The better cleanlab's segmentation module finds a sample's labels, by networks that have not seen it, the more it is worth."""
    fold_of = np.random.default_rng(0).permutation(len(train)) % FOLDS
    scores = np.zeros(len(train))
    for fold in range(FOLDS):
        head = train_small(tuple(one for one, of in zip(train, fold_of, strict=True) if of != fold), seed=100 + fold)
        for place in np.flatnonzero(fold_of == fold):
            labels, probabilities = train[place].labels(), softmax(guess(head, train[place]).numpy(), axis=0)
            filled = np.where(labels < len(probabilities), labels, probabilities.argmax(0)).astype(np.int64)
            scores[place] = get_label_quality_scores(filled[None], probabilities[None], verbose=False)[0][0]
    return _alike(scores, train)


def _alike(values: Any, train: Samples) -> Floats:
    return np.broadcast_to(values[:, None, None], (len(train), len(MEASURES), train[0].label_space.size))


def _trak(ridge: float, train: Samples, val: Samples, seen: Networks) -> Floats:
    """traker 0.3 on the last layer: cells are its examples; a sample's worth to a class is the sum over both's cells."""
    return np.mean([_trak_of(one.train, one.val, one.weights, ridge) for one in seen], 0)


def _trak_of(train: Cells, val: Cells, fitted: Floats, ridge: float) -> Floats:
    few = Cells(train.features[:, :TRAK_CELLS], train.labels[:, :TRAK_CELLS], train.weights)
    targets = Cells(val.features[:, :TRAK_TARGETS], val.labels[:, :TRAK_TARGETS], val.weights)
    layer = torch.nn.Linear(train.features.shape[2], train.classes, bias=False)
    weights = {"weight": torch.from_numpy(fitted.T.astype(np.float32).copy())}
    (features, truth, sample), (of_val, true_of_val, _) = few.counted(), targets.counted()
    with tempfile.TemporaryDirectory() as folder:
        how: dict[str, Any] = {"projector": NoOpProjector(device="cpu"), "use_half_precision": False, "lambda_reg": ridge, "logging_level": 40}
        traker = TRAKer(layer, "image_classification", len(features), save_dir=folder, device="cpu", proj_dim=None, **how)
        traker.load_checkpoint(weights, model_id=0)
        for batch in _batches(features, truth):
            traker.featurize(batch, num_samples=len(batch[0]))
        traker.finalize_features()
        traker.start_scoring_checkpoint("val", weights, model_id=0, num_targets=len(of_val))
        for batch in _batches(of_val, true_of_val):
            traker.score(batch, num_samples=len(batch[0]))
        scores = np.asarray(traker.finalize_scores("val"))  # (cells of train, cells of val)
    by_sample = np.zeros((len(train.labels), scores.shape[1]))
    np.add.at(by_sample, sample, scores)
    return np.repeat((by_sample @ true_of_val)[:, None], len(MEASURES), 1)


def _batches(features: Floats, truth: Floats) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for first in range(0, len(features), 1000):
        part = slice(first, first + 1000)
        yield torch.from_numpy(features[part].astype(np.float32)), torch.from_numpy(truth[part].argmax(1))


def _last_layer(train: Samples, val: Samples, seen: Networks) -> Floats:
    return sample_values(seen).mean(0)


ESTIMATES: dict[str, Callable[[Samples, Samples, Networks], Floats]] = {
    "random": _random,
    "pixels of the class": _pixels,
    "loss": _loss,
    "cleanlab": _cleanlab,
    **{f"TRAK, last layer, ridge {ridge:g}": partial(_trak, ridge) for ridge in RIDGES},
    "fullconv": _last_layer,
}


if __name__ == "__main__":
    run_cases("value", {name: partial(worth, name, Path(sys.argv[1])) for name in CLASSES}, sys.argv[2:])
