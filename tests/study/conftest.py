"""Fixtures of the study's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks trained too shortly to learn anything, one after another in this process."""

    def in_turn(function: Callable[[Any], Any], items: Iterable[Any], **_: Any) -> Iterator[Any]:
        return map(function, items)

    monkeypatch.setattr("fullconv.study.small.STEPS", 3)
    monkeypatch.setattr("fullconv.study.small.BATCH", 2)
    for module in ("small", "small_folds"):
        monkeypatch.setattr(f"fullconv.study.{module}.on_all_cores", in_turn)
