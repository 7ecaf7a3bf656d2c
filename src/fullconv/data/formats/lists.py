"""Split lists applied to pairs: who is in train, val, test, and what is named but not there."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fullconv.base.errors import SplitError
from fullconv.data.formats.folders import SPLIT_WORDS, child, index_of, lines_of, named_in, split_lists
from fullconv.data.formats.listing import UNSPLIT, Listing, Pair, SplitLists, count, some
from fullconv.data.samples import Skipped


def apply_lists(listing: Listing) -> Listing:
    """The listing with its split lists applied: to all pairs, or within each split folder."""
    splits, skipped, notes = dict(listing.splits), list(listing.skipped), list(listing.notes)
    for lists in listing.lists:
        if UNSPLIT in splits:
            splits, missing, said = by_lists(splits[UNSPLIT], lists)
            skipped, notes = skipped + missing, notes + said
            continue
        for split, lines in lists.lines.items():
            parts, missing, said = by_lists(splits[split], SplitLists({split: lines}, lists.source))
            splits[split], skipped, notes = parts[split], skipped + missing, notes + said
    return replace(listing, splits=splits, lists=(), skipped=tuple(skipped), notes=tuple(notes))


def apply_split_file(listing: Listing, path: Path) -> Listing:
    """The listing with the splits of a file, whatever the folder says. Raises: SplitError."""
    lines = read_split_file(path)
    lists = SplitLists(lines, path.name, "leave" if "train" in lines else "train")
    pairs = tuple({pair.name: pair for pair in listing.pairs()}.values())
    splits, missing, notes = by_lists(pairs, lists)
    if not any(splits.values()):
        raise SplitError(
            "a splits file names samples that are there", f"{path} names none", "--splits with their stems"
        )
    return replace(
        listing,
        splits=splits,
        lists=(),
        skipped=(*listing.skipped, *missing),
        notes=(*listing.notes, *notes),
    )


def by_lists(pairs: Sequence[Pair], lists: SplitLists) -> tuple[dict[str, tuple[Pair, ...]], list[Skipped], list[str]]:
    """Sort pairs into splits by lists of names.

    Returns: the splits; what is named but not there; notes.
    Raises: SplitError if a train sample is in another split too, or most of what is named is not there.
    """
    lines, source, rest = lists.lines, lists.source, lists.rest
    by_name = {pair.name: pair for pair in pairs}
    index = index_of({pair.name: pair.files for pair in pairs})
    named = {split: [named_in(line, index) for line in entries] for split, entries in lines.items()}
    splits = {split: tuple(by_name[name] for name in dict.fromkeys(names) if name) for split, names in named.items()}
    missing = [
        Skipped(line, (), f"named in {source} ({split}), but there is no such photo with a label map")
        for split, entries in lines.items()
        for line, name in zip(entries, named[split], strict=True)
        if name is None
    ]
    _check_lists(splits, missing, source)
    used = {pair.name for pairs_of in splits.values() for pair in pairs_of}
    left = tuple(pair for pair in pairs if pair.name not in used)
    notes = [f"Splits as given in {source}: " + ", ".join(f"{len(s)} {name}" for name, s in splits.items()) + "."]
    if left and rest == "train":
        splits = {"train": left, **splits}
        notes.append(f"{source} gives no train list: the other {count(len(left), 'sample')} are train.")
    elif left:
        notes.append(
            f"{count(len(left), 'sample')} not named in {source}: left out ({some((p.name for p in left), 3)})."
        )
    twice = [name for names in named.values() for name in _twice([n for n in names if n])]
    if twice:
        notes.append(f"Named more than once in one list of {source}, taken once: {some(twice, 3)}.")
    return splits, missing, notes


def lists_in(root: Path) -> tuple[SplitLists, ...]:
    """The split lists in a folder, or in one of its folders that are called so."""
    for folder in (root, *filter(None, (child(root, name) for name in ("splits", "split", "lists", "ImageSets")))):
        inner = child(folder, "Segmentation") or folder
        document = next((path for name in ("splits.json", "split.json") if (path := inner / name).is_file()), None)
        lines = read_split_file(document) if document else read_lists(inner)
        if lines:
            source = (
                document.name if document else f"the lists of {inner.name}/" if inner != root else "the folder's lists"
            )
            return (SplitLists(lines, source, "leave" if "train" in lines else "train"),)
    return ()


def read_lists(folder: Path) -> dict[str, list[str]]:
    """Split -> lines, from the split lists in a folder; trainval and the like are no splits."""
    return {split: lines_of(path) for split, path in split_lists(folder).items()}


def read_split_file(path: Path) -> dict[str, list[str]]:
    """Split -> names, from JSON, a text or CSV file of names with their split, or a folder of lists.

    Text: lines `name split` (tab, comma or blanks between; either order), or a line `train:` before its names.
    Raises: SplitError if it is none of these.
    """
    if path.is_dir():
        lists = read_lists(path)
        if lists:
            return lists
        raise _no_splits(path, "a folder without train.txt, val.txt or test.txt")
    if not path.is_file():
        raise _no_splits(path, "not there")
    if path.suffix.lower() == ".json":
        return _from_json(path)
    return _from_text(path)


def _from_json(path: Path) -> dict[str, list[str]]:
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, UnicodeDecodeError) as error:
        raise _no_splits(path, f"no JSON ({error})") from error
    document = document.get("splits", document) if isinstance(document, dict) else document
    if not isinstance(document, dict):
        raise _no_splits(path, f"a JSON {type(document).__name__}")
    if all(isinstance(value, str) and value.lower() in SPLIT_WORDS for value in document.values()) and document:
        return _gathered([(SPLIT_WORDS[split.lower()], name) for name, split in document.items()])
    splits: dict[str, list[str]] = {}
    for key, names in document.items():
        if key.lower() not in SPLIT_WORDS or not isinstance(names, list):
            raise _no_splits(path, f"JSON with {key!r}")
        splits[SPLIT_WORDS[key.lower()]] = [str(n.get("name", n) if isinstance(n, dict) else n) for n in names]
    return splits


def _from_text(path: Path) -> dict[str, list[str]]:
    lines = lines_of(path)
    entries: list[tuple[str, str]] = []
    heading: str | None = None
    for line in lines:
        head = re.fullmatch(r"\[?\s*(\w+)\s*\]?\s*:?", line)
        if head and head[1].lower() in SPLIT_WORDS:
            heading = SPLIT_WORDS[head[1].lower()]
        elif heading:
            entries.append((heading, line))
        else:
            entries += _name_and_split(line)
    if not entries or (not heading and len(entries) < len(lines) - 1):  # one line may be a table's head
        raise _no_splits(path, f"text with the line {lines[0]!r}" if lines else "an empty file")
    return _gathered(entries)


def _name_and_split(line: str) -> list[tuple[str, str]]:
    cells = [cell.strip() for cell in (next(csv.reader([line])) if "," in line else line.split("\t"))]
    cells = cells if len(cells) > 1 else re.split(r"\s+(?=\S+$)|(?<=^\S)\s+|:\s*", line, maxsplit=1)
    if len(cells) < 2 and " " in line:
        cells = line.split(maxsplit=1)
    for cell in cells:
        if cell.lower() in SPLIT_WORDS:
            name = next((other for other in cells if other != cell), None)
            return [(SPLIT_WORDS[cell.lower()], name)] if name else []
    first = line.split(maxsplit=1)
    return [(SPLIT_WORDS[first[0].lower()], first[1])] if len(first) > 1 and first[0].lower() in SPLIT_WORDS else []


def _gathered(entries: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for split, name in entries:
        splits.setdefault(split, []).append(name)
    return splits


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, number in Counter(names).items() if number > 1]


def _check_lists(splits: Mapping[str, Sequence[Pair]], missing: Sequence[Skipped], source: str) -> None:
    train = {pair.name for pair in splits.get("train", ())}
    for split in ("val", "test"):
        both = [pair.name for pair in splits.get(split, ()) if pair.name in train]
        if both:
            raise SplitError(
                "a sample of val or test is in no other split",
                f"{count(len(both), 'sample')} of {split} also in train, by {source}: {some(both)}",
                "take them out of one list, or give other lists with --splits FILE",
            )
    there = sum(map(len, splits.values()))
    if len(missing) > there:
        raise SplitError(
            "split lists name samples that are there",
            f"{len(missing)} of {len(missing) + there} names in {source} are not: {some(s.name for s in missing)}",
            "mend the lists, or give others with --splits FILE",
        )


def _no_splits(path: Path, what: str) -> SplitError:
    return SplitError(
        "a splits file says train, val and test by name",
        f"{path} is {what}",
        '--splits FILE with {"train": ["0001", ...], "val": [...]} or lines `0001 train`',
    )
