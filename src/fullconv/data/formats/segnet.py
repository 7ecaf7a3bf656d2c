"""SegNet's folders: train/ beside trainannot/, val/ beside valannot/, lists train.txt of pairs. Knows no pixels."""

from __future__ import annotations

from pathlib import Path

from fullconv.data.formats.folders import SPLIT_WORDS, has_images, images_in, lines_of, split_lists, subfolders
from fullconv.data.formats.listing import Listing, Pair, SplitLists
from fullconv.data.formats.naming import unique_names
from fullconv.data.formats.pairing import pair
from fullconv.data.samples import Skipped

_ENDING = "annot"


def recognise(root: Path) -> str | None:
    """Why `root` is a SegNet folder, or None."""
    found = _folders(root)
    return f"it has {', '.join(f'{p.name}/ and {m.name}/' for p, m in found.values())}" if found else None


def list_pairs(root: Path) -> Listing:
    """The pairs of every split folder; where there are lists they say which of them count."""
    splits: dict[str, tuple[Pair, ...]] = {}
    skipped: list[Skipped] = []
    notes: list[str] = []
    for split, (photos, maps) in _folders(root).items():
        found = pair(images_in(photos), images_in(maps), photo_root=photos, map_root=maps)
        splits[split], skipped, notes = found.pairs, [*skipped, *found.alone], [*notes, f"{split}: {found.note}"]
    splits = unique_names(splits)
    lists = []
    for split, path in split_lists(root).items():
        if split in splits:
            lists.append(SplitLists({split: lines_of(path)}, path.name))
        else:
            notes.append(f"{path.name} is not used: there is no {split}/ with {split}{_ENDING}/.")
    places = (root, *(maps for _, maps in _folders(root).values()))
    return Listing("segnet", splits, tuple(lists), tuple(skipped), tuple(notes), places)


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    by_name = {path.name.lower(): path for path in subfolders(root)}
    return {
        SPLIT_WORDS[name]: (path, by_name[name + _ENDING])
        for name, path in by_name.items()
        if name in SPLIT_WORDS and name + _ENDING in by_name and has_images(by_name[name + _ENDING])
    }
