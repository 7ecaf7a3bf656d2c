"""Read samples: recognise the layout, survey the files, decide the label space, split, and say all of it.

Road: data, the first station. In: a folder. Out: a SampleSet. Knows no torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fullconv.base.errors import LabelSpaceError, SizeMismatch, SplitError, UnknownLabel, UnreadableImage, UsageError
from fullconv.data.detect import FORMATS, detect
from fullconv.data.formats.listing import UNSPLIT, Listing, Pair, count, some
from fullconv.data.formats.lists import apply_lists, apply_split_file
from fullconv.data.looks import check_looks, diagnosis
from fullconv.data.samples import Sample, SampleSet, Skipped
from fullconv.data.split import Item, hold_out
from fullconv.data.survey import Broken, PairFacts, survey
from fullconv.labels.classfile import find_class_file
from fullconv.labels.decide import decide, parse_void
from fullconv.labels.decode import decode, pack_one
from fullconv.labels.held import Held, held
from fullconv.labels.maps import same_aspect, say_allowed
from fullconv.labels.space import LabelSpace, Value, say_value

_SIDEWAYS = (5, 6, 7, 8)
_TURNED = (2, 3, 4, *_SIDEWAYS)


def read_samples(
    data: Path | str,
    *,
    classes: Sequence[str] | None = None,
    others: str = "void",
    void: str | Value | None = None,
    splits: Path | str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    like: LabelSpace | None = None,
) -> SampleSet:
    """Read a folder of photos and label maps.

    Args:
        data: a VOC devkit, a SegNet folder, or photos paired with label maps; or a folder that holds one such folder.
        classes: train on these only, in this order; what the rest becomes is `others`: "void" or "background".
        void: the id or colour in files that is void (`255`, `0,0,0`), or "none"; None means what the layout means.
        splits: a file that says which sample is in which split, instead of what the folder says.
        seed: of the split that is drawn where none is given.
        skip_bad: samples that would stop the reading are skipped and listed instead.
        like: read files by this label space, that of a bundle, and decide nothing.
    Returns: the samples; every decision stands in `.notes`, every sample left out in `.skipped`.
    Raises: LayoutUnknown, PairingError, LabelSpaceError, UnknownLabel, SizeMismatch, UnreadableImage, SplitError, each
        with what to type; UsageError for a class name or a void that is none.
    """
    if like is not None and (classes or void is not None):
        raise UsageError("a bundle's label space is taken as it is", "classes or void beside it", "leave them out")
    asked_void = parse_void(void)
    root, layout, recognised = detect(Path(data))
    listing = FORMATS[layout][1](root)
    listing = apply_split_file(listing, Path(splits)) if splits is not None else apply_lists(listing)
    notes, skipped = [recognised, *listing.notes], list(listing.skipped)

    facts, broken = _readable(survey(_once(listing.pairs())), skip_bad)
    skipped += broken
    fitting, unfit, said = _of_size(facts, skip_bad)
    skipped += unfit
    notes += _say_held(fitting) + said

    space, known, unknown, said = _label_space(fitting, listing, Path(data), like, asked_void, skip_bad)
    skipped += unknown
    notes += said
    if classes or others != "void":
        chosen = space.select(classes or space.names, others)
        notes.append(_say_selected(space, chosen, others))
        space = chosen

    known, pixels, empty = _with_pixels(known, space)
    skipped += empty
    samples = {one.pair.name: _sample(one, space) for one in known}
    parts, said = _split(listing, samples, known, pixels, seed)
    notes += said + _say_duplicates(parts, known)
    if skipped:
        notes.append(f"{count(len(skipped), 'file or sample')} left out, listed with the reason.")
    result = SampleSet(
        root=root,
        layout=layout,
        label_space=space,
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        skipped=tuple(skipped),
        notes=tuple(notes),
        pixels={sample.name: pixels[sample.name] for part in parts.values() for sample in part},
    )
    _check_enough(result, measured_only=like is not None)
    return result


# ---- files ----------------------------------------------------------------------------------------------------------


def _once(pairs: Sequence[Pair]) -> list[Pair]:
    return list({pair.name: pair for pair in pairs}.values())


def _readable(facts: Sequence[PairFacts | Broken], skip_bad: bool) -> tuple[list[PairFacts], list[Skipped]]:
    whole = [one for one in facts if isinstance(one, PairFacts)]
    broken = [
        Skipped(one.pair.name, (one.pair.photo, one.pair.label_map), f"unreadable: {one.why}")
        for one in facts
        if isinstance(one, Broken)
    ]
    if len(broken) > len(whole) and not (skip_bad and whole):
        raise UnreadableImage(
            "at least half of the photos and label maps can be decoded",
            f"{len(broken)} of {count(len(facts), 'sample')} cannot: "
            + some((item.why.removeprefix("unreadable: ") for item in broken), 3),
            "replace those files; --skip-bad goes on with the rest" if whole else "replace those files",
        )
    return whole, broken


def _of_size(facts: Sequence[PairFacts], skip_bad: bool) -> tuple[list[PairFacts], list[Skipped], list[str]]:
    """Drop samples whose label map has another aspect ratio than the photo; say what is brought to the photo's size."""
    fits = [same_aspect(_turned_size(one), one.photo.size) for one in facts]
    fitting = [one for one, fit in zip(facts, fits, strict=True) if fit]
    unfit = [one for one, fit in zip(facts, fits, strict=True) if not fit]
    skipped = [Skipped(one.pair.name, (one.pair.photo, one.pair.label_map), f"size: {_sizes(one)}") for one in unfit]
    if len(unfit) > len(fitting) and not (skip_bad and fitting):
        raise SizeMismatch(
            "every label map must have its photo's size, or at least its aspect ratio",
            f"{len(unfit)} of {len(facts)} differ; {some(map(_sizes, unfit), 1)}",
            "check which photo belongs to which label map" + ("; --skip-bad goes on with the rest" if fitting else ""),
        )
    resized = [one for one in fitting if _turned_size(one) != one.photo.size]
    notes = []
    if resized:
        notes.append(
            f"{count(len(resized), 'label map')} of another size than the photo, but of its aspect ratio: brought to "
            f"the photo's size by nearest neighbour ({some((one.pair.name for one in resized), 3)})."
        )
    if unfit:
        names = some((one.pair.name for one in unfit), 3)
        notes.append(f"{count(len(unfit), 'label map')} of another aspect ratio than the photo: left out ({names}).")
    return fitting, skipped, notes + _say_turned(fitting)


def _say_turned(facts: Sequence[PairFacts]) -> list[str]:
    turned = [one for one in facts if one.photo.orientation in _TURNED]
    with_photo = [one for one in turned if _turn(one) != 1]
    notes = []
    if turned:
        notes.append(f"{count(len(turned), 'photo')} turned upright by EXIF orientation ({some((o.pair.name for o in turned), 3)}).")
    if with_photo:
        notes.append(
            f"{count(len(with_photo), 'label map')} drawn on the photo as stored: turned with it, as the sizes tell "
            f"({some((one.pair.name for one in with_photo), 3)})."
        )
    return notes


def _turn(one: PairFacts) -> int:
    """A label map that fits the photo as stored and not as upright was drawn on it as stored."""
    height, width = one.photo.size
    sideways = one.photo.orientation in _SIDEWAYS and not same_aspect(one.holds.size, (height, width))
    return one.photo.orientation if sideways and same_aspect(one.holds.size, (width, height)) else 1


def _turned_size(one: PairFacts) -> tuple[int, int]:
    return (one.holds.size[1], one.holds.size[0]) if _turn(one) != 1 else one.holds.size


def _sizes(one: PairFacts) -> str:
    (map_height, map_width), (height, width) = one.holds.size, one.photo.size
    return f"{one.pair.label_map.name} is {map_width}x{map_height}, {one.pair.photo.name} is {width}x{height}"


# ---- the label space ------------------------------------------------------------------------------------------------


def _label_space(
    facts: Sequence[PairFacts],
    listing: Listing,
    data: Path,
    like: LabelSpace | None,
    void: Value | str | None,
    skip_bad: bool,
) -> tuple[LabelSpace, list[PairFacts], list[Skipped], list[str]]:
    together = _together(facts)
    if like is not None:
        known, unknown, said = _known(facts, like, "the bundle", skip_bad)
        return like, known, unknown, ["Label maps read by the bundle's label space.", *said]
    class_file = find_class_file([*listing.places, data])
    if class_file is None:
        check_looks(facts, together)
    space, notes = decide(together, layout=listing.layout, class_file=class_file, void=void)
    source = class_file.path.name if class_file else "the label space"
    known, unknown, said = _known(facts, space, source, skip_bad)
    return space, known, unknown, [*notes, *said]


def _together(facts: Sequence[PairFacts]) -> Held:
    return held((one.holds, one.palette) for one in facts)


def _known(
    facts: Sequence[PairFacts], space: LabelSpace, source: str, skip_bad: bool
) -> tuple[list[PairFacts], list[Skipped], list[str]]:
    """Stop at values outside the space, or skip the samples that have them."""
    strange = {one.pair.name: _strange(one, space) for one in facts}
    bad = [one for one in facts if strange[one.pair.name]]
    if not bad or space.others != "error":
        return list(facts), [], []
    values = sorted({value for one in bad for value in strange[one.pair.name]}, key=str)
    if len(bad) == len(facts) or not skip_bad:
        raise UnknownLabel(
            f"{say_allowed(space)} ({source})",
            f"{some((_where(one, strange[one.pair.name][0], space) for one in bad), 10)}; {len(bad)} of "
            f"{count(len(facts), 'label map')} have values outside: {some(map(say_value, values))}{diagnosis(bad)}",
            _what_to_type(values, space, source, partly=len(bad) < len(facts)),
        )
    skipped = [
        Skipped(
            one.pair.name,
            (one.pair.photo, one.pair.label_map),
            f"label: {some(map(say_value, strange[one.pair.name]))} outside the label space",
        )
        for one in bad
    ]
    return [one for one in facts if not strange[one.pair.name]], skipped, [
        f"{count(len(bad), 'sample')} with values outside the label space left out, as asked ({some(map(say_value, values))})."
    ]


def _strange(one: PairFacts, space: LabelSpace) -> list[Value]:
    counts: Mapping[Value, int] | None = one.holds.colours if space.in_colours else one.holds.ids  # type: ignore[assignment]
    if counts is None:
        counts = one.holds.ids or one.holds.colours or {}  # type: ignore[assignment]
    known = space.class_of()
    return sorted((value for value in counts if value not in known), key=lambda value: -counts[value])


def _where(one: PairFacts, value: Value, space: LabelSpace) -> str:
    raw = decode(one.pair.label_map)
    values = raw.as_colours() if isinstance(value, tuple) else raw.ids
    code = pack_one(value) if isinstance(value, tuple) else value
    if values is None:
        return f"{one.pair.label_map.name} has {say_value(value)}"
    rows, columns = (values == code).nonzero()
    return f"{one.pair.label_map.name} has {say_value(value)} at row {rows[0]}, column {columns[0]} ({len(rows)} pixels)"


def _what_to_type(values: Sequence[Value], space: LabelSpace, source: str, *, partly: bool) -> str:
    first = say_value(values[0])
    tips = []
    ids = [value for value in values if isinstance(value, int)]
    if not space.in_colours and ids == [space.size]:
        tips.append(f"if the ids count from 1: --void 0; if 0 is background: `background` as the first line of {source}")
    elif len(values) == 1:
        tips.append(f"--void {first} if it means void")
    tips.append(f"`{first.replace(',', ' ')} NAME` in {source} for each" if source.count(".") else f"--void {first}")
    tips += ["--skip-bad to leave these samples out"] if partly else []
    return "; or ".join(dict.fromkeys(tips))


def _say_held(facts: Sequence[PairFacts]) -> list[str]:
    forms: dict[tuple[str, str], int] = defaultdict(int)
    for one in facts:
        forms[one.holds.form, one.holds.file_format] += 1
    listed = ", ".join(f"{number} {form} ({kind})" for (form, kind), number in sorted(forms.items()))
    notes = [f"Label maps: {listed}."] if listed else []
    lossy = sum(number for (_, kind), number in forms.items() if kind == "JPEG")
    if lossy:
        notes.append(f"{count(lossy, 'label map')} in JPEG, which changes ids at edges: PNG keeps them.")
    if any(one.holds.translucent for one in facts):
        notes.append("The opacity (alpha) of the label maps is left out of account: their colours count.")
    return notes


def _say_selected(space: LabelSpace, chosen: LabelSpace, others: str) -> str:
    rest = [name for name in space.names if name not in chosen.names]
    what = f"the other {len(rest)} ({some(rest, 4)}) become {others}" if rest else f"what is not listed becomes {others}"
    return f"{chosen.size} classes as asked: {some(chosen.names, 12)}; {what}."


# ---- samples and splits ---------------------------------------------------------------------------------------------


def _with_pixels(
    facts: Sequence[PairFacts], space: LabelSpace
) -> tuple[list[PairFacts], dict[str, tuple[int, ...]], list[Skipped]]:
    """Drop samples that are void everywhere: there is nothing to learn and nothing to score in them."""
    pixels = {one.pair.name: _pixels(one, space) for one in facts}
    empty = [one for one in facts if not any(pixels[one.pair.name][:-1])]
    skipped = [Skipped(o.pair.name, (o.pair.photo, o.pair.label_map), "void everywhere: no class to learn") for o in empty]
    return [one for one in facts if any(pixels[one.pair.name][:-1])], pixels, skipped


def _sample(one: PairFacts, space: LabelSpace) -> Sample:
    return Sample(one.pair.name, one.pair.photo, one.pair.label_map, one.photo.size, space, _turn(one))


def _pixels(one: PairFacts, space: LabelSpace) -> tuple[int, ...]:
    """Pixels of each class and, last, of void."""
    known = space.class_of()
    other = space.background if space.others == "background" and space.background is not None else space.void
    counts: Mapping[Value, int] = (one.holds.colours if space.in_colours else one.holds.ids) or {}  # type: ignore[assignment]
    totals = [0] * (space.size + 1)
    for value, pixels in counts.items():
        totals[min(known.get(value, other), space.size)] += pixels
    return tuple(totals)


def _split(
    listing: Listing,
    samples: Mapping[str, Sample],
    facts: Sequence[PairFacts],
    pixels: Mapping[str, tuple[int, ...]],
    seed: int,
) -> tuple[dict[str, tuple[Sample, ...]], list[str]]:
    parts = {
        split: tuple(samples[pair.name] for pair in _once(pairs) if pair.name in samples)
        for split, pairs in listing.splits.items()
    }
    notes = []
    if UNSPLIT in parts:
        parts = {"train": parts[UNSPLIT]}
        notes.append("No split given: val is a fifth, drawn with seed {seed}, each class alike, exact duplicates together.")
    elif parts.get("val") and not parts.get("train"):
        notes.append("There is no train split.")
    given = {"train": (), "val": (), "test": ()} | parts
    if given["train"] and not given["val"]:
        if not notes:
            notes.append(
                "No val split given: val is a fifth of train, drawn with seed {seed}, each class alike, exact duplicates "
                "together" + ("; test is not touched." if given["test"] else ".")
            )
        names = {sample.name for sample in given["train"]}
        items = [_item(one, pixels) for one in facts if one.pair.name in names]
        held_out = hold_out(items, seed=seed)
        given["val"] = tuple(sample for sample in given["train"] if sample.name in held_out)
        given["train"] = tuple(sample for sample in given["train"] if sample.name not in held_out)
        if not given["val"]:
            notes.append("Too few samples to hold any out: val is empty, so that nothing is measured.")
    notes = [note.replace("{seed}", str(seed)) for note in notes]
    notes.append(", ".join(f"{len(samples_of)} {split}" for split, samples_of in given.items()) + ".")
    return given, notes


def _item(one: PairFacts, pixels: Mapping[str, tuple[int, ...]]) -> Item:
    present = frozenset(index for index, number in enumerate(pixels[one.pair.name][:-1]) if number)
    return Item(one.pair.name, present, one.photo.content)


def _say_duplicates(parts: Mapping[str, Sequence[Sample]], facts: Sequence[PairFacts]) -> list[str]:
    split_of = {sample.name: split for split, samples in parts.items() for sample in samples}
    groups: dict[str, list[str]] = defaultdict(list)
    for one in facts:
        if one.pair.name in split_of:
            groups[one.photo.content].append(one.pair.name)
    same = [names for names in groups.values() if len(names) > 1]
    across = [names for names in same if len({split_of[name] for name in names}) > 1]
    notes = []
    if same:
        notes.append(f"{count(len(same), 'photo')} there more than once, byte for byte: {some((' = '.join(n) for n in same), 3)}.")
    if across:
        notes.append(
            f"{count(len(across), 'photo')} in more than one of the splits given ({some((' = '.join(n) for n in across), 3)}):"
            " scores on val or test are too good by these; --splits FILE mends it."
        )
    return notes


def _check_enough(samples: SampleSet, *, measured_only: bool) -> None:
    if measured_only:
        if not samples.split("all"):
            raise SplitError("there is a sample to measure", _say_left(samples), "fullconv data show DATA")
        return
    if len(samples.train) < 2:
        raise SplitError(
            "training needs at least 2 samples",
            f"{len(samples.train)} in train; {_say_left(samples)}",
            "add samples, or mend those that were left out",
        )
    _check_classes(samples)


def _check_classes(samples: SampleSet) -> None:
    space = samples.label_space
    totals = [0] * space.size
    for sample in samples.train:
        totals = [total + number for total, number in zip(totals, samples.pixels[sample.name], strict=False)]
    present = [name for name, total in zip(space.names, totals, strict=True) if total]
    if space.size < 2 or len(present) < 2:
        void = f", void {', '.join(map(say_value, space.void_values))}" if space.void_values else ""
        raise LabelSpaceError(
            "training needs at least 2 classes with pixels in train",
            f"{some(present) or 'none'} of {some(space.names)}{void}",
            "add label maps with other classes; or, if what is void is a class, --void none"
            if space.others == "error"
            else "more names in --classes, or --others background",
        )


def _say_left(samples: SampleSet) -> str:
    why = some((f"{item.name}: {item.why}" for item in samples.skipped), 3)
    return f"{len(samples.split('all'))} samples in all, {len(samples.skipped)} left out" + (f" ({why})" if why else "")
