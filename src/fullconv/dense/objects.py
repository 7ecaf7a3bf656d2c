"""Label maps without label maps: what a classifier trained on class folders alone says of every pixel. Road: dense.

A class is taken to be in the photo where the classifier gives it a share of the whole photo's softmax; its score map is
brought to 0 .. 1 over the photo, and a pixel is the class that stands highest there, or background below a threshold.
Source of the threshold: Zhou et al. 2016 (class activation maps), section 3.2: a fifth of the map's largest value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.dense.full_size import DenseScores

PRESENT = 0.2  # least share of the softmax over the photo's mean scores
THRESHOLD = 0.2  # Zhou et al. 2016, 3.2


def object_labels(scores: DenseScores, *, present: float = PRESENT, threshold: float = THRESHOLD) -> NDArray[Any]:
    """(H, W) uint8: 0 is background, k + 1 the k-th class of the classifier.

    Args:
        scores: of K < 255 classes without background.
        present: least share, 0 to 1, of the softmax over mean scores that a class has to be looked for.
        threshold: a pixel is background where no class reaches this part of its largest value, 0 to 1.
    """
    means = np.concatenate([p.values.flatten(1).mean(1).numpy()[None] for p in scores.parts]).mean(0)
    shares = np.exp(means - means.max())
    found = np.flatnonzero(shares / shares.sum() >= present)
    if not len(found):
        found = np.array([int(means.argmax())])
    maps = np.maximum(scores.of([int(k) for k in found]), 0)
    heights = maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-12)
    best = heights.argmax(0)
    labels = np.where(heights.max(0) >= threshold, found[best] + 1, 0)
    return labels.astype(np.uint8)
