"""What is written of a prediction, and under which names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.base.errors import UsageError
from fullconv.nets.prediction import Prediction
from fullconv.predict.outputs import output_names, overlay, shares, spare_photos, write_prediction
from small_nets import SPACE


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def prediction() -> Prediction:
    scores = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    return Prediction(scores.argmax(0).astype(np.uint8), scores, SPACE)


def photo() -> np.ndarray:
    return np.full((5, 7, 3), 100, np.uint8)


def test_the_label_map_holds_class_ids_and_the_spaces_colours(tmp_path: Path) -> None:
    written = write_prediction(prediction(), photo(), tmp_path, "a")
    assert [path.name for path in written] == ["a.png", "a_overlay.jpg"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    with Image.open(written[0]) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), prediction().labels)
        assert image.getpalette()[:9] == [0, 0, 0, 200, 30, 30, 30, 200, 30]


def test_scores_are_written_whole_and_as_pictures(tmp_path: Path) -> None:
    written = write_prediction(prediction(), photo(), tmp_path, "a", scores=True)
    with np.load(tmp_path / "a_scores.npz") as archive:
        assert np.array_equal(archive["scores"], prediction().scores)
        assert archive["classes"].tolist() == ["background", "cat", "dog"]
    assert [path.name for path in written[3:]] == ["00_background.png", "01_cat.png", "02_dog.png"]
    total = sum(read(path) for path in written[3:])
    assert abs(total - 255).max() <= 2


def test_the_overlay_leaves_the_background_as_it_is() -> None:
    found, labels = overlay(photo(), prediction()), prediction().labels
    assert (found[labels == 0] == 100).all()
    assert (abs(found[labels == 1].astype(int) - [155, 62, 62]) <= 1).all()  # 0.45 * 100 + 0.55 * colour


def test_shares_are_a_softmax() -> None:
    assert np.allclose(shares(prediction().scores).sum(0), 1, atol=1e-6)
    assert np.isfinite(shares(np.array([[[1000.0]], [[-1000.0]]], np.float32))).all()


NAMES = [
    (["a.jpg", "b.jpg"], ["a", "b"]),
    (["x/a.jpg", "y/a.jpg"], ["x/a", "y/a"]),
    (["x/1/a.jpg", "x/2/a.jpg", "b.jpg"], ["1/a", "2/a", "b"]),
    (["a.jpg", "a.png"], ["a_jpg", "a_png"]),
    (["x/a.jpg", "x/a.png", "y/a.jpg"], ["x/a_jpg", "x/a_png", "y/a"]),
    (["a.jpg", "sub/a.jpg"], ["a", "sub/a"]),
    (["A.jpg", "a.jpg"], ["A_jpg", "a_jpg_2"]),
]


@pytest.mark.parametrize(("photos", "names"), NAMES)
def test_photos_of_one_stem_get_names_of_their_own(photos: list[str], names: list[str]) -> None:
    assert output_names([Path(name) for name in photos]) == names


def test_no_photo_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no photo may be overwritten"):
        spare_photos([tmp_path / "a.png"], ["a"], tmp_path)
    spare_photos([tmp_path / "a.jpg"], ["a"], tmp_path)
