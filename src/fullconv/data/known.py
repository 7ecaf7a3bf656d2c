"""Values in label maps that the label space does not know. Road: data, after the label space is decided.

In: facts and a space. Out: facts that stay, what is skipped, what is said; or an error with the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fullconv.base.errors import UnknownLabel
from fullconv.data.formats.listing import count, some
from fullconv.data.looks import diagnosis
from fullconv.data.samples import Skipped
from fullconv.data.survey import PairFacts
from fullconv.labels.decode import decode, pack_one
from fullconv.labels.maps import say_allowed
from fullconv.labels.space import LabelSpace, Value, say_value


def known_values(
    facts: Sequence[PairFacts],
    space: LabelSpace,
    source: str,
    skip_bad: bool,
    *,
    called: Mapping[int, str] = MappingProxyType({}),
) -> tuple[list[PairFacts], list[Skipped], list[str]]:
    """Stop at values outside the space, or skip the samples that have them.

    Args:
        source: what lists the classes.
        called: values outside the space -> what annotation files call them.
    Raises: UnknownLabel naming the first ten, with their place.
    """

    def say(values: Sequence[Value]) -> str:
        return some(_say(value, called) for value in values)

    strange = {one.pair.name: _strange(one, space) for one in facts}
    bad = [one for one in facts if strange[one.pair.name]]
    if not bad or space.others != "error":
        return list(facts), [], []
    values = sorted({value for one in bad for value in strange[one.pair.name]}, key=str)
    if len(bad) == len(facts) or not skip_bad:
        raise UnknownLabel(
            f"{say_allowed(space)} ({source})",
            f"{some((_where(one, strange[one.pair.name][0], called) for one in bad), 10)}; {len(bad)} of "
            f"{count(len(facts), 'label map')} have values outside: {say(values)}{diagnosis(bad)}",
            _what_to_type(values, space, source, called, partly=len(bad) < len(facts)),
        )
    skipped = [
        Skipped(
            one.pair.name,
            one.pair.files,
            f"label: {say(strange[one.pair.name])} outside the label space",
        )
        for one in bad
    ]
    said = f"{count(len(bad), 'sample')} with values outside the label space left out, as asked ({say(values)})."
    return [one for one in facts if not strange[one.pair.name]], skipped, [said]


def _strange(one: PairFacts, space: LabelSpace) -> list[Value]:
    """The values of a label map that the space does not list, the most frequent first."""
    # of the other kind than the space: all of it is strange
    counts = one.holds.values(in_colours=space.in_colours) or one.holds.values(in_colours=not space.in_colours)
    known = space.class_of()
    return sorted((value for value in counts if value not in known), key=lambda value: -counts[value])


def _say(value: Value, called: Mapping[int, str]) -> str:
    return repr(called[value]) if isinstance(value, int) and value in called else say_value(value)


def _where(one: PairFacts, value: Value, called: Mapping[int, str]) -> str:
    raw = decode(one.pair.label_map)
    values = raw.as_colours() if isinstance(value, tuple) else raw.ids
    code = pack_one(value) if isinstance(value, tuple) else value
    if values is None:
        return f"{one.pair.label_map.name} has {_say(value, called)}"
    rows, columns = (values == code).nonzero()
    where = f"at row {rows[0]}, column {columns[0]} ({len(rows)} pixels)"
    return f"{one.pair.label_map.name} has {_say(value, called)} {where}"


def _what_to_type(
    values: Sequence[Value], space: LabelSpace, source: str, called: Mapping[int, str], *, partly: bool
) -> str:
    if any(isinstance(value, int) and value in called for value in values):
        return f"list them in {source}" + ("; or --skip-bad to leave these samples out" if partly else "")
    first = say_value(values[0])
    tips = []
    ids = [value for value in values if isinstance(value, int)]
    if not space.in_colours and ids == [space.size]:
        tips.append(
            f"if the ids count from 1: --void 0; if 0 is background: `background` as the first line of {source}"
        )
    elif len(values) == 1:
        tips.append(f"--void {first} if it means void")
    tips.append(f"`{first.replace(',', ' ')} NAME` in {source} for each" if source.count(".") else f"--void {first}")
    tips += ["--skip-bad to leave these samples out"] if partly else []
    return "; or ".join(dict.fromkeys(tips))
