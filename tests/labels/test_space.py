"""The label space: checked once, selected, written and read back; built-in spaces by their rules."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fullconv.base.errors import LabelSpaceError, SizeMismatch, UnknownLabel, UnreadableImage, UsageError
from fullconv.labels.builtin import CAMVID_11, VOC_21, VOC_21_COLOURS, voc_palette
from fullconv.labels.decode import decode, turned
from fullconv.labels.maps import colour_picture, nearest, read_label_map, same_aspect, write_index_png
from fullconv.labels.space import LabelSpace


def space(size: int) -> LabelSpace:
    return LabelSpace(
        names=tuple(f"c{index}" for index in range(size)),
        colours=tuple((index % 256, index // 256, 7) for index in range(size)),
        file_values=tuple((index,) for index in range(size)),
    )


def test_voc_colours_are_the_published_ones() -> None:
    palette = voc_palette()
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[8] == (64, 0, 0)  # cat
    assert palette[15] == (192, 128, 128)  # person
    assert palette[255] == (224, 224, 192)
    assert len(set(palette)) == 256


def test_builtin_spaces_have_their_classes_and_void() -> None:
    assert (VOC_21.size, VOC_21.names[12], VOC_21.background, VOC_21.void) == (21, "dog", 0, 255)
    assert (CAMVID_11.size, CAMVID_11.names[8], CAMVID_11.void_values) == (11, "Car", (11,))
    assert CAMVID_11.background is None


@pytest.mark.parametrize("size", [2, 255, 256])
def test_void_and_type_hold_every_class(size: int) -> None:
    this = space(size)
    assert (this.void, this.dtype) == ((255, np.uint8) if size <= 255 else (65535, np.uint16))
    assert this.void >= this.size


@pytest.mark.parametrize("this", [VOC_21, CAMVID_11, VOC_21.select(["dog", "cat"], "background"), space(300)])
def test_a_space_survives_json_and_pickle(this: LabelSpace) -> None:
    assert LabelSpace.from_json(json.loads(json.dumps(this.to_json()))) == this
    assert pickle.loads(pickle.dumps(this)) == this


def test_names_and_values_given_twice_are_refused() -> None:
    colours = ((0, 0, 0), (1, 1, 1))
    with pytest.raises(LabelSpaceError, match="a more than once"):
        LabelSpace(("a", "a"), colours, ((0,), (1,)))
    with pytest.raises(LabelSpaceError, match="1 more than once"):
        LabelSpace(("a", "b"), colours, ((0,), (1,)), void_values=(1,))
    with pytest.raises(LabelSpaceError):
        LabelSpace(("a", "b"), colours, ((0,), (1,)), others="background")


def test_select_keeps_the_order_asked_and_sends_the_rest_to_void() -> None:
    chosen = VOC_21.select(["sheep", "background", "cat"], "void")
    assert chosen.names == ("sheep", "background", "cat")
    assert chosen.file_values == ((17,), (0,), (8,))
    assert chosen.background == 1
    assert set(chosen.void_values) == {255, *range(1, 21)} - {17, 0, 8}


def test_select_with_others_background_puts_the_background_first() -> None:
    chosen = VOC_21.select(["cat"], "background")
    assert chosen.names == ("background", "cat")
    assert set(chosen.file_values[0]) == set(range(21)) - {8}
    assert chosen.void_values == (255,)
    without = CAMVID_11.select(["Car", "Sky"], "background")
    assert (without.names, without.background) == (("background", "Car", "Sky"), 0)


def test_select_refuses_unknown_names() -> None:
    with pytest.raises(UsageError, match="unicorn"):
        VOC_21.select(["unicorn"], "void")
    with pytest.raises(UsageError):
        VOC_21.select([], "void")
    with pytest.raises(UsageError):
        VOC_21.select(["cat"], "nothing")


# ---- label maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("this", [space(3), space(255), space(256), space(1000)])
def test_an_index_png_holds_the_class_ids(tmp_path: Path, this: LabelSpace) -> None:
    labels = np.random.default_rng(0).integers(0, this.size, (9, 14)).astype(this.dtype)
    labels[0, :3] = this.void
    write_index_png(tmp_path / "map.png", labels, this)
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == ("P" if this.size <= 255 else "I;16")
        assert (np.array(image) == labels).all()
    back = LabelSpace(this.names, this.colours, this.file_values, void_values=(this.void,))
    assert (read_label_map(tmp_path / "map.png", back) == labels).all()


@pytest.mark.parametrize("this", [CAMVID_11, VOC_21, VOC_21_COLOURS.select(("sheep", "cat"), "background")])
def test_what_was_written_is_read_by_the_space_as_written(tmp_path: Path, this: LabelSpace) -> None:
    labels = np.array([[0, 1, this.void], [this.size - 1, this.void, 0]], this.dtype)
    write_index_png(tmp_path / "a.png", labels, this)
    written = this.as_written()
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png", written), labels)
    assert (written.names, written.colours, written.background) == (this.names, this.colours, this.background)


def test_a_colour_picture_has_the_colours_of_the_space() -> None:
    labels = np.array([[0, 8], [255, 15]], np.uint8)
    assert colour_picture(labels, VOC_21).tolist() == [[[0, 0, 0], [64, 0, 0]], [[224, 224, 192], [192, 128, 128]]]


def test_an_index_png_shows_the_colours_of_the_space(tmp_path: Path) -> None:
    labels = np.array([[0, 8], [255, 15]], np.uint8)
    write_index_png(tmp_path / "map.png", labels, VOC_21)
    with Image.open(tmp_path / "map.png") as image:
        assert (np.array(image.convert("RGB")) == colour_picture(labels, VOC_21)).all()


def test_an_unknown_value_is_named_with_its_pixel(tmp_path: Path) -> None:
    values = np.zeros((5, 6), np.uint8)
    values[3, 2] = 77
    Image.fromarray(values).save(tmp_path / "map.png")
    with pytest.raises(UnknownLabel, match="77 at row 3, column 2"):
        read_label_map(tmp_path / "map.png", space(3))
    for others, becomes in (("void", 255), ("background", 1)):
        lenient = LabelSpace(("a", "b"), ((0, 0, 0), (1, 1, 1)), ((0,), (1,)), others=others, background=1)
        assert read_label_map(tmp_path / "map.png", lenient)[3, 2] == becomes


def test_ids_past_16_bits_are_unknown_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "map.tif")
    with pytest.raises(UnknownLabel, match="70000"):
        read_label_map(tmp_path / "map.tif", space(3))


def test_fractions_and_negative_numbers_are_no_label_map(tmp_path: Path) -> None:
    for name, values in (("half", np.full((2, 2), 0.5, np.float32)), ("negative", np.full((2, 2), -1, np.int32))):
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
        with pytest.raises(UnreadableImage, match="no label map"):
            decode(tmp_path / f"{name}.tif")


def test_another_aspect_ratio_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(tmp_path / "map.png")
    with pytest.raises(SizeMismatch, match="20x10"):
        read_label_map(tmp_path / "map.png", space(2), size=(20, 20))


def test_aspect_ratios_are_the_same_within_one_per_cent() -> None:
    assert same_aspect((577, 433), (640, 480))
    assert same_aspect((100, 101), (100, 100))
    assert not same_aspect((100, 102), (100, 100))
    assert not same_aspect((20, 10), (10, 20))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60))
def test_nearest_neighbour_takes_the_pixel_whose_square_holds_the_centre(
    h: int, w: int, rows: int, columns: int
) -> None:
    labels = np.arange(h * w).reshape(h, w)
    brought = nearest(labels, (rows, columns))
    for row in range(rows):
        for column in range(columns):
            y, x = (2 * row + 1) * h // (2 * rows), (2 * column + 1) * w // (2 * columns)
            assert brought[row, column] == labels[y, x]


def test_every_exif_orientation_turns_as_pillow_does(tmp_path: Path) -> None:
    from PIL import ImageOps

    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(values).save(tmp_path / "map.png", exif=exif)
        with Image.open(tmp_path / "map.png") as image:
            upright = np.array(ImageOps.exif_transpose(image))
        assert (turned(values, orientation) == upright).all()
        ids = decode(tmp_path / "map.png").ids
        assert ids is not None
        assert (ids == upright).all()
