"""How sure a score is: bootstrap over images. Road: measure. In: counts per image. Out: intervals. Knows no files.

Pixels of one photo are not independent, photos nearly are; so whole photos are drawn again, with replacement.
A draw of N photos is a vector of N multinomial counts, and the sums of all draws are one product of matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.seeds import rng

LEVEL = 0.95
METHOD = "percentile bootstrap over images"
RESAMPLES = 1000
_CELLS_A_BLOCK = 2_000_000  # draws x images held at once: 16 MB

Interval = tuple[float, float]


def resampled_sums(counts: NDArray[Any], *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Sum the counts of N images drawn again with replacement, many times.

    Args:
        counts: (N, M) numbers of each image.
        resamples: how many draws, R.
        seed: draws depend on the seed and on N alone, so two tables of the same photos are drawn alike (paired).
    Returns: (R, M) float64; of whole numbers exact below 2**53.
    """
    images = len(counts)
    generator, table = rng(seed, "bootstrap"), counts.astype(np.float64)
    rows = max(1, _CELLS_A_BLOCK // images)
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    shares = np.full(images, 1 / images)
    return np.concatenate([generator.multinomial(images, shares, size=size) @ table for size in blocks])


def percentiles(values: NDArray[np.floating[Any]], *, level: float = LEVEL) -> NDArray[np.float64]:
    """(2, ...) low and high ends of the middle `level` of each column of `values` (R, ...); NaN draws are left out."""
    ends = ((1 - level) / 2, (1 + level) / 2)
    columns = values.reshape(len(values), -1).T
    kept = [column[~np.isnan(column)] for column in columns]
    found = [np.quantile(column, ends) if column.size else (np.nan, np.nan) for column in kept]
    return np.asarray(found, np.float64).T.reshape(2, *values.shape[1:])
