"""Which classifiers become fully convolutional, and are they still the same?

python benchmarks/surgery.py                 every torchvision classifier, the smallest of every family of timm
python benchmarks/surgery.py NAME ...        these alone (timm:NAME, torchvision:NAME)

Random weights. Writes benchmarks/results/surgery.json as it goes, one row a network; rows of this commit are not
measured again. A network of attention or of mixing over fixed positions is listed with the reason, and is not counted
among the convolutional ones.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from road import git, machine
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fullconv.base.errors import FullconvError
from fullconv.base.files import read_json, write_json
from fullconv.nets.bundle import versions
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.costs import layers_of
from fullconv.nets.places import ATTENTION
from fullconv.nets.surgery import Converted, convolutionalize

RESULTS = Path(__file__).parent / "results" / "surgery.json"
FULLY_CONNECTED = (nn.Linear, nn.Flatten, nn.Unfold)
FULLY_CONNECTED_STEPS = ("linear", "flatten", "unfold")


def main(names: list[str]) -> None:
    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else "")
    rows = read_json(RESULTS)["rows"] if RESULTS.exists() else []
    for name in names or every_family():
        if any(row["model"] == name and row["commit"] == commit for row in rows):
            continue
        row = {"model": name, "commit": commit} | measured(name)
        rows = sorted([old for old in rows if old["model"] != name] + [row], key=lambda one: one["model"])
        document = {"machine": machine(), "versions": versions(), "command": "python benchmarks/surgery.py"}
        write_json(RESULTS, document | {"rows": rows})
        print(sentence(row), flush=True)
        gc.collect()


def every_family() -> list[str]:
    """Every classifier of torchvision; of timm the smallest network of each family of each module."""
    own = torchvision.models.list_models(module=torchvision.models)
    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for module in timm.list_modules():
        for model in timm.list_models(module=module):
            weights = parameters(model)
            family = (module, re.sub(r"[\d_].*", "", model))
            if weights < smallest.get(family, (10**12, ""))[0]:
                smallest[family] = (weights, model)
    return [f"torchvision:{name}" for name in own] + sorted(f"timm:{name}" for _, name in smallest.values())


def parameters(model: str) -> int:
    """How many, without memory for them where the network can be built so."""
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(model).parameters())
    except Exception:  # networks that read numbers off their tensors while they are built
        return sum(p.numel() for p in timm.create_model(model).parameters())


def measured(name: str) -> dict[str, Any]:
    """One network: converted or why not, how far apart the two are, what the dense pass costs."""
    classifier = build_classifier(name, weights="none")
    began = time.perf_counter()
    try:
        converted = convolutionalize(classifier.network, classifier.window)
    except FullconvError as error:
        return {"converted": False, "attention": ATTENTION in error.found, "why": error.found}
    seconds = time.perf_counter() - began
    y, x = converted.geometry.stride
    size = (classifier.window[0] + 2 * int(y), classifier.window[1] + 2 * int(x))
    derived = sum(layer.multiply_adds for layer in layers_of(converted.network, size))
    counted = counted_in(converted.network, size)
    left = left_connected(converted)
    record = converted.proof.to_json()
    return {
        "converted": not left and abs(counted / derived - 1) <= 0.02,
        "attention": False,
        "why": f"left in the graph: {', '.join(left[:5])}" if left else "",
        "seconds": round(seconds, 2),
        "window": list(classifier.window),
        "relative_difference": record["at_window"]["relative_difference"],
        "stride": record["stride"],
        "offset": record["offset"],
        "receptive_field": record["receptive_field"],
        "multiply_adds": {"size": list(size), "derived": derived, "counted": counted},
    }


def counted_in(network: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds of one pass, as torch counts them while it runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.randn(1, 3, *size))
    return int(counter.get_total_flops()) // 2


def left_connected(converted: Converted) -> list[str]:
    """What is still fully connected, flattened or unfolded in the graph of the dense pass."""
    network = converted.network
    layers = [name for name, layer in network.named_modules() if isinstance(layer, FULLY_CONNECTED)]
    words = [str(n.target if n.op == "call_method" else getattr(n.target, "__name__", "")) for n in network.graph.nodes]
    steps = [n.name for n, word in zip(network.graph.nodes, words, strict=True) if word in FULLY_CONNECTED_STEPS]
    return layers + steps


def sentence(row: dict[str, Any]) -> str:
    if "relative_difference" not in row:
        return f"{row['model']:<48} {'attention' if row['attention'] else 'NOT CONVERTED'}: {row['why'][:150]}"
    adds = row["multiply_adds"]
    said = f"{row['relative_difference']:.1e}  {adds['counted'] / adds['derived']:.3f}  {row['seconds']:.1f} s"
    return f"{row['model']:<48} {'yes' if row['converted'] else 'NO '} {said} {row['why'][:100]}"


if __name__ == "__main__":
    main(sys.argv[1:])
