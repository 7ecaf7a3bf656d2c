"""Layers that slide a window: convolution, deconvolution, pooling, im2col, pyramid pooling; and Crop.

Road: caffe, layers. Source: docs/explanation/caffe.md, "Geometry"; sizes divide as C does, towards zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fullconv.caffe.layer import MOST, Layer, Parameter, Shape, count
from fullconv.caffe.message import Message

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Window:
    """A window that slides over spatial axes, one value an axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


def divided(a: int, b: int) -> int:
    """Whole division towards zero, as C has it."""
    return -(-a // b) if a < 0 else a // b


class _Windowed(Layer):
    """A layer with a convolution_param."""

    as_many_tops = True
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def channel_axis(self, shape: Shape) -> int:
        axis = self.axis(self.param.convolution_param.axis, shape)
        if len(shape) - axis - 1 not in _CONVOLUTIONS:
            self.fail("a bottom has 1 to 3 spatial axes", f"shape {list(shape)}, axis {axis}")
        return axis

    def window(self, spatial: int) -> Window:
        param = self.param.convolution_param

        def per_axis(name: str, default: int) -> tuple[int, ...]:
            listed = list(getattr(param, "kernel_size" if name == "kernel" else name))
            if name != "dilation" and (param.has(f"{name}_h") or param.has(f"{name}_w")):
                if spatial != 2 or listed:
                    self.fail(
                        f"{name} is given once for all axes, or {name}_h and {name}_w for 2", "both, or not 2 axes"
                    )
                return getattr(param, f"{name}_h"), getattr(param, f"{name}_w")
            if not listed and name != "kernel":
                listed = [default]
            if len(listed) not in (1, spatial):
                self.fail(f"{name} is given once or once an axis ({spatial})", f"{len(listed)} times")
            return tuple(listed) if len(listed) == spatial else tuple(listed) * spatial

        window = Window(per_axis("kernel", 0), per_axis("stride", 1), per_axis("pad", 0), per_axis("dilation", 1))
        for what, values in (("kernel", window.kernel), ("stride", window.stride), ("dilation", window.dilation)):
            if min(values) < 1:
                self.fail(f"{what} is at least 1 on each axis", f"{list(values)}")
        return window

    def output(self, size: tuple[int, ...], window: Window) -> tuple[int, ...]:
        raise NotImplementedError

    def size_of(self, bottoms: Sequence[Shape]) -> list[tuple[int, ...]]:
        """Spatial sizes of the tops."""
        sizes = []
        for shape in bottoms:
            axis = self.channel_axis(shape)
            window = self.window(len(shape) - axis - 1)
            out = self.output(shape[axis + 1 :], window)
            if min(out) < 0 or (min(out) == 0 and min(shape) > 0):
                self.fail(
                    "the kernel fits into its padded bottom",
                    f"kernel {list(window.kernel)} on {list(shape[axis + 1 :])} with pad {list(window.pad)}",
                    "give a larger photo, or pad",
                )
            sizes.append(out)
        return sizes


class Convolution(_Windowed):
    """Correlation with learned kernels, in groups."""

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        param = self.param.convolution_param
        axis = self.channel_axis(bottoms[0])
        channels, outputs, group = bottoms[0][axis], param.num_output, param.group
        if outputs < 1:
            self.fail("num_output is at least 1", str(outputs))
        if group < 1 or channels % group or outputs % group:
            self.fail("group divides both numbers of channels", f"group {group}, {channels} in, {outputs} out")
        kernel = self.window(len(bottoms[0]) - axis - 1).kernel
        weight = Parameter((*self.channels_of(channels, outputs, group), *kernel), param.weight_filler)
        return [weight, Parameter((outputs,), param.bias_filler)] if param.bias_term else [weight]

    def channels_of(self, channels: int, outputs: int, group: int) -> tuple[int, int]:
        return outputs, channels // group

    def channels_in(self, weight: Shape) -> int:
        return weight[1] * int(self.param.convolution_param.group)

    def output(self, size: tuple[int, ...], window: Window) -> tuple[int, ...]:
        return tuple(
            divided(n + 2 * p - e, s) + 1
            for n, p, e, s in zip(size, window.pad, window.extent, window.stride, strict=True)
        )

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        outputs = self.param.convolution_param.num_output
        found = []
        for shape, size in zip(bottoms, self.size_of(bottoms), strict=True):
            if shape != bottoms[0]:
                self.fail("all bottoms have one shape", f"{[list(one) for one in bottoms]}")
            axis = self.channel_axis(shape)
            found.append((*shape[:axis], outputs, *size))
        return found

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [self._one(bottom, blobs) for bottom in bottoms]

    def _one(self, bottom: Tensor, blobs: Sequence[Tensor]) -> Tensor:
        shape = tuple(bottom.shape)
        axis = self.channel_axis(shape)
        if shape[axis] != self.channels_in(tuple(blobs[0].shape)):
            self.fail(f"its bottom has {self.channels_in(tuple(blobs[0].shape))} channels", f"shape {list(shape)}")
        window = self.window(len(shape) - axis - 1)
        (size,) = self.size_of([shape])
        items = bottom.reshape(-1, *shape[axis:])
        top = self.slide(items, blobs[0], blobs[1] if len(blobs) > 1 else None, window)
        return top.reshape(*shape[:axis], top.shape[1], *size)

    def slide(self, items: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        items, pad = with_what_is_missing(items, window)
        convolve = _CONVOLUTIONS[len(pad)]
        return convolve(items, weight, bias, window.stride, pad, window.dilation, self.param.convolution_param.group)


class Deconvolution(Convolution):
    """A convolution the other way round: learned upsampling."""

    def channels_of(self, channels: int, outputs: int, group: int) -> tuple[int, int]:
        return channels, outputs // group

    def channels_in(self, weight: Shape) -> int:
        return weight[0]

    def output(self, size: tuple[int, ...], window: Window) -> tuple[int, ...]:
        return tuple(
            s * (n - 1) + e - 2 * p for n, p, e, s in zip(size, window.pad, window.extent, window.stride, strict=True)
        )

    def slide(self, items: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        group = self.param.convolution_param.group
        transpose = _TRANSPOSED[len(window.pad)]
        return transpose(items, weight, bias, window.stride, window.pad, 0, group, window.dilation)


class Im2col(_Windowed):
    """The windows of a map side by side: (N, C kh kw, H', W')."""

    bottoms = (1, 1)
    tops = (1, 1)
    output = Convolution.output

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) != 4 or self.channel_axis(bottoms[0]) != 1:
            axis = self.param.convolution_param.axis
            self.fail("its bottom has 4 axes, channels on axis 1", f"shape {list(bottoms[0])}, axis {axis}")
        number, channels = bottoms[0][:2]
        return [(number, channels * count(self.window(2).kernel), *self.size_of(bottoms)[0])]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        window = self.window(2)
        items, pad = with_what_is_missing(bottoms[0], window)
        columns = F.unfold(items, window.kernel, window.dilation, pad, window.stride)
        return [columns.reshape(self.shapes([tuple(bottoms[0].shape)])[0])]


def with_what_is_missing(items: Tensor, window: Window) -> tuple[Tensor, tuple[int, ...]]:
    """Items, and the padding they need, where the kernel hangs over the edge by less than a stride: zeros are there."""
    pad = window.pad
    short = [e - n - 2 * p for n, p, e in zip(items.shape[2:], pad, window.extent, strict=True)]
    if max(short) <= 0:
        return items, pad
    ends = [end for p, s in zip(pad[::-1], short[::-1], strict=True) for end in (p, p + max(s, 0))]
    return F.pad(items, ends), (0,) * len(pad)


# ---- pooling --------------------------------------------------------------------------------------------------------


class Pooling(Layer):
    """Maximum or mean of windows; the last window may hang over the edge."""

    tops = (1, 2)

    def window(self, shape: Shape) -> Window:
        param = self.param.pooling_param
        if len(shape) != 4:
            self.fail("its bottom has 4 axes", f"shape {list(shape)}")
        sides = ("h", "w")
        if param.global_pooling:
            if any(param.has(name) for name in ("kernel_size", "kernel_h", "kernel_w")):
                self.fail("global pooling takes no kernel", "global_pooling and a kernel size")
            kernel = shape[2], shape[3]
        elif param.has("kernel_size"):
            if param.has("kernel_h") or param.has("kernel_w"):
                self.fail("the kernel is kernel_size, or kernel_h and kernel_w", "both are given")
            kernel = (param.kernel_size,) * 2
        elif param.has("kernel_h") and param.has("kernel_w"):
            kernel = param.kernel_h, param.kernel_w
        else:
            self.fail("the kernel is kernel_size, or kernel_h and kernel_w", "neither is given")
        pad, stride = (
            tuple(getattr(param, f"{name}_{side}") for side in sides)
            if any(param.has(f"{name}_{side}") for side in sides)
            else (getattr(param, name),) * 2
            for name in ("pad", "stride")
        )
        if min(kernel) < 1 or min(stride) < 1:
            self.fail("kernel and stride are at least 1", f"kernel {list(kernel)}, stride {list(stride)}")
        if param.global_pooling and (max(pad) > 0 or max(stride) > 1):
            self.fail("global pooling has pad 0 and stride 1", f"pad {list(pad)}, stride {list(stride)}")
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            self.fail("the pad is smaller than the kernel", f"pad {list(pad)}, kernel {list(kernel)}")
        if param.pool == "STOCHASTIC":
            self.fail("pool is MAX or AVE", "STOCHASTIC, which Caffe has for GPUs alone")
        return Window(kernel, stride, pad, (1, 1))

    def output(self, shape: Shape, window: Window) -> tuple[int, ...]:
        size = []
        floor = self.param.pooling_param.round_mode == "FLOOR"
        for n, k, s, p in zip(shape[2:], window.kernel, window.stride, window.pad, strict=True):
            left = n + 2 * p - k
            out = (left // s if floor else -(-left // s)) + 1
            if max(window.pad) > 0 and (out - 1) * s >= n + p:
                out -= 1
            if out < 1:
                self.fail(
                    "the kernel fits into its padded bottom", f"kernel {k} on {n} with pad {p}", "give a larger photo"
                )
            size.append(out)
        reach = [(out - 1) * s + k for out, s, k in zip(size, window.stride, window.kernel, strict=True)]
        if count((*shape[:2], *reach)) > MOST:
            self.fail("a padded bottom has at most 2^31 - 1 numbers", f"shape {[*shape[:2], *reach]}")
        return tuple(size)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,) = bottoms
        if self.param.pooling_param.pool == "AVE" and len(self.param.top) > 1:
            self.fail("means have one top", f"{len(self.param.top)}")
        found = (*shape[:2], *self.output(shape, self.window(shape)))
        return [found] * max(1, len(self.param.top))

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        shape = tuple(bottoms[0].shape)
        window = self.window(shape)
        size = self.output(shape, window)
        if self.param.pooling_param.pool == "AVE":
            return [mean_of_windows(bottoms[0], window, size)]
        if len(self.param.top) < 2:
            return [highest_of_windows(bottoms[0], window, size)]
        padded = _padded(bottoms[0], window, size, torch.finfo(bottoms[0].dtype).min)
        top, places = F.max_pool2d(padded, window.kernel, window.stride, return_indices=True)
        rows, columns = places // padded.shape[3] - window.pad[0], places % padded.shape[3] - window.pad[1]
        return [top, (rows * shape[3] + columns).to(top.dtype)]


def highest_of_windows(items: Tensor, window: Window, size: tuple[int, ...]) -> Tensor:
    """(N, C, *size) maxima; what lies outside never wins, and a window that is all outside has the lowest number."""
    if all(2 * p <= k for p, k in zip(window.pad, window.kernel, strict=True)):
        top = F.max_pool2d(items, window.kernel, window.stride, window.pad, ceil_mode=True)
        if tuple(top.shape[2:]) == size:
            return top
    return F.max_pool2d(_padded(items, window, size, torch.finfo(items.dtype).min), window.kernel, window.stride)


def mean_of_windows(items: Tensor, window: Window, size: tuple[int, ...]) -> Tensor:
    """(N, C, *size) means: padding counts, what lies beyond it does not."""
    sums = F.avg_pool2d(_padded(items, window, size, 0.0), window.kernel, window.stride, divisor_override=1)
    rows, columns = (
        (torch.arange(out) * s - p + k).clamp(max=n + p) - (torch.arange(out) * s - p)
        for out, n, k, s, p in zip(size, items.shape[2:], window.kernel, window.stride, window.pad, strict=True)
    )
    return sums / (rows[:, None] * columns).to(sums)


def _padded(items: Tensor, window: Window, size: tuple[int, ...], value: float) -> Tensor:
    """The map with as much around it as `size` windows take; cut where they take less."""
    ends = [
        (p, (out - 1) * s + k - n - p)
        for out, n, k, s, p in zip(size, items.shape[2:], window.kernel, window.stride, window.pad, strict=True)
    ]
    return F.pad(items, [*ends[1], *ends[0]], value=value)


class SPP(Layer):
    """Spatial pyramid pooling: each level's windows, flattened, one after another."""

    def _levels(self, shape: Shape) -> list[tuple[Window, tuple[int, ...]]]:
        if len(shape) != 4:
            self.fail("its bottom has 4 axes", f"shape {list(shape)}")
        if self.param.spp_param.pyramid_height < 1:
            self.fail("pyramid_height is at least 1", str(self.param.spp_param.pyramid_height))
        found = []
        for level in range(self.param.spp_param.pyramid_height):
            bins = 2**level
            kernel = tuple(-(-n // bins) for n in shape[2:])
            pad = tuple((k * bins - n + 1) // 2 for k, n in zip(kernel, shape[2:], strict=True))
            if any(p >= k for p, k in zip(pad, kernel, strict=True)):
                self.fail("a map has pixels for each window of its pyramid", f"shape {list(shape)}, {bins} windows")
            param = Message("LayerParameter", name=self.param.name, type="Pooling", top=["one"])
            window = Window(kernel, kernel, pad, (1, 1))
            found.append((window, Pooling(param, self.phase).output(shape, window)))
        return found

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,) = bottoms
        places = sum(count(size) for _, size in self._levels(shape))
        return [(shape[0], shape[1] * places)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        (items,) = bottoms
        pool = mean_of_windows if self.param.spp_param.pool == "AVE" else highest_of_windows
        return [torch.cat([pool(items, *level).flatten(1) for level in self._levels(tuple(items.shape))], 1)]


# ---- crop -----------------------------------------------------------------------------------------------------------


class Crop(Layer):
    """Bottom 0 cut to the size of bottom 1, at an offset."""

    bottoms = (2, 2)
    blind = (1,)

    def cuts(self, shape: Shape, like: Shape) -> list[tuple[int, int, int]]:
        """(axis, first, size) of each axis that is cut."""
        param = self.param.crop_param
        axis = self.axis(param.axis, shape)
        if len(shape) != len(like):
            self.fail("both bottoms have as many axes", f"{list(shape)} and {list(like)}")
        axes = range(axis, len(shape))
        offsets = list(param.offset) or [0]
        if len(offsets) not in (1, len(axes)):
            self.fail(f"offset is given once or once an axis ({len(axes)})", f"{len(offsets)} times")
        offsets = offsets if len(offsets) == len(axes) else offsets * len(axes)
        for at, offset in zip(axes, offsets, strict=True):
            if shape[at] - offset < like[at]:
                self.fail(
                    f"the crop lies within its bottom on axis {at}",
                    f"offset {offset} and size {like[at]} of {shape[at]}",
                )
        return [(at, offset, like[at]) for at, offset in zip(axes, offsets, strict=True)]

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = list(bottoms[0])
        for at, _, size in self.cuts(*bottoms):
            shape[at] = size
        return [tuple(shape)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        top = bottoms[0]
        for at, first, size in self.cuts(tuple(bottoms[0].shape), tuple(bottoms[1].shape)):
            top = top.narrow(at, first, size)
        return [top.contiguous()]
