from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.data.samples import Sample
from fullconv.labels.space import LabelSpace
from fullconv.train import baselines

SPACE = LabelSpace(("red", "striped"), ((255, 0, 0), (90, 90, 90)), ((0,), (1,)), void_values=(255,))
BASELINES = {"nearest_colour": baselines.nearest_colour, "patch_forest": baselines.patch_forest}


def write(folder: Path, name: str, photo: np.ndarray, labels: np.ndarray) -> Sample:
    Image.fromarray(photo).save(folder / f"{name}.png")
    Image.fromarray(labels).save(folder / f"{name}_mask.png")
    return Sample(name, folder / f"{name}.png", folder / f"{name}_mask.png", labels.shape, SPACE)


def halves(size: tuple[int, int] = (40, 60)) -> tuple[np.ndarray, np.ndarray]:
    """Left red; right of white and black stripes, of the same mean brightness."""
    photo = np.zeros((*size, 3), np.uint8)
    photo[:, : size[1] // 2, 0] = 200
    photo[:, size[1] // 2 :] = (np.arange(size[0]) % 4 < 2)[:, None, None] * np.uint8(255)
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 :] = 1
    return photo, labels


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "FOREST_PIXELS", 400)
    monkeypatch.setattr(baselines, "COLOUR_PIXELS", 400)
    monkeypatch.setattr(baselines, "TREES", 5)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_learns_what_is_easy(tmp_path: Path, name: str) -> None:
    photo, labels = halves()
    segment = BASELINES[name]([write(tmp_path, "a", photo, labels)])
    assert (segment(photo) == labels).mean() > 0.95


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (41, 61)])
def test_a_baseline_gives_a_label_map_of_the_photos_size(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    segment = BASELINES[name]([write(tmp_path, "a", *halves())])
    labels = segment(np.zeros((*size, 3), np.uint8))
    assert labels.shape == size
    assert set(np.unique(labels)) <= {0, 1}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", BASELINES)
def test_void_is_never_learned(tmp_path: Path, name: str) -> None:
    photo, labels = halves()
    labels[:, 30:] = SPACE.void
    segment = BASELINES[name]([write(tmp_path, "a", photo, labels)])
    assert np.all(segment(photo) == 0)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_a_function_of_its_seed(tmp_path: Path, name: str) -> None:
    photo, labels = halves()
    noisy = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    one, again = (BASELINES[name]([write(tmp_path, "a", noisy, labels)], seed=4)(noisy) for _ in range(2))
    assert np.array_equal(one, again)


@pytest.mark.usefixtures("few")
def test_the_forest_sees_what_colour_cannot(tmp_path: Path) -> None:
    """Two textures of the same two greys."""
    photo = np.zeros((48, 64, 3), np.uint8)
    photo[:, :32] = (np.arange(48) % 4 < 2)[:, None, None] * np.uint8(255)
    photo[:, 32:] = (np.arange(48) % 12 < 6)[:, None, None] * np.uint8(255)
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 32:] = 1
    samples = [write(tmp_path, "a", photo, labels)]
    by_forest = (baselines.patch_forest(samples)(photo) == labels).mean()
    by_colour = (baselines.nearest_colour(samples)(photo) == labels).mean()
    assert by_forest > 0.85
    assert by_colour < 0.7


def test_patches_are_centred_on_their_pixel() -> None:
    photo = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)
    patches = baselines._patches(photo, 15)
    assert patches.shape == (20, 30, 3, 15, 15)
    assert np.array_equal(patches[9, 11], photo[2:17, 4:19].transpose(2, 0, 1))
    assert np.array_equal(patches[0, 0, :, 7, 7], photo[0, 0])
