"""Decide the label space: by a class file, by a built-in space, or by what the label maps hold.

Road: labels, after one pass over all label maps. In: what they hold. Out: a space, and sentences that say why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fullconv.base.errors import LabelSpaceError, UsageError
from fullconv.labels.builtin import CAMVID_11, VOC_21, VOC_21_COLOURS, VOC_PALETTE, VOID_COLOUR
from fullconv.labels.classfile import ClassFile, Entry, ids_of
from fullconv.labels.held import Held
from fullconv.labels.space import Colour, LabelSpace, Value, background_of, say_value

NO_VOID = "none"
MOST_FOUND = 256  # ids or colours without a class file; a label map that has more is something else
VOID_8, VOID_16 = 255, 65535


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VOID_NAMES = _words(
    "void ignore ignored __ignore__ _void_ unlabelled unlabeled unlabel unannotated ignore_label void_label"
)

Decided = tuple[LabelSpace, tuple[str, ...]]


def parse_void(text: str | Value | None) -> Value | str | None:
    """`255`, `0,0,0`, `#000000` or `none` as a person types it. Raises: UsageError."""
    if text is None or isinstance(text, int | tuple):
        return text
    if text.strip().lower() == NO_VOID:
        return NO_VOID
    in_hex = re.fullmatch(r"#([0-9a-fA-F]{6})", text.strip())
    if in_hex:
        return int(in_hex[1][:2], 16), int(in_hex[1][2:4], 16), int(in_hex[1][4:], 16)
    numbers = re.findall(r"\d+", text) if re.fullmatch(r"\(?\d+(\s*,\s*\d+\s*,\s*\d+)?\)?", text.strip()) else []
    if len(numbers) == 1:
        return int(numbers[0])
    if len(numbers) == 3:
        return int(numbers[0]), int(numbers[1]), int(numbers[2])
    raise UsageError("void is an id, a colour or none", f"{text!r}", "--void 255, --void 0,0,0 or --void none")


def decide(held: Held, *, layout: str, class_file: ClassFile | None, void: Value | str | None = None) -> Decided:
    """The label space of the label maps, and why.

    Raises: LabelSpaceError if it cannot be told; what to type is in the error.
    """
    if isinstance(void, tuple) and len(set(void)) == 1 and held.ids is not None and not _has_palette(held):
        void = void[0]  # 0,0,0 of grey label maps is their 0
    if class_file:
        return _by_class_file(held, class_file, void)
    if void != NO_VOID:
        built_in = _built_in(held, layout)
        if built_in:
            space, why = built_in
            return (space, (why,)) if void is None else _with_void(space, (why,), void)
    return _as_found(held, void)


def as_listed(space: LabelSpace, held: Held, void: Value | str | None) -> Decided:
    """The label space that a format gives, with another void if one is asked for. Raises: UsageError.

    Where shapes leave no pixel of any label map uncovered, what lies below them is no class.
    """
    ground = space.file_values[space.background] if space.background is not None else ()
    if ground and not any(value in (held.ids or {}) for value in ground):
        kept = [index for index in range(space.size) if index != space.background]
        space = replace(
            space,
            names=tuple(space.names[index] for index in kept),
            colours=tuple(space.colours[index] for index in kept),
            file_values=tuple(space.file_values[index] for index in kept),
            background=None,
        )
    if void is None:
        return space, ()
    if void == NO_VOID:
        return replace(space, void_values=()), ("Nothing is void, as asked.",)
    return _with_void(space, (), void)


# ---- a class file ---------------------------------------------------------------------------------------------------


def _by_class_file(held: Held, class_file: ClassFile, void: Value | str | None) -> Decided:
    name = class_file.path.name
    entries = list(class_file.entries)
    by_colour = _reads_colours(held, entries, name, void)
    values = [entry.colour for entry in entries] if by_colour else ids_of(entries)
    voids = [] if void == NO_VOID else [e for e in entries if e.name.strip().lower() in VOID_NAMES]
    real = [(entry, value) for entry, value in zip(entries, values, strict=True) if entry not in voids]
    notes = [f"Classes by {name}: {len(real)}, {'by colour' if by_colour else 'by id'}."]
    void_values: list[Value] = [
        v for e, v in zip(entries, values, strict=True) if e in voids and v is not None and v != -1
    ]
    if voids:
        notes.append(f"'{voids[0].name}' of {name} is void.")
    if not by_colour and all(entry.id is None for entry in entries):
        real, said = _shifted(held, real, void)
        notes += said
    taken = {value for _, value in real} | set(void_values)
    default = _default_void(held, taken) if not by_colour and void is None else None
    if default is not None:
        void_values.append(default)
        notes.append(
            f"{default} is void (it is in {_maps((held.ids or {}).get(default, 0))} and {name} does not name it)."
        )
    space = LabelSpace(
        names=tuple(entry.name for entry, _ in real),
        colours=_display([entry.colour for entry, _ in real], held, [value for _, value in real]),
        file_values=tuple((value,) for _, value in real if value is not None),
        void_values=tuple(void_values),
        background=background_of([entry.name for entry, _ in real]),
    )
    return _with_void(space, tuple(notes), void) if void not in (None, NO_VOID) else (space, tuple(notes))


def _reads_colours(held: Held, entries: Sequence[Entry], name: str, void: Value | str | None) -> bool:
    """Whether the class file's colours, not its ids, say what the label maps hold."""
    table = {entry.colour for entry in entries} | ({void} if isinstance(void, tuple) else set())
    coloured = all(entry.colour is not None for entry in entries)
    if held.ids is None:
        if not coloured:
            raise LabelSpaceError(
                f"{name} gives a colour for each class, as the label maps are in colours",
                f"it gives none for {_some(e.name for e in entries if e.colour is None)}; "
                f"the label maps hold {_some(map(say_value, held.colours or {}))}",
                f"write lines such as `{entries[0].name} 128 0 0` in {name}",
            )
        return True
    ids = ids_of(entries)
    ids_fit = set(held.ids) <= {*ids, VOID_8}
    colours_fit = coloured and held.colours is not None and set(held.colours) <= table
    if not colours_fit or not _has_palette(held):
        return colours_fit and not ids_fit
    # a palette whose colours are all in the table: its indexes count only if they say the same, or the file gives ids
    explicit = all(entry.id is not None for entry in entries)
    return not ids_fit or (not explicit and not _palette_agrees(held, entries, ids))


def _palette_agrees(held: Held, entries: Sequence[Entry], ids: Sequence[int]) -> bool:
    colour_of = {index: entry.colour for index, entry in zip(ids, entries, strict=True)}
    return held.palette is not None and all(colour_of.get(i) == colour for i, colour in held.palette.items())


def _shifted(
    held: Held, real: Sequence[tuple[Entry, Value | None]], void: Value | str | None
) -> tuple[list[tuple[Entry, Value | None]], list[str]]:
    """The ids of names without ids, where the label maps do not hold 0, 1, 2 ..., but what is plainly meant."""
    found = set(held.ids or ())
    names = [entry for entry, _ in real]
    no_background = background_of([entry.name for entry in names]) is None
    for top in (VOID_8, VOID_16):
        if top in found and found <= {0, top} and void is None and len(names) == 2:
            said = f"The label maps hold 0 and {top}: 0 is {names[0].name}, {top} is {names[1].name}."
            return [(names[0], 0), (names[1], top)], [said]
    if len(names) == 1 and no_background and void is None and 0 in found and len(found) == 2:
        other = max(found)
        if other in (1, VOID_8, VOID_16):
            said = f"The label maps hold 0 and {other}: 0 is background, {other} is {names[0].name}."
            return [(Entry("background", None, None), 0), (names[0], other)], [said]
    if void == 0 and found and max(found - {VOID_8, VOID_16}, default=0) == len(names) and no_background:
        said = f"Void is 0: the names stand for the ids 1 to {len(names)}."
        return [(entry, place + 1) for place, entry in enumerate(names)], [said]
    return list(real), []


def _default_void(held: Held, taken: set[Value | None]) -> int | None:
    for value in (VOID_8, VOID_16):
        if value in (held.ids or {}) and value not in taken:
            return value
    return None


# ---- built-in spaces ------------------------------------------------------------------------------------------------


def _built_in(held: Held, layout: str) -> tuple[LabelSpace, str] | None:
    if layout == "voc" and held.ids is not None and held.palette:
        voc_colours = all(VOC_PALETTE[index] == colour for index, colour in held.palette.items() if index < 256)
        if voc_colours and set(held.ids) <= {*range(VOC_21.size), VOID_8}:
            return VOC_21, "Label space voc-21: the palette has the VOC colours, the ids are 0 to 20; void is 255."
    in_colours = held.ids is None and held.colours is not None
    if layout == "voc" and in_colours and set(held.colours or ()) <= {*VOC_21.colours, VOID_COLOUR}:
        return VOC_21_COLOURS, "Label space voc-21: all colours are those of VOC; void is 224,224,192."
    if layout == "segnet" and held.ids is not None and 11 in held.ids and set(held.ids) <= set(range(12)):
        return CAMVID_11, (
            "Label space camvid-11: a SegNet folder with the ids 0 to 11; void is 11 (a classes.txt, or --void none,"
            " says otherwise)."
        )
    return None


# ---- as found -------------------------------------------------------------------------------------------------------


def _as_found(held: Held, void: Value | str | None) -> Decided:
    if held.distinct > MOST_FOUND:
        raise LabelSpaceError(
            f"label maps without a class file hold at most {MOST_FOUND} ids or colours",
            f"they hold {held.distinct}",
            "give label maps with one id or colour a class, or name the classes in classes.txt",
        )
    if held.ids is not None and not held.palettes_differ and not isinstance(void, tuple):
        return _ids_found(held, dict(held.ids), void)
    assert held.colours is not None
    return _colours_found(held, dict(held.colours), void)


def _ids_found(held: Held, ids: Mapping[int, int], void: Value | str | None) -> Decided:
    found = set(ids)
    notes: list[str] = []
    void_values: tuple[Value, ...] = ()
    if isinstance(void, int):
        found, void_values = found - {void}, (void,)
        notes.append(f"Void is {void}, as asked (it is in {_maps(ids.get(void, 0))}).")
    for object_ in (VOID_8, VOID_16):
        if object_ in found and found <= {0, object_}:
            return _two(0, object_, void_values, notes)
    black_and_white = _black_and_white(held, found)
    if black_and_white:
        return _two(*black_and_white, void_values, notes)
    top = next((value for value in (VOID_8, VOID_16) if value in found), None)
    if void is None and top is not None:
        _check_scale(found, top)
        found, void_values = found - {top}, (top,)
        notes.append(f"{top} is void (it is in {_maps(ids.get(top, 0))}); --void none makes it a class.")
    ordered = sorted(found)
    notes.insert(0, f"No class file: the {len(ordered)} ids found are the classes ({_some(map(str, ordered))}).")
    space = LabelSpace(
        names=tuple(f"class_{value}" for value in ordered),
        colours=_display([None] * len(ordered), held, ordered),
        file_values=tuple((value,) for value in ordered),
        void_values=void_values,
    )
    return space, tuple(notes)


def _check_scale(found: set[int], top: int) -> None:
    """Stop if the ids are a scale of greys up to the top (0, 128, 255): then the top may be a class or void."""
    steps = len(found) - 1
    scale = [step * top / steps for step in range(steps + 1)]
    if steps >= 2 and all(abs(value - mark) <= 1 for value, mark in zip(sorted(found), scale, strict=True)):
        raise LabelSpaceError(
            "it is plain which ids are classes and which is void",
            f"the label maps hold {_some(map(str, sorted(found)))}: {top} may be a class as the others are, or void",
            f"--void none if {top} is a class, --void {top} if it is void",
        )


def _colours_found(held: Held, colours: Mapping[Colour, int], void: Value | str | None) -> Decided:
    found = set(colours)
    notes: list[str] = []
    void_values: tuple[Value, ...] = ()
    if isinstance(void, tuple):
        found, void_values = found - {void}, (void,)
        notes.append(f"Void is {say_value(void)}, as asked (it is in {_maps(colours.get(void, 0))}).")
    elif isinstance(void, int):
        raise UsageError(
            "void is a colour where label maps are in colours",
            f"--void {void}, but they hold {_some(map(say_value, sorted(found)))}",
            "--void R,G,B, such as --void 0,0,0",
        )
    if len(found) == 2 and (0, 0, 0) in found:
        return _two((0, 0, 0), max(found), void_values, notes)
    ordered = sorted(found)
    if held.palettes_differ:
        notes.append("The palettes of the label maps differ from file to file, so that colours count, not indexes.")
    notes.insert(
        0, f"No class file: the {len(ordered)} colours found are the classes ({_some(map(say_value, ordered))})."
    )
    if (0, 0, 0) in found:
        notes.append("Black is a class of its own; --void 0,0,0 makes it void.")
    space = LabelSpace(
        names=tuple(f"colour_{red:02x}{green:02x}{blue:02x}" for red, green, blue in ordered),
        colours=tuple(ordered),
        file_values=tuple((colour,) for colour in ordered),
        void_values=void_values,
    )
    return space, tuple(notes)


def _two(low: Value, high: Value, void_values: tuple[Value, ...], notes: Sequence[str]) -> Decided:
    said = (
        f"No class file: the label maps hold {say_value(low)} and {say_value(high)}, read as background and one object"
        f" ({say_value(high)} is the object, not void)."
    )
    space = LabelSpace(
        names=("background", "object"),
        colours=((0, 0, 0), high if isinstance(high, tuple) else VOC_PALETTE[1]),
        file_values=((low,), (high,)),
        void_values=void_values,
        background=0,
    )
    return space, (said, *notes)


def _black_and_white(held: Held, found: set[int]) -> tuple[int, int] | None:
    """The ids of black and white, if a palette shows the two ids as these: what 0 and 255 are in grey."""
    by_colour = {colour: index for index, colour in (held.palette or {}).items() if index in found}
    if len(found) == 2 and set(by_colour) == {(0, 0, 0), (255, 255, 255)}:
        return by_colour[0, 0, 0], by_colour[255, 255, 255]
    return None


# ---- helpers --------------------------------------------------------------------------------------------------------


def _with_void(space: LabelSpace, notes: tuple[str, ...], void: Value | str) -> Decided:
    """The space with one file value made void; a class that had only this value is gone."""
    assert not isinstance(void, str)
    if isinstance(void, tuple) != space.in_colours:
        raise UsageError(
            f"void is {'a colour' if space.in_colours else 'an id'} of the label maps",
            f"--void {say_value(void)}",
            "--void 0,0,0" if space.in_colours else "--void 255",
        )
    values = [tuple(value for value in values if value != void) for values in space.file_values]
    kept = [index for index, left in enumerate(values) if left]
    gone = [name for index, name in enumerate(space.names) if index not in kept]
    names = tuple(space.names[index] for index in kept)
    mended = LabelSpace(
        names=names,
        colours=tuple(space.colours[index] for index in kept),
        file_values=tuple(values[index] for index in kept),
        void_values=tuple(dict.fromkeys((*space.void_values, void))),
        background=background_of(names),
    )
    said = f"Void is {say_value(void)}, as asked" + (f": {gone[0]} is no class then." if gone else ".")
    return mended, (*notes, said)


def _has_palette(held: Held) -> bool:
    return held.palette is not None or held.palettes_differ


def _display(colours: Sequence[Colour | None], held: Held, values: Sequence[Value | None]) -> tuple[Colour, ...]:
    """Colours to show classes in: those given; else the palette's if they differ; else the VOC colours, in turn."""
    if all(colour is not None for colour in colours):
        return tuple(colour for colour in colours if colour is not None)
    palette = [held.palette.get(value) for value in values if isinstance(value, int)] if held.palette else []
    if len(palette) == len(colours) and None not in palette and len(set(palette)) == len(palette):
        return tuple(colour for colour in palette if colour is not None)
    return tuple(VOC_PALETTE[index % 255] for index in range(len(colours)))


def _maps(number: int) -> str:
    return f"{number} label map" if number == 1 else f"{number} label maps"


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
