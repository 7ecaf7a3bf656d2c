"""What fills parameters before weights are copied or learned. Road: caffe, below the layers.

Source: docs/explanation/caffe.md, "Fillers". Draws are torch's: the same distributions as Caffe's, other numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fullconv.base.errors import CaffeError
from fullconv.caffe.message import Message

Shape = tuple[int, ...]


def filled(shape: Shape, filler: Message, *, of: str) -> Tensor:
    """(shape) float32 numbers of a FillerParameter.

    Args:
        of: what is filled, in errors.
    Raises: CaffeError for an unknown filler, or one that the shape does not allow.
    """
    if filler.type not in FILLERS:
        raise CaffeError(f"a filler is one of {', '.join(FILLERS)}", f"{of}: {filler.type!r}", "mend the prototxt")
    if math.prod(shape) == 0:
        raise CaffeError("what is filled has numbers", f"{of}: shape {list(shape)}", "give the inputs a shape")
    outputs = shape[0] if shape else 0
    if filler.type == "gaussian" and filler.sparse >= 0 and (not shape or filler.sparse > outputs):
        raise CaffeError("sparse is at most the outputs' number", f"{of}: {filler.sparse} of {outputs}", "lower it")
    if filler.type == "bilinear" and (len(shape) != 4 or shape[2] != shape[3]):
        raise CaffeError("a bilinear filler fills square kernels", f"{of}: shape {list(shape)}", "use kernel_size")
    return FILLERS[filler.type](shape, filler)


def bilinear_kernel(size: int) -> Tensor:
    """(size, size) weights of bilinear upsampling."""
    factor = math.ceil(size / 2)
    middle = (size - 1) / (2 * factor)
    line = 1 - (torch.arange(size, dtype=torch.float32) / factor - middle).abs()
    return line[:, None] * line


def _gaussian(shape: Shape, filler: Message) -> Tensor:
    found: Tensor = torch.randn(shape) * filler.std + filler.mean
    if filler.sparse >= 0:
        found *= torch.rand(shape) < filler.sparse / shape[0]
    return found


def _unit_ball(shape: Shape, filler: Message) -> Tensor:
    rows = torch.rand(shape).reshape((*shape, 1)[0], -1)
    return (rows / rows.sum(1, keepdim=True)).reshape(shape)


def _fan(shape: Sequence[int], filler: Message) -> float:
    number = math.prod(shape)
    into, out = (number / size for size in (*shape, 1, 1)[:2])
    return {"FAN_IN": into, "FAN_OUT": out, "AVERAGE": (into + out) / 2}[filler.variance_norm]


def _xavier(shape: Shape, filler: Message) -> Tensor:
    return (torch.rand(shape) * 2 - 1) * math.sqrt(3 / _fan(shape, filler))


FILLERS: dict[str, Callable[[Shape, Message], Tensor]] = {
    "constant": lambda shape, filler: torch.full(shape, filler.value) if filler.value else torch.zeros(shape),
    "gaussian": _gaussian,
    "uniform": lambda shape, filler: torch.rand(shape) * (filler.max - filler.min) + filler.min,
    "positive_unitball": _unit_ball,
    "xavier": _xavier,
    "msra": lambda shape, filler: torch.randn(shape) * math.sqrt(2 / _fan(shape, filler)),
    "bilinear": lambda shape, filler: bilinear_kernel(shape[-1]).expand(shape).clone(),
}
