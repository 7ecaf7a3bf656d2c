"""Layers that change each number by itself, or numbers at the same place of several bottoms. Road: caffe, layers.

Source: docs/explanation/caffe.md, "Arithmetic".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fullconv.caffe.layer import Layer, Parameter, SameShape, Shape
from fullconv.caffe.message import Message


class ReLU(SameShape):
    """max(0, x), or the negative part times negative_slope; at 0 the gradient is negative_slope's."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        slope = self.param.relu_param.negative_slope
        return [F.relu(bottoms[0]) if slope == 0 else torch.where(bottoms[0] > 0, bottoms[0], slope * bottoms[0])]


class PReLU(SameShape):
    """The negative part times a learned slope, one a channel or one for all."""

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        if len(bottoms[0]) < 2:
            self.fail("its bottom has at least 2 axes", f"shape {list(bottoms[0])}")
        param = self.param.prelu_param
        filler = param.filler if param.has("filler") else Message("FillerParameter", value=0.25)
        return [Parameter(() if param.channel_shared else (bottoms[0][1],), filler)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        (x,), (slope,) = bottoms, blobs
        slope = slope.reshape(-1, *[1] * (x.dim() - 2))
        return [torch.where(x > 0, x, slope * x)]


class ELU(SameShape):
    """x, or alpha (e^x - 1) up to 0."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        (x,), alpha = bottoms, self.param.elu_param.alpha
        return [torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))]


class Sigmoid(SameShape):
    """1 / (1 + e^-x)."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [torch.sigmoid(bottoms[0])]


class TanH(SameShape):
    """The hyperbolic tangent."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [torch.tanh(bottoms[0])]


class AbsVal(SameShape):
    """|x|."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0].abs()]


class BNLL(SameShape):
    """log(1 + e^x)."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [F.softplus(bottoms[0])]


class Swish(SameShape):
    """x sigmoid(beta x)."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0] * torch.sigmoid(self.param.swish_param.beta * bottoms[0])]


class Clip(SameShape):
    """x within min and max."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param = self.param.clip_param
        return [bottoms[0].clamp(param.min, param.max)]


class Power(SameShape):
    """(shift + scale x) ^ power; a constant where power or scale is 0."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param, (x,) = self.param.power_param, bottoms
        if param.power * param.scale == 0:
            return [torch.full_like(x, param.shift) ** param.power + 0 * x]
        inner = param.shift + param.scale * x
        return [inner if param.power == 1 else inner**param.power]


class Exp(SameShape):
    """base ^ (shift + scale x); base -1 is e."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param = self.param.exp_param
        if param.base != -1 and param.base <= 0:
            self.fail("base is above 0, or -1 for e", str(param.base))
        logarithm = 1.0 if param.base == -1 else math.log(param.base)
        return [torch.exp(logarithm * (param.shift + param.scale * bottoms[0]))]


class Log(SameShape):
    """log of shift + scale x, to a base; -1 is e."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param = self.param.log_param
        if param.base != -1 and (param.base <= 0 or param.base == 1):
            self.fail("base is above 0 and not 1, or -1 for e", str(param.base))
        logarithm = 1.0 if param.base == -1 else math.log(param.base)
        return [torch.log(param.shift + param.scale * bottoms[0]) / logarithm]


class Threshold(SameShape):
    """1 where x is above the threshold, else 0."""

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [(bottoms[0] > self.param.threshold_param.threshold).to(bottoms[0].dtype)]


class Dropout(SameShape):
    """In TRAIN x times a random mask over 1 - ratio; in TEST x."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        ratio = self.param.dropout_param.dropout_ratio
        if self.phase == "TRAIN" and not 0 <= ratio < 1:
            self.fail("dropout_ratio is from 0 to below 1", str(ratio))
        return [bottoms[0]]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        ratio = self.param.dropout_param.dropout_ratio
        return [F.dropout(bottoms[0], ratio) if self.phase == "TRAIN" else bottoms[0]]


# ---- several bottoms ------------------------------------------------------------------------------------------------


class Eltwise(Layer):
    """Sum with coefficients, product, or maximum of bottoms of one shape."""

    bottoms = (2, None)
    in_place = True

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        param = self.param.eltwise_param
        if any(shape != bottoms[0] for shape in bottoms):
            self.fail("all bottoms have one shape", " and ".join(str(list(shape)) for shape in bottoms))
        if param.coeff and len(param.coeff) != len(bottoms):
            self.fail("there is one coeff a bottom, or none", f"{len(param.coeff)} for {len(bottoms)} bottoms")
        if param.coeff and param.operation == "PROD":
            self.fail("a product takes no coeff", f"coeff {list(param.coeff)}")
        return [bottoms[0]]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param = self.param.eltwise_param
        top = bottoms[0]
        if param.operation == "SUM":
            coefficients = list(param.coeff) or [1.0] * len(bottoms)
            top = top if coefficients[0] == 1 else coefficients[0] * top
            for bottom, by in zip(bottoms[1:], coefficients[1:], strict=True):
                top = top + bottom if by == 1 else torch.add(top, bottom, alpha=by)
        elif param.operation == "PROD":
            for bottom in bottoms[1:]:
                top = top * bottom
        else:  # of equal numbers the second bottom's counts before the first's, a later one's after both
            top = torch.where(top > bottoms[1], top, bottoms[1])
            for bottom in bottoms[2:]:
                top = torch.where(bottom > top, bottom, top)
        return [top]


class _Aligned(Layer):
    """A factor or summand, learned or bottom 1, laid along bottom 0 from an axis on."""

    bottoms = (1, 2)
    in_place = True

    @property
    def own(self) -> Message:
        raise NotImplementedError

    def _learned(self, shape: Shape) -> Shape:
        own = self.own
        if own.num_axes == 0:
            return ()
        axis = self.axis(own.axis, shape)
        last = len(shape) if own.num_axes == -1 else axis + own.num_axes
        if last > len(shape):
            self.fail(
                "axis and num_axes lie within the bottom's axes", f"{own.axis} and {own.num_axes} of {list(shape)}"
            )
        return shape[axis:last]

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms) == 2:
            axis = 0 if not bottoms[1] else self.axis(self.own.axis, bottoms[0])
            if bottoms[0][axis : axis + len(bottoms[1])] != bottoms[1]:
                self.fail(f"bottom 1 fits along bottom 0 from axis {axis}", f"{list(bottoms[1])} on {list(bottoms[0])}")
        return [bottoms[0]]

    def laid(self, factor: Tensor, shape: Shape) -> Tensor:
        """The factor with axes of 1 behind it, so that it is laid along its own axes."""
        axis = 0 if not factor.dim() else self.own.axis % len(shape)
        return factor.reshape((*factor.shape, *[1] * (len(shape) - axis - factor.dim())))


class Scale(_Aligned):
    """x times a factor, plus a bias if asked."""

    @property
    def own(self) -> Message:
        param: Message = self.param.scale_param
        return param

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        param = self.own
        shape = self._learned(bottoms[0]) if len(bottoms) == 1 else bottoms[1]
        filler = param.filler if param.has("filler") else Message("FillerParameter", value=1.0)
        learned = [Parameter(shape, filler)] if len(bottoms) == 1 else []
        return [*learned, Parameter(shape, param.bias_filler)] if param.bias_term else learned

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        shape, rest = tuple(bottoms[0].shape), [*bottoms[1:], *blobs]
        top = bottoms[0] * self.laid(rest[0], shape)
        return [top + self.laid(rest[1], shape) if len(rest) > 1 else top]


class Bias(_Aligned):
    """x plus a summand."""

    @property
    def own(self) -> Message:
        param: Message = self.param.bias_param
        return param

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        return [Parameter(self._learned(bottoms[0]), self.own.filler)] if len(bottoms) == 1 else []

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0] + self.laid([*bottoms[1:], *blobs][0], tuple(bottoms[0].shape))]
