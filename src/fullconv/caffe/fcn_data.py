"""The data layers of the FCN authors' repository, without running its code. Road: caffe, layers.

Their names are recognised, their `param_str` is read as a literal, and the folders it names are read as their authors
laid them out: VOC, SBDD, NYUDv2, SIFT Flow, PASCAL-Context. One photo a pass: BGR, less the mean; labels 0 to K - 1,
void 255. Where a folder is not there, the tops are inputs that the caller fills.
"""

from __future__ import annotations

import ast
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fullconv.base.images import read_photo
from fullconv.caffe.layer import Layer, Shape

log = logging.getLogger("fullconv.caffe")
Floats = NDArray[np.float32]
Read = Callable[[Path, str, Mapping[str, Any]], Floats]  # of the folder, the item and the settings: (C, H, W)

_SIZE = (500, 375)  # of tops before anything was read; nets take any
_MEANS = {  # BGR, 0 to 255, as the repository's nets were trained
    "voc": (104.00699, 116.66877, 122.67892),
    "nyud": (116.190, 97.203, 92.318),
    "hha": (132.431, 94.076, 118.477),
    "siftflow": (114.578, 115.294, 108.353),
    "context": (104.007, 116.669, 122.679),
}
_DEPTH_MEAN = 7.844  # of log depth
_SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


def _bgr(path: Path, mean: Sequence[float]) -> Floats:
    photo = read_photo(path)[:, :, ::-1].astype(np.float32)
    found: Floats = np.ascontiguousarray((photo - np.array(mean, np.float32)).transpose(2, 0, 1))
    return found


def _ids(path: Path) -> Floats:
    with Image.open(path) as image:
        found: Floats = np.asarray(image, np.uint8)[None].astype(np.float32)
    return found


def _matlab(path: Path, name: str) -> NDArray[Any]:
    from scipy.io import loadmat

    found: NDArray[Any] = loadmat(str(path))[name]
    return found


def _from_one(labels: NDArray[Any]) -> Floats:
    """Labels that begin with 1 as such that begin with 0; their 0, void, becomes 255."""
    found: Floats = (labels.astype(np.uint8) - np.uint8(1))[None].astype(np.float32)
    return found


def _sbdd_label(root: Path, item: str, settings: Mapping[str, Any]) -> Floats:
    kept = _matlab(root / f"cls/{item}.mat", "GTcls")
    return np.asarray(kept[0]["Segmentation"][0], np.uint8)[None].astype(np.float32)


def _depth(root: Path, item: str, settings: Mapping[str, Any]) -> Floats:
    with Image.open(root / f"data/depth/img_{item}.png") as image:
        return np.log(np.asarray(image, np.float32))[None] - np.float32(_DEPTH_MEAN)


def _context_label(root: Path, item: str, settings: Mapping[str, Any]) -> Floats:
    """59 of the 459 classes by name, from 1 on; all others 0."""
    context = Path(settings["context_dir"])
    every, kept = ([line.split(":")[-1].strip() for line in (context / name).read_text().splitlines() if line.strip()]
                   for name in ("labels.txt", "59_labels.txt"))  # fmt: skip
    labels = _matlab(context / f"trainval/{item}.mat", "LabelMap")
    table = np.zeros(len(every) + 1, np.float32)
    for place, name in enumerate(kept):
        table[every.index(name) + 1] = place + 1
    found: Floats = table[labels.astype(int)][None]
    return found


def _photo(pattern: str, mean: str) -> Read:
    def read(root: Path, item: str, settings: Mapping[str, Any]) -> Floats:
        return _bgr(root / pattern.format(item), settings.get("mean", _MEANS[mean]))

    return read


def _sift_label(folder: str) -> Read:
    return lambda root, item, settings: _from_one(_matlab(root / folder / _SCENES / f"{item}.mat", "S"))


@dataclass(frozen=True)
class DataSet:
    """How a data set lies in its folder.

    Args:
        folder: the setting that names the folder.
        listing: the file with one item a line, by split.
        tops: what is read for each top.
    """

    folder: str
    listing: str
    tops: Mapping[str, Read]


DATA_SETS: Mapping[str, DataSet] = {
    "VOCSegDataLayer": DataSet(
        "voc_dir",
        "ImageSets/Segmentation/{}.txt",
        {
            "data": _photo("JPEGImages/{}.jpg", "voc"),
            "label": lambda root, item, settings: _ids(root / f"SegmentationClass/{item}.png"),
        },
    ),
    "SBDDSegDataLayer": DataSet("sbdd_dir", "{}.txt", {"data": _photo("img/{}.jpg", "voc"), "label": _sbdd_label}),
    "NYUDSegDataLayer": DataSet(
        "nyud_dir",
        "{}.txt",
        {
            "color": _photo("data/images/img_{}.png", "nyud"),
            "depth": _depth,
            "hha": _photo("data/hha/img_{}.png", "hha"),
            "label": lambda root, item, settings: _from_one(
                _matlab(root / f"segmentation/img_{item}.mat", "segmentation")
            ),
        },
    ),
    "SIFTFlowSegDataLayer": DataSet(
        "siftflow_dir",
        "{}.txt",
        {
            "data": _photo(f"Images/{_SCENES}/{{}}.jpg", "siftflow"),
            "sem": _sift_label("SemanticLabels"),
            "geo": _sift_label("GeoLabels"),
        },
    ),
    "PASCALContextSegDataLayer": DataSet(
        "voc_dir", "ImageSets/Main/{}.txt", {"data": _photo("JPEGImages/{}.jpg", "context"), "label": _context_label}
    ),
}
_ONE_CHANNEL = ("depth", "label", "sem", "geo")


def _names_are_texts(settings: Mapping[str, Any]) -> bool:
    folders = [settings.get(name, "") for name in ("split", *(one.folder for one in DATA_SETS.values()))]
    tops = settings.get("tops", ())
    return isinstance(tops, list | tuple) and all(isinstance(name, str) for name in (*folders, *tops))


class Python(Layer):
    """A data layer of the FCN repository; every other Python layer is refused."""

    bottoms = (0, 0)
    tops = (1, None)
    place = -1

    @cached_property
    def settings(self) -> dict[str, Any]:
        try:
            found = ast.literal_eval(self.param.python_param.param_str or "{}")
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found = None
        if not isinstance(found, dict) or not _names_are_texts(found):
            self.fail("param_str is a dictionary of literals, its names texts", repr(self.param.python_param.param_str))
        return found

    @cached_property
    def data_set(self) -> DataSet:
        name = self.param.python_param.layer
        if name not in DATA_SETS:
            self.fail(
                f"a Python layer is one of the FCN repository's: {', '.join(DATA_SETS)}",
                f"{self.param.python_param.module}.{name}, whose code is not run",
                'replace it by a layer of type "Input"',
            )
        return DATA_SETS[name]

    @cached_property
    def root(self) -> Path | None:
        """The data set's folder; None where it is not there."""
        given = str(self.settings.get(self.data_set.folder, ""))
        for path in (Path(given), (self.folder or Path()) / given):
            if given and os.path.exists(path / self.data_set.listing.format(self.settings.get("split", ""))):
                return path
        log.warning("%s: %r is not there: its tops are inputs", self.title, given)
        return None

    @property
    def is_input(self) -> bool:
        return self.root is None

    @cached_property
    def items(self) -> list[str]:
        assert self.root is not None
        return (self.root / self.data_set.listing.format(self.settings["split"])).read_text().split()

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        wrong = [name for name in self.readers if name not in self.data_set.tops]
        if wrong or len(self.readers) != len(self.param.top):
            self.fail(f"its tops are of {', '.join(self.data_set.tops)}", f"{', '.join(self.readers)}")
        return [(1, 1 if name in _ONE_CHANNEL else 3, *_SIZE) for name in self.readers]

    @property
    def readers(self) -> list[str]:
        """What each top is: by `tops` of the settings, else by the tops' own names."""
        return [str(name) for name in self.settings.get("tops", self.param.top)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        assert self.root is not None, "inputs are not run"
        if self.place < 0:
            self.place = 0
            self.random = random.Random(self.settings.get("seed")) if "train" in self.settings["split"] else None
        at = self.random.randrange(len(self.items)) if self.random else self.place % len(self.items)
        self.place += 1
        read = [self.data_set.tops[name](self.root, self.items[at], self.settings) for name in self.readers]
        return [torch.from_numpy(one)[None] for one in read]
