"""Layers without bottoms: where a net's data come from. Road: caffe, layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from fullconv.caffe.fillers import filled
from fullconv.caffe.hdf5 import numbers_of, opened_hdf5
from fullconv.caffe.layer import Layer, Parameter, Shape
from fullconv.caffe.message import Message


class Input(Layer):
    """Blobs that the caller fills."""

    bottoms = (0, 0)
    tops = (1, None)
    is_input = True

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shapes = [tuple(shape.dim) for shape in self.param.input_param.shape]
        if len(shapes) not in (0, 1, len(self.param.top)):
            self.fail("there is one shape for all tops, or one a top", f"{len(shapes)} for {len(self.param.top)} tops")
        return shapes if len(shapes) == len(self.param.top) else (shapes or [()]) * len(self.param.top)

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        raise AssertionError("a net's inputs are not run")


class DummyData(Layer):
    """Blobs of fillers: constant ones stay, others are drawn anew for each pass."""

    bottoms = (0, 0)
    tops = (1, None)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        param, tops = self.param.dummy_data_param, len(self.param.top)
        shapes = [tuple(shape.dim) for shape in param.shape]
        if not shapes:
            shapes = list(zip(param.num, param.channels, param.height, param.width, strict=False))
        if len(shapes) not in (1, tops) or len(param.data_filler) not in (0, 1, tops):
            self.fail("there is one shape and filler for all tops, or one a top", f"{len(shapes)} for {tops} tops")
        return shapes if len(shapes) == tops else shapes * tops

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        shapes, fillers = self.shapes([]), list(self.param.dummy_data_param.data_filler)
        if not fillers:
            return [torch.zeros(shape) for shape in shapes]
        fillers = fillers if len(fillers) == len(shapes) else fillers * len(shapes)
        return [filled(shape, filler, of=self.title) for shape, filler in zip(shapes, fillers, strict=True)]


class HDF5Data(Layer):
    """Items of HDF5 files that a text file lists, in turn, and from the beginning again. Needs h5py."""

    bottoms = (0, 0)
    tops = (1, None)
    next_item = 0

    @cached_property
    def items(self) -> list[Tensor]:
        """All items of each top, of all files one after another."""
        listing = self.found(self.param.hdf5_data_param.source)
        parts: list[list[Tensor]] = [[] for _ in self.param.top]
        try:
            lines = listing.read_text().split()
        except (OSError, UnicodeDecodeError):
            self.fail("the source is a text file that lists HDF5 files", f"{listing} is none", "write a path a line")
        for line in lines:
            here = Path(line) if os.path.isfile(line) else listing.parent / line
            with opened_hdf5(here) as file:
                for part, name in zip(parts, self.param.top, strict=True):
                    if name not in file:
                        self.fail(
                            f"each file has a data set '{name}'", f"{here} has {', '.join(file)}", "rename the top"
                        )
                    part.append(torch.from_numpy(numbers_of(file[name], of=f"'{name}' of {here}")))
        if not parts[0]:
            self.fail("the source lists HDF5 files", f"{listing} lists none", "write a path a line")
        for part, name in zip(parts, self.param.top, strict=True):
            shapes = [list(one.shape) for one in part]
            if any(not shape or shape[1:] != shapes[0][1:] for shape in shapes):
                self.fail(f"items of '{name}' have one shape in all files", f"data sets of {shapes}", "mend the files")
        items = [torch.cat(part) for part in parts]
        if len({len(one) for one in items}) > 1 or not len(items[0]):
            self.fail("its data sets have as many items", f"{[len(one) for one in items]}", "mend the files")
        return items

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        number = self.param.hdf5_data_param.batch_size
        if number < 1:
            self.fail("batch_size is at least 1", str(number))
        return [(number, *one.shape[1:]) for one in self.items]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        whole, number = len(self.items[0]), self.param.hdf5_data_param.batch_size
        if self.param.hdf5_data_param.shuffle:
            if self.next_item == 0:
                self.order = torch.randperm(whole)
        else:
            self.order = torch.arange(whole)
        places = [(self.next_item + place) % whole for place in range(number)]
        self.next_item = (self.next_item + number) % whole
        return [one[self.order[places]] for one in self.items]


class ParameterLayer(Layer):
    """A learned blob."""

    bottoms = (0, 0)

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        return [Parameter(self.shapes([])[0], Message("FillerParameter"))]

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [tuple(self.param.parameter_param.shape.dim)]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        return [blobs[0].view_as(blobs[0])]
