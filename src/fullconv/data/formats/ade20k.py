"""ADE20K, both ways it is given out. Road: data, a format.

- In full: `<name>.jpg`, `<name>_seg.png` with the class as red // 10 * 256 + green, `<name>.json` with the names.
- For scene parsing: images/ and annotations/ with ids 1 to 150, 0 for all else (void), names in objectInfo150.txt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fullconv.base.errors import AnnotationError, UnreadableImage
from fullconv.data.formats import paired
from fullconv.data.formats.annotations import files_in, holds_keys, read_json, split_in, split_of
from fullconv.data.formats.folders import images_in, lines_of
from fullconv.data.formats.listing import UNSPLIT, Classes, Listing, Pair, count, some
from fullconv.data.formats.naming import unique_names
from fullconv.data.samples import Skipped
from fullconv.labels.builtin import VOC_PALETTE
from fullconv.labels.decode import Raw, decode
from fullconv.labels.space import Colour, LabelSpace

_ENDING = "_seg"
_SCENES = "objectInfo150.txt"


@dataclass(frozen=True)
class ClassCodes:
    """A `_seg.png` of ADE20K in full."""

    source: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.source.name

    def raw(self) -> Raw:
        """(H, W) uint16 class numbers, 0 where nothing is labelled. Raises: UnreadableImage."""
        raw = decode(self.source)
        colours = raw.as_colours()
        if colours is None:
            raise UnreadableImage(
                "a label map of ADE20K is in colours", f"{self.source} holds {raw.form}", "unpack the data set anew"
            )
        red, green = colours >> 16, colours >> 8 & 255
        ids = (red // 10 * 256 + green).astype(np.uint16)
        return Raw(ids, None, None, "ADE20K class codes", raw.file_format)


def recognise(root: Path) -> str | None:
    """Why `root` is ADE20K, or None."""
    if (root / _SCENES).is_file() and paired.recognise(root):
        return f"it has {_SCENES}"
    maps = _maps(root)
    if maps and _json_of(maps[0]).is_file() and holds_keys(_json_of(maps[0]), "annotation", "name_ndx"):
        return f"{maps[0].relative_to(root).as_posix()} lies beside {_json_of(maps[0]).name}"
    return None


def list_pairs(root: Path) -> Listing:
    """The pairs of all folders."""
    if (root / _SCENES).is_file():
        space = _space(_scene_names(root / _SCENES))
        listing = paired.list_pairs(root)
        return replace(listing, layout="ade20k", classes=Classes(space, _SCENES))
    photos = {path.with_suffix(""): path for path in images_in(root) if not path.stem.endswith(_ENDING)}
    names: dict[int, str] = {}
    splits: dict[str, list[Pair]] = {}
    skipped = []
    for path in _maps(root):
        stem = path.with_name(path.stem.removesuffix(_ENDING))
        if stem not in photos:
            skipped.append(Skipped(path.stem, (path,), "unpaired: label map without a photo"))
            continue
        names |= _names(_json_of(path))
        split = split_of(path, root) or split_in(stem.name) or UNSPLIT
        splits.setdefault(split, []).append(Pair(stem.name, photos[stem], ClassCodes(path)))
    used = {pair.photo for pairs in splits.values() for pair in pairs}
    alone = [path for path in photos.values() if path not in used and "_parts_" not in path.stem]
    skipped += [Skipped(path.stem, (path,), "unpaired: photo without a label map") for path in alone]
    notes = (f"{count(len(used), 'photo')} paired with {some(['*_seg.png'])}; classes as red // 10 * 256 + green.",)
    pairs = unique_names({split: tuple(found) for split, found in splits.items()})
    classes = Classes(_space(names.items()), "the JSON files")
    return Listing("ade20k", pairs, (), tuple(skipped), notes, (root,), classes)


def _maps(root: Path) -> list[Path]:
    return files_in(root, f"{_ENDING}.png", depth=6)


def _json_of(path: Path) -> Path:
    return path.with_name(path.stem.removesuffix(_ENDING) + ".json")


def _names(path: Path) -> dict[int, str]:
    """Class number -> name, as the JSON file beside a label map has them. Raises: AnnotationError."""
    document = read_json(path) if path.is_file() else {"annotation": {"object": []}}
    try:
        things = document["annotation"]["object"]  # parts of things are in other files
        whole = [thing for thing in things if not int((thing.get("parts") or {}).get("part_level") or 0)]
        return {int(thing["name_ndx"]): str(thing["name"]) for thing in whole}
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(
            "a JSON file of ADE20K names its objects", f"{path}: no {error}", "unpack the data set anew"
        ) from error


def _scene_names(path: Path) -> list[tuple[int, str]]:
    """Rows such as `1  0.1576  11664  1172  1  wall`."""
    rows = [re.fullmatch(r"(\d+)\s+\S+\s+\d+\s+\d+\s+\d+\s+(.+)", line) for line in lines_of(path)]
    return [(int(row[1]), row[2].strip()) for row in rows if row]


def _space(names: Iterable[tuple[int, str]]) -> LabelSpace:
    listed = sorted(names)
    first = [re.split(r"[;,]", name)[0].strip() for _, name in listed]
    unique = [short if first.count(short) == 1 else name for short, (_, name) in zip(first, listed, strict=True)]
    colours: tuple[Colour, ...] = tuple(VOC_PALETTE[number % 255] for number, _ in listed)
    return LabelSpace(tuple(unique), colours, tuple((number,) for number, _ in listed), (0,))
