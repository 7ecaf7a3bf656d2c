"""Names of samples that are unique over the splits. Knows no pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fullconv.data.formats.listing import Pair


def unique_names(splits: Mapping[str, tuple[Pair, ...]]) -> dict[str, tuple[Pair, ...]]:
    """The same pairs; if a name is in two splits, all names are given their split in front: `train/0001`."""
    names = [pair.name for pairs in splits.values() for pair in pairs]
    if len(set(names)) == len(names):
        return dict(splits)
    return {
        split: tuple(replace(pair, name=f"{split}/{pair.name}") for pair in pairs) for split, pairs in splits.items()
    }
