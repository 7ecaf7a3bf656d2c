"""Randomness by name, from one seed. Road: base. Knows no torch.

`rng(seed, "crop", epoch, index)` gives the same numbers on every machine, in every process, in any order of calls.
"""

from __future__ import annotations

import hashlib

import numpy as np


def integer(seed: int, *names: str | int) -> int:
    """A whole number of 63 bits that depends on the seed and the names alone."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator that depends on the seed and the names alone."""
    return np.random.default_rng(integer(seed, *names))
