"""Layers that rearrange, join, divide or pick numbers. Road: caffe, layers.

Source: docs/explanation/caffe.md, "Geometry" and "Arithmetic".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fullconv.caffe.layer import MOST_AXES, Layer, Shape, count


class Split(Layer):
    """The bottom, as often as there are tops; gradients add up."""

    tops = (1, None)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]] * len(self.param.top)

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0].view_as(bottoms[0]) for _ in self.param.top]


class Silence(Layer):
    """Nothing: its bottoms are no outputs."""

    bottoms = (1, None)
    tops = (0, 0)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return []

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return []


class Concat(Layer):
    """Bottoms one after another along an axis."""

    bottoms = (1, None)

    def _axis(self, shape: Shape) -> int:
        param = self.param.concat_param
        if param.has("axis") and param.has("concat_dim"):
            self.fail("the axis is 'axis' or, of old, 'concat_dim'", "both are given")
        return self.axis(param.concat_dim if param.has("concat_dim") else param.axis, shape)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        axis, first = self._axis(bottoms[0]), bottoms[0]
        if any(
            len(one) != len(first) or (*one[:axis], *one[axis + 1 :]) != (*first[:axis], *first[axis + 1 :])
            for one in bottoms
        ):
            self.fail(f"bottoms differ on axis {axis} alone", " and ".join(str(list(one)) for one in bottoms))
        return [(*first[:axis], sum(one[axis] for one in bottoms), *first[axis + 1 :])]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat(list(bottoms), self._axis(tuple(bottoms[0].shape)))]


class Slice(Layer):
    """The bottom divided along an axis, evenly or at points."""

    tops = (1, None)

    def _parts(self, shape: Shape) -> tuple[int, list[int]]:
        """The axis, and the size of each part."""
        param, tops = self.param.slice_param, len(self.param.top)
        if param.has("axis") and param.has("slice_dim"):
            self.fail("the axis is 'axis' or, of old, 'slice_dim'", "both are given")
        axis = self.axis(param.slice_dim if param.has("slice_dim") else param.axis, shape)
        points = list(param.slice_point)
        if not points:
            if shape[axis] % tops:
                self.fail(f"{tops} tops divide axis {axis} evenly", f"size {shape[axis]}", "give slice_point")
            return axis, [shape[axis] // tops] * tops
        if len(points) != tops - 1:
            self.fail("there is one slice_point fewer than tops", f"{len(points)} for {tops} tops")
        ends = [0, *points, shape[axis]]
        sizes = [last - first for first, last in pairwise(ends)]
        if min(sizes) < 1:
            self.fail(f"slice_point increases, within {shape[axis]}", f"{points}")
        return axis, sizes

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        axis, sizes = self._parts(bottoms[0])
        return [(*bottoms[0][:axis], size, *bottoms[0][axis + 1 :]) for size in sizes]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        axis, sizes = self._parts(tuple(bottoms[0].shape))
        return [part.contiguous() for part in torch.split(bottoms[0], sizes, axis)]


class Flatten(Layer):
    """The axes from `axis` to `end_axis` as one."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,), param = bottoms, self.param.flatten_param
        first, last = self.axis(param.axis, shape), self.axis(param.end_axis, shape)
        if last < first:
            self.fail("end_axis is not before axis", f"{param.axis} to {param.end_axis} of {list(shape)}")
        return [(*shape[:first], count(shape[first : last + 1]), *shape[last + 1 :])]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0].reshape(self.shapes([tuple(bottoms[0].shape)])[0])]


class Reshape(Layer):
    """The same numbers in another shape: 0 copies a size, -1 is worked out."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,), param = bottoms, self.param.reshape_param
        asked = list(param.shape.dim)
        first = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        last = len(shape) if param.num_axes == -1 else first + param.num_axes
        if not 0 <= first <= last <= len(shape) or param.num_axes < -1:
            self.fail(
                "axis and num_axes lie within the bottom's axes", f"{param.axis}, {param.num_axes} of {list(shape)}"
            )
        if len(asked) > MOST_AXES:
            self.fail(f"a blob has at most {MOST_AXES} axes", f"{len(asked)}")
        if asked.count(-1) > 1 or min(asked, default=0) < -1:
            self.fail("sizes are 0 or more; at most one is -1", f"{asked}")
        if any(size == 0 and first + place >= len(shape) for place, size in enumerate(asked)):
            self.fail("a size of 0 has one of the bottom to copy", f"{asked} for {list(shape)}")
        found = [shape[first + place] if size == 0 else size for place, size in enumerate(asked)]
        found = [*shape[:first], *found, *shape[last:]]
        if -1 in found:
            known = -count(found)
            if known == 0 or count(shape) % known:
                self.fail("the other sizes divide the bottom", f"{asked} for {list(shape)}")
            found[found.index(-1)] = count(shape) // known
        if count(found) != count(shape):
            self.fail("the new shape has as many numbers", f"{found} for {list(shape)}")
        return [tuple(found)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0].reshape(self.shapes([tuple(bottoms[0].shape)])[0])]


class Tile(Layer):
    """The bottom `tiles` times along an axis."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,), param = bottoms, self.param.tile_param
        axis = self.axis(param.axis, shape)
        if param.tiles < 1:
            self.fail("tiles is at least 1", str(param.tiles))
        return [(*shape[:axis], shape[axis] * param.tiles, *shape[axis + 1 :])]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        param = self.param.tile_param
        return [torch.cat([bottoms[0]] * param.tiles, param.axis)]


class Reduction(Layer):
    """Sum, sum of sizes, sum of squares or mean over all axes from `axis` on, times a coefficient."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0][: self.axis(self.param.reduction_param.axis, bottoms[0])]]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        (x,), param = bottoms, self.param.reduction_param
        flat = x.reshape(*x.shape[: self.axis(param.axis, tuple(x.shape))], -1)
        if param.operation == "MEAN":
            return [param.coeff * flat.mean(-1)]
        if param.operation == "ASUM":
            return [param.coeff * flat.abs().sum(-1)]
        return [param.coeff * (flat * flat if param.operation == "SUMSQ" else flat).sum(-1)]


class BatchReindex(Layer):
    """Items of bottom 0, by the numbers in bottom 1."""

    bottoms = (2, 2)
    blind = (1,)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[1]) != 1 or not bottoms[0]:
            self.fail("bottom 1 has one axis", f"{list(bottoms[0])} and {list(bottoms[1])}")
        return [(bottoms[1][0], *bottoms[0][1:])]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        rows = bottoms[1].long()
        if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < len(bottoms[0]):
            self.fail(
                f"numbers are 0 to {len(bottoms[0]) - 1}", f"{int(rows.min())} to {int(rows.max())}", "mend the input"
            )
        return [bottoms[0][rows]]


class Filter(Layer):
    """The items of each bottom at which the last bottom is not 0."""

    bottoms = (2, None)
    tops = (1, None)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(self.param.top) != len(bottoms) - 1:
            self.fail(
                "there is one top a bottom, but for the last", f"{len(bottoms)} bottoms, {len(self.param.top)} tops"
            )
        if not all(shape and shape[0] == bottoms[-1][0] for shape in bottoms[::-1]) or count(bottoms[-1][1:]) != 1:
            self.fail("the last bottom has one number an item", " and ".join(str(list(one)) for one in bottoms))
        return list(bottoms[:-1])

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        chosen = bottoms[-1].reshape(-1) != 0
        return [bottom[chosen] for bottom in bottoms[:-1]]


class ArgMax(Layer):
    """The highest numbers of each item or along an axis: where they are, or what they are. Of equal ones the last."""

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        (shape,), param = bottoms, self.param.argmax_param
        if param.has("axis"):
            axis = self.axis(param.axis, shape)
            among, found = shape[axis], (*shape[:axis], param.top_k, *shape[axis + 1 :])
        else:
            if not shape:
                self.fail("its bottom has items", "no axes")
            among = count(shape[1:])
            found = (*shape[:1], 2 if param.out_max_val else 1, param.top_k, *[1] * (len(shape) - 3))
            found = found[: max(len(shape), 3)]
        if not 1 <= param.top_k <= among:
            self.fail(f"top_k is 1 to {among}", str(param.top_k))
        return [found]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        (x,), param = bottoms, self.param.argmax_param
        rows = x.detach() if param.has("axis") else x.detach().reshape(len(x), -1)
        axis = param.axis % x.dim() if param.has("axis") else 1
        # turned round, the first of equal ones is the last
        values, places = torch.sort(rows.flip(axis), dim=axis, descending=True, stable=True)
        values = values.narrow(axis, 0, param.top_k)
        places = (rows.shape[axis] - 1 - places.narrow(axis, 0, param.top_k)).to(x.dtype)
        if param.has("axis"):
            return [values if param.out_max_val else places]
        top = torch.stack([places, values], 1) if param.out_max_val else places
        return [top.reshape(self.shapes([tuple(x.shape)])[0])]
