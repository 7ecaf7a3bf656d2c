"""A journal on a full disk says so in the form of every error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fullconv.base.errors import DiskFull
from fullconv.base.journal import append_journal


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a file that is always full")
def test_a_full_disk_is_said() -> None:
    with pytest.raises(DiskFull, match="free space"):
        append_journal(Path("/dev/full"), {"step": 1})
