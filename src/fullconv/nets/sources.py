"""A classifier from whatever a person names: a known name, an ONNX file, their own code. Road: nets, after classifiers.

In: MODEL, as the command and Python take it. Out: Classifier.

    timm:NAME   torchvision:NAME   embedded:NAME   NAME     see classifiers.py
    FILE.onnx                                               with its own weights
    FILE.prototxt:FILE.caffemodel                           a Caffe classifier
    package.module:Class(JSON arguments)@WEIGHTS            arguments and weights may be left out
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fullconv.base import seeds
from fullconv.base.errors import BundleError, FullconvError, NetError, UsageError, WeightsError
from fullconv.nets.caffe_network import CAFFE_PHOTO, read_caffe
from fullconv.nets.classifiers import BUILDERS, KNOWN, Classifier, build_classifier, load_all, read_state, unwrapped
from fullconv.nets.graph import Size
from fullconv.nets.onnx_network import read_onnx
from fullconv.nets.preparation import EXAMPLE, Preparation, from_unit_range

WINDOW = (224, 224)
"""Of a foreign network where nobody says another, and its preparation likewise."""
IMAGENET = from_unit_range((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

FORMS = "timm:NAME, torchvision:NAME, embedded:NAME, FILE.onnx, FILE.prototxt:FILE.caffemodel or package.module:Class"
CAFFE = {".prototxt", ".caffemodel"}
CODE = re.compile(
    r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)(\((?P<arguments>.*)\))?(@(?P<weights>.+))?", re.S
)


@dataclass(frozen=True)
class Code:
    """`package.module:Class(JSON arguments)@WEIGHTS`, taken apart."""

    module: str
    name: str
    positional: tuple[Any, ...]
    named: dict[str, Any]
    weights: Path | None

    @property
    def spoken(self) -> str:
        return f"{self.module}:{self.name}"


def read_classifier(
    model: str,
    *,
    weights: str = "embedded",
    class_names: Path | None = None,
    preparation: Path | None = None,
    window: Size | None = None,
) -> Classifier:
    """A classifier from what a person names.

    Args:
        model: see the top of this module.
        weights: of a known name, as `build_classifier` takes them; of a class, a file in place of `@WEIGHTS`.
        class_names: a file with one name a line, or a JSON list: in the order of the scores.
        preparation: a JSON file with channel_order, mean and scale. Of a foreign network ImageNet's is taken without.
        window: (rows, columns); None keeps the network's own, or for a foreign one the size that its ONNX file fixes,
            or 224x224.
    Returns: Classifier, in evaluation mode.
    Raises: UsageError, WeightsError or NetError: the name, file, class or arguments are wrong; the weights do not fit;
        the network does not give one score vector a photo, or another number of scores than there are class names.
    """
    names = None if class_names is None else read_names(class_names)
    prepared = None if preparation is None else read_preparation(preparation)
    if is_foreign(model):
        classifier = foreign_classifier(model, weights, window)
        if prepared is None and classifier.preparation == IMAGENET:
            classifier = replace(classifier, weights=classifier.weights + "; ImageNet's mean and deviation")
    else:
        classifier = build_classifier(model, weights=weights)
    classifier = replace(
        classifier,
        window=window or classifier.window,
        preparation=prepared or classifier.preparation,
        class_names=names or classifier.class_names,
    )
    check_numbers(classifier)
    if is_foreign(model) or names is not None or window is not None:
        check_scores(classifier, class_names)
    return classifier


def is_foreign(model: str) -> bool:
    """Is it an ONNX file or a person's own class, which carry their weights themselves?

    Raises: UsageError for what is neither these nor a name.
    """
    suffixes = {Path(part).suffix.lower() for part in parts_of(model)}
    if suffixes == {".onnx"} or suffixes & CAFFE:
        return True
    found = CODE.fullmatch(model)
    if found is None and (":" in model or Path(model).exists()):
        what = "a folder" if Path(model).is_dir() else "a file" if Path(model).exists() else "none of these"
        raise UsageError(f"MODEL is {FORMS}", f"{model!r} is {what}", "embedded:efficientnet_lite0")
    return found is not None and not means_known(found["module"], found["name"])


def parts_of(model: str) -> list[str]:
    """What stands between colons; a drive's colon is part of its path."""
    return re.split(r"(?<!^[A-Za-z])(?<!:[A-Za-z]):", model)


def means_known(source: str, name: str) -> bool:
    """Is it meant as a known name, perhaps misspelt (tim:resnet18)?"""
    if source in BUILDERS:
        return True
    near = bool(difflib.get_close_matches(source, BUILDERS, 1, 0.8))
    return (near or any(known(name) for known in KNOWN.values())) and not in_reach(source)


def in_reach(module: str) -> bool:
    with current_folder_importable():
        return importlib.util.find_spec(module.partition(".")[0]) is not None


def foreign_classifier(model: str, weights: str, window: Size | None) -> Classifier:
    if model.lower().endswith(".onnx"):
        if weights != "embedded":
            raise UsageError("an ONNX file has its own weights", f"{model} with --weights {weights}", "no --weights")
        path = Path(model)
        read, size = read_onnx(path, size=window or WINDOW)
        return Classifier(read, path.name, size, IMAGENET, None, f"its own, of {path.name}")
    if {Path(part).suffix.lower() for part in parts_of(model)} & CAFFE:
        return caffe_classifier(model, weights)
    code = parsed(model)
    if weights in ("hub", "none") and (weights == "hub" or code.weights):
        raise UsageError(
            "a class has random weights, or those of a file", f"{model} with --weights {weights}", f"{code.spoken}@FILE"
        )
    if weights not in ("embedded", "none"):
        if code.weights:
            raise UsageError(
                "weights are named once", f"{model} and --weights {weights}", f"{code.spoken} --weights {weights}"
            )
        code = replace(code, weights=Path(weights))
    network = own_network(code)
    said = "random weights" if code.weights is None else f"weights of {code.weights.name}"
    return Classifier(network.eval(), code.spoken, WINDOW, IMAGENET, None, said)


def caffe_classifier(model: str, weights: str) -> Classifier:
    parts = [Path(part) for part in parts_of(model)]
    if [part.suffix.lower() for part in parts] != [".prototxt", ".caffemodel"] or weights != "embedded":
        raise UsageError(
            "a Caffe classifier is two files, its net and its weights",
            f"{model}" + ("" if weights == "embedded" else f" with --weights {weights}"),
            "deploy.prototxt:weights.caffemodel",
        )
    read, size, without = read_caffe(*parts)
    fresh = f", which has none for {', '.join(without)}" if without else ""
    said = f"its own, of {parts[1].name}{fresh}; Caffe's mean"
    return Classifier(read, parts[0].name, size, CAFFE_PHOTO, None, said)


# ---------------------------------------------------------------------- a person's own code


def parsed(model: str) -> Code:
    """Raises: UsageError where the arguments are no JSON."""
    found = CODE.fullmatch(model)
    assert found is not None
    positional, named = arguments(found["arguments"] or "", model)
    weights = None if found["weights"] is None else Path(found["weights"])
    return Code(found["module"], found["name"], positional, named, weights)


def arguments(text: str, model: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`{"classes": 3}` -> named; `3, "small"` -> positional."""
    try:
        values = json.loads(f"[{text}]")
    except ValueError as error:
        raise UsageError(
            "arguments of a class are JSON: an object of named ones, or values with commas between",
            f"({text}) of {model}: {error}",
            """'mynets.small:Net({"classes": 3})' or 'mynets.small:Net(3)'""",
        ) from error
    if len(values) == 1 and isinstance(values[0], dict):
        return (), values[0]
    return tuple(values), {}


def own_network(code: Code) -> nn.Module:
    """The network that a person's class makes; random weights from the seed 0 where none are named.

    Raises: UsageError where the module or class is not there; NetError where it makes no network; WeightsError.
    """
    state = None if code.weights is None else read_state(code.weights)
    with current_folder_importable(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(0, "classifier", code.module, code.name))
        make = found_in(imported(code), code)
        try:
            network = make(*code.positional, **code.named)
        except FullconvError:
            raise
        except (Exception, SystemExit) as error:  # whatever their constructor raises
            given = ", ".join([*map(json.dumps, code.positional), *(f"{k}={v!r}" for k, v in code.named.items())])
            raise NetError(
                "a class of MODEL makes a network from the arguments given",
                f"{code.spoken}({given}): {said(error)}",
                f"""'{code.spoken}({{"name": value}})', with the arguments that its __init__ takes""",
            ) from error
    if not isinstance(network, nn.Module):
        raise NetError(
            "a class of MODEL makes a torch.nn.Module",
            f"{code.spoken} makes a {type(network).__module__}.{type(network).__name__}",
            "name the class of the network itself",
        )
    if state is not None:
        load_all(network, unwrapped(state, network), str(code.weights), code.spoken)
    return network


def imported(code: Code) -> Any:
    try:
        return importlib.import_module(code.module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{code.module}.".startswith(f"{error.name}."):
            raise not_imported(code, error) from error
        raise UsageError(
            f"MODEL is {FORMS}; a module lies in the current folder or is installed",
            f"no module is called {error.name!r} (in {Path.cwd()} or among what is installed)",
            f"cd to the folder that holds {code.module.partition('.')[0]}, or check the name",
        ) from error
    except FullconvError:
        raise
    except (Exception, SystemExit) as error:  # whatever their module raises; a script may end in sys.exit()
        raise not_imported(code, error) from error


def not_imported(code: Code, error: BaseException) -> NetError:
    return NetError(
        "a module of MODEL can be imported", f"{code.module}: {said(error)}", f"python -c 'import {code.module}'"
    )


def found_in(module: Any, code: Code) -> Callable[..., Any]:
    made = getattr(module, code.name, None)
    if callable(made):
        return made  # type: ignore[no-any-return]
    classes = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)]
    near = difflib.get_close_matches(code.name, classes, 3, 0.5) or classes[:5]
    raise UsageError(
        "a class of MODEL is in its module",
        f"{code.module} has no class {code.name!r}",
        " or ".join(f"{code.module}:{name}" for name in near) or f"define class {code.name} in {code.module}",
    )


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """As `python -m` has it, for a while."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


# ---------------------------------------------------------------------- class names, preparation, number of scores


def read_names(path: Path) -> tuple[str, ...]:
    """One name a line, or a JSON list; names may be there twice, as ImageNet's are."""
    text = text_of(path, "--class-names")
    try:
        names = json.loads(text) if path.suffix.lower() == ".json" else [n.strip() for n in text.rstrip().splitlines()]
    except ValueError as error:
        names = str(error)
    if isinstance(names, list) and names and all(isinstance(name, str) and name for name in names):
        return tuple(names)
    empty = names.index("") + 1 if isinstance(names, list) and "" in names else None
    raise UsageError(
        "class names are one a line, or a JSON list of them",
        f"{path}: " + (f"line {empty} is empty" if empty else names if isinstance(names, str) else "it holds others"),
        'for example ["cat", "dog"]',
    )


def read_preparation(path: Path) -> Preparation:
    text = text_of(path, "--preparation")
    try:
        return Preparation.from_json(json.loads(text))
    except BundleError as error:
        raise UsageError(error.must, f"{path}: {error.found}", error.try_) from error
    except ValueError as error:
        raise UsageError("a preparation is a JSON file", f"{path}: {error}", EXAMPLE) from error


def text_of(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} names a text file", f"{path}: {said(error)}", "check the path") from error


def check_numbers(classifier: Classifier) -> None:
    """Raises: WeightsError naming the first weight that holds NaN or infinity."""
    for name, weight in classifier.network.named_parameters():
        if not bool(weight.isfinite().all()):
            wrong = weight.numel() - int(weight.isfinite().sum())
            raise WeightsError(
                "weights are finite numbers",
                f"'{name}' of {classifier.name} ({classifier.weights}) has NaN or infinity {wrong:,} times",
                "weights of a training that went well, or of a step before it went astray",
            )


def check_scores(classifier: Classifier, class_names: Path | None) -> None:
    """Raises: NetError if the network gives no score vector at its window; UsageError for another count of names."""
    count = scores_at(classifier)
    names = classifier.class_names
    if names is not None and len(names) != count:
        raise UsageError(
            f"each of the {count} scores of {classifier.name} has one class name",
            f"{class_names or 'it'} has {len(names)}",
            f"a file of {count} lines, in the order of the scores",
        )


def scores_at(classifier: Classifier) -> int:
    """How many scores the network gives a photo of its window's size."""
    rows, columns = classifier.window
    try:
        with torch.no_grad():
            output = classifier.network(torch.zeros(2, 3, rows, columns))
    except (Exception, SystemExit) as error:  # whatever their network raises
        raise NetError(
            "a classifier takes photos (N, 3, H, W) of its window's size",
            f"{classifier.name} at {rows}x{columns}: {said(error)}",
            "--window HxW, the size that the network was trained at",
        ) from error
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    if len(shape) < 2 or shape[0] != 2 or any(length != 1 for length in shape[2:]):
        found = f"a tensor {shape}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise NetError(
            "a classifier gives one score vector a photo, (N, K)",
            f"{classifier.name} gives {found} for two photos of {rows}x{columns}",
            "--window HxW if it was trained at another size; else a network that gives (N, K)",
        )
    return shape[1]
