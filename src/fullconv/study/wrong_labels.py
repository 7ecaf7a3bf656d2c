"""Which labels may be wrong: networks that have not seen a sample look at its label map. Road: study, after the folds.

In: samples, each beside the bundle of a network that was not trained on it. Out: suspect regions, ranked; a quality
for each sample; what is taken for what. Two passes over the photos, one photo in memory at a time: what each class's
probability is where it is given must be known before a region can be judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.special import softmax

from fullconv.base.progress import progress
from fullconv.data.samples import Sample
from fullconv.labels.space import LabelSpace
from fullconv.nets.bundle import Bundle, load
from fullconv.study.folds import Unseen
from fullconv.study.suspects import SHOWN, Floats, Labels, Trust, WrongLabels, quality, suspects_of


def wrong_labels(parts: Sequence[Unseen], space: LabelSpace) -> WrongLabels:
    """Look at all samples twice, each with the network that has not seen it.

    Raises: BundleError, UnreadableImage.
    """
    trust = Trust.nothing(space)
    for _, labels, probabilities in probabilities_of(parts, "how sure the networks are"):
        trust.add(labels, probabilities)
    thresholds = trust.thresholds()
    found = {
        sample.name: suspects_of(sample.name, labels, probabilities, thresholds)
        for sample, labels, probabilities in probabilities_of(parts, "looking for wrong labels")
    }
    ranked = sorted((one for several in found.values() for one in several), key=lambda one: -one.score)
    shown = {one.sample for one in ranked[:SHOWN]}
    few = [Unseen(part.bundle, tuple(one for one in part.samples if one.name in shown)) for part in parts]
    guesses = {
        one.name: probabilities.argmax(0) for one, _, probabilities in probabilities_of(few, "what the networks see")
    }
    return WrongLabels(
        tuple(ranked), {name: quality(several) for name, several in found.items()}, trust.pixels, guesses
    )


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
