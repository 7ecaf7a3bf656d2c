"""How long a stage may still take. Road: train, beside the stages. Knows no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """When the run is to be done.

    Attributes:
        deadline: by time.monotonic(), the time to measure and report in included.
        reserve: seconds kept for that.
        seconds: stage -> seconds as planned, in order.
    """

    deadline: float
    reserve: float
    seconds: Mapping[str, float]

    def seconds_left(self, stage: str, *, spent: float = 0.0) -> float:
        """For this stage from now on, if it and the later ones share what is left as the plan says; at least one
        second.

        Args:
            spent: seconds that its steps have taken.
        """
        names = list(self.seconds)
        later = sum(self.seconds[name] for name in names[names.index(stage) + 1 :])
        own = max(1.0, self.seconds[stage] - spent)
        return max(1.0, (self.deadline - self.reserve - time.monotonic()) * own / (own + later))
