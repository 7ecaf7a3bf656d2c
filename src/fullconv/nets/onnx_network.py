"""An ONNX file as a torch network that can be followed. Road: nets, before sources. In: a file. Out: a GraphModule.

What does not depend on the photo (weights, shapes at the file's size) is computed by onnx itself; each operator on what
does is one function in onnx_operators.py. Sizes of maps are asked of the tensor at hand: the network takes other sizes,
and any number of photos, also where the file was written for one. Weights of 16 bits become float32.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from torch import fx

from fullconv.base.errors import NetError, UsageError
from fullconv.nets.graph import Size
from fullconv.nets.onnx_graph import FLOATS, REPORT, Growing, Step, as_array, folded
from fullconv.nets.onnx_operators import OPERATORS, SHAPES

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

OLDEST = 7  # before it, arithmetic took its broadcasting from attributes


def read_onnx(path: Path, *, size: Size) -> tuple[fx.GraphModule, Size]:
    """The network of an ONNX file, in evaluation mode, its float weights trainable parameters.

    Args:
        size: (rows, columns) of the photo where the file leaves them open.
    Returns: the network, (N, 3, H, W) float32 -> its output; and the size that the file fixes, else `size`.
    Raises: UsageError if the file or the package onnx is not there; NetError if the file is damaged, does not read one
        (N, 3, H, W) tensor or give one tensor, or has operators that are not in OPERATORS.
    """
    model = loaded(path)
    photo = the_photo(model, path)
    batch, _, *fixed = (d.dim_value for d in photo.type.tensor_type.shape.dim)
    size = (fixed[0] or size[0], fixed[1] or size[1])
    refuse_unknown_operators(model, photo.name, path)
    work = Growing(path, {o.domain: o.version for o in model.opset_import})
    work.known = {t.name: as_array(t) for t in model.graph.initializer}
    work.readers = Counter(name for node in model.graph.node for name in node.input)
    work.readers.update(o.name for o in model.graph.output)
    work.begin(photo.name, (batch or 1, 3, *size))
    for node in model.graph.node:
        add(work, Step(work, node))
    return work.end(model.graph.output[0].name), size


def add(work: Growing, step: Step) -> None:
    """What the node gives, known or not."""
    node = step.node
    if not any(name in work.moving for name in node.input):
        work.known |= folded(step)
    elif node.op_type in SHAPES:
        work.known[node.output[0]] = SHAPES[node.op_type](step)
    else:
        made = OPERATORS[node.op_type](step)
        outputs = [made] if isinstance(made, fx.Node) else made
        work.moving |= dict(zip(node.output, outputs, strict=False))
        lost = [name for name in node.output[len(outputs) :] if work.readers[name]]
        if lost:
            raise step.refused(f"gives {lost[0]!r}, which is read")


# ---------------------------------------------------------------------- the file


def loaded(path: Path) -> ModelProto:
    try:
        import onnx
        from onnx.inliner import inline_local_functions
    except ImportError as error:
        raise UsageError(
            "ONNX files are read with the package onnx", "it is not installed", "pip install 'fullconv[onnx]'"
        ) from error
    if not path.is_file():
        raise UsageError("MODEL ending in .onnx is a file", f"{path} does not exist", "check the path")
    try:
        model: ModelProto = inline_local_functions(onnx.load(path))
        if not model.graph.node:
            raise ValueError("it holds no graph")
    except Exception as error:  # protobuf and the reader of external data each have their own kinds
        raise NetError(
            "an ONNX file is whole, with the data files that it names beside it",
            f"{path}: {type(error).__name__}: {str(error)[:200]}",
            "export it again, or copy its .data file too",
        ) from error
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version < OLDEST:
        raise NetError(
            f"an ONNX file has operators of version {OLDEST} or later",
            f"{path} has version {version}",
            "onnx.version_converter.convert_version(onnx.load(FILE), 13), saved again",
        )
    return model


def the_photo(model: ModelProto, path: Path) -> ValueInfoProto:
    """The one input, which must be (N, 3, H, W)."""
    weights = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    shapes = [[d.dim_value or d.dim_param or "?" for d in i.type.tensor_type.shape.dim] for i in inputs]
    fits = len(inputs) == len(model.graph.output) == 1 and inputs[0].type.tensor_type.elem_type in FLOATS
    channels = shapes[0][1] if fits and len(shapes[0]) == 4 else 0
    if isinstance(channels, int) and channels != 3:
        given = ", ".join(f"'{i.name}' {tuple(s)}" for i, s in zip(inputs, shapes, strict=True))
        raise NetError(
            "an ONNX classifier reads one float tensor (N, 3, H, W) and gives one tensor of scores",
            f"{path} reads {given or 'nothing'} and gives {', '.join(o.name for o in model.graph.output)}",
            "export it again with one input and one output (from TensorFlow: tf2onnx --inputs-as-nchw)",
        )
    photo: ValueInfoProto = inputs[0]
    return photo


def refuse_unknown_operators(model: ModelProto, photo: str, path: Path) -> None:
    """Raises: NetError naming the operators on what depends on the photo that have no function here."""
    moving, unknown = {photo}, Counter[str]()
    for node in model.graph.node:
        if moving.isdisjoint(node.input) or node.op_type in SHAPES:
            continue
        moving.update(node.output)
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            unknown[f"{node.domain}.{node.op_type}".lstrip(".")] += 1
    if unknown:
        raise NetError(
            "an ONNX classifier is made of operators that fullconv reads",
            f"{path} has {', '.join(f'{count} {name}' for name, count in unknown.most_common(10))}",
            REPORT,
        )
