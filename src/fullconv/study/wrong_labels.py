"""Which labels may be wrong: networks that have not seen a sample look at its label map. Road: study, after the folds.

In: samples, each as networks saw it that were not trained on it. Out: suspect regions, ranked; a quality
for each sample; what is taken for what. Two passes over the photos, one photo in memory at a time: what each class's
probability is where it is given must be known before a region can be looked at. What is kept of a region is a few
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fullconv.base import seeds
from fullconv.base.progress import progress
from fullconv.labels.maps import nearest
from fullconv.labels.space import LabelSpace
from fullconv.nets.bundle import Bundle, load
from fullconv.study.disagreements import Floats, Labels, Trust, disagreements, doubt, strangeness
from fullconv.study.faults import spoil, wrong_pixels
from fullconv.study.folds import Unseen
from fullconv.study.small import Small
from fullconv.study.suspects import Judge, Looked, Suspect, WrongLabels, learned, likeliest

Seen = tuple[str, Labels, Floats]
"""A sample's name, its (H, W) label map, and (K, H, W) probabilities of networks that have not seen it."""
Predictions = Callable[[str, Collection[str] | None], Iterable[Seen]]
"""(what for, names of samples or None for all) -> these samples as networks saw them."""
_MOST_WRONG = 0.5  # of a region's pixels: then the region is the fault


def wrong_labels(predictions: Predictions, space: LabelSpace) -> WrongLabels:
    """Look at all samples twice, each as networks saw it that have not seen it before.

    Raises: BundleError, UnreadableImage.
    """
    trust = trust_of(predictions("how sure the networks are", None), space)
    looked, judge = judged(predictions("looking for wrong labels", None), trust)
    found = {name: judge.suspects(one) for name, one in looked.items()}
    ranked = sorted((one for several in found.values() for one in several), key=lambda one: -one.score)
    shown = {one.sample for one in likeliest(ranked)}
    guesses = {name: seen.argmax(0).astype(space.dtype) for name, _, seen in predictions("what they see", shown)}
    qualities = {name: judge.quality(one) for name, one in looked.items()}
    doubtful = sorted(qualities, key=lambda name: qualities[name])[: round(judge.share * len(qualities))]
    return WrongLabels(tuple(ranked), qualities, tuple(doubtful), trust.pixels, guesses)


def at_own_size(found: WrongLabels, small: Sequence[Small], sizes: Mapping[str, tuple[int, int]]) -> WrongLabels:
    """What was found on small photos, for the (H, W) of the photos themselves."""
    of_small = {one.name: one.size for one in small}

    def larger(one: Suspect) -> Suspect:
        down, across = (own / side for own, side in zip(sizes[one.sample], of_small[one.sample], strict=True))
        top, left, bottom, right = one.box
        box = round(top * down), round(left * across), round(bottom * down), round(right * across)
        return replace(one, box=box, pixels=round(one.pixels * down * across))

    guesses = {name: nearest(guess, sizes[name]) for name, guess in found.guesses.items()}
    return replace(found, suspects=tuple(larger(one) for one in found.suspects), guesses=guesses)


def trust_of(predictions: Iterable[Seen], space: LabelSpace) -> Trust:
    """The first pass: how sure the networks are of each class."""
    trust = Trust.nothing(space)
    for _, labels, probabilities in predictions:
        trust.add(labels, probabilities)
    return trust


def judged(predictions: Iterable[Seen], trust: Trust) -> tuple[dict[str, Looked], Judge]:
    """The second pass: what the networks say of each label map, by name, and who tells faults from that."""
    looked: dict[str, Looked] = {}
    spoiled: list[Looked] = []
    before: Labels | None = None
    for name, labels, probabilities in predictions:
        looked[name], _ = _looked_at(name, labels, probabilities, trust)
        if before is not None:
            spoiled += _with_fault(name, labels, before, probabilities, trust)
        before = labels
    return looked, learned(list(looked.values()), spoiled, trust.rates())


def _looked_at(
    name: str, labels: Labels, probabilities: Floats, trust: Trust
) -> tuple[Looked, list[NDArray[np.bool_]]]:
    """What the network says of a label map; which pixels of its box each region is."""
    found = list(disagreements(name, labels, probabilities, trust.thresholds()))
    strange = strangeness(labels, probabilities, trust.rates())
    looked = Looked(tuple(one for one, _ in found), doubt(labels, probabilities), strange)
    return looked, [region for _, region in found]


def _with_fault(name: str, labels: Labels, other: Labels, probabilities: Floats, trust: Trust) -> list[Looked]:
    """What the network says of this label map with a fault drawn into it; nothing where chance finds none."""
    faulty = spoil(labels, other, trust.space, seeds.rng(0, "fault", name))
    if faulty is None:
        return []
    wrong = wrong_pixels(labels, faulty, trust.space)
    looked, regions = _looked_at(name, faulty, probabilities, trust)
    inside = zip(looked.regions, regions, strict=True)
    faults = tuple(float(_within(wrong, one.box)[region].mean()) > _MOST_WRONG for one, region in inside)
    return [replace(looked, faults=faults)]


def _within(wrong: NDArray[np.bool_], box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    top, left, bottom, right = box
    return wrong[top:bottom, left:right]


def probabilities_of(parts: Sequence[Unseen], what: str, names: Collection[str] | None = None) -> Iterator[Seen]:
    """Each sample's name with its (H, W) label map and the (K, H, W) probabilities of its part's network.

    Args:
        names: of the samples asked for; None is all.
    """
    todo = [(part.bundle, one) for part in parts for one in part.samples if names is None or one.name in names]
    bundle: Bundle | None = None
    of: Path | None = None
    for folder, sample in progress(todo, what=what, total=len(todo)):
        if bundle is None or folder != of:
            bundle, of = load(folder), folder
        photo, labels = sample.read()
        yield sample.name, labels, softmax(bundle.predict(photo).scores, axis=0)
