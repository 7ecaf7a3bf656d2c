from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.data.scenes import OBJECTS, SCENE_CLASSES, SCENE_SPACE, draw_scene, write_scenes


def test_a_scene_is_a_function_of_seed_index_and_size() -> None:
    photo, labels = draw_scene(3, 5, (64, 96))
    again, labels_again = draw_scene(3, 5, (64, 96))
    assert np.array_equal(photo, again)
    assert np.array_equal(labels, labels_again)
    assert not np.array_equal(photo, draw_scene(3, 6, (64, 96))[0])
    assert not np.array_equal(photo, draw_scene(4, 5, (64, 96))[0])


@pytest.mark.parametrize("size", [(32, 32), (61, 200), (192, 256)])
def test_a_scene_has_the_size_and_types_promised(size: tuple[int, int]) -> None:
    photo, labels = draw_scene(0, 0, size)
    assert photo.shape == (*size, 3)
    assert labels.shape == size
    assert photo.dtype == labels.dtype == np.uint8
    assert labels.max() < len(SCENE_CLASSES)


def test_there_are_at_least_six_classes_and_all_occur_often() -> None:
    assert len(OBJECTS) >= 6
    photos_with = np.zeros(len(SCENE_CLASSES), int)
    for index in range(30):
        photos_with[np.unique(draw_scene(0, index)[1])] += 1
    assert photos_with[0] == 30
    assert photos_with.min() >= 8


def test_colour_does_not_tell_the_class() -> None:
    """The mean colours of two classes lie closer than one class's colours scatter."""
    colours: dict[int, list[np.ndarray]] = {label: [] for label in range(len(SCENE_CLASSES))}
    for index in range(30):
        photo, labels = draw_scene(0, index)
        for label in np.unique(labels):
            colours[int(label)].append(photo[labels == label].mean(axis=0))
    means = np.array([np.mean(values, axis=0) for values in colours.values()])
    scatter = min(np.std(values, axis=0).min() for values in colours.values())
    assert np.std(means, axis=0).max() < scatter


@pytest.mark.parametrize("name", OBJECTS)
def test_an_outline_is_closed_and_as_large_as_its_radius_says(name: str) -> None:
    outline, _ = OBJECTS[name]
    y, x = np.meshgrid(np.linspace(-2, 2, 201), np.linspace(-2, 2, 201), indexing="ij")
    inside = outline(y, x) < 0
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()
    assert 0.7 < np.hypot(y, x)[inside].max() < 1.4


@pytest.mark.parametrize("name", OBJECTS)
def test_a_pattern_is_within_0_and_1_and_not_flat(name: str) -> None:
    _, pattern = OBJECTS[name]
    y, x = np.meshgrid(np.arange(-40.0, 40), np.arange(-40.0, 40), indexing="ij")
    values = pattern(y, x, np.random.default_rng(0))
    assert values.min() >= 0
    assert values.max() <= 1
    assert np.std(values) > 0.1


def test_written_scenes_are_read_back_as_drawn(tmp_path: Path) -> None:
    from fullconv.data.read import read_samples

    write_scenes(tmp_path, train=3, val=2, seed=7, size=(64, 64))
    samples = read_samples(tmp_path)
    assert samples.label_space.names == SCENE_CLASSES
    assert (len(samples.train), len(samples.val), len(samples.skipped)) == (3, 2, 0)
    photo, labels = samples.train[0].read()
    mask = np.asarray(Image.open(samples.train[0].label_map))
    assert photo.shape == (64, 64, 3)
    assert np.array_equal(labels, mask)
    assert labels.max() < SCENE_SPACE.size


def test_val_scenes_do_not_depend_on_the_number_of_training_scenes(tmp_path: Path) -> None:
    few = write_scenes(tmp_path / "few", train=1, val=1, size=(48, 48))
    many = write_scenes(tmp_path / "many", train=2, val=1, size=(48, 48))
    for part in ("images/val/0000.jpg", "masks/val/0000.png"):
        assert (few / part).read_bytes() == (many / part).read_bytes()
    assert (many / "images/train/0000.jpg").read_bytes() != (many / "images/val/0000.jpg").read_bytes()
