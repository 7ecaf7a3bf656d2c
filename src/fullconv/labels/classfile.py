"""Read a class file: names, with ids or colours, from text, CSV, TSV or JSON. Road: labels, before deciding."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullconv.base.errors import LabelSpaceError
from fullconv.base.images import IMAGE_SUFFIXES
from fullconv.labels.space import Colour


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STEMS = _words(
    "class classes labels label labelmap label_map labelmaps label_space classnames class_names class_list "
    "classlist label_names labelnames names class_dict classdict class_dict_seg labels_class_dict label_colors "
    "label_colours labelcolors labelcolours class_colors class_colours colors colours colormap colourmap "
    "categories codes mask_targets dataset palette"
)
SUFFIXES = (".txt", ".json", ".csv", ".tsv", ".names")
_HEADS = {
    "name": (
        "name",
        "class",
        "classname",
        "label",
        "labelname",
        "category",
        "categoryname",
        "title",
        "classes",
        "labels",
    ),
    "id": ("id", "index", "value", "classid", "labelid", "categoryid", "idx", "class_id", "code", "number", "pixel"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
    "colour": ("colour", "color", "rgb", "hex", "colorrgb", "colourrgb"),
}
_HEX = re.compile(r"#([0-9a-fA-F]{6})\b")


@dataclass(frozen=True)
class Entry:
    """A class as a class file has it."""

    name: str
    id: int | None = None
    colour: Colour | None = None


@dataclass(frozen=True)
class ClassFile:
    """The classes of a class file, in its order; each name, id and colour is there once."""

    path: Path
    entries: tuple[Entry, ...]


def find_class_file(places: Iterable[Path]) -> ClassFile | None:
    """The class file of a data set: the first place that has one.

    Raises: LabelSpaceError if a place has two that differ, or if it cannot be read.
    """
    for place in dict.fromkeys(places):
        found = [read for path in _candidates(place) if (read := read_class_file(path, must=_is_sure(path)))]
        found = _richest(found)
        if len(found) > 1:
            raise LabelSpaceError(
                "one class file says what the classes are",
                f"{place} holds {' and '.join(one.path.name for one in found)}, and they differ",
                "keep the right one there and move the other elsewhere",
            )
        if found:
            return found[0]
    return None


def read_class_file(path: Path, *, must: bool = True) -> ClassFile | None:
    """Read one class file; None if it is something else and need not be one.

    Raises: LabelSpaceError naming the line, if it is empty, or gives a name, id or colour twice.
    """
    text = _text(path)
    try:
        entries = _json_entries(json.loads(text)) if path.suffix.lower() == ".json" else _text_entries(text, path)
    except ValueError as error:
        if not must:
            return None
        raise _bad(path, str(error)) from error
    if entries is None:
        return None
    if not entries:
        raise _bad(path, "no class is named in it")
    _check_once(path, entries)
    return ClassFile(path, tuple(entries))


def ids_of(entries: Sequence[Entry]) -> list[int]:
    """The ids of the entries: those given for all of them, else 0, 1, 2 ... in their order.

    labelme writes `__ignore__` in front and counts from the line after it: it is -1 there.
    """
    if all(entry.id is not None for entry in entries):
        return [entry.id for entry in entries if entry.id is not None]
    first = -1 if entries[0].name.strip().lower() == "__ignore__" else 0
    return list(range(first, first + len(entries)))


def _candidates(place: Path) -> list[Path]:
    return [
        path
        for path in sorted(place.iterdir())
        if path.is_file()
        and path.suffix.lower() in SUFFIXES
        and re.sub(r"[ -]", "_", path.stem.lower()) in STEMS
        and not path.name.startswith(".")
    ]


def _is_sure(path: Path) -> bool:
    return path.suffix.lower() != ".json" or path.stem.lower() in ("classes", "labels", "labelmap", "label_map")


def _richest(found: Sequence[ClassFile]) -> list[ClassFile]:
    """Files that say the same count once: the one that says the most."""
    kept: list[ClassFile] = []
    for one in sorted(
        found, key=lambda file: -sum((e.id is not None) + 2 * (e.colour is not None) for e in file.entries)
    ):
        if not any(_agree(one, other) for other in kept):
            kept.append(one)
    return kept


def _agree(one: ClassFile, other: ClassFile) -> bool:
    ours, theirs = ([entry for entry in file.entries if entry.name != "__ignore__"] for file in (one, other))
    if [entry.name for entry in ours] != [entry.name for entry in theirs]:
        return False
    pairs = list(zip(ours, theirs, strict=True))
    return all(
        (a.id is None or b.id is None or a.id == b.id)
        and (a.colour is None or b.colour is None or a.colour == b.colour)
        for a, b in pairs
    )


def _text(path: Path) -> str:
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "latin-1"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise _bad(path, "it is no text")


def _text_entries(text: str, path: Path) -> list[Entry] | None:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not (line.startswith("#") and not _HEX.match(line))]
    if lines and all(_names_an_image(line) for line in lines):
        return None  # a list of files, not of classes
    if lines and len(_cells(lines[0])) == 1 and _columns(lines[0].split()):
        return _line_entries(lines[1:])  # a table with blanks between: names may hold blanks too
    if path.suffix.lower() in (".csv", ".tsv") or (lines and _columns(_cells(lines[0]))):
        table = _table_entries(lines)
        if table is not None:
            return table
    return _line_entries(lines)


def _names_an_image(line: str) -> bool:
    return Path(re.split(r"[\t,;]| (?=\S+$)", line)[0].strip()).suffix.lower() in IMAGE_SUFFIXES


def _cells(line: str) -> list[str]:
    mark = next((mark for mark in "\t;," if mark in line), None)
    if mark:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=mark, skipinitialspace=True))]
    return [line]


def _columns(cells: Sequence[str]) -> dict[str, int]:
    """Column -> place, if the cells are the head of a table that has names and at least one thing more."""
    heads = [re.sub(r"[^a-z]", "", cell.lower()) for cell in cells]
    columns = {
        key: heads.index(word)
        for key, words in _HEADS.items()
        if (word := next((word for word in words if word in heads), None))
    }
    return columns if "name" in columns and len(columns) >= 2 else {}


def _table_entries(lines: Sequence[str]) -> list[Entry] | None:
    rows = [_cells(line) for line in lines]
    columns = _columns(rows[0]) if rows else {}
    if not columns:
        if rows and len(rows[0]) == 1 and rows[0][0].lower() in _HEADS["name"]:
            return [Entry(row[0]) for row in rows[1:]]
        return None
    entries = []
    for number, row in enumerate(rows[1:], 2):
        cell = {key: row[place] if place < len(row) else "" for key, place in columns.items()}
        if not cell["name"]:
            raise ValueError(f"row {number} names no class: {','.join(row)!r}")
        entries.append(Entry(cell["name"], _id(cell.get("id")), _cell_colour(cell)))
    return entries


def _cell_colour(cell: dict[str, str]) -> Colour | None:
    if {"r", "g", "b"} <= cell.keys():
        return _colour([cell["r"], cell["g"], cell["b"]])
    return _colour(cell["colour"]) if cell.get("colour") else None


def _line_entries(lines: Sequence[str]) -> list[Entry]:
    parsed = [_line(line) for line in lines]
    kinds = {(entry.id is None, entry.colour is None) for entry in parsed}
    ids = [entry.id for entry in parsed if entry.id is not None]
    names = [entry.name for entry in parsed]
    # `class 1`, `class 2` are names: as ids they would leave one name twice
    numbers_are_names = len(set(names)) < len(names) and len(set(lines)) == len(lines)
    uneven = len(kinds) > 1 and not all(entry.colour for entry in parsed)
    if any(not name for name in names) or numbers_are_names or uneven or len(set(ids)) < len(ids):
        if any("," in line or "\t" in line for line in lines) and not numbers_are_names:
            wrong = next((line for line, entry in zip(lines, parsed, strict=True) if not entry.name), lines[-1])
            raise ValueError(f"the line {wrong!r} is not like the others, or gives an id twice")
        return [Entry(_unquoted(line)) for line in lines]
    return parsed


def _line(line: str) -> Entry:
    in_hex = _HEX.search(line)
    rest = _HEX.sub(" ", line) if in_hex else re.sub(r"\s+#\s.*$", "", line)
    lead, name, trail = _split_numbers(rest)
    numbers = [int(number) for number in re.findall(r"-?\d+", lead + " " + trail)]
    leading = len(re.findall(r"-?\d+", lead))
    if in_hex:
        return Entry(name, numbers[0] if len(numbers) == 1 else None, _colour(in_hex[0]))
    if len(numbers) == 1:
        return Entry(name, numbers[0])
    if len(numbers) == 3:
        return Entry(name, None, _colour(numbers))
    if len(numbers) == 4:
        last = leading == 3
        return Entry(name, numbers[3] if last else numbers[0], _colour(numbers[:3] if last else numbers[1:]))
    return Entry(_unquoted(rest) if not numbers else name)


def _split_numbers(text: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"((?:-?\d+[\s,;:\t=]+)*)(.*?)((?:[\s,;:\t=]+\(?-?\d+\)?)*)[\s,;:]*", text)
    assert match
    return match[1], _unquoted(match[2]), match[3]


def _unquoted(text: str) -> str:
    return text.strip(" \t,;:").strip("\"'").strip()


def _json_entries(document: Any) -> list[Entry] | None:
    if isinstance(document, dict):
        for key in ("classes", "labels", "names", "class_names", "categories", "items", "label_map", "mask_targets"):
            if isinstance(document.get(key), list | dict):
                return _json_entries(document[key])
        return [_json_pair(key, value) for key, value in document.items()]
    if isinstance(document, list):
        return [_json_item(item) for item in document]
    raise ValueError(f"JSON that is neither a list nor an object, but {type(document).__name__}")


def _json_item(item: Any) -> Entry:
    if isinstance(item, str):
        return Entry(item)
    if not isinstance(item, dict):
        raise ValueError(f"{item!r} is no class")
    values = {re.sub(r"[^a-z]", "", str(key).lower()): value for key, value in item.items()}
    name = next((values[word] for word in _HEADS["name"] if isinstance(values.get(word), str)), None)
    if name is None:
        raise ValueError(f"{item!r} has no name")
    number = next((values[word] for word in _HEADS["id"] if isinstance(values.get(word), int)), None)
    if number is None and isinstance(values.get("filevalues"), list) and len(values["filevalues"]) == 1:
        single = values["filevalues"][0]  # a label space as fullconv writes it
        return Entry(name, single) if isinstance(single, int) else Entry(name, None, _colour(single))
    colour = next((values[word] for word in _HEADS["colour"] if values.get(word) is not None), None)
    return Entry(name, number, _colour(colour) if colour is not None else None)


def _json_pair(key: str, value: Any) -> Entry:
    if isinstance(value, bool):
        raise ValueError(f"{key!r}: {value!r} is no class")
    if isinstance(value, int):
        return Entry(key, value)
    if isinstance(value, str):
        if re.fullmatch(r"-?\d+", key.strip()):
            return Entry(value, int(key))
        if _is_colour_text(key):
            return Entry(value, None, _colour(key))
        if _is_colour_text(value):
            return Entry(key, None, _colour(value))
        if re.fullmatch(r"-?\d+", value.strip()):
            return Entry(key, int(value))
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) for v in value):
        return Entry(key, None, _colour(value))
    if isinstance(value, dict):
        named = {"name": key, **value} if not re.fullmatch(r"-?\d+", key) else {"id": int(key), **value}
        return _json_item(named)
    raise ValueError(f"{key!r}: {value!r} is no class")


def _is_colour_text(text: str) -> bool:
    return bool(_HEX.fullmatch(text.strip()) or re.fullmatch(r"\D?\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\D?", text.strip()))


def _id(text: str | None) -> int | None:
    if text is None or not text.strip():
        return None
    if not re.fullmatch(r"-?\d+", text.strip()):
        raise ValueError(f"{text!r} is no id")
    return int(text)


def _colour(value: Any) -> Colour:
    in_hex = _HEX.search(value) if isinstance(value, str) else None
    if in_hex:
        return int(in_hex[1][:2], 16), int(in_hex[1][2:4], 16), int(in_hex[1][4:], 16)
    numbers = re.findall(r"\d+", value) if isinstance(value, str) else list(value)
    if len(numbers) not in (3, 4) or not all(0 <= int(number) <= 255 for number in numbers):
        raise ValueError(f"{value!r} is no colour of three numbers from 0 to 255")
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _check_once(path: Path, entries: Sequence[Entry]) -> None:
    kinds: tuple[tuple[str, list[Any]], ...] = (
        ("class name", [entry.name for entry in entries]),
        ("id", [entry.id for entry in entries if entry.id is not None]),
        ("colour", [entry.colour for entry in entries if entry.colour is not None]),
    )
    for what, items in kinds:
        twice = [str(item) for item, number in Counter(items).items() if number > 1]
        if twice:
            raise _bad(path, f"the {what} {', '.join(twice[:10])} is given more than once")


def _bad(path: Path, what: str) -> LabelSpaceError:
    return LabelSpaceError(
        "a class file names each class once, one a line, with its id or colour if these are not 0, 1, 2 ...",
        f"{path}: {what}",
        f"write lines such as `cat`, `8 cat` or `cat 64 0 0` in {path.name}",
    )
