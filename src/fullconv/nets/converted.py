"""A converted classifier as a folder that loads without the code it came from. Road: nets, beside the bundle.

card.json says what it is; program.pt2 holds its steps and weights, as torch.export writes them. No pickle.
In: Converted. Out: files, and back `Dense`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from fullconv.base.errors import BundleError, SizeMismatch
from fullconv.base.files import read_json, write_bytes, write_json
from fullconv.nets.bundle import CARD, PROGRAM, versions
from fullconv.nets.preparation import Preparation
from fullconv.nets.program import read_program, write_program
from fullconv.nets.surgery import Converted

SCHEMA = "fullconv.converted/1"


@dataclass(frozen=True)
class Dense:
    """Scores of every window of a photo, in one pass.

    Attributes:
        network: (N, 3, H, W) prepared photos -> one (N, K, h, w) tensor in a list.
        window: (rows, columns) that a cell scores.
        stride, offset: of the grid, (y, x) in pixels.
        preparation: what turns a photo into the network's input.
        class_names: K, or None where they are not known.
        card: all that the folder says of it.
    """

    network: nn.Module
    window: tuple[int, int]
    stride: tuple[Fraction, Fraction]
    offset: tuple[Fraction, Fraction]
    preparation: Preparation
    class_names: tuple[str, ...] | None
    card: Mapping[str, Any]

    def scores(self, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 -> (K, h, w): cell (i, j) scores the window that lies i and j strides into the photo.

        What is left below and to the right of the last whole window is not looked at.
        Raises: SizeMismatch for a photo smaller than the window.
        """
        lengths = [self._length(photo.shape[i], i) for i in (0, 1)]
        prepared = self.preparation.prepare(photo[: lengths[0], : lengths[1]])[None]
        with torch.inference_mode():
            maps: NDArray[np.float32] = self.network(prepared)[0][0].float().numpy()
        return maps

    def _length(self, length: int, which: int) -> int:
        if length < self.window[which]:
            raise SizeMismatch(
                f"a photo holds at least one window of {self.window[0]}x{self.window[1]}",
                f"{('rows', 'columns')[which]}: {length}",
                "enlarge the photo",
            )
        return length - (length - self.window[which]) % int(self.stride[which])


def save_converted(
    converted: Converted,
    folder: Path | str,
    *,
    name: str,
    preparation: Preparation,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Write a converted classifier whole.

    Args:
        converted: each cell the score of one window (`pooling="window"`), of one stride on both axes.
        folder: made if it is not there.
        name: of the classifier, for people.
    Returns: the folder.
    Raises: BundleError if torch.export cannot write the steps, or what it wrote gives other scores; DiskFull.
    """
    folder, stride = Path(folder), converted.geometry.stride
    if stride[0] != stride[1] or stride[0].denominator != 1:
        raise BundleError("a grid has one whole stride", f"{stride[0]} and {stride[1]}", "keep the network in Python")
    window, step = converted.window, int(stride[0])
    program = write_program(
        with_one_map(converted.network),
        stride=step,
        remainders=(window[0] % step, window[1] % step),
        least=(window[0] // step, window[1] // step),
    )
    card = {
        "schema": SCHEMA,
        "model": name,
        "window": list(window),
        "geometry": converted.geometry.to_json(),
        "preparation": preparation.to_json(),
        "class_names": None if class_names is None else list(class_names),
        "proof": converted.proof.to_json(),
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_bytes(folder / PROGRAM, program)
    write_json(folder / CARD, card)
    return folder


def with_one_map(network: fx.GraphModule) -> fx.GraphModule:
    """A copy that gives its first score map, in a tuple."""
    copied = copy.deepcopy(network)
    output = next(n for n in copied.graph.nodes if n.op == "output")
    output.args = ((output.all_input_nodes[0],),)
    copied.graph.eliminate_dead_code()
    copied.recompile()
    return copied


def load_converted(folder: Path | str) -> Dense:
    """Read what `save_converted` wrote. Raises: BundleError if it is something else, or cut off."""
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise BundleError(
            f"a converted classifier is a folder with {CARD} and {PROGRAM}", str(folder), "check the path"
        )
    try:
        card = read_json(folder / CARD)
        if card["schema"] != SCHEMA:
            raise BundleError(f"a converted classifier has schema {SCHEMA!r}", repr(card["schema"]), "fc.load(BUNDLE)")
        names, grid = card["class_names"], card["geometry"]
        return Dense(
            read_program(folder / PROGRAM),
            (card["window"][0], card["window"][1]),
            (Fraction(grid["stride"][0]), Fraction(grid["stride"][1])),
            (Fraction(grid["offset"][0]), Fraction(grid["offset"][1])),
            Preparation.from_json(card["preparation"]),
            None if names is None else tuple(names),
            card,
        )
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise BundleError(
            f"{CARD} is as fullconv writes it", f"{folder / CARD}: {type(error).__name__}: {error}", "convert again"
        ) from error
