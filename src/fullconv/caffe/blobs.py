"""Blobs of Caffe as arrays. Road: caffe, between messages and weights.

Source of the shapes: BlobProto of BVLC Caffe; files of before 2014 give num, channels, height, width. Knows no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fullconv.base.errors import CaffeError, WeightsError
from fullconv.caffe.message import Message
from fullconv.caffe.wire import read_binary

_FOUR = ("num", "channels", "height", "width")
_MOST_AXES = 32
_MOST = 2**31 - 1

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Blob:
    """Numbers as a file holds them.

    Args:
        data: float32, of the shape that the file says.
        four: whether it says so by num, channels, height and width, which newer shapes are compared with ones in front.
    """

    data: Floats
    four: bool = False

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it may be copied into a blob of a shape, as Caffe decides it."""
        if not self.four:
            return self.data.shape == shape
        return len(shape) <= 4 and self.data.shape == (1,) * (4 - len(shape)) + shape


def blob_of(proto: Message, *, of: str) -> Blob:
    """The numbers of a BlobProto.

    Args:
        of: what the blob is called in errors.
    Raises: WeightsError if it has another number of them than its shape says.
    """
    four = any(proto.has(name) for name in _FOUR)
    shape = tuple(getattr(proto, name) for name in _FOUR) if four else tuple(proto.shape.dim)
    if len(shape) > _MOST_AXES or min(shape, default=0) < 0 or math.prod(size or 1 for size in shape) > _MOST:
        raise WeightsError(
            f"a blob has at most {_MOST_AXES} axes, none negative, and 2^31 - 1 numbers",
            f"{of}: {list(shape)[: _MOST_AXES + 1]}",
            _AGAIN,
        )
    data = np.asarray(proto.double_data if len(proto.double_data) else proto.data, np.float32)
    number = math.prod(shape)
    if data.size != number:
        raise WeightsError(
            f"{of} has the {number} numbers that its shape {list(shape)} says", f"{data.size} numbers are there", _AGAIN
        )
    return Blob(data.reshape(shape), four)


def proto_of(data: NDArray[np.float32]) -> Message:
    """A BlobProto of an array."""
    flat = np.ascontiguousarray(data, np.float32).ravel()
    return Message("BlobProto", shape=Message("BlobShape", dim=list(data.shape)), data=flat)


def read_mean(path: Path) -> Floats:
    """(C, H, W) mean image of a .binaryproto, channels as in the file: BGR, 0 to 255.

    Raises: CaffeError, WeightsError.
    """
    mean = blob_of(read_binary(path, "BlobProto"), of=str(path)).data
    if mean.ndim < 3 or any(size != 1 for size in mean.shape[:-3]):
        raise CaffeError("a mean image has channels, rows and columns", f"{path}: {list(mean.shape)}", _AGAIN)
    return mean.reshape(mean.shape[-3:])


_AGAIN = "get the file again, whole; compare its size"
