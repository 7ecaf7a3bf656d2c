"""Photos and label maps that belong together: by stem, or by a stem with one constant prefix or suffix on either side.

Road: data, below the formats. In: paths. Out: pairs and what is left over. Knows no pixels.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from fullconv.base.errors import PairingError
from fullconv.data.formats.listing import Pair, count, some
from fullconv.data.samples import Skipped

PROBES = 6  # stems less one that suggest rules
MOST_PARTNERS = 3000  # that each is held against


@dataclass(frozen=True)
class Affix:
    """What stands before and after the common part of a stem; at most one of the two is not empty."""

    before: str = ""
    after: str = ""

    def strip(self, stem: str) -> str | None:
        """The stem without the affix, or None if it does not have it."""
        fits = stem.startswith(self.before) and stem.endswith(self.after)
        core = stem[len(self.before) : len(stem) - len(self.after)]
        return core if fits and core else None

    def __str__(self) -> str:
        return f"{self.before}*{self.after}"


@dataclass(frozen=True)
class Pairing:
    """Pairs, and the files that have no partner."""

    pairs: tuple[Pair, ...]
    alone: tuple[Skipped, ...]
    note: str


def pair(photos: Sequence[Path], maps: Sequence[Path], *, photo_root: Path, map_root: Path) -> Pairing:
    """Pair photos with label maps by the path below their folder, without suffix.

    Raises: PairingError if nothing pairs, if a photo has several label maps, or a label map several photos.
    """
    photo_stems, map_stems = _stems(photos, photo_root), _stems(maps, map_root)
    rule = _rule(sorted(photo_stems), sorted(map_stems))
    by_core = _by_core(photo_stems, rule[0]), _by_core(map_stems, rule[1])
    shared = [core for core in by_core[0] if core in by_core[1]]
    if not shared:
        raise PairingError(
            "photos and label maps pair by stem, or by a stem with one constant prefix or suffix",
            f"none of {count(len(photos), 'photo')} and {count(len(maps), 'label map')} do: "
            f"{_example(photos, photo_root)}; {_example(maps, map_root)}",
            "name each label map as its photo: 0017.jpg and 0017.png, or 0017.jpg and 0017_mask.png",
        )
    for cores, what, other in ((by_core[0], "photo", "label map"), (by_core[1], "label map", "photo")):
        _check_single({core: cores[core] for core in shared}, what, other)
    pairs = tuple(
        Pair(_stem(by_core[0][core][0], photo_root), by_core[0][core][0], by_core[1][core][0]) for core in shared
    )
    used = {path for item in pairs for path in item.files}
    alone = (*_alone(photos, used, "photo without a label map"), *_alone(maps, used, "label map without a photo"))
    return Pairing(pairs, alone, _say(len(pairs), rule, alone))


def _stems(paths: Iterable[Path], root: Path) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        stems[_stem(path, root)].append(path)
    return stems


def _stem(path: Path, root: Path) -> str:
    # one spelling for accented letters: some systems write them as letter and accent
    return unicodedata.normalize("NFC", path.relative_to(root).with_suffix("").as_posix())


def _rule(photos: Sequence[str], maps: Sequence[str]) -> tuple[Affix, Affix]:
    """The affixes of photos and label maps under which most pair; none if that pairs half of either."""
    exact = len(set(photos) & set(maps))
    plain = (Affix(), Affix())
    if exact and 2 * exact >= min(len(photos), len(maps)):
        return plain
    votes = Counter(rule for rule in _candidates(photos, maps))
    scored = [(_pairs_under(rule, photos, maps), _simplicity(rule), rule) for rule, _ in votes.most_common(40)]
    scored += [(exact, _simplicity(plain), plain)]
    best = max(scored, key=lambda entry: entry[:2])
    rivals = {
        rule[1]
        for pairs, _, rule in scored
        if pairs == best[0] > 0 and rule[0] == best[2][0] and rule[1] != best[2][1] and _disjoint(rule, best[2], maps)
    }
    if rivals:
        raise PairingError(
            "each photo has one label map",
            f"{some(sorted(map(str, {best[2][1], *rivals})))} all fit the same {count(best[0], 'photo')}",
            "leave one kind in that folder and move the others elsewhere",
        )
    return best[2]


def _candidates(photos: Sequence[str], maps: Sequence[str]) -> Iterable[tuple[Affix, Affix]]:
    """Rules that a few stems of the shorter list suggest: more of these have a partner."""
    swap = len(maps) < len(photos)
    few, many = (maps, photos) if swap else (photos, maps)
    for probe in [few[index * (len(few) - 1) // PROBES] for index in range(PROBES + 1)]:
        matcher = SequenceMatcher(None, "", probe, autojunk=False)
        core = max(re.findall(r"\d+|\D+", probe), key=lambda part: (part.isdigit(), len(part)))
        for stem in [stem for stem in many if core in stem][:MOST_PARTNERS] or many[:MOST_PARTNERS]:
            matcher.set_seq1(stem)
            match = matcher.find_longest_match()
            if not match.size:
                continue
            ours = Affix(probe[: match.b], probe[match.b + match.size :])
            theirs = Affix(stem[: match.a], stem[match.a + match.size :])
            if not (ours.before and ours.after) and not (theirs.before and theirs.after):
                yield (theirs, ours) if swap else (ours, theirs)


def _pairs_under(rule: tuple[Affix, Affix], photos: Sequence[str], maps: Sequence[str]) -> int:
    ours = {rule[0].strip(stem) for stem in photos} - {None}
    return len(ours & {rule[1].strip(stem) for stem in maps})


def _simplicity(rule: tuple[Affix, Affix]) -> tuple[int, int]:
    parts = (rule[0].before, rule[0].after, rule[1].before, rule[1].after)
    return -sum(map(bool, parts)), -sum(map(len, parts))


def _disjoint(one: tuple[Affix, Affix], other: tuple[Affix, Affix], maps: Sequence[str]) -> bool:
    used = [{stem for stem in maps if rule[1].strip(stem) is not None} for rule in (one, other)]
    return not used[0] & used[1]


def _by_core(stems: dict[str, list[Path]], affix: Affix) -> dict[str, list[Path]]:
    cores: dict[str, list[Path]] = defaultdict(list)
    for stem, paths in stems.items():
        core = affix.strip(stem)
        if core is not None:
            cores[core] += paths
    return cores


def _check_single(cores: dict[str, list[Path]], what: str, other: str) -> None:
    several = [paths for paths in cores.values() if len(paths) > 1]
    if several:
        raise PairingError(
            f"each {other} has one {what}",
            f"{count(len(several), 'stem')} with more than one {what}: "
            + some((" and ".join(path.name for path in paths) for paths in several), 3),
            f"keep one {what} for each stem and move the others elsewhere",
        )


def _alone(paths: Sequence[Path], used: set[Path], why: str) -> list[Skipped]:
    return [Skipped(path.stem, (path,), f"unpaired: {why}") for path in paths if path not in used]


def _example(paths: Sequence[Path], root: Path) -> str:
    return some((f"{root.name}/{path.relative_to(root).as_posix()}" for path in paths), 2)


def _say(pairs: int, rule: tuple[Affix, Affix], alone: Sequence[Skipped]) -> str:
    how = "by equal stems" if rule == (Affix(), Affix()) else f"photos {rule[0]} with label maps {rule[1]}"
    left = f"; {count(len(alone), 'file')} unpaired: {some((item.files[0].name for item in alone), 3)}" if alone else ""
    return f"{count(pairs, 'photo')} paired with their label maps {how}{left}."
