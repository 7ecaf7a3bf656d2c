"""Which labels may be wrong: networks that have not seen a sample look at its label map. Road: study, after the folds.

In: samples, each beside the bundle of a network that was not trained on it. Out: suspect regions, ranked; a quality
for each sample; what is taken for what. Two passes over the photos, one photo in memory at a time: what each class's
probability is where it is given must be known before a region can be looked at. What is kept of a region is a few
numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fullconv.base import seeds
from fullconv.base.progress import progress
from fullconv.labels.space import LabelSpace
from fullconv.nets.bundle import Bundle, load
from fullconv.study.disagreements import Floats, Labels, Trust, disagreements, doubt
from fullconv.study.faults import spoil, wrong_pixels
from fullconv.study.folds import Unseen
from fullconv.study.suspects import SHOWN, Judge, Looked, WrongLabels, learned

Prediction = tuple[str, Labels, Floats]
"""A sample's name, its (H, W) label map, and (K, H, W) probabilities of a network that has not seen it."""
_MOST_WRONG = 0.5  # of a region's pixels: then the region is the fault


def wrong_labels(parts: Sequence[Unseen], space: LabelSpace) -> WrongLabels:
    """Look at all samples twice, each with the network that has not seen it.

    Raises: BundleError, UnreadableImage.
    """
    trust = trust_of(probabilities_of(parts, "how sure the networks are"), space)
    looked, judge = judged(probabilities_of(parts, "looking for wrong labels"), trust)
    found = {name: judge.suspects(one.regions) for name, one in looked.items()}
    ranked = sorted((one for several in found.values() for one in several), key=lambda one: -one.score)
    shown = {one.sample for one in ranked[:SHOWN]}
    few = [Unseen(part.bundle, tuple(one for one in part.samples if one.name in shown)) for part in parts]
    guesses = {name: probabilities.argmax(0) for name, _, probabilities in probabilities_of(few, "what they see")}
    qualities = {name: judge.quality(one) for name, one in looked.items()}
    return WrongLabels(tuple(ranked), qualities, trust.pixels, guesses)


def trust_of(predictions: Iterable[Prediction], space: LabelSpace) -> Trust:
    """The first pass: how sure the networks are of each class."""
    trust = Trust.nothing(space)
    for _, labels, probabilities in predictions:
        trust.add(labels, probabilities)
    return trust


def judged(predictions: Iterable[Prediction], trust: Trust) -> tuple[dict[str, Looked], Judge]:
    """The second pass: what the networks say of each label map, by name, and who tells faults from that."""
    thresholds = trust.thresholds()
    looked: dict[str, Looked] = {}
    spoiled: list[Looked] = []
    before: Labels | None = None
    for name, labels, probabilities in predictions:
        regions = tuple(one for one, _ in disagreements(name, labels, probabilities, thresholds))
        looked[name] = Looked(regions, doubt(labels, probabilities))
        if before is not None:
            spoiled += _with_fault(name, labels, before, probabilities, thresholds, trust.space)
        before = labels
    return looked, learned(list(looked.values()), spoiled, trust.rates())


def _with_fault(
    name: str, labels: Labels, other: Labels, probabilities: Floats, thresholds: Floats, space: LabelSpace
) -> list[Looked]:
    """What the network says of this label map with a fault drawn into it; nothing where chance finds none."""
    faulty = spoil(labels, other, space, seeds.rng(0, "fault", name))
    if faulty is None:
        return []
    wrong = wrong_pixels(labels, faulty, space)
    found = list(disagreements(name, faulty, probabilities, thresholds))
    faults = tuple(float(_within(wrong, one.box)[region].mean()) > _MOST_WRONG for one, region in found)
    return [Looked(tuple(one for one, _ in found), doubt(faulty, probabilities), faults)]


def _within(wrong: NDArray[np.bool_], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    top, left, bottom, right = box
    return wrong[top:bottom, left:right]


def probabilities_of(parts: Sequence[Unseen], what: str) -> Iterator[Prediction]:
    """Each sample's name with its (H, W) label map and the (K, H, W) probabilities of its network."""
    todo = [(part.bundle, sample) for part in parts for sample in part.samples]
    bundle: Bundle | None = None
    of: Path | None = None
    for folder, sample in progress(todo, what=what, total=len(todo)):
        if bundle is None or folder != of:
            bundle, of = load(folder), folder
        photo, labels = sample.read()
        yield sample.name, labels, softmax(bundle.predict(photo).scores, axis=0)
