"""What label maps hold: the ids and colours of one, and of all together. Road: labels, before a space is decided.

In: decoded label maps. Out: counts. Knows no label space, no files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.labels.decode import Raw, unpack
from fullconv.labels.space import Colour, Value

MOST_KEPT = 1024  # of the values of one label map; a label map has far fewer, a photo far more


@dataclass(frozen=True, slots=True)
class Holds:
    """What one label map holds.

    Args:
        size: (H, W) as in the file.
        ids: id -> pixels, or None if the file is in colours.
        colours: RGB -> pixels, or None if the file holds numbers of more than 8 bits.
        distinct: how many different ids or colours there are, also where they are too many to be kept.
    """

    size: tuple[int, int]
    form: str
    file_format: str
    translucent: bool
    has_palette: bool
    ids: Mapping[int, int] | None
    colours: Mapping[Colour, int] | None
    distinct: int

    def values(self, *, in_colours: bool) -> dict[Value, int]:
        """Colour or id -> pixels; empty if the file does not hold that kind."""
        counts: dict[Value, int] = {}
        if in_colours:
            counts.update((colour, pixels) for colour, pixels in (self.colours or {}).items())
        else:
            counts.update((number, pixels) for number, pixels in (self.ids or {}).items())
        return counts


@dataclass(frozen=True)
class Held:
    """What all label maps of a data set hold.

    Args:
        ids: id -> number of label maps with it, or None if any map is in colours.
        colours: RGB -> number of label maps with it, or None if any map holds more than 8 bits.
        palette: id -> RGB where all maps that have a palette agree on it; None if there is none or they disagree.
        palettes_differ: whether one id has different colours in different files.
        forms: (form, file format) -> number of label maps.
        distinct: different ids, or colours, in all maps or in the richest one.
    """

    maps: int
    ids: Mapping[int, int] | None
    colours: Mapping[Colour, int] | None
    palette: Mapping[int, Colour] | None
    palettes_differ: bool
    forms: Mapping[tuple[str, str], int]
    distinct: int


def holds(raw: Raw) -> Holds:
    """Count the values of one label map."""
    ids = _counts(raw.ids) if raw.ids is not None else None
    if raw.colours is not None:
        packed = _counts(raw.colours)
        colours: dict[Colour, int] | None = {unpack(value): pixels for value, pixels in packed.items()}
        distinct = len(packed)
    else:
        assert ids is not None
        distinct = len(ids)
        colours = _colours_of_ids(ids, raw)
    return Holds(
        size=raw.size,
        form=raw.form,
        file_format=raw.file_format,
        translucent=raw.translucent,
        has_palette=raw.palette is not None,
        ids=_most(ids),
        colours=_most(colours),
        distinct=distinct,
    )


def held(maps: Iterable[tuple[Holds, Mapping[int, Colour]]]) -> Held:
    """Sum up label maps, each with the part of its palette that it uses (empty where it has none)."""
    listed = list(maps)
    ids = [one.ids for one, _ in listed]
    colours = [one.colours for one, _ in listed]
    used: dict[int, set[Colour]] = {}
    for _, palette in listed:
        for index, colour in palette.items():
            used.setdefault(index, set()).add(colour)
    differ = any(len(choices) > 1 for choices in used.values())
    in_ids, in_colours = _sum(ids), _sum(colours)
    values = in_ids if in_ids is not None else in_colours if in_colours is not None else {}
    return Held(
        maps=len(listed),
        ids=in_ids,
        colours=in_colours,
        palette={index: next(iter(c)) for index, c in sorted(used.items())} if used and not differ else None,
        palettes_differ=differ,
        forms=Counter((one.form, one.file_format) for one, _ in listed),
        distinct=max([len(values), *(one.distinct for one, _ in listed)]),
    )


def _counts(values: NDArray[Any]) -> dict[int, int]:
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    # by runs: a label map has few, so that only run heads are sorted
    flat = values.ravel()
    heads = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    lengths = np.diff(np.append(heads, flat.size))
    found, which = np.unique(flat[heads], return_inverse=True)
    pixels = np.bincount(which, weights=lengths)
    return {int(value): int(number) for value, number in zip(found, pixels, strict=True)}


def _colours_of_ids(ids: Mapping[int, int], raw: Raw) -> dict[Colour, int] | None:
    if raw.palette is None:
        grey = raw.ids is not None and raw.ids.dtype == np.uint8
        return {(value, value, value): pixels for value, pixels in ids.items()} if grey else None
    colours: dict[Colour, int] = {}
    for index, pixels in ids.items():
        colours[raw.palette[index]] = colours.get(raw.palette[index], 0) + pixels
    return colours


def _most(counts: Mapping[Any, int] | None) -> dict[Any, int] | None:
    if counts is None or len(counts) <= MOST_KEPT:
        return None if counts is None else dict(counts)
    return dict(sorted(counts.items(), key=lambda entry: -entry[1])[:MOST_KEPT])


def _sum(parts: Iterable[Mapping[Any, int] | None]) -> dict[Any, int] | None:
    total: Counter[Any] = Counter()
    for part in parts:
        if part is None:
            return None
        total.update(part.keys())
    return dict(sorted(total.items()))
