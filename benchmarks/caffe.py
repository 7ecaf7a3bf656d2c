"""Caffe files beside OpenCV's importer, which still reads them: the same scores, seconds, and memory.

python benchmarks/caffe.py FOLDER [CASE ...]      needs opencv-python-headless < 5; weights are made in FOLDER, and kept

The FCN authors' voc-fcn8s at full width with random weights (540 MB), a photo of 500x375, two threads. Each way runs in a
process of its own for its memory, and in turns with the others in one process for its seconds. Writes
benchmarks/results/caffe.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rows
import torch
from road import DATA

from fullconv.caffe.engine import Engine
from fullconv.caffe.graph import Graph
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.weights import copy_weights, read_weights, write_weights

PROTOTXT = DATA / "caffe-models/fcn-prototxt/voc-fcn8s/deploy.prototxt"
SIZE = (500, 375)


def made(folder: Path) -> Path:
    """A .caffemodel of random weights that keep the scores' size from layer to layer; deconvolutions bilinear."""
    path = folder / "voc-fcn8s.caffemodel"
    if not path.exists():
        graph = Graph(read_prototxt(PROTOTXT))
        draw = torch.Generator().manual_seed(0)
        for node in graph.nodes:
            for cell in node.blobs:
                cell.data = 0.1 * torch.randn(cell.shape, generator=draw)
                if len(cell.shape) == 4:
                    cell.data *= 10 * (2 / np.prod(cell.shape[1:])) ** 0.5
        write_weights(graph, path)
    return path


def photo() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 60, (1, 3, *SIZE)).astype(np.float32)


def ours(weights: Path, dtype: torch.dtype = torch.float32) -> Any:
    graph = Graph(read_prototxt(PROTOTXT))
    copy_weights(graph, weights)
    engine = Engine(graph, dtype)
    given = torch.from_numpy(photo())
    return lambda: engine.run([given])["score"].numpy()


def opencvs(weights: Path) -> Any:
    import cv2

    cv2.setNumThreads(2)
    net = cv2.dnn.readNetFromCaffe(str(PROTOTXT), str(weights))
    given = photo()

    def run() -> np.ndarray:
        net.setInput(given)
        found: np.ndarray = net.forward()
        return found

    return run


WAYS = {"fullconv": ours, "fullconv bf16": partial(ours, dtype=torch.bfloat16), "OpenCV": opencvs}
ALONE = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[3])
import caffe
from pathlib import Path
began = time.perf_counter(); run = caffe.WAYS[sys.argv[1]](Path(sys.argv[2])); read = time.perf_counter() - began
began = time.perf_counter(); run(); first = time.perf_counter() - began
print(json.dumps({"read": read, "first": first, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
"""


def fcn8s(folder: Path) -> dict[str, Any]:
    weights = made(folder)
    alone = {
        way: json.loads(
            subprocess.run(
                [sys.executable, "-c", ALONE, way, str(weights), str(Path(__file__).parent)], capture_output=True, text=True, check=True
            ).stdout
        )
        for way in WAYS
    }
    runs = {way: make(weights) for way, make in WAYS.items()}
    scores = {way: run() for way, run in runs.items()}
    graph = Graph(read_prototxt(PROTOTXT))
    copy_weights(graph, weights)
    graph.cells["data"].data = torch.from_numpy(photo())
    graph.forward()
    true = graph.cells["score"].data.numpy()
    seconds = dict(zip(runs, map(rows.summary, rows.in_turns(*runs.values())), strict=True))
    return {
        "threads": torch.get_num_threads(),
        "bytes": weights.stat().st_size,
        "ways": {
            way: {
                "seconds": seconds[way],
                "first_seconds": round(alone[way]["first"], 3),
                "read_seconds": round(alone[way]["read"], 3),
                "peak_gb": round(alone[way]["peak_gb"], 3),
                "off": float(np.abs(scores[way] - true).max() / np.abs(true).max()),
            }
            for way in WAYS
        },
    }


def reading(folder: Path) -> dict[str, Any]:
    """The file's arrays alone: seconds, and memory beside its size."""
    weights = made(folder)
    began = time.perf_counter()
    read = read_weights(weights)
    return {"seconds": round(time.perf_counter() - began, 3), "layers": len(read), "bytes": weights.stat().st_size}


if __name__ == "__main__":
    given = Path(sys.argv[1])
    given.mkdir(parents=True, exist_ok=True)
    rows.run("caffe", {"voc-fcn8s": partial(fcn8s, given), "reading": partial(reading, given)}, sys.argv[2:])
