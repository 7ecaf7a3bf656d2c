"""Which layout a folder has, and why. Road: data, before the formats. Knows no pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fullconv.base.errors import LayoutUnknown
from fullconv.data.formats import (
    ade20k,
    cityscapes,
    coco,
    cvat,
    label_studio,
    labelme,
    paired,
    segnet,
    supervisely,
    voc,
    yolo,
)
from fullconv.data.formats.folders import has_images, images_in, role_of, subfolders
from fullconv.data.formats.listing import Listing, count, some

Format = tuple[Callable[[Path], str | None], Callable[[Path], Listing]]

# asked in this order: the first that recognises the folder reads it
PIXELS: dict[str, Format] = {
    "voc": (voc.recognise, voc.list_pairs),
    "segnet": (segnet.recognise, segnet.list_pairs),
    "cityscapes": (cityscapes.recognise, cityscapes.list_pairs),
    "ade20k": (ade20k.recognise, ade20k.list_pairs),
    "paired": (paired.recognise, paired.list_pairs),
}
SHAPES: dict[str, Format] = {
    "coco": (coco.recognise, coco.list_pairs),
    "labelme": (labelme.recognise, labelme.list_pairs),
    "label-studio": (label_studio.recognise, label_studio.list_pairs),
    "cvat": (cvat.recognise, cvat.list_pairs),
    "supervisely": (supervisely.recognise, supervisely.list_pairs),
    "yolo": (yolo.recognise, yolo.list_pairs),
}
FORMATS = PIXELS | SHAPES
LAYOUTS = {
    "voc": "PASCAL VOC devkit",
    "segnet": "SegNet-style folder",
    "cityscapes": "Cityscapes folder",
    "ade20k": "ADE20K folder",
    "paired": "photos paired with label maps",
    "supervisely": "Supervisely project",
    "yolo": "YOLO segmentation labels",
    "labelme": "labelme files",
    "label-studio": "Label Studio export",
    "coco": "COCO JSON",
    "cvat": "CVAT for images",
}
_DEPTH = 3


def detect(data: Path) -> tuple[Path, str, str]:
    """Recognise a folder, or the one folder in it that can be read.

    Label maps come before annotation files: a folder that holds both was converted, and the label maps are what its
    owner trains on.

    Returns: the folder, the name of its format, and the sentence that says what was recognised and why.
    Raises: LayoutUnknown if there is no such folder, it is a file, or none or several folders in it can be read.
    """
    _check_is_folder(data)
    ways = (_recognised(data, formats) or _inside(data, formats) for formats in (PIXELS, SHAPES))
    found = next((way for way in ways if way), [])
    if not found:
        raise _unknown(data)
    if len(found) > 1:
        raise LayoutUnknown(
            "DATA is one set of samples",
            f"{data} holds {len(found)}: {some(root.relative_to(data).as_posix() for root, _, _ in found)}",
            f"give one of them: {found[0][0]}",
        )
    root, name, why = found[0]
    where = "" if root == data else f", found in {root.relative_to(data).as_posix()}/"
    return root, name, f"Read as {LAYOUTS[name]}{where}: {why}."


def _recognised(folder: Path, formats: dict[str, Format]) -> list[tuple[Path, str, str]]:
    for name, (recognise, _) in formats.items():
        why = recognise(folder)
        if why:
            return [(folder, name, why)]
    return []


def _inside(folder: Path, formats: dict[str, Format], depth: int = _DEPTH) -> list[tuple[Path, str, str]]:
    if depth == 0:
        return []
    inside = [(_recognised(inner, formats) or _inside(inner, formats, depth - 1)) for inner in subfolders(folder)]
    return [found for several in inside for found in several]


def _check_is_folder(data: Path) -> None:
    if data.is_dir():
        return
    if not data.exists():
        raise LayoutUnknown("DATA is a folder of photos and label maps", f"{data} is not there", "check the path")
    packed = data.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
    raise LayoutUnknown(
        "DATA is a folder of photos and label maps",
        f"{data} is a file",
        "unpack it and give the folder" if packed else f"give the folder that holds it: {data.parent}",
    )


def _unknown(data: Path) -> LayoutUnknown:
    return LayoutUnknown(
        "DATA is a VOC devkit (JPEGImages, SegmentationClass), a SegNet folder (train, trainannot), images + masks, or "
        "photos with annotations of COCO, labelme, CVAT, Label Studio, Supervisely or YOLO",
        f"{data} holds {_contents(data)}",
        _hint(data),
    )


def _contents(data: Path) -> str:
    folders, files = subfolders(data), [path for path in data.iterdir() if path.is_file()]
    if not folders and not files:
        return "nothing"
    parts = [f"the folders {some(map(_say_folder, folders), 6)}"] if folders else []
    images = len(images_in(data, deep=False))
    parts += [count(images, "image")] if images else []
    parts += [count(len(files) - images, "other file")] if len(files) > images else []
    return ", ".join(parts)


def _say_folder(folder: Path) -> str:
    return f"{folder.name}/" if has_images(folder) else f"{folder.name}/ (no image in it)"


def _hint(data: Path) -> str:
    kind = next((kind for kind in ("json", "xml") if any(data.rglob(f"*.{kind}"))), None)
    if kind is None and any(role_of(path.parent.name).kind == "label" for path in data.rglob("*.txt")):
        kind = "txt"
    if kind:
        return f"turn the annotations (.{kind}), of a format not known here, into label maps: one PNG a photo"
    inside = subfolders(data)
    if len(inside) > 1 and all(images_in(folder, deep=False) for folder in inside):
        return (
            "photos in DATA/images, label maps of the same names in DATA/masks; class folders go with --classifier-data"
        )
    return "photos in DATA/images, label maps of the same names in DATA/masks"
