"""Photos of many kinds become RGB of 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.base.images import read_photo


@pytest.mark.parametrize(("largest", "white"), [(1023, 255), (4095, 255), (65535, 255), (40000, 156), (255, 255)])
def test_grey_of_more_than_8_bits_is_scaled_by_the_bits_that_it_uses(tmp_path: Path, largest: int, white: int) -> None:
    values = np.linspace(0, largest, 60).round().astype(np.uint16).reshape(6, 10)
    Image.fromarray(values).save(tmp_path / "grey.png")
    photo = read_photo(tmp_path / "grey.png")
    assert photo.shape == (6, 10, 3)
    assert (photo.min(), photo.max()) == (0, white)
