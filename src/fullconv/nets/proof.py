"""That a converted network equals its classifier. Road: nets, beside surgery. In: both networks. Out: Proof, JSON.

At the window the two must agree to rounding. On a larger photo each cell of the grid is compared with the classifier
run on that cell's window: equal where nothing is padded inside, else measured and explained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fullconv.base import seeds
from fullconv.base.errors import SurgeryError, UsageError
from fullconv.base.measured import measured
from fullconv.geometry.geometry import Geometry
from fullconv.nets.graph import Size, label, photo_channels, trace
from fullconv.nets.places import Follower, convolution_settings, kind_of, padding_of, places, pooling_settings, shape_of

if TYPE_CHECKING:
    from fullconv.nets.surgery import Converted

Photos = Sequence[np.ndarray] | Sequence[Tensor] | np.ndarray | Tensor

TOLERANCE = 1e-4  # relative: rounding of float32 through a deep network; a wrong weight is far above it
WINDOWS_AT_ONCE = 16
MOST_WINDOWS = 64


@dataclass(frozen=True)
class Account:
    """What became of every weight, by its name in the state dict."""

    copied: tuple[str, ...]
    reshaped: tuple[str, ...]
    folded: tuple[str, ...]
    dropped: tuple[str, ...]
    fresh: tuple[str, ...]

    def to_json(self) -> dict[str, list[str]]:
        return {f.name: list(getattr(self, f.name)) for f in dataclasses.fields(self)}


@dataclass(frozen=True)
class AtWindow:
    """The comparison at the training size; `relative_difference` is to the classifier's largest absolute score."""

    images: int
    largest_difference: float
    relative_difference: float


@dataclass(frozen=True)
class Dense:
    """One pass over a larger photo beside the classifier on every window of it.

    `size` and `grid` are those of the last photo compared, `windows` counts all; `why` says what made a difference.
    """

    size: Size
    grid: Size
    windows: int
    largest_difference: float
    relative_difference: float
    top1_agreement: float
    exact: bool
    why: str


@dataclass(frozen=True)
class Cost:
    """What the dense pass and the windows cost; None where it was not, or cannot be, measured."""

    dense: float | None = None
    windows: float | None = None


@dataclass(frozen=True)
class Proof:
    """The record that a converted network equals its classifier. Keys of `to_json`: docs/reference/files.md."""

    window: Size
    grid: Geometry
    pooling: str
    at_window: AtWindow
    account: Account
    dense: Dense | None = None
    seconds: Cost = Cost()
    peak_bytes: Cost = Cost()

    @property
    def stride(self) -> tuple[Fraction, Fraction]:
        return self.grid.stride

    @property
    def offset(self) -> tuple[Fraction, Fraction]:
        return self.grid.offset

    @property
    def receptive_field(self) -> tuple[Fraction, Fraction] | None:
        return self.grid.receptive_field

    @property
    def holds(self) -> bool:
        """Do both agree at the window, to rounding?"""
        return self.at_window.relative_difference <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        grid = self.grid.to_json()
        return {
            "schema": "fullconv.proof/1",
            "window": list(self.window),
            "pooling": self.pooling,
            "stride": grid["stride"],
            "offset": grid["offset"],
            "receptive_field": grid["receptive_field"],
            "at_window": dataclasses.asdict(self.at_window),
            "dense": None if self.dense is None else listed(dataclasses.asdict(self.dense)),
            "account": self.account.to_json(),
            "seconds": dataclasses.asdict(self.seconds),
            "peak_bytes": dataclasses.asdict(self.peak_bytes),
        }


def listed(record: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}


# ---------------------------------------------------------------------- at the window


def compare_at_window(model: nn.Module, network: nn.Module, window: Size, photos: Photos | None) -> AtWindow:
    """Run both on photos of the window's size (the middle of larger ones) and compare every score."""
    pictures = seeded(window, model) if photos is None else middles(photos, window)
    with evaluating(model, network), torch.no_grad():
        truth, guess = tensors(model(pictures)), tensors(network(pictures))
    return AtWindow(len(pictures), *differences(truth, [g.mean((2, 3)) for g in guess]))


def differences(truth: list[Tensor], guess: list[Tensor]) -> tuple[float, float]:
    """The largest difference, and that over the largest absolute score of the truth."""
    if [t.flatten(1).shape for t in truth] != [g.shape for g in guess]:
        raise SurgeryError(
            "the converted network gives one score map for each score vector of the classifier",
            f"score vectors {[tuple(t.shape) for t in truth]}, score maps of {[tuple(g.shape) for g in guess]} classes",
            "give a classifier that gives (N, K) scores",
        )
    each = [(float((t.flatten(1) - g).abs().max()), float(t.abs().max())) for t, g in zip(truth, guess, strict=True)]
    found = [(largest, largest / scale if scale > 0 else largest) for largest, scale in each]
    return max(found, key=lambda one: math.inf if math.isnan(one[1]) else one[1])  # what is no number is the worst


def tensors(output: Any) -> list[Tensor]:
    """The score tensors of a network that gives one, or several."""
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [v for v in values if isinstance(v, Tensor)]


def seeded(size: Size, model: nn.Module, count: int = 2) -> Tensor:
    """Smooth pictures with noise, from a seed: alike everywhere, and not constant."""
    channels = photo_channels(model)
    weight = next(model.parameters(), torch.zeros(1))
    values = seeds.rng(0, "proof", *size).standard_normal((count, channels, *size), dtype=np.float32)
    coarse = F.interpolate(torch.from_numpy(values)[..., ::16, ::16], size, mode="bilinear")
    return (coarse + 0.5 * torch.from_numpy(values)).to(weight)


def middles(photos: Photos, window: Size) -> Tensor:
    """(N, 3, h, w): the middle of each photo."""
    cuts = []
    for photo in photos:
        values = torch.as_tensor(photo)
        top, left = ((values.shape[1 + i] - window[i]) // 2 for i in (0, 1))
        if values.dim() != 3 or top < 0 or left < 0:
            raise UsageError(
                f"photos are prepared arrays (3, H, W), not smaller than the window {window[0]}x{window[1]}",
                f"one of shape {tuple(values.shape)}",
                "leave out photos: seeded pictures are then used",
            )
        cuts.append(values[:, top : top + window[0], left : left + window[1]])
    return torch.stack(cuts)


# ---------------------------------------------------------------------- beside every window


def prove(model: nn.Module, converted: Converted, photos: Photos | None = None) -> Proof:
    """The whole proof: at the window, and one dense pass beside the classifier on every window.

    Args:
        model: the classifier that `converted` came from.
        photos: prepared arrays (3, H, W), each at least the window's size; None takes a seeded picture two strides
            larger than the window. Photos are compared until 64 windows have been.
    Returns: Proof with `dense`, `seconds` and `peak_bytes`.
    """
    pictures = two_strides_larger(model, converted) if photos is None else [torch.as_tensor(p) for p in photos]
    first = compare_at_window(model, converted.network, converted.window, photos)
    pairs: list[Compared] = []
    for picture in pictures:
        pairs.append(compared(model, converted, picture))
        if sum(len(pair.windows) for pair in pairs) >= MOST_WINDOWS:
            break
    truth, guess = (torch.cat([getattr(pair, name) for pair in pairs]) for name in ("windows", "dense"))
    every = [[torch.cat([scores[head] for scores in way]) for head in range(len(way[0]))] for way in heads_of(pairs)]
    largest, relative = differences(*every)
    agreeing = float((truth.flatten(1).argmax(1) == guess.argmax(1)).double().mean())
    equal = relative <= TOLERANCE
    last = pairs[-1]
    found = Dense(last.size, last.grid, len(truth), largest, relative, agreeing, equal, reason(converted, equal))
    return dataclasses.replace(
        converted.proof,
        at_window=first,
        dense=found,
        seconds=Cost(*(sum(pair.seconds[i] for pair in pairs) for i in (0, 1))),
        peak_bytes=Cost(*(highest([pair.peak_bytes[i] for pair in pairs]) for i in (0, 1))),
    )


def heads_of(pairs: list[Compared]) -> tuple[list[tuple[Tensor, ...]], list[tuple[Tensor, ...]]]:
    """By photo, the scores of every head: of the windows, and of the one pass."""
    return [(p.windows, *p.others[1]) for p in pairs], [(p.dense, *p.others[0]) for p in pairs]


@dataclass(frozen=True)
class Compared:
    """One photo: the scores of the one pass and of the classifier on every window, (n, K) each, and what both cost.

    The windows are in reading order, `grid` (rows, columns) of them. Costs are (dense, windows); so are the scores of
    the `others`, the heads after the first.
    """

    size: Size
    grid: Size
    dense: Tensor
    windows: Tensor
    others: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
    seconds: tuple[float, float]
    peak_bytes: tuple[float | None, float | None]


def compared(model: nn.Module, converted: Converted, picture: Tensor) -> Compared:
    """One dense pass over a prepared photo (3, H, W), and the classifier on every window that a cell scores.

    Raises: UsageError if the photo holds no window.
    """
    size = (int(picture.shape[1]), int(picture.shape[2]))
    cells, starts = cells_and_windows(converted, size)
    with evaluating(model, converted.network), torch.no_grad():
        dense = measured(partial(all_scores, converted.network, picture))
        apart = measured(partial(on_windows, model, picture, starts, converted.window))
    made = [gathered(scores, cells, converted) for scores in dense.value]
    return Compared(
        size,
        (len({row for row, _ in cells}), len({column for _, column in cells})),
        made[0],
        apart.value[0],
        (tuple(made[1:]), tuple(apart.value[1:])),
        (dense.seconds, apart.seconds),
        (dense.peak_bytes, apart.peak_bytes),
    )


def two_strides_larger(model: nn.Module, converted: Converted) -> list[Tensor]:
    stride = converted.geometry.stride
    size = tuple(w + 2 * int(np.ceil(float(s))) for w, s in zip(converted.window, stride, strict=True))
    return [seeded((size[0], size[1]), model, 1)[0]]


def cells_and_windows(converted: Converted, size: Size) -> tuple[list[Size], list[Size]]:
    """The cells of the grid on a photo whose windows lie whole in it, and where those windows start.

    A cell's window starts where the cell is centred as the single cell of the window is: derived, not assumed.
    """
    follower = places(trace(converted.network, size), disagreement="span")
    grid, at_window = score_place(follower), converted.geometry
    known = [p.geometry for p in follower.place.values() if p is not None and p.geometry is not None]
    starts: list[list[tuple[int, int]]] = []
    for i in (0, 1):
        cells = grid.axis(i).size - (at_window.axis(i).size - 1)
        where = [(n, grid.offset[i] + n * grid.stride[i] - at_window.offset[i]) for n in range(cells)]
        room = size[i] - converted.window[i]
        # where the network enlarges inside, a cell of odd phase sees another part of the coarser cells than a window
        coarsest = max((g.stride[i] for g in known if g.axis(i).size > 1), default=grid.stride[i])
        starts.append([(n, int(s)) for n, s in where if s % coarsest == 0 and 0 <= s <= room])
    if not starts[0] or not starts[1]:
        raise UsageError(
            "a photo for the proof holds at least one whole window that the grid falls on",
            f"{size[0]}x{size[1]} holds none of {converted.window[0]}x{converted.window[1]}",
            "give a photo larger than the window by a whole number of strides",
        )
    both = [(y, x) for y in starts[0] for x in starts[1]]
    return [(y[0], x[0]) for y, x in both], [(y[1], x[1]) for y, x in both]


def score_geometry(converted: Converted, size: Size) -> Geometry:
    """Of the score grid on a photo of (rows, columns)."""
    return score_place(places(trace(converted.network, size), disagreement="span"))


def score_place(follower: Follower) -> Geometry:
    output = next(n for n in follower.module.graph.nodes if n.op == "output")
    place = follower.place[output.all_input_nodes[0]]
    assert place is not None
    assert place.geometry is not None
    return place.geometry


def all_scores(network: nn.Module, photo: Tensor) -> list[Tensor]:
    """(K, h, w) of each head: one pass over the whole photo."""
    return [scores[0] for scores in tensors(network(photo[None]))]


def on_windows(model: nn.Module, photo: Tensor, starts: list[Size], window: Size) -> list[Tensor]:
    """(windows, K) of each head: the classifier on each window."""
    scores = []
    for at in range(0, len(starts), WINDOWS_AT_ONCE):
        some = starts[at : at + WINDOWS_AT_ONCE]
        scores.append(tensors(model(torch.stack([photo[:, y : y + window[0], x : x + window[1]] for y, x in some]))))
    return [torch.cat(parts).flatten(1) for parts in zip(*scores, strict=True)]


def gathered(score_map: Tensor, cells: list[Size], converted: Converted) -> Tensor:
    """(windows, K) from a (K, h, w) score map; where each cell was scored by itself, the mean of a window's cells."""
    inside = converted.geometry.size
    means = F.avg_pool2d(score_map[None], inside, stride=1)[0] if inside != (1, 1) else score_map
    return torch.stack([means[:, y, x] for y, x in cells])


def reason(converted: Converted, equal: bool) -> str:
    """The sentence that says why the dense pass equals every window, or why it does not."""
    padding = layers_that_pad(converted.network, converted.window)
    pooled = converted.geometry.receptive_field is None
    if not padding and not pooled:
        if equal:
            return "nothing is padded inside: every cell sees what its window shows, and both agree to rounding"
        return "nothing is padded inside, so the two should agree: the difference is an error in the conversion"
    causes = []
    if padding:
        causes.append(
            f"{'1 layer pads' if len(padding) == 1 else f'{len(padding)} layers pad'} (the first: '{padding[0]}'): "
            "a window alone sees padding at its edge "
            "where the dense pass sees the photo"
        )
    if pooled:
        causes.append(
            "some layers pool the whole map, or normalize over it: in the dense pass they see the whole photo, "
            "not one window"
        )
    return ("equal to rounding, although " if equal else "") + "; ".join(causes)


def layers_that_pad(network: fx.GraphModule, window: Size) -> list[str]:
    traced = trace(network, window)
    return [label(n) for n in traced.graph.nodes if pads(n, traced)]


def pads(node: fx.Node, module: fx.GraphModule) -> bool:
    kind = kind_of(node, module)
    if kind == "convolution":
        kernel, _, padding, _ = convolution_settings(node, module)
        return kernel != (1, 1) if isinstance(padding, str) else padding != (0, 0)
    if kind == "pooling":
        kernel, stride, padding, dilation, _ = pooling_settings(node, module)
        read, made = (shape_of(n)[2:] for n in (node.all_input_nodes[0], node))
        reached = [s * (m - 1) + d * (k - 1) + 1 for m, k, s, d in zip(made, kernel, stride, dilation, strict=True)]
        return bool(padding != (0, 0) or any(r > cells for r, cells in zip(reached, read, strict=True)))  # ceil
    return kind == "pad" and any(a > 0 for a in padding_of(node, module))


def highest(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """The networks in evaluation mode for a while."""
    modes = [(m, m.training) for network in networks for m in network.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
