"""What the original Caffe computed, as test cases: ../shared/caffe-golden (its README says how it was made)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "caffe-golden"


@pytest.fixture
def training(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the runs, to run in."""
    for path in (golden / "training").iterdir():
        os.symlink(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(path: str, key: str | None = None) -> list[dict[str, Any]]:
    """The cases of an index; none where the folder is not."""
    file = GOLDEN / path
    if not file.exists():
        return []
    found = json.loads(file.read_text())
    return list(found if key is None else found[key])


def must_be_close(found: NDArray[Any], wanted: NDArray[Any], tolerance: float, what: str) -> None:
    """Raises unless both have one shape, and differ at most by a share of the largest number."""
    if found.shape != wanted.shape:
        raise AssertionError(f"{what} has shape {found.shape}, Caffe's {wanted.shape}")
    apart = float(np.abs(found - wanted).max(initial=0))
    if not apart <= tolerance * float(np.abs(wanted).max(initial=0)):
        raise AssertionError(f"{what} is off by {apart:.3g} where the largest is {np.abs(wanted).max():.3g}")
