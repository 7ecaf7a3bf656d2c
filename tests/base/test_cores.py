"""Work on all cores: results in order, by threads and by processes, from a script as people write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fullconv.base.cores import on_all_cores

SCRIPT = """
import math
from fullconv.base.cores import on_all_cores
print(sum(on_all_cores(math.factorial, [number % 5 for number in range(1000)], what="work")))
"""


@pytest.mark.parametrize("number", [0, 1, 10, 300])
def test_results_come_in_the_order_of_the_items(number: int) -> None:
    assert list(on_all_cores(str, range(number), what="work")) == [str(item) for item in range(number)]


def test_a_script_without_a_guard_works(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(200 * (1 + 1 + 2 + 6 + 24)), done.stderr


def test_an_error_of_an_item_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(on_all_cores((1).__floordiv__, [1] * 100 + [0], what="work"))
