"""The same function on many items, on all cores. Road: base. Knows no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from fullconv.base.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_FEW = 64  # items are done in this process: starting others takes longer
_CHUNK = 32


def on_all_cores(function: Callable[[Item], Result], items: Sequence[Item], *, what: str) -> Iterator[Result]:
    """Yield `function` of each item, in their order; memory does not grow with their number.

    Args:
        function: of a module, so that other processes find it.
        what: stands before the progress bar.
    """
    cores = os.cpu_count() or 1
    few = len(items) <= _FEW or cores == 1
    pool: Executor = ThreadPoolExecutor(cores) if few else ProcessPoolExecutor(cores, mp_context=get_context("spawn"))
    with pool:
        found = pool.map(function, items, chunksize=1 if few else _CHUNK)
        yield from progress(found, what=what, total=len(items))
