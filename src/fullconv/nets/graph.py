"""A network as a graph of its steps. Road: nets, after classifiers. In: a module and a size. Out: an fx graph.

`trace` records what a network does at one size, on tensors without data, so that code which asks for shapes can be
followed: `if x.shape[2] < 7` has an answer.
"""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.proxy import Attribute

from fullconv.base.errors import FullconvError, GeometryError, SurgeryError
from fullconv.geometry.geometry import same_padding

Size = tuple[int, int]

LEAVES: tuple[type[nn.Module], ...] = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.Linear,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
"""Subclasses of these (timm's Conv2dSame, BatchNormAct2d, LayerNorm2d, ...) stay one node."""
LEAF_NAMES = frozenset({"StochasticDepth", "DropPath", "WindowContext", "ChannelNorm", "CellGroupNorm"})
"""Other modules that stay one node: what they do in training must not be frozen at tracing."""

KNOWN = ("torch.", "torchvision.", "timm.", "fullconv.")
"""Where subclasses of the leaves come from whose own steps are known to be those of their kind."""

BATCH = 2  # photos in the tensors without data: two, so that `squeeze()` does not take the batch away


def does_as_its_kind(layer: nn.Module) -> bool:
    """Whether a Conv2d, Linear, ... does what its kind does, so that it may stay one node.

    A person's own subclass with a forward of its own may do anything: its steps are followed instead, unless it is a
    convolution that pads by what the input's size asks for.
    """
    kind: Any = type(layer)
    base: Any = next(k for k in kind.__mro__ if k.__module__.startswith("torch.nn."))
    return kind.forward is base.forward or kind.__module__.startswith(KNOWN) or pads_as_needed(layer)


def pads_as_needed(layer: nn.Module) -> bool:
    """Does the layer pad by what the input's size asks for (TF-SAME)?

    timm's layers say so by name; a person's own convolution is tried at a few sizes.
    """
    if type(layer).__module__.startswith(KNOWN):
        return type(layer).__name__.endswith("Same") or bool(getattr(layer, "same_pad", False))
    own = isinstance(layer, nn.Conv2d) and type(layer).forward is not nn.Conv2d.forward
    return own and layer.weight.device.type != "meta" and all(pads_so_at(layer, size) for size in (13, 16, 18, 23))


@torch.no_grad()
def pads_so_at(layer: nn.Module, size: int) -> bool:
    assert isinstance(layer, nn.Conv2d)
    x = torch.randn(1, layer.in_channels, size, size, generator=torch.Generator().manual_seed(0)).to(layer.weight)
    rows, columns = (same_padding(size, layer.kernel_size[i], layer.stride[i], layer.dilation[i]) for i in (0, 1))
    plain = (layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    expected = F.conv2d(F.pad(x, (*columns, *rows)), *plain)
    try:
        found = type(layer).forward(layer, x)
    except Exception:  # whatever it does, it is not this
        return False
    return isinstance(found, Tensor) and found.shape == expected.shape and torch.allclose(found, expected, atol=1e-4)


class Followed(fx.Proxy):
    """A proxy that knows what it stands for: a tensor without data, a size, a number."""

    def __getattr__(self, k: str) -> FollowedAttribute:
        return FollowedAttribute(self, k)

    def __len__(self) -> int:
        return len(value_of(self))

    def __index__(self) -> int:
        return operator.index(value_of(self))

    def __setitem__(self, where: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, where, value), {})

    def __int__(self) -> int:
        return int(value_of(self))

    def __float__(self) -> float:
        return float(value_of(self))


class Tracer(fx.Tracer):
    """torch.fx's tracer, which also runs every step on tensors without data."""

    def __init__(self, fake: FakeTensorMode, inputs: list[Tensor], network: nn.Module) -> None:
        super().__init__()
        self.fake, self.inputs = fake, list(inputs)
        # asked now: while torch.fx follows a network, its parameters are not what they are
        self.leaves = {m for m in network.modules() if isinstance(m, LEAVES) and does_as_its_kind(m)}
        self.running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, LEAVES):
            return m in self.leaves
        return type(m).__name__ in LEAF_NAMES or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> Followed:
        return Followed(node, self)

    def create_node(self, kind: str, target: Any, *more: Any, **named: Any) -> fx.Node:
        node = super().create_node(kind, target, *more, **named)
        if kind == "get_attr":  # a buffer among the arguments has no proxy of its own
            node.meta["concrete"] = self.run(kind, target, (), {})
        return node

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        value = proxy.node.meta["concrete"] = self.run(kind, target, args, kwargs)
        optional = kind == "placeholder" and not isinstance(value, Tensor)  # `mask=None`: its default, so that
        return value if optional else proxy  # `if mask is not None` is answered

    def run(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self.inputs.pop(0) if self.inputs else (args[0] if args else None)
        args, kwargs = concretes(args), concretes(kwargs)
        self.running = True
        try:
            with self.fake, torch.no_grad():
                if kind == "call_module":
                    return self.root.get_submodule(target).forward(*args, **kwargs)
                if kind == "get_attr":
                    return operator.attrgetter(target)(self.root)
                if kind == "call_method":
                    return getattr(args[0], target)(*args[1:], **kwargs)
                return target(*args, **kwargs) if kind == "call_function" else None
        finally:
            self.running = False

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(value_of(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        follow: Any = obj
        return iter([follow[i] for i in range(len(value_of(obj)))])

    def keys(self, obj: fx.Proxy) -> Any:
        return value_of(obj).keys()


class FollowedAttribute(Attribute):
    """An attribute of what is followed (`x.shape`), which becomes a step of the graph when it is first used."""

    def __len__(self) -> int:
        return len(value_of(self))

    def __index__(self) -> int:
        return operator.index(value_of(self))

    def __int__(self) -> int:
        return int(value_of(self))

    def __float__(self) -> float:
        return float(value_of(self))

    def __getattr__(self, k: str) -> Any:
        """Of a device its parts are known ("cpu"); all else is followed."""
        value = value_of(self)
        return getattr(value, k) if isinstance(value, torch.device) else FollowedAttribute(self, k)


def value_of(proxy: fx.Proxy) -> Any:
    return proxy.node.meta["concrete"]  # `.node` also makes the node of an attribute that was not yet used


def concretes(value: Any) -> Any:
    """The same arguments with each proxy or node replaced by what it stands for."""
    if isinstance(value, fx.Proxy):
        return value_of(value)
    if isinstance(value, fx.Node):
        return value.meta["concrete"]
    if isinstance(value, (tuple, list)):
        items = [concretes(v) for v in value]
        return type(value)(items) if type(value) in (tuple, list) else tuple(items)
    if isinstance(value, dict):
        return {k: concretes(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(concretes(value.start), concretes(value.stop), concretes(value.step))
    return value


def trace(network: nn.Module, size: Size) -> fx.GraphModule:
    """What the network does, in evaluation mode, on a photo of `size` (rows, columns).

    Module structure and parameter names are kept; parameters are shared with `network`, modules that are never used
    (auxiliary heads) are left out. Each node's `meta["concrete"]` holds its tensor without data, for two photos.

    Raises: SurgeryError naming what could not be followed.
    """
    if isinstance(network, fx.GraphModule):
        graph_module = fx.GraphModule(network, copy.deepcopy(network.graph))
        Shapes(graph_module, size).follow()
        return graph_module
    training = {name: module.training for name, module in network.named_modules()}
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    tracer = Tracer(fake, [nothing(fake, network, size)], network)
    try:
        network.eval()
        with quiet():
            graph = tracer.trace(network)
    except FullconvError:
        raise
    except Exception as error:  # whatever the network's own code raises is answered here, once
        raise not_followed(network, size, tracer, error) from error
    finally:
        for name, module in network.named_modules():
            module.training = training[name]
    graph_module = fx.GraphModule(tracer.root, graph, type(network).__name__)
    read_what_was_written(graph_module.graph)
    graph_module.graph.eliminate_dead_code()
    dropout_as_modules(graph_module)
    graph_module.recompile()
    graph_module.delete_all_unused_submodules()
    in_modes(graph_module, training)
    return graph_module


def in_modes(network: nn.Module, training: dict[str, bool]) -> None:
    """Put each module into the mode of the one of its name, else of the nearest that it lies in."""
    for name, module in network.named_modules():
        known = name
        while known not in training:
            known = known.rpartition(".")[0]
        module.training = training[known]


@contextmanager
def quiet() -> Iterator[None]:
    """torch logs, with a traceback, each step that fails on tensors without data: the error says it already."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def read_what_was_written(graph: fx.Graph) -> None:
    """`x.mul_(2)` changes x: what reads x afterwards reads the step instead, so that it is not dead code."""
    for node in list(graph.nodes):
        written = node.args[0] if node.args else None
        if isinstance(written, fx.Node) and writes(node):
            refuse_views(node, written)
            written.replace_all_uses_with(node, delete_user_cb=partial(operator.lt, node))


def writes(node: fx.Node) -> bool:
    """Whether the step changes its first input in place."""
    if node.op == "call_module":
        owner: Any = node.graph.owning_module
        return bool(getattr(owner.get_submodule(str(node.target)), "inplace", False))
    if node.kwargs.get("inplace") is True:
        return True
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    by_operator = node.op == "call_function" and getattr(operator, name, None) is node.target and name in IN_PLACE
    return by_operator or (name.endswith("_") and not name.endswith("__"))


IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ipow", "imatmul")
VIEWS = (
    "view",
    "reshape",
    "flatten",
    "transpose",
    "permute",
    "squeeze",
    "unsqueeze",
    "getitem",
    "chunk",
    "split",
    "unbind",
)


def refuse_views(node: fx.Node, written: fx.Node) -> None:
    """Raises: SurgeryError where a step writes into a view of a tensor that is read again afterwards."""
    name = str(written.target) if written.op == "call_method" else getattr(written.target, "__name__", "")
    while name in VIEWS and written.all_input_nodes:
        written = written.all_input_nodes[0]
        if any(user > node for user in written.users):
            raise SurgeryError(
                "a step changes a whole tensor or none",
                f"'{spot(node)}' writes into a part of '{spot(written)}', which is read again",
                "write y = f(x) instead of f_(x) or f(x, inplace=True) there",
            )
        name = str(written.target) if written.op == "call_method" else getattr(written.target, "__name__", "")


def dropout_as_modules(graph_module: fx.GraphModule) -> None:
    """F.dropout was seen in evaluation mode: a module in its place still drops in training."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target in (F.dropout, F.dropout2d):
            share = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            layer = nn.Dropout(share) if node.target is F.dropout else nn.Dropout2d(share)
            graph_module.add_submodule(node.name, layer)
            with graph_module.graph.inserting_before(node):
                call = graph_module.graph.call_module(node.name, (node.args[0] if node.args else node.kwargs["input"],))
            call.meta = dict(node.meta)
            node.replace_all_uses_with(call)
            graph_module.graph.erase_node(node)


def nothing(fake: FakeTensorMode, network: nn.Module, size: Size) -> Tensor:
    """The tensor without data that stands for the photos."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), None)
    dtype = torch.float32 if weight is None else weight.dtype
    with fake:
        shape = (BATCH, photo_channels(network), *size)
        return torch.empty(shape, dtype=dtype, device="cpu" if weight is None else weight.device)


def photo_channels(network: nn.Module) -> int:
    """How many channels a photo has: those that the first convolution reads, if no more than four; else three.

    A first convolution that reads more does not read the photo itself, but cells of it (space to depth).
    """
    first = next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)), 3)
    return first if first <= 4 else 3


def not_followed(network: nn.Module, size: Size, tracer: Tracer, error: Exception) -> SurgeryError:
    graph: Any = getattr(tracer, "graph", None)
    nodes = list(graph.nodes) if isinstance(graph, fx.Graph) else []
    place = f" {'after' if 'concrete' in nodes[-1].meta else 'at'} '{label(nodes[-1])}'" if nodes else ""
    return SurgeryError(
        "the network must run on a photo of the window's size, by steps that torch.fx can follow",
        f"{type(network).__name__} at {size[0]}x{size[1]} stopped{place}: {type(error).__name__}: {str(error)[:300]}",
        "check the window; steps that depend on pixel values (not on shapes) cannot be followed",
    )


class Shapes(fx.Interpreter):
    """Runs a graph on a photo of `size` without data and notes each node's value in its meta."""

    def __init__(self, module: fx.GraphModule, size: Size) -> None:
        super().__init__(module)
        self.size = size
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        n.meta["concrete"] = value
        return value

    def follow(self) -> None:
        modules = list(self.module.modules())
        training = [m.training for m in modules]
        photo = nothing(self.fake, self.module, self.size)
        try:
            self.module.eval()
            with self.fake, torch.no_grad(), quiet():
                self.run(photo)
        except FullconvError:
            raise
        except Exception as error:
            graph: Any = self.module.graph
            done = [n for n in graph.nodes if "concrete" in n.meta]
            last = label(done[-1]) if done else ""
            said = (str(error).splitlines() or [""])[0][:200]
            raise GeometryError(
                "every tensor of the network must have at least one cell",
                f"a photo of {self.size[0]}x{self.size[1]} stops after '{last}': {said}",
                "give a larger size",
            ) from error
        finally:
            for module, mode in zip(modules, training, strict=True):
                module.training = mode


def label(node: fx.Node) -> str:
    """How messages and tables call a node: the module's path, else the node's own name."""
    return str(node.target) if node.op in ("call_module", "get_attr") else node.name


def spot(node: fx.Node) -> str:
    """How errors call a node: its label, and for a step without a module of its own the module that it lies in."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if node.op in ("call_module", "get_attr") or not stack:
        return label(node)
    return f"{stack[-1][0]} ({node.name})"
