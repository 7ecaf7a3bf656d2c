"""A bundle: one folder that holds a segmenter and all that is needed to use it. Road: nets, last.

    card.json            what it is: label space, preparation, architecture, geometry, recipe, scores, versions
    model.safetensors    its weights
    program.pt2          its steps, only where no builder of ours makes the network (a user's own class)

In: a `SegmentationNet`. Out: the folder, and back. No pickle is written or read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import logging
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from fullconv.base.errors import BundleError, FullconvError
from fullconv.base.files import read_json, write_bytes, write_json
from fullconv.labels.space import LabelSpace
from fullconv.nets.prediction import Photo, Prediction, evaluating, predict_photo
from fullconv.nets.preparation import Preparation
from fullconv.nets.segmentation import SegmentationNet, build_from

SCHEMA = "fullconv.bundle/1"
CARD, WEIGHTS, PROGRAM = "card.json", "model.safetensors", "program.pt2"
PACKAGES = ("fullconv", "torch", "torchvision", "timm", "numpy")


@dataclass(frozen=True)
class Bundle:
    """A segmenter that was loaded: the network, its classes and preparation, and its card."""

    net: SegmentationNet
    label_space: LabelSpace
    preparation: Preparation
    card: dict[str, Any]

    def predict(self, image: Photo) -> Prediction:
        """Segment one photo (a file, a Pillow image, an array) at its own size."""
        return predict_photo(self.net, image)


def save_bundle(
    net: SegmentationNet,
    folder: str | Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
) -> Path:
    """Write a segmenter as a bundle; the card comes last, so that a bundle with a card is whole.

    Args:
        net: the segmenter; it is not changed.
        folder: made if it is not there; a bundle in it is replaced.
        recipe: how it was trained, for the card.
        scores: what it scored, for the card.
    Returns: the folder.
    Raises: BundleError if the network is a user's own and its steps cannot be written down; DiskFull.
    """
    folder = Path(folder)
    weights = safetensors.torch.save(weights_of(net))
    program = program_of(net) if net.architecture is None else None
    card = {
        "schema": SCHEMA,
        "label_space": net.label_space.to_json(),
        "preparation": net.preparation.to_json(),
        "architecture": net.architecture,
        "geometry": geometry_card(net),
        "recipe": None if recipe is None else dict(recipe),
        "scores": None if scores is None else dict(scores),
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(weights).hexdigest()},
    }
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
        if architecture is None:
            net = SegmentationNet(read_program(folder / PROGRAM), label_space=label_space, preparation=preparation)
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
        here = f"{inside} (the bundle of this run)" if (inside / CARD).is_file() else "the folder RUN/bundle that `fullconv run` wrote"
        raise BundleError(must, found if folder.exists() else f"{folder} is not there", here)
    try:
        card = read_json(folder / CARD)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{CARD} is one JSON document", f"{folder / CARD}: {error}", "restore the card, or save the bundle anew") from error
    schema = card.get("schema") if isinstance(card, dict) else None
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
        raise BundleError(f"a bundle is a folder with {CARD} and {WEIGHTS}", f"{path} is not there", "copy the whole folder")
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
    net.load_state_dict(dict(weights))


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
    if taps is None:
        return None
    return {
        "taps": [
            {"name": tap.name, "channels": tap.channels, "stride": tap.stride, "offset": [_exact(v) for v in tap.offset]}
            for tap in taps
        ]
    }


def _exact(value: Any) -> int | str:
    return int(value) if value == int(value) else f"{value.numerator}/{value.denominator}"


def versions() -> dict[str, str]:
    """Versions of python and the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


class Program(nn.Module):
    """The steps of a user's own network, as torch.export wrote them: it predicts, it cannot be trained further."""

    def __init__(self, steps: nn.Module) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, photos: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, K, H, W)."""
        scores: Tensor = self.steps(photos)
        return scores

    def train(self, mode: bool = True) -> Program:
        """Stays in evaluation mode, in which it was written."""
        self.training = False
        return self


def program_of(net: SegmentationNet) -> bytes:
    """The network's steps for any batch and size, written by torch.export. Raises: BundleError if that cannot be done."""
    free = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = torch.zeros(2, 3, 70, 90)
    buffer = io.BytesIO()
    try:
        with evaluating(net), torch.no_grad():
            program = torch.export.export(net.network, (example,), dynamic_shapes=(free,))
        program._example_inputs = None  # the only thing that would be pickled
        torch.export.save(program, buffer)
    except FullconvError:
        raise
    except Exception as error:  # torch.export raises of many kinds; whatever stopped it is answered here
        raise BundleError(
            "a bundle of your own network needs steps that torch.export can write for any height and width",
            f"{type(net.network).__name__}: {type(error).__name__}: {str(error).strip().splitlines()[0][:300]}",
            "build the head with backbone={'name': ..., 'classes': ...} if the classifier has a name, or save net.state_dict() yourself",
        ) from error
    return buffer.getvalue()


def read_program(path: Path) -> Program:
    """Read the steps of a user's own network. Raises: BundleError if they are missing, cut off, or hold pickles."""
    if not path.is_file():
        raise BundleError(
            f"a bundle without an architecture in its card holds {PROGRAM}", f"{path} is not there", "copy the whole folder"
        )
    try:
        refuse_pickles(path)
        logging.getLogger("torch.export").setLevel(logging.ERROR)
        return Program(torch.export.load(io.BytesIO(path.read_bytes())).module())
    except (zipfile.BadZipFile, RuntimeError, KeyError, ValueError) as error:
        raise BundleError(
            f"{PROGRAM} is a whole file of torch.export",
            f"{path} cannot be read: {str(error).splitlines()[0][:300]}",
            "copy the file again, or save the bundle anew",
        ) from error


def refuse_pickles(path: Path) -> None:
    """Raises: BundleError if a program holds anything that would be unpickled."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                parts = json.loads(archive.read(name))["config"]
                pickled = [part for part, how in parts.items() if how.get("use_pickle")]
                if pickled:
                    raise BundleError(
                        f"{PROGRAM} holds no pickles, since these can run any code",
                        f"{path}: {', '.join(pickled[:10])}",
                        "get the bundle from where it was made, or save it anew",
                    )
