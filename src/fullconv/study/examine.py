"""Look at every pair of photo and label map once, and keep a few numbers of each. Road: study, first.

In: pairs, as a format lists them, whether they can be used or not. Out: one `Look` a pair. Nothing here stops at a
bad file: what is wrong with it is what the look says. Knows no label space, no torch.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fullconv.base.cores import on_all_cores
from fullconv.base.errors import FullconvError
from fullconv.base.images import EXIF_ORIENTATION, SIDEWAYS, UNREADABLE
from fullconv.data.formats.listing import Pair
from fullconv.data.looks import blend, roughness
from fullconv.labels.decode import decode, turned
from fullconv.labels.held import Holds, holds
from fullconv.labels.space import Colour

THUMB = 16  # px: photos are compared as grey pictures of this size
_SMALL = 128  # px: photos are judged at one to two times this size, so that large ones are not blurred by size alone
_DARK, _BRIGHT = 16, 240
_STEEPEST = 0.01


@dataclass(frozen=True, slots=True)
class PhotoLook:
    """What a photo looks like.

    Args:
        size: (H, W) upright.
        orientation: as EXIF says, 1 to 8.
        content: sha256 of the file.
        thumb: (256,) uint8, the upright photo in grey, 16 x 16.
        colour: mean RGB, 0 to 255.
        sharpness: see `edge_sharpness`; at 128 to 255 pixels on the shorter side.
        dark: share of pixels below 16 of 255; `bright`: above 240.
    """

    size: tuple[int, int]
    orientation: int
    content: str
    thumb: NDArray[np.uint8]
    colour: tuple[float, float, float]
    sharpness: float
    dark: float
    bright: float


@dataclass(frozen=True, slots=True)
class MapLook:
    """What a label map file holds.

    Args:
        palette: the part of its palette that it uses.
        rough: see `looks.roughness`.
        blend: what its values look like if not like those of a label map: `looks.PHOTO`, `JPEG`, `SMOOTH`.
    """

    holds: Holds
    palette: Mapping[int, Colour]
    rough: float
    blend: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """A pair; what cannot be read is None, with the reason in `photo_error`, `map_error`.

    Args:
        fits: how well edges of the label map lie on edges of the photo, for the label map as drawn on the upright
            photo and as drawn on the photo as stored: see `edge_fit`; None where EXIF turns nothing.
    """

    pair: Pair
    photo: PhotoLook | None
    label_map: MapLook | None
    photo_error: str | None = None
    map_error: str | None = None
    fits: tuple[float, float] | None = None


def examine(pairs: Sequence[Pair]) -> Iterator[Look]:
    """Look at the pairs in their order, on all cores.

    What others of a hundred thousand looks hold too is kept once: their pairs, their palettes, their colours.
    """
    palettes: dict[tuple[tuple[int, Colour], ...], Mapping[int, Colour]] = {}
    colours: dict[Colour, Colour] = {}
    for pair, seen in zip(pairs, on_all_cores(look, pairs, what="looking at samples"), strict=True):
        label_map = seen.label_map
        if label_map is not None:
            known = palettes.setdefault(tuple(label_map.palette.items()), label_map.palette)
            held = label_map.holds
            if held.colours is not None:
                held = replace(held, colours={colours.setdefault(one, one): n for one, n in held.colours.items()})
            label_map = replace(label_map, palette=known, holds=held)
        yield replace(seen, pair=pair, label_map=label_map)


def look(pair: Pair) -> Look:
    """Look at one pair."""
    photo, label_map, photo_error, map_error, fits = None, None, None, None, None
    grey: NDArray[np.float32] | None = None
    try:
        photo, grey = _look_at_photo(pair)
    except (*UNREADABLE, FullconvError) as error:
        photo_error = f"{pair.photo.name}: {_reason(error)}"
    try:
        raw = decode(pair.label_map)
    except FullconvError as error:
        map_error = error.found
    else:
        held = holds(raw)
        palette = {index: raw.palette[index] for index in held.ids or ()} if raw.palette is not None else {}
        values = raw.ids if raw.ids is not None else raw.colours
        assert values is not None
        label_map = MapLook(held, palette, roughness(values), blend(values, held))
        if photo is not None and grey is not None and photo.orientation != 1:
            fits = edge_fit(values, grey), edge_fit(turned(values, photo.orientation), grey)
    return Look(pair, photo, label_map, photo_error, map_error, fits)


def edge_fit(values: NDArray[Any], grey: NDArray[np.float32]) -> float:
    """How much steeper a photo is on the edges of a label map than elsewhere: above 1 where the two belong together.

    Args:
        values: (H, W) of a label map of the photo's aspect ratio; of another one the fit is 0.
        grey: (h, w) of the upright photo, any size.
    """
    height, width = grey.shape
    if abs(values.shape[1] * height - width * values.shape[0]) > 0.02 * width * values.shape[0]:
        return 0.0
    rows = np.arange(height) * values.shape[0] // height
    columns = np.arange(width) * values.shape[1] // width
    small = values[rows[:, None], columns]
    edges = np.zeros((height, width), bool)
    edges[:, 1:] |= small[:, 1:] != small[:, :-1]
    edges[1:] |= small[1:] != small[:-1]
    down, across = np.gradient(grey)
    steep = np.hypot(down, across)
    if not edges.any() or edges.all() or not steep.any():
        return 0.0
    return float(steep[edges].mean() / max(float(steep[~edges].mean()), 1e-6))


def _look_at_photo(pair: Pair) -> tuple[PhotoLook, NDArray[np.float32]]:
    data = pair.photo.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            orientation = int(image.getexif().get(EXIF_ORIENTATION, 1))
            orientation = orientation if orientation in range(1, 9) else 1
            image.draft("RGB", (max(1, min(width, _SMALL)), max(1, min(height, _SMALL))))  # every byte is read
            image.load()
            small = _rgb(image)
    small = turned_picture(small, orientation)
    grey = (small @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)
    size = (width, height) if orientation in SIDEWAYS else (height, width)
    thumb = np.asarray(
        Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).resize((THUMB, THUMB), Image.Resampling.BOX)
    )
    red, green, blue = (float(small[..., channel].mean()) for channel in range(3))  # over both axes: ten times as long
    found = PhotoLook(
        size=size,
        orientation=orientation,
        content=hashlib.sha256(data).hexdigest(),
        thumb=thumb.ravel().copy(),
        colour=(red, green, blue),
        sharpness=edge_sharpness(grey),
        dark=float((grey < _DARK).mean()),
        bright=float((grey > _BRIGHT).mean()),
    )
    return found, grey


def _rgb(image: Image.Image) -> NDArray[np.float32]:
    """(h, w, 3) of 0 to 255, 128 to 255 pixels on the shorter side where there are as many."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float32)
        scaled = Image.fromarray((values * (255 / max(1.0, float(values.max())))).astype(np.uint8))
    else:
        scaled = image.convert("RGB")
    shrink = min(scaled.size) // _SMALL
    if shrink > 1:
        scaled = scaled.reduce(shrink)
    return np.asarray(scaled.convert("RGB"), np.float32)


def turned_picture(picture: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, C) turned upright as an EXIF orientation says."""
    if orientation == 1:
        return picture
    return np.stack([turned(picture[..., channel], orientation) for channel in range(picture.shape[2])], axis=2)


def edge_sharpness(grey: NDArray[np.float32]) -> float:
    """How sharp the steepest edges are: about 1 for steps, 1 / s for edges blurred by a Gaussian of s pixels.

    The largest Laplacian beside the steepest hundredth of the pixels, over their gradient: a photo of smooth things in
    focus has few steep edges, but these are sharp. 0 for one flat colour, or under 5 pixels.
    """
    if min(grey.shape) < 5:
        return 0.0
    inner = grey[1:-1, 1:-1]
    steep = np.hypot(grey[2:, 1:-1] - grey[:-2, 1:-1], grey[1:-1, 2:] - grey[1:-1, :-2]) / 2
    laplacian = np.abs(grey[2:, 1:-1] + grey[:-2, 1:-1] + grey[1:-1, 2:] + grey[1:-1, :-2] - 4 * inner)
    number = max(1, int(_STEEPEST * steep.size))
    rows, columns = np.unravel_index(np.argpartition(steep, -number, axis=None)[-number:], steep.shape)
    if steep[rows, columns].mean() < 1:
        return 0.0
    sharpest = np.zeros(number, np.float32)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            beside = (rows + down).clip(0, steep.shape[0] - 1), (columns + across).clip(0, steep.shape[1] - 1)
            sharpest = np.maximum(sharpest, laplacian[beside])
    return float(sharpest.mean() / steep[rows, columns].mean())


def _reason(error: Exception) -> str:
    return error.found if isinstance(error, FullconvError) else f"cannot be decoded ({error})"
