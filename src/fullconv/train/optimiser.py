"""Optimiser and rate. Road: train. In: a network and a recipe. Out: a torch optimiser, a rate a step.

Muon (Jordan et al. 2024) takes the step of a matrix of weights with all its singular values made alike, so that one
strong direction of the gradient does not hide the others; the scale of its step is that of AdamW (Liu et al. 2025,
"Muon is scalable for LLM training", 2.2). Three iterations with the coefficients of Amsel et al. 2025 ("The Polar
Express", algorithm 1) make them alike enough. All other weights it leaves to AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from fullconv.train.precision import Float32, quick_bfloat16
from fullconv.train.recipe import Recipe, head_first_steps

NARROW = 16  # below this a side of a matrix has too few directions to be made alike: scores of few classes
BY_MUON: dict[str, Any] = {
    "use_muon": True,
    "nesterov": True,
    "momentum": 0.95,
    "ns_coefficients": "polar_express",
    "ns_steps": 3,
}
BY_ADAMW: dict[str, Any] = {"use_fallback": True, "nesterov": False, "betas": (0.9, 0.999), "eps": 1e-8}


def build_optimiser(network: nn.Module, recipe: Recipe, *, pretrained: frozenset[str]) -> Optimizer:
    """Groups by (pretrained or fresh) x (matrix, other weight, bias, normalisation), each with its base rate under
    "base_rate" and whether it is pretrained under "pretrained".

    Args:
        network: its parameters that require a gradient are optimised.
        recipe: rates, decay, momentum.
        pretrained: names of parameters that learn at recipe.pretrained_rate times the rate.
    """
    matrices = _matrices(network) if recipe.optimiser == "muon" else frozenset()
    groups: dict[tuple[bool, bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate, decay = _rate_and_decay(name, parameter, recipe)
            rate *= recipe.matrix_rate if name in matrices else 1.0
            rate *= recipe.pretrained_rate if name in pretrained else 1.0
            groups.setdefault((name in matrices, name in pretrained, rate, decay), []).append(parameter)
    parts = [
        {"params": of, "lr": rate, "base_rate": rate, "pretrained": kind, "weight_decay": decay}
        | ((BY_MUON if matrix else BY_ADAMW) if recipe.optimiser == "muon" else {})
        for (matrix, kind, rate, decay), of in groups.items()
    ]
    if recipe.optimiser == "sgd":
        return SGD(parts, lr=recipe.rate, momentum=recipe.momentum)
    if recipe.optimiser == "muon":
        from timm.optim.muon import Muon  # a second, for all of timm

        muon = Muon(parts, lr=recipe.rate)
        if not quick_bfloat16(next(network.parameters()).device):
            muon.step = partial(_step_in_float32, muon.step)  # type: ignore[method-assign]
        return muon
    return AdamW(parts, lr=recipe.rate, fused=True)


def _step_in_float32(step: Callable[[], Any]) -> None:
    """timm's Muon iterates in bfloat16, whatever the weights are."""
    with Float32():
        step()


def _matrices(network: nn.Module) -> frozenset[str]:
    """Names of the weights of convolutions and linear layers that join many channels with many."""
    return frozenset(
        f"{name}.weight".removeprefix(".")
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and min(layer.weight.shape[:2]) >= NARROW
    )


def _rate_and_decay(name: str, parameter: nn.Parameter, recipe: Recipe) -> tuple[float, float]:
    if parameter.ndim > 1:
        return recipe.rate, recipe.weight_decay
    return recipe.rate * (recipe.bias_rate if name.endswith("bias") else 1.0), 0.0


def rate_factor(step: int, recipe: Recipe) -> float:
    """The factor on every base rate at a step (1 .. recipe.steps): warm-up, then the schedule.

    Example:
        >>> from fullconv.train.recipe import RECIPES
        >>> rate_factor(500, RECIPES["paper"])
        1.0
    """
    warm = max(1, round(recipe.warm_up * recipe.steps)) if recipe.warm_up else 0
    if step <= warm:
        return step / warm
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, recipe.steps - warm + 1))))


def pretrained_factor(step: int, recipe: Recipe) -> float:
    """The factor beside `rate_factor` on the rates of pretrained layers: 0 up to the last step of the head alone, then
    rising to 1 over `recipe.pretrained_warm_up` of the steps.

    Example:
        >>> from fullconv.train.recipe import RECIPES
        >>> [round(pretrained_factor(step, RECIPES["modern"]), 2) for step in (350, 500, 650, 900)]
        [0.0, 0.5, 1.0, 1.0]
    """
    rise = recipe.pretrained_warm_up * recipe.steps
    since = step - head_first_steps(recipe)
    return min(1.0, max(0, since) / rise) if rise else float(since > 0)


def set_rate(optimiser: Optimizer, step: int, recipe: Recipe) -> None:
    """Set each group's rate for a step (1 .. recipe.steps)."""
    factor, of_pretrained = rate_factor(step, recipe), pretrained_factor(step, recipe)
    for group in optimiser.param_groups:
        group["lr"] = group["base_rate"] * factor * (of_pretrained if group["pretrained"] else 1.0)
