"""The ways of dense prediction beside each other: equal where they should be, and what each costs.

python benchmarks/dense.py [CASE ...]      writes benchmarks/results/dense.json

For a quiet machine. Ways that are compared take turns; best and median of several. Random weights unless said.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import rows
import torch
from road import DATA
from torch import nn
from torchvision.models import resnet50

from fullconv.base.images import read_photo
from fullconv.base.measured import measured
from fullconv.dense.rarefied import rarefy
from fullconv.dense.shift import passes, shift_and_stitch
from fullconv.dense.ways import DenseClassifier, dense_classifier, dense_scores
from fullconv.dense.windows import patch_costs, patches
from fullconv.nets.classifiers import Classifier, build_classifier
from fullconv.nets.matrix import conv_as_linear
from fullconv.nets.preparation import Preparation
from fullconv.nets.proof import tensors
from fullconv.nets.surgery import convolutionalize


def photo_375x500() -> Any:
    """The first photo of voc-animals of that size."""
    files = sorted((DATA / "voc-animals" / "JPEGImages").glob("*.jpg"))
    return next(p for p in map(read_photo, files) if p.shape[:2] == (375, 500))


def thousand_maps() -> dict[str, Any]:
    """All 1000 maps of ImageNet's classes brought to full size, the best class at every pixel."""
    dense = dense_classifier(build_classifier("embedded:efficientnet_lite0"))
    photo = photo_375x500()
    work = partial(dense_scores, dense, photo)
    work().best()  # what the libraries themselves hold is not counted
    runs = [measured(lambda: work().best()) for _ in range(5)]
    pass_alone = [measured(work) for _ in range(5)]
    return {
        "photo": [375, 500],
        "classes": 1000,
        "peak_bytes": max(run.peak_bytes or 0 for run in runs),
        "bytes_of_all_maps": 4 * 1000 * 375 * 500,
        "seconds": rows.summary([run.seconds for run in runs]),
        "seconds_of_the_pass": rows.summary([run.seconds for run in pass_alone]),
    }


class PatchNet(nn.Sequential):
    """A classifier of 15x15 patches, nothing padded: three 3x3 convolutions and a fully connected layer over 9x9."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 81, 32), nn.ReLU(), nn.Linear(32, 7),
        )  # fmt: skip


def patches_15() -> dict[str, Any]:
    """A patch of 15x15 round every pixel, beside one pass of the same network converted."""
    torch.manual_seed(0)
    model = PatchNet().eval()
    prepared = Preparation().prepare(photo_375x500())
    converted = convolutionalize(model, 15).network.eval()
    with torch.inference_mode():
        apart = torch.from_numpy(patches(model, prepared, size=15).of(range(7)))[:, 7:-7, 7:-7]
        once = tensors(converted(prepared[None]))[0][0]
        one, other = rows.in_turns(
            lambda: tensors(converted(prepared[None]))[0], lambda: patches(model, prepared, size=15), rounds=3
        )
        costs = patch_costs(model, converted, (375, 500), size=15)
        held = [measured(lambda: converted(prepared[None])), measured(lambda: patches(model, prepared, size=15))]
    return {
        "photo": [375, 500],
        "patches": 375 * 500,
        "bytes_of_patches": costs.bytes,
        "bytes_of_photo": costs.photo_bytes,
        "multiply_adds": {"patches": costs.multiply_adds, "once": costs.one_pass_multiply_adds},
        "repeated_work": round(costs.multiply_adds / costs.one_pass_multiply_adds, 1),
        "context": list(costs.context),
        "relative_difference": relative(once, apart),
        "seconds": {"once": rows.summary(one), "patches": rows.summary(other)},
        "peak_bytes": {"once": held[0].peak_bytes, "patches": held[1].peak_bytes},
        "times": round(min(other) / min(one), 1),
    }


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference over the largest absolute value."""
    return float((one - other).abs().max() / other.abs().max())


class Unpadded(nn.Sequential):
    """VGG's shape without padding inside: stride 32 by five poolings, fully connected over 3x3 cells."""

    def __init__(self) -> None:
        steps: list[nn.Module] = []
        for inputs, outputs in zip((3, 32, 64, 96, 128), (32, 64, 96, 128, 128), strict=True):
            steps += [nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.MaxPool2d(2, 2)]
        super().__init__(*steps, nn.Flatten(), nn.Linear(128 * 9, 256), nn.ReLU(), nn.Linear(256, 7))


def finer(dense: DenseClassifier, stride: int, side: tuple[int, int]) -> dict[str, Any]:
    """Shift-and-stitch and rarefaction to a stride: how far apart, at every cell and at those that see no padding."""
    shifts = passes(dense.grid, stride)
    size = tuple(length + (shifts[i] - 1) * stride for i, length in enumerate(side))
    photo = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    network = dense.converted.network.eval()
    thin = rarefy(network, stride=stride, size=side)
    with torch.inference_mode():
        stitched = shift_and_stitch(network, photo, stride=stride, shifts=shifts)
        once = tensors(thin(photo[None]))[0][0]
        grid = (min(stitched.shape[1], once.shape[1]), min(stitched.shape[2], once.shape[2]))
        stitched, once = stitched[:, : grid[0], : grid[1]], once[:, : grid[0], : grid[1]]
        slow, fast, coarse = rows.in_turns(
            lambda: shift_and_stitch(network, photo, stride=stride, shifts=shifts),
            lambda: thin(photo[None]),
            lambda: network(photo[None]),
            rounds=3,
        )
    field, geometry = dense.grid.receptive_field, dense.geometry_at(side)
    row = {"stride": stride, "passes": shifts[0] * shifts[1], "photo": list(size), "cells": list(grid)}
    row |= {"relative_difference": relative(once, stitched)}
    if field is not None:
        inside = [
            [
                n
                for n in range(grid[i])
                if (at := float(geometry.offset[i]) + n * stride) - float(field[i] - 1) / 2 >= size[i] - side[i]
                and at + float(field[i] - 1) / 2 < side[i]
            ]
            for i in (0, 1)
        ]
        row["cells_without_padding"] = [len(cells) for cells in inside]
        if inside[0] and inside[1]:
            parts = [m[:, inside[0][0] : inside[0][-1] + 1, inside[1][0] : inside[1][-1] + 1] for m in (once, stitched)]
            row["relative_difference_without_padding"] = relative(*parts)
    row["same_class"] = float((once.argmax(0) == stitched.argmax(0)).double().mean())
    seconds = {"shift": rows.summary(slow), "rarefied": rows.summary(fast), "coarse": rows.summary(coarse)}
    return row | {"seconds": seconds, "times": round(min(slow) / min(fast), 2)}


def finer_unpadded() -> dict[str, Any]:
    torch.manual_seed(0)
    classifier = Classifier(Unpadded().eval(), "stride 32, nothing padded", (158, 158), Preparation(), None, "random")
    dense = dense_classifier(classifier, pooling="window")
    return {"model": classifier.name, "rows": [finer(dense, stride, (375, 500)) for stride in (16, 8)]}


def finer_known(name: str, weights: str, side: tuple[int, int]) -> dict[str, Any]:
    dense = dense_classifier(build_classifier(name, weights=weights), pooling="cell")
    return {"model": name, "weights": weights, "rows": [finer(dense, stride, side) for stride in (16, 8)]}


def conversion() -> dict[str, Any]:
    """Seconds to convert ResNet-50, and the converted network beside the original at the training size."""
    torch.manual_seed(0)
    model = resnet50().eval()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        converted = convolutionalize(model, 224)
        seconds.append(time.perf_counter() - began)
    x = torch.randn(8, 3, 224, 224)
    with torch.inference_mode():
        own, made = rows.in_turns(lambda: model(x), lambda: converted.network(x), rounds=11)
    return {
        "model": "torchvision:resnet50",
        "convert_seconds": rows.summary(seconds) | {"first": round(seconds[0], 3)},
        "batch": 8,
        "seconds": {"original": rows.summary(own), "converted": rows.summary(made)},
        "ratio": {"best": round(min(made) / min(own), 4), "median": round(sorted(made)[5] / sorted(own)[5], 4)},
        "relative_difference": converted.proof.at_window.relative_difference,
    }


def matrix() -> dict[str, Any]:
    """A 3x3 convolution of 16 filters on 12x12x16 as the matrix of a fully connected layer."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, padding=1)
    began = time.perf_counter()
    made = conv_as_linear(conv, 12)
    seconds = time.perf_counter() - began
    x = torch.randn(4, 16, 12, 12)
    return {
        "convolution": "3x3, 16 to 16 channels, padding 1, on 12x12",
        "matrix": list(made.matrix.shape),
        "entries": int(made.matrix.nnz),
        "zeros": round(made.zeros, 6),
        "repeated": round(made.repeated, 6),
        "relative_difference": relative(made(x), conv(x).detach()),
        "seconds": round(seconds, 4),
    }


CASES = {
    "thousand-maps": thousand_maps,
    "patches": patches_15,
    "finer-unpadded": finer_unpadded,
    "finer-vgg16": partial(finer_known, "torchvision:vgg16", "none", (640, 640)),
    "finer-lite0": partial(finer_known, "embedded:efficientnet_lite0", "embedded", (640, 640)),
    "conversion": conversion,
    "matrix": matrix,
}

if __name__ == "__main__":
    rows.run("dense", CASES, sys.argv[1:])
