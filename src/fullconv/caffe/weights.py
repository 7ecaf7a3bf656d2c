"""Weights of Caffe nets: read from .caffemodel and .h5, copied by layer name, written. Road: caffe, files and graph.

Source: docs/explanation/caffe.md, "Copying weights". HDF5 needs the extra "hdf5" (h5py).
"""

from __future__ import annotations

from pathlib import Path

import torch

from fullconv.base.errors import CaffeError, WeightsError
from fullconv.caffe.blobs import Blob, blob_of, proto_of
from fullconv.caffe.graph import Graph, Node, ParameterCell
from fullconv.caffe.hdf5 import is_hdf5, most_bytes, numbers_of, opened_hdf5, written_hdf5
from fullconv.caffe.message import Message
from fullconv.caffe.upgrade import upgraded
from fullconv.caffe.wire import read_binary, write_binary

_AGAIN = "get the file again, whole; compare its size"
_SHOWN = 10  # names that an error lists


def read_weights(path: Path) -> list[tuple[str, list[Blob]]]:
    """(layer, its blobs) in the order of the file; layers without blobs are left out.

    Args:
        path: a .caffemodel of any age, or HDF5 as Caffe writes it.
    Raises: CaffeError, WeightsError that names the layer; UsageError if HDF5 cannot be read here.
    """
    try:
        hdf5 = is_hdf5(path)
    except OSError as error:
        raise WeightsError("the weights can be read", f"{path}: {error.strerror}", "check the path") from None
    if hdf5:
        return _read_hdf5(path)
    net = upgraded(read_binary(path), of=str(path))
    if not net.layer:
        raise WeightsError("a .caffemodel has layers", f"{path} has none", "give the .caffemodel, not the .prototxt")
    return [(layer.name, _blobs(layer, path)) for layer in net.layer if layer.blobs]


def _blobs(layer: Message, path: Path) -> list[Blob]:
    of = f"layer '{layer.name}' of {path.name}"
    return [blob_of(proto, of=f"{of}, blob {place}") for place, proto in enumerate(layer.blobs)]


def _read_hdf5(path: Path) -> list[tuple[str, list[Blob]]]:
    with opened_hdf5(path) as file:
        if "data" not in file:
            there = ", ".join(map(str, file)) or "none"
            raise WeightsError("HDF5 weights have a group 'data'", f"{path} has {there}", _AGAIN)
        found = []
        left = most_bytes(path)  # many names may stand for one data set
        for name, group in file["data"].items():
            of = f"layer '{name}' of {path.name}"
            blobs = []
            for key in sorted(group, key=int):
                blobs.append(Blob(numbers_of(group[key], of=f"{of}, blob {key}")))
                left -= blobs[-1].data.nbytes
                if left < 0:
                    raise WeightsError(
                        "the HDF5 file has all numbers that it announces", f"{of}, blob {key}: no more", _AGAIN
                    )
            if blobs:
                found.append((name, blobs))
        return found


def copy_weights(graph: Graph, path: Path) -> list[str]:
    """Copy a file's weights into the layers of the same names; layers that either side lacks stay as they are.

    Returns: the layers that were filled.
    Raises: CaffeError, WeightsError, where a layer has another number of blobs or other shapes; nothing is copied then.
    """
    return [node.name for node in _copied(graph, read_weights(path), path)]


def fit_weights(graph: Graph, path: Path) -> list[str]:
    """Copy as `copy_weights` does, where at least one layer gets weights.

    Returns: the layers whose parameters got none, and keep their fillers' numbers.
    Raises: as `copy_weights`; WeightsError if no layer of the net has its name in the file.
    """
    weights = read_weights(path)
    filled = {id(cell) for node in _copied(graph, weights, path) for cell in node.blobs}
    learned = [node for node in graph.nodes if node.blobs]
    if learned and not filled:
        raise WeightsError(
            "weights go to the layers of their names",
            f"{path.name} has {_listed([name for name, _ in weights])}; {graph.of} has "
            f"{_listed([node.name for node in learned])}: none is in both",
            "the net's own weights, or the names of the file in the prototxt",
        )
    return [node.name for node in learned if not any(id(cell) in filled for cell in node.blobs)]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _copied(graph: Graph, weights: list[tuple[str, list[Blob]]], path: Path) -> list[Node]:
    """Copy what was read of a file. Returns: the layers that got it."""
    shared = is_hdf5(path)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        if shared or node.name not in nodes:  # of layers of one name, the first; from HDF5 the last
            nodes[node.name] = node
    todo: list[tuple[ParameterCell, Blob]] = []
    filled = []
    for name, blobs in weights:
        if (target := nodes.get(name)) is None:
            continue
        if len(blobs) != len(target.blobs) and not (shared and len(blobs) < len(target.blobs)):
            raise WeightsError(
                f"layer '{name}' has {len(target.blobs)} blobs", f"{path.name} has {len(blobs)} for it", _renamed(name)
            )
        for place, (cell, shape, blob) in enumerate(zip(target.blobs, target.shapes, blobs, strict=False)):
            if not blob.fits(shape):
                raise WeightsError(
                    f"blob {place} of layer '{name}' has the shape {list(shape)}",
                    f"{path.name} has {list(blob.data.shape)}",
                    _renamed(name),
                )
            todo.append((cell, blob))
        filled.append(target)
    for cell, blob in todo:
        cell.put(torch.from_numpy(blob.data.reshape(cell.shape)))
    return filled


def _renamed(name: str) -> str:
    return f"rename '{name}' in the prototxt: what has no weights of its name keeps its filler's"


# ---- writing --------------------------------------------------------------------------------------------------------


def as_message(graph: Graph, *, diffs: bool = False) -> Message:
    """A NetParameter with weights, as Caffe saves it."""
    net = Message("NetParameter", name=graph.name)
    layers = []
    for node in graph.nodes:
        layer = node.layer.param.copied()
        del layer.blobs
        layer.phase = node.layer.phase
        for cell, shape in zip(node.blobs, node.shapes, strict=True):
            proto = proto_of(cell.data.reshape(shape).numpy())
            if diffs:
                proto.diff = cell.diff.numpy().ravel()
            layer.add("blobs", proto)
        layers.append(layer)
    net.layer = layers
    return net


def write_weights(graph: Graph, path: Path, *, diffs: bool = False) -> None:
    """Write a .caffemodel, or HDF5 where the name ends in .h5; whole or not at all.

    Raises: DiskFull, Unwritable; for HDF5 CaffeError for a layer whose name has a '/', UsageError if h5py is not there.
    """
    if path.suffix == ".h5":
        _write_hdf5(graph, path, diffs=diffs)
    else:
        write_binary(as_message(graph, diffs=diffs), path)


def _write_hdf5(graph: Graph, path: Path, *, diffs: bool) -> None:
    bad = [node.name for node in graph.nodes if "/" in node.name]
    if bad:
        raise CaffeError("layer names in HDF5 have no '/'", f"'{bad[0]}'", "save a .caffemodel instead")
    written: set[int] = set()
    with written_hdf5(path) as file:
        for node in graph.nodes:
            groups = [file.require_group(f"{kind}/{node.name}") for kind in ("data", *(["diff"] if diffs else []))]
            for place, (cell, shape) in enumerate(zip(node.blobs, node.shapes, strict=True)):
                if id(cell) not in written:
                    for group, values in zip(groups, (cell.data, cell.diff), strict=False):
                        group.create_dataset(str(place), data=values.reshape(shape).numpy())
                written.add(id(cell))
