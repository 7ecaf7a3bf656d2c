"""The plan: crop, batch, precision, stages, steps, each with its reason. Road: train, before the first step.

In: the fingerprint of the samples, a micro-benchmark of this machine, the minutes given. Out: decisions, written to plan.json
before the first step that uses them and read back on resume, so that a resumed run follows the same plan.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fullconv.data.fingerprint import Fingerprint
from fullconv.train.loop import autocast
from fullconv.train.optimiser import build_optimiser
from fullconv.train.recipe import Recipe

SCHEMA = "fullconv.plan/1"
LARGEST_CROP = 320  # beyond it an image costs more and the score does not rise: docs/log.md
GRID = 32
REPLANNED_AFTER = 0.1  # share of a stage's steps
REPORT_SECONDS = 12.0
UNBALANCED = 10.0  # largest over smallest share of pixels from which classes are balanced
BALANCE = 0.35  # power of 1 / share in the loss: 1 lets rare classes spread, 0 forgets them
STAGE_SHARES = {"32s": 0.5, "16s": 0.25, "8s": 0.25, "4s": 0.2}


@dataclass(frozen=True)
class Decision:
    """One line of plan.json.

    Attributes:
        name: what is decided, as "sharp.steps".
        value: what it is.
        rule: how it follows from the evidence.
        evidence: what was measured or found.
        override: what to type to decide otherwise.
    """

    name: str
    value: Any
    rule: str
    evidence: str
    override: str


@dataclass(frozen=True)
class Measured:
    """One row of the micro-benchmark.

    Attributes:
        precision, channels_last, batch, crop: what was run.
        images_per_second: of a whole training step, photos already in memory.
        activation_bytes: kept for the backward pass, a batch.
        peak_bytes: the most memory the process has held so far.
    """

    precision: str
    channels_last: bool
    batch: int
    crop: tuple[int, int]
    images_per_second: float
    activation_bytes: int
    peak_bytes: int


def plan_crop(fingerprint: Fingerprint) -> Decision:
    """The largest multiple of 32 below 0.9 of the median short side, 64 to 320."""
    short = statistics.median(min(size) for size, photos in fingerprint.sizes for _ in range(photos))
    crop = max(2 * GRID, min(LARGEST_CROP, int(0.9 * short) // GRID * GRID))
    return Decision(
        "crop",
        [crop, crop],
        f"the largest multiple of {GRID} up to 0.9 of the median short side, at most {LARGEST_CROP}",
        f"median short side {short:.0f} pixels over {fingerprint.photos} photos",
        "recipe(...).crop from Python",
    )


def plan_balance(shares: Sequence[float]) -> Decision:
    """Class weights of the loss: (1 / share)^0.35, mean 1, where classes are unbalanced; else none."""
    present = [share for share in shares if share > 0]
    ratio = max(present) / min(present)
    weights: list[float] = []
    if ratio > UNBALANCED:
        raw = [(1 / share) ** BALANCE if share > 0 else 0.0 for share in shares]
        mean = sum(raw) / len(present)
        weights = [round(weight / mean, 4) for weight in raw]
    return Decision(
        "class_weights",
        weights,
        f"(1 / share of pixels)^{BALANCE}, mean 1, if the largest class has over {UNBALANCED:.0f} times the pixels of the smallest",
        f"the largest class has {ratio:.0f} times the pixels of the smallest",
        "recipe(...).class_weights from Python",
    )


def measure_machine(network: nn.Module, *, crop: tuple[int, int], classes: int, recipe: Recipe) -> Iterator[Measured]:
    """Time whole training steps of `network` (which is changed by it): precision and layout first, then the batch.

    Takes a few seconds. Classification networks (scores N x K) are measured with one label an image.
    """

    rows = []
    for precision in ("fp32", "bf16"):
        for channels_last in (False, True):
            rows.append(_measured(network, replace(recipe, precision=precision, channels_last=channels_last, batch=4), crop, classes))
            yield rows[-1]
    best = max(rows, key=lambda row: row.images_per_second)
    for batch in (4, 8, 16):
        yield _measured(network, replace(recipe, precision=best.precision, channels_last=best.channels_last, batch=batch), crop, classes)


def _measured(network: nn.Module, recipe: Recipe, crop: tuple[int, int], classes: int) -> Measured:
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network.to(memory_format=layout).train()  # type: ignore[call-overload]
    device = next(network.parameters()).device
    x = torch.randn((recipe.batch, 3, *crop), device=device).contiguous(memory_format=layout)
    optimiser = build_optimiser(network, recipe, pretrained=frozenset())
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with autocast(recipe.precision, device):
            scores = network(x)
        y = torch.zeros((recipe.batch, *scores.shape[2:]), dtype=torch.long, device=device)
        F.cross_entropy(scores.float(), y).backward()
        optimiser.step()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        step()
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return Measured(
        recipe.precision, recipe.channels_last, recipe.batch, crop, recipe.batch / min(seconds), kept, peak_bytes()
    )


def peak_bytes() -> int:
    """The most memory this process has held (the resident set), in bytes; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def plan_machine(rows: Sequence[Measured], recipe: Recipe) -> list[Decision]:
    """Precision and layout by speed; the batch of 8 unless another is faster by more than 15% an image."""
    first, sizes = rows[:4], rows[4:]
    best = max(first, key=lambda row: row.images_per_second)
    said = "; ".join(
        f"{row.precision}{' channels-last' if row.channels_last else ''} {row.images_per_second:.1f}" for row in first
    )
    usual = next(row for row in sizes if row.batch == recipe.batch)
    fastest = max(sizes, key=lambda row: row.images_per_second)
    batch = fastest if fastest.images_per_second > 1.15 * usual.images_per_second else usual
    said_sizes = "; ".join(
        f"batch {row.batch}: {row.images_per_second:.1f}, {row.activation_bytes / 1e9:.2f} GB kept for the backward pass" for row in sizes
    )
    how = "recipe(...) from Python"
    return [
        Decision("precision", best.precision, "the fastest of fp32 and bf16 in training steps", f"images a second: {said}", how),
        Decision("channels_last", best.channels_last, "the fastest layout in training steps", f"images a second: {said}", how),
        Decision(
            "batch", batch.batch, f"{recipe.batch}, unless another is over 15% faster an image", f"images a second: {said_sizes}", how
        ),
    ]


def plan_workers(device: str, cores: int) -> Decision:
    """Processes that make batches ahead: one on a CPU, which the network shares with them; several beside a GPU."""
    return Decision(
        "workers",
        1 if device == "cpu" else max(1, min(8, cores - 1)),
        "1 where the network itself uses every core; beside a GPU all cores but one, at most 8",
        f"{cores} cores, the network runs on {device}",
        "recipe(...).workers from Python",
    )


def images_per_second(rows: Sequence[Measured], batch: int) -> float:
    """What the micro-benchmark measured for the batch that was chosen."""
    return next(row.images_per_second for row in rows[4:] if row.batch == batch)


def plan_seconds(stages: Sequence[str], *, seconds: float, classifier_share: float) -> dict[str, float]:
    """Share the seconds among the stages: the classifier its share, the rest by what each has to learn."""
    rest = [stage for stage in stages if stage != "classifier"]
    mass = sum(STAGE_SHARES.get(stage, 1.0) for stage in rest)
    given = seconds * (1 - classifier_share) if "classifier" in stages else seconds
    shares = {stage: given * STAGE_SHARES.get(stage, 1.0) / mass for stage in rest}
    return ({"classifier": seconds * classifier_share} if "classifier" in stages else {}) | shares


def plan_again(done: int, step_seconds: Sequence[float], seconds_left: float) -> int:
    """Steps for the whole stage, from what its first steps took.

    Args:
        done: steps done.
        step_seconds: what each of them took.
        seconds_left: for the rest of the stage.
    """
    return done + max(1, int(seconds_left / statistics.median(step_seconds)))


def to_json(decisions: Sequence[Decision], measured: Sequence[Measured], *, minutes: float | None) -> dict[str, Any]:
    """plan.json."""
    return {
        "schema": SCHEMA,
        "minutes": minutes,
        "decisions": [asdict(decision) for decision in decisions],
        "measured": [asdict(row) for row in measured],
    }
