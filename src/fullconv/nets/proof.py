"""That a converted network equals its classifier. Road: nets, beside surgery. In: both networks. Out: Proof, JSON.

At the window the two must agree to rounding. On a larger photo each cell of the grid is compared with the classifier
run on that cell's window: equal where nothing is padded inside, else measured and explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fullconv.base import seeds
from fullconv.base.errors import SurgeryError, UsageError
from fullconv.geometry.geometry import Geometry, exact

Size = tuple[int, int]


@dataclass(frozen=True)
class Account:
    """What became of every weight, by its name in the state dict."""

    copied: tuple[str, ...]
    reshaped: tuple[str, ...]
    folded: tuple[str, ...]
    dropped: tuple[str, ...]
    fresh: tuple[str, ...]

    def to_json(self) -> dict[str, list[str]]:
        return {name: list(getattr(self, name)) for name in ("copied", "reshaped", "folded", "dropped", "fresh")}


@dataclass(frozen=True)
class AtWindow:
    """The comparison at the training size; `relative` is to the largest absolute score of the classifier."""

    images: int
    largest_difference: float
    relative_difference: float

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "largest_difference": self.largest_difference,
            "relative_difference": self.relative_difference,
        }


@dataclass(frozen=True)
class Proof:
    """The record that a converted network equals its classifier. Keys of `to_json`: DESIGN 4.4."""

    window: Size
    grid: Geometry
    pooling: str
    at_window: AtWindow
    account: Account

    @property
    def stride(self) -> tuple[Any, Any]:
        return self.grid.stride

    @property
    def offset(self) -> tuple[Any, Any]:
        return self.grid.offset

    @property
    def receptive_field(self) -> tuple[Any, Any] | None:
        return self.grid.receptive_field

    def to_json(self) -> dict[str, Any]:
        field = self.receptive_field
        return {
            "schema": "fullconv.proof/1",
            "window": list(self.window),
            "stride": [exact(v) for v in self.stride],
            "offset": [exact(v) for v in self.offset],
            "receptive_field": None if field is None else [exact(v) for v in field],
            "at_window": self.at_window.to_json(),
            "account": self.account.to_json(),
        }


def at_window(model: nn.Module, network: nn.Module, window: Size, photos: Sequence[np.ndarray] | Tensor | None) -> AtWindow:
    """Compare both networks on photos of the window's size."""
    pictures = seeded(window) if photos is None else torch.as_tensor(photos)
    with evaluating(model, network), torch.no_grad():
        truth, guess = model(pictures), network(pictures).mean((2, 3))
    truth = truth.flatten(1)
    difference = float((truth - guess).abs().max())
    return AtWindow(len(pictures), difference, difference / max(float(truth.abs().max()), 1e-30))


def seeded(size: Size, count: int = 2) -> Tensor:
    values = seeds.rng(0, "proof", *size).standard_normal((count, 3, *size), dtype=np.float32)
    return torch.from_numpy(values).clamp_(-2, 2)


class evaluating:
    """Both networks in evaluation mode for a while."""

    def __init__(self, *networks: nn.Module) -> None:
        self.modes = [(m, m.training) for network in networks for m in network.modules()]

    def __enter__(self) -> None:
        for module, _ in self.modes:
            module.training = False

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode
