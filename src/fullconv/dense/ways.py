"""The ways of dense prediction under one roof. Road: dense, last. In: what scores, and a photo. Out: scores.

Each way is a function of (what scores, photo, choices); WAYS_OF_CLASSIFIERS and WAYS_OF_SEGMENTERS are the help text,
the command's choices and the test's parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fullconv.base.errors import UsageError
from fullconv.dense.full_size import DenseScores, Part, between_cells
from fullconv.dense.rarefied import rarefy
from fullconv.dense.scales import at_scales, check_scales
from fullconv.dense.shift import passes, shift_and_stitch
from fullconv.dense.windows import patches, slide
from fullconv.geometry.geometry import Geometry
from fullconv.nets.classifiers import Classifier
from fullconv.nets.heads import FcnNetwork
from fullconv.nets.prediction import predict_photo
from fullconv.nets.proof import evaluating, score_geometry, tensors
from fullconv.nets.score_layers import bilinear_deconvolution
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.surgery import Converted, convolutionalize

Photo = NDArray[np.uint8]
Way = TypeVar("Way")


@dataclass(frozen=True)
class Choices:
    """What the ways can be told.

    Attributes:
        stride: of `shift` and `rarefied`, in pixels; None is half the network's own.
        step: pixels between the windows of `windows`; None is the network's own stride.
        patch: side of the patches of `patches`, odd.
        scales: of `scales`, factors of the photo's sides, from 0.01 to 100.
        mirror: `scales` also scores mirror images.
    Raises: UsageError for other scales.
    """

    stride: int | None = None
    step: int | None = None
    patch: int = 15
    scales: tuple[float, ...] = (0.75, 1.0, 1.25)
    mirror: bool = True

    def __post_init__(self) -> None:
        check_scales(self.scales)


@dataclass(frozen=True)
class DenseClassifier:
    """A classifier and its fully convolutional form, ready to score photos."""

    classifier: Classifier
    converted: Converted

    @property
    def window(self) -> tuple[int, int]:
        return self.converted.window

    @property
    def grid(self) -> Geometry:
        return self.converted.geometry

    @cached_property
    def _geometries(self) -> dict[tuple[int, int], Geometry]:
        return {}

    def prepared(self, photo: Photo) -> Tensor:
        """(3, H, W) float32."""
        return self.classifier.preparation.prepare(photo)

    def geometry_at(self, size: tuple[int, int]) -> Geometry:
        """Of the score grid on a photo of (rows, columns); it moves with the size where padding does (TF-SAME)."""
        if size not in self._geometries:
            self._geometries[size] = score_geometry(self.converted, size)
        return self._geometries[size]

    @property
    def lean(self) -> tuple[Fraction, Fraction]:
        """(y, x): how far what a cell says lies from the middle of its receptive field, in pixels.

        A classifier learns from windows and their mirror images, so its cells come to stand for parts of the window
        that lie evenly round its middle, wherever padding puts the middle of what they see: 15.5 pixels up and to the
        left of it in EfficientNet-Lite at stride 32 (docs/log.md has the measurement).
        """
        window, grid = self.window, self.grid
        y, x = (
            Fraction(window[i] - 1, 2) - grid.offset[i] - Fraction(grid.size[i] - 1, 2) * grid.stride[i] for i in (0, 1)
        )
        return y, x

    def on_photo(
        self, scores: Tensor, size: tuple[int, int], photo: Photo, *, finer: tuple[int, int] = (1, 1)
    ) -> DenseScores:
        """A (K, h, w) map of a photo of `size` (rows, columns), `finer` times as dense as its own, on the pixels."""
        geometry = self.geometry_at(size)
        rows, columns = (
            between_cells(
                photo.shape[i],
                scores.shape[1 + i],
                stride=geometry.stride[i] / finer[i],
                offset=geometry.offset[i] + self.lean[i],
            )
            for i in (0, 1)
        )
        return DenseScores((Part(scores.float(), rows, columns),))


def dense_classifier(classifier: Classifier, *, pooling: str = "cell", context: str = "global") -> DenseClassifier:
    """Convert a classifier for scoring photos. Raises: SurgeryError where it cannot be converted."""
    converted = convolutionalize(classifier.network, classifier.window, pooling=pooling, context=context)
    converted.network.eval().to(memory_format=torch.channels_last)  # a sixth faster on whole photos
    classifier.network.eval()
    return DenseClassifier(classifier, converted)


# ---------------------------------------------------------------------- ways of a classifier


def once(dense: DenseClassifier, photo: Photo, choices: Choices) -> DenseScores:
    """One pass of the converted network, interpolated to full size."""
    return covering(partial(_once, dense), photo, dense.window)


def _once(dense: DenseClassifier, photo: Photo) -> DenseScores:
    prepared = dense.prepared(photo)
    scores = tensors(dense.converted.network(prepared[None]))[0][0]
    return dense.on_photo(scores, (photo.shape[0], photo.shape[1]), photo)


def covering(score: Callable[[Photo], DenseScores], photo: Photo, least: tuple[int, int]) -> DenseScores:
    """As `score`, with a photo smaller than `least` (rows, columns) enlarged first until it is not."""
    factor = max(1.0, *(least[i] / photo.shape[i] for i in (0, 1)))
    return at_scales(score, photo, scales=(factor,), mirror=False)


def windows(dense: DenseClassifier, photo: Photo, choices: Choices) -> DenseScores:
    """The classifier on windows that slide; each pixel takes the mean of those that cover it."""
    step = choices.step or int(max(dense.grid.stride))

    def score(seen: Photo) -> DenseScores:
        return slide(dense.classifier.network, dense.prepared(seen), window=dense.window, step=step)

    return covering(score, photo, dense.window)


def small_patches(dense: DenseClassifier, photo: Photo, choices: Choices) -> DenseScores:
    """The classifier on a small patch round every pixel, as before FCN."""
    return patches(dense.classifier.network, dense.prepared(photo), size=choices.patch)


def shift(dense: DenseClassifier, photo: Photo, choices: Choices) -> DenseScores:
    """Shift-and-stitch: the converted network on shifted photos, its maps interlaced to a finer stride."""
    stride = finer_stride(dense, choices)
    shifts = passes(dense.grid, stride)

    def score(seen: Photo) -> DenseScores:
        prepared = dense.prepared(seen)
        stitched = shift_and_stitch(dense.converted.network, prepared, stride=stride, shifts=shifts)
        return dense.on_photo(stitched, shifted_size(prepared, stride, shifts), seen, finer=shifts)

    return covering(score, photo, least_for(dense, stride, shifts))


def finer_stride(dense: DenseClassifier, choices: Choices) -> int:
    """The stride asked for; half the network's own where none was."""
    return choices.stride or max(1, int(dense.grid.stride[0]) // 2)


def shifted_size(prepared: Tensor, stride: int, shifts: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of each shifted photo."""
    return prepared.shape[1] - (shifts[0] - 1) * stride, prepared.shape[2] - (shifts[1] - 1) * stride


def least_for(dense: DenseClassifier, stride: int, shifts: tuple[int, int]) -> tuple[int, int]:
    """The smallest photo whose shifted parts each hold a window."""
    return dense.window[0] + (shifts[0] - 1) * stride, dense.window[1] + (shifts[1] - 1) * stride


def rarefied(dense: DenseClassifier, photo: Photo, choices: Choices) -> DenseScores:
    """Filter rarefaction: the finer stride of shift-and-stitch in one pass of dilated kernels."""
    stride = finer_stride(dense, choices)
    finer = passes(dense.grid, stride)

    def score(seen: Photo) -> DenseScores:
        prepared = dense.prepared(seen)
        size = shifted_size(prepared, stride, finer)
        thin = rarefy(dense.converted.network, stride=stride, size=size)
        return dense.on_photo(tensors(thin(prepared[None]))[0][0], size, seen, finer=finer)

    return covering(score, photo, least_for(dense, stride, finer))


def scales(dense: DenseClassifier, photo: Photo, choices: Choices) -> DenseScores:
    """One pass at several scales and on mirror images, averaged."""
    score = partial(once, dense, choices=choices)
    return at_scales(score, photo, scales=choices.scales, mirror=choices.mirror)


ClassifierWay = Callable[[DenseClassifier, Photo, Choices], DenseScores]
WAYS_OF_CLASSIFIERS: dict[str, ClassifierWay] = {
    "once": once,
    "windows": windows,
    "patches": small_patches,
    "shift": shift,
    "rarefied": rarefied,
    "scales": scales,
}


# ---------------------------------------------------------------------- ways of a segmenter


def as_trained(net: SegmentationNet, photo: Photo, choices: Choices) -> DenseScores:
    """The segmenter as it is, its deconvolutions as they were learned."""
    return DenseScores((Part(torch.from_numpy(predict_photo(net, photo).scores), None, None),))


def bilinear(net: SegmentationNet, photo: Photo, choices: Choices) -> DenseScores:
    """The segmenter with every learned deconvolution put back to bilinear interpolation."""
    return as_trained(with_bilinear(net), photo, choices)


def with_bilinear(net: SegmentationNet) -> SegmentationNet:
    """A copy whose deconvolutions interpolate linearly.

    Raises: UsageError for a head that has none (the sharp head).
    """
    if not isinstance(net.network, FcnNetwork):
        raise UsageError(
            "a head with deconvolutions has them learned or bilinear",
            "this segmenter's head enlarges without deconvolutions",
            "a segmenter trained with --head 32s, 16s or 8s; or another --way",
        )
    plain = copy.deepcopy(net)
    assert isinstance(plain.network, FcnNetwork)
    for layer in plain.network.enlargements.values():
        assert isinstance(layer, nn.ConvTranspose2d)
        kernel = (int(layer.kernel_size[0]), int(layer.kernel_size[1]))
        made = bilinear_deconvolution(
            layer.in_channels, int(layer.stride[0]), kernel, learned=layer.groups != layer.in_channels
        )
        layer.load_state_dict(made.state_dict())
    return plain


def scales_of_segmenter(net: SegmentationNet, photo: Photo, choices: Choices) -> DenseScores:
    """The segmenter at several scales and on mirror images, averaged."""
    score = partial(as_trained, net, choices=choices)
    return at_scales(score, photo, scales=choices.scales, mirror=choices.mirror)


SegmenterWay = Callable[[SegmentationNet, Photo, Choices], DenseScores]
WAYS_OF_SEGMENTERS: dict[str, SegmenterWay] = {
    "once": as_trained,
    "bilinear": bilinear,
    "scales": scales_of_segmenter,
}


# ---------------------------------------------------------------------- the one way in


def dense_scores(
    model: DenseClassifier | SegmentationNet, photo: Photo, *, way: str = "once", choices: Choices | None = None
) -> DenseScores:
    """Scores of every class at every pixel, by one of the ways.

    Args:
        model: `dense_classifier(...)`, or a segmenter (the `net` of a bundle).
        photo: (H, W, 3) uint8, any size.
        way: a word in WAYS_OF_CLASSIFIERS or WAYS_OF_SEGMENTERS.
        choices: what the way can be told.
    Returns: DenseScores; full-size maps of some classes with `.of`, the best class with `.best`.
    Raises: UsageError for a way that the model has not; GeometryError for a stride that does not divide its own.
    """
    choices = choices or Choices()
    if isinstance(model, SegmentationNet):
        chosen = named(WAYS_OF_SEGMENTERS, way)
        with torch.inference_mode():
            return chosen(model, photo, choices)
    work = named(WAYS_OF_CLASSIFIERS, way)
    with evaluating(model.classifier.network, model.converted.network), torch.inference_mode():
        return work(model, photo, choices)


def ways_for(model: DenseClassifier | SegmentationNet) -> tuple[str, ...]:
    """The words of the ways that it has."""
    return tuple(WAYS_OF_SEGMENTERS if isinstance(model, SegmentationNet) else WAYS_OF_CLASSIFIERS)


def named(ways: Mapping[str, Way], way: str) -> Way:
    """What a word stands for. Raises: UsageError that lists the words."""
    if way not in ways:
        raise UsageError(f"a way is one of {', '.join(ways)}", f"{way!r}", f"--way {next(iter(ways))}")
    return ways[way]
