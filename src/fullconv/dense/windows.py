"""The ways before FCN: a classifier on many windows of a photo. Road: dense. In: a classifier and a photo.

`slide` scores windows of the training size at a step and gives every pixel the mean of the windows that cover it;
`patches` scores a small patch round every pixel, as pixel classification was done: Ciresan et al. 2012; its costs are
what the one pass saves.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.base.errors import UsageError
from fullconv.base.progress import progress
from fullconv.dense.full_size import DenseScores, Part, over_windows
from fullconv.nets.costs import layers_of
from fullconv.nets.graph import Size
from fullconv.nets.proof import tensors

PIXELS_AT_ONCE = 1 << 20  # of windows in one batch


@dataclass(frozen=True)
class PatchCosts:
    """What a patch round every pixel costs beside one pass over the photo.

    Attributes:
        bytes: of all patches, each stored (8 bits a channel).
        photo_bytes: of the photo itself.
        multiply_adds: of the classifier on every patch.
        one_pass_multiply_adds: of its fully convolutional form on the photo, once.
        context: (rows, columns) that decide on a pixel: the patch, however much the network could see.
    """

    bytes: int
    photo_bytes: int
    multiply_adds: int
    one_pass_multiply_adds: int
    context: Size


def slide(model: nn.Module, photo: Tensor, *, window: Size, step: int) -> DenseScores:
    """Score windows every `step` pixels (and one at each far border), and average over those that cover a pixel.

    Args:
        model: (N, 3, h, w) -> (N, K) scores, in evaluation mode.
        photo: (3, H, W) prepared.
    Raises: UsageError if the photo is smaller than the window.
    """
    starts = [begins(photo.shape[1 + i], window[i], step) for i in (0, 1)]
    corners = [(top, left) for top in starts[0] for left in starts[1]]
    cuts = (photo[:, y : y + window[0], x : x + window[1]] for y, x in corners)
    scores = torch.cat([tensors(model(batch))[0] for batch in batched(cuts, window)])
    values = scores.T.reshape(-1, len(starts[0]), len(starts[1])).contiguous()
    rows, columns = (over_windows(photo.shape[1 + i], starts[i], window[i]) for i in (0, 1))
    return DenseScores((Part(values, rows, columns),))


def begins(length: int, window: int, step: int) -> list[int]:
    """Where windows start along an axis: every `step`, and the last one at the far border."""
    if length < window or step < 1:
        raise UsageError(
            "a photo holds at least one window, and windows are at least a pixel apart",
            f"{length} pixels, a window of {window}, a step of {step}",
            "a larger photo, a smaller window, or a step of 16",
        )
    starts = list(range(0, length - window + 1, step))
    return starts if starts[-1] == length - window else [*starts, length - window]


def batched(cuts: Iterator[Tensor], window: Size) -> Iterator[Tensor]:
    """(n, 3, h, w) batches of about PIXELS_AT_ONCE pixels."""
    most = max(1, PIXELS_AT_ONCE // (window[0] * window[1]))
    batch: list[Tensor] = []
    for cut in cuts:
        batch.append(cut)
        if len(batch) == most:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def patches(model: nn.Module, photo: Tensor, *, size: int) -> DenseScores:
    """Score the patch of size x size round every pixel; beyond the border the photo is mirrored.

    Args:
        model: takes (N, 3, size, size), gives (N, K).
        size: odd, so that a patch has a middle pixel.
    Raises: UsageError for an even size, or one that the photo cannot be mirrored for.
    """
    height, width = photo.shape[1:]
    reach = size // 2
    if size % 2 == 0 or size < 1 or reach >= min(height, width):
        raise UsageError(
            "a patch has an odd side, so that it has a middle pixel, and reaches less than the photo's side",
            f"{size} on {height}x{width}",
            "--patch 15",
        )
    around = F.pad(photo[None], (reach,) * 4, mode="reflect")[0]
    views = around.unfold(1, size, 1).unfold(2, size, 1)  # (3, H, W, size, size), no copy
    most = max(1, PIXELS_AT_ONCE // (size * size))
    values = torch.empty(0)
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)  # of few cells: up to 5 times as fast
    batches = range(0, height * width, most)
    for first in progress(batches, what="patches", total=len(batches)):
        at = torch.arange(first, min(first + most, height * width))
        scores = tensors(model(views[:, at // width, at % width].transpose(0, 1).contiguous()))[0]
        if first == 0:
            values = torch.empty(scores.shape[1], height * width)
        values[:, first : first + len(at)] = scores.T
    return DenseScores((Part(values.view(-1, height, width), None, None),))


def patch_costs(model: nn.Module, converted: nn.Module, photo: Size, *, size: int) -> PatchCosts:
    """What `patches` costs on a photo of (rows, columns), derived and not timed."""
    pixels = photo[0] * photo[1]
    each = sum(layer.multiply_adds for layer in layers_of(model, size))
    once = sum(layer.multiply_adds for layer in layers_of(converted, photo))
    return PatchCosts(3 * size * size * pixels, 3 * pixels, each * pixels, once, (size, size))
