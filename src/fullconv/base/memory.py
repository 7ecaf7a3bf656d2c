"""Freed memory stays with the process. Road: base. Knows no torch."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # their numbers in malloc.h
LARGE = 1 << 30


def keep_freed_memory() -> None:
    """Let the allocator keep what it is given back, instead of handing it to the system page by page.

    A training step asks for the same large maps as the step before; got anew from the system, every page of them is
    faulted in again, which took a fifth of a step (docs/log.md). Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGE)
        mallopt(TRIM_THRESHOLD, 2 * LARGE - 1)
