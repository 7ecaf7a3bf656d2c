"""Recipes: all that fixes a stage's training. Road: train. Knows no torch.

paper              Long, Shelhamer, Darrell 2015, 4.3, and the authors' solvers: one whole photo a step, momentum
                   0.99, summed loss, rate 1e-10 (32s), 1e-12 (16s), 1e-14 (8s), weight decay 5e-4, biases at twice
                   the rate without decay.
paper-accumulated  the older way: 20 photos accumulated, momentum 0.9, mean loss, rate 1e-4.
modern             Muon and AdamW, warm-up and cosine, crops, bf16 where faster, running mean of the weights, early
                   layers left as they are and the head trained first, Lovasz-softmax beside the softmax loss, class
                   offsets fitted at the end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from fullconv.base.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """All that fixes a stage's training.

    Attributes:
        name: "paper", "paper-accumulated" or "modern".
        optimiser: "sgd", "adamw" or "muon" (of matrices; AdamW of all else).
        rate: learning rate of the fresh layers, for the loss as reduced by `reduction`.
        pretrained_rate: factor on it for layers that hold pretrained weights.
        matrix_rate: factor on it for the weights that Muon steps.
        frozen: stride up to which the pretrained layers stay as they are; 0: all learn.
        head_first: share of the steps, from the first on, in which only the fresh layers learn: a head that knows
            nothing yet would pull the pretrained layers away from what they know (Kumar et al. 2022).
        pretrained_warm_up: share of the steps, after those, over which the rate of the pretrained layers rises from 0:
            the first steps of AdamW move every weight by the whole rate, however little the loss asks for it.
        norms_stay: of a classifier: its batch normalisation keeps the statistics and weights it has.
        bias_rate: factor on it for biases.
        momentum: of SGD.
        weight_decay: never on biases and normalisation.
        schedule: "constant" or "cosine".
        warm_up: share of the steps over which the rate rises from 0.
        loss: a key of train.losses.LOSSES.
        reduction: "mean" or "sum" over the pixels that are not void.
        class_weights: one weight a class in the loss; empty: all 1.
        batch: samples a forward pass.
        accumulate: forward passes a step.
        steps: optimiser steps.
        crop: (height, width) of the training crops, or None for whole photos.
        scale, aspect, mirror, colour, class_aware: see data.augment.Augmentation.
        dropout: share of the channels of a tap that a training step of the sharp head does without, lest few photos be
            learned by heart.
        ema: decay of the running mean of the weights; 0 for none.
        clip: largest norm of the gradient; 0 for none.
        offsets: "none", or "fitted": constants on the class scores for the best mean IoU on train (train.offsets).
        precision: "fp32" or "bf16" (autocast).
        channels_last: memory layout of photos and weights.
        workers: processes that make batches ahead.
        stops_flat: stop early where the loss stays that of guessing, or one class is everywhere. From random weights
            training begins so: then not.
    """

    name: str
    optimiser: str
    rate: float
    pretrained_rate: float = 1.0
    matrix_rate: float = 1.0
    frozen: int = 0
    head_first: float = 0.0
    pretrained_warm_up: float = 0.0
    norms_stay: bool = False
    bias_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    warm_up: float = 0.0
    loss: str = "softmax"
    reduction: str = "mean"
    class_weights: tuple[float, ...] = ()
    batch: int = 1
    accumulate: int = 1
    steps: int = 1000
    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    mirror: float = 0.5
    colour: float = 0.0
    class_aware: float = 0.0
    dropout: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    offsets: str = "none"
    precision: str = "fp32"
    channels_last: bool = False
    workers: int = 1
    stops_flat: bool = True

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return asdict(self)


RECIPES = {
    "paper": Recipe(
        name="paper",
        optimiser="sgd",
        rate=1e-10,  # voc-fcn32s/solver.prototxt; 1e-12 and 1e-14 for the later stages, see `for_stage`
        bias_rate=2.0,  # Long et al. 2015, 4.3: biases learn at twice the rate
        momentum=0.99,
        weight_decay=5e-4,
        reduction="sum",
        mirror=0.0,
    ),
    "paper-accumulated": Recipe(
        name="paper-accumulated",
        optimiser="sgd",
        rate=1e-4,  # voc-fcn-alexnet/solver.prototxt: iter_size 20, normalised loss
        bias_rate=2.0,
        momentum=0.9,
        weight_decay=5e-4,
        accumulate=20,
        mirror=0.0,
    ),
    "modern": Recipe(
        name="modern",
        optimiser="muon",
        rate=4e-3,
        pretrained_rate=0.12,
        matrix_rate=4.0,
        frozen=4,
        head_first=0.35,
        pretrained_warm_up=0.3,
        weight_decay=1e-2,
        schedule="cosine",
        warm_up=0.03,
        loss="softmax+lovasz",
        batch=16,
        crop=(320, 320),
        scale=(0.75, 1.75),
        aspect=(0.85, 1.18),
        colour=0.3,
        ema=0.998,
        clip=5.0,
        offsets="fitted",
        channels_last=True,
    ),
}

_PAPER_STAGE_FACTOR = {"32s": 1.0, "16s": 1e-2, "8s": 1e-4, "4s": 1e-6}  # solver.prototxt of voc-fcn32s, 16s, 8s


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises: UsageError naming the recipes there are.

    Example:
        >>> recipe("paper").momentum
        0.99
    """
    if name not in RECIPES:
        raise UsageError(f"a recipe is one of {', '.join(RECIPES)}", repr(name), "--recipe modern")
    return RECIPES[name]


def for_stage(base: Recipe, stage: str) -> Recipe:
    """The recipe as a stage of the road uses it: the paper divides its rate by 100 at each finer stage; a stage that
    begins with the one before has no head to train first.
    """
    if stage in ("16s", "8s", "4s"):
        base = replace(base, head_first=0.0)
    if base.name != "paper":
        return base
    return replace(base, rate=base.rate * _PAPER_STAGE_FACTOR.get(stage, 1.0))


def head_first_steps(recipe: Recipe) -> int:
    """How many steps only the fresh layers learn."""
    return round(recipe.head_first * recipe.steps)


def with_reduction(base: Recipe, reduction: str, *, pixels: float) -> Recipe:
    """The same steps with the loss reduced the other way.

    A summed loss has `pixels` times the gradient of the mean one, so the rate of SGD is divided by that number (and
    weight decay multiplied, so that decay a step stays the same). AdamW does not see the size of the gradient: only
    the word changes.

    Args:
        base: the recipe.
        reduction: "mean" or "sum".
        pixels: pixels a step that are not void, at the median.
    """
    if reduction == base.reduction:
        return base
    if base.optimiser != "sgd":
        return replace(base, reduction=reduction)
    factor = pixels if reduction == "mean" else 1 / pixels
    return replace(base, reduction=reduction, rate=base.rate * factor, weight_decay=base.weight_decay / factor)
