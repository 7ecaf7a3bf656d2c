"""Which disagreements are wrong labels, and which are networks' own errors. Road: study, after the disagreements.

In: regions where a network holds a label map for wrong, of the samples as they are and of the same with faults that are
known. Out: suspects with a kind and a score. Knows no files, no torch.

No one weight of size against certainty is right for every set: a network that knows few classes errs in large regions,
and classes that are alike are taken for each other with certainty. So the weights are learned on the set itself: faults
are drawn into copies of its label maps, and a logistic regression tells the regions of these from what the networks say
of the maps as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fullconv.study.disagreements import Disagreement, Labels

Floats = NDArray[np.float64]

KINDS = ("swapped", "missing", "phantom", "shifted")
"""swapped: a thing has the class of another; missing: a thing was not drawn; phantom: a thing was drawn where none is;
shifted: part of a thing, along its edge.
"""
_MOST = 30  # suspects of one sample
_HALF = 0.5
_FAULTY = 0.05  # of the samples, that a score takes to have a fault
_RAREST = 1e-4  # rates below are taken for this
SHOWN = 24  # suspects of which a page shows what the network sees


@dataclass(frozen=True)
class Suspect:
    """A region whose label may be wrong.

    Args:
        box: top, left, bottom, right, in pixels of the photo; bottom and right are the first ones outside.
        kind: one of `KINDS`.
        given, likely: class ids: of the label map, of the network.
        pixels: of the region.
        score: 0 to 1, how likely it is that the label is wrong if one sample in twenty has a fault.
    """

    sample: str
    box: tuple[int, int, int, int]
    kind: str
    given: int
    likely: int
    pixels: int
    score: float


@dataclass(frozen=True)
class WrongLabels:
    """What the networks say of samples that they have not seen.

    Args:
        suspects: regions, the likeliest errors first.
        quality: name -> 0 to 1, see `suspects.quality`.
        pixels: (K, K) by given class and by most probable class: out of fold, so what it says of precision and recall
            is what the samples are worth to networks trained on the others.
        guesses: name -> (H, W) class ids that the network sees, of the samples of the first `SHOWN` suspects.
    """

    suspects: tuple[Suspect, ...]
    quality: dict[str, float]
    pixels: NDArray[np.int64]
    guesses: dict[str, Labels]


@dataclass(frozen=True)
class Judge:
    """Scores disagreements.

    Args:
        rates: (K, K) the share of a given class's pixels that networks hold for each class.
        weights: one a sign, see `signs_of`.
        bias: of the sum.
    """

    rates: Floats
    weights: Floats
    bias: float

    def scores(self, regions: Sequence[Disagreement]) -> Floats:
        """(N,) how likely each label is wrong, 0 to 1."""
        return np.asarray(1 / (1 + np.exp(-signs_of(regions, self.rates) @ self.weights - self.bias)))

    def suspects(self, regions: Sequence[Disagreement]) -> list[Suspect]:
        """The regions of one sample, the likeliest errors first, at most 30."""
        found = [_suspect(one, float(score)) for one, score in zip(regions, self.scores(regions), strict=True)]
        return sorted(found, key=lambda one: -one.score)[:_MOST]


def learned(as_they_are: Sequence[Disagreement], spoiled: Sequence[Disagreement], rates: Floats) -> Judge:
    """The judge that tells regions of known faults from those of the samples as they are.

    Args:
        as_they_are: all of the samples, most of which have no fault.
        spoiled: those regions of samples with one fault each that are the fault.
        rates: (K, K), see `Judge`.
    """
    if not as_they_are or not spoiled:  # nothing to learn from: by the margin
        return Judge(rates, np.eye(_SIGNS)[0] * 4, -4.0)
    signs = np.concatenate([signs_of(as_they_are, rates), signs_of(spoiled, rates)])
    faults = np.repeat([False, True], [len(as_they_are), len(spoiled)])
    middle, spread = signs.mean(0), signs.std(0) + 1e-6
    fit = LogisticRegression(max_iter=1000).fit(
        (signs - middle) / spread, faults, sample_weight=np.where(faults, _FAULTY, 1.0)
    )
    weights = fit.coef_[0] / spread
    return Judge(rates, weights, float(fit.intercept_[0] - middle @ weights))


_SIGNS = 7


def signs_of(regions: Sequence[Disagreement], rates: Floats) -> Floats:
    """(N, 7) what speaks for a wrong label.

    Margin, depth, size, how seldom the one class is held for the other, and how well the region is a whole thing: of
    the label map, of what the network sees, of both.
    """
    rows: list[tuple[Any, ...]] = [
        (one.margin, one.depth, one.pixels, rates[one.given, one.likely], one.of_given, one.of_likely)
        for one in regions
    ]
    margin, depth, pixels, rate, of_given, of_likely = np.array(rows, float).reshape(-1, 6).T
    return np.stack(
        [
            margin,
            np.log1p(depth),
            np.log(pixels),
            -np.log(rate + _RAREST),
            of_given,
            of_likely,
            of_given * of_likely,
        ],
        1,
    )


def quality(suspects: Sequence[Suspect]) -> float:
    """0 to 1: how likely it is that no region of a sample is wrong."""
    return float(np.prod([1 - one.score for one in suspects]))


def _suspect(one: Disagreement, score: float) -> Suspect:
    kind = kind_of(one.of_given, one.of_likely)
    return Suspect(one.sample, one.box, kind, one.given, one.likely, one.pixels, round(score, 4))


def kind_of(of_given: float, of_likely: float) -> str:
    """The kind of a region by its share of the thing that was drawn and of the thing that the network sees there."""
    if of_given >= _HALF:
        return "swapped" if of_likely >= _HALF else "phantom"
    return "missing" if of_likely >= _HALF else "shifted"
