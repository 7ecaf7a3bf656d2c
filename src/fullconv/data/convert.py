"""Write samples in another format, every pixel as it is. Road: data, last. In: a SampleSet. Out: a new folder.

COCO, labelme and CVAT draw things as shapes; polygons would lose pixels, so that each connected region of a class
becomes one mask (COCO and CVAT: run lengths; labelme: a `mask` shape, which 5.3 and later reads). Knows no torch.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fullconv.base.errors import UsageError
from fullconv.base.files import write_bytes, write_json, write_text
from fullconv.base.progress import progress
from fullconv.data.samples import SPLITS, SampleSet
from fullconv.labels.drawing import runs_of
from fullconv.labels.maps import write_index_png
from fullconv.labels.space import LabelSpace

_VOID = "__ignore__"
_NEIGHBOURS = np.ones((3, 3), bool)  # regions may touch at a corner


@dataclass(frozen=True)
class Region:
    """A connected region of one class.

    Args:
        label: the class id, or void.
        top: its first row; `left`: its first column.
        mask: (h, w) of its bounding box.
    """

    label: int
    top: int
    left: int
    mask: NDArray[np.bool_]


def convert_samples(samples: SampleSet, to: str, out: Path) -> int:
    """Write the samples of all splits to a new folder; the originals are read only.

    Label maps get the size of their upright photo, class ids 0 .. K-1 and void. Photos are copied byte by byte.

    Args:
        to: one of `WRITERS`.
        out: a folder that is not there yet, or empty.
    Returns: how many samples were written.
    Raises: UsageError if the folder holds something, or `to` is none of the formats; DiskFull.
    """
    if to not in WRITERS:
        raise UsageError("a format that can be written is named", repr(to), f"--to {'|'.join(WRITERS)}")
    check_empty(out)
    WRITERS[to](samples, out)
    return len(samples.split("all"))


def regions_of(labels: NDArray[Any], space: LabelSpace) -> Iterator[Region]:
    """The connected regions of every class but the background, and of void."""
    for label in np.unique(labels).tolist():
        if label == space.background:
            continue
        numbered, _ = ndimage.label(labels == label, _NEIGHBOURS)
        for number, place in enumerate(ndimage.find_objects(numbered), 1):
            yield Region(label, place[0].start, place[1].start, numbered[place] == number)


# ---- the writers ----------------------------------------------------------------------------------------------------


def _write_paired(samples: SampleSet, out: Path) -> None:
    _write_pictures(samples, out, out / "images", out / "masks", out)


def _write_voc(samples: SampleSet, out: Path) -> None:
    _write_pictures(samples, out, out / "JPEGImages", out / "SegmentationClass", out / "ImageSets/Segmentation")


def _write_pictures(samples: SampleSet, out: Path, photos: Path, maps: Path, lists: Path) -> None:
    names = flat_names([sample.name for sample in samples.split("all")])
    for sample in progress(samples.split("all"), what="writing"):
        name = names[sample.name]
        write_bytes(photos / f"{name}{sample.photo.suffix}", sample.photo.read_bytes())
        write_index_png(maps / f"{name}.png", sample.read_labels(), sample.label_space)
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in samples.label_space.names))
    for split in SPLITS:
        if samples.split(split):
            write_text(lists / f"{split}.txt", "".join(f"{names[one.name]}\n" for one in samples.split(split)))


def _write_coco(samples: SampleSet, out: Path) -> None:
    space = samples.label_space
    has_void = any(counts[-1] for counts in samples.pixels.values())
    named = [*enumerate(space.names, 1), *([(space.size + 1, _VOID)] if has_void else [])]
    for split in SPLITS:
        if not samples.split(split):
            continue
        file_names = flat_names([sample.name for sample in samples.split(split)])
        images: list[dict[str, Any]] = []
        things: list[dict[str, Any]] = []
        for number, sample in enumerate(progress(samples.split(split), what=f"writing {split}"), 1):
            file = f"{file_names[sample.name]}{sample.photo.suffix}"
            write_bytes(out / split / file, sample.photo.read_bytes())
            images.append({"id": number, "file_name": file, "height": sample.size[0], "width": sample.size[1]})
            for region in regions_of(sample.read_labels(), space):
                category = region.label + 1 if region.label < space.size else space.size + 1
                things.append(_coco_thing(region, sample.size) | {"image_id": number, "category_id": category})
        document: dict[str, Any] = {
            "info": {"description": f"written by fullconv from {samples.root.name}"},
            "images": images,
            "annotations": [{"id": number, **thing} for number, thing in enumerate(things, 1)],
            "categories": [{"id": number, "name": name, "supercategory": ""} for number, name in named],
        }
        write_json(out / split / "_annotations.coco.json", document)


def _coco_thing(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    height, width = region.mask.shape
    runs = runs_of(region.mask, top=region.top, left=region.left, size=size)
    return {
        "segmentation": {"size": list(size), "counts": runs.counts.decode()},
        "area": int(region.mask.sum()),
        "bbox": [region.left, region.top, width, height],
        "iscrowd": 0,
    }


def _write_labelme(samples: SampleSet, out: Path) -> None:
    space = samples.label_space
    for split in SPLITS:
        names = flat_names([sample.name for sample in samples.split(split)])
        for sample in progress(samples.split(split), what=f"writing {split}"):
            name = names[sample.name]
            photo = out / split / f"{name}{sample.photo.suffix}"
            write_bytes(photo, sample.photo.read_bytes())
            shapes = [_labelme_shape(region, space) for region in regions_of(sample.read_labels(), space)]
            document: dict[str, Any] = {
                "version": "5.5.0",
                "flags": {},
                "shapes": shapes,
                "imagePath": photo.name,
                "imageData": None,
                "imageHeight": sample.size[0],
                "imageWidth": sample.size[1],
            }
            write_json(out / split / f"{name}.json", document)
    write_text(out / "labels.txt", "".join(f"{name}\n" for name in (_VOID, *space.names)))


def _labelme_shape(region: Region, space: LabelSpace) -> dict[str, Any]:
    height, width = region.mask.shape
    stream = io.BytesIO()
    Image.fromarray(region.mask.astype(np.uint8) * 255).save(stream, "PNG")
    return {
        "label": _label(region, space),
        "points": [[region.left, region.top], [region.left + width - 1, region.top + height - 1]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(stream.getvalue()).decode(),
    }


def _write_cvat(samples: SampleSet, out: Path) -> None:
    """CVAT for images 1.1: one XML file; labels.txt says the order of the classes when they are read again."""
    space = samples.label_space
    document = Element("annotations")
    SubElement(document, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(document, "meta"), "task"), "labels")
    for name, colour in (*zip(space.names, space.colours, strict=True), (_VOID, (224, 224, 224))):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "color").text = "#{:02x}{:02x}{:02x}".format(*colour)
    split_of = {sample.name: split for split in SPLITS for sample in samples.split(split)}
    names = flat_names(list(split_of))  # CVAT finds a task's frames by their bare names, else by their order
    ordered = sorted(samples.split("all"), key=lambda sample: names[sample.name])
    for number, sample in enumerate(progress(ordered, what="writing")):
        photo = out / "images" / split_of[sample.name] / f"{names[sample.name]}{sample.photo.suffix}"
        write_bytes(photo, sample.photo.read_bytes())
        height, width = sample.size
        facts = {"id": number, "name": photo.name, "subset": split_of[sample.name], "width": width, "height": height}
        image = SubElement(document, "image", {key: str(fact) for key, fact in facts.items()})
        for region in regions_of(sample.read_labels(), space):
            SubElement(image, "mask", _cvat_mask(region, space))
    indent(document)
    stream = io.BytesIO()
    ElementTree(document).write(stream, encoding="utf-8", xml_declaration=True)
    write_bytes(out / "annotations.xml", stream.getvalue())
    write_text(out / "labels.txt", "".join(f"{name}\n" for name in (_VOID, *space.names)))


def _cvat_mask(region: Region, space: LabelSpace) -> dict[str, str]:
    """Run lengths along the rows of the box, what is not covered first."""
    height, width = region.mask.shape
    flat = np.concatenate([[False], region.mask.ravel(), [not region.mask.flat[-1]]])
    runs = np.diff(np.flatnonzero(np.diff(flat)), prepend=0)
    return {
        "label": _label(region, space),
        "source": "auto",
        "occluded": "0",
        "rle": ", ".join(map(str, runs.tolist())),
        "left": str(region.left),
        "top": str(region.top),
        "width": str(width),
        "height": str(height),
        "z_order": "0",
    }


def _label(region: Region, space: LabelSpace) -> str:
    return space.names[region.label] if region.label < space.size else _VOID


WRITERS: dict[str, Callable[[SampleSet, Path], None]] = {
    "voc": _write_voc,
    "coco": _write_coco,
    "labelme": _write_labelme,
    "cvat": _write_cvat,
    "paired": _write_paired,
}


def flat_names(names: Sequence[str]) -> dict[str, str]:
    """Names without folders, by name: `a/b` is `a_b`, and where that is another's name already, `a_b_2`."""
    flat: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        short, number = name.replace("/", "_"), 1
        while short in taken:
            number += 1
            short = f"{name.replace('/', '_')}_{number}"
        taken.add(short)
        flat[name] = short
    return flat


def check_empty(folder: Path) -> None:
    """Raises: UsageError if the folder is there and holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("copies of samples go to a new folder", f"{folder} holds something", "another folder")
