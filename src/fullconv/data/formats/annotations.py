"""What annotation files have in common: JSON and XML read safely, photos found by name, names made ids.

Road: data, below the formats that draw label maps as shapes. In: files. Out: documents, photos, class tables.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from fullconv.base.errors import AnnotationError, UnreadableImage
from fullconv.base.images import photo_size
from fullconv.data.formats.folders import SPLIT_WORDS, images_in
from fullconv.data.formats.listing import UNSPLIT, Classes, Listing, Pair, SplitLists, count, some
from fullconv.data.formats.lists import lists_in
from fullconv.data.formats.naming import unique_names
from fullconv.data.samples import Skipped
from fullconv.labels.builtin import VOC_PALETTE
from fullconv.labels.classfile import find_class_file, ids_of
from fullconv.labels.decide import VOID_8, VOID_16, VOID_NAMES
from fullconv.labels.drawing import Drawing
from fullconv.labels.space import BACKGROUND_NAMES, LabelSpace, background_of

UNREADABLE_SHAPES = (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError, zlib.error)
"""What a shape that is none raises when it is read: its photo is skipped, the others are read."""


# ---- documents ------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The document of a JSON file. Raises: AnnotationError naming the file and the place."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise AnnotationError(
            "an annotation file is JSON", f"{path}: {error}", "export the annotations anew"
        ) from error


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without a document type. Raises: AnnotationError naming the file and the place."""
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entities that multiply, or that read other files
        raise AnnotationError(
            "an annotation file is XML without a document type", f"{path} has one", "export the annotations anew"
        )
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise AnnotationError("an annotation file is XML", f"{path}: {error}", "export the annotations anew") from error


def holds_keys(path: Path, *keys: str) -> bool:
    """Whether all the words stand in quotes somewhere in a file: what kind of JSON it is, without parsing it."""
    left = [f'"{key}"'.encode() for key in keys]
    longest = max(map(len, left))
    tail = b""
    with path.open("rb") as file:
        while left and (block := file.read(1 << 22)):
            text = tail + block
            left = [key for key in left if key not in text]
            tail = text[-longest:]
    return not left


def files_in(folder: Path, suffix: str, *, depth: int = 3) -> list[Path]:
    """The files with this suffix in a folder and the folders in it, by name; hidden ones are left out."""
    found = sorted(path for path in folder.glob(f"*{suffix}") if path.is_file() and not path.name.startswith("."))
    if depth:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            found += files_in(inner, suffix, depth=depth - 1)
    return found


def split_in(text: str) -> str | None:
    """The split that a file or folder name says: `instances_train2017` is train.

    >>> split_in("instances_train2017")
    'train'
    """
    words = re.findall(r"[a-z]+", text.lower())
    return next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), None)


def split_of(path: Path, root: Path) -> str | None:
    """The split that the folders between `root` and `path` say, the inner one first."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return next((split for part in reversed(folders) if (split := split_in(part))), None)


# ---- photos ---------------------------------------------------------------------------------------------------------


class Photos:
    """The photos below a folder, found by as much of their path as an annotation file gives."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in images_in(root):
            self._by_name[path.name.lower()].append(path)

    def find(self, said: str, *, near: Path | None = None, split: str | None = None) -> Path | None:
        """The photo that a path, address or name means; None if there is none, or several fit equally well.

        Args:
            near: of several, those below this folder are meant.
            split: of several, those in a folder of this split are meant.
        """
        parts = [part for part in re.split(r"[\\/]+", unquote(said.split("?")[0])) if part not in ("", ".", "..")]
        found = self._by_name.get(parts[-1].lower(), []) if parts else []
        if len(found) > 1 and near is not None:
            found = [path for path in found if path.is_relative_to(near)] or found
        if len(found) > 1 and split is not None:
            found = [path for path in found if split_of(path, self._root) == split] or found
        for length in range(2, len(parts) + 1):
            if len(found) <= 1:
                break
            tail = [part.lower() for part in parts[-length:]]
            found = [path for path in found if [part.lower() for part in path.parts[-length:]] == tail] or found
        return found[0] if len(found) == 1 else None

    def beside(self, file: Path) -> Path | None:
        """The one photo in a file's folder that has its stem, whatever its suffix."""
        found = [path for path in images_in(file.parent, deep=False) if path.stem == file.stem]
        return found[0] if len(found) == 1 else None

    def alone(self, used: Iterable[Path]) -> list[Path]:
        """The photos that no annotation names."""
        taken = set(used)
        return sorted(path for paths in self._by_name.values() for path in paths if path not in taken)


def size_of(photo: Path | None) -> tuple[int, int]:
    """(H, W) of the upright photo; (1, 1) if it is not there or cannot be read, which the survey of photos says."""
    try:
        return photo_size(photo) if photo is not None else (1, 1)
    except UnreadableImage:
        return 1, 1


# ---- classes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """The classes of drawings.

    Args:
        ids: what a file calls a class (a name, a number) -> its id in drawings.
        ground: the id of what no shape covers.
    """

    classes: Classes
    ids: Mapping[str | int, int]
    ground: int

    @property
    def void(self) -> int:
        """The id of what is neither trained on nor scored."""
        return int(next(value for value in self.classes.space.void_values if isinstance(value, int)))

    def id_of(self, called: str | int) -> int:
        """The id of what a file calls a class. Raises: KeyError if it is in no table."""
        return self.ids[called] if called in self.ids else self.ids[str(called).strip().lower()]


def classes_by_name(names: Iterable[str], places: Sequence[Path]) -> Table:
    """Ids for the names that annotation files use: those of the class file there is; else 1, 2, 3 ... by name.

    Background is 0 unless the class file says otherwise; names such as `__ignore__` are void.
    """
    real = sorted({name for name in names if not (is_background(name) or is_void(name))})
    listed = find_class_file(places)
    if listed is None:
        found = {name: place for place, name in enumerate(real, 1)}
        return _classes(found, (), "the annotations")
    by_name = dict(zip((entry.name for entry in listed.entries), ids_of(listed.entries), strict=True))
    kept = {name: number for name, number in by_name.items() if number >= 0 and not is_void(name)}
    return _classes(kept, [name for name in real if name not in by_name], listed.path.name)


def classes_by_number(names: Mapping[int, str], found: Iterable[int], source: str) -> Table:
    """Ids for the numbers that annotation files call their classes by.

    Numbers stay as they are, 0 being background; where `names` has 0 for another class, all are one more.
    Of names that are there twice the later ones get their number behind them.

    Args:
        names: number -> name, as listed.
        found: the numbers that annotations have.
        source: what lists the names.
    """
    if names and not 0 <= min(names) <= max(names) < VOID_16 - len(names):  # more than 16 bits hold: by order
        order = {number: place for place, number in enumerate(sorted({*names, *found}), 1)}
        table = classes_by_number({order[number]: name for number, name in names.items()}, order.values(), source)
        return replace(table, ids={number: table.ids[order[number]] for number in order})
    shift = 1 if 0 in names and not is_background(names[0]) else 0
    by_name: dict[str, int] = {}
    for number, name in sorted(names.items()):
        if not is_void(name):
            by_name[f"{name}_{number}" if name in by_name else name] = number + shift
    strange = sorted(set(found) - names.keys())
    table = _classes(by_name, [f"class {number}" for number in strange], source)
    ids: dict[str | int, int] = {
        number: table.id_of(name) if is_void(name) else number + shift for number, name in names.items()
    }
    return replace(table, ids=ids | {number: table.id_of(f"class {number}") for number in strange})


def _classes(by_name: Mapping[str, int], strange: Sequence[str], source: str) -> Table:
    """The label space of names with their ids; background is added, at 0 if that is free, else behind all.

    What is strange to the list gets ids behind all of the list.
    """
    ground = next((number for name, number in by_name.items() if is_background(name)), None)
    if ground is None:
        ground = 0 if 0 not in by_name.values() else max(by_name.values()) + 1
        by_name = {"background": ground, **by_name}
    ordered = sorted(by_name, key=lambda name: by_name[name])
    last = max(by_name.values())
    others = dict(zip(strange, range(last + 1, last + 1 + len(strange)), strict=True))
    void = VOID_8 if last + len(strange) < VOID_8 else VOID_16
    space = LabelSpace(
        names=tuple(ordered),
        colours=tuple(VOC_PALETTE[place % len(VOC_PALETTE)] for place in range(len(ordered))),
        file_values=tuple((by_name[name],) for name in ordered),
        void_values=(void,),
        background=background_of(ordered),
    )
    ids: dict[str | int, int] = {}
    ids.update((name, ground) for name in BACKGROUND_NAMES)
    ids.update((name, void) for name in VOID_NAMES)
    ids.update((*by_name.items(), *others.items()))
    return Table(Classes(space, source, {number: name for name, number in others.items()}), ids, ground)


def is_background(name: str) -> bool:
    """Whether a class name means background."""
    return name.strip().lower() in BACKGROUND_NAMES


def is_void(name: str) -> bool:
    """Whether a class name means that its pixels are neither trained on nor scored."""
    return name.strip().lower() in VOID_NAMES


# ---- the listing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Annotated:
    """One photo that an annotation file names.

    Args:
        said: the photo's path or name in the file.
        photo: the file, or None where there is none.
        split: what folder or file name says, or None.
    """

    said: str
    photo: Path | None
    drawing: Drawing
    split: str | None = None


def drawn_listing(
    layout: str,
    annotated: Sequence[Annotated],
    *,
    root: Path,
    table: Table,
    alone: Sequence[Path] = (),
    notes: Sequence[str] = (),
    skipped: Sequence[Skipped] = (),
    lists: Sequence[SplitLists] | None = None,
) -> Listing:
    """The listing of photos whose label maps are drawn.

    Args:
        alone: photos that no annotation names: listed as unpaired.
        skipped: what else was left out.
        lists: split lists, for photos of which no folder or file name says the split; None: those in the folder.
    Raises: AnnotationError if no annotated photo is there, or most annotations cannot be read.
    """
    broken = [item for item in skipped if item.why.startswith("unreadable")]
    gone = [one for one in annotated if one.photo is None]
    there = _merged([one for one in annotated if one.photo is not None])
    if len(broken) > len(annotated):
        raise AnnotationError(
            "at least half of the annotations can be read",
            f"{len(broken)} of {len(broken) + len(annotated)} cannot: {some((item.why for item in broken), 3)}",
            "export the annotations anew",
        )
    if not there:
        raise AnnotationError(
            "the photos that are annotated lie in the same folder",
            f"none of {count(len(gone), 'photo')} is in {root}: {some((one.said for one in gone), 3)}"
            if gone
            else f"nothing is annotated in {root}",
            "copy the photos there, under the names that the annotations give them",
        )
    given = any(one.split for one in there)
    without = [one for one in there if given and one.split is None]
    by_split: dict[str, list[Pair]] = defaultdict(list)
    for one in there:
        if one.photo is not None and not (given and one.split is None):
            by_split[one.split or UNSPLIT].append(Pair(_name(one.photo, root), one.photo, one.drawing))
    said = [*notes, f"{count(len(there), 'photo')} with annotations."]
    said += _say(gone, "not in the folder") + _say(without, "in no split, left out")
    if alone:
        said.append(f"{count(len(alone), 'photo')} without annotations: left out ({some((p.name for p in alone), 3)}).")
    left = [
        *skipped,
        *(Skipped(one.said, (one.drawing.source,), "unpaired: annotation without its photo") for one in gone),
        *(Skipped(one.said, (one.drawing.source,), "in no split, where others are in one") for one in without),
        *(Skipped(path.stem, (path,), "unpaired: photo without annotations") for path in alone),
    ]
    splits = unique_names({split: _once(pairs, root) for split, pairs in by_split.items()})
    if UNSPLIT in splits and lists is None:
        lists = lists_in(root)
    return Listing(layout, splits, tuple(lists or ()), tuple(left), tuple(said), (root,), table.classes)


def _say(annotated: Sequence[Annotated], what: str) -> list[str]:
    if not annotated:
        return []
    names = some((one.said for one in annotated), 3)
    return [f"{count(len(annotated), 'annotated photo')} {what} ({names})."]


def _merged(annotated: Sequence[Annotated]) -> list[Annotated]:
    """One entry a photo and split: what several files say of it is painted on one map, in the order of the files."""
    merged: dict[tuple[Path | None, str | None], Annotated] = {}
    for one in annotated:
        key = one.photo, one.split
        if key in merged and merged[key].drawing.size == one.drawing.size:
            before = merged[key].drawing
            merged[key] = replace(one, drawing=replace(before, things=(*before.things, *one.drawing.things)))
        else:
            merged[key] = one
    return list(merged.values())


def _name(photo: Path, root: Path) -> str:
    return photo.stem if photo.is_relative_to(root) else str(photo.with_suffix(""))


def _once(pairs: Sequence[Pair], root: Path) -> tuple[Pair, ...]:
    """The pairs by stem; where stems are not unique by path, and where that is not unique either with the suffix."""
    named = list(pairs)
    for with_suffix in (False, True):
        twice = {name for name, number in Counter(pair.name for pair in named).items() if number > 1}
        paths = [pair.photo.relative_to(root) for pair in named]
        longer = [(path if with_suffix else path.with_suffix("")).as_posix() for path in paths]
        named = [
            replace(pair, name=name) if pair.name in twice else pair for pair, name in zip(named, longer, strict=True)
        ]
    return tuple(named)
