"""Label Studio JSON: tasks with brushes (run lengths), polygons and rectangles in per cent, the later over the earlier.

Of several annotations of a task the one marked as ground truth counts, else the latest that was not cancelled; where
there is none, the task's predictions, and that is said. Knows no pixels but those of brushes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fullconv.base.images import IMAGE_SUFFIXES
from fullconv.data.formats.annotations import (
    UNREADABLE_SHAPES,
    Annotated,
    Photos,
    Table,
    classes_by_name,
    drawn_listing,
    files_in,
    holds_keys,
    read_json,
    size_of,
    split_of,
)
from fullconv.data.formats.listing import Listing, count
from fullconv.data.samples import Skipped
from fullconv.labels.drawing import Drawing, Polygon, Runs, Thing, polygon, runs_of

_AREAS = ("polygonlabels", "brushlabels", "rectanglelabels")
_LOOKED_AT = 8


def recognise(root: Path) -> str | None:
    """Why `root` is a Label Studio export, or None."""
    found = files_in(root, ".json", depth=1)[:_LOOKED_AT]
    files = [path for path in found if holds_keys(path, "data", "result", "value")]
    return f"{files[0].relative_to(root).as_posix()} holds Label Studio tasks" if files else None


def list_pairs(root: Path) -> Listing:
    """The photos of all tasks in the folder, with what is annotated in them drawn."""
    photos = Photos(root)
    tasks = [(path, task) for path in _files(root) for task in _tasks(read_json(path))]
    results = [(path, task, *_results(task)) for path, task in tasks]
    table = classes_by_name(
        [name for *_, regions, _ in results for region in regions for name in _names(region)], [root]
    )
    annotated, skipped = [], []
    for path, task, regions, _ in results:
        if regions and not any(map(_names, regions)):
            continue
        said = [*_ways_to_say(task), f"task {task.get('id')}"]
        photo = next((photo for way in said if (photo := photos.find(way, near=path.parent))), None)
        try:
            size = _size(regions, photo)
            things = _things(regions, size, table)
        except UNREADABLE_SHAPES as error:
            skipped.append(Skipped(said[0], (path,), f"unreadable: {path.name}, task {task.get('id')}: {error}"))
            continue
        drawing = Drawing(path, said[0], "Label Studio", size, things, table.ground)
        annotated.append(Annotated(said[0], photo, drawing, split_of(path, root)))
    alone = photos.alone(one.photo for one in annotated if one.photo)
    notes = _notes(results, len(annotated) + len(skipped))
    return drawn_listing("label-studio", annotated, root=root, table=table, alone=alone, notes=notes, skipped=skipped)


def _files(root: Path) -> list[Path]:
    return [path for path in files_in(root, ".json", depth=1) if holds_keys(path, "data", "result", "value")]


def _tasks(document: Any) -> list[dict[str, Any]]:
    tasks = document if isinstance(document, list) else [document]
    return [task for task in tasks if isinstance(task, dict) and isinstance(task.get("data"), dict)]


def _size(regions: Sequence[Mapping[str, Any]], photo: Path | None) -> tuple[int, int]:
    for region in regions:
        if _names(region) and region.get("original_height") and region.get("original_width"):
            return int(region["original_height"]), int(region["original_width"])
    return size_of(photo)


def _results(task: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """The regions of the task's annotation, and whether they are only predicted."""
    kept = [one for one in task.get("annotations") or task.get("completions") or [] if not one.get("was_cancelled")]
    if kept:
        best = max(kept, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at") or "")))
        return list(best.get("result") or []), False
    predicted = task.get("predictions") or []
    return (list(predicted[-1].get("result") or []), True) if predicted else ([{"type": "none"}], False)


def _names(region: Mapping[str, Any]) -> list[str]:
    """The classes of a region that can be drawn; none for others."""
    kind = str(region.get("type"))
    return [str(name) for name in region["value"].get(kind) or []] if kind in _AREAS else []


def _notes(results: Sequence[tuple[Path, Any, list[dict[str, Any]], bool]], used: int) -> list[str]:
    notes = ["Where things overlap, the later in the task counts."]
    predicted = sum(only for *_, only in results)
    if predicted:
        notes.append(f"{count(predicted, 'task')} with predictions only, nothing a person drew: these are taken.")
    if used < len(results):
        notes.append(f"{count(len(results) - used, 'task')} without a brush, polygon or rectangle: left out.")
    kinds = [str(region.get("type")) for *_, regions, _ in results for region in regions if not _names(region)]
    others = Counter(kind for kind in kinds if kind != "none")
    if others:
        notes.append(f"Not drawn: {', '.join(count(n, kind) for kind, n in sorted(others.items()))}.")
    return notes


def _things(regions: Sequence[Mapping[str, Any]], size: tuple[int, int], table: Table) -> tuple[Thing, ...]:
    drawn = [(names[0], _shape(region, size)) for region in regions if (names := _names(region))]
    return tuple(Thing(table.id_of(name), shape) for name, shape in drawn if shape is not None)


def _ways_to_say(task: Mapping[str, Any]) -> Iterator[str]:
    """What may be the photo's name: as uploaded, as served, without the mark that an upload gets in front."""
    given = [task["file_upload"]] if task.get("file_upload") else []
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    given += [text for text in texts if Path(text.split("?")[0]).suffix.lower() in IMAGE_SUFFIXES]
    given += [text.split("?d=")[1] for text in texts if "?d=" in text]
    for text in given:
        yield text
        name = re.split(r"[\\/]", text)[-1]
        if re.match(r"[0-9a-f]{8}-.", name):
            yield name[9:]
    yield from texts


def _shape(region: Mapping[str, Any], size: tuple[int, int]) -> Polygon | Runs | None:
    value, (height, width) = region["value"], size
    if region["type"] == "brushlabels":
        return runs_of(_brush(value["rle"], size))
    if region["type"] == "polygonlabels":
        corners = [(float(x), float(y)) for x, y in value["points"]]
    else:
        corners = _rectangle(value, width / height)
    return polygon([[number for x, y in corners for number in (x * width / 100, y * height / 100)]])


def _rectangle(value: Mapping[str, Any], aspect: float) -> list[tuple[float, float]]:
    """The corners in per cent, turned round the upper left one by `rotation` degrees, clockwise."""
    x, y, w, h = (float(value[key]) for key in ("x", "y", "width", "height"))
    turn = radians(float(value.get("rotation") or 0))
    corners = ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))
    return [
        (x + dx * cos(turn) - dy / aspect * sin(turn), y + dx * aspect * sin(turn) + dy * cos(turn))
        for dx, dy in corners
    ]


def _brush(packed: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a brush: the opacity of an RGBA picture in the run lengths of @thi.ng/rle-pack.

    A stream of bits: 32 for the number of words, 5 for their size less one, 4 times 4 for the sizes of run lengths
    less one; then runs: a bit for "one word repeated", two bits for which size the length has, the length less one,
    and the word, or as many words as the length says.
    """
    bits = "".join(f"{byte:08b}" for byte in packed)
    place = 0

    def read(number: int) -> int:
        nonlocal place
        place += number
        if place > len(bits):
            raise ValueError("run lengths that end too soon")
        return int(bits[place - number : place], 2)

    total, word = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1] or word != 8:
        raise ValueError(f"a brush of {total} words of {word} bits on a photo of {size[1]}x{size[0]}")
    values = np.empty(total, np.uint8)
    start = 0
    while start < total:
        repeated, end = read(1), start
        end += 1 + read(lengths[read(2)])
        if end > total:
            raise ValueError("run lengths of more pixels than the photo has")
        if repeated:
            values[start:end] = read(word)
        else:
            values[start:end] = [read(word) for _ in range(end - start)]
        start = end
    return np.asarray(values.reshape(*size, 4)[..., 3] > 0)
