"""The case that the doctor's rules look at: all samples of a folder, good and bad. Road: study, before the rules.

In: a folder. Out: a Case. Whatever cannot be used stays in it with the reason; only a folder that is no set of samples
at all is an error. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fullconv.base.errors import FullconvError
from fullconv.data.detect import FORMATS, detect
from fullconv.data.formats.listing import Listing, some
from fullconv.data.formats.lists import apply_lists, apply_split_file
from fullconv.data.samples import Sample
from fullconv.data.usable import turn_by_sizes
from fullconv.labels.classfile import find_class_file
from fullconv.labels.decide import as_listed, decide, parse_void
from fullconv.labels.held import held
from fullconv.labels.maps import same_aspect
from fullconv.labels.space import LabelSpace, Value
from fullconv.study.alike import Alike, alike
from fullconv.study.content import Content, content_of
from fullconv.study.examine import Look, examine

_ROUGH = 0.05  # roughness: camvid's hand-drawn maps have 0.009 at the median and 0.035 at most, by JPEG 0.066 at least
_ROUGHER = 4.0  # times the median of the set
_FITS_BETTER = 1.15  # times the other way round


@dataclass(frozen=True)
class Case:
    """All that the rules look at. Places are those of `looks`.

    Args:
        names: one a look.
        splits: one a look: "train", "val", "test" or "all".
        space: the label space, or None where it could not be told (then `space_error` says why).
        samples: those that can be used, by place.
        unknown: place -> values outside the label space.
        content: rows of `content.pixels` are those of `samples`, in their order.
        alike: pairs of places.
    """

    root: Path
    listing: Listing
    looks: tuple[Look, ...]
    names: tuple[str, ...]
    splits: tuple[str, ...]
    space: LabelSpace | None
    space_error: str | None
    notes: tuple[str, ...]
    samples: dict[int, Sample]
    unknown: dict[int, tuple[Value, ...]]
    content: Content | None
    alike: tuple[Alike, ...]

    def named(self, places: Iterable[int]) -> tuple[str, ...]:
        """The samples' names."""
        return tuple(self.names[place] for place in places)

    def few(self, places: Iterable[int]) -> str:
        """The first three samples by name, and how many more."""
        return some(self.named(places), 3)


def read_case(
    data: Path,
    *,
    classes: Sequence[str] | None = None,
    others: str = "void",
    void: str | None = None,
    splits: Path | None = None,
) -> Case:
    """Look at all samples of a folder.

    Args: as `read_samples` has them.
    Raises: LayoutUnknown if the folder is no set of samples; AnnotationError, PairingError, SplitError if its files do
        not even say which photo belongs to which label map; UsageError for a class name or a void that is none.
    """
    asked_void = parse_void(void)
    root, layout, recognised = detect(data)
    listing = FORMATS[layout][1](root)
    listing = apply_split_file(listing, splits) if splits is not None else apply_lists(listing)
    split_of = {pair.name: split for split, pairs in listing.splits.items() for pair in pairs}
    pairs = list({pair.name: pair for pair in listing.pairs()}.values())
    looks = tuple(examine(pairs))
    space, error, notes = _space(looks, listing, data, asked_void)
    if space is not None and (classes or others != "void"):
        space = space.select(classes or space.names, others)
    samples, unknown = _usable(looks, space)
    return Case(
        root=root,
        listing=listing,
        looks=looks,
        names=tuple(pair.name for pair in pairs),
        splits=tuple(split_of[pair.name] for pair in pairs),
        space=space,
        space_error=error,
        notes=(recognised, *listing.notes, *notes),
        samples=samples,
        unknown=unknown,
        content=content_of(list(samples.values()), space.size) if space is not None and samples else None,
        alike=tuple(alike([one.photo for one in looks], [pair.photo for pair in pairs])),
    )


# ---- the label space, from what is sound ----------------------------------------------------------------------------


def _space(
    looks: Sequence[Look], listing: Listing, data: Path, void: Value | str | None
) -> tuple[LabelSpace | None, str | None, tuple[str, ...]]:
    """The label space by the label maps that are sound; None and the reason where it cannot be told."""
    bad = unsound(looks)
    sound = [look.label_map for place, look in enumerate(looks) if look.label_map and place not in bad]
    if not sound:
        return None, "no label map is sound", ()
    together = held((one.holds, one.palette) for one in sound)
    try:
        if listing.classes is not None:
            space, notes = as_listed(listing.classes.space, together, void)
            return space, None, notes
        space, notes = decide(
            together, layout=listing.layout, class_file=find_class_file([*listing.places, data]), void=void
        )
        return space, None, notes
    except FullconvError as error:
        return None, f"{error.found} ({error.must})", ()


def unsound(looks: Sequence[Look]) -> set[int]:
    """Label maps that must not say what the classes are: blended, of another kind than most, or 0 and 255 among ids."""
    blended = {place for place, look in enumerate(looks) if look.label_map and look.label_map.blend is not None}
    return blended | scattered(looks) | of_other_kind(looks) | black_and_white(looks)


def scattered(looks: Sequence[Look]) -> set[int]:
    """Label maps with far more single pixels along their edges than the others: ids that lie close, blended."""
    rough = {place: look.label_map.rough for place, look in enumerate(looks) if look.label_map}
    if not rough:
        return set()
    most = max(_ROUGH, _ROUGHER * median(rough.values()))
    return {place for place, one in rough.items() if one > most}


def of_other_kind(looks: Sequence[Look]) -> set[int]:
    """Label maps in colours where most hold ids, or the other way round."""
    sound = {place: one for place, look in enumerate(looks) if (one := look.label_map) and one.blend is None}
    in_colours = {place for place, one in sound.items() if one.holds.ids is None}
    if 2 * len(in_colours) < len(sound):
        return in_colours
    return {place for place, one in sound.items() if one.holds.colours is None}


def black_and_white(looks: Sequence[Look]) -> set[int]:
    """Label map files with 0 and 255 alone, where most hold other ids."""
    two, more = set(), 0
    for place, look in enumerate(looks):
        if look.label_map is None or look.label_map.blend is not None or not isinstance(look.pair.label_map, Path):
            continue
        ids = set(look.label_map.holds.ids or ())
        if ids == {0, 255}:
            two.add(place)
        elif ids - {0, 255}:
            more += 1
    return two if more > len(two) else set()


def _usable(looks: Sequence[Look], space: LabelSpace | None) -> tuple[dict[int, Sample], dict[int, tuple[Value, ...]]]:
    samples: dict[int, Sample] = {}
    unknown: dict[int, tuple[Value, ...]] = {}
    if space is None:
        return samples, unknown
    known = space.class_of()
    bad = unsound(looks)
    for place, look in enumerate(looks):
        if look.photo is None or look.label_map is None or place in bad:
            continue
        holds = look.label_map.holds
        values = holds.values(in_colours=space.in_colours) or holds.values(in_colours=not space.in_colours)
        strange = tuple(value for value in values if value not in known) if space.others == "error" else ()
        if strange:
            unknown[place] = strange
        elif fitting(look):
            samples[place] = Sample(
                look.pair.name, look.pair.photo, look.pair.label_map, look.photo.size, space, turn(look)
            )
    return samples, unknown


def fitting(look: Look) -> bool:
    """Whether the label map has its photo's aspect ratio, once it is turned as its photo."""
    return look.photo is not None and same_aspect(map_size(look), look.photo.size)


def map_size(look: Look) -> tuple[int, int]:
    """(H, W) of the label map once it is turned as its photo."""
    assert look.label_map is not None
    height, width = look.label_map.holds.size
    return (width, height) if turn(look) >= 5 else (height, width)


def turn(look: Look) -> int:
    """The EXIF orientation by which the label map is turned: 1 unless sizes or edges say that it was drawn before."""
    if look.photo is None or look.label_map is None or look.photo.orientation == 1:
        return 1
    by_sizes = turn_by_sizes(look.label_map.holds.size, look.photo.size, look.photo.orientation)
    if by_sizes == 1 and look.fits is not None and look.fits[1] > _FITS_BETTER * look.fits[0]:
        return look.photo.orientation  # turned by half, or square: the sizes tell nothing, the edges do
    return by_sizes
