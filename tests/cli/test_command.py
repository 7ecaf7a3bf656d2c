"""The command: quick help, three-line errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fullconv.cli import COMMANDS, main

HELP = """
import sys
from fullconv.cli import main

try:
    main(["--help"])
finally:
    assert "torch" not in sys.modules
"""


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def is_three_lines(text: str) -> bool:
    lines = text.strip().splitlines()
    return [line.split(":")[0] for line in lines] == ["error", "found", "try"]


def test_help_comes_in_under_half_a_second_and_without_torch() -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.5
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert "Usage" in out


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["run"],
        ["run", "DATA", "--out", "X", "--minutes", "soon"],
        ["run", "DATA", "--out", "X", "--head", "2s"],
        ["run", "DATA", "--out", "X", "--minutes", "3", "--steps", "4"],
        ["run", "DATA", "--out", "X", "--no-classifier", "--classifier-data", "Y"],
        ["evaluate"],
        ["predict", "--nonsense"],
    ],
)
def test_a_wrong_command_is_three_lines_and_exit_2(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, err = run(capsys, *words)
    assert code == 2
    assert is_three_lines(err), err
    assert out == ""


def test_data_that_is_not_there_is_three_lines_and_exit_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "run", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"))
    assert code == 1
    assert is_three_lines(err), err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, _, err = run(capsys, "--debug", "run", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"))
    assert "Traceback" in err


def test_an_unexpected_fault_is_three_lines_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault\nin two lines")

    monkeypatch.setattr("fullconv.road.demo", broken)
    code, _, err = run(capsys, "demo")
    assert code == 1
    assert is_three_lines(err), err


def test_ctrl_c_exits_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fullconv.road.demo", stopped)
    code, _, err = run(capsys, "demo")
    assert code == 130
    assert "same command" in err


def test_what_keeps_no_checkpoint_does_not_promise_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fullconv.cli.models.chosen_classifier", stopped)
    for words in (["classify", "a.jpg"], ["dense", "a.jpg"], ["inspect", "x"], ["convert", "x", "--out", "run"]):
        code, _, err = run(capsys, *words)
        assert (code, err.strip()) == (130, "stopped")


@pytest.mark.parametrize("words", [[], ["data"]])
def test_without_a_word_the_help_is_shown(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, err = run(capsys, *words)
    assert code == 2
    assert "Usage: fullconv" in out + err
    assert "error:" not in out + err
    assert len((out + err).splitlines()) > 5
