"""Which labels may be wrong: networks that have not seen a sample look at its label map. Road: study, after the folds.

In: samples, each beside the bundle of a network that was not trained on it. Out: suspect regions, ranked; a quality
for each sample; what is taken for what. Two passes over the photos, one photo in memory at a time: what each class's
probability is where it is given must be known before a region can be looked at. What is kept of a region is a few
numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.special import softmax

from fullconv.base import seeds
from fullconv.base.progress import progress
from fullconv.data.samples import Sample
from fullconv.labels.space import LabelSpace
from fullconv.nets.bundle import Bundle, load
from fullconv.study.disagreements import Disagreement, Floats, Labels, Trust, disagreements
from fullconv.study.faults import spoil, wrong_pixels
from fullconv.study.folds import Unseen
from fullconv.study.suspects import SHOWN, Judge, WrongLabels, learned, quality

_MOST_WRONG = 0.5  # of a region's pixels: then the region is the fault


def wrong_labels(parts: Sequence[Unseen], space: LabelSpace) -> WrongLabels:
    """Look at all samples twice, each with the network that has not seen it.

    Raises: BundleError, UnreadableImage.
    """
    trust = trust_of(parts, space)
    regions, judge = judged(parts, trust)
    found = {name: judge.suspects(several) for name, several in regions.items()}
    ranked = sorted((one for several in found.values() for one in several), key=lambda one: -one.score)
    shown = {one.sample for one in ranked[:SHOWN]}
    few = [Unseen(part.bundle, tuple(one for one in part.samples if one.name in shown)) for part in parts]
    guesses = {
        one.name: probabilities.argmax(0) for one, _, probabilities in probabilities_of(few, "what the networks see")
    }
    return WrongLabels(
        tuple(ranked), {name: quality(several) for name, several in found.items()}, trust.pixels, guesses
    )


def trust_of(parts: Sequence[Unseen], space: LabelSpace) -> Trust:
    """The first pass: how sure the networks are of each class."""
    trust = Trust.nothing(space)
    for _, labels, probabilities in probabilities_of(parts, "how sure the networks are"):
        trust.add(labels, probabilities)
    return trust


def judged(parts: Sequence[Unseen], trust: Trust) -> tuple[dict[str, list[Disagreement]], Judge]:
    """The second pass: the regions of each sample, by name, and who tells faults from them."""
    thresholds = trust.thresholds()
    regions: dict[str, list[Disagreement]] = {}
    spoiled: list[Disagreement] = []
    before: Labels | None = None
    for sample, labels, probabilities in probabilities_of(parts, "looking for wrong labels"):
        regions[sample.name] = [one for one, _ in disagreements(sample.name, labels, probabilities, thresholds)]
        if before is not None:
            spoiled += _faults(sample.name, labels, before, probabilities, thresholds, trust.space)
        before = labels
    return regions, learned([one for several in regions.values() for one in several], spoiled, trust.rates())


def _faults(
    name: str, labels: Labels, other: Labels, probabilities: Floats, thresholds: Floats, space: LabelSpace
) -> Iterator[Disagreement]:
    """The regions that a fault drawn into this label map leads to."""
    faulty = spoil(labels, other, space, seeds.rng(0, "fault", name))
    if faulty is None:
        return
    wrong = wrong_pixels(labels, faulty, space)
    for one, region in disagreements(name, faulty, probabilities, thresholds):
        top, left, bottom, right = one.box
        if wrong[top:bottom, left:right][region].mean() > _MOST_WRONG:
            yield one


def probabilities_of(parts: Sequence[Unseen], what: str) -> Iterator[tuple[Sample, Labels, Floats]]:
    """Each sample with its (H, W) label map and the (K, H, W) probabilities of its network."""
    todo = [(part.bundle, sample) for part in parts for sample in part.samples]
    bundle: Bundle | None = None
    of: Path | None = None
    for folder, sample in progress(todo, what=what, total=len(todo)):
        if bundle is None or folder != of:
            bundle, of = load(folder), folder
        photo, labels = sample.read()
        yield sample, labels, softmax(bundle.predict(photo).scores, axis=0)
