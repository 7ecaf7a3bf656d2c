"""The last layer of a network fitted anew: in a second, what tells how a training on other samples would end.

Road: study, before the value of samples. In: features before the last layer, of some cells of each sample. Out: the
layer's weights; what its scores say of each class; what each sample does to that. Knows no files, no torch.

Source: influence of a training sample by one Newton step from the optimum (Koh and Liang 2017, equation 2), here on
recall and precision made smooth by taking sharpened probabilities for answers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import softmax

Floats = NDArray[np.float64]
DECAY = 1e-4  # of the squared weights, beside the mean loss of a cell
_STEPS = 100
_SHARP = 4.0  # times the scores: else rare classes, which weigh more, seem to be guessed a little everywhere


@dataclass(frozen=True)
class Cells:
    """Some cells of each sample.

    Args:
        features: (S, M, D) of M cells of S samples, with a last feature that is 1 everywhere.
        labels: (S, M) class ids; K for cells that do not count.
        weights: (K,) what a cell of each class counts in the loss.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: Floats

    @property
    def classes(self) -> int:
        """K."""
        return len(self.weights)

    def of(self, samples: NDArray[np.bool_]) -> Cells:
        """Those of some samples: (S,) whether to keep each."""
        return Cells(self.features[samples], self.labels[samples], self.weights)

    def counted(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """(N, D) features and (N, K) one-hot labels of the cells that count, and the sample of each."""
        sample, cell = np.nonzero(self.labels < self.classes)
        labels = self.labels[sample, cell]
        return self.features[sample, cell].astype(np.float64), np.eye(self.classes)[labels], sample

    def shares(self, truth: Floats) -> Floats:
        """(N,) what each cell that counts is in the mean loss, from its one-hot label; sums to 1."""
        counts = truth @ self.weights
        return np.asarray(counts / counts.sum())


def refit(cells: Cells, start: Floats | None = None) -> Floats:
    """(D, K) weights with the least mean softmax loss, cells weighted, and `DECAY` / 2 of the squared weights.

    Args:
        start: weights to begin at.
    """
    features, truth, _ = cells.counted()
    shape, shares = (features.shape[1], cells.classes), cells.shares(truth)

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        scores = features @ weights
        top = scores.max(1, keepdims=True)
        total = np.log(np.exp(scores - top).sum(1)) + top[:, 0]
        wrong = (softmax(scores, axis=1) - truth) * shares[:, None]
        value = float(shares @ (total - (scores * truth).sum(1)) + DECAY / 2 * (weights**2).sum())
        return value, (features.T @ wrong + DECAY * weights).ravel()

    first = np.zeros(shape) if start is None else start
    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(found.x.reshape(shape))


def measures(cells: Cells, weights: Floats) -> Floats:
    """(2, K): smooth recall and precision of each class on these cells; 0 where a class does not occur."""
    features, truth, _ = cells.counted()
    guess = softmax(_SHARP * features @ weights, axis=1)
    hits = (guess * truth).sum(0)
    return np.stack([hits / np.maximum(whole, 1e-9) for whole in (truth.sum(0), guess.sum(0))])


def effects(train: Cells, val: Cells, weights: Floats) -> Floats:
    """(S, 2, K): what each sample of train adds to recall and precision of each class on val, see `measures`.

    To first order, about weights that were fitted on train: the difference between having the sample and not.
    """
    features, truth, sample = train.counted()
    guess = softmax(features @ weights, axis=1)
    ends = np.searchsorted(sample, np.arange(len(train.labels) + 1))
    parts = [slice(first, last) for first, last in itertools.pairwise(ends)]
    shares = train.shares(truth)
    short = (truth - guess) * shares[:, None]
    pull = np.stack([short[part].T @ features[part] for part in parts])  # (S, K, D)
    move = cho_solve(cho_factor(_curvature(features, guess, shares)), pull.reshape(len(pull), -1).T)
    slopes = _slopes(val, weights).transpose(0, 1, 3, 2).reshape(2 * val.classes, -1)
    return np.asarray((slopes @ move).T.reshape(-1, 2, val.classes))


def _curvature(features: Floats, guess: Floats, shares: Floats) -> Floats:
    """(K D, K D): second derivatives of the loss, class by class; (N,) shares of the cells in it."""
    classes, size = guess.shape[1], features.shape[1]
    whole = np.empty((classes, size, classes, size))
    for one in range(classes):
        for other in range(one, classes):
            weight = shares * guess[:, one] * ((one == other) - guess[:, other])
            whole[one, :, other] = (features * weight[:, None]).T @ features
            whole[other, :, one] = whole[one, :, other].T
    return whole.reshape(classes * size, -1) + DECAY * np.eye(classes * size)


def _slopes(cells: Cells, weights: Floats) -> Floats:
    """(2, K, D, K): how the measures of each class change with each weight."""
    features, truth, _ = cells.counted()
    guess = softmax(_SHARP * features @ weights, axis=1)
    hits, given, guessed = (guess * truth).sum(0), np.maximum(truth.sum(0), 1e-9), np.maximum(guess.sum(0), 1e-9)
    # of each measure by the probability of its own class at a cell that is of the class, and at one that is not
    of_class = np.stack([1 / given, (guessed - hits) / guessed**2])
    of_others = np.stack([np.zeros_like(given), -hits / guessed**2])
    slopes = np.empty((2, cells.classes, *weights.shape))
    for index in range(cells.classes):
        by_score = _SHARP * guess[:, index, None] * (np.eye(cells.classes)[index] - guess)  # (N, K)
        here = truth[:, index] > 0
        at_class, at_others = features[here].T @ by_score[here], features[~here].T @ by_score[~here]
        slopes[:, index] = of_class[:, index, None, None] * at_class + of_others[:, index, None, None] * at_others
    return slopes
