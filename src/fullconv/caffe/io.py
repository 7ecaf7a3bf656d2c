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
from fullconv.caffe import blobs
from fullconv.caffe.message import Message
from fullconv.caffe.proto.caffe_pb2 import BlobProto

Floats = NDArray[np.float32]


def load_image(path: str | Path, color: bool = True) -> Floats:
    """(H, W, 3) float32 RGB from 0 to 1; (H, W, 1) grey if `color` is False. Raises: UnreadableImage."""
    photo: Floats = read_photo(Path(path)).astype(np.float32) / np.float32(255)
    if color:
        return photo
    return (photo @ np.array([0.2125, 0.7154, 0.0721], np.float32))[..., None]


def resize_image(image: NDArray[Any], size: Sequence[float], interp_order: int = 1) -> Floats:
    """(H, W, C) at another (H', W'): bilinear, or nearest for order 0.

    Raises: UsageError for an image of other axes, or a size that is not two whole numbers.
    """
    _check_image(image)
    if len(size) != 2 or any(one != int(one) or one < 1 for one in size):
        raise UsageError("a size is height and width, whole numbers from 1 on", f"{tuple(size)}", "(227, 227)")
    height, width = map(int, size)
    if interp_order not in (0, 1):
        raise UsageError("interp_order is 0 (nearest) or 1 (bilinear)", str(interp_order), "resize it before")
    given = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
    if interp_order == 0:
        found = F.interpolate(given, (height, width), mode="nearest-exact")
    else:
        found = F.interpolate(given, (height, width), mode="bilinear", align_corners=False)
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())


def oversample(images: Sequence[NDArray[Any]], crop_dims: Sequence[int]) -> Floats:
    """Ten crops of each photo: corners in reading order and centre, then the five mirrored left to right.

    Args:
        images: (H, W, C) each, of one size.
        crop_dims: height and width of the crops.
    Returns: (10 N, H', W', C) float32.
    Raises: UsageError if there are none, or they are smaller than the crops or of several sizes.
    """
    shapes = {np.shape(image) for image in images}
    height, width = (int(one) for one in crop_dims)
    for image in images:
        _check_image(image)
    if len(shapes) != 1 or any(shape[0] < height or shape[1] < width for shape in shapes):
        raise UsageError(
            "photos are of one size, and not smaller than the crops",
            f"{sorted(shapes)} for crops of {height}x{width}",
            "caffe.io.resize_image(photo, (256, 256))",
        )
    rows, columns, _ = shapes.pop()
    below, right = rows - height, columns - width
    places = [(0, 0), (0, right), (below, 0), (below, right), (below // 2, right // 2)]
    crops = [
        np.stack([np.asarray(image, np.float32)[top : top + height, left : left + width] for top, left in places])
        for image in images
    ]
    return np.concatenate([part for crop in crops for part in (crop, crop[:, :, ::-1])])


def read_mean(path: str | Path) -> Floats:
    """(C, H, W) mean image of a .binaryproto, channels as in the file: BGR, 0 to 255.

    Raises: CaffeError, WeightsError.
    """
    return blobs.read_mean(Path(path))


def blobproto_to_array(blob: Message, return_diff: bool = False) -> Floats:
    """The numbers of a BlobProto, in its shape; those of a mean.binaryproto are (1, C, H, W).

    Raises: WeightsError if it has another number of them than its shape says.
    """
    if return_diff:
        blob = blob.copied()
        blob.data, blob.double_data = blob.diff, blob.double_diff
    return blobs.blob_of(blob, of="the BlobProto").data


def array_to_blobproto(arr: NDArray[Any], diff: NDArray[Any] | None = None) -> BlobProto:
    """A BlobProto of an array, and of a gradient of its shape."""
    found = BlobProto()
    found.merge(blobs.proto_of(np.asarray(arr, np.float32)))
    if diff is not None:
        found.diff = np.ascontiguousarray(diff, np.float32).ravel()
    return found


def _check_image(image: NDArray[Any]) -> None:
    if np.ndim(image) != 3 or 0 in np.shape(image):
        raise UsageError(
            "a photo has rows, columns and channels", f"shape {list(np.shape(image))}", "grey: photo[:, :, np.newaxis]"
        )


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
        """(C, H, W) for the input: resized, axes moved, channels swapped, scaled, less the mean, scaled again.

        Raises: UsageError for an image of other axes, CaffeError for one of other channels.
        """
        self._known(name)
        found = np.asarray(image, np.float32)
        size = tuple(self.inputs[name][2:])
        if found.shape[:2] != size:
            found = resize_image(found, size)
        if name in self.transpose:
            _check_image(found)
            found = found.transpose(self.transpose[name])
        channels = self.inputs[name][1]
        if (name in self.channel_swap or name in self.mean) and found.shape[0] != channels:
            raise CaffeError(
                f"input '{name}' has {channels} channels",
                f"{found.shape[0]}, in an image of shape {list(np.shape(image))}",
                "caffe.io.load_image, set_transpose",
            )
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
        """What is taken off: (C,), (C, H, W) or (H, W), channels as the net takes them.

        Raises: CaffeError for another shape.
        """
        self._known(name)
        found, channels = np.asarray(mean, np.float32), self.inputs[name][1]
        if found.ndim == 1:
            found = found[:, None, None]
        elif found.ndim == 2:
            found = found[None]
        if found.ndim != 3 or found.shape[0] not in (1, channels):
            raise CaffeError(f"the mean has {channels} channels", f"shape {list(np.shape(mean))}", "mean.mean((1, 2))")
        if found.shape[1:] != (1, 1) and found.shape[1:] != tuple(self.inputs[name][2:]):
            found = resize_image(found.transpose(1, 2, 0), tuple(self.inputs[name][2:])).transpose(2, 0, 1)
        self.mean[name] = found

    def _known(self, name: str) -> None:
        if name not in self.inputs:
            raise UsageError(f"an input is one of {', '.join(self.inputs)}", f"'{name}'", "net.inputs")
