"""Bring old nets to today's form, as Caffe does: V0 and V1 layers, transforms, inputs, BatchNorm. Road: caffe.

In: a NetParameter or SolverParameter as read. Out: one of V2 layers alone. The same for prototxt and caffemodel. Knows
no files, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fullconv.base.errors import CaffeError
from fullconv.caffe.message import Message

_V0_TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
_V2_TYPES = {
    "NONE": "",
    "BNLL": "BNLL",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "TANH": "TanH",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "IM2COL": "Im2col",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
}
_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}
# V0 type -> the message that its fields go to -> V0 field: V1 field
_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_FILLED = {"num_output": "num_output", "biasterm": "bias_term", "weight_filler": "weight_filler"}
_FILLED |= {"bias_filler": "bias_filler"}
_V0_FIELDS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "conv": {
        "convolution_param": {
            **_FILLED,
            "pad": "pad",
            "kernelsize": "kernel_size",
            "group": "group",
            "stride": "stride",
        }
    },
    "innerproduct": {"inner_product_param": _FILLED},
    "pool": {"pooling_param": {"pool": "pool", "pad": "pad", "kernelsize": "kernel_size", "stride": "stride"}},
    "dropout": {"dropout_param": {"dropout_ratio": "dropout_ratio"}},
    "lrn": {"lrn_param": {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"}},
    "concat": {"concat_param": {"concat_dim": "concat_dim"}},
    "infogain_loss": {"infogain_loss_param": {"source": "source"}},
    "hdf5_data": {"hdf5_data_param": {"source": "source", "batchsize": "batch_size"}},
    "data": {
        "data_param": {"source": "source", "batchsize": "batch_size", "rand_skip": "rand_skip"},
        "transform_param": _TRANSFORM,
    },
    "images": {
        "image_data_param": {
            "source": "source",
            "batchsize": "batch_size",
            "rand_skip": "rand_skip",
            "shuffle_images": "shuffle",
            "new_height": "new_height",
            "new_width": "new_width",
        },
        "transform_param": _TRANSFORM,
    },
    "window_data": {
        "window_data_param": {
            "source": "source",
            "batchsize": "batch_size",
            "det_fg_threshold": "fg_threshold",
            "det_bg_threshold": "bg_threshold",
            "det_fg_fraction": "fg_fraction",
            "det_context_pad": "context_pad",
            "det_crop_mode": "crop_mode",
        },
        "transform_param": _TRANSFORM,
    },
}
_DATA = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_MOVED = ("scale", "mean_file", "crop_size", "mirror")
_STATISTICS = 3  # blobs of BatchNorm; files of old give each a param


def upgraded(net: Message, *, of: str) -> Message:
    """Bring a NetParameter to V2 layers; inputs become a layer "input" that stands first.

    Args:
        of: what the net is called in errors.
    Raises: CaffeError for `layer` and `layers` in one net, types that Caffe has not, counts of inputs that do not fit.
    """
    if net.has("layer") and net.has("layers"):
        raise CaffeError(
            "a net has layers of one form: 'layer' (today's) or 'layers' (of old)", f"{of} has both", "use one of them"
        )
    old = list(net.layers)
    found = net.copied()
    if any(layer.has("layer") for layer in old):
        kept = ("name", "input", "input_dim", "force_backward")
        found = Message("NetParameter", **{name: getattr(net, name) for name in kept if net.has(name)})
        old = [_from_v0(layer, of) for layer in _without_padding(old, of)]
    if old:
        del found.layers
        found.layer = [_from_v1(_transform_moved(layer), of) for layer in old]
    _inputs_to_layer(found, of)
    for layer in found.layer:
        if layer.type == "BatchNorm" and len(layer.param) == _STATISTICS:
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0.0
    return found


def upgraded_solver(solver: Message, *, of: str) -> Message:
    """Bring a SolverParameter's type from an enum to a name. Raises: CaffeError if it has both."""
    found = solver.copied()
    if solver.has("solver_type"):
        if solver.has("type"):
            raise CaffeError(
                "a solver has one type",
                f"{of} has 'type' and 'solver_type'",
                "leave 'solver_type' out: it is the old one",
            )
        found.type = _SOLVER_TYPES[solver.solver_type]
        del found.solver_type
    return found


# ---- V0 -------------------------------------------------------------------------------------------------------------


def _without_padding(layers: list[Message], of: str) -> Iterator[Message]:
    """Take padding layers out: what reads them pads itself."""
    pads: dict[str, tuple[str, int]] = {}  # top of a padding layer -> its bottom, and by how much
    for layer in layers:
        if layer.layer.type == "padding":
            if len(layer.bottom) != 1 or len(layer.top) != 1:
                raise CaffeError("a padding layer has one bottom and one top", f"{of}: {layer.layer.name!r}", "mend it")
            pads[layer.top[0]] = layer.bottom[0], layer.layer.pad
            continue
        padded = [bottom for bottom in layer.bottom if bottom in pads]
        if not padded:
            yield layer
            continue
        if layer.layer.type not in ("conv", "pool") or len(layer.bottom) != 1:
            raise CaffeError(
                "what reads a padding layer is one conv or pool",
                f"{of}: {layer.layer.name!r} is of type {layer.layer.type!r}",
                "pad in a layer of its own",
            )
        source, by = pads[padded[0]]
        one = layer.copied()
        one.bottom = [source]
        one.layer.pad = by
        yield one


def _from_v0(layer: Message, of: str) -> Message:
    """A V1 layer of a V0 one; one that is V1 already stays."""
    if not layer.has("layer"):
        return layer
    inner = layer.layer
    if inner.type not in _V0_TYPES:
        raise CaffeError(
            f"a V0 layer is one of {', '.join(_V0_TYPES)}, padding",
            f"{of}: {inner.name!r} is {inner.type!r}",
            "rename it",
        )
    found = Message("V1LayerParameter", name=inner.name, type=_V0_TYPES[inner.type])
    for name in ("bottom", "top"):
        if layer.has(name):
            setattr(found, name, getattr(layer, name))
    for name in ("blobs", "blobs_lr", "weight_decay", "hdf5_output_param"):
        if inner.has(name):
            setattr(found, name, getattr(inner, name))
    for param, fields in _V0_FIELDS.get(inner.type, {}).items():
        into = getattr(found, param)
        for old, new in fields.items():
            if inner.has(old):
                _put(into, new, getattr(inner, old))
        if into.names():
            setattr(found, param, into)
    return found


def _put(into: Message, name: str, value: Any) -> None:
    """Set a field; one that became a list since gets one entry."""
    if getattr(into, name) == ():
        into.add(name, value)
    else:
        setattr(into, name, value)


# ---- V1 -------------------------------------------------------------------------------------------------------------


def _transform_moved(layer: Message) -> Message:
    """A V1 data layer whose scale, mean file, crop and mirroring stand in transform_param."""
    name = _DATA.get(layer.type)
    if name is None or not any(getattr(layer, name).has(one) for one in _MOVED):
        return layer
    found = layer.copied()
    data, transform = getattr(found, name), found.transform_param
    for one in _MOVED:
        if data.has(one):
            setattr(transform, one, getattr(data, one))
            delattr(data, one)
    found.transform_param = transform
    return found


def v2_type(v1: str) -> str:
    """Today's name of a V1 layer type: CamelCase of its words, but for some."""
    return _V2_TYPES.get(v1) or "".join(word.capitalize() for word in v1.split("_")) if v1 != "NONE" else ""


def _from_v1(layer: Message, of: str) -> Message:
    found = Message("LayerParameter")
    specs: dict[int, Message] = {}
    for name in layer.names():
        value = getattr(layer, name)
        if name == "layer":
            raise CaffeError("a net has V0 layers alone, or none", f"{of} mixes them", "use one form")
        if name == "type":
            found.type = v2_type(value)
        elif name in ("param", "blob_share_mode", "blobs_lr", "weight_decay"):
            for place, one in enumerate(value):
                spec = specs.setdefault(place, Message("ParamSpec"))
                field = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult"}.get(
                    name, "decay_mult"
                )
                setattr(spec, field, one)
        else:
            setattr(found, name, value)
    if specs:
        found.param = [specs.get(place, Message("ParamSpec")) for place in range(max(specs) + 1)]
    return found


# ---- inputs ---------------------------------------------------------------------------------------------------------


def _inputs_to_layer(net: Message, of: str) -> None:
    names, shapes, dims = list(net.input), list(net.input_shape), list(net.input_dim)
    for field in ("input", "input_shape", "input_dim"):
        delattr(net, field)
    if not names or not (shapes or dims):
        return  # a caffemodel of old names its inputs without a shape
    if shapes and len(shapes) != len(names):
        raise CaffeError(
            "there is one input_shape an input", f"{of}: {len(names)} input, {len(shapes)} input_shape", "add"
        )
    if not shapes and len(dims) != 4 * len(names):
        raise CaffeError(
            "there are four input_dim an input",
            f"{of}: {len(names)} input, {len(dims)} input_dim",
            "mend the input_dim",
        )
    shapes = shapes or [Message("BlobShape", dim=dims[4 * i : 4 * i + 4]) for i in range(len(names))]
    layer = Message("LayerParameter", name="input", type="Input", top=names)
    layer.input_param = Message("InputParameter", shape=shapes)
    net.layer = [layer, *net.layer]
