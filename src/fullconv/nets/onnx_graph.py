"""A torch graph that grows by one ONNX node at a time. Road: nets, below onnx_operators. In: a node. Out: fx nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fullconv.base.errors import NetError

if TYPE_CHECKING:
    from onnx import NodeProto

REPORT = "python -m onnxsim IN.onnx OUT.onnx may simplify it; else name the network's own code: package.module:Class"
FLOATS = {1, 10, 11, 16}  # onnx.TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16
Array = NDArray[Any]


@dataclass
class Growing:
    """The torch.fx graph so far.

    Attributes:
        known: values that do not depend on the photo.
        moving: values that do, as nodes of the graph; `meta["concrete"]` is a tensor without data.
        readers: how many nodes read each value.
    """

    path: Path
    opsets: dict[str, int]
    known: dict[str, Array] = field(default_factory=dict)
    moving: dict[str, fx.Node] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter)
    module: fx.GraphModule = field(default_factory=lambda: fx.GraphModule(nn.Module(), fx.Graph()))
    fake: FakeTensorMode = field(default_factory=lambda: FakeTensorMode(allow_non_fake_inputs=True))

    def begin(self, name: str, shape: tuple[int, ...]) -> None:
        node = self.module.graph.placeholder(re.sub(r"\W|^(?=\d)", "_", name))
        with self.fake:
            node.meta["concrete"] = torch.empty(shape)
        self.moving[name] = node

    def end(self, name: str) -> fx.GraphModule:
        if name not in self.moving:
            raise NetError("a classifier's scores depend on the photo", f"{self.path}: {name} does not", REPORT)
        self.module.graph.output(self.moving[name])
        for node in self.module.graph.nodes:
            node.meta.pop("concrete", None)
        self.module.graph.eliminate_dead_code()
        self.module.graph.lint()
        self.module.recompile()
        self.module.delete_all_unused_submodules()
        return self.module.eval()

    def free(self, name: str) -> str:
        """A path under which the module holds nothing yet."""
        if not isinstance(getattr(self.module, name.partition(".")[0], self.module), nn.Module):
            name = f"_{name}"  # train, graph, ...: names of the module's own
        while taken(self.module, name):
            name += "_"
        return name


def taken(module: nn.Module, path: str) -> bool:
    try:
        attrgetter(path)(module)
    except AttributeError:
        return False
    return True


@dataclass(frozen=True)
class Step:
    """One ONNX node, beside what is known when it is reached."""

    work: Growing
    node: NodeProto

    # ------------------------------------------------------------------ what it reads

    @property
    def x(self) -> fx.Node:
        """Its first input, which must depend on the photo."""
        found = self.work.moving.get(self.node.input[0])
        if found is None:
            raise self.refused("reads the photo elsewhere than in its first input")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.x)

    @property
    def version(self) -> int:
        return self.work.opsets.get(self.node.domain, self.work.opsets.get("ai.onnx", 0))

    def has(self, index: int) -> bool:
        return len(self.node.input) > index and self.node.input[index] != ""

    def known(self, index: int) -> Array | None:
        """Its input as an array; None if it is left out."""
        if not self.has(index):
            return None
        if self.node.input[index] not in self.work.known:
            raise self.refused(f"reads {self.node.input[index]!r}, which depends on the photo")
        return self.work.known[self.node.input[index]]

    def weight(self, index: int) -> Tensor | None:
        array = self.known(index)
        return None if array is None else torch.from_numpy(np.array(array, dtype=np.float32))

    def must(self, index: int) -> Tensor:
        tensor = self.weight(index)
        if tensor is None:
            raise self.refused(f"lacks input {index}")
        return tensor

    def option(self, name: str, default: Any = None) -> Any:
        from onnx import helper

        found = next((a for a in self.node.attribute if a.name == name), None)
        value = default if found is None else helper.get_attribute_value(found)
        return value.decode() if isinstance(value, bytes) else value

    def setting(self, name: str, index: int) -> list[int] | None:
        """Whole numbers that older versions hold as an attribute and newer ones as an input."""
        array = self.known(index) if self.has(index) else self.option(name)
        return None if array is None else [int(v) for v in np.atleast_1d(array)]

    def value(self, index: int) -> Any:
        """Its input for arithmetic: a node, a number, or a parameter."""
        name = self.node.input[index]
        if name in self.work.moving:
            return self.work.moving[name]
        array = self.work.known[name]
        return array.item() if array.size == 1 else self.held(name, torch.from_numpy(np.array(array)))

    def held(self, name: str, tensor: Tensor) -> fx.Node:
        """A tensor that the network holds: a parameter if it is of floats."""
        path = self.work.free(plain(name))
        if tensor.is_floating_point():
            self.work.module.register_parameter(path, nn.Parameter(tensor))
        else:
            self.work.module.register_buffer(path, tensor)
        node = self.work.module.graph.get_attr(path)
        node.meta["concrete"] = tensor
        return node

    # ------------------------------------------------------------------ what it gives

    def layer(self, layer: nn.Module, x: fx.Node | None = None) -> fx.Node:
        """A call of a layer, under the name of its weight where that tells one."""
        weight = self.node.input[1] if self.has(1) else ""
        name = weight.removesuffix(".weight") if re.fullmatch(r"\w+(\.\w+)*\.weight", weight) else self.name
        path = self.work.free(name)
        self.work.module.add_submodule(path, layer.eval())
        return self.followed(self.work.module.graph.call_module(path, (x or self.x,)))

    def call(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> fx.Node:
        return self.followed(self.work.module.graph.call_function(function, arguments, settings))

    def followed(self, node: fx.Node) -> fx.Node:
        args, settings = fx.map_arg((node.args, dict(node.kwargs)), lambda n: n.meta["concrete"])
        function: Any = node.target
        if node.op == "call_module":
            function = self.work.module.get_submodule(str(node.target))
        elif node.op == "call_method":
            function = getattr(torch.Tensor, str(node.target))
        try:
            with self.work.fake, torch.no_grad():
                node.meta["concrete"] = function(*args, **settings)
        except Exception as error:  # whatever torch says of shapes that do not fit
            raise self.refused(f"cannot be run: {type(error).__name__}: {str(error)[:200]}") from error
        return node

    def size(self, x: fx.Node, dim: int) -> fx.Node:
        return self.followed(self.work.module.graph.call_method("size", (x, dim)))

    @property
    def name(self) -> str:
        return plain(self.node.name or self.node.output[0])

    def refused(self, why: str) -> NetError:
        return NetError(
            "an ONNX classifier is made of operators that fullconv reads",
            f"{self.work.path}: {self.node.op_type} '{self.node.name or self.node.output[0]}' {why}",
            REPORT,
        )


def plain(name: str) -> str:
    """A name that Python takes."""
    return re.sub(r"\W+", "_", name).strip("_") or "step"


def shape_of(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["concrete"].shape)


def folded(step: Step) -> dict[str, Array]:
    """What a node gives that reads only known values, by onnx's own reference."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    node = step.node
    names = list(dict.fromkeys(name for name in node.input if name))
    inputs, outputs = ([helper.make_empty_tensor_value_info(n) for n in some] for some in (names, node.output))
    opsets = [helper.make_opsetid(domain, version) for domain, version in step.work.opsets.items()]
    try:
        alone = helper.make_model(helper.make_graph([node], "alone", inputs, outputs), opset_imports=opsets)
        values = ReferenceEvaluator(alone).run(None, {name: step.work.known[name] for name in names})
    except Exception as error:  # an operator that the reference has not, a value inside another graph
        raise step.refused(f"cannot be computed: {type(error).__name__}: {str(error)[:200]}") from error
    return {name: enlarged(value) for name, value in zip(node.output, values, strict=True)}


def as_array(tensor: Any) -> Array:
    from onnx import numpy_helper

    return enlarged(numpy_helper.to_array(tensor), tensor.data_type)


def enlarged(array: Any, data_type: int | None = None) -> Array:
    """Every kind of float as float32."""
    array = np.asarray(array)
    floating = data_type in FLOATS or array.dtype.kind == "f"
    return np.asarray(array, np.float32) if floating else np.asarray(array)
