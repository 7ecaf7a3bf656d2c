"""`fullconv data show`: what was read, as text and as JSON; errors in three lines with an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_folders import paired, photo

from fullconv.cli import main


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["data", "show", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_show_prints_notes_classes_and_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paired(tmp_path, ids=(0, 4, 255))
    photo(tmp_path / "images/alone.jpg", 9)
    assert run(str(tmp_path)) == 0
    text = capsys.readouterr().out
    for expected in ("Read as photos paired with label maps", "class_4", "void", "4 train, 1 val", "alone: unpaired"):
        assert expected in text


def test_show_json_prints_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paired(tmp_path, ids=(0, 1, 2, 255))
    assert run(str(tmp_path), "--json", "--classes", "class_0, class_2", "--others", "void") == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in document["label_space"]["classes"]] == ["class_0", "class_2"]
    assert [row["pixels"] for row in document["classes"]] == [5 * 8 * 24, 5 * 8 * 24, 5 * 16 * 24]


def test_show_takes_the_flags_of_reading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paired(tmp_path / "data", ids=(0, 128, 255))
    (tmp_path / "splits.txt").write_text("0000 train\n0001 train\n0002 val\n0003 test\n0004 test\n")
    assert run(str(tmp_path / "data"), "--void", "none", "--splits", str(tmp_path / "splits.txt"), "--seed", "3") == 0
    assert "2 train, 1 val, 2 test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"), [(["nowhere"], 1), (["data", "--classes", "unicorn"], 2), (["data", "--void", "x"], 2)]
)
def test_errors_are_three_lines_with_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int
) -> None:
    paired(tmp_path / "data")
    assert run(str(tmp_path / words[0]), *words[1:]) == code
    caught = capsys.readouterr()
    assert [line[:7] for line in caught.err.splitlines()] == ["error: ", "found: ", "try:   "]
    assert caught.out == ""
