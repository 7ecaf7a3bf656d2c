"""Wrong labels planted in real samples: does a study rank them first? Beside cleanlab, and beside ranking by loss.

python benchmarks/suspects.py RUNS [CASE ...]      e.g. "voc-animals 0", "camvid 1 small"; none: all. Trains into RUNS.

A case plants faults of labels (benchmarks/plant.py), trains a run of four minutes and the study's networks, or small
networks (study/small.py) in their place, and ranks with the probabilities of networks that have not seen the sample:
whole samples, and pixels. Every way gets the same
probabilities. cleanlab 2.9 (segmentation module) takes neither void nor photos of several sizes: whole samples it scores
one by one, pixels of void given the class that the network sees there; pixels it ranks on tiles without void. Its
scores of pixels are the given class's probability, as those of ranking by loss. A pixel's score by the study is that of its
region (in none: of one in twenty, and what speaks against its label map), with half of the pixel's own odds. Area under the precision-recall curve (average precision), over the samples of train and val (faults are planted in train); the share that is wrong is what a
random order gets. Writes benchmarks/results/suspects.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.segmentation.filter import find_label_issues
from cleanlab.segmentation.rank import get_label_quality_scores
from numpy.typing import NDArray
from plant import Planted, plant
from road import DATA
from rows import run as run_cases
from rows import small_trained
from scipy.special import logit
from sklearn.metrics import average_precision_score

import fullconv as fc
from fullconv.base.files import read_json, write_json
from fullconv.labels.maps import nearest
from fullconv.road import again
from fullconv.study.case import read_case
from fullconv.study.disagreements import disagreements
from fullconv.study.folds import FOLDS, Unseen, unseen
from fullconv.study.small import shrink_samples
from fullconv.study.small_folds import ROUNDS, seen_by_others
from fullconv.study.suspects import FAULTY, Judge, Looked
from fullconv.study.wrong_labels import Seen, judged, probabilities_of, trust_of

MINUTES = 4.0
SHARES = {"swapped": 0.02, "shifted": 0.02, "missing": 0.02}  # of train
SIDE, APART = 64, 128  # px: tiles, and from one to the next
EVERY = 3  # pixels: every third of every third row is ranked, or the ranking takes gigabytes
CLASSES = {"voc-animals": ("background", "cat", "cow", "dog", "horse", "person", "sheep"), "camvid": ()}


def planted(name: str, seed: int, runs: Path) -> dict[str, Any]:
    """By the study's own networks: runs of some minutes, each without a third of train."""
    folder = runs / f"suspects-{name}-{seed}"
    truth = _planted(DATA / name, folder, seed, CLASSES[name])
    parts = _parts(folder, CLASSES[name])
    space = parts[0].samples[0].label_space
    return {"set": name, "seed": seed, "minutes": MINUTES, **ranked(lambda: probabilities_of(parts, "asking"), space, truth)}


def planted_small(name: str, seed: int, runs: Path) -> dict[str, Any]:
    """By small networks, in seconds each; on small photos, over the samples of train alone."""
    folder = runs / f"suspects-{name}-{seed}"
    truth = _planted(DATA / name, folder, seed, CLASSES[name])
    samples = fc.read_samples(folder / "data", classes=CLASSES[name] or None).train
    given = shrink_samples(samples, folder / "small")
    sizes = {one.name: one.size for one in given}
    wrong = {name: nearest(mask, sizes[name]) for name, mask in truth.wrong.items()}
    seen = seen_by_others(given, random_rounds([one.name for one in given], seed), folder / f"others-{small_trained()}", seed=seed)
    return {"set": name, "seed": seed, **ranked(partial(seen, "asking", None), given[0].label_space, Planted(truth.root, truth.samples, wrong))}


def random_rounds(names: list[str], seed: int) -> list[list[list[str]]]:
    """Names by folds, parted by chance several times."""
    shuffled = [np.random.default_rng([seed, number]).permutation(names) for number in range(ROUNDS)]
    return [[fold.tolist() for fold in np.array_split(order, FOLDS)] for order in shuffled]


def ranked(predictions: Callable[[], Iterable[Seen]], space: fc.LabelSpace, truth: Planted) -> dict[str, Any]:
    """Average precision of every way, over samples, over pixels, and over pixels of tiles without void."""
    classes = space.size
    trust = trust_of(predictions(), space)
    thresholds = trust.thresholds()
    looked, judge = judged(predictions(), trust)
    wrong_samples: list[bool] = []
    by_sample: dict[str, list[float]] = {"fullconv": [], "cleanlab": [], "loss": []}
    wrong_pixels: list[NDArray[np.bool_]] = []
    by_pixel: dict[str, list[NDArray[np.float32]]] = {"fullconv": [], "loss": []}
    tiles: list[Tile] = []
    for name, labels, probabilities in predictions():
        known = labels < classes
        filled = np.where(known, labels, probabilities.argmax(0)).astype(np.int64)
        of_given = np.take_along_axis(probabilities, filled[None], 0)[0]
        wrong = truth.wrong.get(name, np.zeros(labels.shape, bool))
        wrong_samples.append(bool((wrong & known).any()))
        by_sample["fullconv"].append(1 - judge.quality(looked[name]))
        by_sample["cleanlab"].append(1 - float(get_label_quality_scores(filled[None], probabilities[None], verbose=False)[0][0]))
        by_sample["loss"].append(float(-np.log(np.maximum(of_given[known], 1e-6)).mean()))
        thin = known[::EVERY, ::EVERY]
        wrong_pixels.append(wrong[::EVERY, ::EVERY][thin])
        by_pixel["loss"].append((1 - of_given)[::EVERY, ::EVERY][thin])
        scores = _score_map(name, labels, probabilities, thresholds, judge, looked[name], of_given)
        by_pixel["fullconv"].append(scores[::EVERY, ::EVERY][thin])
        tiles += _tiles(labels, probabilities, scores, wrong, known)
    pixels = np.concatenate(wrong_pixels)
    return {
        "planted": {kind: len(names) for kind, names in truth.samples.items()},
        "samples": _areas(wrong_samples, by_sample),
        "pixels": _areas(pixels, {way: np.concatenate(scores) for way, scores in by_pixel.items()}),
        "tiles": _on_tiles(tiles),
    }


@dataclass(frozen=True)
class Tile:
    """A square of a sample without void: (S, S) label map, (K, S, S) probabilities, (S, S) our scores and what is wrong."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]
    wrong: NDArray[np.bool_]


def _tiles(labels: Any, probabilities: Any, scores: Any, wrong: Any, known: Any) -> list[Tile]:
    """Those of a fixed grid that hold no void."""
    height, width = labels.shape
    found = []
    for top in range(0, height - SIDE + 1, APART):
        for left in range(0, width - SIDE + 1, APART):
            at = (slice(top, top + SIDE), slice(left, left + SIDE))
            if known[at].all():
                found.append(Tile(labels[at].astype(np.int64), probabilities[:, at[0], at[1]].copy(), scores[at], wrong[at]))
    return found


def _on_tiles(tiles: list[Tile]) -> dict[str, float]:
    """Over pixels of tiles. cleanlab: the pixels that it calls issues first, by their scores, then the others."""
    labels, probabilities = (np.stack([getattr(tile, name) for tile in tiles]) for name in ("labels", "probabilities"))
    issues = find_label_issues(labels, probabilities, downsample=1, n_jobs=1, verbose=False)
    _, pixel_scores = get_label_quality_scores(labels, probabilities, verbose=False)
    of_given = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    ways = {"fullconv": np.stack([tile.scores for tile in tiles]), "cleanlab": issues - pixel_scores, "loss": 1 - of_given}
    return _areas(np.stack([tile.wrong for tile in tiles]).ravel(), {way: scores.ravel() for way, scores in ways.items()}) | {"tiles": len(tiles)}


def _score_map(name: str, labels: Any, probabilities: Any, thresholds: Any, judge: Judge, looked: Looked, of_given: Any) -> NDArray[np.float32]:
    """(H, W): the odds of a pixel's region (in none, of one in twenty and what speaks against its label map), and half of
    the pixel's own.
    """
    own = logit(np.clip(1 - of_given, 1e-4, 1 - 1e-4)).astype(np.float32) / 2
    odds = np.full(labels.shape, logit(FAULTY) + judge.against(looked), np.float32)
    regions = disagreements(name, labels, probabilities, thresholds)
    for (one, region), score in zip(regions, judge.scores(looked), strict=True):
        top, left, bottom, right = one.box
        odds[top:bottom, left:right][region] = logit(np.clip(score, 1e-6, 1 - 1e-6))
    return odds + own


def _areas(wrong: Any, scores: dict[str, Any]) -> dict[str, float]:
    areas = {way: average_precision_score(np.asarray(wrong), np.asarray(each)) for way, each in scores.items()}
    return {way: round(float(area), 4) for way, area in (areas | {"random": np.mean(wrong)}).items()}


def _planted(source: Path, folder: Path, seed: int, classes: tuple[str, ...]) -> Planted:
    """Plant once; what was planted is read back afterwards."""
    kept = folder / "planted.npz"
    if not kept.exists():
        truth = plant(source, folder / "data", seed=seed, shares=SHARES, classes=classes)
        write_json(folder / "planted.json", truth.samples)
        np.savez_compressed(kept, **truth.wrong)
    with np.load(kept) as wrong:
        return Planted(folder / "data", read_json(folder / "planted.json"), {name: wrong[name] for name in wrong.files})


def _parts(folder: Path, classes: tuple[str, ...]) -> list[Unseen]:
    earlier = folder / "run"
    fc.run(fc.Asked(data=folder / "data", out=earlier, minutes=MINUTES, classes=classes), say=print)
    case = read_case(folder / "data", classes=classes or None)
    return unseen(case, earlier, folder / "folds", lambda splits, out: again(earlier, data=folder / "data", out=out, splits=splits, say=print), seed=0)


def main(runs: Path, asked: list[str]) -> None:
    cases = {f"{name} {seed} small": partial(planted_small, name, seed, runs) for name in CLASSES for seed in range(4)}
    cases |= {f"{name} {seed}": partial(planted, name, seed, runs) for name in CLASSES for seed in (0, 1)}
    run_cases("suspects", cases, asked)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
