"""Layers that set numbers in relation to others around them: LRN, BatchNorm, MVN, Softmax; InnerProduct and Embed.

Road: caffe, layers. Source: docs/explanation/caffe.md, "Arithmetic".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fullconv.caffe.layer import MOST, Layer, Parameter, SameShape, Shape, count
from fullconv.caffe.message import Message
from fullconv.caffe.spatial import Window, mean_of_windows

_STATISTICS = 3  # blobs of BatchNorm: sums of means and of variances, and of what to divide them by


class InnerProduct(Layer):
    """x W^T + b over all axes from `axis` on, flattened."""

    def _axis(self, shape: Shape) -> int:
        return self.axis(self.param.inner_product_param.axis, shape)

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        param = self.param.inner_product_param
        if param.num_output < 1:
            self.fail("num_output is at least 1", str(param.num_output))
        weight = (param.num_output, count(bottoms[0][self._axis(bottoms[0]) :]))
        learned = [Parameter(weight[::-1] if param.transpose else weight, param.weight_filler)]
        return [*learned, Parameter((param.num_output,), param.bias_filler)] if param.bias_term else learned

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0][: self._axis(bottoms[0])], self.param.inner_product_param.num_output)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        (x,) = bottoms
        weight = blobs[0].T if self.param.inner_product_param.transpose else blobs[0]
        flat = x.reshape(*x.shape[: self._axis(tuple(x.shape))], -1)
        if flat.shape[-1] != weight.shape[1]:
            self.fail(
                f"its bottom has {weight.shape[1]} numbers an item, as when the net was built",
                f"shape {list(x.shape)}",
                "give photos of that size, or make the layer a convolution",
            )
        return [F.linear(flat, weight, blobs[1] if len(blobs) > 1 else None)]


class Embed(Layer):
    """Rows of a learned table, by number."""

    blind = (0,)

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        param = self.param.embed_param
        if param.num_output < 1 or param.input_dim < 1:
            self.fail("num_output and input_dim are at least 1", f"{param.num_output}, {param.input_dim}")
        table = Parameter((param.input_dim, param.num_output), param.weight_filler)
        return [table, Parameter((param.num_output,), param.bias_filler)] if param.bias_term else [table]

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0], self.param.embed_param.num_output)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        rows = bottoms[0].long()
        if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < len(blobs[0]):
            self.fail(f"rows are 0 to {len(blobs[0]) - 1}", f"{int(rows.min())} to {int(rows.max())}", "mend the input")
        top = F.embedding(rows, blobs[0])
        return [top + blobs[1] if len(blobs) > 1 else top]


class LRN(SameShape):
    """Local response normalization across channels, or within each."""

    in_place = False

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        param = self.param.lrn_param
        if param.local_size % 2 == 0:
            self.fail("local_size is odd", str(param.local_size))
        if len(bottoms[0]) != 4:
            self.fail("its bottom has 4 axes", f"shape {list(bottoms[0])}")
        reach = (*bottoms[0][:2], *(size + param.local_size for size in bottoms[0][2:]))
        if param.norm_region == "WITHIN_CHANNEL" and count(reach) > MOST:
            self.fail("a padded bottom has at most 2^31 - 1 numbers", f"shape {list(reach)}")
        return [bottoms[0]]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param, (x,) = self.param.lrn_param, bottoms
        n = param.local_size
        if param.norm_region == "ACROSS_CHANNELS":
            reach = min(n // 2, x.shape[1] - 1)
            squares = F.pad((x * x).flatten(2), (0, 0, reach, reach))
            sums = F.avg_pool2d(squares.unsqueeze(1), (2 * reach + 1, 1), 1, divisor_override=1).reshape(x.shape)
            return [x * (param.k + param.alpha / n * sums) ** -param.beta]
        window = Window((n, n), (1, 1), (n // 2, n // 2), (1, 1))
        means = mean_of_windows(x * x, window, tuple(x.shape[2:]))
        return [x * (1 + param.alpha * means) ** -param.beta]  # k is not used here


class BatchNorm(SameShape):
    """(x - mean) / sqrt(variance + eps), by stored sums or by the batch's own; no factor and no shift.

    In TRAIN by the batch's own, which are added to the stored sums.
    """

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        if any(spec.lr_mult != 0 for spec in self.param.param):
            self.fail(
                "its blobs are no parameters to learn", "lr_mult other than 0", "param { lr_mult: 0 } three times"
            )
        if not bottoms[0]:
            self.fail("its bottom has items", "no axes")
        while len(self.param.param) < _STATISTICS:  # as Caffe writes it into files
            self.param.add("param", Message("ParamSpec", lr_mult=0.0))
        channels = (bottoms[0][1] if len(bottoms[0]) > 1 else 1,)
        return [Parameter(shape, Message("FillerParameter")) for shape in (channels, channels, (1,))]

    @property
    def stored(self) -> bool:
        """Whether it goes by its stored sums, not by the batch's own numbers."""
        param = self.param.batch_norm_param
        return bool(param.use_global_stats) if param.has("use_global_stats") else self.phase == "TEST"

    @staticmethod
    def statistics(blobs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel, of the stored sums and what they are to be divided by."""
        means, variances, factor = blobs
        whole = float(factor.detach())
        scale = 0.0 if whole == 0 else 1 / whole
        return means * scale, variances * scale

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param, (x,) = self.param.batch_norm_param, bottoms
        along = (1, -1, *[1] * (x.dim() - 2)) if x.dim() > 1 else (-1,)
        means, variances, factor = blobs
        if self.stored:
            mean, variance = self.statistics(blobs)
        else:
            axes = [axis for axis in range(x.dim()) if axis != 1]
            mean = x.mean(axes)
            variance = ((x - mean.reshape(along)) ** 2).mean(axes)
            with torch.no_grad():
                number = x.numel() // len(means)
                fraction = param.moving_average_fraction
                means.mul_(fraction).add_(mean)
                variances.mul_(fraction).add_(variance * (number / (number - 1) if number > 1 else 1.0))
                factor.mul_(fraction).add_(1)
        return [(x - mean.reshape(along)) / torch.sqrt(variance.reshape(along) + param.eps)]


class MVN(SameShape):
    """Less the mean and, if asked, over the deviation: of each channel of an item, or of each item."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param, (x,) = self.param.mvn_param, bottoms
        items, channels = (*x.shape, 1, 1)[:2]
        flat = x.reshape(items if param.across_channels else items * channels, -1)
        even = flat - flat.double().mean(1, keepdim=True).to(flat)  # exact where all are equal
        if param.normalize_variance:
            deviation = (even * even).mean(1, keepdim=True).sqrt()
            fixed = deviation.detach()
            over = fixed + param.eps  # Caffe's gradient takes eps as part of the deviation
            even = even / (over + (deviation - fixed) * (fixed / over))
        return [even.reshape(x.shape)]


class Softmax(SameShape):
    """e^x over its sum along an axis."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.axis(self.param.softmax_param.axis, bottoms[0])
        return [bottoms[0]]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [torch.softmax(bottoms[0], self.param.softmax_param.axis)]
