"""The sharp head: for the best result rather than the published one. Road: nets, on a converted classifier. In:
taps. Out: scores.

FCN's two weaknesses are met where they arise: edges, by feature (not score) skips down to stride 4 and a correction
of the scores at stride 2; pixels classified with no regard to each other, by context at the coarsest stride and
spatial convolutions after the skips.
Maps are brought to the next finer grid at the place where the geometry says their cells lie, never by the
half-pixel rule of thumb.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.base.errors import GeometryError
from fullconv.labels.space import LabelSpace
from fullconv.nets.body import Body, Tap, body_of
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import Cells, SegmentationNet, architecture_of
from fullconv.nets.surgery import Convolutional

STRIDES = (2, 4, 8, 16, 32)

FINE_STRIDE = 2  # up to here a map is looked at beside the pyramid, narrowly
CONTEXT_CELLS = 9  # at stride 32 a window of 288 pixels: wide, and bounded, so that tiles can equal the whole


def bring(maps: Tensor, *, factor: int, lag: tuple[Fraction, Fraction], size: tuple[int, int]) -> Tensor:
    """Bring maps to a grid that is `factor` times finer, bilinearly, each cell to where it lies.

    Args:
        maps: (N, C, h, w).
        factor: stride of the maps over stride of the finer grid.
        lag: (y, x) where the centre of cell 0 lies, in cells of the finer grid; whole or half numbers.
        size: (H, W) of the finer grid.
    Returns: (N, C, H, W); beyond the outer cells the outer values go on, however far (AlexNet has fewer cells
        than its strides cover).
    """
    if all(part == Fraction(factor - 1, 2) for part in lag) and size == (
        maps.shape[2] * factor,
        maps.shape[3] * factor,
    ):
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    whole_lag = all(part.denominator == 1 for part in lag)  # else every lag is half-way, and so is the half-pixel rule
    edge = Fraction(0) if whole_lag else Fraction(factor - 1, 2)  # where the first fine cell of a coarse one lies
    before = [max(0, math.ceil((part - edge) / factor)) for part in lag]
    after = [
        max(0, math.ceil((fine - 1 - part - edge) / factor) - (cells - 1))
        for part, fine, cells in zip(lag, size, maps.shape[2:], strict=True)
    ]
    padded = F.pad(maps, (before[1], after[1], before[0], after[0]), mode="replicate")
    if whole_lag:
        finer = [(cells - 1) * factor + 1 for cells in padded.shape[2:]]
        whole = F.interpolate(padded, size=finer, mode="bilinear", align_corners=True)
    else:
        whole = F.interpolate(padded, scale_factor=factor, mode="bilinear", align_corners=False)
    top, left = (int(ahead * factor + edge - part) for ahead, part in zip(before, lag, strict=True))
    bottom, right = whole.shape[2] - top - size[0], whole.shape[3] - left - size[1]
    # one cut: a slice of rows and one of columns would each fill a whole map with zeros on the way back
    return F.pad(whole, (-left, -right, -top, -bottom))


def lag_between(coarse: Tap, fine_stride: int, fine_offset: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    """Where the centre of the coarse tap's cell 0 lies, in cells of the finer grid, (y, x)."""
    y, x = ((c - f) / fine_stride for c, f in zip(coarse.offset, fine_offset, strict=True))
    return y, x


class Added(nn.Module):
    """Adds to a map what a layer makes of it; nothing at first, so that depth does not slow the start."""

    def __init__(self, layer: nn.Sequential) -> None:
        super().__init__()
        self.layer = layer
        last = layer[-1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        return x + self.layer(x)  # type: ignore[no-any-return]


def mixed(channels: int) -> list[nn.Module]:
    """A pointwise convolution, normalised."""
    return [nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]


def around(channels: int) -> nn.Conv2d:
    """A depthwise 3x3 convolution: with `mixed` after it, a spatial convolution at a ninth of the cost."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def context(channels: int) -> Added:
    """Adds to each cell what a wide, bounded window round it holds."""
    window = nn.AvgPool2d(CONTEXT_CELLS, stride=1, padding=CONTEXT_CELLS // 2, count_include_pad=False)
    return Added(nn.Sequential(window, *mixed(channels)))


def neighbours(channels: int) -> Added:
    """Adds to each cell what its neighbours say."""
    normed = [around(channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return Added(nn.Sequential(*normed, *mixed(channels)))


class SharpHead(nn.Module):
    """Taps, finest first, to full-size scores.

    The pyramid sums 1x1 views of the taps from the coarsest to stride 4 (or the finest there is), where it is scored.
    Where the body has a map of stride 2, a narrow branch looks at it beside the pyramid and corrects the scores there.
    What is added on the way starts at zero: at the first step the head is a plain sum, which learns fastest.
    `dropout` is for training to set: each tap of the pyramid is then seen without some of its channels (Tompson et al.
    2015, SpatialDropout).

    Args:
        taps: one a stride, finest first, each twice the stride of the one before.
        classes: K.
        width: channels of the pyramid.
        fine_width: channels at stride 2, where each channel costs most.
    """

    def __init__(self, taps: Sequence[Tap], *, classes: int, width: int = 96, fine_width: int = 32) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.first = 1 if taps[0].stride <= FINE_STRIDE else 0  # where in `taps` the pyramid begins
        pyramid = self.taps[self.first :]
        self.dropout = nn.Dropout2d(0.0)
        self.laterals = nn.ModuleList(nn.Conv2d(tap.channels, width, 1) for tap in pyramid)
        self.context = context(width)
        self.blocks = nn.ModuleList(neighbours(width) for _ in pyramid[1:-1])
        self.smooth = nn.Sequential(around(width), *mixed(width), nn.ReLU(inplace=True))
        self.score = nn.Conv2d(width, classes, 1)
        if self.first:
            self.narrow = nn.Conv2d(width, fine_width, 1, bias=False)
            self.fine = nn.Conv2d(taps[0].channels, fine_width, 1, bias=False)
            self.detail = nn.Sequential(
                nn.BatchNorm2d(fine_width),
                nn.ReLU(inplace=True),
                around(fine_width),
                nn.BatchNorm2d(fine_width),
                *mixed(fine_width),
                nn.ReLU(inplace=True),
            )
            self.correct = nn.Conv2d(fine_width, classes, 1)
            nn.init.zeros_(self.correct.weight)
            nn.init.zeros_(self.correct.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """(N, C_i, h_i, w_i) each, finest first, and the photo's padded (H, W), to (N, K, H, W) scores."""
        return self._to(self.cells(features), 0, 1, (Fraction(0), Fraction(0)), size)

    def cells(self, features: Sequence[Tensor]) -> Tensor:
        """The scores at the stride of the finest tap: (N, K, h_0, w_0)."""
        last = len(self.taps) - 1
        y = self.context(self._lateral(last, features))
        for i in range(last - 1, self.first - 1, -1):
            y = self._onto(i, y, features) + self._lateral(i, features)
            if i > self.first:
                y = self.blocks[i - self.first - 1](y)
        y = self.smooth(y)
        scores: Tensor = self.score(y)
        if self.first:
            beside = self._onto(0, self.narrow(y), features) + self.fine(features[0])
            scores = self._onto(0, scores, features) + self.correct(self.detail(beside))
        return scores

    def _lateral(self, i: int, features: Sequence[Tensor]) -> Tensor:
        return self.laterals[i - self.first](self.dropout(features[i]))  # type: ignore[no-any-return]

    def _onto(self, i: int, y: Tensor, features: Sequence[Tensor]) -> Tensor:
        """From the grid of tap i + 1 to that of tap i."""
        return self._to(y, i + 1, self.taps[i].stride, self.taps[i].offset, features[i].shape[2:])

    def _to(self, y: Tensor, i: int, stride: int, offset: tuple[Fraction, Fraction], size: Sequence[int]) -> Tensor:
        tap = self.taps[i]
        return bring(y, factor=tap.stride // stride, lag=lag_between(tap, stride, offset), size=(size[0], size[1]))


class Sharp(nn.Module):
    """Body and sharp head: (N, 3, H, W) prepared photos of any size to (N, K, H, W) scores."""

    def __init__(self, body: Body, head: SharpHead) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, photos: Tensor) -> Tensor:
        """The photo is extended below and to the right to a multiple of the coarsest stride, and the scores are cut
        back.
        """
        height, width = photos.shape[2:]
        padded = self._padded(photos)
        scores: Tensor = self.head(self.body(padded), padded.shape[2:])
        return scores[:, :, :height, :width]

    def cells(self, photos: Tensor) -> Cells | None:
        """The scores before the last enlargement, which learns nothing; None where no cell's centre is a pixel."""
        finest = self.head.taps[0]
        if any(part.denominator != 1 for part in finest.offset):
            return None
        top, left = (int(part) for part in finest.offset)
        rows, columns = (
            max(0, -(-(length - first) // finest.stride))
            for length, first in zip(photos.shape[2:], (top, left), strict=True)
        )
        scores = self.head.cells(self.body(self._padded(photos)))
        return Cells(scores[:, :, :rows, :columns], finest.stride, (top, left))

    def _padded(self, photos: Tensor) -> Tensor:
        coarsest = self.head.taps[-1].stride
        return F.pad(photos, (0, -photos.shape[3] % coarsest, 0, -photos.shape[2] % coarsest))


def sharp(
    converted: Convolutional,
    *,
    label_space: LabelSpace,
    preparation: Preparation,
    backbone: Mapping[str, Any] | None = None,
    width: int = 96,
    fine_width: int = 32,
) -> SegmentationNet:
    """The sharp head on a converted classifier.

    Args:
        converted: the classifier after surgery; it is copied, never changed.
        label_space: the K classes.
        preparation: what turns a photo into the network's input.
        backbone: {"name", "classes"} of the classifier, so that a bundle can build it anew.
        width: channels of the pyramid.
        fine_width: channels at stride 2.
    Returns: a network for photos of any size.
    Raises: GeometryError if the backbone has not even maps of strides 16 and 32.
    """
    body = _body(converted)
    head = SharpHead(body.taps, classes=label_space.size, width=width, fine_width=fine_width)
    return SegmentationNet(
        Sharp(body, head),
        label_space=label_space,
        preparation=preparation,
        architecture=architecture_of("sharp", converted.window, backbone, {"width": width, "fine_width": fine_width}),
    )


def _body(converted: Convolutional) -> Body:
    """Taps at all of STRIDES that the backbone has, which may begin at 4 (ConvNeXt, AlexNet)."""
    for first in range(len(STRIDES) - 2):
        try:
            return body_of(converted, STRIDES[first:], pick="block")
        except GeometryError:
            continue
    return body_of(converted, STRIDES[-2:], pick="block")
