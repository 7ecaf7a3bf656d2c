"""The same function on many items, on all cores. Road: base. Knows no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fullconv.base.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_FEW = 64  # items are done by threads of this process: starting others takes longer


def on_all_cores(
    function: Callable[[Item], Result], items: Sequence[Item], *, what: str, long: bool = False
) -> Iterator[Result]:
    """Yield `function` of each item, in their order; memory does not grow with their number.

    A script that calls this needs no `if __name__ == "__main__"`, which processes started by Python itself ask for;
    processes started once do the next call's work too (decision 0016).

    Args:
        function: of a module, so that other processes find it.
        what: stands before the progress bar.
        long: each item takes seconds, so that processes are worth starting for two. Each has one thread, unless
            OMP_NUM_THREADS is set.
    """
    from joblib import Parallel, delayed

    backend = "threading" if len(items) <= (1 if long else _FEW) else "loky"
    workers = Parallel(n_jobs=os.cpu_count() or 1, backend=backend, return_as="generator")
    yield from progress(workers(delayed(function)(item) for item in items), what=what, total=len(items))
