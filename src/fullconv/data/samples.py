"""A sample is one photo with its label map; a sample set is what was read, with every decision said. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.images import read_photo
from fullconv.labels.decode import Drawn, source_of
from fullconv.labels.maps import read_label_map
from fullconv.labels.space import LabelSpace

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One photo with its label map.

    Args:
        name: the photo's stem, or folder and stem where stems alone are not unique.
        size: (H, W) of the upright photo.
        label_map: its file, or how it is drawn from an annotation file.
        turn: the EXIF orientation by which the label map is turned too: 1 (not at all) unless it was drawn on the
            photo as stored.
    """

    name: str
    photo: Path
    label_map: Path | Drawn
    size: tuple[int, int]
    label_space: LabelSpace
    turn: int = 1

    def read(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """(H, W, 3) uint8 RGB and (H, W) class ids with void, of one size. Raises: UnreadableImage, UnknownLabel."""
        return read_photo(self.photo), self.read_labels()

    def read_labels(self) -> NDArray[Any]:
        """(H, W) class ids with void, at the photo's size, without decoding the photo."""
        return read_label_map(self.label_map, self.label_space, size=self.size, turn=self.turn)


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why."""

    name: str
    files: tuple[Path, ...]
    why: str


@dataclass(frozen=True)
class SampleSet:
    """What was read from a folder.

    Args:
        layout: the name of the format: "voc", "paired", "coco", ...
        notes: sentences that say what was recognised, why, and what was done.
        pixels: sample name -> pixels of each class and, last, of void, in the label map as it is on disk.
        contents: sample name -> sha256 of its photo's file.
    """

    root: Path
    layout: str
    label_space: LabelSpace
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    pixels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Sample, ...]:
        """The samples of "train", "val", "test", or of "all" three."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return (*self.train, *self.val, *self.test) if name == "all" else parts[name]

    def to_json(self) -> dict[str, Any]:
        """The document of samples.json."""
        return {
            "schema": "fullconv.samples/1",
            "root": str(self.root),
            "layout": self.layout,
            "label_space": self.label_space.to_json(),
            "counts": {split: len(self.split(split)) for split in SPLITS} | {"skipped": len(self.skipped)},
            "classes": class_table(self),
            "notes": list(self.notes),
            "splits": {split: [_sample_json(sample, self.root) for sample in self.split(split)] for split in SPLITS},
            "skipped": [
                {"name": item.name, "files": [_beside(file, self.root) for file in item.files], "why": item.why}
                for item in self.skipped
            ],
        }


def class_table(samples: SampleSet) -> list[dict[str, Any]]:
    """Per class: in how many label maps it is, and its pixels, over all splits; void last."""
    counts = np.array(list(samples.pixels.values()), np.int64).reshape(-1, samples.label_space.size + 1)
    names = (*samples.label_space.names, "void")
    total = int(counts.sum()) or 1
    return [
        {
            "id": index if index < samples.label_space.size else samples.label_space.void,
            "name": name,
            "images": int((counts[:, index] > 0).sum()),
            "pixels": int(counts[:, index].sum()),
            "share": round(int(counts[:, index].sum()) / total, 6),
        }
        for index, name in enumerate(names)
    ]


def _sample_json(sample: Sample, root: Path) -> dict[str, Any]:
    return {
        "name": sample.name,
        "photo": _beside(sample.photo, root),
        "label_map": _beside(source_of(sample.label_map), root),
        "size": list(sample.size),
    }


def _beside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
