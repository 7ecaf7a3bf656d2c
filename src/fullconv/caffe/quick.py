"""Forward passes by the engine, in the layers' place. Road: caffe, between the engine and pycaffe's face.

The engine computes a net's outputs alone, from weights with BatchNorm and Scale in them. Other blobs are computed when
they are asked for, from the photos of the last pass and the weights as they are then. Where parameters have changed
since the engine was made, another one is made.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fullconv.caffe.engine import Engine
from fullconv.caffe.graph import Cell, Graph

Floats = NDArray[np.float32]

_WITH_MEMORY = ("LSTM", "RNN")  # a pass goes on where the last one ended


class Quick:
    """Forward passes of a graph in TEST.

    Args:
        graph: one for which no pass backward is run.
        dtype: of the engine's weights and maps.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32) -> None:
        self.graph, self.dtype = graph, dtype
        self.engine: Engine | None = None
        self._states: list[Any] = []  # of the parameters that the engine was made of
        self._inner: list[weakref.ref[Floats]] = []  # arrays of blobs that the engine does not compute
        self._photos: dict[str, Tensor] = {}
        self._outer = {id(graph.cells[name]) for name in (*graph.inputs, *graph.outputs)}

    @staticmethod
    def fits(graph: Graph) -> bool:
        """Whether the engine may stand for a graph's own passes: nothing is trained, read from files or remembered, and
        no input is changed in place."""
        inputs = {id(graph.cells[name]) for name in graph.inputs}
        return not any(
            node.backward
            or node.layer.phase == "TRAIN"
            or node.layer.param.type in _WITH_MEMORY
            or not (node.layer.is_input or (node.bottoms and inputs.isdisjoint(map(id, node.tops))))
            for node in graph.nodes
        )

    def hand_out(self, cell: Cell, array: Floats) -> None:
        """An array of a blob was handed out, which must stay the blob's own."""
        if id(cell) not in self._outer:
            self._inner.append(weakref.ref(array))

    def forward(self, blobs: Sequence[str] = ()) -> None:
        """Compute the outputs; the other blobs when they are asked for, or at once where `blobs` names some."""
        graph = self.graph
        self._inner = [array for array in self._inner if array() is not None]
        graph.reshape()
        if self._inner or any(id(graph.cells[name]) not in self._outer for name in blobs):
            graph.forward()
            return
        states = [cell.state() for cell in graph.learnable]
        if self.engine is None or not all(map(_alike, states, self._states)):
            self.engine, self._states = None, states
            self.engine = Engine(graph, self.dtype)
        self._photos = {name: graph.cells[name].data.clone() for name in graph.inputs}
        outputs = self.engine.run([self._photos[name] for name in self.engine.inputs])
        for name, cell in graph.cells.items():
            if name in outputs:
                cell.data = outputs[name]
            elif name not in graph.inputs:
                cell.later = self._catch_up

    def _catch_up(self) -> None:
        """Compute the blobs that the engine left out."""
        graph = self.graph
        for name, values in graph.numbers(self._photos).items():
            cell = graph.cells[name]
            if cell.later is not None:
                cell.data = values


def _alike(one: tuple[Tensor, int, int], other: tuple[Tensor, int, int]) -> bool:
    return one[0] is other[0] and one[1:] == other[1:]
