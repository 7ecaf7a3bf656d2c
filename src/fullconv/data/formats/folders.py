"""Folders by their names, images in them, split lists. Road: data, below the formats. Knows no pixels."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fullconv.base.images import IMAGE_SUFFIXES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PHOTO_WORDS = _words(
    "image images img imgs photo photos picture pictures pic pics jpegimages rgb camerargb leftimg8bit input "
    "inputs original originals jpeg jpegs frame frames"
)
LABEL_WORDS = _words(
    "mask masks label labels annotation annotations annot annots anno ann gt groundtruth segmentation "
    "segmentations seg segs labelmap labelmaps target targets cameraseg gtfine segmentationclass "
    "segmentationmask segmentationmasks segmask segmasks truth lbl lbls"
)
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_IGNORED = ("__macosx", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Role:
    """What a folder's name says: a split, and whether photos or label maps."""

    split: str | None
    kind: str | None  # "photo", "label"


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in `folder`, by name; hidden ones are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in _IGNORED
    )


def child(folder: Path, *names: str) -> Path | None:
    """The first folder in `folder` that has one of the names, upper or lower case."""
    by_name = {path.name.lower(): path for path in reversed(subfolders(folder))}
    return next((by_name[name.lower()] for name in names if name.lower() in by_name), None)


def images_in(folder: Path, *, deep: bool = True) -> list[Path]:
    """The image files in `folder` and the folders in it, by name; hidden ones are left out."""
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if deep:
        found += [path for inner in subfolders(folder) for path in images_in(inner)]
    return sorted(found)


def has_images(folder: Path) -> bool:
    """Whether there is any image in `folder` or the folders in it."""
    return bool(images_in(folder, deep=False)) or any(map(has_images, subfolders(folder)))


def role_of(name: str) -> Role:
    """Read a folder's name: `train_labels` is the label maps of train, `images` photos of no split.

    >>> role_of("train_labels")
    Role(split='train', kind='label')
    """
    words = re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    rest = [word for word in words if word not in SPLIT_WORDS]
    glued = "".join(rest)
    if not splits:  # trainannot, valmasks
        for word, split in SPLIT_WORDS.items():
            if glued.startswith(word) and glued[len(word) :] in LABEL_WORDS | PHOTO_WORDS:
                splits, glued, rest = [split], glued[len(word) :], [glued[len(word) :]]
                break
    label = glued in LABEL_WORDS or any(word in LABEL_WORDS for word in rest)
    photo = glued in PHOTO_WORDS or any(word in PHOTO_WORDS for word in rest)
    kind = "label" if label else "photo" if photo else None
    return Role(splits[0] if splits else None, kind)


def split_children(folder: Path) -> dict[str, Path]:
    """Split -> the subfolder of that name (train, training; val, valid, validation; test)."""
    return {
        SPLIT_WORDS[path.name.lower()]: path
        for path in reversed(subfolders(folder))
        if path.name.lower() in SPLIT_WORDS
    }


def split_lists(folder: Path) -> dict[str, Path]:
    """Split -> the list of that name in `folder`: train.txt, val.lst, valid.csv, ..."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        split = SPLIT_WORDS.get(re.sub(r"([_-]?(list|files|names|set|ids|split))$", "", path.stem.lower()))
        if split and path.suffix.lower() in (".txt", ".lst", ".csv", ".list") and path.is_file():
            found.setdefault(split, path)
    return found


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that say something: blank ones and comments are left out."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def named_in(line: str, index: Mapping[str, str]) -> str | None:
    """The sample that a line of a split list names: by name, file name, path, alone or with its label map's path."""
    for text in (line, *next(csv.reader([line])), *re.split(r"[\t,; ]+", line)):
        for key in _keys(text.strip().strip("\"'")):
            if key in index:
                return index[key]
    return None


def index_of(names: Mapping[str, tuple[Path, ...]]) -> dict[str, str]:
    """Every way to name a sample (name, file name, stem) -> its name; what is not unique is left out."""
    index: dict[str, str | None] = {}
    for name, files in names.items():
        ways = {name, *(file.name for file in files), *(file.stem for file in files)}
        for way in ways:
            index[way] = name if index.get(way, name) == name else None
    index.update({name: name for name in names})
    return {way: name for way, name in index.items() if name is not None}


def _keys(text: str) -> list[str]:
    path = text.replace("\\", "/").rstrip("/")
    without_suffix = re.sub(r"\.[A-Za-z]{3,4}$", "", path)
    tails = [path.split("/", cut)[-1] for cut in range(path.count("/") + 1)]
    stems = [without_suffix.split("/", cut)[-1] for cut in range(path.count("/") + 1)]
    return [key for key in (*tails, *stems) if key]
