"""Caffe files without Caffe: read, run, trained and written, by the names of pycaffe.

    import fullconv.caffe as caffe

Nets run on the processor, by torch. docs/explanation/caffe.md says what they compute.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# What each public name is defined in, loaded when first asked for: files are read without torch.
_FACE = (
    *("Net", "Blob", "TRAIN", "TEST", "SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver"),
    *("AdaDeltaSolver", "AdamSolver", "get_solver", "set_mode_cpu", "set_mode_gpu", "set_device"),
    *("set_random_seed", "layer_type_list", "init_log", "log", "set_logging_disabled"),
)
_MODULES = ("io", "proto")

# Names of pycaffe that are not here, and what does their work.
_ELSEWHERE = {
    "Detector": "crop the photo to each window, and give the crops to caffe.Classifier",
    "Layer": "a Python layer's code is not run: give its tops as inputs, and fill net.blobs[...].data",
    "NCCL": "nets run in one process: leave it out",
    "NetSpec": "write the prototxt as text, and give its path to caffe.Net",
    "coord_map": "fullconv.caffe.coordinates tells the offsets of Crop layers",
    "draw": "`fullconv caffe info` shows a net's layers as a table",
    "layers": "write the prototxt as text, and give its path to caffe.Net",
    "params": "write the prototxt as text, and give its path to caffe.Net",
    "to_proto": "write the prototxt as text, and give its path to caffe.Net",
}

__all__ = [*_FACE, "Classifier", *_MODULES]

if TYPE_CHECKING:
    from fullconv.caffe import io, proto
    from fullconv.caffe.classifier import Classifier
    from fullconv.caffe.face import (
        TEST,
        TRAIN,
        AdaDeltaSolver,
        AdaGradSolver,
        AdamSolver,
        Blob,
        NesterovSolver,
        Net,
        RMSPropSolver,
        SGDSolver,
        get_solver,
        init_log,
        layer_type_list,
        log,
        set_device,
        set_logging_disabled,
        set_mode_cpu,
        set_mode_gpu,
        set_random_seed,
    )


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fullconv.caffe.{name}")
    if name in _ELSEWHERE:
        raise AttributeError(f"fullconv.caffe has no {name!r}: {_ELSEWHERE[name]}")
    if name not in __all__:
        raise AttributeError(f"module 'fullconv.caffe' has no attribute {name!r}")
    home = "classifier" if name == "Classifier" else "face"
    value = getattr(importlib.import_module(f"fullconv.caffe.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
