"""Photos and label maps in two folders (or in one), paired by name, with or without split subfolders or lists.

images/ + masks/ · images/train + masks/train · train/images + train/masks · train/ + train_labels/ ·
train_images/ + train_masks/ · one folder with 0017.jpg and 0017_mask.png. Knows no pixels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fullconv.base.errors import LayoutUnknown
from fullconv.data.formats.folders import (
    LABEL_WORDS,
    Role,
    child,
    has_images,
    images_in,
    role_of,
    split_children,
    subfolders,
)
from fullconv.data.formats.listing import UNSPLIT, Listing, Pair, some
from fullconv.data.formats.lists import by_lists, read_lists, read_split_file
from fullconv.data.formats.naming import unique_names
from fullconv.data.formats.pairing import pair
from fullconv.data.samples import Skipped


@dataclass(frozen=True)
class Place:
    """Where the photos and the label maps of one split lie; `maps` is None where they share a folder."""

    split: str
    photos: Path
    maps: Path | None


def recognise(root: Path) -> str | None:
    """Why `root` is a paired folder, or None. Raises: LayoutUnknown if two folders could be the label maps."""
    places = _places(root)
    if not places:
        return None
    return "it has " + ", ".join(
        f"{_below(place.photos, root)} and {_below(place.maps, root)}" if place.maps else
        f"photos and label maps side by side in {_below(place.photos, root)}"
        for place in places
    )


def list_pairs(root: Path) -> Listing:
    """The pairs of every place, then sorted by split lists where there are any and no split folders."""
    splits: dict[str, tuple[Pair, ...]] = {}
    skipped: list[Skipped] = []
    notes: list[str] = []
    places = _places(root)
    for place in places:
        photos, maps = _files(place)
        found = pair(photos, maps, photo_root=place.photos, map_root=place.maps or place.photos)
        splits[place.split] = found.pairs
        skipped += found.alone
        notes.append(found.note if place.split == UNSPLIT else f"{place.split}: {found.note}")
    splits = unique_names(splits)
    if list(splits) == [UNSPLIT]:
        splits, missing, said = _by_lists_found(root, splits[UNSPLIT])
        skipped += missing
        notes += said
    folders = (root, *(p.maps for p in places if p.maps), *(p.photos for p in places))
    return Listing("paired", splits, tuple(skipped), tuple(notes), tuple(dict.fromkeys(folders)))


def _by_lists_found(root: Path, pairs: tuple[Pair, ...]) -> tuple[dict[str, tuple[Pair, ...]], list[Skipped], list[str]]:
    for folder in (root, *filter(None, (child(root, name) for name in ("splits", "split", "lists", "ImageSets")))):
        inner = child(folder, "Segmentation") or folder
        for name in ("splits.json", "split.json"):
            if (inner / name).is_file():
                return by_lists(pairs, read_split_file(inner / name), name)
        lists = read_lists(inner)
        if lists:
            rest = "leave" if "train" in lists else "train"
            source = "the lists of " + (f"{inner.name}/" if inner != root else "the folder")
            return by_lists(pairs, lists, source, rest=rest)
    return {UNSPLIT: pairs}, [], []


def _places(root: Path) -> list[Place]:
    return _in_two_folders(root) or _in_split_folders(root) or _in_one_folder(root)


def _in_two_folders(root: Path) -> list[Place]:
    by_role: dict[Role, list[Path]] = defaultdict(list)
    for path in subfolders(root):
        role = role_of(path.name)
        if (role.split or role.kind) and has_images(path):
            by_role[role].append(path)
    single = {role: _only(role, paths) for role, paths in by_role.items()}
    beside = [
        Place(split, photos, single[Role(split, "label")])
        for split in ("train", "val", "test")
        if Role(split, "label") in single
        and (photos := single.get(Role(split, "photo"), single.get(Role(split, None))))
    ]
    if beside:
        return beside
    photos_of = [path for role, path in single.items() if role.kind == "photo"]
    maps_of = [path for role, path in single.items() if role.kind == "label"]
    if len(photos_of) != 1 or len(maps_of) != 1:
        return []
    photos, maps = photos_of[0], maps_of[0]
    inner = split_children(photos), split_children(maps)
    shared = [split for split in ("train", "val", "test") if split in inner[0] and split in inner[1]]
    if shared:
        return [Place(split, inner[0][split], inner[1][split]) for split in shared]
    return [Place(UNSPLIT, photos, maps)]


def _in_split_folders(root: Path) -> list[Place]:
    places = []
    for split, folder in split_children(root).items():
        inner = _in_two_folders(folder) or _in_one_folder(folder)
        places += [Place(split, place.photos, place.maps) for place in inner[:1]]
    return sorted(places, key=lambda place: ("train", "val", "test").index(place.split))


def _in_one_folder(folder: Path) -> list[Place]:
    place = Place(UNSPLIT, folder, None)
    photos, maps = _side_by_side(images_in(folder, deep=False))
    return [place] if photos and maps else []


def _files(place: Place) -> tuple[list[Path], list[Path]]:
    if place.maps is None:
        return _side_by_side(images_in(place.photos, deep=False))
    return images_in(place.photos), images_in(place.maps)


def _side_by_side(images: list[Path]) -> tuple[list[Path], list[Path]]:
    """Tell label maps from photos in one folder: by a word such as `_mask`, or PNG beside JPEG of the same stem."""
    maps = [path for path in images if _says_label(path.stem)]
    if maps and len(maps) < len(images):
        return [path for path in images if path not in set(maps)], maps
    jpegs = [path for path in images if path.suffix.lower() in (".jpg", ".jpeg")]
    stems = {path.stem for path in jpegs}
    beside = [path for path in images if path.suffix.lower() not in (".jpg", ".jpeg") and path.stem in stems]
    return (jpegs, beside) if 2 * len(beside) >= len(images) - len(beside) and beside else ([], [])


def _says_label(stem: str) -> bool:
    words = re.findall(r"[a-z]+", stem.lower())
    return bool(words) and (words[-1] in LABEL_WORDS or words[0] in LABEL_WORDS)


def _only(role: Role, paths: list[Path]) -> Path:
    if len(paths) == 1:
        return paths[0]
    what = {"label": "label maps", "photo": "photos", None: "images"}[role.kind]
    raise LayoutUnknown(
        f"one folder holds the {what}" + (f" of {role.split}" if role.split else ""),
        f"{some(path.name + '/' for path in paths)} could all be it",
        "move all but one of them elsewhere, or give the folder that holds just one",
    )


def _below(path: Path, root: Path) -> str:
    return f"{path.relative_to(root).as_posix()}/" if path != root else "the folder"


