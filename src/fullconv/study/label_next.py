"""What to label next: photos without label maps, by what they would teach. Road: study, on small networks.

In: networks that differ by their seeds alone; small photos. Out: photos in order, and where in them to begin.

What networks that learned the same disagree on is what the samples did not teach them (query by committee: Seung et al.
1992); divided by how common a class is, as the mean IoU counts each class alike. Of photos that are alike the first is
enough: each is worth as much of that as it is unlike what is labelled or chosen already (Sener and Savarese 2018). In a
set without repetition all are about equally unlike, and the doubt alone decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fullconv.base.progress import progress
from fullconv.nets.sharp import SharpHead
from fullconv.study.refit import Floats
from fullconv.study.small import CELL, Small, cells_seen

TILE = 64  # px of the small photo, the side of a part that may be labelled alone
_MOST = 0.5  # of what a photo would teach: so much lies in the parts that are named
_RARE = 1e-3  # share of the pixels, below which a class counts as no rarer


@dataclass(frozen=True)
class Doubt:
    """What networks disagree on in a photo.

    Args:
        disagreed: (rows, columns, K) of tiles: variance between networks of a class's probability, summed over cells.
        shares: (K,) of the photo's pixels, as the networks see it.
        cells: of the whole photo.
    """

    disagreed: Floats
    shares: Floats
    cells: int


@dataclass(frozen=True)
class Choice:
    """A photo to label.

    Args:
        name: the photo's.
        promise: what it would teach, times that of a photo at the median.
        classes: ids of the classes in doubt, those first that count most, up to half of the promise.
        nearest: the sample, or the photo before it in the order, that looks most like it.
        likeness: of the two, -1 to 1.
        parts: boxes (top, left, bottom, right), 0 to 1 of the photo's height and width, that hold half of the promise.
    """

    name: str
    promise: float
    classes: tuple[int, ...]
    nearest: str
    likeness: float
    parts: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class LabelNext:
    """Photos in the order in which to label them.

    Args:
        redundancy: mean over samples of the likeness to the one that looks most like it: 1 where all have a copy.
    """

    choices: tuple[Choice, ...]
    redundancy: float


def label_next(heads: Sequence[SharpHead], train: Sequence[Small], photos: Sequence[Small], number: int) -> LabelNext:
    """Choose a batch of photos to label.

    Args:
        heads: at least two, trained on train with different seeds.
        train: samples with label maps.
        photos: without.
        number: of photos to choose, at most all.
    """
    doubts = [doubt_of(heads, one) for one in progress(photos, what="what networks doubt", total=len(photos))]
    taught = teaching(doubts)
    likeness = alike_looks([*train, *photos])
    ranked = in_order(np.array([one.sum() for one in taught]), likeness[len(train) :], len(train), number)
    names = [one.name for one in (*train, *photos)]
    middle = float(np.median([one.sum() for one in taught])) or 1.0
    known = list(range(len(train)))
    choices = []
    for place in ranked:
        nearest = known[int(likeness[len(train) + place, known].argmax())]
        choices.append(
            Choice(
                photos[place].name,
                float(taught[place].sum() / middle),
                _most(taught[place].sum((0, 1))),
                names[nearest],
                float(likeness[len(train) + place, nearest]),
                _parts(taught[place].sum(-1), photos[place].size),
            )
        )
        known.append(len(train) + place)
    return LabelNext(tuple(choices), redundancy(likeness[: len(train), : len(train)]))


def doubt_of(heads: Sequence[SharpHead], photo: Small) -> Doubt:
    """What networks disagree on in one photo."""
    probabilities = torch.stack([cells_seen(head, photo)[1].softmax(0) for head in heads])
    variance = probabilities.var(0, unbiased=False).numpy()  # (K, h, w)
    side = TILE // heads[0].taps[heads[0].first].stride
    down, across = (range(0, length, side) for length in variance.shape[1:])
    disagreed = np.add.reduceat(np.add.reduceat(variance, down, axis=1), across, axis=2).transpose(1, 2, 0)
    shares = probabilities.mean((0, 2, 3)).numpy()
    return Doubt(disagreed.astype(np.float64), shares.astype(np.float64), variance[0].size)


def teaching(doubts: Sequence[Doubt]) -> list[Floats]:
    """What labels would teach, (rows, columns, K) a photo: each class's doubt over its share of all photos."""
    common = np.mean([one.shares for one in doubts], 0) + _RARE
    return [one.disagreed / one.cells / common for one in doubts]


def in_order(taught: Floats, likeness: Floats, labelled: int, number: int) -> list[int]:
    """Places of photos, greedily by what each would teach times how unlike it is to what is labelled or chosen.

    Args:
        taught: (P,) of each photo.
        likeness: (P, labelled + P) of photos to what is labelled and to photos.
    """
    nearest = likeness[:, :labelled].max(1)
    left = np.ones(len(taught), bool)
    order: list[int] = []
    for _ in range(min(number, len(taught))):
        place = int(np.where(left, taught * (1 - nearest), -1).argmax())
        order.append(place)
        left[place] = False
        nearest = np.maximum(nearest, likeness[:, labelled + place])
    return order


def alike_looks(photos: Sequence[Small]) -> Floats:
    """(P, P) how alike photos look, -1 to 1: by the means of the coarsest maps, each standardised over the photos."""
    looks = np.stack([_look(one) for one in photos])
    looks = (looks - looks.mean(0)) / (looks.std(0) + 1e-6)
    looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-6)
    return np.asarray(looks @ looks.T)


def redundancy(likeness: Floats) -> float:
    """Mean over samples of the likeness to another that looks most like it; (S, S) likeness."""
    others = likeness - 2 * np.eye(len(likeness))
    return float(others.max(1).mean())


def _look(photo: Small) -> Floats:
    coarsest = photo.maps()[-1]
    rows, columns = (-(-side // CELL) for side in photo.size)
    return np.asarray(coarsest[:, :rows, :columns].astype(np.float64).mean((1, 2)))


def _most(shares: Floats) -> tuple[int, ...]:
    """The largest, as few as sum up to half."""
    order = np.argsort(-shares)
    enough = int(np.searchsorted(shares[order].cumsum(), _MOST * shares.sum())) + 1
    return tuple(order[:enough].tolist())


def _parts(taught: NDArray[np.float64], size: tuple[int, int]) -> tuple[tuple[float, float, float, float], ...]:
    """Tiles that hold half of what the photo would teach, those first that hold most."""
    height, width = size
    boxes = []
    for place in _most(taught.ravel()):
        row, column = divmod(place, taught.shape[1])
        top, left = row * TILE / height, column * TILE / width
        boxes.append((top, left, min(1.0, top + TILE / height), min(1.0, left + TILE / width)))
    return tuple(boxes)
