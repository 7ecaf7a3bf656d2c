"""The names and shapes of pycaffe, so that its scripts run. Road: caffe, outermost.

net = caffe.Net("deploy.prototxt", "weights.caffemodel", caffe.TEST)
net.blobs["data"].reshape(1, *photo.shape)
net.blobs["data"].data[...] = photo
net.forward()
labels = net.blobs["score"].data[0].argmax(axis=0)
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fullconv.base.errors import CaffeError, UsageError
from fullconv.caffe.graph import Cell, Graph, ParameterCell
from fullconv.caffe.kinds import LAYERS
from fullconv.caffe.layer import MOST, MOST_AXES
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
_log = logging.getLogger("fullconv.caffe")


class Blob:
    """A blob's numbers and gradients as NumPy arrays that can be written in place."""

    def __init__(self, cell: Cell, handed: Callable[[Cell, Floats], None] | None = None) -> None:
        self._cell = cell
        self._handed = handed
        self._shown: Tensor | None = None  # the gradient that was handed out

    @property
    def data(self) -> Floats:
        """float32, of the blob's shape; what is written into it is in the net."""
        if not self._cell.data.is_contiguous():
            self._cell.data = self._cell.data.contiguous()
        self._cell.watched = True
        found: Floats = self._cell.data.numpy()
        if isinstance(self._cell, ParameterCell):
            self._cell.hand_out(found)
        elif self._handed is not None:
            self._handed(self._cell, found)
        return found

    @property
    def diff(self) -> Floats:
        """float32 gradient, of the blob's shape; later passes write into it."""
        now = self._cell.diff
        if now is not self._shown and not isinstance(self._cell, ParameterCell):
            now = now.clone()  # two blobs may have one gradient
            self._cell.diff = now
        self._shown = now
        found: Floats = now.numpy()
        return found

    def _show(self) -> None:
        """Bring a new gradient to where the one that was handed out lies."""
        shown, now = self._shown, self._cell.diff
        if shown is not None and shown is not now and shown.shape == now.shape:
            shown.copy_(now)
            self._cell.diff = shown

    @property
    def shape(self) -> tuple[int, ...]:
        return self._cell.shape

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))

    def reshape(self, *shape: int) -> None:
        """Give it a shape; the net's other blobs follow with `net.reshape()` or the next pass.

        A parameter keeps its numbers, so it has as many afterwards.
        Raises: CaffeError for sizes below 1, too many numbers or axes, or another number of a parameter's.
        """
        sizes = tuple(int(size) for size in shape)
        number = math.prod(sizes)
        if any(size < 1 for size in sizes) or len(sizes) > MOST_AXES or number > MOST:
            raise CaffeError(
                f"a blob has at most {MOST_AXES} axes, sizes of at least 1, and 2^31 - 1 numbers",
                f"reshape{sizes}",
                "give each axis its size",
            )
        if not isinstance(self._cell, ParameterCell):
            self._cell.reshape(sizes)
            return
        if number != self.count:
            raise CaffeError(
                f"{self._cell.name} has {self.count} numbers, as its layer made it",
                f"reshape{sizes}: {number}",
                "change the layer in the prototxt",
            )
        diff = self._cell.diff
        self._cell.data = self._cell.data.reshape(sizes)
        self._cell.diff = diff.reshape(sizes)

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


@dataclass(frozen=True)
class NetLayer:
    """A layer of a net.

    Args:
        blobs: its parameters; `net.params` has the same.
        param: its LayerParameter. Not of pycaffe.
    """

    name: str
    type: str
    blobs: list[Blob]
    param: Message


class Net:
    """A Caffe net, as pycaffe has it: `Net(model, phase, level, stages, weights)` or `Net(model, weights, phase)`.

    Args:
        model: the prototxt.
        weights: .caffemodel or HDF5.
        phase: `TRAIN` or `TEST`.
        level, stages: what the prototxt's include and exclude rules ask for.
        precision: "fp32", or "bf16": convolutions with many outputs then compute in bfloat16, which is faster on
            processors that have instructions for it, and rounds to 8 bits. Not of pycaffe.
    Raises: CaffeError, WeightsError; UsageError for arguments that are none of these, another precision, or bf16 for
        a net that trains.
    """

    def __init__(
        self,
        model: PathLike,
        *args: PathLike | int | Sequence[str] | None,
        phase: int | None = None,
        weights: PathLike | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        precision: str = "fp32",
    ) -> None:
        if precision not in _PRECISIONS:
            raise UsageError("the precision is fp32 or bf16", f"{precision!r}", 'precision="bf16"')
        named = {"phase": phase, "level": level or None, "stages": stages, "weights": weights}
        state, weights = _asked(args, {name: value for name, value in named.items() if value is not None})
        path = Path(model)
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
        self.graph = graph
        self._quick = Quick(graph, _PRECISIONS[precision]) if Quick.fits(graph) else None
        if self._quick is None and precision != "fp32":
            raise UsageError(
                "bf16 is for nets that do not train",
                f"{graph.of} has gradients",
                "give its deploy.prototxt, caffe.TEST",
            )
        handed = self._quick.hand_out if self._quick else None
        self.blobs = OrderedDict((name, Blob(cell, handed)) for name, cell in graph.cells.items())
        self._find_layers()

    def _find_layers(self) -> None:
        self.layers = [
            NetLayer(node.name, str(node.layer.param.type), [Blob(cell) for cell in node.blobs], node.layer.param)
            for node in self.graph.nodes
        ]
        self.params = OrderedDict((layer.name, layer.blobs) for layer in self.layers if layer.blobs)
        self._layer_names = [layer.name for layer in self.layers]  # scripts use these two
        self._blob_names = list(self.blobs)

    def _show_gradients(self) -> None:
        """Bring new gradients into the arrays that were handed out."""
        for blob in self.blobs.values():
            blob._show()

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
    def layer_dict(self) -> Mapping[str, NetLayer]:
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
        self._check_blobs(blobs)
        if inputs:
            if set(inputs) != set(self.inputs):
                raise UsageError(
                    "all inputs are given, or none", f"{sorted(inputs)} of {self.inputs}", "give the others"
                )
            for name, values in inputs.items():
                self._fill(name, values)
        if self._quick is not None and start is None and end is None:
            self._quick.forward(list(blobs or ()))
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
        self._check_blobs(diffs)
        for name, values in tops.items():
            if name not in self.outputs:
                raise UsageError(
                    "gradients are put on outputs", f"'{name}'; outputs: {self.outputs}", "net.blobs[...].diff"
                )
            self.blobs[name].diff[...] = values
        last, first = self._between(end, start)
        self.graph.backward(first, last)
        self._show_gradients()
        wanted = list(self.bottom_names[end]) if end is not None else list(self.inputs)
        return {name: self.blobs[name].diff for name in [*wanted, *(diffs or ())]}

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: Any) -> dict[str, Floats]:
        """Compute any number of items, batch by batch, and join what comes out.

        Args:
            blobs: further blobs to return.
            inputs: all inputs' items by name.
        """
        found: dict[str, list[Floats]] = {}
        for some, part in self._batches(inputs):
            for name, values in self.forward(blobs, None, None, **part).items():
                found.setdefault(name, []).append(_items(name, values, some))
        return _joined(found)

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **values: Any
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Compute any number of items and their gradients, batch by batch.

        Args:
            blobs, diffs: further blobs to return, and whose gradients to return.
            values: inputs' items and outputs' gradients by name; of either, what is in the net where none are given.
        Returns: what `forward` gives and what `backward` gives, joined.
        """
        inputs = {name: one for name, one in values.items() if name not in self.outputs}
        tops = {name: one for name, one in values.items() if name in self.outputs}
        found: dict[str, list[Floats]] = {}
        gradients: dict[str, list[Floats]] = {}
        none: Iterator[tuple[int, dict[str, Floats]]] = iter(())
        batches = self._batches(inputs) if inputs or not tops else none
        for one, other in itertools.zip_longest(batches, self._batches(tops) if tops else none):
            some = (one or other)[0]
            for name, array in self.forward(blobs, None, None, **(one[1] if one else {})).items():
                found.setdefault(name, []).append(_items(name, array, some))
            for name, array in self.backward(diffs, None, None, **(other[1] if other else {})).items():
                gradients.setdefault(name, []).append(_items(name, array, some))
        return _joined(found), _joined(gradients)

    def _batches(self, values: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Floats]]]:
        """Items by the net's number of them at a time, the last ones filled up; how many they are."""
        numbers = {len(one) for one in values.values()}
        if len(numbers) != 1 or 0 in numbers:
            raise UsageError(
                "all inputs are given, with as many items each",
                ", ".join(f"{name}: {len(one)} items" for name, one in values.items()) or "none",
                f"net.forward_all({', '.join(f'{name}=...' for name in self.inputs)})",
            )
        batch = next(iter(self.blobs.values())).shape[0]
        for start in range(0, numbers.pop(), batch):
            part = {name: np.asarray(one[start : start + batch], np.float32) for name, one in values.items()}
            some = len(next(iter(part.values())))
            missing = batch - some
            yield some, {name: np.pad(one, [(0, missing), *[(0, 0)] * (one.ndim - 1)]) for name, one in part.items()}

    def _check_blobs(self, names: Sequence[str] | None) -> None:
        unknown = [name for name in names or () if name not in self.blobs]
        if isinstance(names, str) or unknown:
            raise UsageError("blobs to return are a list of blobs of the net", f"{names!r}", "list(net.blobs)")

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

    load_hdf5 = copy_from

    def share_with(self, other: Net) -> None:
        """Use the other's parameters in the layers of the same names."""
        self.graph.share(other.graph)
        self._find_layers()

    def save(self, path: PathLike) -> None:
        """Write a .caffemodel, or HDF5 where the name ends in .h5."""
        write_weights(self.graph, Path(path))

    save_hdf5 = save


def _asked(args: Sequence[Any], named: dict[str, Any]) -> tuple[State, PathLike | None]:
    """The state and the weights that a net is asked for, by place or by name."""
    form = "caffe.Net(model, weights, caffe.TEST) or caffe.Net(model, caffe.TEST, level, stages, weights)"
    places = list(args)
    given: dict[str, Any] = {}
    order = ["phase", "level", "stages", "weights"]
    for at in (0, 1):
        if len(places) > at and isinstance(places[at], str | Path) and order[-1] == "weights":
            given[order.pop()] = places.pop(at)
    if len(places) > len(order):
        raise UsageError("a net takes a model, at most one file of weights, phase, level and stages", f"{args}", form)
    given |= {name: one for name, one in zip(order, places, strict=False) if one is not None}
    if twice := sorted(set(given) & set(named)):
        raise UsageError("each argument is given once", f"{', '.join(twice)} by place and by name", form)
    given |= named
    phase, level, stages, weights = (given.get(name) for name in ("phase", "level", "stages", "weights"))
    if str(phase) in _PHASES or str(weights) in _PHASES:
        raise UsageError("the phase is caffe.TRAIN or caffe.TEST", "text of that name", form)
    if isinstance(phase, str | Path):
        raise UsageError("a net takes at most one file of weights", f"'{weights}' and '{phase}'", form)
    if phase not in (TRAIN, TEST):
        raise UsageError("a net has a phase", f"{phase}", form)
    if not isinstance(level or 0, int | np.integer):
        raise UsageError("the level is a whole number", f"{level!r}", form)
    if isinstance(stages, str) or any(not isinstance(one, str) for one in stages or ()):
        raise UsageError("stages are a list of names", f"{stages!r}", 'stages=["deploy"]')
    return State(_PHASES[phase], level or 0, frozenset(stages or ())), weights


def _items(name: str, values: Floats, some: int) -> Floats:
    """A copy of the first items of a blob."""
    if not values.ndim:
        raise UsageError("what is joined has items", f"'{name}' is one number a batch", "call forward() by batches")
    return values[:some].copy()


def _joined(parts: Mapping[str, Sequence[Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate(some) for name, some in parts.items()}


# ---- solvers --------------------------------------------------------------------------------------------------------


class _Ruled(Solver):
    """A solver whose rule of updates may be another than its file's, and whose iterations are listened to.

    Args:
        rule: as `type` in a solver file; None takes the file's.
    """

    def __init__(self, path: PathLike, rule: str | None) -> None:
        self.rule = rule
        self.callbacks: list[tuple[Callable[[], object], Callable[[], object]]] = []
        super().__init__(path)

    def _check(self) -> None:
        if self.rule is not None:
            self.param.type = self.rule
        super()._check()

    def step(self, iterations: int) -> float:
        if not self.callbacks:
            return super().step(iterations)
        loss = 0.0
        for _ in range(iterations):
            for on_start, _ready in self.callbacks:
                on_start()
            loss = super().step(1)
        return loss

    def _update(self, rate: float) -> None:
        for _start, on_gradients_ready in self.callbacks:
            on_gradients_ready()
        for place, cell in enumerate(self.net.learnable):  # a script may have given it another shape
            for history in self.histories:
                history[place] = history[place].reshape(cell.shape)
        super()._update(rate)

    def apply_update(self) -> None:
        self._update(self.rate())
        self.iter += 1


class SGDSolver:
    """A solver that updates as the file's `type` says: by momentum where it says nothing.

    Args:
        path: of the solver's prototxt.
    """

    rule: ClassVar[str | None] = None  # the file's; Caffe's own takes momentum whatever the file says

    def __init__(self, path: PathLike) -> None:
        self._take(_Ruled(path, self.rule))

    def _take(self, solver: _Ruled) -> None:
        self.solver = solver
        self.net = Net.of(solver.net)
        self.test_nets = [Net.of(graph) for graph in solver.test_nets]

    @property
    def iter(self) -> int:
        return self.solver.iter

    @property
    def lr(self) -> float:
        return self.solver.rate()

    @property
    def param(self) -> Message:
        """The SolverParameter; what is written into it counts from the next iteration on."""
        return self.solver.param

    def step(self, iterations: int) -> None:
        """Train so many iterations."""
        self.solver.step(iterations)
        self.net._show_gradients()

    def solve(self, resume: PathLike | None = None) -> None:
        """Train up to max_iter."""
        self.solver.solve(resume)
        self.net._show_gradients()

    def apply_update(self) -> None:
        """Update the weights from the gradients that the net has now: one iteration more is done."""
        self.solver.apply_update()

    def add_callback(self, on_start: Callable[[], object], on_gradients_ready: Callable[[], object]) -> None:
        """Call the first before each iteration, the second before its update. Displayed losses are then no averages."""

        def ready() -> None:
            self.net._show_gradients()
            on_gradients_ready()

        self.solver.callbacks.append((on_start, ready))

    def snapshot(self) -> None:
        """Write weights and state."""
        self.solver.snapshot()

    def restore(self, state: PathLike) -> None:
        """Go on from a .solverstate."""
        self.solver.restore(state)


class NesterovSolver(SGDSolver):
    """A solver that updates by Nesterov's momentum, whatever the file's `type`."""

    rule = "Nesterov"


class AdaGradSolver(SGDSolver):
    """A solver that updates by AdaGrad, whatever the file's `type`."""

    rule = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """A solver that updates by RMSProp, whatever the file's `type`."""

    rule = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """A solver that updates by AdaDelta, whatever the file's `type`."""

    rule = "AdaDelta"


class AdamSolver(SGDSolver):
    """A solver that updates by Adam, whatever the file's `type`."""

    rule = "Adam"


_RULED = {kind.rule: kind for kind in (NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)}


def get_solver(path: PathLike) -> SGDSolver:
    """The solver of the file's `type`."""
    solver = _Ruled(path, None)
    kind = _RULED.get(str(solver.param.type), SGDSolver)
    found = kind.__new__(kind)
    found._take(solver)
    return found


# ---- settings -------------------------------------------------------------------------------------------------------


def set_mode_cpu() -> None:
    """Nothing: nets run on the processor."""


def set_mode_gpu() -> None:
    """Nothing: nets run on the processor here too, with the same results."""


def set_device(number: int) -> None:
    """Nothing, as `set_mode_gpu`."""


def set_random_seed(seed: int) -> None:
    """Seed the fillers and Dropout."""
    torch.manual_seed(seed)


def init_log(level: int = 0, to_stderr: bool = False) -> None:
    """Nothing: what is told goes to Python's logging, as "fullconv.caffe"."""


def set_logging_disabled() -> None:
    """Nothing, as `init_log`."""


def log(text: str) -> None:
    """Tell a text as the solvers tell theirs."""
    _log.info("%s", text)


def layer_type_list() -> list[str]:
    """Types of layers that can be built."""
    return sorted(LAYERS)
