"""What label maps hold, counted fast, equals what the fingerprint counts by its own way, and definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from fullconv.data.fingerprint import SHRINKS, fingerprint_of
from fullconv.data.samples import Sample
from fullconv.labels.space import LabelSpace
from fullconv.study.content import content_of

SPACE = LabelSpace(
    ("ground", "tree", "bird"), ((0, 0, 0), (0, 255, 0), (255, 0, 0)), ((0,), (1,), (2,)), void_values=(255,)
)


def drawn(folder: Path, number: int) -> list[Sample]:
    samples = []
    for index in range(number):
        rng = np.random.default_rng(index)
        blobs = ndimage.zoom(rng.integers(0, 4, (7, 9)), 9, order=0)[: 50 + index, : 70 - index]
        labels = np.where(blobs == 3, 255, blobs).astype(np.uint8)
        labels[rng.random(labels.shape) < 0.02] = 2
        path = folder / f"{index}.png"
        Image.fromarray(labels).save(path)
        samples.append(Sample(str(index), path, path, labels.shape, SPACE))
    return samples


def test_pixels_regions_and_ceiling_are_those_of_the_fingerprint(tmp_path: Path) -> None:
    samples = drawn(tmp_path, 5)
    content, seen = content_of(samples, SPACE.size), fingerprint_of(samples, SPACE)
    assert content.pixels.sum(0).tolist()[:-1] == [entry.pixels for entry in seen.classes]
    assert content.pixels.sum() == seen.pixels
    assert content.regions.tolist() == [entry.regions for entry in seen.classes]
    assert content.mean_ceiling == seen.ceiling
    for factor in SHRINKS:
        assert content.ceiling[factor] == [entry.ceiling[factor] for entry in seen.classes]


def test_tiny_regions_have_fewer_pixels_than_a_cell(tmp_path: Path) -> None:
    (sample,) = drawn(tmp_path, 1)
    content = content_of([sample], SPACE.size)
    labels = sample.read_labels()
    for factor in SHRINKS:
        for index in range(SPACE.size):
            numbered, number = ndimage.label(labels == index)
            areas = [int((numbered == one).sum()) for one in range(1, number + 1)]
            assert content.tiny[factor][index] == sum(area < factor**2 for area in areas)


def test_what_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    samples = drawn(tmp_path, 2)
    samples[0].label_map.write_bytes(b"")
    content = content_of(samples, SPACE.size)
    assert content.pixels[0].sum() == 0
    assert content.pixels[1].sum() > 0
