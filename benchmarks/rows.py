"""What the benchmarks share: a row a case, kept as it comes, and ways that take turns on the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from road import beside, git, machine

from fullconv.base.files import content_hash, read_json, write_json
from fullconv.nets.bundle import versions
from fullconv.study_answers import small_code

FOLDER = Path(__file__).parent / "results"


def run(name: str, cases: Mapping[str, Callable[[], dict[str, Any]]], asked: Iterable[str]) -> None:
    """Measure the cases asked for (all, if none) and keep each row; the rows of other cases and machines stay, with
    their commit.
    """
    path = FOLDER / f"{name}.json"
    for case in list(asked) or list(cases):
        row = {"case": case, "commit": commit(), "date": time.strftime("%Y-%m-%d"), "machine": machine()}
        row |= cases[case]()
        old = read_json(path)["rows"] if path.exists() else []
        order = list(cases)
        rows = sorted(beside(old, row), key=lambda one: order.index(one["case"]) if one["case"] in order else len(order))
        document = {"versions": versions(), "command": f"python benchmarks/{name}.py"}
        write_json(path, document | {"rows": rows})
        print(row, flush=True)


def commit() -> str:
    """The commit, with a plus where the sources differ from it."""
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else "")


def small_trained() -> str:
    """Names the code that trains small networks: what it trained at an earlier commit is not trained again."""
    return content_hash(*small_code())[:12]


def in_turns(*ways: Callable[[], Any], rounds: int = 5) -> list[list[float]]:
    """Seconds of each way, `rounds` of them, taken in turns after a round that warms up."""
    spent: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for way, seconds in zip(ways, spent, strict=True):
            began = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - began)
    return [seconds[1:] for seconds in spent]


def summary(seconds: list[float]) -> dict[str, float]:
    """Best and median."""
    return {"best": round(min(seconds), 5), "median": round(statistics.median(seconds), 5)}
