"""Which disagreements are wrong labels, and which are networks' own errors. Road: study, after the disagreements.

In: regions where a network holds a label map for wrong, of the samples as they are and of the same with faults that are
known. Out: suspects with a kind and a score. Knows no files, no torch.

No one weight of size against certainty is right for every set: a network that knows few classes errs in large regions,
and classes that are alike are taken for each other with certainty. So the weights are learned on the set itself: faults
are drawn into copies of its label maps, and a logistic regression tells the regions of these from what the networks say
of the maps as they are. A second one tells whole label maps apart, by doubt and strangeness, and what it says of a map
counts for each of its regions: a map that lies beside its things has many, none of them striking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fullconv.study.disagreements import Disagreement, Labels

Floats = NDArray[np.float64]

KINDS = ("swapped", "missing", "phantom", "shifted")
"""swapped: a thing has the class of another; missing: a thing was not drawn; phantom: a thing was drawn where none is;
shifted: part of a thing, along its edge.
"""
_MOST = 30  # suspects of one sample
_HALF = 0.5
FAULTY = 0.05  # of the samples, that a score takes to have a fault
_SHARES = (0.01, 0.5)  # the least and the most of the samples that are taken to have one
_ENOUGH = 40  # spoiled label maps, for a share to be told
_RAREST = 1e-4  # rates below are taken for this
_SPREAD = 1e-6
SHOWN = 24  # samples whose likeliest error a page shows


@dataclass(frozen=True)
class Suspect:
    """A region whose label may be wrong.

    Args:
        box: top, left, bottom, right, in pixels of the photo; bottom and right are the first ones outside.
        kind: one of `KINDS`.
        given, likely: class ids: of the label map, of the network.
        pixels: of the region.
        score: 0 to 1, the higher the likelier it is that the label is wrong; see `Judge.scores`.
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
        quality: name -> 0 to 1, see `Judge.quality`.
        doubtful: names of those of least quality, as many as are estimated to have a fault; the worst first.
        pixels: (K, K) by given class and by most probable class: out of fold, so what it says of precision and recall
            is what the samples are worth to networks trained on the others.
        guesses: name -> (H, W) class ids that the network sees, of the samples of `shown`.
    """

    suspects: tuple[Suspect, ...]
    quality: dict[str, float]
    doubtful: tuple[str, ...]
    pixels: NDArray[np.int64]
    guesses: dict[str, Labels]

    @property
    def shown(self) -> tuple[Suspect, ...]:
        """See `likeliest`."""
        return likeliest(self.suspects)


def likeliest(suspects: Sequence[Suspect]) -> tuple[Suspect, ...]:
    """The first suspect of each of the first `SHOWN` samples: one label map may have many."""
    first: dict[str, Suspect] = {}
    for one in suspects:
        first.setdefault(one.sample, one)
    return tuple(first.values())[:SHOWN]


@dataclass(frozen=True)
class Looked:
    """What a network says of one label map.

    Args:
        regions: where it holds another class for likely.
        doubt, strangeness: see `disagreements`.
        faults: of a label map with a known fault: whether each region is that fault; else empty.
    """

    regions: tuple[Disagreement, ...]
    doubt: float
    strangeness: float
    faults: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Judge:
    """Scores regions, and whole label maps.

    Args:
        rates: (K, K) the share of a given class's pixels that networks hold for each class.
        weights: (8,) of `signs`.
        bias: of their sum.
        middle, spread: (2,) of doubt and strangeness.
        slope, offset: from the mean of both, in deviations, to the logarithm of the odds that the label map is wrong.
        share: of the label maps, how many have a fault, see `faulty_share`; 0 if nothing could be learned.
    """

    rates: Floats
    weights: Floats
    bias: float
    middle: Floats
    spread: Floats
    slope: float = 1.0
    offset: float = 0.0
    share: float = 0.0

    def scores(self, looked: Looked) -> Floats:
        """(N,) what ranks regions, 0 to 1: the odds that a region's label is wrong if one sample in twenty has a fault,
        times what speaks against its label map. Both look at the same pixels: a rank, no probability.
        """
        return np.asarray(expit(self._odds(looked.regions) + self.against(looked)))

    def against(self, looked: Looked) -> float:
        """Logarithm of how much likelier a fault is in this label map than in one that nothing is known of."""
        return self._odds_of_map(looked) - float(np.log(self.share)) if self.share else 0.0

    def suspects(self, looked: Looked) -> list[Suspect]:
        """The regions of one sample, the likeliest errors first, at most 30."""
        found = [_suspect(one, float(score)) for one, score in zip(looked.regions, self.scores(looked), strict=True)]
        return sorted(found, key=lambda one: -one.score)[:_MOST]

    def quality(self, looked: Looked) -> float:
        """0 to 1, low where a label map may be wrong; `share` of the label maps are taken to have a fault."""
        return float(expit(-self._odds_of_map(looked)))

    def mixed(self, looked: Looked) -> float:
        """What ranks label maps: the mean of doubt and strangeness, in deviations."""
        return float(((_of_map(looked) - self.middle) / self.spread).mean())

    def _odds_of_map(self, looked: Looked) -> float:
        return self.slope * self.mixed(looked) + self.offset

    def _odds(self, regions: Sequence[Disagreement]) -> Floats:
        return signs(regions, self.rates) @ self.weights + self.bias


def learned(as_they_are: Sequence[Looked], spoiled: Sequence[Looked], rates: Floats) -> Judge:
    """The judge that best tells label maps with known faults from those of the samples as they are.

    Args:
        as_they_are: all of the samples, most of which have no fault.
        spoiled: label maps with one fault each.
        rates: (K, K), see `Judge`.
    """
    sound = [region for one in as_they_are for region in one.regions]
    faults = [region for one in spoiled for region, fault in zip(one.regions, one.faults, strict=True) if fault]
    if not sound or not faults:  # nothing to learn from: by the margin
        weights = np.array([4.0, *[0.0] * 7])
        return Judge(rates, weights, -4.0, np.zeros(2), np.ones(2))
    weights, bias = _regression(signs(sound, rates), signs(faults, rates))
    of_maps = np.array([_of_map(one) for one in as_they_are])
    judge = Judge(rates, weights, bias, of_maps.mean(0), of_maps.std(0) + _SPREAD)
    of_these, of_spoiled = (np.array([judge.mixed(one) for one in several]) for several in (as_they_are, spoiled))
    share = faulty_share(of_these, of_spoiled)
    weight = share * len(as_they_are) / len(spoiled)
    slope, offset = _regression(of_these[:, None], of_spoiled[:, None], weight=weight)
    return replace(judge, slope=float(slope[0]), offset=offset, share=share)


def _of_map(looked: Looked) -> Floats:
    return np.array([looked.doubt, looked.strangeness])


def faulty_share(as_they_are: Floats, spoiled: Floats) -> float:
    """The share of label maps that have a fault, by how high they rank beside some that have one for certain.

    Where all that rank so high are faulty, they are the same share of those as they are as of the spoiled, times the
    share sought; elsewhere sound ones come on top. So it is the least such ratio (Blanchard, Lee, Scott 2010), over
    ranks that half of the spoiled reach: above, faults as striking as drawn ones are too few to be counted.
    """
    if len(spoiled) < _ENOUGH:
        return FAULTY
    ranks = np.sort(spoiled)[: -(len(spoiled) // 2)]
    ratios = [(as_they_are >= rank).mean() / (spoiled >= rank).mean() for rank in ranks]
    return float(np.clip(min(ratios), *_SHARES))


def _regression(sound: Floats, faulty: Floats, *, weight: float = FAULTY) -> tuple[Floats, float]:
    """Weights and bias of the logarithm of the odds: of faults, `weight` each, to all that are as they are."""
    from sklearn.linear_model import LogisticRegression  # a second, which a study without networks does without

    rows = np.concatenate([sound, faulty])
    middle, spread = rows.mean(0), rows.std(0) + _SPREAD
    faults = np.repeat([False, True], [len(sound), len(faulty)])
    weights = np.where(faults, weight, 1.0)
    fit = LogisticRegression(max_iter=1000).fit((rows - middle) / spread, faults, sample_weight=weights)
    found = fit.coef_[0] / spread
    return found, float(fit.intercept_[0] - middle @ found)


def signs(regions: Sequence[Disagreement], rates: Floats) -> Floats:
    """(N, 8) what speaks for a wrong label: margin, depth, size, how seldom the one class is held for the other, odds,
    and how well the region is a whole thing: of the label map, of what is seen, of both.
    """
    rows = [
        (one.margin, one.depth, one.pixels, rates[one.given, one.likely], one.odds, one.of_given, one.of_likely)
        for one in regions
    ]
    margin, depth, pixels, rate, odds, of_given, of_likely = np.array(rows, float).reshape(-1, 7).T
    seldom = -np.log(rate + _RAREST)
    return np.stack(
        [margin, np.log1p(depth), np.log(pixels), seldom, odds, of_given, of_likely, of_given * of_likely], 1
    )


def _suspect(one: Disagreement, score: float) -> Suspect:
    kind = kind_of(one.of_given, one.of_likely)
    return Suspect(one.sample, one.box, kind, one.given, one.likely, one.pixels, round(score, 4))


def kind_of(of_given: float, of_likely: float) -> str:
    """The kind of a region by its share of the thing that was drawn and of the thing that the network sees there."""
    if of_given >= _HALF:
        return "swapped" if of_likely >= _HALF else "phantom"
    return "missing" if of_likely >= _HALF else "shifted"
