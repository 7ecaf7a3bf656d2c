"""Mend samples by the doctor's list, into a new folder. Road: study, after the findings.

The list is a file that a person reads and edits: what is taken out of it is not done. Originals are only read.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fullconv.base.errors import FullconvError, SizeMismatch, UsageError
from fullconv.base.files import read_json, write_bytes, write_json, write_text
from fullconv.base.images import read_photo
from fullconv.base.progress import progress
from fullconv.data.convert import check_empty, flat_names
from fullconv.data.detect import FORMATS, detect
from fullconv.data.formats.listing import UNSPLIT, Pair
from fullconv.data.samples import SPLITS
from fullconv.data.survey import photo_facts
from fullconv.data.usable import turn_by_sizes
from fullconv.labels.decode import decode, source_of, turned
from fullconv.labels.maps import nearest, same_aspect, to_classes, write_index_png
from fullconv.labels.space import LabelSpace
from fullconv.study.case import Case, turn
from fullconv.study.findings import Finding

REPAIRS = {
    "drop": "leave the sample out",
    "resize": "bring the label map to its photo's size by nearest neighbour",
    "upright": "write the photo upright, without EXIF, and its label map as `turned` says",
    "snap": "give pixels along edges, whose values nobody gave, the class of the nearest flat part",
}
_FLAT = 6  # of the eight neighbours of a pixel in a flat part have its class
_THIN = 3  # of those of a pixel in a thing two pixels wide
_SCHEMA = "fullconv.fixes/1"


@dataclass(frozen=True)
class Mended:
    """What was written.

    Args:
        written: samples in the new folder.
        done: repair -> samples it was applied to.
        left: name -> why the sample could not be written.
    """

    written: int
    done: dict[str, int]
    left: dict[str, str]


def fixes_json(case: Case, findings: Sequence[Finding]) -> dict[str, Any]:
    """The document of fixes.json: every repair that the findings propose, by sample, and how to read the samples."""
    return {
        "schema": _SCHEMA,
        "data": str(case.root.resolve()),
        "label_space": None if case.space is None else case.space.to_json(),
        "turned": {
            case.names[place]: turn(look)
            for place, look in enumerate(case.looks)
            if look.label_map is not None and turn(look) != 1
        },
        "splits": {
            split: [name for name, of in zip(case.names, case.splits, strict=True) if of == split]
            for split in (*SPLITS, UNSPLIT)
            if split in case.splits
        },
        "fixes": [
            {"kind": one.kind, "repair": one.repair, "samples": list(one.samples if one.mended is None else one.mended)}
            for one in findings
            if one.repair
        ],
    }


def mend_samples(fixes: Path, to: Path) -> Mended:
    """Write a mended copy of the samples: images/, masks/, classes.txt, a list for each split, mended.json.

    Args:
        fixes: the fixes.json that a study wrote, as it is or edited.
        to: a folder that is not there yet, or empty.
    Raises: UsageError if the file is none, the folder holds something, or a repair is not known; LayoutUnknown if the
        samples are gone.
    """
    document = _read(fixes)
    check_empty(to)
    space = LabelSpace.from_json(document["label_space"])
    root, layout, _ = detect(Path(document["data"]))
    pairs = {pair.name: pair for pair in FORMATS[layout][1](root).pairs()}
    repairs: dict[str, set[str]] = {name: set() for name in REPAIRS}
    for entry in document["fixes"]:
        repairs[entry["repair"]] |= set(entry["samples"])
    done: Counter[str] = Counter()
    left: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    order = [(split, name) for split, names in document["splits"].items() for name in names if name in pairs]
    flat = flat_names([name for _, name in order])
    for split, name in progress(order, what="mending", total=len(order)):
        asked = [repair for repair, names in repairs.items() if name in names]
        if "drop" in asked:
            done["drop"] += 1
            continue
        turned_by = int(document["turned"].get(name, 1)) if "upright" in asked else None
        try:
            _write(pairs[name], flat[name], asked, space, turned_by, to)
        except FullconvError as error:
            left[name] = error.found
            continue
        done.update(asked)
        lists.setdefault(split, []).append(flat[name])
    write_text(to / "classes.txt", "".join(f"{name}\n" for name in space.names))
    for split, names in lists.items():
        if split != UNSPLIT:
            write_text(to / f"{split}.txt", "".join(f"{name}\n" for name in names))
    mended = Mended(sum(map(len, lists.values())), dict(done), left)
    write_json(to / "mended.json", {"schema": "fullconv.mended/1", "from": str(root), **vars(mended)})
    return mended


def _read(path: Path) -> dict[str, Any]:
    """The list, checked. Raises: UsageError."""
    try:
        document = read_json(path)
        repairs = {entry["repair"]: list(entry["samples"]) for entry in document["fixes"]}
        LabelSpace.from_json(document["label_space"])
        if document["schema"] != _SCHEMA or not {"data", "turned", "splits"} <= document.keys():
            raise KeyError("schema")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "repairs are those of a fixes.json that a study wrote, of samples whose classes it could tell",
            f"{path} is none ({error})" if path.exists() else f"{path} is not there",
            "fullconv study DATA --out DIR, then --apply DIR/fixes.json --to MENDED",
        ) from error
    unknown = sorted(repairs.keys() - REPAIRS.keys())
    if unknown:
        raise UsageError(f"a repair is one of {', '.join(REPAIRS)}", ", ".join(unknown), f"mend {path}")
    checked: dict[str, Any] = document
    return checked


def _write(pair: Pair, name: str, repairs: Sequence[str], space: LabelSpace, turned_by: int | None, to: Path) -> None:
    """Write one sample with its repairs.

    Args:
        turned_by: the EXIF orientation by which the label map is turned; None: what the sizes tell.
    """
    photo = read_photo(pair.photo)
    size = (photo.shape[0], photo.shape[1])
    raw = decode(pair.label_map)
    if "snap" in repairs:
        labels = snapped(raw.as_colours() if space.in_colours else raw.ids, space)
    else:
        labels = to_classes(raw, space, source_of(pair.label_map))
    if turned_by is None:
        turned_by = turn_by_sizes((labels.shape[0], labels.shape[1]), size, photo_facts(pair.photo).orientation)
    labels = turned(labels, turned_by)
    found = (labels.shape[0], labels.shape[1])
    if not same_aspect(found, size):
        what = f"{pair.name}: {found[1]}x{found[0]}, the photo {size[1]}x{size[0]}"
        raise SizeMismatch("the label map has its photo's aspect ratio", what, "drop it")
    if "resize" in repairs or "upright" in repairs:
        labels = nearest(labels, size)
    if "upright" in repairs:
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "PNG")
        write_bytes(to / f"images/{name}.png", buffer.getvalue())
    else:
        write_bytes(to / f"images/{name}{pair.photo.suffix}", pair.photo.read_bytes())
    write_index_png(to / f"masks/{name}.png", labels, space)


def snapped(values: NDArray[Any] | None, space: LabelSpace) -> NDArray[Any]:
    """(H, W) class ids of a label map with values along its edges that nobody gave.

    A value next to that of a class (within a quarter of what lies between classes) is taken for it. A pixel keeps its
    class if most of its neighbours have it too, or if it has exactly the value of the class and some of them have it;
    all others get the class of the nearest that keeps it. Where classes lie so close that smoothing mixes them, no rule
    brings the truth back.
    """
    if values is None:
        raise UsageError("the label map is of the label space's kind", "ids where colours were read", "drop it")
    classes, exact = _nearest_class(values, space)
    alike = _equal_neighbours(classes)
    sound = (classes >= 0) & ((alike >= _FLAT) | (exact & (alike >= _THIN)))
    if not sound.any():
        return np.full(values.shape, space.void, space.dtype)
    rows, columns = ndimage.distance_transform_edt(~sound, return_distances=False, return_indices=True)
    return np.asarray(classes[rows, columns], space.dtype)


def _equal_neighbours(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(H, W) how many of a pixel's eight neighbours have its class."""
    height, width = classes.shape
    padded = np.pad(classes, 1, constant_values=-2)
    alike = np.zeros(classes.shape, np.int64)
    for down in (0, 1, 2):
        for across in (0, 1, 2):
            alike += padded[down : down + height, across : across + width] == classes
    return alike - 1


def _nearest_class(values: NDArray[Any], space: LabelSpace) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(H, W) the class whose value lies near, or -1; and where the value is that of the class."""
    table = space.class_of()
    known = np.array([value if isinstance(value, tuple) else (value,) for value in table], np.int64)  # (V, 1 or 3)
    found, which = np.unique(values, return_inverse=True)
    channels = np.stack([found >> 16, found >> 8 & 255, found & 255] if space.in_colours else [found], 1).astype(
        np.int64
    )
    apart = np.abs(known[:, None] - known[None]).max(2) + np.where(np.eye(len(known), dtype=bool), 1 << 20, 0)
    distance = np.abs(channels[:, None].astype(np.int64) - known[None]).max(2)  # (F, V)
    best = distance.argmin(1)
    closest = distance[np.arange(len(found)), best]
    near = np.where(closest * 4 <= apart.min(), np.array(list(table.values()), np.int64)[best], -1)
    return near[which].reshape(values.shape), (closest == 0)[which].reshape(values.shape)
