"""A Caffe net by each way that can run it, for benchmarks/caffe.py.

python benchmarks/caffe_ways.py WAY PROTOTXT WEIGHTS ROWS COLUMNS ROWS COLUMNS

One way alone, on photos of two sizes: seconds of first passes, memory.

Imports no more than the way itself, so that the memory is its own.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

THREADS = 2
Run = Callable[[np.ndarray], np.ndarray]  # (1, 3, H, W) -> the net's scores


def fullconv(prototxt: Path, weights: Path, precision: str = "fp32") -> Run:
    import torch

    import fullconv.caffe as caffe

    torch.set_num_threads(THREADS)
    net = caffe.Net(prototxt, weights, caffe.TEST, precision=precision)

    def run(photo: np.ndarray) -> np.ndarray:
        net.blobs["data"].reshape(*photo.shape)
        net.blobs["data"].data[...] = photo
        (found,) = net.forward().values()
        return found

    return run


def fullconv_bf16(prototxt: Path, weights: Path) -> Run:
    return fullconv(prototxt, weights, "bf16")


def opencv(prototxt: Path, weights: Path) -> Run:
    import cv2

    cv2.setNumThreads(THREADS)
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))

    def run(photo: np.ndarray) -> np.ndarray:
        net.setInput(photo)
        found: np.ndarray = net.forward()
        return found

    return run


def onnxruntime(prototxt: Path, weights: Path) -> Run:
    """The file that `fullconv caffe convert --onnx` writes, beside the weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(weights.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(photo: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {name: photo})[0]
        return found

    return run


MODULES = {"OpenCV": "cv2", "onnxruntime": "onnxruntime"}
WAYS = {"fullconv": fullconv, "fullconv bf16": fullconv_bf16, "OpenCV": opencv, "onnxruntime": onnxruntime}


def photo_of(size: tuple[int, int]) -> np.ndarray:
    """(1, 3, H, W) of smooth noise, with the range that a photo without its mean has."""
    rows, columns = size
    coarse = np.random.default_rng(0).normal(0, 60, (1, 3, rows // 8 + 2, columns // 8 + 2))
    return np.repeat(np.repeat(coarse, 8, 2), 8, 3)[:, :, :rows, :columns].astype(np.float32)


def peak_gb() -> float:
    """Of this program: what ran in the process before it was started does not count, as it would in getrusage."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) * 1024 / 1e9, 3)


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 3)


if __name__ == "__main__":
    way, prototxt, weights, *sides = sys.argv[1:]
    runs: list[Run] = []
    found = {"import_seconds": seconds_of(lambda: importlib.import_module(MODULES.get(way, "fullconv.caffe.face")))}
    found["imported_gb"] = peak_gb()
    runs.append(WAYS[way](Path(prototxt), Path(weights)))
    found["read_peak_gb"] = peak_gb()
    photo, other = photo_of((int(sides[0]), int(sides[1]))), photo_of((int(sides[2]), int(sides[3])))
    found["first_seconds"] = seconds_of(lambda: runs[0](photo))
    runs[0](photo)
    found["peak_gb"] = peak_gb()
    found["new_size_seconds"] = seconds_of(lambda: runs[0](other))
    found["other_size_seconds"] = seconds_of(lambda: runs[0](other))
    found["both_sizes_peak_gb"] = peak_gb()
    print(json.dumps(found))
