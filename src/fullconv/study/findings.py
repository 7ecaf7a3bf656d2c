"""What the doctor says, one finding at a time. Road: study. Knows no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SEVERITIES = ("stop", "harm", "note")
"""stop: training would fail, or mean nothing; harm: precision or recall suffer; note: good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Args:
        kind: one of the kinds in docs/reference/files.md: "size_mismatch", "leak", ...
        severity: one of `SEVERITIES`.
        samples: the names of the samples concerned; empty where it is the whole set.
        sentence: what was found.
        why: why it matters for precision or recall.
        repair: what mends it, one of `repairs.REPAIRS`, or None.
        details: figures behind the sentence.
        mended: the names of the samples that the repair changes; None: all of `samples`.
    """

    kind: str
    severity: str
    samples: tuple[str, ...]
    sentence: str
    why: str
    repair: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    mended: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        assert self.severity in SEVERITIES

    def to_json(self, fix: str | None) -> dict[str, Any]:
        """The entry of study.json; `fix` is the command that performs the repair."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "samples": list(self.samples),
            "sentence": self.sentence,
            "why": self.why,
            "fix": fix if self.repair else None,
            **({"details": self.details} if self.details else {}),
        }


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that stop first, then those that harm, each by how many samples they concern."""
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), -len(one.samples), one.kind))
