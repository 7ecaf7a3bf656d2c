"""What the documents promise is there: commands, links, names, pictures, and the two commands of the README."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import fullconv
from fullconv.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WRITTEN_BY_HAND = [page for page in PAGES if "made by scripts/reference" not in page.read_text(encoding="utf-8")]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TWO_COMMANDS = ("pip install . && fullconv demo", "pip install '.[test]' && pytest")


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose_of(text: str) -> str:
    """Markdown without its code blocks and code spans."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def blocks_of(text: str) -> list[tuple[str, str]]:
    """(language, code) of every code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def links_of(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose_of(text))


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there, and to headings that the page linked to does not have."""
    broken = []
    for link in links_of(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file) if file else page
        if not target.exists() or (heading and heading not in headings_of(target)):
            broken.append(link)
    return broken


def headings_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(group: click.Group = cli, path: str = "") -> dict[str, click.Command]:
    """Full name -> command, all levels."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{path}{name}"] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{path}{name} ")
    return found


def commands_in(text: str) -> set[tuple[str, ...]]:
    """The words after `fullconv` wherever it is typed in code: ("data", "show"), ("run",) ..."""
    code = [block for kind, block in blocks_of(text) if kind in ("", "sh")] + re.findall(r"`([^`\n]+)`", text)
    lines = [line for block in code for line in block.splitlines()]
    # a command stands at the start of a line or after && and is followed by a lower-case word
    typed = [re.findall(r"(?:^|&& )fullconv ([a-z]+)(?: ([a-z]+)\b)?", line.strip()) for line in lines]
    return {tuple(word for word in words if word) for found in typed for words in found}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found() -> None:
    page = ROOT / "README.md"
    text = "[a](docs/nowhere.md) [b](LICENSE) [c](docs/glossary.md#glossary) [d](docs/glossary.md#no) `[e](not/a/link)`"
    assert broken_links(page, text) == ["docs/nowhere.md", "docs/glossary.md#no"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    for path, command in commands().items():
        if path.split()[0] == name:
            assert command.help, f"fullconv {path} has no help"
            assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []


def test_every_command_stands_in_the_documents() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in WRITTEN_BY_HAND)
    missing = [path for path in commands() if f"fullconv {path}" not in text]
    assert missing == []


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=relative)
def test_commands_in_the_documents_exist(page: Path) -> None:
    known = commands()
    unknown = [words for words in commands_in(page.read_text(encoding="utf-8")) if not stands(words, known)]
    assert unknown == []


def stands(words: tuple[str, ...], known: dict[str, click.Command]) -> bool:
    first = known.get(words[0])
    return first is not None and (not isinstance(first, click.Group) or " ".join(words) in known)


def test_a_command_that_does_not_exist_is_found() -> None:
    assert commands_in("```sh\npip install . && fullconv fly\nfullconv data show DATA\n```") == {
        ("fly",),
        ("data", "show"),
    }
    assert not stands(("fly",), commands())


def test_options_in_the_documents_exist() -> None:
    options = {name for command in commands().values() for param in command.params for name in param.opts}
    options |= {"--help", "--version", "--debug"}
    text = "\n".join(page.read_text(encoding="utf-8") for page in WRITTEN_BY_HAND)
    typed = {
        option
        for line in text.splitlines()
        if "pip install" not in line
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", line)
    }
    assert typed - options == set()


def test_the_readme_gives_exactly_two_commands_to_set_up() -> None:
    assert [block.strip() for kind, block in blocks_of(README) if kind == "sh"] == list(TWO_COMMANDS)


def test_ci_runs_what_the_readme_gives() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert TWO_COMMANDS[1] in ci
    assert "fullconv demo" in ci


def test_the_tree_in_the_readme_is_the_tree() -> None:
    block = next(part for _, part in blocks_of(README) if "src/fullconv/" in part)
    inside = re.findall(r"^  (\S+)", block, flags=re.MULTILINE)
    there = {path.name + ("/" if path.is_dir() else "") for path in (ROOT / "src" / "fullconv").iterdir()}
    assert set(inside) <= there
    folders = {path.parent.name + "/" for path in (ROOT / "src" / "fullconv").glob("*/*.py")}
    assert folders <= set(inside)
    assert all((ROOT / name).exists() for name in re.findall(r"^(\S+)", block, flags=re.MULTILINE))


@pytest.mark.parametrize("name", fullconv.__all__)
def test_every_public_name_is_there_and_has_a_docstring(name: str) -> None:
    thing = getattr(fullconv, name)
    assert thing.__doc__
    assert importlib.import_module(thing.__module__).__name__.startswith("fullconv.")


def test_the_reference_names_every_command_option_and_public_name() -> None:
    """scripts/check compares the whole text, which also depends on the version of click."""
    reference = ROOT / "docs" / "reference"
    pages = {name: (reference / name).read_text(encoding="utf-8") for name in ("commands.md", "python.md")}
    for path, command in commands().items():
        section = pages["commands.md"].split(f"## fullconv {path}\n")[1].split("\n## ")[0]
        options = [param.opts[-1] for param in command.params if isinstance(param, click.Option)]
        assert [option for option in options if option not in section] == []
    assert [name for name in fullconv.__all__ if f"\n## {name}\n" not in pages["python.md"]] == []


def test_every_decision_is_listed_and_says_what_it_must() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = links_of((folder / "README.md").read_text(encoding="utf-8"))
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert sorted(listed) == pages
    for page in pages:
        text = (folder / page).read_text(encoding="utf-8")
        for part in (
            "Status: ",
            "**Context.**",
            "**Decision.**",
            "**Alternatives.**",
            "**What would change our mind.**",
        ):
            assert part in text, f"{page} lacks {part}"


def test_the_example_is_short() -> None:
    lines = (ROOT / "examples" / "whole_road.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 60


def test_the_numbers_are_made_from_the_results() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "numbers", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
