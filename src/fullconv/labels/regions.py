"""Connected regions of a label map, all classes at once. Road: labels. Knows no label space, no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]


def regions(labels: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
    """The connected regions of equal value, joined by edges, not by corners.

    Runs of equal pixels within a row are the nodes of a graph, joined where two runs of equal value lie above each
    other: a map has far fewer runs than pixels.

    Args:
        labels: (H, W) whole numbers, not empty.
    Returns: (R,) the value of each region, (R,) its pixels; in no order that means anything.

    >>> values, pixels = regions(np.array([[0, 1, 0], [1, 1, 0]]))
    >>> sorted(zip(values.tolist(), pixels.tolist()))
    [(0, 1), (0, 2), (1, 3)]
    """
    begins = np.ones(labels.shape, bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = begins.ravel().cumsum(dtype=np.int32).reshape(labels.shape) - 1
    firsts = np.flatnonzero(begins)
    meets = (labels[1:] == labels[:-1]) & (begins[1:] | begins[:-1])  # where two runs first lie above each other
    above, below = run[:-1][meets], run[1:][meets]
    graph = coo_array((np.ones(len(above), np.int8), (above, below)), shape=(len(firsts), len(firsts)))
    number, region = connected_components(graph, directed=False)
    values = np.empty(number, labels.dtype)
    values[region] = labels.ravel()[firsts]
    lengths = np.diff(firsts, append=labels.size)
    return values, np.bincount(region, lengths, number).astype(np.int64)
