"""Split samples into train and val: seeded, stratified by class, exact duplicates kept together. Knows no pixels.

Source: the order of work is that of iterative stratification (Sechidis et al. 2011): the rarest class is shared out
first, since the common ones can be evened out later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fullconv.base import seeds

SHARE = 0.2


@dataclass(frozen=True)
class Item:
    """What the split needs to know of a sample: its name, the classes in it, and its photo's content."""

    name: str
    classes: frozenset[int]
    content: str


def hold_out(items: Sequence[Item], *, seed: int, share: float = SHARE) -> frozenset[str]:
    """Names of the samples to hold out: about `share` of all and of each class.

    Items of one content go together. The same items and seed give the same names, in whatever order they come.
    Nothing is held out of fewer than 3 different photos.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.content].append(item)
    if len(groups) < 3:
        return frozenset()
    order = sorted(groups, key=lambda content: min(item.name for item in groups[content]))
    seeds.rng(seed, "split").shuffle(order)
    return _share_out([groups[content] for content in order], len(items), share)


def _share_out(groups: Sequence[Sequence[Item]], total: int, share: float) -> frozenset[str]:
    classes_of = [frozenset().union(*(item.classes for item in group)) for group in groups]
    frequency: dict[int, int] = defaultdict(int)
    for classes in classes_of:
        for index in classes:
            frequency[index] += 1
    wanted = {index: _target(number, share) for index, number in frequency.items()}
    room = max(1, round(share * total))
    held: list[int] = []
    undecided = set(range(len(groups)))
    for rare in [*sorted(frequency, key=lambda index: (frequency[index], index)), None]:
        for place in sorted(undecided):
            if rare is not None and rare not in classes_of[place]:
                continue
            undecided.discard(place)
            if _fits(groups[place], classes_of[place], wanted, rare, room):
                held.append(place)
                room -= len(groups[place])
                for index in classes_of[place]:
                    wanted[index] -= 1
    held = held or [min(range(len(groups)), key=lambda place: len(groups[place]))]
    return frozenset(item.name for place in held for item in groups[place])


def _target(number: int, share: float) -> int:
    return max(1, round(share * number)) if number > 1 else 0


def _fits(group: Sequence[Item], classes: Collection[int], wanted: dict[int, int], rare: int | None, room: int) -> bool:
    if len(group) >= 2 * room or any(wanted[index] < 0 for index in classes):
        return False
    return rare is None or wanted[rare] > 0
