"""One photo through a segmenter. Road: nets, last but the bundle, which predicts by itself; the station `predict`
builds on it.

In: a network and a photo (a file, a Pillow image, an array). Out: `Prediction`. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fullconv.base.errors import UnreadableImage, UsageError
from fullconv.base.images import read_photo, rgb

if TYPE_CHECKING:
    from fullconv.labels.space import LabelSpace
    from fullconv.nets.segmentation import SegmentationNet

PRECISIONS = ("fp32", "bf16")
Photo = str | Path | Image.Image | NDArray[Any]


@dataclass(frozen=True)
class Prediction:
    """What a segmenter says of one photo.

    labels: (H, W) class ids 0 .. K-1, uint8 (uint16 past 255 classes): the class that scores highest.
    scores: (K, H, W) float32, before any softmax.
    label_space: the K classes.
    """

    labels: NDArray[Any]
    scores: NDArray[np.float32]
    label_space: LabelSpace


def predict_photo(net: SegmentationNet, photo: Photo, *, precision: str = "fp32") -> Prediction:
    """Segment one photo at its own size, in evaluation mode; the network is left in the mode it was in.

    Args:
        net: the segmenter.
        photo: a file, a Pillow image, or an (H, W), (H, W, 3) or (H, W, 4) array of uint8 or uint16.
        precision: "fp32", or "bf16": layers with much work compute in bfloat16, which keeps 8 bits of a number.
    Raises: UnreadableImage if the photo cannot be read; UsageError for another precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"a precision is one of {', '.join(PRECISIONS)}", repr(precision), "precision='fp32'")
    device = _device(net)
    prepared = net.preparation.prepare(pixels_of(photo))[None].to(device)
    narrow = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with evaluating(net), torch.inference_mode(), narrow:
        scores = net(prepared)[0].float().cpu()
        labels = scores.max(0).indices  # argmax takes eight times as long
    return Prediction(labels.numpy().astype(net.label_space.dtype), scores.numpy(), net.label_space)


def pixels_of(photo: Photo) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of whatever holds a photo. Raises: UnreadableImage."""
    if isinstance(photo, str | Path):
        return read_photo(Path(photo))
    if isinstance(photo, Image.Image):
        return rgb(photo)
    array = np.asarray(photo)
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not shaped or array.size == 0 or array.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(
            "a photo as an array is (H, W), (H, W, 3) or (H, W, 4), of uint8 or uint16",
            f"an array of shape {array.shape} and type {array.dtype}",
            "give the file itself, or (array * 255).astype('uint8') for values from 0 to 1",
        )
    if array.dtype == np.uint16:
        array = (array / 257).round().astype(np.uint8)
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return rgb(Image.fromarray(array)) if array.shape[2] == 4 else np.ascontiguousarray(array)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _device(net: nn.Module) -> torch.device:
    first = next(net.parameters(), None)
    return torch.device("cpu") if first is None else first.device
