"""The PASCAL VOC devkit: JPEGImages, SegmentationClass, ImageSets/Segmentation. Knows no pixels."""

from __future__ import annotations

from pathlib import Path

from fullconv.data.formats.folders import child, has_images, images_in, lines_of
from fullconv.data.formats.listing import UNSPLIT, Listing, SplitLists, count
from fullconv.data.formats.lists import read_lists
from fullconv.data.formats.pairing import pair

_LABEL_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassAug", "SegmentationClassRaw")


def recognise(root: Path) -> str | None:
    """Why `root` is a VOC devkit, or None."""
    photos, maps = child(root, "JPEGImages"), child(root, *_LABEL_FOLDERS)
    if photos and maps and has_images(photos) and has_images(maps):
        return f"it has {photos.name}/ and {maps.name}/"
    return None


def list_pairs(root: Path) -> Listing:
    """The pairs of a VOC devkit; photos without a label map are usual there and only counted."""
    photos, maps = child(root, "JPEGImages"), child(root, *_LABEL_FOLDERS)
    assert photos is not None and maps is not None  # noqa: PT018
    found = pair(images_in(photos), images_in(maps), photo_root=photos, map_root=maps)
    lists = _lists(root)
    notes = [found.note]
    unlabelled = [item for item in found.alone if item.files[0].is_relative_to(photos)]
    skipped = [item for item in found.alone if item not in unlabelled]
    found_lists: tuple[SplitLists, ...] = ()
    if lists:
        lines, unlabelled_test = _without_unlabelled(lists, {item.name for item in unlabelled})
        found_lists = (SplitLists(lines, "ImageSets/Segmentation"),)
        if unlabelled_test:
            notes.append(f"{count(unlabelled_test, 'photo')} of test have no label map: not used.")
        if unlabelled:
            notes.append(f"{count(len(unlabelled), 'photo')} without a label map: not used, as usual in VOC.")
    else:
        skipped += unlabelled
        only = _trainval(root)
        found_lists = (SplitLists({UNSPLIT: only}, "trainval.txt"),) if only else ()
    return Listing("voc", {UNSPLIT: found.pairs}, found_lists, tuple(skipped), tuple(notes), (root, maps))


def _sets(root: Path) -> Path | None:
    sets = child(root, "ImageSets")
    return (child(sets, "Segmentation") or sets) if sets else None


def _lists(root: Path) -> dict[str, list[str]]:
    sets = _sets(root)
    return (read_lists(sets) if sets else {}) or read_lists(root)


def _trainval(root: Path) -> list[str]:
    sets = _sets(root)
    path = sets / "trainval.txt" if sets else None
    return lines_of(path) if path and path.is_file() else []


def _without_unlabelled(lists: dict[str, list[str]], unlabelled: set[str]) -> tuple[dict[str, list[str]], int]:
    test = [line for line in lists.get("test", []) if line not in unlabelled]
    left_out = len(lists.get("test", [])) - len(test)
    lines = {split: entries for split, entries in lists.items() if split != "test"}
    return (lines | {"test": test} if test else lines), left_out
