"""FCN-32s, 16s, 8s and 4s on any converted classifier. Road: nets, after surgery and body, before training.

The classifier's taps are found by their strides; each is scored by a 1x1 convolution that starts at zero; from the
coarsest to the finest the scores are enlarged by a deconvolution that starts as bilinear interpolation and summed
with the
next finer scores; a last enlargement gives one score a class and pixel. Where maps come to lie is derived
(alignment.py).

In: `Convolutional`. Out: `SegmentationNet`. Source: Long, Shelhamer, Darrell 2015, sections 3.3, 4.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fullconv.base.errors import GeometryError, UsageError, WeightsError
from fullconv.nets.alignment import Layout, Paper, Same
from fullconv.nets.fitting import fit_paper, fit_same
from fullconv.nets.score_layers import bilinear_deconvolution, cut, pad, repeat_border, score_layer
from fullconv.nets.segmentation import SegmentationNet, architecture_of

if TYPE_CHECKING:
    from fullconv.labels.space import LabelSpace
    from fullconv.nets.body import Body
    from fullconv.nets.preparation import Preparation
    from fullconv.nets.surgery import Convolutional

ALIGNMENTS = {
    "same": "padding that spreads the cells evenly over the photo",
    "paper": "100 pixels a side, poolings that round up, fixed crops: as the authors' nets",
}
DECONVOLUTIONS = {
    "learned": "starts bilinear, every deconvolution learns",
    "frozen": "stays bilinear, as in the authors' released nets",
}
# Long et al.'s voc-fcn8s-atonce: pool4 is scaled by 0.01, pool3 by 0.0001; each finer skip by another hundredth
AT_ONCE_SCALE = 0.01


def fcn32s(
    converted: Convolutional,
    *,
    label_space: LabelSpace,
    preparation: Preparation,
    alignment: str = "same",
    deconvolution: str = "learned",
    start: SegmentationNet | None = None,
    at_once: bool = False,
    backbone: Mapping[str, Any] | None = None,
) -> SegmentationNet:
    """Scores of stride 32, enlarged 32 times.

    Args:
        converted: what `convolutionalize` gave; it is copied, never changed.
        label_space: the K classes.
        preparation: what the classifier's photos were prepared with.
        alignment: a word in ALIGNMENTS.
        deconvolution: a word in DECONVOLUTIONS.
        start: the stage before, on the same backbone: all weights that both have are taken over, new skips start at
        zero. at_once: scale the skips (0.01, 0.0001) so that all strides can be trained in one stage.
        backbone: {"name": ..., "classes": ...} of the classifier; without it a bundle cannot name its builder.
    Returns: (N, 3, H, W) -> (N, K, H, W) for every H, W >= 1.
    Raises: GeometryError if the backbone has no such stride; UsageError for another word; WeightsError if `start` does
        not fit.
    """
    return _fcn((32,), converted, label_space, preparation, alignment, deconvolution, start, at_once, backbone)


def fcn16s(
    converted: Convolutional,
    *,
    label_space: LabelSpace,
    preparation: Preparation,
    alignment: str = "same",
    deconvolution: str = "learned",
    start: SegmentationNet | None = None,
    at_once: bool = False,
    backbone: Mapping[str, Any] | None = None,
) -> SegmentationNet:
    """As `fcn32s`, with the scores of stride 16 added before the last enlargement."""
    return _fcn((16, 32), converted, label_space, preparation, alignment, deconvolution, start, at_once, backbone)


def fcn8s(
    converted: Convolutional,
    *,
    label_space: LabelSpace,
    preparation: Preparation,
    alignment: str = "same",
    deconvolution: str = "learned",
    start: SegmentationNet | None = None,
    at_once: bool = False,
    backbone: Mapping[str, Any] | None = None,
) -> SegmentationNet:
    """As `fcn16s`, with the scores of stride 8 added too."""
    return _fcn((8, 16, 32), converted, label_space, preparation, alignment, deconvolution, start, at_once, backbone)


def fcn4s(
    converted: Convolutional,
    *,
    label_space: LabelSpace,
    preparation: Preparation,
    alignment: str = "same",
    deconvolution: str = "learned",
    start: SegmentationNet | None = None,
    at_once: bool = False,
    backbone: Mapping[str, Any] | None = None,
) -> SegmentationNet:
    """As `fcn8s`, with the scores of stride 4 added too: beyond the paper, which found no gain below 8."""
    return _fcn((4, 8, 16, 32), converted, label_space, preparation, alignment, deconvolution, start, at_once, backbone)


def _fcn(
    strides: tuple[int, ...],
    converted: Convolutional,
    label_space: LabelSpace,
    preparation: Preparation,
    alignment: str,
    deconvolution: str,
    start: SegmentationNet | None,
    at_once: bool,
    backbone: Mapping[str, Any] | None,
) -> SegmentationNet:
    one_of("alignment", alignment, ALIGNMENTS)
    one_of("deconvolution", deconvolution, DECONVOLUTIONS)
    body, axes = (fit_same if alignment == "same" else fit_paper)(converted, strides)
    network = network_on(body, axes, classes=label_space.size, deconvolution=deconvolution, at_once=at_once)
    arguments = {"alignment": alignment, "deconvolution": deconvolution, "at_once": at_once}
    architecture = architecture_of(f"fcn{strides[0]}s", converted.window, backbone, arguments)
    net = SegmentationNet(network, label_space=label_space, preparation=preparation, architecture=architecture)
    if start is not None:
        take_over(net, start)
    return net


def network_on(
    body: Body, axes: tuple[Same, Same] | tuple[Paper, Paper], *, classes: int, deconvolution: str, at_once: bool
) -> FcnNetwork:
    """The network of a head on a body whose alignment is known."""
    return FcnNetwork(
        body,
        axes=axes,
        classes=classes,
        learned=deconvolution == "learned",
        scales=[AT_ONCE_SCALE**i if at_once else 1.0 for i in reversed(range(len(body.taps)))],
    )


def one_of(what: str, word: str, words: Mapping[str, str]) -> None:
    """Raises: UsageError unless `word` is one of `words`."""
    if word not in words:
        raise UsageError(
            f"{what} is one of {', '.join(words)}",
            f"{what}={word!r}",
            "; ".join(f"{name}: {meaning}" for name, meaning in words.items()),
        )


class FcnNetwork(nn.Module):
    """Taps, scored, enlarged and summed.

    Args:
        body: gives the taps, finest first.
        axes: the alignment of the rows and of the columns.
        classes: K.
        learned: do the deconvolutions learn?
        scales: factor on each tap before it is scored, finest first.
    """

    def __init__(
        self,
        body: Body,
        *,
        axes: tuple[Same, Same] | tuple[Paper, Paper],
        classes: int,
        learned: bool,
        scales: Sequence[float],
    ) -> None:
        super().__init__()
        strides = [tap.stride for tap in body.taps]
        targets = [1, *strides[:-1]]
        self.body = body
        self.axes = axes
        self.scales = tuple(scales)
        rows, columns = axes
        self.borders = None
        if isinstance(rows, Same) and isinstance(columns, Same):
            self.borders = list(zip(rows.borders(), columns.borders(), strict=True))
        self.factors = tuple(stride // target for stride, target in zip(strides, targets, strict=True))
        self.kernels = tuple(zip(axes[0].kernels, axes[1].kernels, strict=True))
        # keyed by stride, so that a stage finds the layers of the stage before by name
        self.scores = nn.ModuleDict({f"stride{tap.stride}": score_layer(tap.channels, classes) for tap in body.taps})
        self.enlargements = nn.ModuleDict(
            {
                f"from{stride}to{target}": bilinear_deconvolution(classes, factor, kernel, learned=learned)
                for stride, target, factor, kernel in zip(strides, targets, self.factors, self.kernels, strict=True)
            }
        )

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, K, H, W)."""
        height, width = photos.shape[2:]
        rows, columns = self.axes[0].layout(height), self.axes[1].layout(width)
        maps = self.body(pad(photos, (rows.before, columns.before), (rows.after, columns.after)))
        scored = [
            layer(taps if scale == 1 else taps * scale)
            for layer, taps, scale in zip(self.scores.values(), maps, self.scales, strict=True)
        ]
        return self._joined(scored, rows, columns, (height, width))

    def _joined(self, scored: Sequence[Tensor], rows: Layout, columns: Layout, size: tuple[int, int]) -> Tensor:
        """(N, K, h_i, w_i) scores of the taps, finest first, to (N, K, H, W)."""
        deconvolutions = list(self.enlargements.values())
        scores = scored[-1]
        for i in reversed(range(len(scored))):
            start = (rows.starts[i], columns.starts[i])
            enlarge = self._enlarged_as_it_is if self.borders is None else self._enlarged_over
            finer = scored[i - 1] if i else None
            target = size if finer is None else (finer.shape[2], finer.shape[3])
            scores = enlarge(scores, deconvolutions[i], i, start, target)
            if finer is not None:
                first = (0, 0) if self.borders is not None else (max(0, -start[0]), max(0, -start[1]))
                scores = scores + cut(finer, first, (scores.shape[2], scores.shape[3]))
        return scores

    def _enlarged_over(
        self, scores: Tensor, deconvolution: nn.Module, i: int, start: tuple[int, int], target: tuple[int, int]
    ) -> Tensor:
        """The enlarged scores at every cell of the target; beyond the outermost cells their values go on."""
        assert self.borders is not None
        factor, ((top, bottom), (left, right)) = self.factors[i], self.borders[i]
        enlarged = deconvolution(repeat_border(scores, (top, left), (bottom, right)))
        return cut(enlarged, (start[0] + factor * top, start[1] + factor * left), target)

    def _enlarged_as_it_is(
        self, scores: Tensor, deconvolution: nn.Module, i: int, start: tuple[int, int], target: tuple[int, int]
    ) -> Tensor:
        """The enlarged scores where they and the target overlap; the photo must lie within them."""
        enlarged = deconvolution(scores)
        first = (max(0, start[0]), max(0, start[1]))
        ends = [min(enlarged.shape[2 + axis], start[axis] + target[axis]) for axis in (0, 1)]
        if i == 0 and (min(start) < 0 or any(ends[axis] < start[axis] + target[axis] for axis in (0, 1))):
            raise GeometryError(
                "with alignment 'paper' the enlarged scores must cover the photo",
                f"a photo of {target[0]}x{target[1]}: scores of {tuple(enlarged.shape[2:])}, cropped from {start}",
                "use alignment='same' with this backbone",
            )
        return cut(enlarged, first, (ends[0] - first[0], ends[1] - first[1]))


def take_over(net: SegmentationNet, start: SegmentationNet) -> None:
    """Copy into `net` every weight that `start` has under the same name.

    What only `net` has keeps its start: skips at zero, deconvolutions bilinear. Raises: WeightsError if the bodies
    differ.
    """
    own, given = net.state_dict(), start.state_dict()
    shared = {name: tensor for name, tensor in given.items() if name in own}
    body = [name for name in own if name.startswith("network.body.")]
    unlike = [name for name, tensor in shared.items() if tensor.shape != own[name].shape]
    lacking = [name for name in body if name not in given]
    if unlike or lacking:
        name = (unlike or lacking)[0]
        was = f"{tuple(given[name].shape)} there, {tuple(own[name].shape)} here" if unlike else "not there"
        raise WeightsError(
            "a stage starts from one with the same backbone, the same classes and the same kind of deconvolution",
            f"{len(unlike) + len(lacking)} weights do not fit, the first: {name} ({was})",
            "build both stages from the same converted classifier, label space, alignment and deconvolution",
        )
    with torch.no_grad():
        for name, tensor in shared.items():
            own[name].copy_(tensor)
