"""A Caffe net's outputs, fast. Road: caffe, on top of a graph that is not trained.

A net that pads its photo by 100 pixels computes much that no pixel of the photo reaches: places far from it have the
values of a blank photo of that size. These are worked out once a size, on a blank photo that is as small as edges
allow, and only what the photo reaches is computed for each photo. Nothing is approximated: sums are rounded in another
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fullconv.caffe.graph import Graph
from fullconv.caffe.layer import Shape
from fullconv.caffe.normalising import BatchNorm
from fullconv.caffe.regions import Region, area, blank_part, hull, inward, outward, overlap, small_size, whole, within
from fullconv.caffe.spatial import Convolution, Pooling
from fullconv.caffe.steps import Step, a_number_a_channel, slid, steps_of, upsampled

_POINTWISE = ("ReLU", "Power", "Sigmoid", "TanH", "AbsVal", "ELU", "PReLU", "Exp", "BNLL")
_WORTH = 0.9  # share of a map from which on it is computed whole
_SIZES = 2  # of photos, whose frames are kept


@dataclass(frozen=True)
class Patch:
    """What was computed of a map.

    Args:
        data: (N, C, h, w).
        region: where it lies; None: it is the whole map.
    """

    data: Tensor
    region: Region | None = None


@dataclass(frozen=True)
class Frame:
    """A part of a map with the blank photo's values, for patches to be written into, and padding beyond the map."""

    data: Tensor
    lies: Region

    def around(self, patch: Patch) -> Tensor:
        """The part with a patch in it, until the next is written."""
        assert patch.region is not None
        (rows, columns), (to_rows, to_columns) = overlap(patch.region, self.lies)
        self.data[:, :, to_rows, to_columns] = patch.data[:, :, rows, columns]
        return self.data


@dataclass
class Sized:
    """What is known of a size of photo.

    Args:
        shapes: of each value.
        regions: of each value, what the photo reaches; None: all of it.
        inputs: place of a step that slides -> the frame that its input is written into.
        wholes: value -> the frame of its whole map.
    """

    shapes: dict[int, Shape]
    regions: dict[int, Region | None]
    inputs: dict[int, Frame] = field(default_factory=dict)
    wholes: dict[int, Frame] = field(default_factory=dict)


class Engine:
    """Runs a graph's outputs.

    Args:
        graph: with its weights; they are not to change.
        dtype: that convolutions with many outputs compute in: float32, or bfloat16 where that is asked for.
        outputs: blobs; None takes the graph's outputs.

    `inputs` are those of the graph's that the outputs need, by name.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32, outputs: Sequence[str] | None = None) -> None:
        self.steps, self.inputs, self.outputs = steps_of(graph, graph.outputs if outputs is None else outputs)
        self.dtype = dtype
        self._last = {value: place for place, step in enumerate(self.steps) for value in step.inputs}
        self._sizes: dict[tuple[Shape, ...], Sized] = {}

    def _type(self, step: Step) -> torch.dtype:
        return self.dtype if step.narrow else torch.float32

    def run(self, photos: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by name, float32, as their own.

        Args:
            photos: float32, one tensor for each of `inputs`, in their order.
        """
        shapes = tuple(tuple(one.shape) for one in photos)
        with torch.no_grad():
            sized = self._sizes.pop(shapes, None) or self._plan(shapes)
            while len(self._sizes) >= _SIZES:
                del self._sizes[next(iter(self._sizes))]
            self._sizes[shapes] = sized  # the last that was used stands last
            return self._run(photos, sized)

    # ---- a photo ----

    def _run(self, photos: Sequence[Tensor], sized: Sized) -> dict[str, Tensor]:
        values = {
            value: Patch(one, sized.regions[value]) for value, one in zip(self.inputs.values(), photos, strict=True)
        }
        for place, step in enumerate(self.steps):
            if sized.regions[step.outputs[0]] is None:
                given = [self._whole(value, values[value], sized) for value in step.inputs]
                made = [Patch(one) for one in self._computed(step, given, sized.shapes)]
            else:
                made = [self._part(place, step, values[step.inputs[0]], sized)]
            values |= dict(zip(step.outputs, made, strict=True))
            for value in step.inputs:
                if self._last[value] == place and value not in self.outputs.values():
                    values.pop(value, None)
        found = {name: self._whole(value, values[value], sized) for name, value in self.outputs.items()}
        return {
            name: one.to(torch.float32, memory_format=torch.contiguous_format, copy=True) for name, one in found.items()
        }

    def _computed(self, step: Step, given: list[Tensor], shapes: dict[int, Shape]) -> list[Tensor]:
        """A step's outputs from whole maps."""
        given = [one.to(self._type(step)) for one in given]
        if step.slides:
            return [slid(step, given[0])]
        if step.window is not None:
            return [upsampled(step, given[0], shapes[step.outputs[0]])]
        return step.node.layer.run(given, step.blobs_in(self._type(step)))

    def _part(self, place: int, step: Step, patch: Patch, sized: Sized) -> Patch:
        """A step's output where the photo reaches it."""
        if not step.slides:
            (made,) = self._computed(step, [patch.data], sized.shapes)
            return Patch(made, patch.region)
        frame = sized.inputs.get(place)
        x = patch.data.to(self._type(step)) if frame is None else frame.around(patch)
        return Patch(slid(step, x, padded=True), sized.regions[step.outputs[0]])

    def _whole(self, value: int, patch: Patch, sized: Sized) -> Tensor:
        return sized.wholes[value].around(patch) if value in sized.wholes else patch.data

    # ---- a size ----

    def _plan(self, shapes: tuple[Shape, ...]) -> Sized:
        sized = Sized(dict(zip(self.inputs.values(), shapes, strict=True)), {})
        alone = len(shapes) == 1 and len(shapes[0]) == 4
        for value, shape in sized.shapes.items():
            sized.regions[value] = whole(shape[2:]) if alone else None
        for step in self.steps:
            sized.shapes |= dict(zip(step.outputs, step.shapes(sized.shapes), strict=True))
            sized.regions |= dict.fromkeys(step.outputs, self._reached(step, sized))
        self._widen(sized)
        self._frame(sized)
        return sized

    def _reached(self, step: Step, sized: Sized) -> Region | None:
        """What of a step's output the photo reaches; None: all, or nobody knows."""
        region = sized.regions[step.inputs[0]] if len(step.inputs) == 1 and len(step.outputs) == 1 else None
        if region is None or not (step.slides or _pointwise(step)):
            return None
        size = sized.shapes[step.outputs[0]][2:]
        if step.window is not None:
            region = outward(region, step.window, size)
        worth = min(last - first for first, last in region) > 0 and area(region) < _WORTH * area(whole(size))
        return region if worth else None

    def _widen(self, sized: Sized) -> None:
        """Compute so much more of maps that poolings need no frame."""
        parts = [step for step in self.steps if sized.regions[step.outputs[0]] is not None]
        for step in reversed(parts):
            wanted, given = sized.regions[step.outputs[0]], sized.regions[step.inputs[0]]
            assert wanted is not None
            assert given is not None
            if isinstance(step.node.layer, Convolution):
                continue
            if step.window is not None:
                wanted = inward(wanted, step.window)
            if within(wanted, sized.shapes[step.inputs[0]][2:]):
                sized.regions[step.inputs[0]] = hull(given, wanted)
        for step in parts:
            if not step.slides:
                sized.regions[step.outputs[0]] = sized.regions[step.inputs[0]]

    def _frame(self, sized: Sized) -> None:
        """Make the frames, from a small blank photo where the photo's own values have none beside them."""
        parts = {place: step for place, step in enumerate(self.steps) if sized.regions[step.outputs[0]] is not None}
        if not parts:
            return
        others = [value for place, step in enumerate(self.steps) if place not in parts for value in step.inputs]
        read_whole = {*others, *self.outputs.values()}
        last = {step.inputs[0]: place for place, step in parts.items()}
        (photo,) = self.inputs.values()
        _, channels, *size = sized.shapes[photo]
        small = small_size(size, [step.window for step in parts.values() if step.window is not None])
        blanks = {photo: torch.zeros(1, channels, *small)}
        for place, step in parts.items():
            blank, wanted = blanks[step.inputs[0]], sized.regions[step.outputs[0]]
            if step.slides and step.window is not None and wanted is not None:
                lies = inward(wanted, step.window)
                if lies != sized.regions[step.inputs[0]]:
                    outside = torch.finfo(self._type(step)).min if isinstance(step.node.layer, Pooling) else 0.0
                    sized.inputs[place] = self._framed(step.inputs[0], blank.to(self._type(step)), lies, outside, sized)
            (made,) = self._computed(step, [blank], sized.shapes)
            if step.outputs[0] in read_whole:
                everything = whole(sized.shapes[step.outputs[0]][2:])
                sized.wholes[step.outputs[0]] = self._framed(step.outputs[0], made, everything, 0.0, sized)
            blanks[step.outputs[0]] = made
            if last[step.inputs[0]] == place:
                del blanks[step.inputs[0]]

    def _framed(self, value: int, blank: Tensor, lies: Region, outside: float, sized: Sized) -> Frame:
        number, channels, *size = sized.shapes[value]
        sides = [last - first for first, last in lies]
        data = torch.empty(number, channels, *sides, dtype=blank.dtype, memory_format=torch.channels_last)
        data.fill_(outside)
        everything = whole(size)
        (rows, columns), (to_rows, to_columns) = overlap(everything, lies)
        inside = (rows.start, rows.stop), (columns.start, columns.stop)
        data[:, :, to_rows, to_columns] = blank_part(blank, size, inside)
        return Frame(data, lies)


def _pointwise(step: Step) -> bool:
    """Whether a step computes a place from that place alone, by one rule for all places."""
    layer = step.node.layer
    if layer.param.type == "LRN":
        return bool(layer.param.lrn_param.norm_region == "ACROSS_CHANNELS")
    if isinstance(layer, BatchNorm):
        return layer.stored
    if layer.param.type == "Scale":
        return a_number_a_channel(step.node)
    return layer.param.type in _POINTWISE
