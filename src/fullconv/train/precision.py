"""What numbers a training step is computed in. Road: train."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 where the recipe asks for it."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def quick_bfloat16(device: torch.device) -> bool:
    """Whether torch computes in bfloat16 with instructions made for it; without, a step takes twenty times as long
    as in float32 and more (docs/log.md).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


class Float32(TorchFunctionMode):
    """Inside this context what would be brought to bfloat16 by `Tensor.to(dtype=...)` is brought to float32."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.to and kwargs.get("dtype") is torch.bfloat16:
            kwargs = kwargs | {"dtype": torch.float32}
        return func(*args, **kwargs)
