"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fullconv.data.scenes import write_scenes

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_whole_road_in_python_runs_and_leaves_a_bundle(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=6, val=3, size=(64, 96))
    done = subprocess.run(
        [sys.executable, EXAMPLES / "whole_road.py", scenes, "3"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(f"{stage}: mean IoU" in done.stdout for stage in ("fcn32s", "fcn16s", "fcn8s"))
    assert (tmp_path / "whole-road-bundle" / "card.json").exists()


def test_the_whole_road_is_a_page() -> None:
    assert len((EXAMPLES / "whole_road.py").read_text(encoding="utf-8").splitlines()) < 60
