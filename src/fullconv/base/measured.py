"""What a piece of work takes: seconds, and memory beyond what was held. Road: base. Knows no torch."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Measured(Generic[T]):
    """What the work gave, its wall time, and its peak of memory beyond what was held before (Linux; elsewhere None)."""

    value: T
    seconds: float
    peak_bytes: float | None


def measured(work: Callable[[], T]) -> Measured[T]:
    """Do the work once, and measure it."""
    held = reset_peak()
    start = time.perf_counter()
    value = work()
    seconds = time.perf_counter() - start
    peak = status_bytes("VmHWM")
    return Measured(value, seconds, None if held is None or peak is None else max(0, peak - held))


def reset_peak() -> int | None:
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before hides what is needed now
    except (AttributeError, OSError):
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return status_bytes("VmRSS")


def status_bytes(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":")), None)
