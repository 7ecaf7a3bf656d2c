"""Photos to label next, with label maps to begin with. Road: study, after label next.

In: a folder of photos without label maps. Out: those worth looking at; for the chosen, what a network sees in them, as
files that labelme, CVAT and COCO tools open. What is written is never written over: people correct it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fullconv.base.errors import UnreadableImage, UsageError
from fullconv.base.files import content_hash
from fullconv.base.images import photo_size, read_photo
from fullconv.base.progress import progress
from fullconv.data.convert import convert_samples
from fullconv.data.formats.folders import images_in
from fullconv.data.samples import Sample, SampleSet
from fullconv.labels.maps import write_index_png
from fullconv.labels.space import LabelSpace
from fullconv.nets.sharp import SharpHead
from fullconv.predict.outputs import output_names
from fullconv.study.label_next import LabelNext
from fullconv.study.small import Small, guess, shrink_photo, too_thin

FORMS = ("labelme", "cvat", "coco")
See = Callable[[str, NDArray[np.uint8]], NDArray[np.integer[Any]]]
"""(name, (H, W, 3) photo) -> (H, W) class ids."""


@dataclass(frozen=True)
class Unlabelled:
    """A photo without a label map, and what small networks see of it."""

    photo: Path
    small: Small


@dataclass(frozen=True)
class Batch:
    """Photos to label next.

    Args:
        photos: name -> file, of all that could have been chosen.
        left_out: file -> why it could not.
        folder: holds the pre-labels, a folder for each of `FORMS`.
    """

    chosen: LabelNext
    photos: Mapping[str, Path]
    left_out: Mapping[Path, str]
    folder: Path


def photos_to_label(
    folder: Path, labelled: Collection[str], space: LabelSpace, small: Path
) -> tuple[dict[str, Unlabelled], dict[Path, str]]:
    """The photos in a folder, by name, and those left out with the reason.

    Args:
        labelled: sha256 of photos that have a label map.
        small: keeps what small networks see of them.
    Raises: UsageError if no photo is left; DiskFull.
    """
    left_out: dict[Path, str] = {}
    seen = set(labelled)
    kept: dict[str, Unlabelled] = {}
    photos = images_in(folder)
    for name, photo in progress(zip(output_names(photos), photos, strict=True), what="photos", total=len(photos)):
        content = hashlib.sha256(photo.read_bytes()).hexdigest()
        if content in seen:
            left_out[photo] = "labelled already, or here twice"
            continue
        seen.add(content)
        try:
            if too_thin(photo_size(photo)):
                left_out[photo] = "too small to be segmented"
                continue
            kept[name] = Unlabelled(photo, shrink_photo(name, photo, space, small / content[:12]))
        except UnreadableImage as error:
            left_out[photo] = error.found
    if not kept:
        raise UsageError(
            "--next is a folder with photos that have no label map yet",
            f"none in {folder}" + (f", {len(left_out)} left out" if left_out else ""),
            "--next FOLDER",
        )
    return kept, left_out


def write_prelabels(photos: Mapping[str, Path], see: See, seen_by: str, space: LabelSpace, out: Path) -> Path:
    """Write what a network sees in each photo as labelme, CVAT and COCO files.

    Args:
        seen_by: tells this network from others.
    Returns: the folder in `out` that holds them, named by what is in it; one that is there already is left as it is.
    Raises: UnreadableImage, DiskFull.
    """
    folder = out / content_hash(seen_by, space.to_json(), *photos, *photos.values())[:8]
    if folder.exists():
        return folder
    unfinished = out / f"unfinished-{folder.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    written = space.as_written()
    samples = []
    for name, photo in progress(photos.items(), what="pre-labels", total=len(photos)):
        pixels = read_photo(photo)
        label_map = unfinished / "masks" / f"{name}.png"
        write_index_png(label_map, see(name, pixels), written)
        samples.append(Sample(name, photo, label_map, (pixels.shape[0], pixels.shape[1]), written))
    batch = SampleSet(out, "paired", written, tuple(samples), (), (), (), ())
    for form in FORMS:
        convert_samples(batch, form, unfinished / form)
    unfinished.rename(folder)
    return folder


def seen_small(heads: Sequence[SharpHead], sample: Small, size: tuple[int, int]) -> NDArray[np.uint16]:
    """(H, W) class ids at the photo's own size, by the mean of small networks; one class in memory at a time."""
    shares = torch.stack([guess(head, sample).softmax(0) for head in heads]).mean(0).numpy()
    most, labels = np.full(size, -1.0, np.float32), np.zeros(size, np.uint16)
    for label, share in enumerate(shares):
        larger = np.asarray(Image.fromarray(share).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        better = larger > most
        most[better], labels[better] = larger[better], label
    return labels
