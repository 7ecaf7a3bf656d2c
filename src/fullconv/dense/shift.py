"""A finer stride without a finer network: shift-and-stitch. Road: dense. In: a converted network, a photo. Out: a map.

For scores every t pixels from a network of stride s = f * t, the photo is shifted by 0, t, ..., (f - 1) t along both
axes, the network runs on each of the f * f shifted photos, and the maps are interlaced. Source: Sermanet et al. 2014,
section 3.6; Long et al. 2015, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fullconv.base.errors import GeometryError
from fullconv.geometry.geometry import Geometry, exact
from fullconv.nets.proof import tensors


def passes(geometry: Geometry, stride: int) -> tuple[int, int]:
    """(y, x): how many shifts along each axis bring the network's stride to `stride`.

    Raises: GeometryError unless the network's stride is a multiple of it.
    """
    factors = [own / max(1, stride) for own in geometry.stride]
    if stride < 1 or any(f.denominator != 1 or f < 1 for f in factors):
        own = "x".join(str(exact(s)) for s in geometry.stride)
        raise GeometryError(
            "a finer stride divides the network's own",
            f"stride {stride} of a network of stride {own}",
            f"--stride {max(1, int(geometry.stride[0]) // 2)}",
        )
    return int(factors[0]), int(factors[1])


def shift_and_stitch(network: nn.Module, photo: Tensor, *, stride: int, shifts: tuple[int, int]) -> Tensor:
    """(K, f h, f w): scores every `stride` pixels, the first cell where the network's own first cell lies.

    Args:
        network: fully convolutional, (N, 3, H, W) -> (N, K, h, w), in evaluation mode.
        photo: (3, H, W) prepared; every shifted photo is a part of it, (f - 1) * stride pixels smaller.
        shifts: see `passes`.
    """
    down, across = shifts
    height, width = photo.shape[1] - (down - 1) * stride, photo.shape[2] - (across - 1) * stride
    stitched = torch.empty(0)
    for i in range(down):
        for j in range(across):
            top, left = i * stride, j * stride
            scores = tensors(network(photo[None, :, top : top + height, left : left + width]))[0][0]
            if i == j == 0:
                stitched = scores.new_empty(scores.shape[0], down * scores.shape[1], across * scores.shape[2])
            stitched[:, i::down, j::across] = scores
    return stitched
