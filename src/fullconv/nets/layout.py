"""Which dimension of a tensor holds rows, columns and channels. Road: nets, read by trace and surgery. Knows no torch.

A layout has one entry a dimension; an entry is a run of atoms, slowest first: after `flatten(1)` of (N, C, H, W) it
is (n), (c h w). A dimension of size 1 that holds nothing is the empty run. Reshaping moves atoms between runs and may
split one ("c" into "c.0" and "c.1", as a channel shuffle does). So the order of a flattened input is never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Run = tuple["Atom", ...]
Layout = tuple[Run, ...]


@dataclass(frozen=True)
class Atom:
    name: str
    size: int


def of_map(shape: tuple[int, ...]) -> Layout:
    """(N, C, H, W)."""
    return tuple((Atom(name, size),) for name, size in zip("nchw", shape, strict=True))


def names(layout: Layout) -> str:
    """For messages: "n, c, h w"."""
    return ", ".join(" ".join(a.name for a in run) or "1" for run in layout)


def where(layout: Layout, name: str) -> int | None:
    """The dimension that holds `name` alone, else None."""
    for dim, run in enumerate(layout):
        if len(run) == 1 and run[0].name == name:
            return dim
    return None


def is_map(layout: Layout) -> bool:
    """Rows and columns each have a dimension of their own."""
    return where(layout, "h") is not None and where(layout, "w") is not None


def holds(layout: Layout, name: str) -> bool:
    return any(atom.name == name for run in layout for atom in run)


def reshaped(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """The layout after a reshape to `shape`; None where rows or columns would be torn apart."""
    rest = [atom for run in layout for atom in run]
    after: list[Run] = []
    for size in shape:
        run: list[Atom] = []
        while prod(a.size for a in run) < size or (size == 1 and not run and rest and rest[0].size == 1):
            if not rest:
                return None
            atom, missing = rest.pop(0), size // prod(a.size for a in run)
            if atom.size > missing:
                if atom.size % missing or atom.name in "hw":
                    return None
                rest.insert(0, Atom(atom.name + ".1", atom.size // missing))
                atom = Atom(atom.name + ".0", missing)
            run.append(atom)
        if prod(a.size for a in run) != size:
            return None
        after.append(tuple(run))
    if after:
        after[-1] += tuple(rest)  # only atoms of size 1 can be left
    return tuple(after)


def settled(layout: Layout) -> Layout:
    """A map of four dimensions with its channels as they now lie: a shuffle of channels is over and done with."""
    if len(layout) != 4 or not is_map(layout):
        return layout
    keep = (0, where(layout, "h"), where(layout, "w"))
    return tuple(run if d in keep else (Atom("c", size_of(run)),) for d, run in enumerate(layout))


def size_of(run: Run) -> int:
    return prod(atom.size for atom in run)


def permuted(layout: Layout, order: tuple[int, ...]) -> Layout:
    return tuple(layout[i] for i in order)


def without(layout: Layout, dims: tuple[int, ...], keep: bool) -> Layout:
    """The layout after a reduction over `dims`; kept dimensions are of size 1 and hold nothing."""
    dims = tuple(d % len(layout) for d in dims)
    if keep:
        return tuple(() if i in dims else run for i, run in enumerate(layout))
    return tuple(run for i, run in enumerate(layout) if i not in dims)
