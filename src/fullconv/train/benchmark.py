"""What this machine does in a second: whole training steps, timed. Road: train, before the plan. In: a network.
Out: Measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from fullconv.train.loop import autocast
from fullconv.train.optimiser import build_optimiser
from fullconv.train.plan import COMBINATIONS, Measured
from fullconv.train.recipe import Recipe

BATCHES = (4, 8, 16)
REPEATS = 2
ROWS = len(COMBINATIONS) + len(BATCHES)


def measure_machine(network: nn.Module, *, crop: tuple[int, int], classes: int, recipe: Recipe) -> Iterator[Measured]:
    """Time whole training steps of `network` (which is changed by it): COMBINATIONS, then BATCHES
    of the best.

    Args:
        network: (N, 3, H, W) -> (N, K, H, W).
        crop: what training will see.
        classes: K.
        recipe: gives the optimiser.
    Returns: ROWS rows, in some ten seconds on 2 cores.
    """
    rows = []
    for precision, channels_last in COMBINATIONS:
        how = replace(recipe, precision=precision, channels_last=channels_last, batch=BATCHES[0])
        rows.append(_measured(network, how, crop, classes))
        yield rows[-1]
    best = max(rows, key=lambda row: row.images_per_second)
    for batch in BATCHES:
        how = replace(recipe, precision=best.precision, channels_last=best.channels_last, batch=batch)
        yield _measured(network, how, crop, classes)


def _measured(network: nn.Module, recipe: Recipe, crop: tuple[int, int], classes: int) -> Measured:
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network.to(memory_format=layout).train()
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
        F.cross_entropy(scores.float(), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        step()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return Measured(
        recipe.precision, recipe.channels_last, recipe.batch, crop, recipe.batch / min(seconds), kept, peak_bytes()
    )


def peak_bytes() -> int:
    """The most memory this process and its largest worker have held (resident sets), in bytes; 0 where the system
    does not tell.
    """
    if sys.platform == "win32":
        return 0
    import resource

    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024
