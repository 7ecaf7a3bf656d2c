"""Two segmenters without a network: by colour, by small patches. Road: train, a mark for what the FCN scores.

In: samples. Out: a function photo (H, W, 3) -> label map (H, W), as `measure` takes them. Knows no torch, no files.

Classifying a patch round every pixel is how dense prediction was done before FCN. Both are sized for the demo: the
forest learns from 20,000 pixels with 30 trees and scores every second row and column, so that fitting and 40 photos of
192x256 take some ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base import seeds
from fullconv.data.samples import Sample

Segmenter = Callable[[NDArray[np.uint8]], NDArray[np.unsignedinteger[Any]]]

PATCH_PX = 15
TREES = 30
FOREST_PIXELS = 20_000
SCORED_EVERY_PX = 2
COLOURS_PER_CLASS = 8
COLOUR_PIXELS = 20_000


def nearest_colour(samples: Sequence[Sample], *, seed: int = 0) -> Segmenter:
    """Give every pixel the class of the nearest known colour: COLOURS_PER_CLASS colours a class, found by k-means.

    Args:
        samples: at least one; void pixels are left out.
        seed: of the drawn pixels and of k-means.
    Returns: photo (H, W, 3) uint8 -> label map (H, W).
    """
    from scipy.spatial import cKDTree
    from sklearn.cluster import KMeans

    pixels, labels = _drawn_pixels(samples, count=COLOUR_PIXELS, patch_px=1, seed=seed)
    known = []
    for label in np.unique(labels):
        colours = pixels[labels == label].astype(float)
        count = min(COLOURS_PER_CLASS, len(np.unique(colours, axis=0)))
        means = KMeans(count, n_init=1, random_state=seed).fit(colours).cluster_centers_
        known.append((np.full(count, label), means))
    classes = np.concatenate([label for label, _ in known])
    tree = cKDTree(np.concatenate([means for _, means in known]))

    def segment(photo: NDArray[np.uint8]) -> NDArray[np.unsignedinteger[Any]]:
        _, nearest = tree.query(photo.astype(float))
        return np.asarray(classes[nearest])

    return segment


def patch_forest(samples: Sequence[Sample], *, seed: int = 0) -> Segmenter:
    """Classify the PATCH_PX x PATCH_PX patch round a pixel by a random forest.

    It sees the patch's RGB values, and its brightness less the patch's mean (which lifts it by some points on scenes
    of any hue and light).

    Args:
        samples: at least one; void pixels are left out. Rare classes are drawn more often than they occur.
        seed: of the drawn pixels and of the trees.
    Returns: photo (H, W, 3) uint8 -> label map (H, W). Scored are every SCORED_EVERY_PX rows and columns, the pixels
        between take the nearest score.
    """
    from sklearn.ensemble import RandomForestClassifier

    patches, labels = _drawn_pixels(samples, count=FOREST_PIXELS, patch_px=PATCH_PX, seed=seed)
    forest = RandomForestClassifier(TREES, min_samples_leaf=2, n_jobs=2, random_state=seed)
    forest.fit(_features(patches), labels)

    def segment(photo: NDArray[np.uint8]) -> NDArray[np.unsignedinteger[Any]]:
        height, width = photo.shape[:2]
        windows = _patches(photo, PATCH_PX)[::SCORED_EVERY_PX, ::SCORED_EVERY_PX]  # (h, w, 3, PATCH_PX, PATCH_PX) view
        scored = np.empty(windows.shape[:2], labels.dtype)
        rows = max(1, 20_000 // windows.shape[1])  # 20,000 patches at a time are 72 MB
        for top in range(0, len(windows), rows):
            batch = windows[top : top + rows]
            scored[top : top + rows] = forest.predict(_features(batch.reshape(-1, 3 * PATCH_PX**2))).reshape(
                batch.shape[:2]
            )
        whole = scored.repeat(SCORED_EVERY_PX, axis=0).repeat(SCORED_EVERY_PX, axis=1)
        return whole[:height, :width]

    return segment


def _drawn_pixels(
    samples: Sequence[Sample], *, count: int, patch_px: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.unsignedinteger[Any]]]:
    """About `count` patches (n, 3 * patch_px^2) and the labels (n) of their middle pixels, evenly over the samples."""
    patches, labels = [], []
    per_sample = -(-count // len(samples))
    for index, sample in enumerate(samples):
        photo, label_map = sample.read()
        rows, columns = np.nonzero(label_map != sample.label_space.void)
        if not len(rows):
            continue
        truth = label_map[rows, columns]
        shares = np.bincount(truth) / len(truth)
        likely = shares[truth] ** -0.8  # nearly all classes alike: scored better than as found, and than quite alike
        generator = seeds.rng(seed, "baseline", index)
        drawn = generator.choice(len(truth), min(per_sample, len(truth)), replace=False, p=likely / likely.sum())
        windows = _patches(photo, patch_px)[rows[drawn], columns[drawn]]
        patches.append(windows.reshape(len(drawn), -1))
        labels.append(truth[drawn])
    assert patches, "there must be at least one pixel that is not void"
    return np.concatenate(patches), np.concatenate(labels)


def _features(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 4 * PATCH_PX^2): RGB, then brightness less its mean."""
    values = patches.astype(np.float32)
    brightness = values.reshape(len(values), 3, -1).mean(axis=1)
    return np.hstack([values, brightness - brightness.mean(axis=1, keepdims=True)])


def _patches(photo: NDArray[np.uint8], patch_px: int) -> NDArray[np.uint8]:
    """(H, W, 3, patch_px, patch_px) view: the patch round every pixel; past the border the photo is mirrored."""
    reach = patch_px // 2
    padded = np.pad(photo, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    return np.lib.stride_tricks.sliding_window_view(padded, (patch_px, patch_px), axis=(0, 1))
