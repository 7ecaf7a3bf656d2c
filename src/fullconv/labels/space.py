"""The label space: the ordered classes, and what means them in files. Road: labels, first of all. Knows no files.

Inside the program classes are 0 .. K-1 and `void`; a file may hold other ids, or colours: `file_values` says which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullconv.base.errors import LabelSpaceError, UsageError

Colour = tuple[int, int, int]
Value = int | Colour

OTHERS = ("error", "void", "background")
BACKGROUND_NAMES = ("background", "_background_", "bg", "back_ground", "back ground", "__background__")
BACKGROUND_COLOUR: Colour = (0, 0, 0)


@dataclass(frozen=True)
class LabelSpace:
    """The ordered classes, with the ids or colours that mean them in files, and what is void.

    Args:
        names: one a class; their places are the class ids 0 .. K-1.
        colours: RGB for display, one a class.
        file_values: per class the ids, or the colours, that mean it in label map files.
        void_values: the ids or colours in files that become void.
        others: what a value listed nowhere becomes: "error", "void" or "background".
        background: the class id of background, if the space names one.

    Raises: LabelSpaceError if a name or a file value is given twice, or lengths differ.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    file_values: tuple[tuple[Value, ...], ...]
    void_values: tuple[Value, ...] = ()
    others: str = "error"
    background: int | None = None

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.colours) == len(self.file_values):
            raise _space_error(
                "one colour and one list of file values a class",
                f"{len(self.names)} names, {len(self.colours)} colours, {len(self.file_values)} lists of values",
            )
        if self.others not in OTHERS:
            raise _space_error(f"others is one of {', '.join(OTHERS)}", repr(self.others))
        if self.others == "background" and self.background is None:
            raise _space_error(
                "others='background' needs a class that is the background", f"classes {', '.join(self.names)}"
            )
        _check_unique("class name", self.names)
        _check_unique("id or colour", [value for values in (*self.file_values, self.void_values) for value in values])

    @property
    def size(self) -> int:
        """K, the number of classes."""
        return len(self.names)

    @property
    def void(self) -> int:
        """The id of void inside the program and in index PNGs."""
        return 255 if self.size <= 255 else 65535

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The type of label maps: 8 bits as long as they hold all classes and void."""
        return np.uint8 if self.size <= 255 else np.uint16

    @property
    def in_colours(self) -> bool:
        """Whether files say the classes by colours (else by ids)."""
        return any(isinstance(value, tuple) for values in (*self.file_values, self.void_values) for value in values)

    def class_of(self) -> dict[Value, int]:
        """File value -> class id or void."""
        listed: dict[Value, int] = {value: index for index, values in enumerate(self.file_values) for value in values}
        return listed | dict.fromkeys(self.void_values, self.void)

    def select(self, classes: Sequence[str], others: str = "void") -> LabelSpace:
        """The space of some of the classes, in the order given; what the rest becomes is `others`.

        With others="background" the background is a class too: that of this space, put first if it is not
        among `classes`, or a new one if this space has none.

        Raises: UsageError if a name is unknown or given twice, or `others` is neither void nor background.
        """
        if others not in OTHERS[1:]:
            raise UsageError(
                "the classes left out become void or background",
                f"others is {others!r}",
                "--others void, or --others background",
            )
        self._check_names(classes)
        kept = [self.names.index(name) for name in classes]
        rest = [value for index, values in enumerate(self.file_values) if index not in kept for value in values]
        names, colours = [self.names[index] for index in kept], [self.colours[index] for index in kept]
        values = [self.file_values[index] for index in kept]
        background = kept.index(self.background) if self.background in kept else None
        if others == "void":
            return LabelSpace(
                tuple(names), tuple(colours), tuple(values), (*self.void_values, *rest), "void", background
            )
        if background is None:
            of_this = self.background is not None
            names.insert(0, self.names[self.background] if self.background is not None else "background")
            colours.insert(
                0, self.colours[self.background] if self.background is not None and of_this else BACKGROUND_COLOUR
            )
            values.insert(0, ())
            background = 0
        values[background] = (*values[background], *rest)
        return LabelSpace(tuple(names), tuple(colours), tuple(values), self.void_values, "background", background)

    def as_written(self) -> LabelSpace:
        """The same classes for label maps as `write_index_png` leaves them: class ids 0 .. K-1, and void."""
        ids = tuple((index,) for index in range(self.size))
        return LabelSpace(self.names, self.colours, ids, (self.void,), "error", self.background)

    def in_files_of(self, given: LabelSpace) -> LabelSpace:
        """This space for files whose ids mean what `given` says: classes are found by their names.

        What `given` has beyond the classes of this space becomes what `others` says.
        """
        by_name = dict(zip(given.names, given.file_values, strict=True))
        if self.background is not None and given.background is not None:  # whatever it is called
            by_name[self.names[self.background]] = given.file_values[given.background]
        values = tuple(by_name.get(name, ()) for name in self.names)
        return LabelSpace(self.names, self.colours, values, given.void_values, self.others, self.background)

    def _check_names(self, classes: Sequence[str]) -> None:
        unknown = [name for name in classes if name not in self.names]
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        if unknown or not classes:
            raise UsageError(
                "classes are chosen by the names of the label space",
                f"no class is called {', '.join(map(repr, unknown))}" if classes else "no class is named",
                f"--classes with some of: {', '.join(self.names)}",
            )
        if twice:
            raise UsageError("each class is chosen once", f"{', '.join(twice)} more than once", "name each class once")

    def to_json(self) -> dict[str, Any]:
        """A JSON document; `from_json` reads it back."""
        return {
            "schema": "fullconv.label_space/1",
            "classes": [
                {"id": index, "name": name, "colour": list(colour), "file_values": [_plain(v) for v in values]}
                for index, (name, colour, values) in enumerate(
                    zip(self.names, self.colours, self.file_values, strict=True)
                )
            ],
            "void": self.void,
            "void_values": [_plain(value) for value in self.void_values],
            "others": self.others,
            "background": self.background,
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> LabelSpace:
        """Read what `to_json` wrote."""
        classes = document["classes"]
        return LabelSpace(
            names=tuple(entry["name"] for entry in classes),
            colours=tuple(as_colour(entry["colour"]) for entry in classes),
            file_values=tuple(tuple(_value(v) for v in entry["file_values"]) for entry in classes),
            void_values=tuple(_value(v) for v in document["void_values"]),
            others=document["others"],
            background=document["background"],
        )


def background_of(names: Sequence[str]) -> int | None:
    """The place of the class that is called background, if there is one."""
    return next((index for index, name in enumerate(names) if name.strip().lower() in BACKGROUND_NAMES), None)


def as_colour(values: Sequence[int]) -> Colour:
    """Three numbers as an RGB colour."""
    red, green, blue = values
    return int(red), int(green), int(blue)


def say_value(value: Value) -> str:
    """An id or colour as a person writes it: `7`, `128,0,0`."""
    return str(value) if isinstance(value, int) else ",".join(map(str, value))


def _plain(value: Value) -> int | list[int]:
    return value if isinstance(value, int) else list(value)


def _value(plain: int | list[int]) -> Value:
    return plain if isinstance(plain, int) else as_colour(plain)


def _check_unique(what: str, items: Sequence[Any]) -> None:
    twice = [item for item, number in Counter(items).items() if number > 1]
    if twice:
        raise _space_error(f"each {what} belongs to one class", f"{', '.join(map(str, twice[:10]))} more than once")


def _space_error(must: str, found: str) -> LabelSpaceError:
    return LabelSpaceError(must, found, "mend the class file, or the classes given")
