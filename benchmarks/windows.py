"""One dense pass beside the classifier on every window: what is saved, and what padding costs in agreement.

python benchmarks/windows.py [CASE ...]      writes benchmarks/results/windows.json

Both ways in turns, best and median of several; the windows in one batch. Two networks have random weights, where only
seconds count; EfficientNet-Lite0 has ImageNet's, and real photos.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from road import DATA, git, machine
from torch import Tensor

from fullconv.base.files import read_json, write_json
from fullconv.base.images import read_photo
from fullconv.nets.bundle import versions
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.proof import cells_and_windows, evaluating, prove
from fullconv.nets.surgery import convolutionalize
from fullconv.predict.classify import middle_window

RESULTS = Path(__file__).parent / "results" / "windows.json"
ROUNDS = 5
PHOTOS = 8


@dataclass(frozen=True)
class Case:
    model: str
    weights: str
    window: int
    photo: int


CASES = {
    "vgg16": Case("torchvision:vgg16", "none", 224, 384),  # the seed case: 12x12x512, 6x6x1000, 36 windows
    "alexnet": Case("torchvision:alexnet", "none", 227, 515),  # 10x10 whole windows; Long et al. 2015, 4.1: over 5 times
    "lite0": Case("embedded:efficientnet_lite0", "embedded", 224, 384),
}


def main(names: list[str]) -> None:
    rows = read_json(RESULTS)["rows"] if RESULTS.exists() else []
    for name in names or list(CASES):
        row = {"case": name} | measured(CASES[name])
        rows = [old for old in rows if old["case"] != name] + [row]
        document = {
            "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else ""),
            "machine": machine(),
            "versions": versions(),
            "command": "python benchmarks/windows.py",
        }
        write_json(RESULTS, document | {"rows": rows})
        print(row, flush=True)


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
        dense, apart = in_turns(lambda: converted.network(picture[None]), lambda: classifier.network(cut))
    document = proof.to_json()["dense"]
    return {
        "model": case.model,
        "photo": case.photo,
        "windows": len(cells),
        "grid": document["grid"],
        "seconds": {"dense": summary(dense), "windows": summary(apart)},
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


def in_turns(*ways: Callable[[], Any]) -> list[list[float]]:
    spent: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS + 1):
        for way, seconds in zip(ways, spent, strict=True):
            began = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - began)
    return [seconds[1:] for seconds in spent]  # the first round warms up


def summary(seconds: list[float]) -> dict[str, float]:
    return {"best": min(seconds), "median": statistics.median(seconds)}


if __name__ == "__main__":
    main(sys.argv[1:])
