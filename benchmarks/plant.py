"""A copy of a data set with faults in it that are known: what a study finds of them can be counted.

One seed says where they go. Faults of the same sample do not pile up. Reads VOC devkits and SegNet folders.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import fullconv as fc
from fullconv.data.samples import Sample, SampleSet

ORIENTATION = 0x0112
SHARES = {"swapped": 0.02, "shifted": 0.02, "missing": 0.02, "leak": 0.01, "binary_255": 0.01, "exif_rotation": 0.01, "jpeg_mask": 0.01}


@dataclass
class Planted:
    """What was planted: kind -> the names of the samples; for faults of labels also where, per sample."""

    root: Path
    samples: dict[str, list[str]] = field(default_factory=dict)
    wrong: dict[str, NDArray[np.bool_]] = field(default_factory=dict)


def plant(source: Path, to: Path, *, seed: int = 0, shares: Mapping[str, float] = SHARES, classes: Sequence[str] = ()) -> Planted:
    """Copy the samples of `source` to `to` and spoil some: the seed says which, and how; `classes`, which labels (none: all).

    `shares` says of each kind of fault how much of train gets it.
    """
    shutil.copytree(source, to, copy_function=shutil.copyfile)
    for path in to.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    to.chmod(0o755)
    samples = fc.read_samples(to, classes=classes or None)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(samples.train))
    planted = Planted(to)
    taken = 0
    for kind, share in shares.items():
        number = max(2, round(share * len(samples.train)))
        planted.samples[kind] = []
        while len(planted.samples[kind]) < number and taken < len(order):
            sample = samples.train[order[taken]]
            taken += 1
            if FAULTS[kind](sample, samples, planted, rng):
                planted.samples[kind].append(sample.name)
    return planted


# ---- faults of labels -----------------------------------------------------------------------------------------------


def _swapped(sample: Sample, samples: SampleSet, planted: Planted, rng: np.random.Generator) -> bool:
    """One class of the label map becomes another that the set has."""
    before, ids = _ids(sample)
    classes = _things(sample, before)
    others = sorted(set(range(samples.label_space.size)) - {sample.label_space.background} - set(np.unique(before)))
    if not classes or not others:
        return False
    which = classes[int(rng.integers(len(classes)))]
    other = others[int(rng.integers(len(others)))]
    return _changed(sample, planted, before, ids, np.where(before == which, other, before))


def _shifted(sample: Sample, samples: SampleSet, planted: Planted, rng: np.random.Generator) -> bool:
    """The label map moves by some pixels, or its things lose their rim."""
    before, ids = _ids(sample)
    if not _things(sample, before):
        return False
    if rng.random() < 0.5:
        down, across = (int(rng.choice([-1, 1]) * rng.integers(10, 25)) for _ in range(2))
        return _changed(sample, planted, before, ids, np.roll(before, (down, across), (0, 1)))
    rim = int(rng.integers(6, 12))
    after = before.copy()
    for which in _things(sample, before):
        thing = before == which
        kept = ndimage.binary_erosion(thing, iterations=rim)
        rows, columns = ndimage.distance_transform_edt(thing | (before == sample.label_space.void), return_distances=False, return_indices=True)
        after[thing & ~kept] = before[rows, columns][thing & ~kept]
    return _changed(sample, planted, before, ids, after)


def _missing(sample: Sample, samples: SampleSet, planted: Planted, rng: np.random.Generator) -> bool:
    """A thing is gone: its pixels have the class that surrounds it."""
    before, ids = _ids(sample)
    classes = _things(sample, before)
    if not classes:
        return False
    numbered, number = ndimage.label(before == classes[int(rng.integers(len(classes)))])
    areas = np.bincount(numbered.ravel())[1:]
    large = np.flatnonzero(areas > 0.005 * before.size) + 1
    if not number or not large.size:
        return False
    thing = numbered == int(rng.choice(large))
    outside = ~ndimage.binary_dilation(thing, iterations=8) & (before != sample.label_space.void)
    rows, columns = ndimage.distance_transform_edt(~outside, return_distances=False, return_indices=True)
    gone = ndimage.binary_dilation(thing, iterations=8) & (thing | (before == sample.label_space.void))
    return _changed(sample, planted, before, ids, np.where(gone, before[rows, columns], before))


def _ids(sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(H, W) class ids with void, and the ids that the file holds."""
    with Image.open(sample.label_map) as image:
        return sample.read_labels(), np.array(image)


def _things(sample: Sample, labels: NDArray[np.uint8]) -> list[int]:
    """Classes but for the background that take at least a hundredth of the label map."""
    space = sample.label_space
    counts = np.bincount(labels.ravel(), minlength=256)
    return [c for c in range(space.size) if c != space.background and counts[c] > 0.01 * labels.size]


def _changed(sample: Sample, planted: Planted, before: NDArray[np.uint8], ids: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    space = sample.label_space
    wrong = (before != after) & (before != space.void) & (after != space.void)
    if wrong.mean() < 0.003:
        return False
    table = np.zeros(256, np.uint8)
    for index, values in enumerate(space.file_values):
        table[index] = values[0]
    table[space.void] = space.void_values[0]
    _write(sample, table[after])
    planted.wrong[sample.name] = wrong
    return True


def _write(sample: Sample, ids: NDArray[np.uint8]) -> None:
    with Image.open(sample.label_map) as image:
        palette = image.getpalette() if image.mode == "P" else None
    image = Image.fromarray(ids)
    if palette:
        image.putpalette(palette)
    image.save(sample.label_map)


# ---- faults of files ------------------------------------------------------------------------------------------------


def _leak(sample: Sample, samples: SampleSet, planted: Planted, rng: np.random.Generator) -> bool:
    """The sample is in val too, under another name; every second one saved anew, a little smaller."""
    name = f"copy_{len(planted.samples['leak'])}"
    photo, label_map = (path.with_name(name + path.suffix) for path in (samples.val[0].photo, samples.val[0].label_map))
    if len(planted.samples["leak"]) % 2:
        with Image.open(sample.photo) as image, Image.open(sample.label_map) as labels:
            size = (round(image.width * 0.9), round(image.height * 0.9))
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(photo, quality=80)
            labels.resize(size, Image.Resampling.NEAREST).save(label_map)
    else:
        shutil.copyfile(sample.photo, photo)
        shutil.copyfile(sample.label_map, label_map)
    for listed in (planted.root / "ImageSets/Segmentation/val.txt", planted.root / "val.txt"):
        if listed.is_file():
            like = next(line for line in listed.read_text().splitlines() if samples.val[0].name in line)
            listed.write_text(listed.read_text().rstrip("\n") + "\n" + like.replace(samples.val[0].name, name) + "\n")
    return True


def _binary(sample: Sample, samples: SampleSet, planted: Planted, rng: np.random.Generator) -> bool:
    """All classes but the first become 255, the first 0."""
    labels, _ = _ids(sample)
    Image.fromarray(np.where((labels == 0) | (labels == sample.label_space.void), 0, 255).astype(np.uint8)).save(sample.label_map)
    return True


def _exif(sample: Sample, samples: SampleSet, planted: Planted, rng: np.random.Generator) -> bool:
    """The photo is stored turned, with the mark that turns it back; every second label map is stored turned too."""
    orientation = int(rng.choice([3, 6, 8]))
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    with Image.open(sample.photo) as image:
        exif = image.getexif()
        exif[ORIENTATION] = orientation
        image.transpose(back).save(sample.photo, exif=exif, **({"quality": 95} if image.format == "JPEG" else {}))
    if len(planted.samples["exif_rotation"]) % 2:
        with Image.open(sample.label_map) as image:
            image.transpose(back).save(sample.label_map)
    return True


def _jpeg(sample: Sample, samples: SampleSet, planted: Planted, rng: np.random.Generator) -> bool:
    """The label map went through JPEG, as colours or as ids, and lies there as PNG again."""
    with Image.open(sample.label_map) as image:
        mode = "RGB" if image.mode == "P" and len(planted.samples["jpeg_mask"]) % 2 else "L"
        plain = image.convert("RGB") if mode == "RGB" else Image.fromarray(np.array(image))
    stream = io.BytesIO()
    plain.save(stream, "JPEG", quality=85)
    Image.open(stream).save(sample.label_map)
    return True


FAULTS: dict[str, Callable[[Sample, SampleSet, Planted, np.random.Generator], bool]] = {
    "swapped": _swapped,
    "shifted": _shifted,
    "missing": _missing,
    "leak": _leak,
    "binary_255": _binary,
    "exif_rotation": _exif,
    "jpeg_mask": _jpeg,
}
