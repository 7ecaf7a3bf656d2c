"""What a classifier says of a whole photo. Road: predict. In: a classifier, a photo. Out: one number a class.

One crop, the middle of the photo, as classifiers are tested; or many positions of an enlarged photo in one pass of the
converted network, averaged with those of its mirror image. Source: Simonyan and Zisserman 2015, section 3.2.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from fullconv.base.errors import UsageError
from fullconv.dense.scales import check_enlarged
from fullconv.nets.classifiers import Classifier

if TYPE_CHECKING:
    from fullconv.nets.surgery import Converted

ENLARGED = 1.25  # shorter side of the photo over that of the window


def middle_window(photo: NDArray[np.uint8], window: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w, 3): the photo enlarged or shrunk to cover the window, as little as possible, and cut to its middle."""
    return tv.center_crop(_covering(photo, window), list(window)).permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


def _covering(photo: NDArray[np.uint8], window: tuple[int, int]) -> Tensor:
    """(3, H, W): the photo, enlarged or shrunk to cover (rows, columns), as little as possible."""
    height, width = photo.shape[:2]
    factor = max(window[0] / height, window[1] / width)
    size = [max(window[0], round(height * factor)), max(window[1], round(width * factor))]
    check_enlarged(photo, (size[0], size[1]))
    return tv.resize(torch.from_numpy(photo).permute(2, 0, 1), size, antialias=True)  # type: ignore[no-any-return]


def window_scores(classifier: Classifier, window: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(K,) float32 scores of one window, (h, w, 3) uint8."""
    network = classifier.network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        return network(classifier.preparation.prepare(window)[None].to(device))[0].float().cpu().numpy()  # type: ignore[no-any-return]


def one_crop(classifier: Classifier, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(K,) probabilities, the softmax of the scores of the photo's middle."""
    scores = window_scores(classifier, middle_window(photo, classifier.window))
    return torch.from_numpy(scores).softmax(0).numpy()


def many_positions(
    classifier: Classifier, converted: Converted, photo: NDArray[np.uint8], *, enlarged: float = ENLARGED
) -> NDArray[np.float32]:
    """(K,) probabilities: the mean of the softmax over every position of the enlarged photo and of its mirror image.

    Args:
        converted: of this classifier, each cell the score of one window.
        enlarged: the shorter side of what is scored, in windows; at least 1.
    """
    least = (round(classifier.window[0] * enlarged), round(classifier.window[1] * enlarged))
    seen = _covering(photo, least).permute(1, 2, 0).numpy()
    network = converted.network.eval()
    prepared = classifier.preparation.prepare(seen)
    with torch.inference_mode():
        maps = network(torch.stack([prepared, prepared.flip(2)]))
    scores: Tensor = maps if isinstance(maps, Tensor) else maps[0]  # (2, K, h, w)
    return scores.float().softmax(1).mean((0, 2, 3)).numpy()


def top(
    probabilities: NDArray[np.float32], names: Sequence[str] | None, count: int = 5
) -> list[tuple[int, str, float]]:
    """(class id, name, probability) of the most likely classes, best first; `class 7` where names are not known."""
    best = np.argsort(-probabilities, kind="stable")[:count]
    return [(int(k), names[k] if names else f"class {k}", float(probabilities[k])) for k in best]


def class_named(word: str, names: Sequence[str] | None, classes: int) -> int:
    """The id of a class by its name, one of its names (ImageNet's are lists), or its number.

    Raises: UsageError that offers near names.
    """
    if word.isdigit() and int(word) < classes:
        return int(word)
    known: dict[str, int] = {}
    for k, name in enumerate(names or ()):
        for part in (name, *name.split(",")):
            known.setdefault(part.strip().lower(), k)
    if word.strip().lower() in known:
        return known[word.strip().lower()]
    near = difflib.get_close_matches(word.lower(), known, 3, 0.5)
    raise UsageError(
        "a class is a name that the classifier knows, or its number",
        f"{word!r}" + ("" if names else " (this classifier's classes have no names: --class-names FILE)"),
        f"--classes {near[0]!r}" + (f" (or {', '.join(near[1:])})" if near[1:] else "")
        if near
        else f"a number from 0 to {classes - 1}",
    )
