"""A Caffe FCN as a segmenter. Road: nets, after caffe_network and segmentation, before bundle.

In: a graph of Caffe layers with its weights; a label space. Out: a SegmentationNet on the graph's own layers, which
takes whatever layers Caffe has; the engine runs it where no gradient is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.base.errors import NetError
from fullconv.caffe.engine import Engine
from fullconv.caffe.graph import Cell, Graph, ParameterCell
from fullconv.caffe.prototxt import parse_prototxt
from fullconv.labels.space import LabelSpace
from fullconv.nets.caffe_network import plain_name, scores_of
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import SegmentationNet


def caffe_segmenter(
    graph: Graph, prototxt: str, *, label_space: LabelSpace, preparation: Preparation, output: str | None = None
) -> SegmentationNet:
    """A Caffe FCN as a segmenter that a bundle can hold.

    Args:
        graph: with its weights; its one input is photos.
        prototxt: the text that the graph was built from, which a bundle keeps.
        output: the blob of scores, (N, K, H, W) as large as the photo; None takes that of `scores_of`.
    Raises: NetError if the net is none, or has another number of scores than there are classes.
    """
    scores, classes = scores_and_classes(graph, output)
    if classes != label_space.size:
        raise NetError(
            f"'{scores}' has a score for each of {label_space.size} classes", f"{classes}", "--class-names FILE"
        )
    architecture = {"prototxt": prototxt, "output": scores, "head": "caffe", "backbone": None}
    return SegmentationNet(
        CaffeNetwork(graph, scores), label_space=label_space, preparation=preparation, architecture=architecture
    )


def scores_and_classes(graph: Graph, output: str | None = None) -> tuple[str, int]:
    """The blob of scores, and how many classes it has. Raises: NetError if the net is no segmenter."""
    scores = scores_of(graph, output)
    inputs = graph.needed_inputs([scores])
    photos = graph.cells[inputs[0]].shape if len(inputs) == 1 else ()
    found = graph.cells[scores].shape
    if len(photos) != 4 or len(found) != 4 or found[2:] != photos[2:] or photos[1] != 3:
        raise NetError(
            "a Caffe segmenter reads (N, 3, H, W) and gives (N, K, H, W)",
            f"{graph.of} reads {inputs}, {list(photos)}, and gives '{scores}' {list(found)}",
            "its deploy.prototxt, and --output BLOB if the scores are another blob",
        )
    if found[1] < 2:  # ids of classes, or a probability
        raise NetError(
            "a segmenter has a score for each of 2 classes or more",
            f"'{scores}' of {graph.of} has {found[1]}, shape {list(found)}",
            "--output BLOB, the scores that it is made from",
        )
    return scores, found[1]


def caffe_segmenter_from(
    architecture: Mapping[str, Any], *, label_space: LabelSpace, preparation: Preparation
) -> SegmentationNet:
    """What `caffe_segmenter` made, for weights that are assigned to it; without memory until then."""
    graph = Graph(parse_prototxt(architecture["prototxt"], of="prototxt of the bundle"))
    for cell in graph.learnable:
        cell.data = torch.empty(cell.shape, device="meta")
    return caffe_segmenter(
        graph,
        architecture["prototxt"],
        label_space=label_space,
        preparation=preparation,
        output=architecture["output"],
    )


class CaffeNetwork(nn.Module):
    """A Caffe net's scores for photos of any size: its layers, on parameters that are its blobs.

    On the processor, where no gradient is asked for, the engine runs in their place; under autocast, in bfloat16.

    Args:
        graph: with its weights, which the module shares.
        output: the blob of scores; it depends on one input.
    """

    def __init__(self, graph: Graph, output: str) -> None:
        super().__init__()
        self._graph, self._output = graph, output
        self._nodes = graph.needed([output])
        self._names: list[list[str]] = []  # of each node's blobs, as parameters of the module
        known: dict[int, str] = {}
        for node in self._nodes:
            for place, cell in enumerate(node.blobs):
                if id(cell) not in known:
                    name = f"{plain_name(node.name)}_{place}"
                    while hasattr(self, name):
                        name += "_"
                    known[id(cell)] = name
                    self.register_parameter(name, nn.Parameter(cell.data))
            self._names.append([known[id(cell)] for cell in node.blobs])
        self._engines: dict[torch.dtype, Engine] = {}
        self._engines_of: list[tuple[Tensor, int]] = []

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles are made from: weights are in there once, as parameters; engines are built anew."""
        blank: dict[int, Any] = {id(cell): Cell(cell.name, cell.shape) for cell in self._graph.cells.values()}
        blank |= {id(cell): ParameterCell(cell.name, cell.shape, cell.filler) for cell in self._graph.learnable}
        graph, nodes = copy.deepcopy((self._graph, self._nodes), blank)
        return {**vars(self), "_graph": graph, "_nodes": nodes, "_engines": {}, "_engines_of": []}

    def forward(self, photos: Tensor) -> Tensor:
        """(N, C, H, W) prepared photos -> (N, K, H, W). Raises: CaffeError for a size that the layers do not take."""
        if torch.is_grad_enabled() or photos.device.type != "cpu" or photos.dtype != torch.float32:
            return self._by_layers(photos)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
            return self._engine(dtype).run([photos])[self._output]

    def _by_layers(self, photos: Tensor) -> Tensor:
        (photo,) = self._graph.needed_inputs([self._output])
        values = {id(self._graph.cells[photo]): photos}
        for node, names in zip(self._nodes, self._names, strict=True):
            if node.layer.is_input:
                continue
            given = [values[id(cell)] for cell in node.bottoms]
            blobs = [self.get_parameter(name).reshape(shape) for name, shape in zip(names, node.shapes, strict=True)]
            node.layer.shapes([tuple(one.shape) for one in given])
            values |= {id(cell): top for cell, top in zip(node.tops, node.layer.run(given, blobs), strict=True)}
        return values[id(self._graph.cells[self._output])]

    def _engine(self, dtype: torch.dtype) -> Engine:
        """The engine for these numbers; a new one where parameters have changed."""
        parameters = {name: self.get_parameter(name) for names in self._names for name in names}
        now: list[tuple[Tensor, int]] = [
            (one, 0 if one.is_inference() else one._version) for one in parameters.values()
        ]
        same = [one is other and own == its for (one, own), (other, its) in zip(now, self._engines_of, strict=False)]
        if len(same) < len(now) or not all(same):
            self._engines, self._engines_of = {}, now
        if dtype not in self._engines:
            for node, names in zip(self._nodes, self._names, strict=True):
                for cell, name in zip(node.blobs, names, strict=True):
                    cell.data = parameters[name].detach()
            self._engines = {dtype: Engine(self._graph, dtype, [self._output])}  # one at a time: weights are large
        return self._engines[dtype]
