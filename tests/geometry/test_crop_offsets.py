"""Every crop that Caffe derived, derived from networks that run: torchvision's VGG and AlexNet, and GoogLeNet."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from caffe_pairs import LAYOUTS, Crop, converted, crops_of
from fullconv.base.errors import GeometryError
from fullconv.geometry.geometry import crop_offset


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, dict[str, Any]]:
    """Layout -> crop -> what Caffe's coord_map gave."""
    found: dict[str, dict[str, Any]] = json.loads((shared / "caffe-golden" / "crop_offsets.json").read_text())
    return found


@lru_cache
def crops(layout: str) -> dict[str, Crop]:
    return crops_of(LAYOUTS[layout])


def test_every_layout_of_the_file_is_built(golden: dict[str, dict[str, Any]]) -> None:
    assert set(golden) == {*LAYOUTS, "_how", "concat_has_no_rule"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crops_of_networks_are_those_that_caffe_derived(layout: str, golden: dict[str, dict[str, Any]]) -> None:
    assert golden[layout]
    refused = [name for name, record in golden[layout].items() if "refused" in record]
    assert refused or set(golden[layout]) == set(crops(layout))  # Caffe stopped at the first that it refused
    for name, record in golden[layout].items():
        crop = crops(layout)[name]
        assert crop.shift == (*record["shift"],) * 2, name
        if "refused" in record:
            with pytest.raises(GeometryError):
                crop_offset(crop.larger, crop.reference)
        else:
            assert crop_offset(crop.larger, crop.reference) == (*record["offset"],) * 2, name


@pytest.mark.parametrize(
    ("layout", "published"),
    [
        ("vgg16_pad100_fcn32s", {"score": 19}),
        ("vgg16_pad100_fcn16s", {"score_pool4c": 5, "score": 27}),
        ("vgg16_pad100_fcn8s", {"score_pool4c": 5, "score_pool3c": 9, "score": 31}),
        ("alexnet_pad100_kernel63", {"score": 18}),
        ("googlenet_pad100_kernel63_no_pool5", {"score": 98}),
    ],
)
def test_crops_of_networks_are_the_published_ones(layout: str, published: dict[str, int]) -> None:
    derived = {name: crop_offset(crop.larger, crop.reference) for name, crop in crops(layout).items()}
    assert derived == {name: (offset, offset) for name, offset in published.items()}


def test_branches_that_are_concatenated_have_a_crop_where_caffe_has_no_rule(golden: dict[str, dict[str, Any]]) -> None:
    assert "error" in golden["concat_has_no_rule"]["score"]
    crop = crops("googlenet_pad100_kernel63_no_pool5")["score"]
    assert crop_offset(crop.larger, crop.reference) == (98, 98)


@pytest.mark.parametrize(
    ("network", "field"), [("vgg16", 404), ("alexnet", 355), ("googlenet_no_pool5", 715), ("googlenet_pool5_ave7", 907)]
)
def test_receptive_fields_of_networks_are_the_published_ones(network: str, field: int) -> None:
    # Long et al. 2015, table 1; without its last pooling GoogLeNet sees 6 cells of 32 less
    assert converted(network).geometry.to_json()["receptive_field"] == [field, field]
