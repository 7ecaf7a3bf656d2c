"""Photos in and out, by the names of pycaffe's `caffe.io`. Road: caffe, beside the face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from fullconv.base.errors import CaffeError, UsageError
from fullconv.base.images import read_photo

Floats = NDArray[np.float32]


def load_image(path: str | Path, color: bool = True) -> Floats:
    """(H, W, 3) float32 RGB from 0 to 1; (H, W, 1) grey if `color` is False. Raises: UnreadableImage."""
    photo: Floats = read_photo(Path(path)).astype(np.float32) / np.float32(255)
    if color:
        return photo
    return (photo @ np.array([0.2125, 0.7154, 0.0721], np.float32))[..., None]


def resize_image(image: NDArray[Any], size: Sequence[int], interp_order: int = 1) -> Floats:
    """(H, W, C) at another (H', W'): bilinear, or nearest for order 0."""
    if interp_order not in (0, 1):
        raise UsageError("interp_order is 0 (nearest) or 1 (bilinear)", str(interp_order), "resize it before")
    given = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
    if interp_order == 0:
        found = F.interpolate(given, tuple(size), mode="nearest-exact")
    else:
        found = F.interpolate(given, tuple(size), mode="bilinear", align_corners=False)
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())


class Transformer:
    """Bring photos to what a net takes, and back: sizes, axes, channel order, scales and means, one input at a time.

    Args:
        inputs: input name -> its blob's shape, (N, C, H, W).
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = dict(inputs)
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, Floats] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, name: str, image: NDArray[Any]) -> Floats:
        """(C, H, W) for the input: resized, axes moved, channels swapped, scaled, less the mean, scaled again."""
        self._known(name)
        found = np.asarray(image, np.float32)
        size = tuple(self.inputs[name][2:])
        if found.shape[:2] != size:
            found = resize_image(found, size)
        found = found.transpose(self.transpose[name]) if name in self.transpose else found
        found = found[list(self.channel_swap[name])] if name in self.channel_swap else found
        found = found * np.float32(self.raw_scale.get(name, 1))
        found = found - self.mean[name] if name in self.mean else found
        return np.ascontiguousarray(found * np.float32(self.input_scale.get(name, 1)), np.float32)

    def deprocess(self, name: str, data: NDArray[Any]) -> Floats:
        """What `preprocess` was given, but for its size."""
        self._known(name)
        found = np.squeeze(np.asarray(data, np.float32)).copy()
        found = found / np.float32(self.input_scale.get(name, 1))
        found = found + self.mean[name] if name in self.mean else found
        found = found / np.float32(self.raw_scale.get(name, 1))
        found = found[np.argsort(self.channel_swap[name])] if name in self.channel_swap else found
        found = found.transpose(np.argsort(self.transpose[name])) if name in self.transpose else found
        return np.ascontiguousarray(found, np.float32)

    def set_transpose(self, name: str, order: Sequence[int]) -> None:
        """Order of axes: (2, 0, 1) brings (H, W, C) to (C, H, W)."""
        self._known(name)
        if sorted(order) != list(range(len(self.inputs[name]) - 1)):
            raise UsageError("the order has each axis of the input once", f"{tuple(order)}", "(2, 0, 1)")
        self.transpose[name] = tuple(order)

    def set_channel_swap(self, name: str, order: Sequence[int]) -> None:
        """Order of channels: (2, 1, 0) brings RGB to BGR."""
        self._known(name)
        if len(order) != self.inputs[name][1]:
            raise UsageError("the order has each channel of the input", f"{tuple(order)}", "(2, 1, 0)")
        self.channel_swap[name] = tuple(order)

    def set_raw_scale(self, name: str, scale: float) -> None:
        """Factor before the mean is taken off: 255 where means are of 0 to 255 and photos of 0 to 1."""
        self._known(name)
        self.raw_scale[name] = scale

    def set_input_scale(self, name: str, scale: float) -> None:
        """Factor after the mean is taken off."""
        self._known(name)
        self.input_scale[name] = scale

    def set_mean(self, name: str, mean: NDArray[Any]) -> None:
        """What is taken off: (C,) or (C, H, W), channels as the net takes them.

        Raises: CaffeError for another shape.
        """
        self._known(name)
        found, channels = np.asarray(mean, np.float32), self.inputs[name][1]
        if found.ndim == 1:
            found = found[:, None, None]
        if found.ndim != 3 or found.shape[0] not in (1, channels):
            raise CaffeError(f"the mean has {channels} channels", f"shape {list(np.shape(mean))}", "mean.mean((1, 2))")
        if found.shape[1:] != (1, 1) and found.shape[1:] != tuple(self.inputs[name][2:]):
            found = resize_image(found.transpose(1, 2, 0), tuple(self.inputs[name][2:])).transpose(2, 0, 1)
        self.mean[name] = found

    def _known(self, name: str) -> None:
        if name not in self.inputs:
            raise UsageError(f"an input is one of {', '.join(self.inputs)}", f"'{name}'", "net.inputs")
