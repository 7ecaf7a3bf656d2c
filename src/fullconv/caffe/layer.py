"""What a layer of a Caffe net is. Road: caffe, below all layer types.

A layer says which parameter blobs it has, what shapes its tops have, and computes them from its bottoms. Gradients are
torch's, of what `run` computes: where Caffe's differ, `run` is written so that they do not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

from torch import Tensor

from fullconv.base.errors import CaffeError
from fullconv.caffe.message import Message

Shape = tuple[int, ...]
MOST = 2**31 - 1  # numbers in a blob
MOST_AXES = 32
_LONGEST = 1000  # letters of what an error shows


@dataclass(frozen=True)
class Parameter:
    """A parameter blob that a layer has, and what fills it before weights are copied."""

    shape: Shape
    filler: Message


class Layer:
    """One layer. Subclasses give `shapes` and `run`, and `parameters` if they have any.

    Args:
        param: its LayerParameter.
        phase: "TRAIN" or "TEST".
        folder: where files that it names are looked for, after the working directory.
    """

    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)  # fewest and most; None: any number
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    as_many_tops: ClassVar[bool] = False  # as bottoms
    in_place: ClassVar[bool] = False  # whether it may write into its bottom
    is_loss: ClassVar[bool] = False
    blind: ClassVar[tuple[int, ...]] = ()  # bottoms that never get a gradient: labels

    def __init__(self, param: Message, phase: str, folder: Path | None = None) -> None:
        self.param = param
        self.phase = phase
        self.folder = folder

    @property
    def title(self) -> str:
        """What it is called in errors."""
        return f"layer '{self.param.name}' ({self.param.type})"

    @property
    def is_input(self) -> bool:
        """Whether the caller fills its tops."""
        return False

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        """Its parameter blobs, for bottoms of these shapes: asked once, when the net is built."""
        return []

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Its tops' shapes. Raises: CaffeError if the bottoms do not fit."""
        raise NotImplementedError

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        """Its tops."""
        raise NotImplementedError

    # ---- for subclasses ----

    def fail(self, must: str, found: str, try_: str = "mend the layer in the prototxt") -> NoReturn:
        raise CaffeError(must, f"{self.title}: {found[:_LONGEST]}", try_)

    def found(self, name: str) -> Path:
        """A file that the layer names. Raises: CaffeError if it is not there."""
        for path in (Path(name), (self.folder or Path()) / name):
            if os.path.isfile(path):  # False too of a name that is too long
                return path
        self.fail("the files that it names are there", f"'{name}': no such file", "run in the folder where they are")

    def axis(self, index: int, shape: Shape) -> int:
        """An axis counted from the front; negative ones are counted from the end."""
        if not -len(shape) <= index < len(shape):
            self.fail("an axis lies within its bottom's", f"axis {index} of a bottom of shape {list(shape)}")
        return index % len(shape)


class SameShape(Layer):
    """A layer whose top has its bottom's shape, and that may write into it."""

    in_place = True

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]]


def count(shape: Sequence[int]) -> int:
    """How many numbers a blob of a shape has."""
    number = 1
    for size in shape:
        number *= size
    return number
