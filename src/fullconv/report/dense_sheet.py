"""Ways of dense prediction side by side. Road: report. In: what each way gave for one photo. Out: a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fullconv.report.sheets import LINES, Cell, heat, laid_over, rgb, sheet

LONGEST_PX = 320
OTHER = (190, 190, 190)  # a class that has no colour of its own
Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class WayShown:
    """What one way gave: the best class and its share of the softmax at every pixel, some classes' scores, its cost."""

    way: str
    labels: NDArray[Any]
    shares: NDArray[np.float32]
    maps: NDArray[np.float32]
    seconds: float
    peak_bytes: float | None

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Its cost and the classes that lead at the most pixels."""
        return {
            "way": self.way,
            "seconds": round(self.seconds, 4),
            "peak_bytes": self.peak_bytes,
            "classes": [
                {"id": k, "name": names[k], "share": round(float((self.labels == k).mean()), 4)}
                for k in leading(self.labels, 5)
            ],
        }


def leading(labels: NDArray[Any], count: int) -> list[int]:
    """The classes that lead at the most pixels, the most first."""
    pixels = np.bincount(labels.ravel())
    return [int(k) for k in np.argsort(-pixels, kind="stable")[:count] if pixels[k]]


def dense_sheet(photo: Picture, ways: Sequence[WayShown], classes: Sequence[int], names: Sequence[str]) -> Image.Image:
    """A row a way: the class that leads at every pixel, then the map of each class over the photo.

    Args:
        photo: (H, W, 3) uint8.
        classes: whose maps the ways hold.
        names: of all classes.
    """
    coloured = list(dict.fromkeys([*classes, *(k for way in ways for k in leading(way.labels, 4))]))[: len(LINES)]
    cells = []
    for way in ways:
        memory = "" if way.peak_bytes is None else f", {way.peak_bytes / 1e6:,.0f} MB"
        most = [f"{short(names[k])} {(way.labels == k).mean():.0%}" for k in leading(way.labels, 3)]
        cells.append(
            Cell(small(over(photo, way.labels, coloured)), f"{way.way}: {way.seconds:.2f} s{memory}", ", ".join(most))
        )
        for k, values in zip(classes, way.maps, strict=True):
            note = f"{way.way}; score {values.min():.1f} to {values.max():.1f}"
            cells.append(Cell(small(laid_over(photo, heat(values))), short(names[k]), note))
    cells.append(Cell(legend(len(coloured)), "colours", "; ".join(short(names[k]) for k in coloured) + "; others grey"))
    return sheet(cells, columns=1 + len(classes))


def legend(count: int) -> Picture:
    """Stripes of the colours, in the order of the classes."""
    width = LONGEST_PX // max(count, 1)
    return np.repeat(np.repeat(np.array([[rgb(c) for c in LINES[:count]]], np.uint8), width, axis=1), 24, axis=0)


def over(photo: Picture, labels: NDArray[Any], coloured: Sequence[int]) -> Picture:
    """The leading classes in their colours over the grey photo, all others grey."""
    table = np.full((int(labels.max()) + 1, 3), OTHER, np.uint8)
    for k, colour in zip(coloured, LINES, strict=False):
        if k < len(table):
            table[k] = rgb(colour)
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    return np.asarray((0.55 * table[labels] + 0.45 * grey).round(), np.uint8)


def small(picture: Picture) -> Picture:
    """Its longer side LONGEST_PX."""
    factor = LONGEST_PX / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def short(name: str) -> str:
    """ImageNet's names are lists: the first."""
    return name.partition(",")[0]
