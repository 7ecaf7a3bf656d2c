"""What a format finds in a folder: pairs of photo and label map by split, and what is left over. Knows no pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fullconv.data.samples import Skipped
from fullconv.labels.decode import Drawn, source_of
from fullconv.labels.space import LabelSpace

UNSPLIT = "all"


@dataclass(frozen=True, slots=True)
class Pair:
    """A photo and its label map, a file or drawn, by name."""

    name: str
    photo: Path
    label_map: Path | Drawn

    @property
    def files(self) -> tuple[Path, Path]:
        """The photo, and the file that says what is where in it."""
        return self.photo, source_of(self.label_map)


@dataclass(frozen=True)
class Classes:
    """What a format says about the ids in its label maps.

    Args:
        source: what lists the classes, as a word for messages.
        strange: ids in label maps that no class of the space has -> what the files call them.
    """

    space: LabelSpace
    source: str
    strange: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitLists:
    """Split lists that lie in a folder.

    Args:
        lines: split -> the names, file names or paths of its samples.
        source: what the lists are called, for notes.
        rest: what becomes of pairs that no list names: "leave" them out, or "train".
    """

    lines: Mapping[str, Sequence[str]]
    source: str
    rest: str = "leave"


@dataclass(frozen=True)
class Listing:
    """All pairs of a folder.

    Args:
        layout: the name of the format.
        splits: "train", "val", "test" -> pairs; or "all" -> pairs where no split is given by folders.
        lists: split lists in the folder, not yet applied to the pairs.
        places: folders in which a class file may lie.
        classes: where the format itself says what the ids in label maps mean.
    """

    layout: str
    splits: Mapping[str, tuple[Pair, ...]]
    lists: tuple[SplitLists, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    places: tuple[Path, ...]
    classes: Classes | None = None

    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of all splits."""
        return tuple(pair for pairs in self.splits.values() for pair in pairs)


def count(number: int, thing: str) -> str:
    """`1 photo`, `3 photos`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def some(items: Iterable[object], most: int = 10) -> str:
    """The first items, comma between, and how many more there are."""
    listed = [str(item) for item in items]
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")
