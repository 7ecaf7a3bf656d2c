"""Forward passes by the engine, where nobody can tell. Road: caffe, between the engine and pycaffe's face.

The engine computes a net's outputs alone, from weights with BatchNorm and Scale in them. Other blobs are computed when
they are asked for. Arrays of weights that were handed out are looked at before each pass; if they changed, the engine
is made anew.
"""

from __future__ import annotations

import weakref
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fullconv.caffe.engine import Engine
from fullconv.caffe.graph import Cell, Graph, ParameterCell

Floats = NDArray[np.float32]


class Quick:
    """Forward passes of a graph in TEST.

    Args:
        graph: one for which no pass backward is run.
        dtype: of the engine's weights and maps.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32) -> None:
        self.graph, self.dtype = graph, dtype
        self.engine: Engine | None = None
        self._handed: dict[int, tuple[Cell, list[weakref.ref[Floats]], int]] = {}
        self._inner: list[weakref.ref[Floats]] = []  # arrays of blobs that the engine does not compute
        self._photos: list[Tensor] = []
        self._outer = {id(graph.cells[name]) for name in (*graph.inputs, *graph.outputs)}

    @staticmethod
    def fits(graph: Graph) -> bool:
        """Whether the engine may stand for a graph's own passes."""
        return not any(node.backward or node.layer.phase == "TRAIN" for node in graph.nodes)

    def forget(self) -> None:
        """Weights were changed."""
        self.engine = None

    def hand_out(self, cell: Cell, array: Floats) -> None:
        """An array was handed out: a parameter's may be written into from now on, another blob's must stay its own."""
        if not isinstance(cell, ParameterCell):
            if id(cell) not in self._outer:
                self._inner.append(weakref.ref(array))
            return
        _, arrays, mark = self._handed.get(id(cell), (cell, [], _mark(cell) if self.engine else 0))
        self._handed[id(cell)] = cell, [*(one for one in arrays if one() is not None), weakref.ref(array)], mark

    def forward(self) -> None:
        """Compute the outputs; the other blobs when they are asked for."""
        graph = self.graph
        self._inner = [array for array in self._inner if array() is not None]
        if self._inner:
            graph.forward()
            return
        self._look()
        if self.engine is None:
            self.engine = Engine(graph, self.dtype)
            self._handed = {key: (cell, arrays, _mark(cell)) for key, (cell, arrays, _) in self._handed.items()}
        self._photos = [graph.cells[name].data.clone() for name in graph.inputs]
        outputs = self.engine.run(self._photos)
        for name, cell in graph.cells.items():
            if name in outputs:
                cell.data = outputs[name]
            elif name not in graph.inputs:
                cell.later = self._catch_up

    def _look(self) -> None:
        """Forget the engine if a parameter's array was written into; what nobody holds is not looked at again."""
        for key, (cell, arrays, mark) in list(self._handed.items()):
            if self.engine is not None and _mark(cell) != mark:
                self.engine = None
            if all(array() is None for array in arrays):
                del self._handed[key]

    def _catch_up(self) -> None:
        """Compute all blobs, from the inputs of the last pass."""
        graph = self.graph
        for cell in graph.cells.values():
            cell.later = None
        now: list[Any] = [graph.cells[name].data.clone() for name in graph.inputs]
        for name, photos in zip(graph.inputs, self._photos, strict=True):
            graph.cells[name].data = photos
        graph.forward()
        for name, photos in zip(graph.inputs, now, strict=True):
            if name not in graph.outputs:
                graph.cells[name].data = photos


def _mark(cell: Cell) -> int:
    """A number that changes with the numbers of a blob."""
    return zlib.crc32(cell.data.numpy().data) if cell.data.numel() else 0
