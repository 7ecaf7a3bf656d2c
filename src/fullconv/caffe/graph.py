"""A Caffe net that runs: layers in file order, blobs by name. Road: caffe, between the layers and the doors to them.

In: a NetParameter. Out: a Graph, which computes forward, and backward where a loss or `force_backward` asks for it.
"""

from __future__ import annotations

import difflib
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fullconv.base.errors import CaffeError
from fullconv.caffe.fillers import filled
from fullconv.caffe.kinds import LAYERS
from fullconv.caffe.layer import MOST, MOST_AXES, Layer, Shape, count
from fullconv.caffe.message import Message
from fullconv.caffe.rules import State, kept, with_splits
from fullconv.caffe.upgrade import upgraded

_DATA = ("Data", "ImageData", "MemoryData", "WindowData")
_AUTOMATIC = "(automatic)"  # the top of a loss that names none


class Cell:
    """A blob: numbers, and their gradient. Made when first asked for.

    Args:
        watched: whether someone looks at its memory, so that new numbers of its shape are written there.
        later: computes its numbers, where they are only computed when asked for.
        weight: in the loss, which its gradient begins with.
    """

    def __init__(self, name: str, shape: Shape = ()) -> None:
        self.name = name
        self.watched = False
        self.later: Callable[[], None] | None = None
        self.weight = 0.0
        self._shape = shape
        self._data: Tensor | None = None
        self._diff: Tensor | None = None

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def data(self) -> Tensor:
        if self.later is not None:
            self.later()
        if self._data is None:
            self._data = self.first()
        return self._data

    @data.setter
    def data(self, value: Tensor) -> None:
        self.later = None
        if self.watched and self._data is not None and value.shape == self._shape:
            self._data.copy_(value)
        else:
            self._shape, self._data = tuple(value.shape), value

    @property
    def diff(self) -> Tensor:
        if self._diff is None or self._diff.shape != self._shape:
            self._diff = torch.full(self._shape, self.weight) if self.weight else torch.zeros(self._shape)
        return self._diff

    @diff.setter
    def diff(self, value: Tensor) -> None:
        self._diff = value

    def first(self) -> Tensor:
        """What it holds before anything was put in."""
        return torch.zeros(self._shape)

    def reshape(self, shape: Shape) -> None:
        """Give it a shape; numbers stay where the shape is the same."""
        if shape != self._shape:
            self._shape, self._data, self.later = shape, None, None


class ParameterCell(Cell):
    """A parameter blob, filled by its filler if no weights were copied into it.

    Args:
        lr_mult, decay_mult: None until a layer that shares it says so; then 1 if none does.
    """

    def __init__(self, name: str, shape: Shape, filler: Message) -> None:
        super().__init__(name, shape)
        self.filler = filler
        self._handed: list[weakref.ref[NDArray[np.float32]]] = []
        self._sum: int | None = None  # of its numbers, when they were looked at last
        self._changes = 0
        self.lr_mult: float | None = None
        self.decay_mult: float | None = None

    def first(self) -> Tensor:
        return filled(self.shape, self.filler, of=self.name)

    def hand_out(self, array: NDArray[np.float32]) -> None:
        """An array of its memory was given away: from now on it may be written into."""
        if not self._handed and self._changes:  # somebody has asked for `state`
            self._sum = zlib.crc32(self.data.numpy().data)
        self._handed = [*(one for one in self._handed if one() is not None), weakref.ref(array)]

    def state(self) -> tuple[Tensor, int, int]:
        """What changes when its numbers do, however they are written."""
        if self._handed:
            now = zlib.crc32(self.data.numpy().data)
            self._changes += now != self._sum
            self._sum = now
            self._handed = [one for one in self._handed if one() is not None]
        self._changes = max(self._changes, 1)
        return self.data, self.data._version, self._changes

    def put(self, values: Tensor) -> None:
        """Take numbers of its shape; what looks at its memory sees them."""
        if self._data is None:
            self._data = values
        else:
            self._data.copy_(values)


@dataclass
class Node:
    """A layer in its net.

    Args:
        shapes: of its parameter blobs, which a sharer may see otherwise than the owner.
        weights: of each top in the loss.
        backward: whether its backward pass is run; `to_bottoms`, `to_blobs`: for which.
    """

    layer: Layer
    bottoms: list[Cell]
    tops: list[Cell]
    blobs: list[ParameterCell]
    shapes: list[Shape]
    weights: list[float]
    backward: bool
    to_bottoms: list[bool]
    to_blobs: list[bool]
    saved: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return str(self.layer.param.name)


class Graph:
    """A net as its layers compute it.

    Args:
        net: a NetParameter of any age.
        state: phase, level and stages that the caller asks for; those of the file are added.
        of: what the net is called in errors.
        folder: where files that its layers name are looked for, after the working directory.
    Raises: CaffeError if the net cannot be built.
    """

    def __init__(
        self, net: Message, state: State | None = None, *, of: str = "net", folder: Path | None = None
    ) -> None:
        self.of, self.folder = of, folder
        net = upgraded(net, of=of)
        asked = state or State(net.state.phase, net.state.level)
        self.state = State(asked.phase, asked.level, asked.stages | set(net.state.stage))
        self.layers = with_splits(kept(net.layer, self.state, of=of), of=of)
        self.name = str(net.name)
        self.cells: dict[str, Cell] = {}
        self.nodes: list[Node] = []
        self.learnable: list[ParameterCell] = []
        self._owners: dict[str, ParameterCell] = {}
        self._numbers = 0  # in all parameters up to here
        needing: dict[int, bool] = {}  # blob -> whether a gradient to it is of use
        unused: dict[str, None] = {}
        for param in self.layers:
            self._append(param, needing, unused)
        self.inputs = [name for node in self.nodes if node.layer.is_input for name in node.layer.param.top]
        self.outputs = sorted(unused)
        self._prune()
        if net.force_backward:
            for node in self.nodes:
                node.backward = True
                node.to_bottoms = [place not in node.layer.blind for place in range(len(node.bottoms))]
                node.to_blobs = [True] * len(node.blobs)
        for cell in self.learnable:
            cell.lr_mult = 1.0 if cell.lr_mult is None else cell.lr_mult
            cell.decay_mult = 1.0 if cell.decay_mult is None else cell.decay_mult

    # ---- building ----

    def _append(self, param: Message, needing: dict[int, bool], unused: dict[str, None]) -> None:
        layer = self._layer(param)
        bottoms = []
        for name in param.bottom:
            bottoms.append(self.cells[name])
            unused.pop(name, None)
        to_bottoms = [needing.get(id(cell), False) for cell in bottoms]
        if param.propagate_down:
            if len(param.propagate_down) != len(bottoms):
                layer.fail("propagate_down is given once a bottom, or not", f"{len(param.propagate_down)} times")
            to_bottoms = list(param.propagate_down)
        needs = any(needing.get(id(cell), False) for cell in bottoms)
        tops = []
        for place, name in enumerate(param.top):
            tops.append(self._top(layer, place, name))
            unused[name] = None
        if layer.is_loss and not tops:
            tops = [Cell(_AUTOMATIC)]
        self._check_number(layer, len(bottoms), len(tops))
        before = [cell.shape for cell in bottoms]
        parameters = layer.parameters(before)
        self._numbers += sum(count(one.shape) for one in parameters)
        if self._numbers > MOST:
            layer.fail("the parameters of a net are at most 2^31 - 1 numbers", f"{self._numbers}, with those before it")
        if len(param.param) > len(parameters):
            layer.fail(f"there are at most {len(parameters)} param", f"{len(param.param)}")
        for cell, shape in zip(tops, self._checked(layer, layer.shapes(before)), strict=True):
            cell.reshape(shape)
        cells = [self._parameter(layer, place, one.shape, one.filler) for place, one in enumerate(parameters)]
        learns = [spec.lr_mult != 0 for spec in self._specs(layer, len(cells))]
        weights = self._weights(layer, len(tops))
        node = Node(
            layer,
            bottoms,
            tops,
            cells,
            [one.shape for one in parameters],
            weights,
            needs or any(learns),
            to_bottoms,
            learns,
        )
        for cell, weight in zip(tops, weights, strict=True):
            if weight:
                cell.weight = weight
            if node.backward:
                needing[id(cell)] = True
        self.nodes.append(node)

    def _layer(self, param: Message) -> Layer:
        kind = LAYERS.get(param.type)
        if param.type in _DATA:
            raise CaffeError(
                "photos come from the caller, from HDF5 or from the FCN authors' data layers",
                f"{self.of}: '{param.name}' is of type '{param.type}'",
                'put an Input layer in its place, and fill its blobs: net.blobs["data"].data[...] = photo',
            )
        if kind is None:
            near = difflib.get_close_matches(param.type, LAYERS, 3, 0.5)
            raise CaffeError(
                "a layer is of a type of BVLC Caffe that is known here",
                f"{self.of}: '{param.name}' is of type '{param.type}'" + (f"; near: {', '.join(near)}" if near else ""),
                "take out what comes after the scores, or write the layer with those that there are",
            )
        return kind(param, param.phase if param.has("phase") else self.state.phase, self.folder)

    def _top(self, layer: Layer, place: int, name: str) -> Cell:
        """The cell of a top: a new one, or its bottom's at the same place."""
        listed = list(layer.param.bottom)
        if place < len(listed) and listed[place] == name:
            if not layer.in_place:
                layer.fail("its top is another blob than its bottom", f"'{name}' is both", "rename the top")
            return self.cells[name]
        if name in self.cells:
            layer.fail("each blob is made by one layer", f"'{name}' is a top of a layer before too", "rename the top")
        self.cells[name] = Cell(name)
        return self.cells[name]

    def _check_number(self, layer: Layer, bottoms: int, tops: int) -> None:
        for what, number, (fewest, most) in (("bottoms", bottoms, layer.bottoms), ("tops", tops, layer.tops)):
            if number < fewest or (most is not None and number > most):
                wanted = (
                    f"{fewest}" if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
                )
                layer.fail(f"it has {wanted} {what}", f"{number}")
        if layer.as_many_tops and bottoms != tops:
            layer.fail("it has as many tops as bottoms", f"{bottoms} bottoms, {tops} tops")

    def _checked(self, layer: Layer, shapes: list[Shape]) -> list[Shape]:
        for shape in shapes:
            if any(size < 0 for size in shape) or len(shape) > MOST_AXES or count([size or 1 for size in shape]) > MOST:
                layer.fail(
                    f"a blob has at most {MOST_AXES} axes, none negative, and 2^31 - 1 numbers", f"shape {list(shape)}"
                )
        return shapes

    def _specs(self, layer: Layer, number: int) -> list[Message]:
        given = list(layer.param.param)
        return [given[place] if place < len(given) else Message("ParamSpec") for place in range(number)]

    def _parameter(self, layer: Layer, place: int, shape: Shape, filler: Message) -> ParameterCell:
        """The cell of a parameter blob: a new one, or one that a layer before has under the same name."""
        spec = self._specs(layer, place + 1)[place]
        owner = self._owners.get(spec.name) if spec.name else None
        if owner is None:
            cell = ParameterCell(f"parameter {place} of {layer.title}", shape, filler)
            self.learnable.append(cell)
            if spec.name:
                self._owners[spec.name] = cell
        else:
            cell = owner
            loose = spec.share_mode == "PERMISSIVE"
            if shape != cell.shape and not (loose and count(shape) == count(cell.shape)):
                layer.fail(
                    f"a shared '{spec.name}' has its owner's shape", f"{list(shape)}, the owner {list(cell.shape)}"
                )
        for name in ("lr_mult", "decay_mult"):
            if spec.has(name):
                if getattr(cell, name) not in (None, getattr(spec, name)):
                    layer.fail(f"all that share '{spec.name}' have one {name}", f"{getattr(spec, name)}")
                setattr(cell, name, getattr(spec, name))
        return cell

    def _weights(self, layer: Layer, tops: int) -> list[float]:
        given = list(layer.param.loss_weight)
        if given and len(given) != tops:
            layer.fail("loss_weight is given once a top, or not", f"{len(given)} for {tops} tops")
        return given or [1.0 if layer.is_loss and place == 0 else 0.0 for place in range(tops)]

    def _prune(self) -> None:
        """No backward pass for layers that no loss lies above, nor to blobs that nothing below learns from."""
        under: set[int] = set()  # cells that a loss depends on
        skipped: set[int] = set()  # cells that need no gradient
        for node in reversed(self.nodes):
            counts = any(weight or id(cell) in under for cell, weight in zip(node.tops, node.weights, strict=True))
            if all(id(cell) in skipped for cell in node.tops) and node.tops:
                node.backward, node.to_bottoms = False, [False] * len(node.bottoms)
            node.backward = node.backward and counts
            for place, cell in enumerate(node.bottoms):
                if counts:
                    under.add(id(cell))
                else:
                    node.to_bottoms[place] = False
                if not node.to_bottoms[place]:
                    skipped.add(id(cell))

    # ---- running ----

    def reshape(self) -> None:
        """Give all blobs the shapes that follow from the inputs'. Raises: CaffeError where they do not fit."""
        for node in self.nodes:
            if not node.layer.is_input:
                bottoms = [cell.shape for cell in node.bottoms]
                shapes = self._checked(node.layer, node.layer.shapes(bottoms))
                if [one.shape for one in node.layer.parameters(bottoms)] != node.shapes:
                    node.layer.fail(
                        f"its parameters have the shapes {[list(one) for one in node.shapes]}",
                        f"bottoms {[list(one) for one in bottoms]} want others",
                        "give the inputs the channels, and before an InnerProduct the size, of the prototxt",
                    )
                for cell, shape in zip(node.tops, shapes, strict=True):
                    cell.reshape(shape)

    def needed(self, names: Sequence[str]) -> list[Node]:
        """The layers that blobs depend on, in order. A blob that is changed in place depends on all its changes."""
        wanted = {id(self.cells[name]) for name in names}
        for node in reversed(self.nodes):
            if any(id(cell) in wanted for cell in node.tops):
                wanted.update(id(cell) for cell in node.bottoms)
        return [node for node in self.nodes if any(id(cell) in wanted for cell in node.tops)]

    def needed_inputs(self, names: Sequence[str]) -> list[str]:
        """The inputs that blobs depend on, in order."""
        read = {id(self.cells[name]) for name in names}
        read.update(id(cell) for node in self.needed(names) for cell in node.bottoms)
        return [name for name in self.inputs if id(self.cells[name]) in read]

    def numbers(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a pass gives for all blobs, which it leaves as they are; layers that read files have no part in it."""
        found = {id(self.cells[name]): values for name, values in inputs.items()}
        for node in self.nodes:
            if not node.layer.is_input:
                given = [found[id(cell)] for cell in node.bottoms]
                blobs = [cell.data.reshape(shape) for cell, shape in zip(node.blobs, node.shapes, strict=True)]
                with torch.no_grad():
                    made = node.layer.run(given, blobs)
                found |= {id(cell): top for cell, top in zip(node.tops, made, strict=True)}
        return {name: found[id(cell)] for name, cell in self.cells.items()}

    def forward(self, first: int = 0, last: int | None = None) -> float:
        """Compute layers `first` to `last`, both included. Returns: their loss. Raises: CaffeError."""
        if not self.nodes:
            raise CaffeError(
                "a net that runs has layers", f"{self.of} has none in {self.state.phase}", "check the file"
            )
        loss = 0.0
        for node in self.nodes[first : None if last is None else last + 1]:
            if not node.layer.is_input:
                self._run(node)
            for cell, weight in zip(node.tops, node.weights, strict=True):
                if weight:
                    loss += weight * float(cell.data.sum())
        return loss

    def _run(self, node: Node) -> None:
        node.layer.shapes([cell.shape for cell in node.bottoms])
        given = [cell.data.detach() for cell in node.bottoms]
        if node.backward:  # numbers that its top will overwrite are kept for the pass backward
            given = [
                one.clone() if cell.watched and cell in node.tops else one
                for one, cell in zip(given, node.bottoms, strict=True)
            ]
        if any(tensor.numel() == 0 for tensor in given):
            node.layer.fail(
                "its bottoms hold numbers", f"{[list(one.shape) for one in given]}", "give the inputs a shape"
            )
        blobs = [cell.data.detach().reshape(shape) for cell, shape in zip(node.blobs, node.shapes, strict=True)]
        if node.backward:
            given = [one.requires_grad_(to) for one, to in zip(given, node.to_bottoms, strict=True)]
            blobs = [one.requires_grad_(to) for one, to in zip(blobs, node.to_blobs, strict=True)]
        with torch.set_grad_enabled(node.backward):
            tops = node.layer.run(given, blobs)
        node.saved = (given, blobs, tops) if node.backward else None
        for cell, top in zip(node.tops, tops, strict=True):
            cell.data = top.detach()

    def backward(self, first: int | None = None, last: int = 0) -> None:
        """Gradients of layers `first` down to `last`, from the diffs of their tops; those of parameters add up."""
        begin = len(self.nodes) - 1 if first is None else first
        for node in reversed(self.nodes[last : begin + 1]):
            if node.backward:
                self._run_backward(node)

    def _run_backward(self, node: Node) -> None:
        if node.saved is None:
            if node.layer.is_input:
                return
            node.layer.fail("a pass forward comes before one backward", "none yet", "call forward() first")
        given, blobs, tops = node.saved
        wanted = [one for one in (*given, *blobs) if one.requires_grad]
        used = [(top, cell.diff) for top, cell in zip(tops, node.tops, strict=True) if top.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(wanted)
        if used and wanted:
            outputs, diffs = zip(*used, strict=True)
            try:
                found = torch.autograd.grad(outputs, wanted, diffs, retain_graph=True, allow_unused=True)
            except RuntimeError as error:  # numbers or shapes are not those of the pass
                why = str(error).splitlines()[0]
                node.layer.fail("a pass forward with these numbers comes before one backward", why, "call forward()")
        grads = {id(one): grad for one, grad in zip(wanted, found, strict=True)}
        for cell, one in zip(node.bottoms, given, strict=True):
            if one.requires_grad:
                grad = grads[id(one)]
                cell.diff = torch.zeros_like(one) if grad is None else grad
        for parameter, one in zip(node.blobs, blobs, strict=True):
            if one.requires_grad and (grad := grads[id(one)]) is not None:
                parameter.diff.add_(grad.reshape(parameter.shape))

    def share(self, other: Graph) -> None:
        """Take the other's parameters for those layers that both have by name. Raises: CaffeError for other shapes."""
        theirs = {node.name: node for node in reversed(other.nodes)}
        taken: dict[int, ParameterCell] = {}
        for node in self.nodes:
            if (like := theirs.get(node.name)) is not None and node.blobs:
                if like.shapes != node.shapes:
                    node.layer.fail("it has its shapes in the net that it shares with", f"{node.shapes}, {like.shapes}")
                taken |= {id(own): theirs for own, theirs in zip(node.blobs, like.blobs, strict=True)}
        for node in self.nodes:
            node.blobs = [taken.get(id(cell), cell) for cell in node.blobs]
        self.learnable = list(dict.fromkeys(taken.get(id(cell), cell) for cell in self.learnable))
        self._owners = {name: taken.get(id(cell), cell) for name, cell in self._owners.items()}

    def clear_parameter_diffs(self) -> None:
        for cell in self.learnable:
            cell.diff.zero_()

    @property
    def parameters(self) -> Mapping[str, list[ParameterCell]]:
        """Layer name -> its parameter blobs; of layers of one name, the last."""
        return {node.name: node.blobs for node in self.nodes if node.blobs}
