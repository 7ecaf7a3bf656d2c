"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

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


def test_the_authors_script_runs_on_a_caffe_net(golden: Path, tmp_path: Path) -> None:
    net = [golden / f"nets/fcn8s_vgg.{kind}" for kind in ("prototxt", "caffemodel")]
    photo = golden.parent / "data/article/cat.jpg"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "caffe_script.py", *net, photo, "labels.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "360x480 labels" in done.stdout
    with Image.open(tmp_path / "labels.png") as labels:
        assert labels.size == (480, 360)
        assert labels.mode == "P"
