"""What label maps may hold, and what is made of it: ids, colours, palettes, void, sizes, defects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_folders import SIZE, blocks, coloured, label_map, paired, photo
from PIL import Image

from fullconv.base.errors import LabelSpaceError, SizeMismatch, UnknownLabel, UnreadableImage, UsageError
from fullconv.data.read import read_samples
from fullconv.data.samples import SampleSet
from fullconv.labels.builtin import VOC_21

RGB = {0: (0, 0, 0), 1: (255, 0, 0), 2: (0, 0, 255)}


def said(samples: SampleSet) -> str:
    return "\n".join(samples.notes)


def found(samples: SampleSet) -> list[int]:
    """The class ids and void that are in the label maps."""
    return sorted({int(value) for sample in samples.split("all") for value in np.unique(sample.read()[1])})


def with_maps(
    root: Path, values: np.ndarray, number: int = 4, suffix: str = "png", palette: list[int] | None = None
) -> Path:
    for index in range(number):
        photo(root / f"images/{index}.jpg", index)
        label_map(root / f"masks/{index}.{suffix}", values, palette)
    return root


# ---- without a class file -------------------------------------------------------------------------------------------


def test_ids_found_are_named_by_their_number_and_gaps_closed(tmp_path: Path) -> None:
    samples = read_samples(paired(tmp_path, ids=(0, 3, 7)))
    assert samples.label_space.names == ("class_0", "class_3", "class_7")
    assert samples.label_space.file_values == ((0,), (3,), (7,))
    assert found(samples) == [0, 1, 2]


def test_255_beside_other_ids_is_void_and_said(tmp_path: Path) -> None:
    samples = read_samples(paired(tmp_path, ids=(0, 1, 255)))
    assert samples.label_space.size == 2
    assert found(samples) == [0, 1, 255]
    assert "255 is void" in said(samples)


def test_0_and_255_are_background_and_one_object(tmp_path: Path) -> None:
    samples = read_samples(paired(tmp_path, ids=(0, 255)))
    assert samples.label_space.names == ("background", "object")
    assert samples.label_space.background == 0
    assert found(samples) == [0, 1]
    assert "255 is the object, not void" in said(samples)


def test_a_black_and_white_palette_is_background_and_one_object(tmp_path: Path) -> None:
    for suffix in ("png", "gif"):
        samples = read_samples(
            with_maps(tmp_path / suffix, blocks((0, 1)), palette=[0, 0, 0, 255, 255, 255], suffix=suffix)
        )
        assert samples.label_space.names == ("background", "object")
        assert found(samples) == [0, 1]


def test_a_grey_given_as_colour_is_an_id_as_void(tmp_path: Path) -> None:
    samples = read_samples(paired(tmp_path), void="0,0,0")
    assert (samples.label_space.names, samples.label_space.void_values) == (("class_1", "class_2"), (0,))


@pytest.mark.parametrize("form", ["one bit", "grey as RGB", "grey and opacity", "opacity alone", "16 bits"])
def test_two_values_in_any_form_are_background_and_one_object(tmp_path: Path, form: str) -> None:
    values = blocks((0, 255))
    opaque, black = np.full_like(values, 255), np.zeros_like(values)
    forms = {
        "one bit": values > 0,
        "grey as RGB": np.stack([values] * 3, axis=-1),
        "grey and opacity": np.stack([values, opaque], axis=-1),
        "opacity alone": np.stack([black, black, black, values], axis=-1),
        "16 bits": blocks((0, 65535), dtype=np.uint16),
    }
    samples = read_samples(with_maps(tmp_path, forms[form]))
    assert samples.label_space.names == ("background", "object")
    assert found(samples) == [0, 1]


def test_16_bit_ids_are_read_as_they_are(tmp_path: Path) -> None:
    for suffix in ("png", "tif"):
        samples = read_samples(with_maps(tmp_path / suffix, blocks((0, 300, 5000), dtype=np.uint16), suffix=suffix))
        assert samples.label_space.names == ("class_0", "class_300", "class_5000")
        assert found(samples) == [0, 1, 2]
        assert "more than 8 bits" in said(samples)


def test_colours_found_are_the_classes(tmp_path: Path) -> None:
    samples = read_samples(with_maps(tmp_path, coloured(blocks((0, 1, 2)), RGB)))
    assert samples.label_space.names == ("colour_000000", "colour_0000ff", "colour_ff0000")
    assert found(samples) == [0, 1, 2]
    assert "--void 0,0,0" in said(samples)


def test_a_colour_can_be_void(tmp_path: Path) -> None:
    samples = read_samples(with_maps(tmp_path, coloured(blocks((0, 1, 2)), RGB)), void="0,0,0")
    assert samples.label_space.names == ("colour_0000ff", "colour_ff0000")
    assert found(samples) == [0, 1, 255]


def test_opacity_beside_colours_is_left_out_of_account_and_said(tmp_path: Path) -> None:
    rgba = {0: (0, 0, 0, 0), 1: (255, 0, 0, 255), 2: (0, 0, 255, 128)}
    samples = read_samples(with_maps(tmp_path, coloured(blocks((0, 1, 2)), rgba)))
    assert samples.label_space.size == 3
    assert "opacity" in said(samples)


def test_palette_indexes_are_ids_whatever_the_colours(tmp_path: Path) -> None:
    samples = read_samples(
        with_maps(tmp_path, blocks((0, 1, 4)), palette=[9, 9, 9, 250, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 0])
    )
    assert samples.label_space.names == ("class_0", "class_1", "class_4")
    assert samples.label_space.colours == ((9, 9, 9), (250, 0, 0), (0, 200, 0))


def test_palettes_that_differ_make_colours_count(tmp_path: Path) -> None:
    for index in range(4):
        photo(tmp_path / f"images/{index}.jpg", index)
        order = (0, 1, 2) if index % 2 else (2, 1, 0)
        palette = [channel for place in order for channel in RGB[place]]
        label_map(tmp_path / f"masks/{index}.png", np.array(order, np.uint8)[blocks((0, 1, 2))], palette)
    samples = read_samples(tmp_path)
    assert "palettes of the label maps differ" in said(samples)
    first = {tuple(sample.read()[1][0, [0, 15, 31]].tolist()) for sample in samples.split("all")}
    assert first == {(0, 2, 1)}


def test_voc_palette_outside_the_voc_layout_says_nothing_of_voc(tmp_path: Path) -> None:
    palette = [channel for colour in VOC_21.colours for channel in colour]
    assert read_samples(with_maps(tmp_path, blocks((0, 8)), palette=palette)).label_space.names == (
        "class_0",
        "class_8",
    )


def test_a_scale_of_greys_up_to_255_is_ambiguous(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 128, 255))
    with pytest.raises(LabelSpaceError) as error:
        read_samples(tmp_path)
    assert "--void none" in error.value.try_
    assert "--void 255" in error.value.try_
    assert read_samples(tmp_path, void="none").label_space.size == 3
    assert read_samples(tmp_path, void=255).label_space.names == ("class_0", "class_128")
    assert read_samples(tmp_path, void="128").label_space.names == ("background", "object")


@pytest.mark.parametrize("void", ["x", "1,2", "1,2,3,4", "-1"])
def test_a_void_that_is_none_is_a_wrong_command(tmp_path: Path, void: str) -> None:
    with pytest.raises(UsageError):
        read_samples(paired(tmp_path), void=void)


def test_one_class_stops(tmp_path: Path) -> None:
    with pytest.raises(LabelSpaceError, match="class_3"):
        read_samples(paired(tmp_path, ids=(3, 255)))


def test_samples_that_are_void_everywhere_are_skipped_and_listed(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 1, 255))
    label_map(tmp_path / "masks/0002.png", blocks([255]))
    samples = read_samples(tmp_path)
    assert [(item.name, item.why) for item in samples.skipped] == [("0002", "void everywhere: no class to learn")]


# ---- pictures that are no label maps --------------------------------------------------------------------------------


def disc(size: int = 64, smooth: int = 1) -> np.ndarray:
    """A disc of 255 on 0, its edge smoothed by drawing it `smooth` times larger."""
    large = size * smooth
    rows, columns = np.mgrid[:large, :large] - (large - 1) / 2
    values = np.where(rows**2 + columns**2 < (large / 3) ** 2, 255.0, 0.0)
    return values.reshape(size, smooth, size, smooth).mean(axis=(1, 3)).round().astype(np.uint8)


def discs(root: Path, values: np.ndarray, suffix: str = "png", **save: int) -> Path:
    for index in range(3):
        photo(root / f"images/{index}.jpg", index, values.shape[:2])
        label_map(root / f"masks/{index}.{suffix}", values, **save)
    return root


def test_a_sharp_disc_is_read_and_a_smoothed_one_named(tmp_path: Path) -> None:
    assert read_samples(discs(tmp_path / "sharp", disc())).label_space.names == ("background", "object")
    with pytest.raises(LabelSpaceError, match="anti-aliased"):
        read_samples(discs(tmp_path / "smooth", disc(smooth=8)))


def test_smoothed_colours_are_named_too(tmp_path: Path) -> None:
    values = disc(smooth=8).astype(np.float64)[..., None] / 255
    picture = (values * (200, 40, 10) + (1 - values) * (10, 20, 160)).round().astype(np.uint8)
    with pytest.raises(LabelSpaceError, match="anti-aliased"):
        read_samples(discs(tmp_path, picture))


def test_label_maps_saved_as_jpeg_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelSpaceError, match="JPEG"):
        read_samples(discs(tmp_path, disc(), "jpg", quality=70))


def test_jpeg_that_kept_its_ids_is_read_and_said(tmp_path: Path) -> None:
    samples = read_samples(
        with_maps(tmp_path, np.repeat(np.repeat(np.eye(4, dtype=np.uint8) * 255, 8, 0), 8, 1)[:24, :32], suffix="jpg")
    )
    assert samples.label_space.names == ("background", "object")
    assert "JPEG" in said(samples)


def test_photos_as_label_maps_are_named(tmp_path: Path) -> None:
    for index in range(4):
        photo(tmp_path / f"images/{index}.jpg", index)
        photo(tmp_path / f"masks/{index}.png", 50 + index)
    with pytest.raises(LabelSpaceError, match="photo saved as a label map"):
        read_samples(tmp_path)


def test_more_than_256_ids_stop(tmp_path: Path) -> None:
    values = np.repeat(np.arange(400, dtype=np.uint16).reshape(20, 20), 3, 0).repeat(3, 1)
    with pytest.raises(LabelSpaceError, match="400"):
        read_samples(discs(tmp_path, values))


def test_drawn_noise_of_a_few_ids_is_no_photo(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 6, (32, 32), dtype=np.uint8)
    assert read_samples(discs(tmp_path, values)).label_space.size == 6


# ---- with a class file ----------------------------------------------------------------------------------------------


def test_a_class_file_names_the_ids_in_order(tmp_path: Path) -> None:
    paired(tmp_path)
    (tmp_path / "classes.txt").write_text("background\ncat\n\n# a comment\ndog\n")
    samples = read_samples(tmp_path)
    assert samples.label_space.names == ("background", "cat", "dog")
    assert samples.label_space.background == 0
    assert "Classes by classes.txt" in said(samples)


def test_255_is_void_beside_a_class_file_that_does_not_name_it(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 1, 255))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert found(read_samples(tmp_path)) == [0, 1, 255]


def test_a_class_called_void_is_void(tmp_path: Path) -> None:
    paired(tmp_path)
    (tmp_path / "labels.txt").write_text("cat\ndog\nvoid\n")
    samples = read_samples(tmp_path)
    assert samples.label_space.names == ("cat", "dog")
    assert found(samples) == [0, 1, 255]
    assert "'void' of labels.txt is void" in said(samples)


def test_an_id_outside_the_class_file_stops_with_the_place(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 1))
    values = blocks((0, 1))
    values[7, 5:9] = 26
    label_map(tmp_path / "masks/0003.png", values)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(UnknownLabel) as error:
        read_samples(tmp_path)
    assert "0003.png has 26 at row 7, column 5 (4 pixels); 1 of 5 label maps" in error.value.found
    assert "--void 26" in error.value.try_
    assert "--skip-bad" in error.value.try_
    skipping = read_samples(tmp_path, skip_bad=True)
    assert [item.name for item in skipping.skipped] == ["0003"]
    assert found(read_samples(tmp_path, void=26)) == [0, 1, 255]


def test_only_the_first_ten_label_maps_with_strange_ids_are_named(tmp_path: Path) -> None:
    paired(tmp_path, 14, ids=(0, 9))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(UnknownLabel, match=r"and 4 more; 14 of 14"):
        read_samples(tmp_path)


def test_ids_from_1_stop_and_void_0_reads_them(tmp_path: Path) -> None:
    paired(tmp_path, ids=(1, 2, 3))
    (tmp_path / "classes.txt").write_text("cat\ndog\ncow\n")
    with pytest.raises(UnknownLabel) as error:
        read_samples(tmp_path)
    assert "--void 0" in error.value.try_
    samples = read_samples(tmp_path, void=0)
    assert samples.label_space.file_values == ((1,), (2,), (3,))
    assert found(samples) == [0, 1, 2]


def test_background_that_is_not_listed_stops_and_says_what_to_write(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 1, 2))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(UnknownLabel) as error:
        read_samples(tmp_path)
    assert "`background` as the first line of classes.txt" in error.value.try_


def test_0_and_255_with_two_names_or_one(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 255))
    (tmp_path / "classes.txt").write_text("background\nperson\n")
    assert read_samples(tmp_path).label_space.file_values == ((0,), (255,))
    (tmp_path / "classes.txt").write_text("person\n")
    samples = read_samples(tmp_path)
    assert (samples.label_space.names, samples.label_space.background) == (("background", "person"), 0)


def test_ids_in_the_class_file_count(tmp_path: Path) -> None:
    paired(tmp_path, ids=(10, 20, 255))
    (tmp_path / "classes.json").write_text('{"cat": 10, "dog": 20}')
    assert read_samples(tmp_path).label_space.file_values == ((10,), (20,))


def test_colours_in_the_class_file_read_colour_label_maps(tmp_path: Path) -> None:
    with_maps(tmp_path, coloured(blocks((0, 1, 2)), RGB))
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nred,255,0,0\nblue,0,0,255\nVoid,0,0,0\n")
    samples = read_samples(tmp_path)
    assert samples.label_space.names == ("red", "blue")
    assert samples.label_space.colours == ((255, 0, 0), (0, 0, 255))
    assert found(samples) == [0, 1, 255]


def test_a_colour_that_is_not_in_the_class_file_stops(tmp_path: Path) -> None:
    with_maps(tmp_path, coloured(blocks((0, 1, 2)), RGB))
    (tmp_path / "classes.txt").write_text("red 255 0 0\nblue 0 0 255\n")
    with pytest.raises(UnknownLabel) as error:
        read_samples(tmp_path)
    assert "0,0,0 at row 0, column 0" in error.value.found
    assert "--void 0,0,0" in error.value.try_
    assert found(read_samples(tmp_path, void=(0, 0, 0))) == [0, 1, 255]


def test_colour_label_maps_need_colours_in_the_class_file(tmp_path: Path) -> None:
    with_maps(tmp_path, coloured(blocks((0, 1, 2)), RGB))
    (tmp_path / "classes.txt").write_text("black\nred\nblue\n")
    with pytest.raises(LabelSpaceError, match="255,0,0"):
        read_samples(tmp_path)


def test_colours_in_the_class_file_are_for_show_where_label_maps_hold_ids(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 1))
    (tmp_path / "classes.txt").write_text("red 255 0 0\nblue 0 0 255\n")
    samples = read_samples(tmp_path)
    assert samples.label_space.file_values == ((0,), (1,))
    assert samples.label_space.colours == ((255, 0, 0), (0, 0, 255))


def test_palette_colours_are_looked_up_in_the_class_file(tmp_path: Path) -> None:
    with_maps(tmp_path, blocks((0, 1)), palette=[0, 0, 255, 255, 0, 0])
    (tmp_path / "classes.txt").write_text("red 255 0 0\nblue 0 0 255\n")
    assert read_samples(tmp_path).train[0].read()[1][0, 0] == 1


def test_two_class_files_that_differ_stop_and_two_that_agree_are_one(tmp_path: Path) -> None:
    paired(tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\na,1,0,0\nb,2,0,0\nc,3,0,0\n")
    assert read_samples(tmp_path).label_space.colours[2] == (3, 0, 0)
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    with pytest.raises(LabelSpaceError, match=r"labels\.txt"):
        read_samples(tmp_path)


# ---- classes, others, like ------------------------------------------------------------------------------------------


def test_some_classes_and_the_others_void(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 1, 2, 3))
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\ncow\n")
    samples = read_samples(tmp_path, classes=["dog", "background"])
    assert samples.label_space.names == ("dog", "background")
    assert found(samples) == [0, 1, 255]
    assert "the other 2 (cat, cow) become void" in said(samples)


def test_some_classes_and_the_others_background(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 1, 2, 3))
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\ncow\n")
    samples = read_samples(tmp_path, classes=["dog"], others="background")
    assert samples.label_space.names == ("background", "dog")
    assert found(samples) == [0, 1]


@pytest.mark.parametrize("classes", [["unicorn"], ["class_0", "class_0"]])
def test_classes_that_are_none_are_a_wrong_command(tmp_path: Path, classes: list[str]) -> None:
    with pytest.raises(UsageError):
        read_samples(paired(tmp_path), classes=classes)


def test_one_class_chosen_stops(tmp_path: Path) -> None:
    with pytest.raises(LabelSpaceError, match="at least 2 classes"):
        read_samples(paired(tmp_path), classes=["class_1"])


def test_a_bundles_label_space_reads_files_of_the_same_kind(tmp_path: Path) -> None:
    space = read_samples(paired(tmp_path / "trained", ids=(0, 4, 9))).label_space
    samples = read_samples(paired(tmp_path / "new", 2, ids=(4, 9)), like=space)
    assert len(samples.val) == 2
    assert samples.label_space == space
    assert found(samples) == [1, 2]
    with pytest.raises(UnknownLabel, match="5 at row 0"):
        read_samples(paired(tmp_path / "other", 2, ids=(4, 5)), like=space)
    with pytest.raises(UsageError):
        read_samples(tmp_path / "new", like=space, void=4)


# ---- sizes and orientation ------------------------------------------------------------------------------------------


def test_a_label_map_of_the_same_aspect_is_brought_to_the_photos_size(tmp_path: Path) -> None:
    paired(tmp_path, ids=(0, 5))
    label_map(tmp_path / "masks/0001.png", blocks((0, 5), (12, 16)))
    samples = read_samples(tmp_path)
    assert "1 label map of another size than the photo" in said(samples)
    small = next(sample for sample in samples.split("all") if sample.name == "0001")
    assert (small.read()[1] == blocks((0, 1))).all()


def test_a_label_map_of_another_aspect_is_skipped_and_listed(tmp_path: Path) -> None:
    paired(tmp_path)
    label_map(tmp_path / "masks/0001.png", blocks((0, 1, 2), (24, 33)))
    samples = read_samples(tmp_path)
    assert [(item.name, item.why) for item in samples.skipped] == [
        ("0001", "size: 0001.png is 33x24, 0001.jpg is 32x24")
    ]


def test_more_than_half_of_another_aspect_stop_unless_skipped(tmp_path: Path) -> None:
    paired(tmp_path)
    for index in range(3):
        label_map(tmp_path / f"masks/000{index}.png", blocks((0, 1, 2), (32, 24)))
    with pytest.raises(SizeMismatch, match="3 of 5 differ"):
        read_samples(tmp_path)
    assert len(read_samples(tmp_path, skip_bad=True).split("all")) == 2


def rotated(root: Path, orientation: int, stored: bool) -> SampleSet:
    """Pairs whose photos have an EXIF orientation; label maps drawn on the photo as stored, or upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for index in range(4):
        photo(root / f"images/{index}.jpg", index, exif=exif)
        upright = blocks((0, 1), SIZE[::-1] if orientation > 4 else SIZE)
        label_map(root / f"masks/{index}.png", blocks((0, 1)) if stored else upright)
    return read_samples(root)


def test_exif_orientation_turns_the_photo_and_the_label_map_drawn_on_it_as_stored(tmp_path: Path) -> None:
    upright = rotated(tmp_path / "upright", 6, stored=False)
    seen, labels = upright.train[0].read()
    assert seen.shape[:2] == labels.shape == SIZE[::-1]
    assert labels[0].tolist() == [0] * 12 + [1] * 12
    assert "turned upright by EXIF" in said(upright)
    stored = rotated(tmp_path / "stored", 6, stored=True)
    labels = stored.train[0].read()[1]
    assert labels.shape == SIZE[::-1]
    assert labels[:, 0].tolist() == [0] * 16 + [1] * 16  # turned clockwise: the left column is the top row
    assert "turned with it" in said(stored)


# ---- broken files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["images/0001.jpg", "masks/0001.png"])
@pytest.mark.parametrize("how", ["empty", "cut off", "text"])
def test_an_unreadable_file_is_skipped_and_listed(tmp_path: Path, file: str, how: str) -> None:
    paired(tmp_path)
    path = tmp_path / file
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut off": data[: len(data) // 2], "text": b"no image"}[how])
    samples = read_samples(tmp_path)
    assert [item.name for item in samples.skipped] == ["0001"]
    assert "unreadable" in samples.skipped[0].why
    assert path.name in samples.skipped[0].why


def test_more_than_half_unreadable_stop_unless_skipped(tmp_path: Path) -> None:
    paired(tmp_path)
    for index in range(3):
        (tmp_path / f"images/000{index}.jpg").write_bytes(b"x")
    with pytest.raises(UnreadableImage, match="3 of 5 samples"):
        read_samples(tmp_path)
    assert len(read_samples(tmp_path, skip_bad=True).skipped) == 3
