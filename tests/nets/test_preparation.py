"""From a photo's bytes to what a network reads."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from fullconv.base.errors import BundleError
from fullconv.nets.preparation import Preparation, from_unit_range

PHOTO = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def test_a_value_becomes_itself_less_the_mean_times_the_scale() -> None:
    made = Preparation("RGB", (1, 2, 3), (0.5, 1, 2)).prepare(PHOTO)
    assert made.shape == (3, 2, 3)
    assert made.dtype == torch.float32
    for c, (mean, scale) in enumerate(zip((1, 2, 3), (0.5, 1, 2), strict=True)):
        assert np.allclose(made[c], (PHOTO[..., c].astype(float) - mean) * scale)


def test_bgr_takes_mean_and_scale_in_its_own_order() -> None:
    made = Preparation("BGR", (10, 20, 30), (1, 1, 1)).prepare(PHOTO)
    assert np.allclose(made[0], PHOTO[..., 2] - 10.0)
    assert np.allclose(made[2], PHOTO[..., 0] - 30.0)


def test_the_usual_mean_and_deviation_are_translated() -> None:
    made = from_unit_range((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).prepare(PHOTO)
    assert np.allclose(made[1], (PHOTO[..., 1] / 255 - 0.456) / 0.224, atol=1e-6)


def test_json_there_and_back() -> None:
    preparation = Preparation("BGR", (1.5, 2, 3), (0.25, 1, 1))
    assert Preparation.from_json(json.loads(json.dumps(preparation.to_json()))) == preparation


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"channel_order": "GRB", "mean": [0, 0, 0], "scale": [1, 1, 1]},
        {"channel_order": "RGB", "mean": [1], "scale": [1]},
    ],
)
def test_a_record_that_is_none_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="channel_order"):
        Preparation.from_json(record)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_mean_and_scale_are_finite_and_no_scale_is_0(value: float) -> None:
    for mean, scale in (((0, 0, value), (1, 1, 1)), ((0, 0, 0), (1, value, 1)), ((0, 0, 0), (1, 0, 1))):
        with pytest.raises(BundleError, match="finite"):
            Preparation("RGB", mean, scale)


def test_a_photo_that_is_a_flipped_view_is_read() -> None:
    assert torch.equal(Preparation().prepare(PHOTO[:, ::-1]), Preparation().prepare(PHOTO).flip(2))
