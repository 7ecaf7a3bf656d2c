"""A converted classifier saved and loaded in a process that has not its class."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fullconv.base.errors import BundleError, SizeMismatch
from fullconv.nets.converted import load_converted, save_converted
from small_nets import PREPARATION, converted

KINDS = ("residual", "tf_same", "patches", "vgg", "alexnet")


@pytest.mark.parametrize("kind", KINDS)
def test_it_scores_what_the_network_in_memory_scores(kind: str, tmp_path: Path) -> None:
    made = converted(kind)
    save_converted(made, tmp_path, name=kind, preparation=PREPARATION, class_names=("a", "b", "c", "d"))
    loaded = load_converted(tmp_path)
    photo = np.random.default_rng(0).integers(0, 256, (300, 331, 3), np.uint8)
    found = loaded.scores(photo)
    stride = int(loaded.stride[0])
    rows, columns = (224 + (side - 224) // stride * stride for side in photo.shape[:2])
    with torch.no_grad():
        truth = made.network.eval()(PREPARATION.prepare(photo[:rows, :columns])[None])[0].numpy()
    assert found.shape == truth.shape
    assert np.allclose(found, truth, atol=1e-4)
    assert loaded.class_names == ("a", "b", "c", "d")


def test_it_loads_without_the_code_it_came_from(tmp_path: Path) -> None:
    save_converted(converted("residual"), tmp_path / "made", name="residual", preparation=PREPARATION)
    code = (
        "import sys, numpy as np\n"
        "from fullconv.nets.converted import load_converted\n"
        f"found = load_converted({str(tmp_path / 'made')!r}).scores(np.zeros((256, 288, 3), np.uint8))\n"
        "assert 'small_nets' not in sys.modules and 'timm' not in sys.modules\n"
        "print(found.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "(4, 2, 3)"


def test_what_is_no_such_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"card\.json"):
        load_converted(tmp_path)
    save_converted(converted("residual"), tmp_path, name="residual", preparation=PREPARATION)
    with pytest.raises(SizeMismatch, match="rows: 100"):
        load_converted(tmp_path).scores(np.zeros((100, 300, 3), np.uint8))
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(card | {"schema": "fullconv.bundle/1"}))
    with pytest.raises(BundleError, match="bundle/1"):
        load_converted(tmp_path)
