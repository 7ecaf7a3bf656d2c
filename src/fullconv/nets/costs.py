"""What each step of a network costs. Road: nets, after places. In: a network and a size. Out: one record a step.

Multiply-adds are derived from the geometry (cells that come out times what each of them reads), not timed or
counted at run time: benchmarks/surgery.py holds them against what torch counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from fullconv.geometry.geometry import Geometry
from fullconv.nets.graph import BATCH, Size, label, trace
from fullconv.nets.places import argument, is_tensor, kind_of, pair, places, shape_of


@dataclass(frozen=True)
class Layer:
    """One step of a network, for one photo.

    Attributes:
        name: the path of the module, else the step's own name.
        kind: "convolution", "pooling", "linear", ... or the name of the module or function.
        shape: of what it gives, without the batch: (C, H, W) or (F,).
        geometry: where its cells lie; None where it has no rows and columns.
        parameters: numbers that it learns, counted where they are first used.
        multiply_adds: of convolutions, matrices and products; 0 for all else.
        bytes: of what it gives.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    geometry: Geometry | None
    parameters: int
    multiply_adds: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Its attributes; the geometry as in a proof, or null."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "geometry": None if self.geometry is None else self.geometry.to_json(),
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "bytes": self.bytes,
        }


def layers_of(network: nn.Module, size: Size | int) -> list[Layer]:
    """The steps of a network on a photo of `size` (rows, columns), in the order of computation.

    Raises: SurgeryError where the network cannot be followed; GeometryError where a tensor would have no cell.
    """
    follower = places(trace(network, pair(size)), disagreement="span")
    counted: set[int] = set()
    layers = []
    for node in follower.module.graph.nodes:
        if node.op in ("output", "get_attr") or not is_tensor(node):
            continue
        value, place = node.meta["concrete"], follower.place.get(node)
        layers.append(
            Layer(
                name=label(node) if node.op != "placeholder" else "photo",
                kind="photo" if node.op == "placeholder" else kind_of(node, follower.module),
                shape=tuple(value.shape[1:]),
                geometry=None if place is None else place.geometry,
                parameters=sum(p.numel() for p in parameters_of(node, follower.module, counted)),
                multiply_adds=multiply_adds(node, follower.module),
                bytes=value.numel() // BATCH * value.element_size(),
            )
        )
    return layers


def multiply_adds(node: fx.Node, module: fx.GraphModule) -> int:
    """Of one photo."""
    kind = kind_of(node, module) if node.op != "placeholder" else "photo"
    if kind in ("convolution", "linear", "transposed"):
        weight = weight_of(node, module)
        spread = node.all_input_nodes[0] if kind == "transposed" else node  # what each weight is used once for
        return int(spread.meta["concrete"].numel() // BATCH * weight[0].numel())
    if kind == "product":
        first = node.all_input_nodes[0]
        return int(node.meta["concrete"].numel() // BATCH * shape_of(first)[-1])
    return 0


def weight_of(node: fx.Node, module: fx.GraphModule) -> Tensor:
    """(out, in, ...) of a convolution or Linear layer, (in, out, ...) of a transposed one."""
    layer: Any = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    weight: Tensor = argument(node, 1, "weight", None) if layer is None else layer.weight
    return weight


def parameters_of(node: fx.Node, module: fx.GraphModule, counted: set[int]) -> list[Tensor]:
    """The parameters that a step is the first to use; `counted` remembers them."""
    if node.op == "call_module":
        own: list[Tensor] = list(module.get_submodule(str(node.target)).parameters())
    else:
        attributes = [n for n in node.all_input_nodes if n.op == "get_attr"]
        own = [v for n in attributes if isinstance(v := n.meta["concrete"], nn.Parameter)]
    new = [p for p in own if id(p) not in counted]
    counted.update(id(p) for p in new)
    return new
