"""Tell early that training fails, and why. Road: train, inside the loop. In: scores and targets of each step. Out:
an error or nothing.
"""

from __future__ import annotations

import math
from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor

from fullconv.base.errors import TrainingError

SEEN_STEPS = 20  # what the watch remembers
LEAST_MISSED = 0.02  # share of pixels of other classes from which one class everywhere is a failure
SPARSE = 16  # one pixel in 16 x 16 tells enough


def check_finite(loss: float, step: int) -> None:
    """Raises: TrainingError at once if the loss is not a number."""
    if not math.isfinite(loss):
        raise TrainingError(
            "the loss must stay a finite number",
            f"it became {loss} at step {step}",
            "a smaller rate or --recipe modern; if a recipe with bf16 did this, a machine or recipe with fp32",
        )


class Watch:
    """Looks at every step; judges once, after a third of the steps.

    A softmax loss no lower than that of guessing by class shares is flat, whatever loss the recipe has; one class
    everywhere, where the label maps hold others, is all-background.
    """

    def __init__(self, *, steps: int, classes: int, void: int, weights: Tensor | None) -> None:
        self._judged_at = max(3 * SEEN_STEPS, steps // 3)
        self._classes = classes
        self._void = void
        self._weights = torch.ones(classes) if weights is None else weights.detach().cpu()
        self._judged = False
        self._seen: deque[tuple[float, Tensor, Tensor]] = deque(maxlen=SEEN_STEPS)

    def see(self, step: int, scores: Tensor, labels: Tensor) -> None:
        """Take one step in.

        Args:
            step: 1 .. steps.
            scores: (N, K, H, W) or (N, K).
            labels: (N, H, W) or (N,) class ids.
        Raises: TrainingError with the reason and what to try.
        """
        if step <= self._judged_at - SEEN_STEPS or self._judged:
            return
        thin = (..., slice(None, None, SPARSE), slice(None, None, SPARSE)) if labels.ndim == 3 else (...,)
        truth, thought = labels[thin].cpu(), scores.detach()[thin].cpu().float()
        known, guess = truth != self._void, thought.argmax(1)
        if known.any():
            loss = F.cross_entropy(thought, truth, weight=self._weights, ignore_index=self._void)
            self._seen.append((float(loss), self._count(truth[known]), self._count(guess[known])))
        if step >= self._judged_at and len(self._seen) == SEEN_STEPS:
            self._judge()
            self._judged = True

    def _count(self, ids: Tensor) -> Tensor:
        return torch.bincount(ids.flatten().long(), minlength=self._classes)[: self._classes].double()

    def _judge(self) -> None:
        loss = sum(seen[0] for seen in self._seen) / len(self._seen)
        truth, guess = (torch.stack([seen[i] for seen in self._seen]).sum(0) for i in (1, 2))  # type: ignore[misc]
        if truth.sum() == 0:
            return
        missed = float(truth[guess == 0].sum() / truth.sum())
        if (guess > 0).sum() == 1 and missed > LEAST_MISSED:
            raise TrainingError(
                "the network must tell more than one class after a third of its steps",
                f"every pixel is called class {int(guess.argmax())}; {missed:.0%} are others",
                "--recipe modern (its loss counts every class alike), or look at the samples: fullconv data show DATA",
            )
        chance = self._chance(truth)
        if loss > 0.98 * chance:
            raise TrainingError(
                "the loss must fall below that of guessing by class shares within a third of the steps",
                f"it is {loss:.3f}; guessing gives {chance:.3f}",
                "more --minutes, another --recipe, or check that label maps belong to photos: fullconv data show DATA",
            )

    def _chance(self, truth: Tensor) -> float:
        mass = truth * self._weights.double()
        share = mass / mass.sum()
        return float(-(share * share.clamp(min=1e-12).log()).sum())
