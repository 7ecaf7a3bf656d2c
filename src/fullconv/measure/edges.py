"""How well edges are met. Road: measure. In: two label maps. Out: counts, and scores from them. Knows no files.

Three measures, all from counts that add up over photos:
- `boundary_f1`: of the outline pixels of a class, the share within a tolerance of the other map's outline; precision
  and recall, then their harmonic mean (Csurka et al. 2013). Tolerance: 0.75% of the photo's diagonal.
- `boundary_iou`: IoU of the inner bands along the outlines of a class (Cheng et al. 2021). Band: 2% of the diagonal.
- `trimap_iou`: mean IoU over the pixels within so many pixels of any true edge (Krähenbühl and Koltun 2011).

Void: where edges are sought, a void pixel takes the nearest class, so that an edge that was drawn as a void line (as in
PASCAL VOC) runs along the middle of that line; an outline deeper inside void than the band is not counted; and no
void pixel is ever in a band. The border of the photo is no edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from fullconv.labels.space import LabelSpace
from fullconv.measure.ratios import Floats, iou, mean, number, ratio

TOLERANCE = 0.0075  # of the diagonal
BAND = 0.02  # of the diagonal
TRIMAP_PX = (2, 4, 8, 16)
Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """Counts along the edges, of one photo or of many.

    Args:
        outline: (4, K) outline pixels: in the truth, those met by the guess; in the guess, those met by the truth.
        band: (3, K) pixels of the inner bands: in the truth, in the guess, in both.
        trimap: (4, 3, K) pixels near a true edge, for each width of `TRIMAP_PX`: truth, guess, hit.
        tolerance_px, band_px: least and greatest used.
    """

    outline: NDArray[np.int64]
    band: NDArray[np.int64]
    trimap: NDArray[np.int64]
    tolerance_px: tuple[int, int]
    band_px: tuple[int, int]

    @property
    def class_boundary_f1(self) -> Floats:
        """(K,) harmonic mean of outline precision and recall; NaN for a class without any outline."""
        truth, truth_met, guess, guess_met = self.outline
        precision, recall = np.nan_to_num(ratio(guess_met, guess)), np.nan_to_num(ratio(truth_met, truth))
        return np.where(truth + guess > 0, np.nan_to_num(ratio(2 * precision * recall, precision + recall)), np.nan)

    @property
    def class_boundary_iou(self) -> Floats:
        """(K,) IoU of the inner bands; NaN for a class without any."""
        return iou(*self.band)

    @property
    def boundary_f1(self) -> float:
        """Mean over the classes that have an outline."""
        return float(mean(self.class_boundary_f1))

    @property
    def boundary_iou(self) -> float:
        """Mean over the classes that have a band."""
        return float(mean(self.class_boundary_iou))

    @property
    def trimap_iou(self) -> dict[int, float]:
        """Width in pixels -> mean IoU within that distance of a true edge."""
        return {width: float(mean(iou(*counts))) for width, counts in zip(TRIMAP_PX, self.trimap, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """The part `edges` of the scores' document; a pair of pixels is the least and the greatest over the photos."""
        return {
            "boundary_f1": number(self.boundary_f1),
            "boundary_f1_tolerance_px": list(self.tolerance_px),
            "boundary_iou": number(self.boundary_iou),
            "boundary_iou_band_px": list(self.band_px),
            "trimap_iou": {str(width): number(value) for width, value in self.trimap_iou.items()},
            "classes": [
                {"boundary_f1": number(f1), "boundary_iou": number(overlap)}
                for f1, overlap in zip(self.class_boundary_f1, self.class_boundary_iou, strict=True)
            ],
        }


def edges(truth: Labels, guess: Labels, space: LabelSpace) -> EdgeScores:
    """Count along the edges of one photo.

    Args:
        truth: (H, W) label map, void allowed.
        guess: (H, W) label map; what it holds where the truth is void is not judged.
        space: gives the K classes and the void id.
    Example: a square predicted one pixel too far right meets every outline at a tolerance of 1 pixel.
    """
    diagonal = float(np.hypot(*truth.shape))
    tolerance, band = max(1, round(TOLERANCE * diagonal)), max(1, round(BAND * diagonal))
    judged = truth != space.void
    truth, depth = _void_filled(truth, judged)
    guess = np.where(judged | (guess < space.size), guess, truth)
    outline, bands = np.zeros((4, space.size), np.int64), np.zeros((3, space.size), np.int64)
    if judged.any():
        for index in np.union1d(truth, guess):
            box = _box((truth == index) | (guess == index))
            pair = (truth[box] == index, guess[box] == index)
            outline[:, index], bands[:, index] = _of_one_class(*pair, depth[box], tolerance, band)
    trimap = _trimaps(truth, guess, judged, space.size)
    return EdgeScores(outline, bands, trimap, (tolerance, tolerance), (band, band))


def add_edges(first: EdgeScores, second: EdgeScores) -> EdgeScores:
    """The counts of both."""
    return EdgeScores(
        first.outline + second.outline,
        first.band + second.band,
        first.trimap + second.trimap,
        _span(first.tolerance_px, second.tolerance_px),
        _span(first.band_px, second.band_px),
    )


def _of_one_class(
    truth: Mask, guess: Mask, depth: Floats, tolerance: int, band: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Outline and band counts of one class; `depth` is how far inside void a pixel lies, 0 outside."""
    truth_line, guess_line = _outline(truth), _outline(guess)
    to_truth, to_guess = _distance(truth_line), _distance(guess_line)
    truth_band, guess_band = truth & (to_truth < band) & (depth == 0), guess & (to_guess < band) & (depth == 0)
    truth_line, guess_line = truth_line & (depth <= band), guess_line & (depth <= band)
    met = truth_line & (to_guess <= tolerance), guess_line & (to_truth <= tolerance)
    lines = (truth_line, met[0], guess_line, met[1])
    return tuple(map(_count, lines)), tuple(map(_count, (truth_band, guess_band, truth_band & guess_band)))


def _trimaps(truth: Labels, guess: Labels, judged: Mask, classes: int) -> NDArray[np.int64]:
    to_edge = _distance(_edge(truth))
    return np.stack([_three_counts(truth, guess, judged & (to_edge < width), classes) for width in TRIMAP_PX])


def _three_counts(truth: Labels, guess: Labels, where: Mask, classes: int) -> NDArray[np.int64]:
    true, guessed = truth[where], guess[where]
    return np.stack([np.bincount(part, minlength=classes) for part in (true, guessed, true[true == guessed])])


def _void_filled(truth: Labels, judged: Mask) -> tuple[Labels, Floats]:
    """The label map with the nearest class in void pixels, and how deep in void each pixel lies."""
    if judged.all() or not judged.any():
        return truth, np.where(judged, 0.0, np.inf)
    depth, (rows, columns) = distance_transform_edt(~judged, return_indices=True)
    return truth[rows, columns], depth


def _edge(labels: NDArray[Any]) -> Mask:
    """Pixels with a neighbour above, below, left or right of another label."""
    edge = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def _outline(mask: Mask) -> Mask:
    return mask & _edge(mask)


def _distance(line: Mask) -> Floats:
    """Distance in pixels to the nearest pixel of the line; infinite where there is no line."""
    return np.asarray(distance_transform_edt(~line)) if line.any() else np.full(line.shape, np.inf)


def _box(mask: Mask) -> tuple[slice, slice]:
    """The smallest box that holds the mask, one pixel wider so that outlines stay outlines."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, rows[0] - 1), rows[-1] + 2),
        slice(max(0, columns[0] - 1), columns[-1] + 2),
    )


def _count(mask: Mask) -> int:
    return int(mask.sum())


def _span(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return min(first[0], second[0]), max(first[1], second[1])
