"""What is a sample worth? Retrain a small FCN on many halves of train, and see which estimate foretells the outcome.

python benchmarks/value.py RUNS [CASE ...]      e.g. voc-animals; none: all. Retrains into RUNS (resumable).

The photos are shrunk to 256 pixels on the longer side; the network is the sharp head on EfficientNet-Lite0 with ImageNet
weights, 80 steps of 8 crops of 160x160 by the recipe `modern`. Halves come in pairs, one the complement of the other, so
that each sample is in half of them; every half is trained with two seeds. What is foretold: recall, precision and IoU of
each class on val. Figures are Spearman's correlation over the halves between what an estimate adds up to over a half's
samples (linear datamodeling score, Park et al. 2023) and what the half scores, the mean of its two seeds; averaged over
classes that val has, with the 95% interval of a bootstrap over pairs of halves. The ceiling is that of one seed with the
other: less than 1, for the same half does not score the same twice. Writes benchmarks/results/value.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from road import DATA
from rows import run as run_cases
from scipy.stats import spearmanr

import fullconv as fc
from fullconv.base.files import write_text
from fullconv.base.journal import append_journal, read_journal
from fullconv.data.samples import Sample, SampleSet
from fullconv.labels.maps import nearest, write_index_png
from fullconv.measure.confusion import confusion
from fullconv.measure.ratios import iou, ratio
from fullconv.nets.segmentation import SegmentationNet
from fullconv.predict.photo import predict_photo
from fullconv.study.refit import Cells, effects, refit
from fullconv.train.precision import quick_bfloat16

CLASSES = {"voc-animals": ("background", "cat", "cow", "dog", "horse", "person", "sheep"), "camvid": ()}
LONGEST, CROP, STEPS, BATCH = 256, 160, 80, 8
PAIRS, SEEDS = 24, 2
CELLS = 200  # of a sample, in random places
DRAWS = 1000
Floats = NDArray[np.float64]


def worth(name: str, runs: Path) -> dict[str, Any]:
    samples = shrunk(name, runs / f"value-{name}")
    halves = halves_of(len(samples.train))
    began = time.perf_counter()
    counts = retrained(samples, halves, runs / f"value-{name}" / "outcomes.jsonl")
    outcomes = {what: measure(counts) for what, measure in MEASURES.items()}  # (halves, seeds, K) each
    estimates = {estimate: of(samples) for estimate, of in ESTIMATES.items()}  # (samples, measures, K) each
    return {
        "set": name,
        "samples": len(samples.train),
        "halves": len(halves),
        "seconds": round(time.perf_counter() - began, 1),
        "mean_iou": round(float(np.nanmean(outcomes["iou"])), 4),
        "ceiling": {what: foretold(found[:, 0], found[:, 1]) for what, found in outcomes.items()},
        "estimates": {
            estimate: {what: foretold(halves @ values[:, place], found.mean(1)) for place, (what, found) in enumerate(outcomes.items())}
            for estimate, values in estimates.items()
        },
    }


def shrunk(name: str, folder: Path) -> SampleSet:
    """The samples with photos of at most `LONGEST` pixels, written once."""
    if not (folder / "data" / "classes.txt").exists():
        given = fc.read_samples(DATA / name, classes=CLASSES[name] or None)
        for split in ("train", "val"):
            for sample in given.split(split):
                photo, labels = sample.read()
                factor = LONGEST / max(labels.shape)
                size = (round(labels.shape[0] * factor), round(labels.shape[1] * factor))
                path = folder / "data" / "images" / split / f"{sample.name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(photo).resize(size[::-1], Image.Resampling.BOX).save(path)
                write_index_png(folder / "data" / "masks" / split / path.name, nearest(labels, size), given.label_space)
        write_text(folder / "data" / "classes.txt", "".join(f"{one}\n" for one in given.label_space.names))
    return fc.read_samples(folder / "data")


def halves_of(number: int) -> NDArray[np.bool_]:
    """(2 * PAIRS, N): which samples a half holds; the second of a pair holds those that the first does not."""
    rng = np.random.default_rng(0)
    firsts = [np.isin(np.arange(number), rng.permutation(number)[: number // 2]) for _ in range(PAIRS)]
    return np.array([half for first in firsts for half in (first, ~first)])


def retrained(samples: SampleSet, halves: NDArray[np.bool_], journal: Path) -> NDArray[np.int64]:
    """(halves, seeds, K, K) pixels of val by class and by guess; what the journal holds is not trained again."""
    known = {(row["half"], row["seed"]): row["counts"] for row in read_journal(journal)}
    for place, half in enumerate(halves):
        for seed in range(SEEDS):
            if (place, seed) not in known:
                part = tuple(sample for sample, held in zip(samples.train, half, strict=True) if held)
                known[place, seed] = outcome(samples, part, 1000 * place + seed).tolist()
                append_journal(journal, {"half": place, "seed": seed, "counts": known[place, seed]})
    return np.array([[known[place, seed] for seed in range(SEEDS)] for place in range(len(halves))])


def outcome(samples: SampleSet, part: tuple[Sample, ...], seed: int) -> NDArray[np.int64]:
    """Train on a part of train; (K, K) pixels of val."""
    net = trained(samples, part, seed)
    counts = np.zeros((samples.label_space.size,) * 2, np.int64)
    for sample in samples.val:
        photo, truth = sample.read()
        counts += confusion(truth, predict_photo(net, photo).labels, samples.label_space)
    return counts


def trained(samples: SampleSet, part: tuple[Sample, ...], seed: int) -> SegmentationNet:
    """The small FCN, trained on a part of train."""
    classifier = fc.build_classifier("embedded:efficientnet_lite0", classes=None, weights="embedded", seed=seed)
    converted = fc.convolutionalize(classifier.network, classifier.window, norms="folded")
    torch.manual_seed(seed)  # the fresh layers
    net = fc.sharp(converted, label_space=samples.label_space, preparation=classifier.preparation)
    precision = "bf16" if quick_bfloat16(torch.device("cpu")) else "fp32"
    how = replace(fc.recipe("modern"), steps=STEPS, batch=BATCH, crop=(CROP, CROP), precision=precision, channels_last=True)
    for _ in fc.training_steps(net, part, recipe=how, seed=seed):
        pass
    return net


def _recall(counts: NDArray[np.int64]) -> Floats:
    return ratio(_hits(counts), counts.sum(-1))


def _precision(counts: NDArray[np.int64]) -> Floats:
    return ratio(_hits(counts), counts.sum(-2))


def _iou(counts: NDArray[np.int64]) -> Floats:
    return iou(counts.sum(-1), counts.sum(-2), _hits(counts))


def _hits(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diagonal(counts, axis1=-2, axis2=-1)


MEASURES: dict[str, Callable[[NDArray[np.int64]], Floats]] = {"recall": _recall, "precision": _precision, "iou": _iou}


def foretold(guess: Floats, found: Floats) -> dict[str, Any]:
    """Spearman's correlation over halves, (halves, K) each, averaged over classes; NaN counts as 0."""
    guess, found = np.nan_to_num(guess), np.nan_to_num(found)
    classes = [index for index in range(found.shape[1]) if np.ptp(found[:, index]) and np.ptp(guess[:, index])]

    def mean(rows: NDArray[np.int64]) -> float:
        return float(np.nanmean([spearmanr(guess[rows, index], found[rows, index]).statistic for index in classes]))

    rng = np.random.default_rng(0)
    pairs = np.arange(len(found)).reshape(-1, 2)
    draws = [mean(pairs[rng.integers(0, len(pairs), len(pairs))].ravel()) for _ in range(DRAWS)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"mean": round(mean(pairs.ravel()), 3), "interval": [round(float(low), 3), round(float(high), 3)]}


def _pixels(samples: SampleSet) -> Floats:
    """A sample is worth to a class the pixels that it has of it."""
    pixels = np.array([samples.pixels[sample.name][:-1] for sample in samples.train], np.float64)
    return np.repeat(pixels[:, None], len(MEASURES), 1)


def _random(samples: SampleSet) -> Floats:
    return np.random.default_rng(1).normal(size=(len(samples.train), len(MEASURES), samples.label_space.size))


def _last_layer(samples: SampleSet) -> Floats:
    """By one Newton step of the last layer of a network that was trained on all of train."""
    net = trained(samples, samples.train, 0)
    train, val = cells_of(net, samples.train), cells_of(net, samples.val)
    return effects(train, val, refit(train))


def cells_of(net: SegmentationNet, samples: tuple[Sample, ...]) -> Cells:
    """What the last layer sees in `CELLS` random places of each sample."""
    head = net.network.head
    tap, classes = head.taps[head.first], net.label_space.size
    top, left = (int(part) for part in tap.offset)
    seen: list[torch.Tensor] = []
    handle = head.score.register_forward_pre_hook(lambda _, maps: seen.append(maps[0][0]))
    rng = np.random.default_rng(0)
    features = np.ones((len(samples), CELLS, head.score.in_channels + 1), np.float32)
    labels = np.full((len(samples), CELLS), classes, np.int64)
    for place, sample in enumerate(samples):
        photo, truth = sample.read()
        predict_photo(net, photo)
        at_cells = truth[top :: tap.stride, left :: tap.stride]
        rows, columns = (rng.integers(0, length, CELLS) for length in at_cells.shape)
        features[place, :, :-1] = seen.pop()[:, rows, columns].T.float().numpy()
        labels[place] = np.minimum(at_cells[rows, columns], classes)
    handle.remove()
    return Cells(features, labels, classes)


ESTIMATES: dict[str, Callable[[SampleSet], Floats]] = {
    "random": _random,
    "pixels of the class": _pixels,
    "last layer": _last_layer,
}


if __name__ == "__main__":
    run_cases("value", {name: partial(worth, name, Path(sys.argv[1])) for name in CLASSES}, sys.argv[2:])
