"""Which classifiers become fully convolutional, and are they still the same?

python benchmarks/surgery.py                 every torchvision classifier, the smallest of every family of timm
python benchmarks/surgery.py NAME ...        these alone (timm:NAME, torchvision:NAME)

Random weights, stirred until every one of them counts. Writes benchmarks/results/surgery.json as it goes, one row a
network; rows of this commit are not measured again. A network of attention, of mixing over fixed positions, or of
recurrence along rows and columns is listed with the reason, and is not counted among the convolutional ones.
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
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from fullconv.base.errors import FullconvError
from fullconv.base.files import read_json, write_json
from fullconv.nets.bundle import versions
from fullconv.nets.classifiers import Classifier, build_classifier
from fullconv.nets.costs import layers_of
from fullconv.nets.graph import Size
from fullconv.nets.places import ATTENTION, UNLIKE
from fullconv.nets.proof import seeded
from fullconv.nets.surgery import Converted, convolutionalize, rewritten

RESULTS = Path(__file__).parent / "results" / "surgery.json"
FULLY_CONNECTED = (nn.Linear, nn.Flatten, nn.Unfold)
FULLY_CONNECTED_STEPS = ("linear", "flatten", "unfold")


BEFORE = "tf|test|legacy|nf|dm|eca|ese|gc|bat|wide"
FAMILY = re.compile(rf"(?:(?:{BEFORE})_)?[a-z]+(?:\d(?=[a-z]{{3}})[a-z]+|(?<=v)\d)?")
"""The part of a network's name that is its family's: tf_efficientnetv2 of tf_efficientnetv2_b0, cs3darknet, resnet."""

LEAST_SPREAD = 1e-3
"""Two photos' scores differ by this share of the largest score, or more: else their equality would say little."""


def main(names: list[str]) -> None:
    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else "")
    old = read_json(RESULTS) if RESULTS.exists() else {"rows": []}
    document = {"machine": machine(), "versions": versions(), "command": "python benchmarks/surgery.py"}
    rows, families = old["rows"], old.get("families")
    if not names and (families is None or old["versions"] != versions()):
        families = every_family()
    rows = [row for row in rows if names or row["model"] in families]
    for name in names or families:
        if any(row["model"] == name and row["commit"] == commit for row in rows):
            continue
        row = {"model": name, "commit": commit} | measured(name)
        rows = sorted([old for old in rows if old["model"] != name] + [row], key=lambda one: one["model"])
        write_json(RESULTS, document | {"families": families, "rows": rows})
        print(sentence(row), flush=True)
        gc.collect()


def every_family() -> list[str]:
    """Every classifier of torchvision; of timm the smallest network of each family of each module (takes minutes)."""
    own = torchvision.models.list_models(module=torchvision.models)
    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for module in timm.list_modules():
        for model in timm.list_models(module=module):
            found = FAMILY.match(model)
            family = (module, found.group() if found else model)
            smallest[family] = min(smallest.get(family, (10**12, "")), (parameters(model), model))
    return [f"torchvision:{name}" for name in own] + sorted(f"timm:{name}" for _, name in smallest.values())


def parameters(model: str) -> int:
    """How many, without memory for them."""
    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(model).parameters())


def measured(name: str) -> dict[str, Any]:
    """One network: converted or why not, how far apart the two are, what the dense pass costs."""
    outline = outline_of(name)
    window = window_of(outline)
    try:
        rewritten(outline.network, window)
    except FullconvError as error:
        kind, why = unlike(error.found), error.found
        if not kind and attends(outline.network, window):
            kind, why = "attention", f"{ATTENTION}, by scaled_dot_product_attention; {why}"
        return {"converted": False, "attention": kind, "why": why}
    network = build_classifier(name, weights="none").network
    pictures = stirred(network, window)
    began = time.perf_counter()
    converted = convolutionalize(network, window, photos=pictures)
    seconds = time.perf_counter() - began
    y, x = converted.geometry.stride
    size = (window[0] + 2 * int(y), window[1] + 2 * int(x))
    derived = sum(layer.multiply_adds for layer in layers_of(converted.network, size))
    counted = counted_in(converted.network, size)
    spread, left = spread_of(network, pictures), left_connected(converted)
    record = converted.proof.to_json()
    faults = {
        f"left in the graph: {', '.join(left[:5])}": bool(left),
        f"the difference is {record['at_window']['relative_difference']:.1e}": not converted.proof.holds,
        f"two photos differ by {spread:.1e} only": not spread >= LEAST_SPREAD,
        "the multiply-adds differ": abs(counted / derived - 1) > 0.02,
    }
    return {
        "converted": not any(faults.values()),
        "attention": "",
        "why": "; ".join(fault for fault, there in faults.items() if there),
        "seconds": round(seconds, 2),
        "window": list(window),
        "relative_difference": record["at_window"]["relative_difference"],
        "spread": spread,
        "stride": record["stride"],
        "offset": record["offset"],
        "receptive_field": record["receptive_field"],
        "multiply_adds": {"size": list(size), "derived": derived, "counted": counted},
    }


def outline_of(name: str) -> Classifier:
    """The classifier without memory for its weights, where it can be built so."""
    try:
        with torch.device("meta"):
            return build_classifier(name, weights="none")
    except NotImplementedError:  # torchvision's RegNets read numbers off their tensors while they are built
        return build_classifier(name, weights="none")


def window_of(classifier: Classifier) -> Size:
    """The size that the network was built for, where it says so: torchvision names that of its last weights."""
    side = getattr(classifier.network, "image_size", None)
    return (side, side) if isinstance(side, int) else classifier.window


def unlike(found: str) -> str:
    """What makes the network no convolutional one: "attention", "positions", "recurrence"; "" if nothing does."""
    return next((kind.partition(":")[0] for kind in UNLIKE if kind in found), "")


class Attention(TorchFunctionMode):
    """Notes whether attention is computed while it is on."""

    seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen |= func is nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def attends(network: nn.Module, window: Size) -> bool:
    """For a network whose steps cannot be traced: whether it runs attention."""
    with Attention() as attention, torch.no_grad():
        network(torch.empty(2, 3, *window, device=next(network.parameters()).device))
    return attention.seen


@torch.no_grad()
def stirred(network: nn.Module, window: Size) -> Tensor:
    """Give every weight a part in the scores, in place. Returns: the photos that this was done with.

    As they are drawn, many networks hardly look at the photo: branches end in zeros, scales are 1e-6, and what batch
    norm does not bring back dies out. Here constants are drawn anew and batch norm has the statistics of the photos.
    """
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not bool((parameter == parameter.flatten()[0]).all()):
            continue
        if parameter.dim() > 1:  # weights that start at zero
            parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        else:  # biases start at zero; scales at one, or near zero, as a gain of one number does
            bias = parameter.numel() > 1 and not parameter.any()
            parameter.normal_(0.0 if bias else 1.0, 0.1)
    pictures = seeded(window, nn.Conv2d(3, 1, 1))
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    network(pictures)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum
    return pictures


@torch.no_grad()
def spread_of(network: nn.Module, pictures: Tensor) -> float:
    """How far apart the scores of the photos are, over the largest score."""
    scores = network(pictures)
    scores = scores if isinstance(scores, Tensor) else scores[0]
    return float((scores[0] - scores[1]).abs().max() / scores.abs().max())


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
        return f"{row['model']:<48} {row['attention'] or 'NOT CONVERTED'}: {row['why'][:150]}"
    adds = row["multiply_adds"]
    said = f"{row['relative_difference']:.1e}  {adds['counted'] / adds['derived']:.3f}  {row['seconds']:.1f} s"
    return f"{row['model']:<48} {'yes' if row['converted'] else 'NO '} {said} {row['why'][:100]}"


if __name__ == "__main__":
    main(sys.argv[1:])
