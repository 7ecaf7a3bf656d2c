"""Progress with time left on a terminal, silence elsewhere. Road: base. Knows no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(
    items: Iterable[T], *, what: str, total: int | None = None, of: Callable[[T], int] | None = None
) -> Iterator[T]:
    """Yield `items`; show a bar with time left on stderr if that is a terminal.

    Args:
        what: stands before the bar.
        total: how many items there will be.
        of: tells from an item how many there will be, where that changes on the way.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            bar.update(task, advance=1, total=of(item) if of else total)
            yield item
