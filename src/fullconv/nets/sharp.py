"""The sharp head: for the best result rather than the published one. Road: nets, on a converted classifier. In:
taps. Out: scores.

FCN's two weaknesses are met where they arise: edges, by feature (not score) skips down to stride 2; pixels
classified with no regard to each other, by context at the coarsest stride and a spatial convolution after every skip.
Maps are brought to the next finer grid at the place where the geometry says their cells lie, never by the
half-pixel rule of thumb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.base.errors import GeometryError
from fullconv.labels.space import LabelSpace
from fullconv.nets.body import Body, Tap, body_of
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import SegmentationNet, architecture_of
from fullconv.nets.surgery import Converted

STRIDES = (2, 4, 8, 16, 32)

CONTEXT_CELLS = 9  # at stride 32 a window of 288 pixels: wide, and bounded, so that tiles can equal the whole


def bring(maps: Tensor, *, factor: int, lag: tuple[Fraction, Fraction], size: tuple[int, int]) -> Tensor:
    """Bring maps to a grid that is `factor` times finer, bilinearly, each cell to where it lies.

    Args:
        maps: (N, C, h, w).
        factor: stride of the maps over stride of the finer grid.
        lag: (y, x) where the centre of cell 0 lies, in cells of the finer grid; whole or half numbers.
        size: (H, W) of the finer grid.
    Returns: (N, C, H, W); beyond the outer cells the outer values go on.
    """
    if all(part == Fraction(factor - 1, 2) for part in lag) and size == (
        maps.shape[2] * factor,
        maps.shape[3] * factor,
    ):
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    if any(part.denominator != 1 for part in lag):
        return _bring_half(maps, factor, lag, size)
    before = [1 if part > 0 else 0 for part in lag]
    after = [1 if part < factor - 1 else 0 for part in lag]
    padded = F.pad(maps, (before[1], after[1], before[0], after[0]), mode="replicate")
    fine = [(cells - 1) * factor + 1 for cells in padded.shape[2:]]
    top, left = (ahead * factor - int(part) for ahead, part in zip(before, lag, strict=True))
    whole = F.interpolate(padded, size=fine, mode="bilinear", align_corners=True)
    return whole[:, :, top : top + size[0], left : left + size[1]]


def _bring_half(maps: Tensor, factor: int, lag: tuple[Fraction, Fraction], size: tuple[int, int]) -> Tensor:
    """Cells whose centres fall between two fine cells: the half-pixel rule, shifted by whole fine cells."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    whole = F.interpolate(padded, scale_factor=factor, mode="bilinear", align_corners=False)
    top, left = (int(Fraction(3 * factor - 1, 2) - part) for part in lag)
    return whole[:, :, top : top + size[0], left : left + size[1]]


def lag_between(coarse: Tap, fine_stride: int, fine_offset: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    """Where the centre of the coarse tap's cell 0 lies, in cells of the finer grid, (y, x)."""
    y, x = ((c - f) / fine_stride for c, f in zip(coarse.offset, fine_offset, strict=True))
    return y, x


class Separable(nn.Sequential):
    """Depthwise 3x3, pointwise, each normalised; C channels in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class Context(nn.Module):
    """Adds to each cell what a wide, bounded window round it holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        around = F.avg_pool2d(x, CONTEXT_CELLS, stride=1, padding=CONTEXT_CELLS // 2, count_include_pad=False)
        return x + self.mix(around)  # type: ignore[no-any-return]


class SharpHead(nn.Module):
    """Taps, finest first, to full-size scores.

    Args:
        taps: one a stride, finest first, each twice the stride of the one before.
        classes: K.
        width: channels of the pyramid.
        fine_width: channels at the finest stride, where each channel costs most.
    """

    def __init__(self, taps: Sequence[Tap], *, classes: int, width: int = 96, fine_width: int = 32) -> None:
        super().__init__()
        self.taps = tuple(taps)
        widths = [fine_width] + [width] * (len(taps) - 1)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(tap.channels, wide, 1, bias=False), nn.BatchNorm2d(wide))
            for tap, wide in zip(taps, widths, strict=True)
        )
        self.context = Context(width)
        self.blocks = nn.ModuleList(Separable(wide) for wide in widths)
        self.narrow = nn.Conv2d(width, fine_width, 1, bias=False)
        self.score = nn.Conv2d(fine_width, classes, 1)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """(N, C_i, h_i, w_i) each, finest first, and the photo's padded (H, W), to (N, K, H, W) scores."""
        last = len(self.taps) - 1
        y = self.blocks[last](F.relu(self.context(self.laterals[last](features[last]))))
        for i in range(last - 1, -1, -1):
            if i == 0:
                y = self.narrow(y)
            y = self._to(y, i + 1, self.taps[i].stride, self.taps[i].offset, features[i].shape[2:])
            y = self.blocks[i](F.relu(y + self.laterals[i](features[i])))
        return self._to(self.score(y), 0, 1, (Fraction(0), Fraction(0)), size)

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
        coarsest = self.head.taps[-1].stride
        padded = F.pad(photos, (0, -width % coarsest, 0, -height % coarsest))
        scores: Tensor = self.head(self.body(padded), padded.shape[2:])
        return scores[:, :, :height, :width]


def sharp(
    converted: Converted,
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
        fine_width: channels at the finest stride.
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


def _body(converted: Converted) -> Body:
    """Taps at all of STRIDES that the backbone has, which may begin at 4 (ConvNeXt, AlexNet)."""
    for first in range(len(STRIDES) - 2):
        try:
            return body_of(converted, STRIDES[first:])
        except GeometryError:
            continue
    return body_of(converted, STRIDES[-2:])
