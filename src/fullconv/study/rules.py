"""The doctor's rules: each looks at the case and says what it finds. Road: study, after the case is read.

Sentences give figures and the first samples; why it matters is said in terms of precision and recall.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fullconv.data.fingerprint import SHRINKS
from fullconv.data.formats.listing import UNSPLIT, count, some
from fullconv.data.looks import JPEG, PHOTO
from fullconv.data.samples import Skipped
from fullconv.labels.space import say_value
from fullconv.study.alike import Alike
from fullconv.study.case import Case, black_and_white, fitting, map_size, of_other_kind, scattered, turn
from fullconv.study.examine import Look
from fullconv.study.findings import Finding, worst_first

_FEW_PHOTOS = 5  # of train with a class: fewer are hardly ever enough to learn it
_MUCH_VOID = 0.5  # of one label map
_ONE_TONE = 0.95  # share of a photo's pixels that are nearly black, or nearly white
_SMALLEST = 64  # px: a photo with a shorter side is smaller than two cells of stride 32
_LONGEST = 4.0  # times as long as wide
_BLUR = 0.4  # of the median sharpness
_LOW_CEILING = 0.8  # IoU at best
_MOST_PAIRS = 1000  # listed in study.json


def findings_of(case: Case) -> list[Finding]:
    """What all rules find, the worst first. What concerns most samples has no repair: dropping them mends nothing."""
    found = [finding for rule in RULES for finding in rule(case)]
    return worst_first([replace(one, repair=None) if one.severity == "stop" else one for one in found])


# ---- files ----------------------------------------------------------------------------------------------------------


def unreadable(case: Case) -> Iterator[Finding]:
    """Photos and label maps that cannot be decoded."""
    photos = {place: look.photo_error for place, look in enumerate(case.looks) if look.photo_error}
    maps = {place: look.map_error for place, look in enumerate(case.looks) if look.map_error}
    for what, kind, errors in (("photo", "unreadable_photo", photos), ("label map", "unreadable_mask", maps)):
        if errors:
            yield Finding(
                kind,
                _severity(errors, case),
                case.named(errors),
                f"{count(len(errors), what)} cannot be read: {some(errors.values(), 3)}.",
                "They teach nothing, and other tools stop at them in the middle of training.",
                "drop",
            )
    broken = [item for item in case.listing.skipped if item.why.startswith("unreadable")]
    if broken:
        yield Finding(
            "unreadable_mask",
            "harm",
            tuple(item.name for item in broken),
            f"{count(len(broken), 'annotation')} cannot be read: {some((item.why for item in broken), 3)}.",
            "Their samples are lost.",
        )


def unpaired(case: Case) -> Iterator[Finding]:
    """Photos without a label map, label maps without a photo."""
    alone = [item for item in case.listing.skipped if not item.why.startswith("unreadable")]
    if alone:
        yield Finding(
            "unpaired",
            "note",
            tuple(item.name for item in alone),
            f"{count(len(alone), 'file')} without a partner: {some(map(_file, alone), 3)}.",
            "They are not used; where they were meant to be a pair, a sample is lost.",
        )


def _file(item: Skipped) -> str:
    return item.files[0].name if item.files else item.name


def sizes(case: Case) -> Iterator[Finding]:
    """Label maps of another size than their photo."""
    readable = {place: look for place, look in enumerate(case.looks) if look.photo and look.label_map}
    differ = {place: look for place, look in readable.items() if look.photo and map_size(look) != look.photo.size}
    other = [place for place, look in differ.items() if not fitting(look)]
    same = [place for place in differ if place not in set(other)]
    if other:
        yield Finding(
            "size_mismatch",
            _severity(other, case),
            case.named(other),
            f"{count(len(other), 'label map')} of another aspect ratio than the photo: "
            f"{some((_sizes(differ[place]) for place in other), 3)}.",
            "What is labelled where cannot be told; such samples are left out.",
            "drop",
        )
    if same:
        yield Finding(
            "size_mismatch",
            "note",
            case.named(same),
            f"{count(len(same), 'label map')} of another size than the photo, but of its aspect ratio: "
            f"{some((_sizes(differ[place]) for place in same), 3)}.",
            "They are brought to the photo's size by nearest neighbour; edges are as coarse as the label map was.",
            "resize",
        )


def _sizes(look: Look) -> str:
    assert look.photo is not None
    (map_height, map_width), (height, width) = map_size(look), look.photo.size
    return f"{look.pair.label_map.name} is {map_width}x{map_height}, the photo {width}x{height}"


def turned_photos(case: Case) -> Iterator[Finding]:
    """Photos that EXIF turns, and label maps that were drawn before turning."""
    found = [place for place, look in enumerate(case.looks) if look.photo and look.photo.orientation != 1]
    before = [place for place in found if turn(case.looks[place]) != 1]
    if not found:
        return
    drawn = f"; {count(len(before), 'label map')} drawn on the photo as stored ({case.few(before)})" if before else ""
    yield Finding(
        "exif_rotation",
        "harm" if before else "note",
        case.named(found),
        f"{count(len(found), 'photo')} turned by EXIF ({case.few(found)}){drawn}.",
        "Where a tool turns the photo and not its label map, or neither, the sample teaches the wrong places.",
        "upright",
        {"drawn_as_stored": list(case.named(before))},
    )


# ---- what label maps hold -------------------------------------------------------------------------------------------


def blended(case: Case) -> Iterator[Finding]:
    """Label maps with values between classes."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    rough = scattered(case.looks)
    for place, look in enumerate(case.looks):
        if look.label_map and (look.label_map.blend or place in rough):
            lossy = look.label_map.blend == JPEG or look.label_map.holds.file_format == "JPEG"
            by_kind["photo" if look.label_map.blend == PHOTO else "jpeg" if lossy else "smooth"].append(place)
    for kind, name, what in (
        ("photo", "unknown_colour", "look like photos, not like label maps"),
        ("jpeg", "jpeg_mask", "went through JPEG, which makes up ids along edges"),
        ("smooth", "antialiased_mask", "have values along edges that nobody gave, as smoothing and JPEG leave them"),
    ):
        places = by_kind[kind]
        if places:
            yield Finding(
                name,
                _severity(places, case),
                case.named(places),
                f"{count(len(places), 'label map')} {what}: {case.few(places)}.",
                "Pixels along edges are taught as classes that are not there, and precision falls where edges are.",
                "drop" if kind == "photo" else "snap",
            )


def two_values(case: Case) -> Iterator[Finding]:
    """0 and 255: a set of two classes, or a few label maps that lost theirs; colours among ids."""
    odd = sorted(black_and_white(case.looks))
    if odd:
        yield Finding(
            "binary_255",
            "harm",
            case.named(odd),
            f"{count(len(odd), 'label map')} with 0 and 255 alone, where others hold class ids: {case.few(odd)}.",
            "Which class 255 was is lost: taken as void nothing is learned from it, taken as a class it is wrong.",
            "drop",
        )
    other = sorted(of_other_kind(case.looks))
    if other:
        yield Finding(
            "unknown_colour",
            "harm",
            case.named(other),
            f"{count(len(other), 'label map')} of another kind than the others (colours, ids): {case.few(other)}.",
            "What they hold cannot be read by the same classes: such samples are left out.",
            "drop",
        )
    if not odd and case.space is not None and set(case.space.file_values) == {(0,), (255,)}:
        yield Finding(
            "binary_255",
            "note",
            (),
            "The label maps hold 0 and 255: read as background and one object.",
            "Tools that take 255 for void learn and score nothing but background.",
        )


def label_space(case: Case) -> Iterator[Finding]:
    """Classes that cannot be told, and values outside the label space."""
    if case.space is None:
        found = f"The classes cannot be told: {case.space_error}."
        yield Finding("unknown_id", "stop", (), found, "Nothing can be trained.")
        return
    if not case.unknown:
        return
    values = Counter(value for found in case.unknown.values() for value in found)
    called = case.listing.classes.strange if case.listing.classes else {}
    said = some((repr(called[v]) if isinstance(v, int) and v in called else say_value(v) for v in values), 5)
    from_1 = list(values) == [case.space.size] and not case.space.in_colours and not _has_zero(case)
    yield Finding(
        "one_based" if from_1 else "unknown_colour" if case.space.in_colours else "unknown_id",
        "stop" if from_1 else _severity(case.unknown, case),
        case.named(case.unknown),
        f"{count(len(case.unknown), 'label map')} with values that no class has ({said}): {case.few(case.unknown)}."
        + (" The ids seem to count from 1: no label map has 0." if from_1 else ""),
        "Every class is taken for the one before it in the list."
        if from_1
        else "What these pixels are is not known: such samples are left out.",
        "drop",
    )


def _has_zero(case: Case) -> bool:
    return any(0 in (look.label_map.holds.ids or ()) for look in case.looks if look.label_map)


def id_gaps(case: Case) -> Iterator[Finding]:
    """Ids that no label map has, between ids that some have, where no file names the classes."""
    if case.space is None or not all(name.startswith("class_") for name in case.space.names):
        return
    ids = [value for values in case.space.file_values for value in values if isinstance(value, int)]
    gaps = sorted(set(range(min(ids, default=0), max(ids, default=0))) - set(ids))
    if gaps:
        yield Finding(
            "id_gap",
            "note",
            (),
            f"The ids have gaps: {some(gaps)} occur in no label map.",
            "Classes may be missing, or ids were multiplied for display; other tools give each missing id a class.",
        )


def empty_maps(case: Case) -> Iterator[Finding]:
    """Label maps with void alone, background alone, or one class alone."""
    if case.content is None or case.space is None:
        return
    rows = dict(zip(case.samples, case.content.pixels, strict=True))
    void_only = [place for place, row in rows.items() if row[-1] and not row[:-1].any()]
    single = [place for place, row in rows.items() if (row[:-1] > 0).sum() == 1]
    ground = case.space.background
    bare = [place for place in single if ground is not None and rows[place][ground]]
    full = [place for place in single if place not in set(bare)]
    if void_only:
        yield Finding(
            "empty_map",
            "harm",
            case.named(void_only),
            f"{count(len(void_only), 'label map')} void everywhere: {case.few(void_only)}.",
            "There is nothing to learn and nothing to score in them: they are left out.",
            "drop",
        )
    if bare:
        yield Finding(
            "empty_map",
            "note",
            case.named(bare),
            f"{count(len(bare), 'label map')} with background alone: {case.few(bare)}.",
            "Right where the photo shows nothing of any class; where a thing was forgotten, it costs recall.",
        )
    if full and case.space.size > 1:
        yield Finding(
            "single_class_map",
            "note",
            case.named(full),
            f"{count(len(full), 'label map')} of one class alone: {case.few(full)}.",
            "Such a map has no edges to learn; often it is a placeholder that nobody filled in.",
        )


def void_share(case: Case) -> Iterator[Finding]:
    """Label maps that are mostly void."""
    if case.content is None:
        return
    pixels = case.content.pixels
    shares = pixels[:, -1] / np.maximum(1, pixels.sum(1))
    rows = zip(case.samples, shares, pixels, strict=True)
    much = [place for place, share, row in rows if share > _MUCH_VOID and row[:-1].any()]
    if much:
        overall = float(pixels[:, -1].sum() / max(1, pixels.sum()))
        yield Finding(
            "void_share",
            "note",
            case.named(much),
            f"{count(len(much), 'label map')} more than half void: {case.few(much)}; of all pixels {overall:.1%}.",
            "Void is neither trained on nor scored: they teach little, and what happens there is not measured.",
        )


# ---- classes --------------------------------------------------------------------------------------------------------


def rare_classes(case: Case) -> Iterator[Finding]:
    """Classes that train hardly has, or that only val has."""
    if case.content is None or case.space is None:
        return
    names = case.space.names
    of_train = np.isin([case.splits[place] for place in case.samples], ("train", UNSPLIT))
    photos = case.content.pixels[:, :-1] > 0
    train, elsewhere = photos[of_train].sum(0), photos[~of_train].sum(0)
    only_there = [index for index in range(len(names)) if not train[index] and elsewhere[index]]
    nowhere = [index for index in range(len(names)) if not train[index] and not elsewhere[index]]
    rare = [index for index in range(len(names)) if 0 < train[index] < _FEW_PHOTOS]
    if only_there:
        yield Finding(
            "class_absent_in_train",
            "harm",
            (),
            f"{some(names[index] for index in only_there)}: in val or test, but in no label map of train.",
            "It cannot be learned, so that its recall is 0 and the mean IoU falls by its share.",
            details={"classes": [names[index] for index in only_there]},
        )
    if nowhere:
        yield Finding(
            "class_absent_in_train",
            "note",
            (),
            f"{some(names[index] for index in nowhere)}: in the list of classes, but in no label map.",
            "It is not scored; the network keeps an output for it.",
            details={"classes": [names[index] for index in nowhere]},
        )
    if rare:
        said = some((f"{names[index]} in {count(int(train[index]), 'photo')}" for index in rare), 8)
        rows = zip(case.samples, photos, of_train, strict=True)
        having = [place for place, row, learned in rows if learned and row[rare].any()]
        yield Finding(
            "class_rare",
            "harm",
            case.named(having),
            f"Hardly there in train: {said}.",
            "So few photos seldom show what a class can look like: recall will be low, and one photo decides the IoU.",
            details={"classes": [names[index] for index in rare]},
        )


def tiny_objects(case: Case) -> Iterator[Finding]:
    """Classes whose things are smaller than the cells of a coarse score map."""
    if case.content is None or case.space is None:
        return
    best = {index: iou for index, iou in enumerate(case.content.ceiling[8]) if iou is not None and iou < _LOW_CEILING}
    if not best:
        return
    ordered = sorted(best, key=lambda index: best[index])
    tiny, regions = case.content.tiny[8], case.content.regions
    said = some((f"{case.space.names[i]} {best[i]:.2f} ({tiny[i]} of {regions[i]} regions tiny)" for i in ordered), 4)
    means = ", ".join(f"{case.content.mean_ceiling[factor]:.2f} at {factor}" for factor in SHRINKS)
    yield Finding(
        "tiny_objects",
        "note",
        (),
        f"Small or thin things: in cells of 8 pixels IoU is at best {said}.",
        f"Mean IoU at best, by stride: {means}. Heads of stride 8 and more lose them; the default head scores at 4.",
        details={"classes": [case.space.names[index] for index in ordered]},
    )


# ---- photos ---------------------------------------------------------------------------------------------------------


def same_photos(case: Case) -> Iterator[Finding]:
    """The same photo twice, within a split and across splits; scenes that train and val share."""
    groups: dict[tuple[str, bool], list[Alike]] = defaultdict(list)
    for pair in case.alike:
        groups[pair.kind, case.splits[pair.first] != case.splits[pair.second]].append(pair)
    leaks = [*groups["exact", True], *groups["near", True]]
    if leaks:
        exact = len(groups["exact", True])
        trained_on = [place for place in _places(leaks) if case.splits[place] == "train"]
        judged_on = len(_places(leaks)) - len(trained_on)
        yield Finding(
            "leak",
            "harm",
            case.named(_places(leaks)),
            f"{count(judged_on, 'photo')} of val or test in another split too ({exact} pairs byte for byte, "
            f"{len(leaks) - exact} nearly): {_say_pairs(case, leaks)}.",
            "What is measured on them was trained on: scores of val and test come out too good.",
            "drop" if trained_on else None,
            {"pairs": [_pair_json(case, pair) for pair in leaks[:_MOST_PAIRS]]},
            case.named(trained_on),
        )
    same, nearly = groups["exact", False], groups["near", False]
    if same:
        yield Finding(
            "exact_duplicate",
            "harm",
            case.named(_places(same)),
            f"{count(len(same), 'photo')} there more than once in one split: {_say_pairs(case, same)}.",
            "It counts twice in training and measuring; where the two label maps differ, one of them is wrong.",
            "drop",
            {"pairs": [_pair_json(case, pair) for pair in same[:_MOST_PAIRS]]},
            case.named(sorted({pair.second for pair in same})),
        )
    if nearly:
        places = _places(nearly)
        yield Finding(
            "near_duplicate",
            "note",
            case.named(places),
            f"{count(len(places), 'photo')} with another of the same split that is nearly the same (saved anew, or "
            f"frames of one take): {_say_pairs(case, nearly)}.",
            "They teach little beyond one of them; where their label maps differ, one is wrong.",
            details={"pairs": [_pair_json(case, pair) for pair in nearly[:_MOST_PAIRS]]},
        )
    scenes = groups["scene", True]
    judged = [place for place in _places(scenes) if case.splits[place] != "train"]
    if judged:
        yield Finding(
            "same_scene",
            "note",
            case.named(judged),
            f"{count(len(judged), 'photo')} outside train show what train shows too: {_say_pairs(case, scenes)}.",
            "Measured on them, a segmenter looks better than it is on new scenes.",
            details={"pairs": [_pair_json(case, pair) for pair in scenes[:_MOST_PAIRS]]},
        )


def _places(pairs: Sequence[Alike]) -> list[int]:
    return sorted({place for pair in pairs for place in (pair.first, pair.second)})


def _say_pairs(case: Case, pairs: Sequence[Alike]) -> str:
    return some((f"{case.names[pair.first]} = {case.names[pair.second]}" for pair in pairs), 3)


def _pair_json(case: Case, pair: Alike) -> dict[str, Any]:
    return {
        "samples": [case.names[pair.first], case.names[pair.second]],
        "splits": [case.splits[pair.first], case.splits[pair.second]],
        "kind": pair.kind,
        "likeness": pair.likeness,
    }


def poor_photos(case: Case) -> Iterator[Finding]:
    """Photos that are blurred, black, white, tiny or very long."""
    photos = {place: look.photo for place, look in enumerate(case.looks) if look.photo is not None}
    if not photos:
        return
    median = float(np.median([photo.sharpness for photo in photos.values()]))
    exposed = [place for place, photo in photos.items() if max(photo.dark, photo.bright) > _ONE_TONE]
    soft = [p for p, photo in photos.items() if photo.sharpness < _BLUR * median and p not in set(exposed)]
    odd = [
        place
        for place, photo in photos.items()
        if min(photo.size) < _SMALLEST or max(photo.size) > _LONGEST * min(photo.size)
    ]
    for kind, places, what, why in (
        ("blurred", soft, "far less sharp than the others", "Edges cannot be learned from them, nor scored fairly."),
        ("exposure", exposed, "nearly black or nearly white", "There is hardly anything to see in them."),
        ("odd_size", odd, "under 64 pixels, or over four times as long as wide", "They are mostly border."),
    ):
        if places:
            said = f"{count(len(places), 'photo')} {what}: {case.few(places)}."
            yield Finding(kind, "note", case.named(places), said, why)


def sizes_of_val(case: Case) -> Iterator[Finding]:
    """Sizes of photos that only val or test has."""
    areas: dict[str, dict[int, int]] = defaultdict(dict)
    for place, look in enumerate(case.looks):
        if look.photo is not None:
            areas[case.splits[place]][place] = look.photo.size[0] * look.photo.size[1]
    train = areas["train"].values()
    for split in ("val", "test"):
        odd = [place for place, area in areas[split].items() if train and not min(train) <= 4 * area <= 16 * max(train)]
        if odd:
            yield Finding(
                "odd_size",
                "note",
                case.named(odd),
                f"{count(len(odd), 'photo')} of {split} more than twice as large or small, on each side, as any of "
                f"train: {case.few(odd)}.",
                "Things have a size there that training never showed.",
            )


def _severity(places: Sequence[int] | dict[int, Any], case: Case) -> str:
    """What concerns more than half of the samples stops, else it harms."""
    return "stop" if 2 * len(places) > len(case.looks) else "harm"


RULES: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    unreadable,
    unpaired,
    sizes,
    turned_photos,
    blended,
    two_values,
    label_space,
    id_gaps,
    empty_maps,
    void_share,
    rare_classes,
    tiny_objects,
    same_photos,
    poor_photos,
    sizes_of_val,
)
