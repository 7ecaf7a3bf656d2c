"""One dense pass beside the classifier on every window: what is saved, and what padding costs in agreement.

python benchmarks/windows.py [CASE ...]      writes benchmarks/results/windows.json

Both ways in turns, best and median of several; the windows in one batch. Two networks have random weights, where only
seconds count; EfficientNet-Lite0 has ImageNet's, and real photos.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import rows
import torch
from road import DATA
from torch import Tensor

from fullconv.base.images import read_photo
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.proof import cells_and_windows, evaluating, prove
from fullconv.nets.surgery import convolutionalize
from fullconv.predict.classify import middle_window

PHOTOS = 8


@dataclass(frozen=True)
class Case:
    model: str
    weights: str
    window: int
    photo: int


CASES = {
    # the seed case: 12x12x512 after the last pooling, 6x6x1000 scores, 36 windows
    "vgg16": Case("torchvision:vgg16", "none", 224, 384),
    # 10x10 whole windows; Long et al. 2015, section 4.1: more than 5 times
    "alexnet": Case("torchvision:alexnet", "none", 227, 515),
    "lite0": Case("embedded:efficientnet_lite0", "embedded", 224, 384),
}


def measured(case: Case) -> dict[str, Any]:
    classifier = build_classifier(case.model, weights=case.weights)
    window = (case.window, case.window)
    converted = convolutionalize(classifier.network, window)
    pictures = photos(classifier.preparation.prepare, case.photo)
    proof = prove(classifier.network, converted, photos=pictures)
    picture = pictures[0]
    cells, starts = cells_and_windows(converted, (case.photo, case.photo))
    cut = torch.stack([picture[:, y : y + window[0], x : x + window[1]] for y, x in starts])
    with evaluating(classifier.network, converted.network), torch.inference_mode():
        dense, apart = rows.in_turns(lambda: converted.network(picture[None]), lambda: classifier.network(cut))
    document = proof.to_json()["dense"]
    return {
        "model": case.model,
        "photo": case.photo,
        "windows": len(cells),
        "grid": document["grid"],
        "seconds": {"dense": rows.summary(dense), "windows": rows.summary(apart)},
        "faster": min(apart) / min(dense),
        "photos": len(pictures),
        "compared": document["windows"],
        "relative_difference": document["relative_difference"],
        "top1_agreement": document["top1_agreement"],
        "why": document["why"],
    }


def photos(prepare: Callable[[Any], Tensor], side: int) -> list[Tensor]:
    """Photos of voc-animals, their middle brought to side x side."""
    files = sorted((DATA / "voc-animals" / "JPEGImages").glob("*.jpg"))[:PHOTOS]
    return [prepare(middle_window(read_photo(file), (side, side))) for file in files]


if __name__ == "__main__":
    rows.run("windows", {name: partial(measured, case) for name, case in CASES.items()}, sys.argv[1:])
