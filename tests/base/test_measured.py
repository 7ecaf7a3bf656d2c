"""What work takes: its seconds, and its memory beyond what was held."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from fullconv.base.measured import measured


def test_the_seconds_are_those_of_the_work_and_its_result_comes_back() -> None:
    found = measured(lambda: time.sleep(0.05) or "done")
    assert found.value == "done"
    assert 0.05 <= found.seconds < 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_the_peak_is_what_the_work_needs_beyond_what_was_held() -> None:
    held = np.ones(40_000_000, np.uint8)
    peak = measured(lambda: np.ones(60_000_000, np.uint8).sum()).peak_bytes
    assert peak is not None
    assert 50e6 < peak < 90e6
    assert held.sum() == 40_000_000
