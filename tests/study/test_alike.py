"""Photos that are alike are found wherever they stand, and whatever light lies over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.data.formats.listing import Pair
from fullconv.study import alike as module
from fullconv.study.alike import alike
from fullconv.study.examine import examine

COPIES = {(1, 9): "near", (3, 6): "near", (2, 8): "exact"}


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """Ten photos: the first is flat, 9 is 1 saved anew, 6 is 3 under a little more light, 8 the file of 2."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10, 12, 16, 3), np.uint8)
    coarse[0] = 90
    pictures = [Image.fromarray(one).resize((160, 120), Image.Resampling.BICUBIC) for one in coarse]
    lit = np.asarray(pictures[3], np.float32) + np.linspace(0, 40, 160)[:, None]
    pictures[6] = Image.fromarray(lit.clip(0, 255).astype(np.uint8))
    found = []
    for place, picture in enumerate(pictures):
        photo, label_map = tmp_path / f"{place}.jpg", tmp_path / f"{place}.png"
        picture.save(photo, quality=90)
        labels = Image.fromarray(np.full((120, 160), place % 2, np.uint8))
        labels.putpalette([10, 20, 30, 40, 50, 60])
        labels.save(label_map)
        found.append(Pair(str(place), photo, label_map))
    Image.open(found[1].photo).save(found[9].photo, quality=40)
    found[8].photo.write_bytes(found[2].photo.read_bytes())
    return found


@pytest.mark.parametrize("block", [2, 2048])
def test_copies_are_found_across_blocks(pairs: list[Pair], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    photos = [look.photo for look in examine(pairs)]
    found = {(one.first, one.second): one for one in alike(photos, [pair.photo for pair in pairs])}
    assert {places: one.kind for places, one in found.items()} == COPIES
    assert found[2, 8].likeness == 1
    assert all(0.9 <= one.likeness <= 1 for one in found.values())


def test_a_photo_that_is_gone_by_then_is_like_no_other(pairs: list[Pair]) -> None:
    photos = [look.photo for look in examine(pairs)]
    pairs[9].photo.write_bytes(b"")
    found = {(one.first, one.second) for one in alike(photos, [pair.photo for pair in pairs])}
    assert found == set(COPIES) - {(1, 9)}


def test_light_over_half_a_photo_makes_no_copy_of_another(pairs: list[Pair]) -> None:
    """Coarse light and shade alone is taken off before photos are compared."""
    shade = np.linspace(30, 220, 160)[None, :, None] * np.ones((120, 1, 3))
    for place in (4, 5):
        detail = np.random.default_rng(place).normal(0, 6, (120, 160, 3))
        Image.fromarray((shade + detail).clip(0, 255).astype(np.uint8)).save(pairs[place].photo, quality=95)
    photos = [look.photo for look in examine(pairs)]
    assert (4, 5) not in {(one.first, one.second) for one in alike(photos, [pair.photo for pair in pairs])}


def test_looks_share_what_they_have_in_common(pairs: list[Pair]) -> None:
    maps = [look.label_map for look in examine(pairs)]
    one, other = (found.holds.colours for found in (maps[0], maps[2]) if found is not None)
    assert one is not None
    assert other is not None
    assert next(iter(one)) is next(iter(other))
