"""The training loop, a generator that belongs to the caller. Road: train. In: a network, a source, a recipe. Out:
one record a step.

Two runs with the same seed, recipe and number of threads are equal bit for bit on the CPU, stopped and resumed or
not: data order and crops are functions of (seed, epoch, index), dropout of (seed, step), and the checkpoint holds the
rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.base import seeds
from fullconv.base.files import content_hash
from fullconv.data.augment import Augmentation
from fullconv.data.batch import Crops, Source, WholePhotos, batches
from fullconv.data.samples import Sample
from fullconv.nets.body import Body
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.sharp import Sharp
from fullconv.train.checkpoint import read_checkpoint, write_checkpoint
from fullconv.train.convolutions import quick_convolutions
from fullconv.train.losses import LOSSES
from fullconv.train.optimiser import build_optimiser, rate_factor, set_rate
from fullconv.train.precision import autocast
from fullconv.train.recipe import Recipe, head_first_steps
from fullconv.train.watch import Watch, check_finite

SECONDS_BETWEEN_CHECKPOINTS = 45.0


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        step: 1 .. steps.
        steps: how many there will be.
        loss: mean over the step's pixels or images.
        rate: learning rate of the fresh layers.
        seconds: wall time of the step, waiting included.
        wait_seconds: the part of it that the network waited for data.
        images: samples seen in this step.
    """

    step: int
    steps: int
    loss: float
    rate: float
    seconds: float
    wait_seconds: float
    images: int

    def to_json(self) -> dict[str, Any]:
        """A line of the journal."""
        share = self.wait_seconds / max(self.seconds, 1e-9)
        return (
            {"event": "step"}
            | asdict(self)
            | {"wait_share": share, "images_per_second": self.images / max(self.seconds, 1e-9)}
        )


@dataclass(frozen=True)
class Task:
    """What is learned: the source of items and what their targets mean.

    Attributes:
        source: items by (epoch, index).
        preparation: brings uint8 photos to what the network takes.
        answers: (prepared photos, targets) -> what the network says, and the targets of what it says.
        loss: (outputs, targets) -> the loss as the recipe reduces it.
        targets: (targets) -> how many pixels or labels count in this batch.
        watch: judges the run; None where its questions make no sense (several labels an image, random weights).
        pretrained: names of parameters that hold pretrained weights.
        frozen: layers that stay as they are.
    """

    source: Source
    preparation: Preparation
    answers: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    targets: Callable[[Tensor], int]
    watch: Watch | None
    pretrained: frozenset[str]
    frozen: Sequence[nn.Module] = ()


def training_steps(
    net: SegmentationNet,
    samples: tuple[Sample, ...],
    *,
    recipe: Recipe,
    seed: int = 0,
    checkpoint: Path | None = None,
    until: int | None = None,
) -> Iterator[Step]:
    """Train `net` in place on `samples`; yield a record a step.

    When the last step is done the network holds the weights to use (their running mean where the recipe has one).

    Args:
        net: the network; it stays in training mode until the end.
        samples: what to learn from.
        recipe: all that fixes the training.
        seed: of data order, crops and dropout.
        checkpoint: where to write and from where to go on; None: nothing is kept.
        until: stop after this step, with a checkpoint; the next call goes on from there.
    Raises: TrainingError if the loss is not a number, flat, or one class is everywhere.

    Example: `for step in training_steps(net, samples.train, recipe=recipe("modern")): print(step.loss)`
    """
    if isinstance(net.network, Sharp):
        net.network.head.dropout.p = recipe.dropout
    yield from optimise(
        net, _segmentation_task(net, samples, recipe, seed), recipe, seed=seed, checkpoint=checkpoint, until=until
    )


def _segmentation_task(net: SegmentationNet, samples: tuple[Sample, ...], recipe: Recipe, seed: int) -> Task:
    void = net.label_space.void
    weights = torch.tensor(recipe.class_weights) if recipe.class_weights else None
    how = Augmentation(
        crop=recipe.crop or (0, 0),
        scale=recipe.scale,
        aspect=recipe.aspect,
        mirror=recipe.mirror,
        colour=recipe.colour,
        class_aware=recipe.class_aware,
    )
    return Task(
        source=Crops(samples, how, seed=seed) if recipe.crop else WholePhotos(samples, how, seed=seed),
        preparation=net.preparation,
        answers=partial(_on_cells, net),
        loss=lambda scores, labels: LOSSES[recipe.loss](
            scores,
            labels,
            void=void,
            weights=None if weights is None else weights.to(scores.device),
            reduction=recipe.reduction,
        ),
        targets=lambda labels: int((labels != void).sum()),
        watch=Watch(steps=recipe.steps, classes=net.label_space.size, void=void, weights=weights)
        if recipe.stops_flat
        else None,
        pretrained=frozenset(net.parameter_groups()["pretrained"]),
        frozen=frozen_layers(net, recipe),
    )


def _on_cells(net: SegmentationNet, photos: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    cells = net.cells(photos)
    return cells.scores, cells.of(labels)


def optimise(
    network: nn.Module, task: Task, recipe: Recipe, *, seed: int, checkpoint: Path | None, until: int | None
) -> Iterator[Step]:
    """The loop itself, for segmenters and classifiers alike."""
    with frozen(task.frozen):
        yield from _optimise(network, task, recipe, seed, checkpoint, until)


def frozen_layers(net: SegmentationNet, recipe: Recipe) -> Sequence[nn.Module]:
    """The layers of the backbone that the recipe leaves as they are."""
    body = getattr(net.network, "body", None)
    return body.layers_up_to(recipe.frozen) if isinstance(body, Body) else ()


def frozen(layers: Sequence[nn.Module]) -> AbstractContextManager[None]:
    """Their weights take no step: no gradient is worked out for them and for what comes before."""
    return still([parameter for layer in layers for parameter in layer.parameters()])


@contextmanager
def still(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """They ask for no gradient."""
    held = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in held:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def _optimise(
    network: nn.Module, task: Task, recipe: Recipe, seed: int, checkpoint: Path | None, until: int | None
) -> Iterator[Step]:
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)
    optimiser = build_optimiser(network, recipe, pretrained=task.pretrained)
    pretrained = [parameter for name, parameter in network.named_parameters() if name in task.pretrained]
    average = {name: tensor.detach().clone() for name, tensor in _floats(network)} if recipe.ema else {}
    key = _key(network, recipe, seed)
    done = (
        read_checkpoint(checkpoint, key=key, network=network, optimiser=optimiser, average=average) if checkpoint else 0
    )
    last = min(until or recipe.steps, recipe.steps)
    network.train()
    for layer in task.frozen:
        layer.eval()
    written = began = time.perf_counter()
    for step, passes in _grouped(task, recipe, seed=seed, first=done, last=last):
        set_rate(optimiser, step, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss, images, waited = 0.0, 0, 0.0
        with torch.random.fork_rng(devices=[]), still(pretrained if step <= head_first_steps(recipe) else ()):
            torch.manual_seed(seeds.integer(seed, "step", step))
            for x, y, wait in passes:
                loss += _backward(network, task, recipe, x, y, step) / recipe.accumulate
                images, waited = images + len(x), waited + wait
        if recipe.clip:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimiser.step()
        _move_average(average, network, min(recipe.ema, (1 + step) / (10 + step)))
        now = time.perf_counter()
        if checkpoint and (step == last or now - written > SECONDS_BETWEEN_CHECKPOINTS):
            write_checkpoint(checkpoint, step=step, key=key, network=network, optimiser=optimiser, average=average)
            written = now = time.perf_counter()
        yield Step(step, recipe.steps, loss, recipe.rate * rate_factor(step, recipe), now - began, waited, images)
        began = time.perf_counter()
    if last == recipe.steps:
        network.load_state_dict(average, strict=False)
        network.eval()


def _key(network: nn.Module, recipe: Recipe, seed: int) -> str:
    """Names what is being trained: a checkpoint of anything else is not taken up. The number of steps may be
    planned again.
    """
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    return content_hash(recipe.to_json() | {"steps": None}, seed, shapes)


def _grouped(
    task: Task, recipe: Recipe, *, seed: int, first: int, last: int
) -> Iterator[tuple[int, Iterator[tuple[Tensor, Tensor, float]]]]:
    """(step, its forward passes as (photos, targets, seconds waited)) for steps first + 1 to last."""
    many = recipe.accumulate
    stream = batches(
        task.source,
        batch=recipe.batch,
        first_step=first * many,
        last_step=last * many,
        seed=seed,
        workers=recipe.workers,
    )

    def one_pass() -> tuple[Tensor, Tensor, float]:
        began = time.perf_counter()
        x, y = next(stream)
        return x, y, time.perf_counter() - began

    for step in range(first + 1, last + 1):
        yield step, (one_pass() for _ in range(many))


def _backward(network: nn.Module, task: Task, recipe: Recipe, x: Tensor, y: Tensor, step: int) -> float:
    """One forward and backward pass; the mean loss a pixel or image."""
    device = next(network.parameters()).device
    x = prepared(x.to(device, non_blocking=True), task.preparation)
    if recipe.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    y = y.to(device, non_blocking=True)
    with autocast(recipe.precision, device), quick_convolutions(network):
        outputs, y = task.answers(x, y)
    outputs = outputs.float()
    loss = task.loss(outputs, y)
    (loss / recipe.accumulate).backward()  # type: ignore[no-untyped-call]
    mean = loss.item() / (max(task.targets(y), 1) if recipe.reduction == "sum" else 1)
    check_finite(mean, step)
    if task.watch:
        task.watch.see(step, outputs, y)
    return mean


def prepared(photos: Tensor, preparation: Preparation) -> Tensor:
    """(N, 3, H, W) uint8 RGB as the network reads them, float32."""
    ordered = photos.flip(1) if preparation.channel_order == "BGR" else photos
    mean, scale = (
        torch.tensor(v, device=photos.device).view(1, 3, 1, 1) for v in (preparation.mean, preparation.scale)
    )
    return (ordered.float() - mean) * scale


def _floats(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in network.state_dict().items() if tensor.is_floating_point()]


def _move_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    if average:
        now = dict(_floats(network))
        torch._foreach_lerp_([average[name] for name in average], [now[name] for name in average], 1 - decay)
