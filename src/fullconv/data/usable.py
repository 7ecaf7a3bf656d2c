"""Which samples can be used: files that decode, label maps that fit their photo. Road: data, after the survey.

In: facts of one pass. Out: facts that stay, what is skipped, what is said. Knows no label space.
"""

from __future__ import annotations

from collections.abc import Sequence

from fullconv.base.errors import SizeMismatch, UnreadableImage
from fullconv.base.images import SIDEWAYS
from fullconv.data.formats.listing import count, some
from fullconv.data.samples import Skipped
from fullconv.data.survey import Broken, PairFacts
from fullconv.labels.maps import same_aspect

_TURNED = (2, 3, 4, *SIDEWAYS)


def readable(facts: Sequence[PairFacts | Broken], skip_bad: bool) -> tuple[list[PairFacts], list[Skipped]]:
    """Drop samples of which a file cannot be decoded. Raises: UnreadableImage if these are more than half."""
    whole = [one for one in facts if isinstance(one, PairFacts)]
    broken = [
        Skipped(one.pair.name, one.pair.files, f"unreadable: {one.why}") for one in facts if isinstance(one, Broken)
    ]
    if len(broken) > len(whole) and not (skip_bad and whole):
        raise UnreadableImage(
            "at least half of the photos and label maps can be decoded",
            f"{len(broken)} of {count(len(facts), 'sample')} cannot: "
            + some((item.why.removeprefix("unreadable: ") for item in broken), 3),
            "replace those files; --skip-bad goes on with the rest" if whole else "replace those files",
        )
    return whole, broken


def of_fitting_size(facts: Sequence[PairFacts], skip_bad: bool) -> tuple[list[PairFacts], list[Skipped], list[str]]:
    """Drop samples whose label map has another aspect ratio than the photo; say what is brought to the photo's size.

    Raises: SizeMismatch if these are more than half.
    """
    fits = [same_aspect(turned_size(one), one.photo.size) for one in facts]
    fitting = [one for one, fit in zip(facts, fits, strict=True) if fit]
    unfit = [one for one, fit in zip(facts, fits, strict=True) if not fit]
    skipped = [Skipped(one.pair.name, one.pair.files, f"size: {_sizes(one)}") for one in unfit]
    if len(unfit) > len(fitting) and not (skip_bad and fitting):
        raise SizeMismatch(
            "every label map must have its photo's size, or at least its aspect ratio",
            f"{len(unfit)} of {len(facts)} differ; {some(map(_sizes, unfit), 1)}",
            "check which photo belongs to which label map" + ("; --skip-bad goes on with the rest" if fitting else ""),
        )
    resized = [one for one in fitting if turned_size(one) != one.photo.size]
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
    with_photo = [one for one in turned if turn_of(one) != 1]
    notes = []
    if turned:
        notes.append(
            f"{count(len(turned), 'photo')} turned upright by EXIF ({some((one.pair.name for one in turned), 3)});"
            " their label maps are taken as drawn on the upright photo, unless the sizes tell otherwise."
        )
    if with_photo:
        notes.append(
            f"{count(len(with_photo), 'label map')} drawn on the photo as stored: turned with it, as the sizes tell "
            f"({some((one.pair.name for one in with_photo), 3)})."
        )
    return notes


def turn_of(one: PairFacts) -> int:
    """The EXIF orientation by which a label map is turned: see `turn_by_sizes`."""
    return turn_by_sizes(one.holds.size, one.photo.size, one.photo.orientation)


def turn_by_sizes(label_map: tuple[int, int], photo: tuple[int, int], orientation: int) -> int:
    """A label map that fits the photo as stored and not as upright was drawn on it as stored: the orientation, else 1.

    Args:
        label_map: (H, W) of its file; `photo`: (H, W) upright.
    """
    sideways = orientation in SIDEWAYS and not same_aspect(label_map, photo)
    return orientation if sideways and same_aspect(label_map, (photo[1], photo[0])) else 1


def turned_size(one: PairFacts) -> tuple[int, int]:
    return (one.holds.size[1], one.holds.size[0]) if turn_of(one) != 1 else one.holds.size


def _sizes(one: PairFacts) -> str:
    (map_height, map_width), (height, width) = one.holds.size, one.photo.size
    return f"{one.pair.label_map.name} is {map_width}x{map_height}, {one.pair.photo.name} is {width}x{height}"
