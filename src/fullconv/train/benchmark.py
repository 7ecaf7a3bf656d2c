"""What this machine does in a second: whole training steps, timed. Road: train, before the plan. In: a network.
Out: Measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from fullconv.nets.segmentation import SegmentationNet
from fullconv.train.convolutions import quick_convolutions
from fullconv.train.loop import frozen, frozen_layers
from fullconv.train.losses import LOSSES
from fullconv.train.optimiser import build_optimiser
from fullconv.train.plan import BATCHES, COMBINATIONS, Measured, best_combination
from fullconv.train.precision import autocast, quick_bfloat16
from fullconv.train.recipe import Recipe

COMPARED_AT = 4  # the batch that precisions and layouts are compared at: quickly
ROUNDS = 2


def combinations(device: torch.device) -> list[tuple[str, bool]]:
    """The COMBINATIONS that are worth a try: a single step in bfloat16 without instructions for it takes minutes."""
    return [one for one in COMBINATIONS if one[0] == "fp32" or quick_bfloat16(device)]


def rows_to_come(device: torch.device) -> int:
    """How many rows `measure_machine` gives."""
    return len(combinations(device)) + len(BATCHES)


def measure_machine(net: SegmentationNet, *, crop: tuple[int, int], recipe: Recipe) -> Iterator[Measured]:
    """Time whole training steps of `net` (which is changed by it): `combinations`, then BATCHES of the best.

    Args:
        net: what is to be trained.
        crop: what training will see.
        recipe: gives the optimiser, the loss and the layers that do not learn.
    Returns: `rows_to_come` rows, in some ten seconds on 2 cores. Settings that are compared take turns, so that a
        neighbour who is busy for a while slows all of them alike.
    """
    base = replace(recipe, batch=COMPARED_AT)
    tried = combinations(next(net.parameters()).device)
    with frozen(frozen_layers(net, recipe)):
        rows = _in_turns(net, [replace(base, precision=p, channels_last=c) for p, c in tried], crop)
        yield from rows
        best = best_combination(rows)
        base = replace(recipe, precision=best.precision, channels_last=best.channels_last)
        yield from _in_turns(net, [replace(base, batch=batch) for batch in BATCHES], crop)


def _in_turns(net: SegmentationNet, settings: Sequence[Recipe], crop: tuple[int, int]) -> list[Measured]:
    """The fastest of ROUNDS steps of each setting, each right after one of its own that is not timed: the first step
    in another layout is slower.
    """
    rounds = [[[one_step(net, how, crop) for _ in range(2)][1] for how in settings] for _ in range(ROUNDS)]
    rows = []
    for how, steps in zip(settings, zip(*rounds, strict=True), strict=True):
        least, kept = min(steps)
        speed = how.batch / least
        rows.append(Measured(how.precision, how.channels_last, how.batch, crop, speed, kept, peak_bytes()))
    return rows


def one_step(
    net: SegmentationNet, how: Recipe, crop: tuple[int, int], optimiser: torch.optim.Optimizer | None = None
) -> tuple[float, int]:
    """Seconds of one training step, and the bytes that it keeps for the backward pass.

    `optimiser` is one that has made steps in this layout; else a new one, which lays out its state in this step.
    """
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    net.to(memory_format=layout).train()
    device = next(net.parameters()).device
    x = torch.randn((how.batch, 3, *crop), device=device).contiguous(memory_format=layout)
    optimiser = optimiser or build_optimiser(net, how, pretrained=frozenset())
    kept: dict[int, int] = {}  # bytes of each storage: what one layer gives and the next reads is kept once

    def count(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    began = time.perf_counter()
    optimiser.zero_grad(set_to_none=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        with autocast(how.precision, device), quick_convolutions(net):
            scores = net.cells(x).scores
        y = torch.randint(scores.shape[1], (how.batch, *scores.shape[2:]), device=device)
        loss = LOSSES[how.loss](scores.float(), y, void=net.label_space.void, weights=None, reduction=how.reduction)
        loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return time.perf_counter() - began, sum(kept.values())


def peak_bytes() -> int:
    """The most memory this process and its largest worker have held (resident sets), in bytes; 0 where the system
    does not tell. An upper bound: pages that both share count twice.
    """
    if sys.platform == "win32":
        return 0
    import resource

    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024
