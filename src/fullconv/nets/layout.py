"""Which dimension of a tensor holds rows, columns and channels. Road: nets, read by trace and surgery. Knows no torch.

A layout has one entry a dimension; an entry is a run of atoms, slowest first: after `flatten(1)` of (N, C, H, W) it
is (n), (c h w). A dimension of size 1 that holds nothing is the empty run. Reshaping moves atoms between runs and may
split one ("c" into "c.0" and "c.1", as a channel shuffle does). So the order of a flattened input is never guessed.
Rows may be split too: "h.0" numbers blocks of rows, "h.1" the row inside its block. Space to depth brings "h.1" among
the channels, and a tensor that comes out of that is a map again, of larger cells.
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

    @property
    def root(self) -> str:
        """What it is a part of: "c" of "c.0"."""
        return self.name.partition(".")[0]


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
    """Whether any dimension holds this, or a part of it."""
    return any(atom.root == name for run in layout for atom in run)


def is_spatial(run: Run) -> bool:
    """Whether a dimension holds rows or columns, or parts of them."""
    return any(atom.root in ("h", "w") for atom in run)


def reshaped(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """The layout after a reshape to `shape`; None where it has no layout that can be followed."""
    rest = [atom for run in layout for atom in run]
    after: list[Run] = []
    for size in shape:
        run: list[Atom] = []
        while prod(a.size for a in run) < size or (size == 1 and not run and rest and rest[0].size == 1):
            if not rest:
                return None
            atom, missing = rest.pop(0), size // prod(a.size for a in run)
            if atom.size > missing:
                if atom.size % missing or (atom.name != atom.root and is_spatial((atom,))):
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
    layout = tuple(whole_again(run) for run in layout)
    if len(layout) != 4 or not is_map(layout):
        return layout
    keep = (0, where(layout, "h"), where(layout, "w"))
    return tuple(run if d in keep else (Atom("c", size_of(run)),) for d, run in enumerate(layout))


def whole_again(run: Run) -> Run:
    """Rows that were split into blocks, and now lie in order again: (h.0 h.1) is (h)."""
    parts = [atom.name for atom in run]
    for name in "hw":
        if parts == [f"{name}.0", f"{name}.1"]:
            return (Atom(name, size_of(run)),)
    return run


def block(layout: Layout) -> tuple[int, int] | None:
    """Rows and columns of the block that each cell now holds among its channels; None where nothing is so laid out."""
    rows, columns = where(layout, "h.0"), where(layout, "w.0")
    rest = [run for d, run in enumerate(layout) if d not in (rows, columns)]
    if len(layout) != 4 or rows is None or columns is None or [a.name for a in rest[0]] != ["n"]:
        return None
    inside = {atom.name: atom.size for atom in rest[1]}
    return (inside["h.1"], inside["w.1"]) if {"h.1", "w.1"} <= set(inside) else None


def of_blocks(layout: Layout) -> Layout:
    """The same tensor as a map whose cells are the blocks."""
    names = {where(layout, "h.0"): "h", where(layout, "w.0"): "w", 0: "n"}
    return tuple((Atom(names.get(d, "c"), size_of(run)),) for d, run in enumerate(layout))


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
