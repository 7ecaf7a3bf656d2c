"""Class folders: one folder of photos a class, for the classifier; also with train/ and val/ in front. Knows no pixels.

In: a folder. Out: labelled photos, some of each class held out. Exact duplicates stay on one side.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullconv.base.errors import LabelSpaceError, LayoutUnknown, SplitError, UnreadableImage
from fullconv.base.progress import progress
from fullconv.data.formats.folders import images_in, role_of, split_children, subfolders
from fullconv.data.formats.listing import count, some
from fullconv.data.samples import Skipped
from fullconv.data.split import SHARE, Item, hold_out
from fullconv.data.survey import photo_facts


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo of one class; `name` is its class and stem."""

    path: Path
    label: int
    name: str


@dataclass(frozen=True)
class ClassFolders:
    """The photos of class folders; `notes` say what was recognised and done."""

    class_names: tuple[str, ...]
    train: tuple[LabelledPhoto, ...]
    val: tuple[LabelledPhoto, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Counts, notes and what was left out."""
        return {
            "schema": "fullconv.class_folders/1",
            "classes": [
                {"id": index, "name": name, "train": _number(self.train, index), "val": _number(self.val, index)}
                for index, name in enumerate(self.class_names)
            ],
            "notes": list(self.notes),
            "skipped": [{"name": s.name, "files": [str(f) for f in s.files], "why": s.why} for s in self.skipped],
        }


def read_class_folders(
    directory: Path | str, *, seed: int = 0, share: float = SHARE, kept_back: frozenset[str] = frozenset()
) -> ClassFolders:
    """Read a tree with one folder of photos a class, itself or below train/ and val/.

    Args:
        seed: of the photos held out where no val/ is given.
        share: of the photos of each class to hold out, 0 to 1.
        kept_back: sha256 of photos that nothing may be trained on: those of val and test.
    Returns: the classes in the order of their names, and the photos.
    Raises: LayoutUnknown if there are no class folders; LabelSpaceError if there are fewer than 2 classes;
        SplitError if a class has fewer than 2 photos or val/ has a class that train/ has not;
        UnreadableImage if more than half of the photos cannot be decoded.
    """
    root = _root(Path(directory))
    given = _given(root)
    names = tuple(sorted(_class_folders(given.get("train", root))))
    notes = [f"Class folders in {root}: {len(names)} classes ({some(names, 12)})."]
    _check_names(root, names, given)
    listed = {split: _photos(folder, names) for split, folder in given.items()}
    contents, broken = _readable([photo for photos in listed.values() for photo in photos])
    clashing = _clashing(contents)
    skipped = [*broken, *(Skipped(p.name, (p.path,), "the same photo is in several classes") for p in clashing)]
    left_out = {photo.path for photo in clashing}
    whole = {s: [p for p in photos if p in contents and p.path not in left_out] for s, photos in listed.items()}
    not_to_learn = kept_back | {contents[photo] for photo in whole.get("val", ())}
    again = [photo for photo in whole["train"] if contents[photo] in not_to_learn]
    whole["train"] = [photo for photo in whole["train"] if contents[photo] not in not_to_learn]
    skipped += [Skipped(p.name, (p.path,), "the same photo is held out") for p in again]
    if "val" in whole:
        train, val = whole["train"], whole["val"]
        notes.append("Held out: val/, as given.")
    else:
        train, val = _held_out(whole["train"], contents, names, seed, share)
        notes.append(f"Held out: {share:.0%} of each class, drawn with seed {seed}, exact duplicates together.")
    notes.append(f"{count(len(train), 'photo')} to train on, {len(val)} held out.")
    if skipped:
        notes.append(f"{count(len(skipped), 'photo')} left out: {some((f'{s.name} ({s.why})' for s in skipped), 3)}.")
    _check_photos(root, names, train)
    if not val:
        raise SplitError(
            "some photos are held out to measure the classifier on",
            f"none in {root}: a class of fewer than 3 different photos gives none",
            "add photos, or --no-classifier",
        )
    return ClassFolders(names, tuple(train), tuple(val), tuple(skipped), tuple(notes))


def _root(directory: Path) -> Path:
    if not directory.is_dir():
        raise LayoutUnknown(
            "class folders are a folder with one folder of photos a class",
            f"{directory} is {'a file' if directory.exists() else 'not there'}",
            "check the path",
        )
    inside = subfolders(directory)
    while len(inside) == 1 and not images_in(inside[0], deep=False) and not images_in(directory, deep=False):
        directory = inside[0]
        inside = subfolders(directory)
    return directory


def _given(root: Path) -> dict[str, Path]:
    """Train and val folders where there are any: test is never touched."""
    splits = split_children(root)
    if "train" in splits and _class_folders(splits["train"]):
        return {split: folder for split, folder in splits.items() if split != "test" and _class_folders(folder)}
    return {"train": root}


def _class_folders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in subfolders(folder) if images_in(path)}


def _check_names(root: Path, names: Sequence[str], given: Mapping[str, Path]) -> None:
    if not names:
        images = len(images_in(root, deep=False))
        raise LayoutUnknown(
            "class folders are a folder with one folder of photos a class",
            f"{root} holds {count(images, 'photo')} and {count(len(subfolders(root)), 'folder')} without photos",
            "put the photos of each class in a folder of its name: DIR/cat/1.jpg, DIR/dog/2.jpg",
        )
    if len(names) < 2:
        raise LabelSpaceError(
            "a classifier needs at least 2 classes", f"{root} has only {names[0]}/", "add a folder for another class"
        )
    if {role_of(name).kind for name in names} == {"photo", "label"} and len(names) == 2:
        raise LayoutUnknown(
            "class folders are a folder with one folder of photos a class",
            f"{root} holds {names[0]}/ and {names[1]}/, which are samples to segment",
            f"give it as DATA: fullconv run {root}",
        )
    strange = sorted(set(_class_folders(given["val"])) - set(names)) if "val" in given else []
    if strange:
        raise SplitError(
            "val/ has the classes of train/", f"{some(strange)} in val/ only", "move a part of these to train/"
        )


def _photos(folder: Path, names: Sequence[str]) -> list[LabelledPhoto]:
    return [
        LabelledPhoto(path, names.index(name), f"{name}/{path.relative_to(inner).with_suffix('').as_posix()}")
        for name, inner in _class_folders(folder).items()
        for path in images_in(inner)
    ]


def _readable(photos: Sequence[LabelledPhoto]) -> tuple[dict[LabelledPhoto, str], list[Skipped]]:
    """Photo -> its content's name, and those that cannot be decoded."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        facts = list(progress(pool.map(_content, photos), what="reading class folders", total=len(photos)))
    contents = {photo: fact for photo, fact in zip(photos, facts, strict=True) if isinstance(fact, str)}
    broken = [
        Skipped(photo.name, (photo.path,), f"unreadable: {fact.found}")
        for photo, fact in zip(photos, facts, strict=True)
        if not isinstance(fact, str)
    ]
    if len(broken) > len(contents):
        raise UnreadableImage(
            "at least half of the photos can be decoded",
            f"{len(broken)} of {len(photos)} cannot: {some((item.why for item in broken), 3)}",
            "replace those files",
        )
    return contents, broken


def _content(photo: LabelledPhoto) -> str | UnreadableImage:
    try:
        return photo_facts(photo.path).content
    except UnreadableImage as error:
        return error


def _clashing(contents: Mapping[LabelledPhoto, str]) -> list[LabelledPhoto]:
    """Photos that are, byte for byte, in more than one class: nobody knows which is right."""
    labels: dict[str, set[int]] = defaultdict(set)
    for photo, content in contents.items():
        labels[content].add(photo.label)
    return [photo for photo, content in contents.items() if len(labels[content]) > 1]


def _held_out(
    photos: Sequence[LabelledPhoto],
    contents: Mapping[LabelledPhoto, str],
    names: Sequence[str],
    seed: int,
    share: float,
) -> tuple[list[LabelledPhoto], list[LabelledPhoto]]:
    held: set[str] = set()
    for label in range(len(names)):
        items = [Item(p.path.as_posix(), frozenset(), contents[p]) for p in photos if p.label == label]
        held |= hold_out(items, seed=seed, share=share)
    return [p for p in photos if p.path.as_posix() not in held], [p for p in photos if p.path.as_posix() in held]


def _check_photos(root: Path, names: Sequence[str], train: Sequence[LabelledPhoto]) -> None:
    few = [f"{name} ({_number(train, label)})" for label, name in enumerate(names) if _number(train, label) < 2]
    if few:
        raise SplitError(
            "each class has at least 2 photos to train on",
            f"too few in {root}: {some(few)}",
            "add photos, or move the folder",
        )


def _number(photos: Sequence[LabelledPhoto], label: int) -> int:
    return sum(photo.label == label for photo in photos)
