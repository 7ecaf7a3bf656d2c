"""How well edges are met. Road: measure. In: two label maps. Out: counts, and scores from them. Knows no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """Counts along the edges."""

    def to_json(self) -> dict[str, Any]:
        """For the scores' document."""
        return {}
