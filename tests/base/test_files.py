"""A file that cannot be written where it was asked for is told in the form of every error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fullconv.base.errors import Unwritable
from fullconv.base.files import write_bytes


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("kept")
    for path in (tmp_path / "afile" / "made.json", tmp_path / "afile" / "sub" / "made.json"):
        with pytest.raises(Unwritable, match=r"^error: made\.json.*\nfound: .*afile.*(Not a directory|exists)\ntry: "):
            write_bytes(path, b"new")
    assert (tmp_path / "afile").read_text() == "kept"


def test_a_file_that_is_a_folder_is_said_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    (tmp_path / "made.json").mkdir()
    with pytest.raises(Unwritable):
        write_bytes(tmp_path / "made.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["made.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unwritable, match="Permission denied"):
        write_bytes(tmp_path / "made.json", b"new")
