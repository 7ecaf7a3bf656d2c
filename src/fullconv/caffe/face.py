"""The names and shapes of pycaffe, so that its scripts run. Road: caffe, outermost.

net = caffe.Net("deploy.prototxt", "weights.caffemodel", caffe.TEST)
net.blobs["data"].reshape(1, *photo.shape)
net.blobs["data"].data[...] = photo
net.forward()
labels = net.blobs["score"].data[0].argmax(axis=0)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fullconv.base.errors import CaffeError, UsageError
from fullconv.caffe.graph import Cell, Graph
from fullconv.caffe.kinds import LAYERS
from fullconv.caffe.message import Message
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.quick import Quick
from fullconv.caffe.rules import State
from fullconv.caffe.solver import Solver
from fullconv.caffe.weights import copy_weights, write_weights

TRAIN, TEST = 0, 1
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_PHASES = ("TRAIN", "TEST")
Floats = NDArray[np.float32]
PathLike = str | Path


class Blob:
    """A blob's numbers and gradients as NumPy arrays that can be written in place."""

    def __init__(self, cell: Cell, handed: Callable[[Cell, Floats], None] | None = None) -> None:
        self._cell = cell
        self._handed = handed

    @property
    def data(self) -> Floats:
        """float32, of the blob's shape; what is written into it is in the net."""
        if not self._cell.data.is_contiguous():
            self._cell.data = self._cell.data.contiguous()
        self._cell.watched = True
        found: Floats = self._cell.data.numpy()
        if self._handed is not None:
            self._handed(self._cell, found)
        return found

    @property
    def diff(self) -> Floats:
        """float32 gradient, of the blob's shape."""
        found: Floats = self._cell.diff.numpy()
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return self._cell.shape

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))

    def reshape(self, *shape: int) -> None:
        """Give it a shape; the net's other blobs follow with `net.reshape()` or the next pass."""
        self._cell.reshape(tuple(int(size) for size in shape))

    def _legacy(self, axis: int) -> int:
        """The size of one of num, channels, height, width."""
        if len(self.shape) > 4:
            raise CaffeError(
                "num, channels, height and width are of at most 4 axes", f"shape {list(self.shape)}", ".shape"
            )
        return (*self.shape, 1, 1, 1, 1)[axis]

    @property
    def num(self) -> int:
        return self._legacy(0)

    @property
    def channels(self) -> int:
        return self._legacy(1)

    @property
    def height(self) -> int:
        return self._legacy(2)

    @property
    def width(self) -> int:
        return self._legacy(3)


class Net:
    """A Caffe net, as pycaffe has it: `Net(prototxt, phase, weights=...)` or `Net(prototxt, weights, phase)`.

    Args:
        model: the prototxt.
        weights: .caffemodel or HDF5.
        phase: `TRAIN` or `TEST`.
        level, stages: what the prototxt's include and exclude rules ask for.
        precision: "fp32", or "bf16": convolutions with many outputs then compute in bfloat16, which is faster on
            processors that have instructions for it, and rounds to 8 bits. Not of pycaffe.
    Raises: CaffeError, WeightsError; UsageError for another precision, or bf16 for a net that trains.
    """

    def __init__(
        self,
        model: PathLike,
        *args: PathLike | int | None,
        phase: int | None = None,
        weights: PathLike | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        precision: str = "fp32",
    ) -> None:
        for one in args:
            if isinstance(one, str | Path):
                weights = one
            elif one is not None:
                phase = one
        if phase not in (TRAIN, TEST):
            raise UsageError("a net has a phase", f"{phase}", "caffe.Net(prototxt, weights, caffe.TEST)")
        if precision not in _PRECISIONS:
            raise UsageError("the precision is fp32 or bf16", f"{precision!r}", 'precision="bf16"')
        path = Path(model)
        state = State(_PHASES[phase], level, frozenset(stages or ()))
        self._take(Graph(read_prototxt(path), state, of=str(path), folder=path.parent), precision)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, graph: Graph) -> Net:
        """The face of a graph."""
        net = cls.__new__(cls)
        net._take(graph)
        return net

    def _take(self, graph: Graph, precision: str = "fp32") -> None:
        self.graph, self._precision = graph, precision
        self._quick = Quick(graph, _PRECISIONS[precision]) if Quick.fits(graph) else None
        if self._quick is None and precision != "fp32":
            raise UsageError(
                "bf16 is for nets that do not train",
                f"{graph.of} has gradients",
                "give its deploy.prototxt, caffe.TEST",
            )
        handed = self._quick.hand_out if self._quick else None
        self.blobs = OrderedDict((name, Blob(cell, handed)) for name, cell in graph.cells.items())
        self.params = OrderedDict(
            (name, [Blob(cell, handed) for cell in cells]) for name, cells in graph.parameters.items()
        )
        self._layer_names = [node.name for node in graph.nodes]

    # ---- what it has ----

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def inputs(self) -> list[str]:
        return self.graph.inputs

    @property
    def outputs(self) -> list[str]:
        return self.graph.outputs

    @property
    def layers(self) -> list[Message]:
        """LayerParameters in the order of running; `.type` and `.name` are pycaffe's."""
        return [node.layer.param for node in self.graph.nodes]

    @property
    def layer_dict(self) -> Mapping[str, Message]:
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @property
    def top_names(self) -> Mapping[str, list[str]]:
        return OrderedDict((node.name, list(node.layer.param.top)) for node in self.graph.nodes)

    @property
    def bottom_names(self) -> Mapping[str, list[str]]:
        return OrderedDict((node.name, list(node.layer.param.bottom)) for node in self.graph.nodes)

    @property
    def blob_loss_weights(self) -> Mapping[str, float]:
        weights = {c.name: w for node in self.graph.nodes for c, w in zip(node.tops, node.weights, strict=True)}
        return OrderedDict((name, weights.get(name, 0.0)) for name in self.blobs)

    # ---- what it does ----

    def reshape(self) -> None:
        """Give all blobs the shapes that follow from the inputs'."""
        self.graph.reshape()

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: Any,
    ) -> dict[str, Floats]:
        """Compute, from layer `start` to layer `end`.

        Args:
            blobs: further blobs to return.
            inputs: what to put into the input blobs before, by name: all of them or none.
        Returns: the outputs' arrays by name, or those of `end`.
        """
        if inputs:
            if set(inputs) != set(self.inputs):
                raise UsageError(
                    "all inputs are given, or none", f"{sorted(inputs)} of {self.inputs}", "give the others"
                )
            for name, values in inputs.items():
                self._fill(name, values)
        if self._quick is not None and start is None and end is None:
            self._quick.forward()
        else:
            self.graph.forward(*self._between(start, end))
        wanted = list(self.top_names[end]) if end is not None else list(self.outputs)
        return {name: self.blobs[name].data for name in [*wanted, *(blobs or ())]}

    def backward(
        self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **tops: Any
    ) -> dict[str, Floats]:
        """Gradients, from layer `start` back to layer `end`.

        Args:
            diffs: further blobs whose gradients to return.
            tops: gradients to put on outputs before, by name.
        Returns: the inputs' gradients by name, or those of `end`'s bottoms.
        """
        for name, values in tops.items():
            if name not in self.outputs:
                raise UsageError(
                    "gradients are put on outputs", f"'{name}'; outputs: {self.outputs}", "net.blobs[...].diff"
                )
            self.blobs[name].diff[...] = values
        last, first = self._between(end, start)
        self.graph.backward(first, last)
        wanted = list(self.bottom_names[end]) if end is not None else list(self.inputs)
        return {name: self.blobs[name].diff for name in [*wanted, *(diffs or ())]}

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: Any) -> dict[str, Floats]:
        """Compute any number of items, batch by batch, and join what comes out."""
        number = len(next(iter(inputs.values())))
        batch = self.blobs[self.inputs[0]].shape[0]
        found: dict[str, list[Floats]] = {}
        for start in range(0, number, batch):
            part = {name: np.asarray(values[start : start + batch], np.float32) for name, values in inputs.items()}
            some = len(next(iter(part.values())))
            if some < batch:  # the last batch is filled up
                part = {
                    name: np.concatenate([one, np.zeros((batch - some, *one.shape[1:]))]) for name, one in part.items()
                }
            for name, values in self.forward(blobs, None, None, **part).items():
                found.setdefault(name, []).append(values[:some].copy())
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _fill(self, name: str, values: Any) -> None:
        given, blob = np.asarray(values, np.float32), self.blobs[name]
        if given.shape != blob.shape:
            raise CaffeError(
                f"input '{name}' has the shape {list(blob.shape)}",
                f"{list(given.shape)}",
                f"net.blobs['{name}'].reshape{given.shape}",
            )
        blob.data[...] = given

    def _between(self, start: str | None, end: str | None) -> tuple[int, int | None]:
        for name in (start, end):
            if name is not None and name not in self._layer_names:
                raise UsageError("start and end are layers of the net", f"'{name}'", "list(net.layer_dict)")
        first = 0 if start is None else self._layer_names.index(start)
        return first, None if end is None else self._layer_names.index(end)

    def clear_param_diffs(self) -> None:
        self.graph.clear_parameter_diffs()

    def copy_from(self, weights: PathLike) -> None:
        """Copy a file's weights into the layers of the same names."""
        copy_weights(self.graph, Path(weights))
        if self._quick is not None:
            self._quick.forget()

    load_hdf5 = copy_from

    def share_with(self, other: Net) -> None:
        """Use the other's parameters in the layers of the same names."""
        self.graph.share(other.graph)
        self._take(self.graph, self._precision)

    def save(self, path: PathLike) -> None:
        """Write a .caffemodel, or HDF5 where the name ends in .h5."""
        write_weights(self.graph, Path(path))

    save_hdf5 = save


class SGDSolver:
    """A solver, of the type that its file says."""

    def __init__(self, path: PathLike) -> None:
        self.solver = Solver(path)
        self.net = Net.of(self.solver.net)
        self.test_nets = [Net.of(graph) for graph in self.solver.test_nets]

    @property
    def iter(self) -> int:
        return self.solver.iter

    @property
    def lr(self) -> float:
        return self.solver.rate()

    def step(self, iterations: int) -> None:
        """Train so many iterations."""
        self.solver.step(iterations)

    def solve(self, resume: PathLike | None = None) -> None:
        """Train up to max_iter."""
        self.solver.solve(resume)

    def snapshot(self) -> None:
        """Write weights and state."""
        self.solver.snapshot()

    def restore(self, state: PathLike) -> None:
        """Go on from a .solverstate."""
        self.solver.restore(state)


NesterovSolver = AdaGradSolver = RMSPropSolver = AdaDeltaSolver = AdamSolver = get_solver = SGDSolver


def set_mode_cpu() -> None:
    """Nothing: nets run on the processor."""


def set_mode_gpu() -> None:
    """Nothing: nets run on the processor here too, with the same results."""


def set_device(number: int) -> None:
    """Nothing, as `set_mode_gpu`."""


def set_random_seed(seed: int) -> None:
    """Seed the fillers and Dropout."""
    torch.manual_seed(seed)


def layer_type_list() -> list[str]:
    """Types of layers that can be built."""
    return sorted(LAYERS)
