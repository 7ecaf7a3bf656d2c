"""What a picture looks like that is no label map: a photo, a JPEG, smoothed edges, instance ids. Road: data.

In: label maps that hold suspiciously many values. Out: an error with the name of what it looks like. Knows no space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import LabelSpaceError
from fullconv.data.survey import PairFacts
from fullconv.labels.decide import MOST_FOUND
from fullconv.labels.decode import Drawn, decode
from fullconv.labels.held import Held, Holds

_LOOKED_AT = 8
_SUSPICIOUS = 4  # ids or colours; with fewer there is nothing between
_MANY = 65  # a photo holds more; drawn noise of a few ids is none
_RARE = 0.01  # a value on fewer pixels than this share of its map may be the blend of two others
_SINGLE = 0.003  # of all pixels: maps of camvid and voc-animals have 0.0027 at most, by JPEG 0.0043 at least
_LONELY = 0.75  # share of a region's pixels that have a neighbour of the same value; regions have nearly 1


def check_looks(facts: Sequence[PairFacts], held: Held) -> None:
    """Stop if the label maps hold blends of values, or more values than classes can be.

    Raises: LabelSpaceError that names what they look like.
    """
    if held.distinct < _SUSPICIOUS:
        return
    rich = sorted(facts, key=lambda one: -one.holds.distinct)[:_LOOKED_AT]
    what = _look(rich)
    if what is None and held.distinct <= MOST_FOUND:
        return
    raise LabelSpaceError(
        f"a label map holds one id or colour a class, at most {MOST_FOUND} without a class file",
        f"{rich[0].pair.label_map.name} holds {rich[0].holds.distinct}, all together {held.distinct}: "
        + (what or "they look like ids of single things, not of classes"),
        _MEND.get(what or "", "give label maps of classes; or name every id in classes.txt"),
    )


PHOTO = "it looks like a photo saved as a label map"
JPEG = "it looks like a label map saved as JPEG, which blends values at edges"
SMOOTH = "it looks anti-aliased: edges were smoothed, so that values between two classes stand along them"
_MEND = {
    PHOTO: "check which folder holds the label maps: they and the photos may be exchanged",
    JPEG: "save the label maps as PNG, from the tool that drew them; or give classes.txt after mending them",
    SMOOTH: "save the label maps without smoothing (resize by nearest neighbour, PNG)",
}


def roughness(values: NDArray[Any]) -> float:
    """Pixels without an equal neighbour, over pixels that differ from one to the left or above: 0 to 1.

    Hands draw regions, whose edges run on: a few hundredths at most. JPEG and smoothing scatter values along them.
    0 where single pixels are few (`_SINGLE` of all): then they are specks.
    """
    edges = np.zeros(values.shape, bool)
    edges[:, 1:] |= values[:, 1:] != values[:, :-1]
    edges[1:] |= values[1:] != values[:-1]
    single = int((~_has_equal_neighbour(values)).sum())
    return single / int(edges.sum()) if single > _SINGLE * values.size else 0.0


def diagnosis(facts: Sequence[PairFacts]) -> str:
    """The same as a clause to add to an error, or nothing."""
    rich = [one for one in facts if one.holds.distinct >= _SUSPICIOUS]
    what = _look(sorted(rich, key=lambda one: -one.holds.distinct)[:_LOOKED_AT]) if rich else None
    return f"; {what}" if what else ""


def blend(values: NDArray[Any], holds: Holds) -> str | None:
    """What one label map looks like if not like one: `PHOTO`, `JPEG`, `SMOOTH`.

    Args:
        values: (H, W) ids, or packed colours.
        holds: what they hold.
    """
    if holds.distinct < _SUSPICIOUS:
        return None
    signs = _signs(values, holds.distinct)
    return PHOTO if signs is None else _verdict(*signs, jpeg=holds.file_format == "JPEG")


def _look(facts: Sequence[PairFacts]) -> str | None:
    totals = np.zeros(3, np.int64)
    for one in facts:
        signs = _signs(_values(one.pair.label_map), one.holds.distinct)
        if signs is None:
            return PHOTO
        totals += signs
    blends, lonely, pixels = totals.tolist()
    return _verdict(blends, lonely, pixels, jpeg=any(one.holds.file_format == "JPEG" for one in facts))


def _signs(values: NDArray[Any], distinct: int) -> tuple[int, int, int] | None:
    """Pixels with values between others, those of them without an equal neighbour, all pixels; None for a photo."""
    alone = ~_has_equal_neighbour(values)
    if distinct >= _MANY and alone.mean() > 1 - _LONELY:
        return None
    between = _is_between(values)
    return int(between.sum()), int((between & alone).sum()), values.size


def _verdict(blends: int, lonely: int, pixels: int, *, jpeg: bool) -> str | None:
    if blends and lonely > (1 - _LONELY) * blends and lonely > 1e-4 * pixels:
        return JPEG if jpeg else SMOOTH
    return None


def _values(path: Path | Drawn) -> NDArray[Any]:
    raw = decode(path)
    values = raw.ids if raw.ids is not None else raw.colours
    assert values is not None
    return values


def _has_equal_neighbour(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether any of a pixel's eight neighbours has its value."""
    alike = np.zeros(values.shape, bool)
    for here, there in (
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        same = values[here] == values[there]
        alike[here] |= same
        alike[there] |= same
    return alike


def _found(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The values there are, where each pixel's is among them, and how many pixels each has."""
    if values.dtype != np.uint8:
        found, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        return found, which.reshape(values.shape), counts
    pixels = np.bincount(values.ravel(), minlength=256)
    found = np.flatnonzero(pixels)
    place = np.zeros(256, np.uint8)
    place[found] = np.arange(len(found))
    return found, place[values], pixels[found]


def _is_between(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether a pixel's value is one of three or more rare ones that lie between common ones."""
    found, which, counts = _found(values)
    common = counts >= _RARE * values.size
    rare = ~common
    if common.sum() < 2:
        return np.zeros(values.shape, bool)
    between = rare & (found > found[common].min()) & (found < found[common].max())
    if between.sum() < 3:
        return np.zeros(values.shape, bool)
    return np.asarray(between[which])
