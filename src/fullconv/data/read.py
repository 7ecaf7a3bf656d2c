"""Read samples: recognise the layout, survey the files, decide the label space, split, and say all of it.

Road: data, the first station. In: a folder. Out: a SampleSet. Knows no torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fullconv.base.errors import LabelSpaceError, SplitError, UsageError
from fullconv.data.detect import FORMATS, detect
from fullconv.data.formats.listing import UNSPLIT, Listing, Pair, count, some
from fullconv.data.formats.lists import apply_lists, apply_split_file
from fullconv.data.known import known_values
from fullconv.data.looks import check_looks
from fullconv.data.samples import Sample, SampleSet, Skipped
from fullconv.data.split import Item, hold_out
from fullconv.data.survey import PairFacts, survey
from fullconv.data.usable import of_fitting_size, readable, turn_of
from fullconv.labels.classfile import find_class_file
from fullconv.labels.decide import as_listed, decide, parse_void
from fullconv.labels.held import Held, held
from fullconv.labels.space import LabelSpace, Value, say_value


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

    facts, broken = readable(survey(_once(listing.pairs())), skip_bad)
    skipped += broken
    fitting, unfit, said = of_fitting_size(facts, skip_bad)
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
    if like is not None and not parts["val"] and listing.splits.keys() == {UNSPLIT}:
        parts = {"train": (), "val": parts["train"], "test": ()}
        said = ["Too few samples for a split: all are measured."]
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
        contents={one.pair.name: one.photo.content for one in known},
    )
    _check_enough(result, measured_only=like is not None)
    return result


# ---- files ----------------------------------------------------------------------------------------------------------


def _once(pairs: Sequence[Pair]) -> list[Pair]:
    return list({pair.name: pair for pair in pairs}.values())


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
        like = like.in_files_of(listing.classes.space) if listing.classes is not None else like
        known, unknown, said = known_values(facts, like, "the bundle", skip_bad)
        return like, known, unknown, ["Label maps read by the bundle's label space.", *said]
    if listing.classes is not None:
        space, notes = as_listed(listing.classes.space, _together(facts), void)
        source, strange = listing.classes.source, listing.classes.strange
        known, unknown, said = known_values(facts, space, source, skip_bad, called=strange)
        listed = f"{space.size} classes by {source}: {some(space.names, 12)}."
        return space, known, unknown, [listed, *notes, *said]
    class_file = find_class_file([*listing.places, data])
    if class_file is None:
        check_looks(facts, together)
    space, notes = decide(together, layout=listing.layout, class_file=class_file, void=void)
    source = class_file.path.name if class_file else "the label space"
    known, unknown, said = known_values(facts, space, source, skip_bad)
    return space, known, unknown, [*notes, *said]


def _together(facts: Sequence[PairFacts]) -> Held:
    return held((one.holds, one.palette) for one in facts)


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
    what = (
        f"the other {len(rest)} ({some(rest, 4)}) become {others}" if rest else f"what is not listed becomes {others}"
    )
    return f"{chosen.size} classes as asked: {some(chosen.names, 12)}; {what}."


# ---- samples and splits ---------------------------------------------------------------------------------------------


def _with_pixels(
    facts: Sequence[PairFacts], space: LabelSpace
) -> tuple[list[PairFacts], dict[str, tuple[int, ...]], list[Skipped]]:
    """Drop samples that are void everywhere: there is nothing to learn and nothing to score in them."""
    pixels = {one.pair.name: _pixels(one, space) for one in facts}
    empty = [one for one in facts if not any(pixels[one.pair.name][:-1])]
    skipped = [Skipped(o.pair.name, o.pair.files, "void everywhere: no class to learn") for o in empty]
    return [one for one in facts if any(pixels[one.pair.name][:-1])], pixels, skipped


def _sample(one: PairFacts, space: LabelSpace) -> Sample:
    return Sample(one.pair.name, one.pair.photo, one.pair.label_map, one.photo.size, space, turn_of(one))


def _pixels(one: PairFacts, space: LabelSpace) -> tuple[int, ...]:
    """Pixels of each class and, last, of void."""
    known = space.class_of()
    other = space.background if space.others == "background" and space.background is not None else space.void
    totals = [0] * (space.size + 1)
    for value, pixels in one.holds.values(in_colours=space.in_colours).items():
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
        notes.append(
            "No split given: val is a fifth, drawn with seed {seed}, each class alike, exact duplicates together."
        )
    elif parts.get("val") and not parts.get("train"):
        notes.append("There is no train split.")
    given = {"train": (), "val": (), "test": ()} | parts
    if given["train"] and not given["val"]:
        if not notes:
            notes.append(
                "No val split given: val is a fifth of train, drawn with seed {seed}, each class alike, exact "
                "duplicates together" + ("; test is not touched." if given["test"] else ".")
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
        listed = some((" = ".join(names) for names in same), 3)
        notes.append(f"{count(len(same), 'photo')} there more than once, byte for byte: {listed}.")
    if across:
        listed = some((" = ".join(names) for names in across), 3)
        notes.append(
            f"{count(len(across), 'photo')} in more than one of the splits given ({listed}):"
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
            "add samples, or mend those that were left out"
            if samples.train or not samples.split("all")
            else "--splits FILE that says which samples are train",
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
