"""Where photos and maps lie: the paper's crops derived, Caffe's own derivations matched, even cover by `same`."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullconv.base.errors import GeometryError
from fullconv.nets.alignment import Layout, Paper, Same, best, border_cells, kernels_of

HALF = Fraction(1, 2)
VGG = {
    8: Fraction(7, 2),
    16: Fraction(15, 2),
    32: Fraction(223, 2),
}  # pool3, pool4, fc7, with the convolutions' own padding


def paper(strides: tuple[int, ...], pad: int = 99, fc_pad: int = 0) -> Paper:
    offsets = [VGG[s] - (32 * fc_pad if s == 32 else 0) for s in strides]
    return Paper(strides, tuple(offsets), pad)


def test_the_papers_crops_on_vgg16_are_derived() -> None:
    assert paper((32,)).crops() == (19,)
    assert paper((16, 32)).crops() == (5, 27)
    assert paper((8, 16, 32)).crops() == (5, 9, 31)
    assert paper((8, 16, 32)).kernels == (16, 4, 4)
    assert paper((32,)).kernels == (64,)


STRIDES = {"fcn32s": (32,), "fcn16s": (16, 32), "fcn8s": (8, 16, 32)}
LAYOUTS = [(pad, head) for pad in (81, 100) for head in STRIDES] + [(99, "fcn8s"), (101, "fcn8s")]


@pytest.mark.parametrize(("own_pad", "head"), LAYOUTS)
def test_crops_equal_what_caffe_derives_for_other_pads(own_pad: int, head: str) -> None:
    golden = Path(__file__).parents[3] / "shared" / "caffe-golden" / "crop_offsets.json"
    if not golden.exists():
        pytest.skip("the golden crops of Caffe are not here")
    known = json.loads(golden.read_text())[f"vgg16_pad{own_pad}_{head}"]
    assert paper(STRIDES[head], own_pad - 1).crops() == tuple(crop["offset"][0] for crop in known.values())


def test_alexnet_and_googlenet_as_the_paper_has_them() -> None:
    # AlexNet: convolution of 11, stride 4; poolings of 3, stride 2; fc6 of 6: offset 5 + 4 + 8 + 16 + 80
    assert Paper((32,), (Fraction(113),), 100).crops() == (18,)
    assert Paper((32,), (Fraction(113),), 100).kernels == (63,)
    # GoogLeNet without its last pooling: first convolution padded by 3 of the 100 (crop_offsets.json: 98)
    assert Paper((32,), (Fraction(30),), 97).crops() == (98,)


def test_a_quarter_pixel_is_refused_never_rounded() -> None:
    with pytest.raises(GeometryError, match="offset 1/4"):
        kernels_of((4,), (Fraction(1, 4),))
    with pytest.raises(GeometryError, match="stride 6"):
        kernels_of((4, 6), (HALF, HALF))


KINDS = {
    "half a pixel off": Same((32,), (Fraction(31, 2),), (0,)),
    "on the border": Same((32,), (Fraction(0),), (-1,), 1),
    "on the border, multiples only": Same((32,), (Fraction(0),), (0,)),
    "tf-same on odd lengths": Same((8, 32), (Fraction(0), Fraction(0)), (-1, -1), 1),
    "tf-same, half a stride more": Same((32,), (Fraction(15),), (-1,), 16),
    "one cell missing": Same((8, 32), (Fraction(7), Fraction(31)), (1, 1)),
}


@given(length=st.integers(1, 700), kind=st.sampled_from(sorted(KINDS)))
def test_same_covers_the_photo_with_at_most_half_a_stride_a_side(length: int, kind: str) -> None:
    same = KINDS[kind]
    layout = same.layout(length)
    padded = layout.before + length + layout.after
    assert padded % 32 == same.remainder
    cells = padded // 32 - same.missing[-1]
    first = same.offsets[-1] - layout.before
    last = first + 32 * (cells - 1)
    assert layout.before >= 0
    assert layout.after >= 0
    assert cells >= 1
    assert first <= 16
    assert last >= length - 1 - 16
    fits = -length % 32  # what divisibility alone needs
    assert layout.before + layout.after <= fits + 32 + (length < same.shortest)
    if kind not in ("on the border, multiples only", "tf-same, half a stride more") and length >= same.shortest:
        # for those two there is a better choice, which `best` takes
        assert layout.before <= fits + 16
        assert layout.after <= fits + 16
        assert abs(first + last - (length - 1)) <= 2  # as far inside on the one side as on the other


@given(length=st.integers(1, 300))
def test_a_network_centred_on_multiples_gets_no_more_than_divisibility_needs(length: int) -> None:
    layout = KINDS["half a pixel off"].layout(length)
    assert layout.before + layout.after == -length % 32
    assert abs(layout.before - layout.after) <= 1


def test_one_pixel_more_lays_cells_on_both_borders() -> None:
    chosen = best([KINDS["on the border, multiples only"], KINDS["on the border"]])
    assert chosen is KINDS["on the border"]
    assert chosen.layout(320) == Layout(before=1, after=0, starts=(32,))
    assert KINDS["on the border, multiples only"].layout(320) == Layout(before=9, after=23, starts=(40,))


@pytest.mark.parametrize("kind", KINDS)
def test_borders_suffice_for_photos_of_every_length(kind: str) -> None:
    same = KINDS[kind]
    for length in range(1, 200):
        layout = same.layout(length)
        padded = layout.before + length + layout.after
        cells = [padded // s - m for s, m in zip(same.strides, same.missing, strict=True)]
        for i, fine in enumerate((length, *cells[:-1])):
            before, after = same.borders()[i]
            factor = same.strides[i] // (1, *same.strides)[i]
            places = [Fraction(2 * (layout.starts[i] + at) - (same.kernels[i] - 1), 2 * factor) for at in (0, fine - 1)]
            assert -before <= places[0]
            assert places[1] <= cells[i] - 1 + after


@given(
    start=st.integers(-80, 80),
    factor=st.sampled_from([2, 4, 8]),
    odd=st.booleans(),
    coarse=st.integers(1, 9),
    fine=st.integers(1, 99),
)
def test_border_cells_are_what_is_lacking_and_no_more(
    start: int, factor: int, odd: bool, coarse: int, fine: int
) -> None:
    kernel = 2 * factor - odd
    before, after = border_cells(start, kernel, factor, coarse, fine)
    places = [Fraction(2 * (start + i) - (kernel - 1), 2 * factor) for i in range(fine)]  # in cells of the coarse map
    low, high = min(places), max(places)
    assert low >= -before
    assert high <= coarse - 1 + after
    assert before == 0 or low < -(before - 1)
    assert after == 0 or high > coarse - 1 + (after - 1)
