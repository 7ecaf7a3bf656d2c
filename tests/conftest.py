"""What all tests share: where the real samples are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command sets it; torch is not loaded yet


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository; tests that need it are skipped where it is not."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the real samples (../shared/data beside the repository) are not here")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """What the original Caffe computed."""
    return shared / "caffe-golden"
