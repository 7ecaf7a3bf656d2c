"""What a classifier says of a photo's middle. Road: predict. In: a classifier, a photo. Out: one score a class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as tv

from fullconv.nets.classifiers import Classifier


def middle_window(photo: NDArray[np.uint8], window: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w, 3): the photo enlarged or shrunk to cover the window, as little as possible, and cut to its middle."""
    height, width = photo.shape[:2]
    factor = max(window[0] / height, window[1] / width)
    size = [max(window[0], round(height * factor)), max(window[1], round(width * factor))]
    x = tv.resize(torch.from_numpy(photo).permute(2, 0, 1), size, antialias=True)
    return tv.center_crop(x, list(window)).permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


def window_scores(classifier: Classifier, window: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(K,) float32 scores of one window, (h, w, 3) uint8."""
    network = classifier.network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        return network(classifier.preparation.prepare(window)[None].to(device))[0].float().cpu().numpy()  # type: ignore[no-any-return]
