"""A bundle: one folder that holds a segmenter and all that is needed to use it. Road: nets, last.

    card.json            what it is: label space, preparation, architecture, geometry, recipe, scores, versions
    model.safetensors    its weights
    program.pt2          the steps of its body, only where the classifier was a user's own class

In: a `SegmentationNet`. Out: the folder, and back. No pickle is written or read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from fullconv.base.errors import BundleError
from fullconv.base.files import read_json, write_bytes, write_json
from fullconv.geometry.geometry import exact
from fullconv.labels.space import LabelSpace
from fullconv.nets.alignment import Same
from fullconv.nets.body import Body, Tap
from fullconv.nets.caffe_segmenter import caffe_segmenter_from
from fullconv.nets.heads import network_on
from fullconv.nets.prediction import Photo, Prediction, predict_photo
from fullconv.nets.preparation import Preparation
from fullconv.nets.program import Program, read_program, write_program
from fullconv.nets.segmentation import SegmentationNet, build_from
from fullconv.nets.sharp import Sharp, SharpHead

SCHEMA = "fullconv.bundle/1"
CARD, WEIGHTS, PROGRAM = "card.json", "model.safetensors", "program.pt2"
BODY = "network.body.network."
PACKAGES = ("fullconv", "torch", "torchvision", "timm", "numpy")


@dataclass(frozen=True)
class Bundle:
    """A segmenter that was loaded: the network, its classes and preparation, and its card."""

    net: SegmentationNet
    label_space: LabelSpace
    preparation: Preparation
    card: dict[str, Any]

    def predict(self, image: Photo, *, precision: str = "fp32") -> Prediction:
        """Segment one photo (a file, a Pillow image, an array) at its own size, in "fp32" or "bf16"."""
        return predict_photo(self.net, image, precision=precision)


def save_bundle(
    net: SegmentationNet,
    folder: str | Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    samples: Mapping[str, Any] | None = None,
) -> Path:
    """Write a segmenter as a bundle; the card comes last, so that a bundle with a card is whole.

    Args:
        net: the segmenter; it is not changed.
        folder: made if it is not there; a bundle in it is replaced.
        recipe: how it was trained, for the card.
        scores: what it scored, for the card.
        samples: what it learned from, for the card.
    Returns: the folder.
    Raises: BundleError if the network is a user's own and its steps cannot be written down; DiskFull.
    """
    folder = Path(folder)
    weights = safetensors.torch.save(weights_of(net))
    architecture, program = net.architecture, None
    if architecture is None or (architecture["backbone"] is None and "prototxt" not in architecture):
        body, program = body_card(net)
        architecture = {**(architecture or {}), "body": body}
    card = {
        "schema": SCHEMA,
        "label_space": net.label_space.to_json(),
        "preparation": net.preparation.to_json(),
        "architecture": architecture,
        "geometry": geometry_card(net),
        "recipe": None if recipe is None else dict(recipe),
        "scores": None if scores is None else dict(scores),
        "samples": None if samples is None else dict(samples),
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(weights).hexdigest()},
    }
    for old in (CARD, PROGRAM):
        (folder / old).unlink(missing_ok=True)
    write_bytes(folder / WEIGHTS, weights)
    if program is not None:
        write_bytes(folder / PROGRAM, program)
    write_json(folder / CARD, card)
    return folder


def load(folder: str | Path) -> Bundle:
    """Read a bundle, ready to predict.

    Raises: BundleError if the folder is not a bundle, is of another schema, or its weights are cut off or do not fit.
    """
    folder = Path(folder)
    card = read_card(folder)
    weights = read_weights(folder / WEIGHTS)
    try:
        label_space = LabelSpace.from_json(card["label_space"])
        preparation = Preparation.from_json(card["preparation"])
        architecture = card["architecture"]
        if "prototxt" in architecture:
            net = caffe_segmenter_from(architecture, label_space=label_space, preparation=preparation)
        elif architecture["backbone"] is None:
            net = on_program(architecture, folder, label_space=label_space, preparation=preparation)
            weights = {name.replace(BODY, f"{BODY}steps."): tensor for name, tensor in weights.items()}
        else:
            net = build_from(architecture, label_space=label_space, preparation=preparation)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BundleError(
            "card.json names label_space, preparation and architecture as fullconv writes them",
            f"{folder / CARD}: {type(error).__name__}: {error}",
            "use the card that was written with these weights",
        ) from error
    set_weights(net, weights, folder / WEIGHTS)
    check_hash(card, folder)
    return Bundle(net.eval(), label_space, preparation, card)


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a bundle. Raises: BundleError if there is none, it is not JSON, or of another schema."""
    must = f"a bundle is a folder with {CARD} and {WEIGHTS}"
    if not (folder / CARD).is_file():
        inside = folder / "bundle"
        found = f"{folder} has no {CARD}" if folder.is_dir() else f"{folder} is not a folder"
        here = (
            f"{inside} (the bundle of this run)"
            if (inside / CARD).is_file()
            else "the folder RUN/bundle that `fullconv run` wrote"
        )
        raise BundleError(must, found if folder.exists() else f"{folder} is not there", here)
    try:
        card = read_json(folder / CARD)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{CARD} is one JSON document", f"{folder / CARD}: {error}", "restore the card, or save the bundle anew"
        ) from error
    schema = card.get("schema") if isinstance(card, dict) else None
    if str(schema).startswith("fullconv.converted/"):
        raise BundleError(
            must,
            f"{folder} is a converted classifier ({card.get('model')}), as `fullconv convert` writes it: no bundle",
            f"in Python: fc.load_converted({str(folder)!r}).scores(photo); or name the classifier itself as MODEL",
        )
    if schema != SCHEMA:
        wrote = card.get("versions", {}).get("fullconv", "unknown") if isinstance(card, dict) else "unknown"
        raise BundleError(
            f"this version of fullconv reads bundles of schema {SCHEMA!r}",
            f"{folder / CARD} has schema {schema!r} (written by fullconv {wrote})",
            "use the version of fullconv that wrote it",
        )
    return dict(card)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name -> tensor. Raises: BundleError if the file is missing, cut off or not safetensors."""
    if not path.is_file():
        raise BundleError(
            f"a bundle is a folder with {CARD} and {WEIGHTS}", f"{path} is not there", "copy the whole folder"
        )
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise BundleError(
            f"{WEIGHTS} is a whole safetensors file",
            f"{path} ({path.stat().st_size} bytes) cannot be read: {error}",
            "copy the file again, or save the bundle anew",
        ) from error


def set_weights(net: SegmentationNet, weights: Mapping[str, Tensor], path: Path) -> None:
    """Give the network its weights. Raises: BundleError naming those that are missing, unknown or of another shape."""
    own = net.state_dict()
    faults = [f"{name} is not there" for name in own if name not in weights]
    faults += [f"{name} has no place" for name in weights if name not in own]
    faults += [
        f"{name} is {tuple(weights[name].shape)}, its place {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise BundleError(
            f"{WEIGHTS} holds the weights of the network that {CARD} describes",
            f"{path}: {'; '.join(faults[:10])}{more}",
            "use the card and the weights of one bundle",
        )
    # copies: where a tensor begins in a mapped file decides how its sums are rounded
    net.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)


def check_hash(card: Mapping[str, Any], folder: Path) -> None:
    """Raises: BundleError if the weights are not those that were written with the card."""
    written = (card.get("weights") or {}).get("sha256")
    if written is None:
        return
    with open(folder / WEIGHTS, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != written:
        raise BundleError(
            f"{CARD} and {WEIGHTS} were written together",
            f"the weights in {folder} are others (sha256 {found[:12]}..., the card says {written[:12]}...)",
            "use the card and the weights of one bundle, or save the bundle anew",
        )


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """The state of a network as tensors that share no memory, as safetensors wants them."""
    seen: set[int] = set()
    state = {}
    for name, tensor in net.state_dict().items():
        own = tensor.detach().cpu().contiguous()
        state[name] = own.clone() if own.untyped_storage().data_ptr() in seen else own
        seen.add(own.untyped_storage().data_ptr())
    return state


def geometry_card(net: SegmentationNet) -> dict[str, Any] | None:
    """The taps that a network reads, with their strides and offsets (y, x); None where they are not known."""
    taps = getattr(getattr(net.network, "body", None), "taps", None)
    return None if taps is None else {"taps": taps_card(taps)}


def taps_card(taps: Sequence[Tap]) -> list[dict[str, Any]]:
    """Taps as JSON."""
    return [
        {"name": tap.name, "channels": tap.channels, "stride": tap.stride, "offset": [exact(v) for v in tap.offset]}
        for tap in taps
    ]


def versions() -> dict[str, str]:
    """Versions of python and the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def body_card(net: SegmentationNet) -> tuple[dict[str, Any], bytes]:
    """What a head needs to stand on a user's own body again, and the body's steps. Raises: BundleError."""
    network = net.network
    body = getattr(network, "body", None)
    axes = getattr(network, "axes", None)
    if net.architecture is None or not isinstance(body, Body) or isinstance(body.network, Program):
        raise BundleError(
            "a bundle holds a network that a head of fullconv was built for, from a classifier's own code",
            f"{type(network).__name__}, of which no builder is known",
            "build it by fcn32s, fcn16s, fcn8s, fcn4s or sharp on a converted classifier",
        )
    if axes is not None and not all(isinstance(axis, Same) for axis in axes):
        raise BundleError(
            "a bundle of your own network needs alignment 'same' (its photos are padded to lengths of one kind)",
            "alignment 'paper' on a backbone without a name",
            "give the head backbone={'name': ..., 'classes': ...} if the classifier has a name, or alignment='same'",
        )
    stride = body.taps[-1].stride
    remainders = (0, 0) if axes is None else (axes[0].remainder, axes[1].remainder)
    card = {
        "program": PROGRAM,
        "smallest": body.smallest + max((remainder - body.smallest) % stride for remainder in remainders),
        "taps": taps_card(body.taps),
        "axes": None if axes is None else [axis.to_json() for axis in axes],
    }
    return card, write_program(body.network, stride=stride, remainders=remainders)


def on_program(
    architecture: Mapping[str, Any], folder: Path, *, label_space: LabelSpace, preparation: Preparation
) -> SegmentationNet:
    """The head of a bundle on the user's own body, read from its program."""
    card = architecture["body"]
    taps = tuple(
        Tap(tap["name"], tap["channels"], tap["stride"], (Fraction(tap["offset"][0]), Fraction(tap["offset"][1])))
        for tap in card["taps"]
    )
    steps: Any = read_program(folder / PROGRAM)  # stands where a traced graph stands otherwise
    body = Body(steps, taps, card["smallest"])
    head, arguments = architecture["head"], architecture["arguments"]
    if head == "sharp":
        network: nn.Module = Sharp(body, SharpHead(taps, classes=label_space.size, **arguments))
    else:
        rows, columns = (Same.from_json(axis) for axis in card["axes"])
        words = {name: arguments[name] for name in ("deconvolution", "at_once")}
        network = network_on(body, (rows, columns), classes=label_space.size, **words)
    return SegmentationNet(network, label_space=label_space, preparation=preparation, architecture=architecture)
