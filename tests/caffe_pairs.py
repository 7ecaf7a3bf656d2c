"""What Caffe recorded, rebuilt in torch: classifiers beside their fully convolutional form, and the layouts of crops.

For the tests and for benchmarks/pairs.py. In: the folder caffe-golden. Out: networks, and what Caffe made of them.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from fullconv.geometry.geometry import Geometry, of_photo
from fullconv.nets.surgery import Convolutional, rewritten
from fullconv.nets.trace import geometry_of

PAIRS = ("surgery_valid", "surgery_padded")
Message = dict[str, list[Any]]
Arrays = dict[str, Tensor]


# ---------------------------------------------------------------------- a classifier and its fully convolutional form


@dataclass(frozen=True)
class Pair:
    """Two networks with the same numbers, and what Caffe computed with both.

    `classifier` and `convolutional` end in a softmax, `photo` is (3, H, W); `arrays` holds what Caffe recorded,
    `parameters` the weights of its convolutional network.
    """

    name: str
    classifier: nn.Sequential
    convolutional: nn.Sequential
    window: tuple[int, int]
    photo: Tensor
    arrays: Arrays
    parameters: Arrays

    @property
    def scorer(self) -> nn.Sequential:
        """The classifier up to its scores."""
        return self.classifier[:-1].eval()  # a slice is a new module, in training

    @property
    def pads(self) -> bool:
        return any(m.padding != (0, 0) for m in self.classifier if isinstance(m, nn.Conv2d))

    def windows(self) -> Tensor:
        """(rows, columns, K): the recorded scores of the classifier on every window."""
        return self.arrays["windows:fc8"].permute(1, 2, 0)


def read_pair(golden: Path, name: str) -> Pair:
    folder = golden / "surgery"
    text = read_text((folder / f"{name}_fc.prototxt").read_text())
    arrays, parameters = read_arrays(folder / f"{name}.npz"), read_arrays(folder / f"{name}_conv.params.npz")
    rows, columns = text["layer"][0]["input_param"][0]["shape"][0]["dim"][2:]
    return Pair(
        name,
        built(text, read_arrays(folder / f"{name}_fc.params.npz")),
        built(read_text((folder / f"{name}_conv.prototxt").read_text()), parameters),
        (int(rows), int(columns)),
        arrays["input:data"][0],
        arrays,
        parameters,
    )


def read_arrays(path: Path) -> Arrays:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def read_text(text: str) -> Message:
    """A prototxt as nested dicts; every field is a list, as any may be repeated."""
    return message(iter(re.findall(r'"[^"]*"|[{}]|[^\s{}:]+', text)))


def message(tokens: Iterator[str]) -> Message:
    fields: Message = {}
    for name in tokens:
        if name == "}":
            break
        value = next(tokens)
        fields.setdefault(name, []).append(message(tokens) if value == "{" else value.strip('"'))
    return fields


def built(network: Message, parameters: Arrays) -> nn.Sequential:
    """The network in torch, a chain of modules that have Caffe's names."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    top = "data"
    for layer in network["layer"][1:]:
        name, kind = layer["name"][0], layer["type"][0]
        assert layer["bottom"] == [top], f"{name} does not read the layer before it"
        top = layer["top"][0]
        tensors = [parameters[key] for i in range(2) if (key := f"param:{name}:{i}") in parameters]
        settings: Message = next((value[0] for key, value in layer.items() if key.endswith("_param")), {})
        if kind == "InnerProduct" and "flatten" not in layers:
            layers["flatten"] = nn.Flatten()
        layers[name] = LAYERS[kind](settings, *tensors[:1])
        if tensors:
            layers[name].load_state_dict(dict(zip(("weight", "bias"), tensors, strict=True)))
    return nn.Sequential(layers).eval()


def convolution(settings: Message, weight: Tensor) -> nn.Module:
    groups = whole(settings, "group", 1)
    geometry = (whole(settings, "kernel_size"), whole(settings, "stride", 1), whole(settings, "pad", 0))
    return nn.Conv2d(weight.shape[1] * groups, weight.shape[0], *geometry, groups=groups)


def pooling(settings: Message) -> nn.Module:
    assert settings["pool"] == ["MAX"]
    return nn.MaxPool2d(whole(settings, "kernel_size"), whole(settings, "stride"), ceil_mode=True)  # as Caffe pools


def normalization(settings: Message) -> nn.Module:
    alpha, beta = (float(settings[name][0]) for name in ("alpha", "beta"))
    return nn.LocalResponseNorm(whole(settings, "local_size"), alpha, beta, k=1.0)


def whole(settings: Message, name: str, default: int | None = None) -> int:
    return int(settings[name][0]) if default is None or name in settings else default


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "Convolution": convolution,
    "InnerProduct": lambda _, weight: nn.Linear(weight.shape[1], weight.shape[0]),
    "ReLU": lambda _: nn.ReLU(),
    "Pooling": pooling,
    "LRN": normalization,
    "Dropout": lambda settings: nn.Dropout(float(settings["dropout_ratio"][0])),
    "Softmax": lambda _: nn.Softmax(dim=1),
}


def relative(found: Tensor, truth: Tensor) -> float:
    """The largest difference over the largest absolute value of the truth."""
    assert found.shape == truth.shape, (found.shape, truth.shape)
    return float((found - truth).abs().max() / truth.abs().max())


# ---------------------------------------------------------------------- the layouts of crops

PHOTO = (500, 500)
CLASSES = 21
Steps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Layout:
    """A fully convolutional network as Caffe's crops were derived for it.

    pad: of its first convolution.
    enlargements: (kernel, stride) of its deconvolutions, one after another.
    fc_pad: of its first fully connected layer, as a convolution.
    """

    network: str
    pad: int
    enlargements: Steps
    fc_pad: int = 0


FCN: dict[str, Steps] = {
    "fcn32s": ((64, 32),),
    "fcn16s": ((4, 2), (32, 16)),
    "fcn8s": ((4, 2), (4, 2), (16, 8)),
}
LAYOUTS = {
    **{
        f"{network}_pad{pad}_{head}": Layout(network, pad, steps)
        for network, pad in (("vgg16", 81), ("vgg16", 100), ("vgg19", 100))
        for head, steps in FCN.items()
    },
    **{f"vgg16_pad{pad}_fcn8s": Layout("vgg16", pad, FCN["fcn8s"]) for pad in (99, 101)},
    **{f"vgg16_pad1_fc6pad3_{head}": Layout("vgg16", 1, steps, fc_pad=3) for head, steps in FCN.items()},
    **{f"alexnet_pad100_kernel{kernel}": Layout("alexnet", 100, ((kernel, 32),)) for kernel in (63, 64)},
    **{
        f"googlenet_pad{pad}_kernel{kernel}_{last}": Layout(f"googlenet_{last}", pad, ((kernel, 32),))
        for pad in (3, 100)
        for kernel in (63, 64)
        for last in ("no_pool5", "pool5_ave7")
    },
}


@dataclass(frozen=True)
class Crop:
    """What is cropped, and what its cells are laid on."""

    larger: Geometry
    reference: Geometry

    @property
    def shift(self) -> tuple[float, float]:
        """As coord_map counts it: the crop with the other sign, (y, x) in cells."""
        y, x = ((self.larger.offset[i] - self.reference.offset[i]) / self.larger.stride[i] for i in (0, 1))
        return float(y), float(x)


def crops_of(layout: Layout) -> dict[str, Crop]:
    """Every crop of the layout by Caffe's name, from the geometry of a network that is run, on tensors without data."""
    network = fully_convolutional(layout)
    found = geometry_of(network, PHOTO)
    pools = [name for name, module in network.named_modules() if isinstance(module, nn.MaxPool2d)]
    skips = {found[pool].stride: (f"score_pool{i}c", found[pool]) for i, pool in enumerate(pools, start=1)}
    crops = {}
    *between, last = [found[str(i)] for i, _ in enumerate(layout.enlargements, start=1)]
    for enlarged in between:
        name, skip = skips[enlarged.stride]
        crops[name] = Crop(skip, enlarged)
    return crops | {"score": Crop(last, of_photo(PHOTO))}


def fully_convolutional(layout: Layout) -> nn.Sequential:
    """The converted classifier, padded and pooled as the layout has it, and its deconvolutions."""
    body = copy.deepcopy(converted(layout.network).network)
    for module in body.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True  # as Caffe pools
    first = next(module for module in body.modules() if isinstance(module, nn.Conv2d))
    first.padding = (layout.pad, layout.pad)
    if layout.fc_pad:
        fc6 = body.get_submodule("classifier.0")
        assert isinstance(fc6, nn.Conv2d)
        fc6.padding = (layout.fc_pad, layout.fc_pad)
    with torch.device("meta"):
        enlarge = [nn.ConvTranspose2d(CLASSES, CLASSES, *step, bias=False) for step in layout.enlargements]
    return nn.Sequential(body, *enlarge)


@lru_cache
def converted(network: str) -> Convolutional:
    """Without data; copied by who changes it."""
    build, pooling = NETWORKS[network]
    with torch.device("meta"):
        return rewritten(build(num_classes=CLASSES).eval(), (224, 224), pooling=pooling)


class Inception(nn.Module):
    """Four branches side by side; a pair is (channels of the 1x1 reduction, channels of the 3x3 or 5x5)."""

    def __init__(self, inputs: int, ones: int, threes: tuple[int, int], fives: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, ones, 1)
        self.three = nn.Sequential(nn.Conv2d(inputs, threes[0], 1), nn.Conv2d(*threes, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(inputs, fives[0], 1), nn.Conv2d(*fives, 5, padding=2))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


class GoogLeNet(nn.Module):
    """The body and head of Szegedy et al. 2015, table 1, without ReLU and LRN; torchvision has 3x3 for its 5x5."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(64, 64, 1),
            nn.Conv2d(64, 192, 3, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True),
        )  # fmt: skip
        self.three = nn.Sequential(
            Inception(192, 64, (96, 128), (16, 32), 32), Inception(256, 128, (128, 192), (32, 96), 64)
        )
        self.four = nn.Sequential(
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Inception(480, 192, (96, 208), (16, 48), 64), Inception(512, 160, (112, 224), (24, 64), 64),
            Inception(512, 128, (128, 256), (24, 64), 64), Inception(512, 112, (144, 288), (32, 64), 64),
            Inception(528, 256, (160, 320), (32, 128), 128),
        )  # fmt: skip
        self.five = nn.Sequential(
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Inception(832, 256, (160, 320), (32, 128), 128), Inception(832, 384, (192, 384), (48, 128), 128),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.five(self.four(self.three(self.stem(x))))
        scores: Tensor = self.classifier(self.pool(maps).flatten(1))
        return scores


NETWORKS: dict[str, tuple[Callable[..., nn.Module], str]] = {  # and what surgery does with a pooling over the whole map
    "vgg16": (torchvision.models.vgg16, "window"),
    "vgg19": (torchvision.models.vgg19, "window"),
    "alexnet": (torchvision.models.alexnet, "window"),
    "googlenet_no_pool5": (GoogLeNet, "cell"),
    "googlenet_pool5_ave7": (GoogLeNet, "window"),
}
