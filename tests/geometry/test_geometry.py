"""Derived geometry against what Caffe derived, what the paper's authors published, and what torch does."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fullconv.base.errors import GeometryError
from fullconv.geometry import geometry as geo
from fullconv.geometry.geometry import Geometry, crop_offset

PHOTO = (500, 500)
Net = dict[str, Geometry]


def conv(g: Geometry, kernel: int, stride: int = 1, pad: int = 0) -> Geometry:
    return geo.each_axis(g, lambda axis, _: geo.windows(axis, kernel, stride, pad, pad))


def pool(g: Geometry, kernel: int, stride: int, pad: int = 0) -> Geometry:
    return geo.each_axis(g, lambda axis, _: geo.windows(axis, kernel, stride, pad, pad, ceil=True))


def up(g: Geometry, kernel: int, stride: int) -> Geometry:
    return geo.each_axis(g, lambda axis, _: geo.transposed(axis, kernel, stride))


def vgg(pad: int, fc6_pad: int = 0, deep: int = 3) -> Net:
    g, net = geo.of_photo(PHOTO), {}
    for stage, layers in enumerate((2, 2, deep, deep, deep), start=1):
        for i in range(layers):
            g = conv(g, 3, pad=pad if stage == 1 and i == 0 else 1)
        net[f"pool{stage}"] = g = pool(g, 2, 2)
    net["score"] = conv(g, 7, pad=fc6_pad)
    return net


def alexnet(pad: int) -> Geometry:
    g = pool(conv(geo.of_photo(PHOTO), 11, 4, pad), 3, 2)
    g = conv(pool(conv(g, 5, pad=2), 3, 2), 3, pad=1)
    return conv(pool(conv(conv(g, 3, pad=1), 3, pad=1), 3, 2), 6)


def googlenet(pad: int, last_pool: bool) -> Geometry:
    g = pool(conv(geo.of_photo(PHOTO), 7, 2, pad), 3, 2)
    g = pool(conv(g, 3, pad=1), 3, 2)
    for modules in (2, 5, 2):  # the widest branch of each inception module is 5x5
        for _ in range(modules):
            g = conv(g, 5, pad=2)
        g = pool(g, 3, 2) if modules == 5 or g.stride == (8, 8) else g
    return conv(g, 7) if last_pool else g


def fcn32s(net: Net) -> dict[str, Callable[[], tuple[int, int]]]:
    return {"score": lambda: crop_offset(up(net["score"], 64, 32), geo.of_photo(PHOTO))}


def fcn16s(net: Net) -> dict[str, Callable[[], tuple[int, int]]]:
    two = up(net["score"], 4, 2)
    return {
        "score_pool4c": lambda: crop_offset(net["pool4"], two),
        "score": lambda: crop_offset(up(two, 32, 16), geo.of_photo(PHOTO)),
    }


def fcn8s(net: Net) -> dict[str, Callable[[], tuple[int, int]]]:
    two = up(net["score"], 4, 2)
    four = up(two, 4, 2)
    return {
        "score_pool4c": lambda: crop_offset(net["pool4"], two),
        "score_pool3c": lambda: crop_offset(net["pool3"], four),
        "score": lambda: crop_offset(up(four, 16, 8), geo.of_photo(PHOTO)),
    }


def one(g: Geometry, kernel: int) -> dict[str, Callable[[], tuple[int, int]]]:
    return {"score": lambda: crop_offset(up(g, kernel, 32), geo.of_photo(PHOTO))}


LAYOUTS = {
    "vgg16_pad100_fcn32s": fcn32s(vgg(100)),
    "vgg16_pad100_fcn16s": fcn16s(vgg(100)),
    "vgg16_pad100_fcn8s": fcn8s(vgg(100)),
    "vgg16_pad1_fc6pad3_fcn32s": fcn32s(vgg(1, 3)),
    "vgg16_pad1_fc6pad3_fcn16s": fcn16s(vgg(1, 3)),
    "vgg16_pad1_fc6pad3_fcn8s": fcn8s(vgg(1, 3)),
    "vgg16_pad81_fcn32s": fcn32s(vgg(81)),
    "vgg16_pad81_fcn16s": fcn16s(vgg(81)),
    "vgg16_pad81_fcn8s": fcn8s(vgg(81)),
    "vgg19_pad100_fcn32s": fcn32s(vgg(100, deep=4)),
    "vgg19_pad100_fcn16s": fcn16s(vgg(100, deep=4)),
    "vgg19_pad100_fcn8s": fcn8s(vgg(100, deep=4)),
    "vgg16_pad99_fcn8s": fcn8s(vgg(99)),
    "vgg16_pad101_fcn8s": fcn8s(vgg(101)),
    "alexnet_pad100_kernel63": one(alexnet(100), 63),
    "alexnet_pad100_kernel64": one(alexnet(100), 64),
    **{
        f"googlenet_pad{pad}_kernel{kernel}_{name}": one(googlenet(pad, last), kernel)
        for pad in (3, 100)
        for kernel in (63, 64)
        for name, last in (("no_pool5", False), ("pool5_ave7", True))
    },
}


def test_crops_are_those_that_caffe_derived(shared: Path) -> None:
    golden = json.loads((shared / "caffe-golden" / "crop_offsets.json").read_text())
    layouts = {k: v for k, v in golden.items() if not k.startswith("_") and k != "concat_has_no_rule"}
    assert set(layouts) == set(LAYOUTS)
    for layout, crops in layouts.items():
        for crop, record in crops.items():
            derive = LAYOUTS[layout][crop]
            if "refused" in record:
                with pytest.raises(GeometryError):
                    derive()
            else:
                offset = record["offset"][0]
                assert derive() == (offset, offset), (layout, crop)


@pytest.mark.parametrize(
    ("layout", "crops"),
    [
        ("vgg16_pad100_fcn32s", {"score": 19}),
        ("vgg16_pad100_fcn16s", {"score_pool4c": 5, "score": 27}),
        ("vgg16_pad100_fcn8s", {"score_pool4c": 5, "score_pool3c": 9, "score": 31}),
        ("alexnet_pad100_kernel63", {"score": 18}),
        ("googlenet_pad100_kernel63_no_pool5", {"score": 98}),
    ],
)
def test_crops_are_the_published_ones(layout: str, crops: dict[str, int]) -> None:
    assert {name: LAYOUTS[layout][name]() for name in crops} == {name: (c, c) for name, c in crops.items()}


def test_receptive_fields_are_the_published_ones() -> None:
    assert vgg(100)["score"].receptive_field == (404, 404)  # Long et al. 2015, table 1
    assert alexnet(100).receptive_field == (355, 355)
    assert googlenet(100, last_pool=True).receptive_field == (907, 907)
    assert googlenet(100, last_pool=False).receptive_field == (715, 715)


def test_a_crop_of_half_a_cell_is_refused_with_its_number() -> None:
    with pytest.raises(GeometryError, match=r"37/2") as refused:
        LAYOUTS["alexnet_pad100_kernel64"]["score"]()
    assert "parity" in refused.value.try_


def test_a_crop_between_different_strides_is_refused() -> None:
    with pytest.raises(GeometryError, match="one stride"):
        crop_offset(vgg(100)["pool3"], vgg(100)["pool4"])


@given(
    size=st.integers(1, 60),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    share=st.floats(0, 0.5),
    ceil=st.booleans(),
)
def test_pooling_gives_as_many_cells_as_torch(size: int, kernel: int, stride: int, share: float, ceil: bool) -> None:
    pad = int(kernel * share)
    axis = geo.Axis(Fraction(1), Fraction(0), Fraction(1), size)
    layer = nn.MaxPool2d(kernel, stride, pad, ceil_mode=ceil)
    if size + 2 * pad < kernel and not ceil:
        with pytest.raises(GeometryError):
            geo.windows(axis, kernel, stride, pad, pad, ceil=ceil)
        return
    try:
        expected = layer(torch.zeros(1, 1, size, size)).shape[2]
    except RuntimeError:
        with pytest.raises(GeometryError):
            geo.windows(axis, kernel, stride, pad, pad, ceil=ceil)
        return
    assert geo.windows(axis, kernel, stride, pad, pad, ceil=ceil).size == expected


@given(
    size=st.integers(1, 20),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
)
def test_a_transposed_convolution_sees_what_torch_lets_it_see(
    size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    axis = geo.Axis(Fraction(1), Fraction(0), Fraction(1), size)
    found = geo.transposed(axis, kernel, stride, padding, 0, dilation)
    if found.size < 1:
        return
    layer = nn.ConvTranspose1d(1, 1, kernel, stride, padding, bias=False, dilation=dilation)
    nn.init.ones_(layer.weight)
    matrix = torch.stack([layer(row[None, None])[0, 0] for row in torch.eye(size)])  # (size in, size out)
    assert matrix.shape[1] == found.size
    seen = [column.nonzero().ravel().tolist() for column in matrix.T]
    widest = max((s[-1] - s[0] + 1 for s in seen if s), default=1)
    assert found.field is not None
    assert widest <= found.field
    if size > 2 * kernel:
        assert widest == found.field


@given(size=st.integers(2, 40), factor=st.integers(2, 8), pad=st.integers(0, 4))
def test_an_upsampled_ramp_stays_on_the_derived_centres(size: int, factor: int, pad: int) -> None:
    """Bilinear deconvolution of the cells' own centres gives the centres of the new cells."""
    kernel = 2 * factor - factor % 2
    axis = geo.Axis(Fraction(3), Fraction(5, 2), Fraction(1), size)
    found = geo.transposed(axis, kernel, factor, pad)
    if found.size < 1:
        return
    middle = (kernel - 1) / 2
    weights = torch.tensor([1 - abs(i - middle) / factor for i in range(kernel)], dtype=torch.float64)
    ramp = torch.tensor([float(axis.offset + i * axis.stride) for i in range(size)], dtype=torch.float64)
    made = nn.functional.conv_transpose1d(ramp[None, None], weights[None, None], stride=factor, padding=pad)[0, 0]
    inner = range(kernel, len(made) - kernel)
    assert all(abs(made[i].item() - float(found.offset + i * found.stride)) < 1e-9 for i in inner)


@given(size=st.integers(1, 40), to=st.integers(1, 90), corners=st.booleans())
def test_an_interpolated_ramp_stays_on_the_derived_centres(size: int, to: int, corners: bool) -> None:
    axis = geo.Axis(Fraction(1), Fraction(0), Fraction(1), size)
    found = geo.interpolated(axis, to, reach=1, align_corners=corners)
    ramp = torch.arange(size, dtype=torch.float64)[None, None]
    made = nn.functional.interpolate(ramp, size=to, mode="linear", align_corners=corners)[0, 0]
    for i, value in enumerate(made.tolist()):
        centre = float(found.offset + i * found.stride)
        assert abs(value - min(max(centre, 0), size - 1)) < 1e-9


@given(size=st.integers(1, 30), bins=st.integers(1, 30))
def test_bins_of_adaptive_pooling_are_centred_and_bounded(size: int, bins: int) -> None:
    found = geo.adaptive(geo.Axis(Fraction(1), Fraction(0), Fraction(1), size), bins)
    matrix = nn.functional.adaptive_avg_pool1d(torch.eye(size)[:, None], bins)[:, 0]  # (size, bins)
    widest = int((matrix > 0).sum(0).max())
    assert found.field == (None if bins == 1 else widest)
    if size % bins == 0:
        ramp = torch.arange(size, dtype=torch.float64)
        assert torch.allclose(
            matrix.double().T @ ramp,
            torch.tensor([float(found.offset + i * found.stride) for i in range(bins)]).double(),
        )


@given(size=st.integers(1, 50), kernel=st.integers(1, 7), stride=st.integers(1, 4), dilation=st.integers(1, 3))
def test_same_padding_gives_ceil_of_size_over_stride(size: int, kernel: int, stride: int, dilation: int) -> None:
    before, after = geo.same_padding(size, kernel, stride, dilation)
    axis = geo.Axis(Fraction(1), Fraction(0), Fraction(1), size)
    assert geo.windows(axis, kernel, stride, before, after, dilation).size == -(-size // stride)
    assert after - before in (0, 1)


def at(offset: int | Fraction, stride: int = 2, field: int | None = 3) -> Geometry:
    f = None if field is None else (Fraction(field), Fraction(field))
    return Geometry((Fraction(stride),) * 2, (Fraction(offset),) * 2, f, (4, 4))


def test_branches_that_disagree_are_named() -> None:
    with pytest.raises(GeometryError, match=r"'left' has stride .2, 2.*'right' has .4, 4"):
        geo.merged({"left": at(0), "right": at(0, stride=4)}, disagreement="span")
    with pytest.raises(GeometryError, match=r"'left' has offset .0, 0.*'right' has .1, 1"):
        geo.merged({"left": at(0), "right": at(1)})


def test_a_sum_sees_what_any_branch_sees() -> None:
    assert geo.merged({"a": at(0, field=3), "b": at(0, field=7)}) == at(0, field=7)
    assert geo.merged({"a": at(0), "b": at(0, field=None)}) == at(0, field=None)
    assert geo.merged({"a": at(0, field=1), "b": at(1, field=1)}, disagreement="span") == at(Fraction(1, 2), field=2)


def test_json_writes_fractions_as_text() -> None:
    assert at(Fraction(1, 2)).to_json() == {
        "stride": [2, 2],
        "offset": ["1/2", "1/2"],
        "receptive_field": [3, 3],
        "size": [4, 4],
    }


def test_the_halo_is_half_the_field_in_whole_strides() -> None:
    def of(field: int | None) -> Geometry:
        receptive = None if field is None else (Fraction(field), Fraction(1))
        return Geometry((Fraction(8),) * 2, (Fraction(0),) * 2, receptive, (4, 4))

    assert geo.halo(of(33), multiple=8) == (16, 0)
    assert geo.halo(of(35), multiple=8) == (24, 0)
    with pytest.raises(GeometryError, match="unbounded"):
        geo.halo(of(None), multiple=8)
