"""What to label next: photos without label maps, by what they would teach. Road: study, on small networks.

In: networks that differ by their seeds alone; small photos. Out: photos in order, and where in them to begin.

A photo teaches as much as networks are unsure of in it (probabilities of several networks averaged, as Lakshminarayanan
et al. 2017 do), divided by how common a class is, as the mean IoU counts each class alike. Of photos that are alike the
first is enough: each is worth as much of that as it is unlike what is labelled or chosen already (Sener and Savarese
2018). What works beside doubt depends on how much photos repeat each other (Mittal et al. 2023): where they do, as in
films, a photo also counts as much as it is like those of val, on which the network is to do well.
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

REDUNDANT = 0.6  # between camvid's 0.73, of films, and voc-animals' 0.47
TILE = 64  # px of the small photo, the side of a part that may be labelled alone
_MOST = 0.5  # of what a photo would teach: so much lies in the parts that are named
_ROWS = 512  # of a matrix of likenesses at once
_CLOSE = 4  # power of the likeness to photos of val
_RARE = 1e-3  # share of the pixels, below which a class counts as no rarer


@dataclass(frozen=True)
class Doubt:
    """What networks are unsure of in a photo.

    Args:
        unsure: (rows, columns, K) of tiles: p (1 - p) of a class's mean probability p, summed over cells.
        shares: (K,) of the photo's pixels, as the networks see it.
        cells: of the whole photo.
    """

    unsure: Floats
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
        redundancy: of the photos to choose from: mean likeness to the one that looks most like it, 1 where all have a
            copy.
        like_val: whether photos counted as much as they are like val's: from `REDUNDANT` on, if there is a val.
    """

    choices: tuple[Choice, ...]
    redundancy: float
    like_val: bool


def label_next(
    heads: Sequence[SharpHead], train: Sequence[Small], val: Sequence[Small], photos: Sequence[Small], number: int
) -> LabelNext:
    """Choose a batch of photos to label.

    Args:
        heads: trained on train with different seeds.
        train: samples with label maps.
        val: what the network is to do well on; its label maps are not looked at. Empty: anything.
        photos: without label maps.
        number: of photos to choose, at most all.
    """
    doubts = [doubt_of(heads, one) for one in progress(photos, what="what networks doubt", total=len(photos))]
    taught = teaching(doubts)
    looks = standard_looks([*train, *photos, *val])
    of_train, of_photos, of_val = np.split(looks, [len(train), len(train) + len(photos)])
    repeated = redundancy(standard_looks(photos))
    sums = np.array([one.sum() for one in taught])
    like_val = repeated >= REDUNDANT and len(val) > 0
    if like_val:
        sums *= relevance(of_photos, of_val)
    middle = float(np.median(sums)) or 1.0
    names = [one.name for one in (*train, *photos)]
    choices = []
    for place, nearest, likeness in in_order(sums, of_photos, of_train, number):
        photo, one = photos[place], taught[place]
        classes, parts = _most(one.sum((0, 1))), _parts(one.sum(-1), photo.size)
        choices.append(Choice(photo.name, float(sums[place] / middle), classes, names[nearest], likeness, parts))
    return LabelNext(tuple(choices), repeated, like_val)


def doubt_of(heads: Sequence[SharpHead], photo: Small) -> Doubt:
    """What networks are unsure of in one photo."""
    shares = torch.stack([cells_seen(head, photo)[1].softmax(0) for head in heads]).mean(0).numpy()  # (K, h, w)
    side = TILE // heads[0].taps[heads[0].first].stride
    down, across = (range(0, length, side) for length in shares.shape[1:])
    unsure = (shares * (1 - shares)).astype(np.float64)
    of_tiles = np.add.reduceat(np.add.reduceat(unsure, down, axis=1), across, axis=2).transpose(1, 2, 0)
    return Doubt(of_tiles, shares.mean((1, 2)).astype(np.float64), shares[0].size)


def teaching(doubts: Sequence[Doubt]) -> list[Floats]:
    """What labels would teach, (rows, columns, K) a photo: each class's doubt over its share of all photos."""
    common = np.mean([one.shares for one in doubts], 0) + _RARE
    return [one.unsure / one.cells / common for one in doubts]


def in_order(taught: Floats, looks: Floats, labelled: Floats, number: int) -> list[tuple[int, int, float]]:
    """Photos, greedily by what each would teach times how unlike it is to what is labelled or chosen.

    Args:
        taught: (P,) of each photo.
        looks: (P, C) of each, see `standard_looks`; `labelled`: (S, C) of the samples.
    Returns: place of each photo; place of what is most like it, counted through the samples, then the photos; likeness.
    """
    nearest, likeness = _nearest(looks, labelled)
    left = np.ones(len(taught), bool)
    order: list[tuple[int, int, float]] = []
    for _ in range(min(number, len(taught))):
        place = int(np.where(left, taught * (1 - likeness), -np.inf).argmax())
        order.append((place, int(nearest[place]), float(likeness[place])))
        left[place] = False
        to_chosen = looks @ looks[place]
        nearest = np.where(to_chosen > likeness, len(labelled) + place, nearest)
        likeness = np.maximum(likeness, to_chosen)
    return order


def standard_looks(photos: Sequence[Small]) -> Floats:
    """(P, C) how photos look, of length 1: means of the coarsest maps, standardised over the photos. The product of two
    is their likeness, -1 to 1.
    """
    looks = np.stack([_look(one) for one in photos])
    looks = (looks - looks.mean(0)) / (looks.std(0) + 1e-6)
    return np.asarray(looks / np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-6))


def relevance(looks: Floats, wished: Floats) -> Floats:
    """(P,) how much photos are like some that are wished for; (P, C) and (V, C) looks.

    Mean over these of the likeness to the power of 4: what is not alike hardly counts.
    """
    parts = [looks[first : first + _ROWS] @ wished.T for first in range(0, len(looks), _ROWS)]
    return np.concatenate([(np.maximum(part, 0) ** _CLOSE).mean(1) for part in parts])


def redundancy(looks: Floats) -> float:
    """Mean over photos of the likeness to the other that looks most like it; (P, C) looks; 0 for one photo alone."""
    if len(looks) < 2:
        return 0.0
    return float(_nearest(looks, looks, itself=False)[1].mean())


def _nearest(looks: Floats, others: Floats, *, itself: bool = True) -> tuple[NDArray[np.int64], Floats]:
    """(P,) place of the one of (S, C) others that is most like each of (P, C), and the likeness; some rows at a time.

    Args:
        itself: whether the place of the same number counts.
    """
    places, likeness = np.zeros(len(looks), np.int64), np.zeros(len(looks))
    for first in range(0, len(looks), _ROWS):
        rows = np.arange(first, min(first + _ROWS, len(looks)))
        products = looks[rows] @ others.T
        if not itself:
            products[rows - first, rows] = -np.inf
        places[rows], likeness[rows] = products.argmax(1), products.max(1)
    return places, likeness


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
