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
    *("set_random_seed", "layer_type_list"),
)

__all__ = [*_FACE, "io"]

if TYPE_CHECKING:
    from fullconv.caffe import io
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
        layer_type_list,
        set_device,
        set_mode_cpu,
        set_mode_gpu,
        set_random_seed,
    )


def __getattr__(name: str) -> Any:
    if name == "io":
        return importlib.import_module("fullconv.caffe.io")
    if name not in _FACE:
        raise AttributeError(f"module 'fullconv.caffe' has no attribute {name!r}")
    value = getattr(importlib.import_module("fullconv.caffe.face"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
