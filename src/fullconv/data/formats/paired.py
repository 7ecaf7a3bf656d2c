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
    PHOTO_WORDS,
    Role,
    has_images,
    images_in,
    role_of,
    split_children,
    subfolders,
)
from fullconv.data.formats.listing import UNSPLIT, Listing, Pair, some
from fullconv.data.formats.lists import lists_in
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
        f"{_below(place.photos, root)} and {_below(place.maps, root)}"
        if place.maps
        else f"photos and label maps side by side in {_below(place.photos, root)}"
        for place in places
    )


def list_pairs(root: Path) -> Listing:
    """The pairs of every place, with the split lists there are, unless folders are the splits."""
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
    notes += _unused(root, places)
    splits = unique_names(splits)
    lists = lists_in(root) if list(splits) == [UNSPLIT] else ()
    folders = (root, *(p.maps for p in places if p.maps), *(p.photos for p in places))
    return Listing("paired", splits, lists, tuple(skipped), tuple(notes), tuple(dict.fromkeys(folders)))


def _unused(root: Path, places: list[Place]) -> list[str]:
    used = [folder for place in places for folder in (place.photos, place.maps) if folder]
    return [
        f"{folder.name}/ is not used: it has no label maps."
        for folder in split_children(root).values()
        if has_images(folder) and not any(path.is_relative_to(folder) for path in used)
    ]


def _places(root: Path) -> list[Place]:
    return _in_two_folders(root) or _in_split_folders(root) or _in_one_folder(root)


def _in_two_folders(root: Path) -> list[Place]:
    by_role: dict[Role, list[Path]] = defaultdict(list)
    for path in subfolders(root):
        role = role_of(path.name)
        if (role.split or role.kind) and _has_pictures(path, role):
            by_role[role].append(path)
    beside = [
        Place(split, _only(found, split), _only(by_role[Role(split, "label")], split))
        for split in ("train", "val", "test")
        if by_role.get(Role(split, "label"))
        and (found := by_role.get(Role(split, "photo")) or by_role.get(Role(split, None)))
    ]
    if beside:
        return beside
    photos_of = [path for role, paths in by_role.items() if role.kind == "photo" for path in paths]
    maps_of = [path for role, paths in by_role.items() if role.kind == "label" for path in paths]
    if not photos_of or not maps_of:
        return []
    photos, maps = _only(photos_of), _only(maps_of)
    inner = split_children(photos), split_children(maps)
    shared = [split for split in ("train", "val", "test") if split in inner[0] and split in inner[1]]
    if shared:
        return [Place(split, inner[0][split], inner[1][split]) for split in shared]
    return [Place(UNSPLIT, photos, maps)]


def _has_pictures(folder: Path, role: Role) -> bool:
    """Whether a folder has images of its kind: COCO's `annotations` may hold other tasks' beside its JSON files."""
    others = ("panoptic", "pixelmaps")
    if role.kind != "label" or not any(other in path.name.lower() for path in subfolders(folder) for other in others):
        return has_images(folder)
    kept = [path for path in subfolders(folder) if not any(other in path.name.lower() for other in others)]
    return bool(images_in(folder, deep=False)) or any(map(has_images, kept))


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


def _only(paths: list[Path], split: str | None = None) -> Path:
    """The one folder, or the one of several whose name says nothing but what it holds."""
    plain = [path for path in paths if re.sub(r"[^a-z]", "", path.name.lower()) in LABEL_WORDS | PHOTO_WORDS]
    for choice in (paths, plain):
        if len(choice) == 1:
            return choice[0]
    raise LayoutUnknown(
        "one folder holds the photos and one the label maps" + (f" of {split}" if split else ""),
        f"{some(path.name + '/' for path in paths)} could all be the same of the two",
        "move all but one of them elsewhere",
    )


def _below(path: Path, root: Path) -> str:
    return f"{path.relative_to(root).as_posix()}/" if path != root else "the folder"
