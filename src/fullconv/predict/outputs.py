"""What is written of a prediction. Road: predict, after a photo was segmented. In: `Prediction`. Out: files. Knows no
network.

For a photo `street.jpg`: `street.png` (class ids, with the label space's colours as palette), `street_overlay.jpg` (the
classes laid over the photo); on request `street_scores.npz` (the scores) and `street_scores/CLASS.png` (one picture a
class).
"""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fullconv.base.errors import UsageError
from fullconv.base.files import write_bytes
from fullconv.labels.maps import colour_picture, write_index_png

if TYPE_CHECKING:
    from fullconv.nets.prediction import Prediction

OVERLAY_SHARE = 0.55  # of the class's colour; the rest is the photo


def write_prediction(
    prediction: Prediction, photo: NDArray[np.uint8], folder: Path, name: str, *, scores: bool = False
) -> list[Path]:
    """Write one photo's label map and overlay, and its scores if asked for.

    Args:
        prediction: of this photo.
        photo: (H, W, 3) uint8 RGB.
        folder: made if it is not there.
        name: of the files, without suffix; may hold folders.
        scores: also write the scores and a picture of each class's share.
    Returns: the files written, the label map first. Raises: DiskFull.
    """
    labels, overlaid = folder / f"{name}.png", folder / f"{name}_overlay.jpg"
    write_index_png(labels, prediction.labels, prediction.label_space)
    write_bytes(overlaid, encoded(overlay(photo, prediction), "JPEG", quality=92))
    return [labels, overlaid, *(write_scores(prediction, folder, name) if scores else [])]


def write_scores(prediction: Prediction, folder: Path, name: str) -> list[Path]:
    """Write scores, class names and a grey picture a class (white: this class has all of the softmax's share)."""
    archive = folder / f"{name}_scores.npz"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, scores=prediction.scores, classes=np.array(prediction.label_space.names))
    write_bytes(archive, buffer.getvalue())
    written = [archive]
    for index, (share, class_name) in enumerate(
        zip(shares(prediction.scores), prediction.label_space.names, strict=True)
    ):
        picture = folder / f"{name}_scores" / f"{index:02d}_{plain(class_name)}.png"
        write_bytes(picture, encoded((share * 255).round().astype(np.uint8), "PNG"))
        written.append(picture)
    return written


def spare_photos(photos: Sequence[Path], names: Sequence[str], folder: Path) -> None:
    """Raises: UsageError if what is to be written would replace one of the photos."""
    given = {photo.resolve() for photo in photos}
    for name in names:
        for path in (folder / f"{name}.png", folder / f"{name}_overlay.jpg"):
            if path.resolve() in given:
                raise UsageError(
                    "no photo may be overwritten", f"{path} is one of the photos", "--out with another folder"
                )


def overlay(photo: NDArray[np.uint8], prediction: Prediction) -> NDArray[np.uint8]:
    """(H, W, 3): each class's colour over the photo; the background, if there is one, stays as the photo is."""
    colours = colour_picture(prediction.labels, prediction.label_space)
    mixed = (photo * (1 - OVERLAY_SHARE) + colours * OVERLAY_SHARE).round().astype(np.uint8)
    background = prediction.label_space.background
    return mixed if background is None else np.where((prediction.labels == background)[..., None], photo, mixed)


def shares(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, H, W) softmax over the classes."""
    powers = np.exp(scores - scores.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0), np.float32)


def encoded(picture: NDArray[np.uint8], form: str, *, quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, quality=quality)
    return buffer.getvalue()


def plain(name: str) -> str:
    """A class's name as part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "class"


def output_names(photos: Sequence[Path]) -> list[str]:
    """One name a photo, no two alike, capitals aside.

    The stem where it is the only one; else the folders in which the photos of that stem differ come before it
    (`a/street`, `b/street`), and where one folder holds both `street.jpg` and `street.png`, the suffix after it.
    """
    rivals: dict[str, list[Path]] = defaultdict(list)
    for photo in photos:
        rivals[photo.stem.lower()].append(photo)
    names = [
        photo.stem if len(several) == 1 else _with_folder(photo, several)
        for photo in photos
        for several in [rivals[photo.stem.lower()]]
    ]
    return _distinct(names, photos)


def _with_folder(photo: Path, rivals: Sequence[Path]) -> str:
    """The stem below the folders that tell it from its rivals."""
    parts = photo.absolute().parts[:-1]
    shared = min(len(_common(parts, rival.absolute().parts[:-1])) for rival in rivals)
    return "/".join([*parts[shared:], photo.stem])


def _common(one: Sequence[str], other: Sequence[str]) -> list[str]:
    alike = []
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        alike.append(a)
    return alike


def _distinct(names: Sequence[str], photos: Sequence[Path]) -> list[str]:
    """Names that still meet get the file's suffix, then a number."""
    counts = Counter(name.lower() for name in names)
    found: list[str] = []
    taken: set[str] = set()
    for name, photo in zip(names, photos, strict=True):
        best = name if counts[name.lower()] == 1 else f"{name}_{photo.suffix.lstrip('.').lower()}"
        number, free = 1, best
        while free.lower() in taken:
            number += 1
            free = f"{best}_{number}"
        taken.add(free.lower())
        found.append(free)
    return found
