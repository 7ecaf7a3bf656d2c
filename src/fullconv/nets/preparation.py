"""From a photo's bytes to what a network reads. Road: nets. In: a photo. Out: a tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fullconv.base.errors import BundleError

Three = tuple[float, float, float]

EXAMPLE = 'for example {"channel_order": "RGB", "mean": [127.5, 127.5, 127.5], "scale": [0.0078, 0.0078, 0.0078]}'


@dataclass(frozen=True)
class Preparation:
    """Channel order, mean and scale: a value v of a channel becomes (v - mean) * scale, with v from 0 to 255.

    `mean` and `scale` are in the order that the network reads (BGR where `channel_order` is "BGR").
    """

    channel_order: str = "RGB"
    mean: Three = (127.5, 127.5, 127.5)
    scale: Three = (1 / 127.5, 1 / 127.5, 1 / 127.5)

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR") or len(self.mean) != 3 or len(self.scale) != 3:
            raise BundleError(
                "a preparation has channel_order RGB or BGR, and three values each of mean and scale",
                f"channel_order {self.channel_order!r}, mean {self.mean}, scale {self.scale}",
                EXAMPLE,
            )
        if not all(map(math.isfinite, (*self.mean, *self.scale))) or 0 in self.scale:
            raise BundleError(
                "mean and scale of a preparation are finite numbers, and no scale is 0",
                f"mean {self.mean}, scale {self.scale}",
                EXAMPLE,
            )

    def prepare(self, photo: np.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 RGB -> (3, H, W) float32."""
        values = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).to(torch.float32)
        if self.channel_order == "BGR":
            values = values.flip(0)
        mean, scale = (torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (self.mean, self.scale))
        return ((values - mean) * scale).contiguous()

    def to_json(self) -> dict[str, Any]:
        return {"channel_order": self.channel_order, "mean": list(self.mean), "scale": list(self.scale)}

    @staticmethod
    def from_json(record: dict[str, Any]) -> Preparation:
        def three(name: str) -> Three:
            a, b, c = (float(v) for v in record[name])
            return a, b, c

        try:
            return Preparation(str(record["channel_order"]), three("mean"), three("scale"))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                "a preparation is channel_order, mean and scale (three numbers each)",
                f"{record!r} ({type(error).__name__}: {error})",
                EXAMPLE,
            ) from error


def from_unit_range(mean: Three, deviation: Three) -> Preparation:
    """The preparation for networks that read (v / 255 - mean) / deviation, as torchvision and timm write it."""
    m = (255 * mean[0], 255 * mean[1], 255 * mean[2])
    s = (1 / (255 * deviation[0]), 1 / (255 * deviation[1]), 1 / (255 * deviation[2]))
    return Preparation("RGB", m, s)
