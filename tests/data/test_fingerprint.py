from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.data.fingerprint import SHRINKS, fingerprint_of, shrink, void_last
from fullconv.data.samples import Sample
from fullconv.labels.space import LabelSpace

SPACE = LabelSpace(
    ("ground", "tree", "bird"), ((0, 0, 0), (0, 255, 0), (255, 0, 0)), ((0,), (1,), (2,)), void_values=(255,)
)


def sample(folder: Path, name: str, labels: np.ndarray) -> Sample:
    Image.fromarray(labels.astype(np.uint8)).save(folder / f"{name}.png")
    return Sample(name, folder / f"{name}.jpg", folder / f"{name}.png", labels.shape, SPACE)


def slow_shrink(labels: np.ndarray, factor: int) -> np.ndarray:
    """By definition: every cell takes the most frequent class of its pixels that are not void."""
    out = np.full(labels.shape, SPACE.void)
    for top in range(0, labels.shape[0], factor):
        for left in range(0, labels.shape[1], factor):
            cell = labels[top : top + factor, left : left + factor]
            known = [int(value) for value in cell.ravel() if value != SPACE.void]
            if known:
                out[top : top + factor, left : left + factor] = max(sorted(set(known)), key=known.count)
    return out


def slow_iou(truth: np.ndarray, guess: np.ndarray, label: int) -> float | None:
    known = truth != SPACE.void
    if not ((truth == label) & known).any():
        return None
    both = ((truth == label) & (guess == label) & known).sum()
    return both / (((truth == label) | (guess == label)) & known).sum()


def random_map(size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, 255], (9, 9), p=[0.5, 0.3, 0.1, 0.1])
    labels = np.kron(coarse, np.ones((12, 12), int))[: size[0], : size[1]]
    noise = rng.random(size) < 0.1
    return np.where(noise, rng.choice([0, 1, 2, 255], size), labels)


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 1), (50, 31)])
@pytest.mark.parametrize("factor", SHRINKS)
def test_the_ceiling_is_that_of_its_definition(tmp_path: Path, size: tuple[int, int], factor: int) -> None:
    labels = random_map(size, seed=size[0] + factor)
    found = fingerprint_of([sample(tmp_path, "a", labels)], SPACE)
    expected = [slow_iou(labels, slow_shrink(labels, factor), label) for label in range(3)]
    assert [entry.ceiling[factor] for entry in found.classes] == pytest.approx(expected)
    occurring = [value for value in expected if value is not None]
    assert found.ceiling[factor] == (pytest.approx(np.mean(occurring)) if occurring else None)


def test_void_pixels_change_no_ceiling() -> None:
    labels = np.zeros((32, 32), int)
    labels[:, 16:] = 1
    bordered = labels.copy()
    bordered[:, 14:18] = SPACE.void
    counts = shrink(void_last(bordered, SPACE), 3)
    for factor in (16, 8, 4):  # the edge lies on a cell's border: each cell is of one class
        assert counts[factor].tolist() == [[448, 448, 0], [448, 448, 0]]


def test_the_ceiling_rises_as_cells_get_finer(tmp_path: Path) -> None:
    samples = [sample(tmp_path, str(seed), random_map((80, 100), seed)) for seed in range(3)]
    ceiling = fingerprint_of(samples, SPACE).ceiling
    values = [ceiling[factor] for factor in SHRINKS]
    assert values == sorted(values)
    assert values[0] < values[-1] < 1


def test_counts_are_those_of_the_label_maps(tmp_path: Path) -> None:
    one = np.zeros((10, 20), int)
    one[2:4, 2:4] = one[6:8, 10:12] = 1
    one[4, 4] = 1  # touches the first square by a corner only: a region of its own
    one[0, :] = 255
    two = np.zeros((20, 10), int)
    found = fingerprint_of([sample(tmp_path, "one", one), sample(tmp_path, "two", two)], SPACE)
    assert found.photos == 2
    assert found.pixels == 400
    assert found.void_share == 20 / 400
    assert dict(found.sizes) == {(10, 20): 1, (20, 10): 1}
    ground, tree, bird = found.classes
    assert (tree.pixels, tree.photos, tree.regions, tree.share) == (9, 1, 3, 9 / 380)
    assert (ground.photos, ground.regions) == (2, 2)
    assert (bird.pixels, bird.photos, bird.regions, bird.ceiling[8]) == (0, 0, 0, None)
    assert found.background is None
    assert fingerprint_of([sample(tmp_path, "one", one)], replace(SPACE, background=0)).background == 171 / 180


def test_the_document_is_json_with_a_schema(tmp_path: Path) -> None:
    document = fingerprint_of([sample(tmp_path, "a", random_map((40, 40), 1))], SPACE).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "fullconv.fingerprint/1"
    assert list(document["ceiling"]) == ["32", "16", "8", "4"]


def test_photos_are_not_decoded(tmp_path: Path) -> None:
    """The sample's photo does not even exist."""
    item = sample(tmp_path, "a", np.zeros((8, 8), int))
    assert not item.photo.exists()
    assert fingerprint_of([item], SPACE).photos == 1


def test_voc_ceilings_lie_near_the_published_ones(shared: Path) -> None:
    """Long et al. 2017, table of upper bounds: 86.1 at 32, 92.8 at 16, 96.4 at 8, 98.5 at 4, on VOC 2011 val."""
    from fullconv.data.read import read_samples

    samples = read_samples(
        shared / "data/voc-animals", classes=["background", "cat", "cow", "dog", "horse", "person", "sheep"]
    )
    ceiling = fingerprint_of(samples.val, samples.label_space).ceiling
    published = {32: 0.861, 16: 0.928, 8: 0.964, 4: 0.985}
    for factor, value in published.items():
        assert ceiling[factor] == pytest.approx(value, abs=0.03)
