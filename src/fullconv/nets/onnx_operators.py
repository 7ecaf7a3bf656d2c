"""What each ONNX operator is in torch. Road: nets, between onnx_graph and onnx_network. In: a step. Out: fx nodes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.nets.graph import Size
from fullconv.nets.onnx_graph import FLOATS, Array, Step, shape_of

# ---------------------------------------------------------------------- layers


def convolution(step: Step) -> fx.Node:
    weight, groups = step.must(1), step.option("group", 1)
    if weight.dim() != 4:
        raise step.refused(f"has weights of shape {tuple(weight.shape)}, not (out, in, rows, columns)")
    kernel = (weight.shape[2], weight.shape[3])
    stride, dilation = pairs(step, "strides"), pairs(step, "dilations")
    around = padding(step, kernel, stride, dilation)
    channels = (weight.shape[1] * groups, weight.shape[0])
    if around is None:
        from timm.layers.conv2d_same import Conv2dSame as Same

        layer: nn.Conv2d = Same(*channels, kernel, stride, dilation=dilation, groups=groups, bias=step.has(2))
        x = step.x
    else:
        x, both = evenly(step, around, 0.0)
        layer = nn.Conv2d(*channels, kernel, stride, both, dilation, groups, bias=step.has(2), device="meta")
    layer.weight = nn.Parameter(weight)
    layer.bias = None if not step.has(2) else nn.Parameter(step.must(2))
    return step.layer(layer, x)


def pairs(step: Step, name: str) -> Size:
    found = step.option(name, [1, 1])
    if len(found) != 2:
        raise step.refused(f"works on {len(found)} dimensions, not on rows and columns")
    return (int(found[0]), int(found[1]))


def padding(step: Step, kernel: Size, stride: Size, dilation: Size) -> tuple[int, int, int, int] | None:
    """Cells added (top, left, bottom, right); None where that depends on the size (TF-SAME)."""
    how = step.option("auto_pad", "NOTSET")
    if how in ("NOTSET", "VALID"):
        top, left, bottom, right = step.option("pads", [0, 0, 0, 0]) if how == "NOTSET" else (0, 0, 0, 0)
        return (top, left, bottom, right)
    if stride == (1, 1):
        rows, columns = (dilation[i] * (kernel[i] - 1) for i in (0, 1))
        few, more = (rows // 2, columns // 2), (rows - rows // 2, columns - columns // 2)
        return (*few, *more) if how == "SAME_UPPER" else (*more, *few)
    if how == "SAME_LOWER":
        raise step.refused("pads as SAME_LOWER with a stride")
    return None


def evenly(
    step: Step, around: tuple[int, int, int, int], value: float, most: Size | None = None
) -> tuple[fx.Node, Size]:
    """What is left for a layer to pad on both sides alike; what is not alike, or beyond `most`, is padded before it."""
    top, left, bottom, right = around
    if (top, left) == (bottom, right) and (most is None or (top <= most[0] and left <= most[1])):
        return step.x, (top, left)
    return step.call(F.pad, step.x, (left, right, top, bottom), "constant", value), (0, 0)


def max_pool(step: Step) -> fx.Node:
    kernel, stride, dilation = (pairs(step, name) for name in ("kernel_shape", "strides", "dilations"))
    around, ceil = padding(step, kernel, stride, dilation), bool(step.option("ceil_mode", 0))
    if around is None:
        from timm.layers.pool2d_same import MaxPool2dSame

        return step.layer(MaxPool2dSame(kernel, stride, dilation=dilation))
    x, both = evenly(step, around, -math.inf, (kernel[0] // 2, kernel[1] // 2))
    return step.layer(nn.MaxPool2d(kernel, stride, both, dilation, ceil_mode=ceil), x)


def average_pool(step: Step) -> fx.Node:
    kernel, stride, dilation = (pairs(step, name) for name in ("kernel_shape", "strides", "dilations"))
    around, counted = padding(step, kernel, stride, dilation), bool(step.option("count_include_pad", 0))
    if around is None or dilation != (1, 1):
        raise step.refused("pools the mean with a dilation, or pads as SAME with a stride")
    uneven = around[:2] != around[2:] or around[0] > kernel[0] // 2 or around[1] > kernel[1] // 2
    if uneven and not counted:
        raise step.refused(f"pads by {around}, unequally, and leaves the padding out of the mean")
    x, both = evenly(step, around, 0.0, (kernel[0] // 2, kernel[1] // 2))
    ceil = bool(step.option("ceil_mode", 0))
    return step.layer(nn.AvgPool2d(kernel, stride, both, ceil_mode=ceil, count_include_pad=counted), x)


def batch_norm(step: Step) -> fx.Node:
    if step.option("training_mode", 0):
        raise step.refused("was exported in training mode")
    kind = nn.BatchNorm2d if len(step.shape) == 4 else nn.BatchNorm1d
    layer = kind(step.shape[1], eps=step.option("epsilon", 1e-5))
    layer.weight, layer.bias = nn.Parameter(step.must(1)), nn.Parameter(step.must(2))
    layer.running_mean, layer.running_var = step.must(3), step.must(4)
    return step.layer(layer)


def layer_norm(step: Step) -> fx.Node:
    weight, bias = step.must(1), step.weight(2)
    layer = nn.LayerNorm(tuple(weight.shape), eps=step.option("epsilon", 1e-5), bias=bias is not None)
    if step.shape[step.option("axis", -1) :] != tuple(weight.shape):
        raise step.refused(f"normalizes {step.shape} with weights of shape {tuple(weight.shape)}")
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias)
    return step.layer(layer)


def response_norm(step: Step) -> fx.Node:
    size = step.option("size")
    if size % 2 == 0:
        raise step.refused("sums over an even number of channels")
    return step.layer(
        nn.LocalResponseNorm(size, step.option("alpha", 1e-4), step.option("beta", 0.75), step.option("bias", 1.0))
    )


def gemm(step: Step) -> fx.Node:
    if step.option("transA", 0):
        raise step.refused("turns the photo's tensor")
    weight, bias = step.must(1), step.weight(2)
    weight = step.option("alpha", 1.0) * (weight if step.option("transB", 0) else weight.T)
    if bias is not None:
        bias = step.option("beta", 1.0) * bias.broadcast_to(1, weight.shape[0])[0]
    return step.layer(linear(weight, bias))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.contiguous())
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias.contiguous()))
    return layer


def matrix_product(step: Step) -> fx.Node:
    if step.node.input[1] in step.work.moving:
        return step.call(torch.matmul, step.value(0), step.value(1))
    weight = step.must(1)
    if weight.dim() != 2:
        raise step.refused(f"multiplies by a tensor of shape {tuple(weight.shape)}, not by a matrix")
    return step.layer(linear(weight.T, None))


def add(step: Step) -> fx.Node:
    """A vector that is added to what a Linear layer or LayerNorm gives, and to nothing else, is its bias."""
    for node, layer, vector in layers_that_meet_a_vector(step):
        scaled = isinstance(layer, nn.Linear) or getattr(layer, "weight", None) is not None
        if scaled and getattr(layer, "bias", None) is None:
            layer.register_parameter("bias", nn.Parameter(vector))
            return node
    return arithmetic(operator.add)(step)


def multiply(step: Step) -> fx.Node:
    """A vector that multiplies what a LayerNorm without weights gives, and nothing else, is its weight."""
    for node, layer, vector in layers_that_meet_a_vector(step):
        if isinstance(layer, nn.LayerNorm) and not layer.elementwise_affine:
            layer.register_parameter("weight", nn.Parameter(vector))
            layer.elementwise_affine = True
            return node
    return arithmetic(operator.mul)(step)


def layers_that_meet_a_vector(step: Step) -> Iterator[tuple[fx.Node, nn.Module, Tensor]]:
    """The input that a Linear layer or LayerNorm gives and only this step reads, where the other is one number each."""
    for index in (0, 1):
        name, other = step.node.input[index], step.work.known.get(step.node.input[1 - index])
        node = step.work.moving.get(name)
        if node is None or other is None or node.op != "call_module" or step.work.readers[name] > 1:
            continue
        layer = step.work.module.get_submodule(str(node.target))
        if isinstance(layer, (nn.Linear, nn.LayerNorm)) and other.shape == shape_of(node)[-1:]:
            yield node, layer, torch.from_numpy(np.array(other))


def divide(step: Step) -> fx.Node:
    """(x - mean) / sqrt(mean((x - mean)^2) + eps) over the last dimension is how files before version 17 normalize."""
    centred, root = step.value(0), step.value(1)
    x, mean = parts(centred, operator.sub)
    shifted, *_ = parts(root, torch.sqrt)
    variance, eps = parts(shifted, operator.add)
    square, *over = parts(variance, torch.mean)
    last = [((len(shape_of(x)) if x is not None else 0) - 1,), True]
    if over == last and parts(mean, torch.mean) == [x, *last] and parts(square, operator.pow) == [centred, 2.0]:
        return step.layer(nn.LayerNorm(shape_of(x)[-1], eps, elementwise_affine=False), x)
    return arithmetic(operator.truediv)(step)


def parts(node: Any, function: Callable[..., Any]) -> list[Any]:
    """What a step reads, if it is this function; else two times nothing."""
    found = isinstance(node, fx.Node) and node.target is function
    return list(node.args) if found else [None, None]


# ---------------------------------------------------------------------- steps on each value


def arithmetic(function: Callable[..., Any]) -> Callable[[Step], fx.Node]:
    """Two inputs or more, one after another."""

    def make(step: Step) -> fx.Node:
        made = step.value(0)
        for index in range(1, len(step.node.input)):
            made = step.call(function, made, step.value(index))
        return made if isinstance(made, fx.Node) else step.x

    return make


def each(function: Callable[..., Any]) -> Callable[[Step], fx.Node]:
    return lambda step: step.call(function, step.x)


def activation(make: Callable[..., nn.Module], **settings: tuple[str, Any]) -> Callable[[Step], fx.Node]:
    """A layer without weights; `settings`: its argument -> the operator's attribute and that one's default."""
    return lambda step: step.layer(make(**{k: step.option(*attribute) for k, attribute in settings.items()}))


def clip(step: Step) -> fx.Node:
    low, high = (
        float(found[0]) if (found := bound(step, name, index)) is not None else default
        for name, index, default in (("min", 1, -math.inf), ("max", 2, math.inf))
    )
    if low == 0:
        return step.layer(nn.ReLU() if high == math.inf else nn.ReLU6() if high == 6 else nn.Hardtanh(low, high))
    return step.layer(nn.Hardtanh(low, high))


def bound(step: Step, name: str, index: int) -> Array | None:
    found = step.known(index) if step.has(index) else step.option(name)
    return None if found is None else np.atleast_1d(found)


def hard_sigmoid(step: Step) -> fx.Node:
    slope, middle = step.option("alpha", 0.2), step.option("beta", 0.5)
    if abs(slope - 1 / 6) < 1e-6 and middle == 0.5:
        return step.layer(nn.Hardsigmoid())
    return step.layer(nn.Hardtanh(0.0, 1.0), step.call(operator.add, step.call(operator.mul, step.x, slope), middle))


def prelu(step: Step) -> fx.Node:
    slope = step.must(1).flatten()
    if len(slope) not in (1, step.shape[1]):
        raise step.refused(f"has {len(slope)} slopes for {step.shape[1]} channels")
    layer = nn.PReLU(len(slope))
    layer.weight = nn.Parameter(slope)
    return step.layer(layer)


def softmax(function: Callable[..., Any]) -> Callable[[Step], fx.Node]:
    def make(step: Step) -> fx.Node:
        axis = step.option("axis", -1 if step.version >= 13 else 1) % len(step.shape)
        if step.version < 13 and math.prod(step.shape[axis + 1 :]) > 1:
            raise step.refused("is taken over several dimensions (operators before version 13)")
        return step.call(function, step.x, dim=axis)

    return make


def same(step: Step) -> fx.Node:
    return step.x


def cast(step: Step) -> fx.Node:
    if step.node.op_type == "Cast" and step.option("to") not in FLOATS:
        raise step.refused("makes whole numbers of the photo's values")
    return step.x


# ---------------------------------------------------------------------- steps on shapes


def flatten(step: Step) -> fx.Node:
    if step.option("axis", 1) % len(step.shape) != 1:
        raise step.refused(f"leaves axis {step.option('axis', 1)}, not the photos, apart")
    return step.call(torch.flatten, step.x, 1)


def reshape(step: Step) -> fx.Node:
    asked = step.setting("shape", 1)
    if asked is None:
        raise step.refused("has no shape")
    if not step.option("allowzero", 0):
        asked = [step.shape[i] if length == 0 else length for i, length in enumerate(asked)]
    rest = math.prod(step.shape) // max(1, math.prod(length for length in asked if length != -1))
    return reshaped(step, step.x, [rest if length == -1 else length for length in asked])


def reshaped(step: Step, x: fx.Node, target: Sequence[int]) -> fx.Node:
    """`x` to `target`, with the lengths that stay as they are asked of the tensor at hand."""
    shape = shape_of(x)
    if tuple(target) == shape:
        return x
    if len(target) == 2 and target[0] == shape[0]:
        return step.call(torch.flatten, x, 1)
    most = min(len(shape), len(target))
    first = next((i for i in range(most) if shape[i] != target[i]), most)
    last = next((i for i in range(most - first) if shape[-1 - i] != target[-1 - i]), most - first)
    between: list[Any] = list(target[first : len(target) - last])
    lengths = [step.size(x, i) for i in range(first)] + ([-1] if len(between) == 1 else between)
    lengths += [step.size(x, i) for i in range(len(shape) - last, len(shape))]
    return step.call(torch.reshape, x, lengths)


def transpose(step: Step) -> fx.Node:
    return step.call(torch.permute, step.x, tuple(step.option("perm", range(len(step.shape))[::-1])))


def squeeze(step: Step) -> fx.Node:
    axes = step.setting("axes", 1)
    if axes is None:  # one photo is still a batch
        axes = [i for i, length in enumerate(step.shape) if i and length == 1]
    return step.call(torch.squeeze, step.x, tuple(a % len(step.shape) for a in axes)) if axes else step.x


def unsqueeze(step: Step) -> fx.Node:
    axes, x = step.setting("axes", 1) or [], step.x
    for axis in sorted(a % (len(step.shape) + len(axes)) for a in axes):
        x = step.call(torch.unsqueeze, x, axis)
    return x


def concat(step: Step) -> fx.Node:
    tensors = [step.value(i) for i in range(len(step.node.input))]
    if not all(name in step.work.moving for name in step.node.input):
        raise step.refused("joins the photo's tensor with a fixed one")
    return step.call(torch.cat, tensors, step.option("axis"))


def split(step: Step) -> list[fx.Node]:
    axis, count = step.option("axis", 0), len(step.node.output)
    part = -(-step.shape[axis] // count)
    sizes = step.setting("split", 1) or [min(part, step.shape[axis] - part * i) for i in range(count)]
    parts = step.call(torch.split, step.x, sizes, axis)
    return [step.call(operator.getitem, parts, i) for i in range(count)]


def cut(step: Step) -> fx.Node:
    starts, ends = step.setting("starts", 1) or [], step.setting("ends", 2) or []
    axes = step.setting("axes", 3) or list(range(len(starts)))
    steps = step.setting("steps", 4) or [1] * len(starts)
    index = [slice(None)] * len(step.shape)
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        if stride < 1:
            raise step.refused("goes backwards")
        length = step.shape[axis]
        index[axis] = slice(start if start else None, None if end >= length else end, stride)
    whole = all(i == slice(None, None, 1) or i == slice(None) for i in index)
    return step.x if whole else step.call(operator.getitem, step.x, tuple(index))


def gather(step: Step) -> fx.Node:
    axis, indices = step.option("axis", 0) % len(step.shape), step.known(1)
    if indices is None or axis == 0 or indices.ndim > 1:
        if indices is not None and lies_otherwise(step, indices):
            return reshaped(step, step.x.all_input_nodes[0], indices.shape)
        raise step.refused("picks photos, or by a table of indices")
    if indices.ndim == 0:
        return step.call(operator.getitem, step.x, (*[slice(None)] * axis, int(indices)))
    chosen = torch.from_numpy(np.array(indices, dtype=np.int64)) % step.shape[axis]
    return step.call(torch.index_select, step.x, axis, step.held(step.node.input[1], chosen))


def lies_otherwise(step: Step, indices: Array) -> bool:
    """Is every value picked once, in order, out of a reshape to one dimension? torch writes as_strided so."""
    flat = len(step.shape) == 1 and step.x.target is torch.reshape
    return flat and np.array_equal(indices.flatten(), np.arange(step.shape[0]))


PADS = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


def pad(step: Step) -> fx.Node:
    amounts, mode, rank = step.setting("pads", 1) or [], step.option("mode", "constant"), len(step.shape)
    axes = step.setting("axes", 3) or list(range(rank))
    if mode not in PADS:
        raise step.refused(f"pads by {mode!r}")
    both = {axis % rank: (amounts[i], amounts[i + len(axes)]) for i, axis in enumerate(axes)}
    first = min((axis for axis, some in both.items() if any(some)), default=rank)
    if first == rank:
        return step.x
    value = bound(step, "value", 2)
    flat = [n for axis in range(rank - 1, min(first, 2) - 1, -1) for n in both.get(axis, (0, 0))]
    return step.call(F.pad, step.x, flat, PADS[mode], float(value[0]) if value is not None else 0.0)


def reduction(function: Callable[..., Any]) -> Callable[[Step], fx.Node]:
    def make(step: Step) -> fx.Node:
        axes = step.setting("axes", 1)
        if not axes or 0 in (axes := sorted(a % len(step.shape) for a in axes)):
            raise step.refused("reduces over the photos")
        return step.call(function, step.x, tuple(axes), bool(step.option("keepdims", 1)))

    return make


# ---------------------------------------------------------------------- all of them

SHAPES: dict[str, Callable[[Step], Array]] = {
    "Shape": lambda step: np.array(step.shape[step.option("start", 0) : step.option("end", None)], dtype=np.int64),
    "Size": lambda step: np.array(math.prod(step.shape), dtype=np.int64),
}
"""Operators whose result depends on the photo's size alone, which is known."""

OPERATORS: dict[str, Callable[[Step], fx.Node | list[fx.Node]]] = {
    "Abs": each(torch.abs),
    "Add": add,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "CastLike": cast,
    "Clip": clip,
    "Concat": concat,
    "Conv": convolution,
    "Div": divide,
    "Dropout": activation(nn.Dropout, p=("ratio", 0.5)),
    "Elu": activation(nn.ELU, alpha=("alpha", 1.0)),
    "Erf": each(torch.erf),
    "Exp": each(torch.exp),
    "Flatten": flatten,
    "Gather": gather,
    "Gelu": activation(nn.GELU, approximate=("approximate", "none")),
    "Gemm": gemm,
    "GlobalAveragePool": lambda step: step.layer(nn.AdaptiveAvgPool2d(1)),
    "GlobalMaxPool": lambda step: step.layer(nn.AdaptiveMaxPool2d(1)),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": activation(nn.Hardswish),
    "Identity": same,
    "LRN": response_norm,
    "LayerNormalization": layer_norm,
    "LeakyRelu": activation(nn.LeakyReLU, negative_slope=("alpha", 0.01)),
    "LogSoftmax": softmax(F.log_softmax),
    "MatMul": matrix_product,
    "Max": arithmetic(torch.maximum),
    "MaxPool": max_pool,
    "Min": arithmetic(torch.minimum),
    "Mish": activation(nn.Mish),
    "Mul": multiply,
    "Neg": each(torch.neg),
    "PRelu": prelu,
    "Pad": pad,
    "Pow": arithmetic(operator.pow),
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean),
    "ReduceSum": reduction(torch.sum),
    "Relu": activation(nn.ReLU),
    "Reshape": reshape,
    "Sigmoid": activation(nn.Sigmoid),
    "Slice": cut,
    "Softmax": softmax(F.softmax),
    "Softplus": activation(nn.Softplus),
    "Split": split,
    "Sqrt": each(torch.sqrt),
    "Squeeze": squeeze,
    "Sub": arithmetic(operator.sub),
    "Sum": arithmetic(operator.add),
    "Tanh": activation(nn.Tanh),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
