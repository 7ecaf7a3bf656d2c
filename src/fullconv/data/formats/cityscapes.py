"""Cityscapes: leftImg8bit/<split>/<city>/ beside gtFine/<split>/<city>/, 19 classes, all other ids void.

Source of ids, names and colours: the table of labels in cityscapesScripts. Knows no pixels.
"""

from __future__ import annotations

from pathlib import Path

from fullconv.data.formats.annotations import split_in
from fullconv.data.formats.folders import child, images_in
from fullconv.data.formats.listing import UNSPLIT, Classes, Listing, Pair, count
from fullconv.data.samples import Skipped
from fullconv.labels.classfile import find_class_file
from fullconv.labels.space import LabelSpace

_CLASSES = {  # name: id in labelIds, colour; their order is that of the train ids
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_NAMES = tuple(_CLASSES)
_COLOURS = tuple(colour for _, colour in _CLASSES.values())
BY_ID = LabelSpace(_NAMES, _COLOURS, tuple((number,) for number, _ in _CLASSES.values()), others="void")
BY_TRAIN_ID = LabelSpace(_NAMES, _COLOURS, tuple((place,) for place in range(len(_CLASSES))), (255,), others="void")
_KINDS = {"_labelIds": BY_ID, "_labelTrainIds": BY_TRAIN_ID}
_TRUTH = ("gtFine", "gtCoarse")


def recognise(root: Path) -> str | None:
    """Why `root` is a Cityscapes folder, or None."""
    photos, truth = child(root, "leftImg8bit"), child(root, *_TRUTH)
    if photos and truth and _maps(truth)[1] and find_class_file([root, truth]) is None:
        return f"it has {photos.name}/ and {truth.name}/"
    return None


def list_pairs(root: Path) -> Listing:
    """The pairs of all splits and cities, by labelIds, or by labelTrainIds where there are no others."""
    photo_folder, truth = child(root, "leftImg8bit"), child(root, *_TRUTH)
    assert photo_folder is not None and truth is not None  # noqa: PT018
    kind, maps = _maps(truth)
    photos = {_stem(path, photo_folder, "_leftImg8bit"): path for path in images_in(photo_folder)}
    by_stem = {_stem(path, truth, f"_{truth.name}{kind}"): path for path in maps}
    splits: dict[str, list[Pair]] = {}
    for stem in sorted(photos.keys() & by_stem.keys()):
        split = split_in(stem.split("/")[0]) or UNSPLIT
        splits.setdefault(split, []).append(Pair(stem.split("/")[-1], photos[stem], by_stem[stem]))
    alone = [path for stem, path in photos.items() if stem not in by_stem]
    alone_maps = [path for stem, path in by_stem.items() if stem not in photos]
    skipped = [Skipped(path.stem, (path,), "unpaired: photo without a label map") for path in alone]
    skipped += [Skipped(path.stem, (path,), "unpaired: label map without a photo") for path in alone_maps]
    notes = (
        f"{count(sum(map(len, splits.values())), 'photo')} paired with their label maps (*{kind}.png).",
        "The 19 classes that Cityscapes scores; all other ids are void.",
    )
    pairs = {split: tuple(found) for split, found in splits.items()}
    return Listing("cityscapes", pairs, (), tuple(skipped), notes, (root,), Classes(_KINDS[kind], "Cityscapes"))


def _maps(truth: Path) -> tuple[str, list[Path]]:
    """The kind of label maps to read, and these."""
    images = images_in(truth)
    for kind in _KINDS:
        found = [path for path in images if path.stem.endswith(kind)]
        if found:
            return kind, found
    return "", []


def _stem(path: Path, folder: Path, ending: str) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().removesuffix(ending)
