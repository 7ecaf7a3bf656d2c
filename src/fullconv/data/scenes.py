"""Draw scenes with exact label maps, from a seed. Road: data, the embedded input of `fullconv demo`.

In: a seed, an index, a size. Out: photo and label map, or a folder in the `images/` + `masks/` layout. Knows no torch.

A scene is a cluttered table top: patterned sheets, twigs and pebbles, and on them objects that overlap. Every object
has a random colour, size, turn and tilt; its class is told by its outline together with its pattern. The sheets behind
wear the same patterns and colours as the objects, so neither a pixel's colour nor a small patch settles the class: one
has to see the outline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from colorsys import hsv_to_rgb
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fullconv.base import files, seeds
from fullconv.labels.maps import write_index_png
from fullconv.labels.space import LabelSpace

Floats = NDArray[np.floating[Any]]
Photo = NDArray[np.uint8]  # (H, W, 3)
Labels = NDArray[np.uint8]  # (H, W)

SCENE_SIZE = (192, 256)
_SMALLEST_SIDE = 32


# Patterns: (H, W) coordinates in pixels of the surface and a generator in, (H, W) of 0 to 1 out.


def _stripes(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    period = rng.uniform(7, 13)
    return _step(np.sin(2 * np.pi * x / period))


def _checks(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    period = rng.uniform(13, 22)
    return _step(4 * np.sin(2 * np.pi * y / period) * np.sin(2 * np.pi * x / period))


def _spots(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """Dots, one a cell of a grid, each moved and sized at random."""
    cell = rng.uniform(9, 13)
    row, column = np.floor(y / cell).astype(int) % 16, np.floor(x / cell).astype(int) % 16
    moves = rng.uniform(-0.2, 0.2, (2, 16, 16)).astype(np.float32)
    radii = rng.uniform(0.18, 0.36, (16, 16)).astype(np.float32)[row, column] * cell
    across = (y / cell % 1 - 0.5 - moves[0][row, column]) * cell
    along = (x / cell % 1 - 0.5 - moves[1][row, column]) * cell
    return _step(radii - np.hypot(across, along))


def _bricks(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """Light joints, bricks of several shades, every other course moved by half a brick."""
    height = rng.uniform(7, 10)
    width = 2.1 * height
    course = np.floor(y / height)
    along = x / width + 0.5 * (course % 2)
    joint = np.minimum(_to_whole(y / height) * height, _to_whole(along) * width)
    shade = rng.uniform(0.0, 0.5, (16, 16)).astype(np.float32)[
        course.astype(int) % 16, np.floor(along).astype(int) % 16
    ]
    return np.where(joint < 1.2, np.float32(1), shade)


def _wood(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """Grain: sines along one axis, warped slowly along the other."""
    bend = rng.uniform(3, 7) * np.sin(y / rng.uniform(14, 26) + rng.uniform(0, 6)) + 0.1 * y
    period = rng.uniform(8, 13)
    broad, narrow = np.sin(2 * np.pi * (x + bend) / period), np.sin(5.1 * np.pi * (x + 1.3 * bend) / period)
    return np.asarray(0.5 + 0.3 * broad + 0.2 * narrow)


def _hatch(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """Two sets of thin lines that cross."""
    period = rng.uniform(7, 11)
    line = np.minimum(_to_whole((y + x) / period / 1.4), _to_whole((y - x) / period / 1.4)) * period
    return _step(1.4 - line)


def _veins(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """A middle line and side lines that leave it aslant."""
    period = rng.uniform(8, 12)
    side = _to_whole((y - 0.8 * np.abs(x)) / period) * period
    return np.asarray(np.maximum(_step(1.7 - np.abs(x)), 0.8 * _step(1.2 - side)))


def _cloth(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """A weave so fine that it is hardly seen, with slow folds."""
    weave = np.sin(2.4 * y) * np.sin(2.4 * x)
    folds = np.sin(y / rng.uniform(20, 45) + rng.uniform(0, 6)) * np.sin(x / rng.uniform(20, 45))
    return np.asarray(0.35 + 0.1 * weave + 0.25 * folds)


def _gravel(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """Grains: waves of every direction, laid over each other."""
    sum_of_waves = np.zeros_like(y)
    for angle in rng.uniform(0, np.pi, 5):
        along, _ = _onto(_turn(angle), y, x)
        sum_of_waves += np.sin(along * rng.uniform(0.5, 1.4) + rng.uniform(0, 6))
    return np.asarray(np.clip(0.5 + 0.2 * sum_of_waves, 0, 1))


def _step(value: Floats) -> Floats:
    """0 to 1 with a soft edge about two units wide."""
    return np.asarray(np.clip(0.5 + value, 0, 1))


def _to_whole(value: Floats) -> Floats:
    return np.abs(value - np.round(value))


# Outlines: (H, W) coordinates where the object has radius 1; below 0 inside, about the distance to the edge.


def _disc(y: Floats, x: Floats) -> Floats:
    return np.hypot(y, x) - 1


def _square(y: Floats, x: Floats) -> Floats:
    return np.maximum(np.abs(y), np.abs(x)) - 0.85


def _egg(y: Floats, x: Floats) -> Floats:
    return np.hypot(y, x * (1.35 + 0.35 * y)) - 1


def _ring(y: Floats, x: Floats) -> Floats:
    return np.abs(np.hypot(y, x) - 0.72) - 0.3


def _triangle(y: Floats, x: Floats) -> Floats:
    return np.maximum(0.866 * np.abs(x) + 0.5 * y, -y) - 0.55


def _star(y: Floats, x: Floats) -> Floats:
    """Five points, each the meeting of two straight edges."""
    fifth = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + fifth / 2) % fifth - fifth / 2)
    radius = np.hypot(y, x)
    edge_y, edge_x = 0.48 * np.sin(fifth / 2), 1.1 - 0.48 * np.cos(fifth / 2)
    length = np.hypot(edge_y, edge_x)
    return np.asarray(((radius * np.cos(angle) - 1.1) * edge_y + radius * np.sin(angle) * edge_x) / length)


def _leaf(y: Floats, x: Floats) -> Floats:
    return np.hypot(y, np.abs(x) + 0.75) - 1.3


Pattern = Callable[[Floats, Floats, np.random.Generator], Floats]
Outline = Callable[[Floats, Floats], Floats]

# One line a class: what it is called, its outline, its pattern.
OBJECTS: dict[str, tuple[Outline, Pattern]] = {
    "ball": (_disc, _stripes),
    "board": (_square, _checks),
    "egg": (_egg, _spots),
    "ring": (_ring, _bricks),
    "wedge": (_triangle, _wood),
    "star": (_star, _hatch),
    "leaf": (_leaf, _veins),
}
SCENE_CLASSES = ("background", *OBJECTS)
SCENE_SPACE = LabelSpace(
    names=SCENE_CLASSES,
    colours=(
        (40, 40, 40), (230, 80, 60), (60, 140, 230), (250, 200, 60),
        (150, 90, 200), (180, 120, 60), (240, 120, 180), (80, 190, 100),
    ),
    file_values=tuple((index,) for index in range(len(SCENE_CLASSES))),
    background=0,
)  # fmt: skip


def draw_scene(seed: int, index: int, size: tuple[int, int] = SCENE_SIZE) -> tuple[Photo, Labels]:
    """Draw one scene; the same three arguments always give the same scene.

    Args:
        seed: the seed of the whole set.
        index: which scene of the set.
        size: (H, W) in pixels, each at least 32.
    Returns: photo (H, W, 3) uint8 RGB; labels (H, W) uint8, indices into SCENE_CLASSES, no void.

    >>> photo, labels = draw_scene(0, 0, (96, 128))
    >>> photo.shape, labels.shape, int(labels.max()) < len(SCENE_CLASSES)
    ((96, 128, 3), (96, 128), True)
    """
    assert min(size) >= _SMALLEST_SIDE, f"a scene is at least {_SMALLEST_SIDE} pixels a side, not {size}"
    rng = seeds.rng(seed, "scene", index)
    height, width = size
    unit = (height * width / (SCENE_SIZE[0] * SCENE_SIZE[1])) ** 0.5  # patterns and objects grow with the scene
    y, x = _grid(np.arange(height) / unit, np.arange(width) / unit)
    light = rng.uniform(0, 2 * np.pi)
    canvas = _table(y, x, rng)
    labels = np.zeros(size, np.uint8)
    for _ in range(rng.integers(5, 10)):
        _put_object(canvas, labels, unit, light, rng)
    return _photograph(canvas, light, rng), labels


def write_scenes(folder: Path, *, train: int, val: int, seed: int = 0, size: tuple[int, int] = SCENE_SIZE) -> Path:
    """Write scenes as `images/{train,val}/0000.jpg`, `masks/{train,val}/0000.png` and `classes.txt`; return `folder`.

    The masks are palette PNGs of class indices. Scenes of `val` come from a seed of their own, so that another number
    of training scenes leaves them as they are.
    """
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            photo, labels = draw_scene(seeds.integer(seed, split), index, size)
            files.write_bytes(folder / "images" / split / f"{index:04d}.jpg", _jpeg(photo))
            write_index_png(folder / "masks" / split / f"{index:04d}.png", labels, SCENE_SPACE)
    files.write_text(folder / "classes.txt", "\n".join(SCENE_CLASSES) + "\n")
    return folder


def _table(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """(H, W, 3) of 0 to 1: sheets that wear the objects' patterns, then pebbles and twigs."""
    canvas = _sheet(y, x, rng)
    for _ in range(rng.integers(2, 5)):
        middle_y, middle_x = rng.uniform(0.2, 0.8) * float(y[-1, 0]), rng.uniform(0.2, 0.8) * float(x[0, -1])
        across, _ = _onto(_turn(rng.uniform(0, 2 * np.pi)), y - middle_y, x - middle_x)
        canvas *= 1 - 0.35 * np.clip(1 + across / 9, 0, 1)[..., None]  # the sheet's shadow on what lies below
        canvas = _blend(canvas, _sheet(y, x, rng), np.clip(across, 0, 1))
    for _ in range(rng.integers(10, 26)):
        _put_clutter(canvas, 1 / float(y[1, 0]), rng)
    return canvas


def _sheet(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """One pattern in two tones; half of the sheets wear a pattern that objects wear too."""
    patterns = [pattern for _, pattern in OBJECTS.values()] if rng.random() < 0.5 else [_cloth, _gravel]
    pattern = patterns[rng.integers(len(patterns))]
    return _paint(pattern(*_onto(_turn(rng.uniform(0, np.pi)), y, x), rng), _two_tones(rng))


def _put_clutter(canvas: Floats, unit: float, rng: np.random.Generator) -> None:
    """Paint a pebble or a twig: a small plain ellipse, round or very long, with its shadow."""
    long = rng.uniform(2.5, 6) if rng.random() < 0.6 else rng.uniform(12, 30)
    short = long * rng.uniform(0.6, 1) if long < 6 else rng.uniform(1.2, 2)
    box, y, x = _around(canvas, (long + 3) * unit, rng)
    turn = _turn(rng.uniform(0, np.pi)) / unit
    y, x = _onto(turn, y, x)
    reach = np.hypot(y / long, x / short)
    below = np.hypot((y - 1.2) / (long + 0.5), (x - 1.2) / (short + 0.5))
    canvas[box] *= 1 - 0.4 * np.clip((1 - below) * short, 0, 1)[..., None]
    colours = _two_tones(rng)[0] * np.clip(1.15 - 0.5 * reach, 0, 1)[..., None]
    canvas[box] = _blend(canvas[box], colours, np.clip((1 - reach) * short * unit + 0.5, 0, 1))


def _put_object(canvas: Floats, labels: Labels, unit: float, light: float, rng: np.random.Generator) -> None:
    """Paint one object with its shadow, and write its class into the label map."""
    which = int(rng.integers(len(OBJECTS)))
    outline, pattern = list(OBJECTS.values())[which]
    radius = rng.uniform(24, 52)  # in pixels of a scene of SCENE_SIZE
    box, y, x = _around(canvas, (1.4 * radius + 8) * unit, rng)
    tilt = _tilt(rng) / unit
    surface_y, surface_x = _onto(tilt, y, x)
    edge = outline(surface_y / radius, surface_x / radius) * radius
    shadow_y, shadow_x = _onto(tilt, y + 5 * unit * math.sin(light), x + 5 * unit * math.cos(light))
    shadow = outline(shadow_y / radius, shadow_x / radius) * radius
    canvas[box] *= 1 - 0.5 * np.clip(0.5 - shadow / 7, 0, 1)[..., None]
    colours = _paint(pattern(surface_y, surface_x, rng), _two_tones(rng)) * _relief(edge, radius, light)[..., None]
    canvas[box] = _blend(canvas[box], colours, np.clip(0.5 - edge * unit, 0, 1))
    labels[box][edge < 0] = 1 + which


def _around(canvas: Floats, reach: float, rng: np.random.Generator) -> tuple[tuple[slice, slice], Floats, Floats]:
    """A random place: the box of `reach` pixels round it, cut to the canvas, and coordinates (y, x) from its middle."""
    height, width = canvas.shape[:2]
    row, column = rng.uniform(0, height), rng.uniform(0, width)
    rows = slice(max(0, int(row - reach)), min(height, int(row + reach) + 1))
    columns = slice(max(0, int(column - reach)), min(width, int(column + reach) + 1))
    y, x = _grid(np.arange(rows.start, rows.stop) - row, np.arange(columns.start, columns.stop) - column)
    return (rows, columns), y, x


def _grid(rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """Coordinates y and x, (H, W) each; single precision, as all that follows: twice as fast."""
    y, x = np.meshgrid(rows.astype(np.float32), columns.astype(np.float32), indexing="ij")
    return y, x


def _tilt(rng: np.random.Generator) -> Floats:
    """(2, 2) from the photo to a surface that is turned, and seen aslant."""
    lean, turn = rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(_turn(turn) @ np.diag([1.0, 1 / rng.uniform(0.7, 1.0)]) @ _turn(lean))


def _onto(matrix: Floats, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    ((a, b), (c, d)) = matrix.tolist()
    return a * y + b * x, c * y + d * x


def _turn(angle: float) -> Floats:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _relief(edge: Floats, radius: float, light: float) -> Floats:
    """Brightness of a surface that swells from its outline: lit on one side, darker on the other."""
    depth = np.clip(-edge / (0.4 * radius), 0, 1)
    slope_y, slope_x = np.gradient(np.sqrt(depth) * 0.25 * radius)
    return np.asarray(np.clip(1 - 0.4 * (slope_y * math.sin(light) + slope_x * math.cos(light)), 0.5, 1.4))


def _photograph(canvas: Floats, light: float, rng: np.random.Generator) -> Photo:
    """Uneven light, a little blur, grain; to 8 bits."""
    height, width = canvas.shape[:2]
    y, x = _grid(np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width))
    towards = y * math.sin(light) + x * math.cos(light)
    brightness = rng.uniform(0.85, 1.1) * (1 + 0.4 * towards + 0.3 * _clouds(height, width, rng))
    lit = canvas * brightness[..., None] * rng.uniform(0.9, 1.08, 3).astype(np.float32)
    soft = Image.fromarray((np.clip(lit, 0, 1) * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8))
    )
    grain = rng.standard_normal((height, width, 3), np.float32) * np.float32(rng.uniform(2, 7))
    return np.clip(np.asarray(soft, np.float32) + grain, 0, 255).astype(np.uint8)


def _clouds(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Slow noise of about -1 to 1."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (4, 5)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _two_tones(rng: np.random.Generator) -> Floats:
    """(2, 3) RGB of 0 to 1: any hue, and a second tone that can be told from the first."""
    hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.15, 0.75), rng.uniform(0.55, 1.0)
    other = (hue + rng.uniform(-0.2, 0.2)) % 1, saturation * rng.uniform(0.3, 0.9), value * rng.uniform(0.3, 0.6)
    tones = np.array([hsv_to_rgb(hue, saturation, value), hsv_to_rgb(*other)], np.float32)
    return tones[:: rng.choice([1, -1])]


def _paint(pattern: Floats, tones: Floats) -> Floats:
    return _blend(tones[0], tones[1], pattern)


def _blend(below: Floats, above: Floats, cover: Floats) -> Floats:
    """`above` over `below` where `cover` (H, W) is 1."""
    return below + (above - below) * cover[..., None]


def _jpeg(photo: Photo) -> bytes:
    with BytesIO() as file:
        Image.fromarray(photo).save(file, "JPEG", quality=95)
        return file.getvalue()
