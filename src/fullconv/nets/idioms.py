"""Spellings of one thing, brought to one. Road: nets, between the trace and surgery. In and out: a traced graph.

A pooling whose kernel was read off the map, or that is just as large, is a pooling over the whole map; the mean over
columns and then over rows is the mean over both. Surgery and geometry know the plain forms alone.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from fullconv.nets.graph import BATCH, Size
from fullconv.nets.places import is_tensor, kind_of, pair, pooling_settings, reduced, shape_of

LARGE = 4
"""A maximum over fewer cells a side that happens to cover the map is a step of the body (the last of a small VGG)."""


def in_plain_forms(module: fx.GraphModule) -> None:
    """Rewrite the idioms of a traced graph, in place; each node keeps its tensor without data."""
    for node in list(module.graph.nodes):
        if node.op in ("placeholder", "output", "get_attr") or not is_tensor(node):
            continue
        kind = kind_of(node, module)
        if kind == "pooling" and covers(node, module):
            pool_the_whole_map(node, module)
        elif kind == "reduce":
            mean_at_once(node, module)
        elif node.op == "call_method" and node.target in ("view", "reshape", "expand"):
            ask_for_the_batch(node, module)
    module.graph.eliminate_dead_code()
    module.recompile()
    module.delete_all_unused_submodules()


def ask_for_the_batch(node: fx.Node, module: fx.GraphModule) -> None:
    """x.view(len(x), ...): `len` gives a plain number, which must not stay that of the photos that were traced."""
    if len(node.args) < 2:  # the shape is given by its name, which no `len` is unpacked into
        return
    source, first, rest = node.args[0], node.args[1], node.args[2:]
    sizes = first if isinstance(first, (tuple, list)) else (first, *rest)
    if not isinstance(source, fx.Node) or sizes[0] != BATCH or shape_of(source)[0] != BATCH:
        return
    with module.graph.inserting_before(node):
        batch = module.graph.call_method("size", (source, 0))
    batch.meta["concrete"] = BATCH
    node.args = (source, batch, *sizes[1:])


def covers(node: fx.Node, module: fx.GraphModule) -> bool:
    """Does one window of the pooling cover the whole map?"""
    source = node.all_input_nodes[0]
    if not is_tensor(source) or len(shape_of(source)) != 4:
        return False
    kernel, _, padding, dilation, _ = pooling_settings(node, module)
    size: Size = pair(shape_of(source)[2:])
    if size == (1, 1) or kernel != size or padding != (0, 0) or dilation != (1, 1) or special(node, module):
        return False
    read_off = len(node.all_input_nodes) > 1  # the kernel is `x.shape[2:]`
    return averages(node, module) or read_off or min(size) >= LARGE


def special(node: fx.Node, module: fx.GraphModule) -> bool:
    """A pooling that is neither a mean nor a maximum: it divides by another number, or takes powers."""
    if node.op == "call_module":
        layer: Any = module.get_submodule(str(node.target))
        return isinstance(layer, nn.LPPool2d) or getattr(layer, "divisor_override", None) is not None
    return len(node.args) > 6 or "divisor_override" in node.kwargs or "lp_pool" in str(node.target)


def averages(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.AvgPool2d)
    return "avg" in str(getattr(node.target, "__name__", node.target))


def pool_the_whole_map(node: fx.Node, module: fx.GraphModule) -> None:
    layer = nn.AdaptiveAvgPool2d(1) if averages(node, module) else nn.AdaptiveMaxPool2d(1)
    name = f"{node.name}_whole"
    module.add_submodule(name, layer)
    with module.graph.inserting_before(node):
        call = module.graph.call_module(name, (node.all_input_nodes[0],))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)


def mean_at_once(node: fx.Node, module: fx.GraphModule) -> None:
    """x.mean(3).mean(2): the mean over both dimensions at once."""
    first = node.all_input_nodes[0]
    names = [str(getattr(n.target, "__name__", n.target)) for n in (first, node)]
    if names != ["mean", "mean"] or len(first.users) != 1 or len(shape_of(first.all_input_nodes[0])) != 4:
        return
    if (len(shape_of(first)), len(shape_of(node))) != (3, 2) or (reduced(first), reduced(node)) not in BOTH:
        return
    with module.graph.inserting_before(node):
        call = module.graph.call_method("mean", (first.all_input_nodes[0], (2, 3)))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)


BOTH = (((3,), (2,)), ((2,), (2,)))
"""Columns and then rows: dimensions 3 and 2. Rows, then what were columns: 2 and 2."""
