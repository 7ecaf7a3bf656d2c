"""Checkpoints: how a stage goes on. Road: train. One safetensors file, whole or not at all, no pickle."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from fullconv.base.files import write_bytes

SCHEMA = "fullconv.checkpoint/1"


def write_checkpoint(
    path: Path, *, step: int, key: str, network: nn.Module, optimiser: Optimizer, average: dict[str, Tensor]
) -> None:
    """Write weights, optimiser state and the running mean after `step`; `key` names what is being trained."""
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in average.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, metadata={"schema": SCHEMA, "step": json.dumps(step), "key": key}))


def read_checkpoint(
    path: Path, *, key: str, network: nn.Module, optimiser: Optimizer, average: dict[str, Tensor]
) -> int:
    """Restore what `write_checkpoint` wrote, in place.

    Returns: the step it was written after; 0, with nothing changed, if there is none for this key.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("schema") != SCHEMA or metadata.get("key") != key:
                return 0
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (FileNotFoundError, SafetensorError):
        return 0
    network.load_state_dict(_part(tensors, "network/"))
    with torch.no_grad():
        for name, tensor in _part(tensors, "average/").items():
            average[name].copy_(tensor)
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimiser/").items():
        index, field = name.split("/")
        state.setdefault(int(index), {})[field] = _laid_like(parameters[int(index)], tensor)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(metadata["step"])


def _laid_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The tensor in the parameter's memory layout: fused optimisers walk both in memory order, whatever their
    strides say.
    """
    return tensor if tensor.shape != parameter.shape else torch.empty_like(parameter).copy_(tensor)


def checkpoint_step(path: Path) -> int:
    """The step a checkpoint was written after; 0 if there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {}).get("step", 0))
    except (FileNotFoundError, SafetensorError):
        return 0


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
