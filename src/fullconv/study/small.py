"""A small network, trained in seconds on any part of the samples. Road: study, before what retrains.

In: samples. Out: what a classifier's maps hold of each, kept on disk; heads trained on them; what these get right. What
the value of samples and learning curves ask again and again, a run of minutes could not answer.

The network is the sharp head on EfficientNet-Lite0 with ImageNet weights, from stride 32 to 4, on photos of at most 256
pixels. The backbone stays as it is, so that its maps are worked out once; each training is one of the head.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from fullconv.base import seeds
from fullconv.base.cores import on_all_cores
from fullconv.base.files import write_bytes
from fullconv.base.images import photo_size, read_photo
from fullconv.base.journal import append_journal, read_journal
from fullconv.base.progress import progress
from fullconv.data.samples import Sample
from fullconv.labels.maps import nearest
from fullconv.labels.space import LabelSpace
from fullconv.measure.confusion import confusion
from fullconv.measure.ratios import Floats, iou, mean, ratio
from fullconv.nets.body import Body, Tap
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.preparation import Preparation
from fullconv.nets.sharp import SharpHead, bring, lag_between, sharp
from fullconv.nets.surgery import convolutionalize
from fullconv.train.losses import LOSSES
from fullconv.train.optimiser import build_optimiser, set_rate
from fullconv.train.precision import autocast, quick_bfloat16
from fullconv.train.recipe import recipe
from fullconv.train.watch import check_finite

LONGEST = 256  # px, the longer side of a small photo
MODEL = "embedded:efficientnet_lite0"
STEPS, BATCH, RATE = 150, 8, 1e-2
NETWORKS = 4  # trained alike, where what they agree on counts
CELL = 32  # px, of the coarsest map: photos are extended to whole ones
_CROP = 5  # coarsest cells, the side of a training crop
_AVERAGED = 0.5  # of the steps, the last ones, whose mean the weights are
_RAREST = 1e-3  # share of the pixels: rarer classes weigh no more
_TYPE = np.float16


@dataclass(frozen=True)
class Small:
    """A sample as small networks see it.

    Args:
        size: (H, W) of the small photo.
        folder: holds its maps and its label map.
    """

    name: str
    size: tuple[int, int]
    label_space: LabelSpace
    folder: Path

    def labels(self) -> NDArray[np.integer[Any]]:
        """(H, W) class ids with void."""
        return np.asarray(np.load(self.folder / f"{self.name}.labels.npy"))

    def maps(self) -> list[NDArray[np.float16]]:
        """(C, h, w) of each tap, finest first, of the photo extended to whole coarsest cells; read where asked for."""
        flat = np.load(self.folder / f"{self.name}.maps.npy", mmap_mode="r")
        height, width = _extended(self.size)
        shapes = [(tap.channels, height // tap.stride, width // tap.stride) for tap in _backbone()[1]]
        ends = np.cumsum([prod(shape) for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def shrink_samples(samples: Iterable[Sample], folder: Path) -> tuple[Small, ...]:
    """Samples as small networks see them; what is in the folder is not worked out again.

    Photos are averaged down, label maps take the nearest pixel's class.

    Raises: UnreadableImage, UnknownLabel, DiskFull.
    """
    several = progress(samples, what="shrinking photos")
    return tuple(_shrunk(one.name, one.size, one.label_space, folder, one.read) for one in several)


def shrink_photo(name: str, photo: Path, space: LabelSpace, folder: Path) -> Small:
    """A photo that has no label map, as small networks see it: all void.

    Raises: UnreadableImage, DiskFull.
    """

    def read() -> tuple[NDArray[np.uint8], NDArray[Any]]:
        pixels = read_photo(photo)
        return pixels, np.full(pixels.shape[:2], space.void, space.dtype)

    return _shrunk(name, photo_size(photo), space, folder, read)


def train_small(samples: Sequence[Small], *, seed: int) -> SharpHead:
    """A head trained on samples by AdamW on random crops; the mean of its last steps.

    The loss is that of full runs, classes weighted by one over the root of their share: in so few steps half of the
    classes of street scenes would not be found at all.

    The same samples and seed give the same head.

    Raises: TrainingError if the loss is not a number.
    """
    space, taps = samples[0].label_space, _backbone()[1]
    how = replace(recipe("modern"), optimiser="adamw", steps=STEPS, rate=RATE)
    device = torch.device("cpu")
    weights = torch.from_numpy(class_weights(samples)).float()
    precision = "bf16" if quick_bfloat16(device) else "fp32"
    draw = seeds.rng(seed, "small")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(seed, "head"))
        head = SharpHead(taps, classes=space.size).to(memory_format=torch.channels_last)
        average = AveragedModel(head, use_buffers=True)
        optimiser = build_optimiser(head, how, pretrained=frozenset())
        order: list[int] = []
        for step in range(1, STEPS + 1):
            while len(order) < BATCH:
                order += draw.permutation(len(samples)).tolist()
            chosen, order = order[:BATCH], order[BATCH:]
            maps, labels = _batch([samples[place] for place in chosen], draw)
            set_rate(optimiser, step, how)
            optimiser.zero_grad(set_to_none=True)
            with autocast(precision, device):
                scores = head.cells(maps)
            if (labels != space.void).any():  # a batch of void alone teaches nothing
                loss = LOSSES[how.loss](scores.float(), labels, void=space.void, weights=weights, reduction="mean")
                check_finite(loss.item(), step)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            if step > (1 - _AVERAGED) * STEPS:
                average.update_parameters(head)
    trained = average.module
    assert isinstance(trained, SharpHead)
    return trained.eval()


def class_weights(samples: Sequence[Small]) -> Floats:
    """(K,) what a pixel of each class counts in training: one over the root of the class's share, of mean 1."""
    classes = samples[0].label_space.size
    pixels = np.zeros(classes)
    for one in samples:
        pixels += np.bincount(one.labels().ravel(), minlength=classes)[:classes]
    weights = 1 / np.sqrt(pixels / max(1, pixels.sum()) + _RAREST)
    return np.asarray(weights / weights.mean())


def train_several(samples: Sequence[Small], number: int, folder: Path, *, seed: int) -> list[SharpHead]:
    """Heads trained on the same samples, which differ by their seeds.

    Args:
        folder: keeps them; what it holds is not trained again.
    Raises: TrainingError, DiskFull.
    """
    paths = {seed + one: folder / f"{seed + one}.safetensors" for one in range(number)}
    todo = [(path, one) for one, path in paths.items() if not path.exists()]
    for _ in on_all_cores(partial(_keep, samples), todo, what="training", long=True):
        pass
    return [_kept(path, samples[0].label_space) for path in paths.values()]


def guess(head: SharpHead, sample: Small) -> Tensor:
    """(K, H, W) scores of a small sample."""
    height, width = sample.size
    with torch.inference_mode():
        scores: Tensor = head([_tensor(one)[None] for one in sample.maps()], _extended(sample.size))
    return scores[0, :, :height, :width]


def cells_seen(head: SharpHead, sample: Small) -> tuple[Tensor, Tensor]:
    """What the score layer reads, (C, h, w), and its scores, (K, h, w), at the finest map's cells within the photo."""
    tap = head.taps[head.first]
    rows, columns = (
        len(range(int(first), side, tap.stride)) for first, side in zip(tap.offset, sample.size, strict=True)
    )
    read: list[Tensor] = []
    handle = head.score.register_forward_pre_hook(lambda _, maps: read.append(maps[0]))
    with torch.inference_mode():
        scores = head.cells([_tensor(one)[None] for one in sample.maps()])
    handle.remove()
    return read[0][0, :, :rows, :columns], scores[0, :, :rows, :columns]


def enlarged(at_cells: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(K, h, w) at the finest map's cells, as `cells_seen` gives them, to (K, H, W) of the small photo, bilinearly."""
    tap = _backbone()[1][0]
    lag = lag_between(tap, 1, (Fraction(0), Fraction(0)))
    whole: NDArray[np.float32] = bring(torch.from_numpy(at_cells)[None], factor=tap.stride, lag=lag, size=size)[
        0
    ].numpy()
    return whole


def labels_at_cells(head: SharpHead, sample: Small) -> NDArray[np.integer[Any]]:
    """(h, w) class ids with void at the same cells' centres."""
    tap = head.taps[head.first]
    top, left = (int(part) for part in tap.offset)
    return sample.labels()[top :: tap.stride, left :: tap.stride]


def pixels_by_guess(head: SharpHead, samples: Sequence[Small]) -> NDArray[np.int64]:
    """(K, K) pixels of the samples by class and by guess."""
    space = samples[0].label_space
    counts = np.zeros((space.size, space.size), np.int64)
    for sample in samples:
        counts += confusion(sample.labels(), guess(head, sample).argmax(0).numpy(), space)
    return counts


def mean_iou(head: SharpHead, samples: Sequence[Small]) -> float:
    """Over the classes that the samples have or the network sees."""
    return float(mean(measured(pixels_by_guess(head, samples))[2]))


def measured(pixels: NDArray[np.int64]) -> Floats:
    """(..., 3, K) recall, precision and IoU of (..., K, K) pixels by class and by guess."""
    given, guessed, hits = pixels.sum(-1), pixels.sum(-2), np.diagonal(pixels, axis1=-2, axis2=-1)
    return np.stack([ratio(hits, given), ratio(hits, guessed), iou(given, guessed, hits)], -2)


def outcomes_of(
    trainings: Sequence[tuple[NDArray[Any], int]], train: Sequence[Small], val: Sequence[Small], journal: Path
) -> Floats:
    """(T, 3, K): recall, precision and IoU on val of networks trained on parts of train; NaN where undefined.

    Args:
        trainings: places in train, or one truth value a sample of train; and the seed.
        journal: trainings that it holds, by their number, are not done again.
    Raises: TrainingError, DiskFull.
    """
    known = {row["training"]: row["pixels"] for row in read_journal(journal)}
    todo = [number for number in range(len(trainings)) if number not in known]
    work = partial(_outcome, train, val)
    found = on_all_cores(work, [trainings[number] for number in todo], what="training", long=True)
    for number, pixels in zip(todo, found, strict=True):
        known[number] = pixels
        append_journal(journal, {"training": number, "pixels": pixels})
    return measured(np.array([known[number] for number in range(len(trainings))]))


def _outcome(train: Sequence[Small], val: Sequence[Small], training: tuple[NDArray[Any], int]) -> list[list[int]]:
    part, seed = training
    head = train_small([train[place] for place in np.arange(len(train))[part]], seed=seed)
    pixels: list[list[int]] = pixels_by_guess(head, val).tolist()
    return pixels


def _keep(samples: Sequence[Small], todo: tuple[Path, int]) -> None:
    path, seed = todo
    write_bytes(path, save(train_small(samples, seed=seed).state_dict()))


def _kept(path: Path, space: LabelSpace) -> SharpHead:
    head = SharpHead(_backbone()[1], classes=space.size).to(memory_format=torch.channels_last)
    head.load_state_dict(load(path.read_bytes()))
    return head.eval()


@cache
def _backbone() -> tuple[Body, tuple[Tap, ...], Preparation]:
    """The backbone, its taps from stride 4 on, and what it reads."""
    classifier = build_classifier(MODEL, classes=None, weights="embedded")
    converted = convolutionalize(classifier.network, classifier.window, norms="folded")
    anything = LabelSpace(("a",), ((0, 0, 0),), ((0,),))
    body = sharp(converted, label_space=anything, preparation=classifier.preparation).network.body
    assert isinstance(body, Body)
    return body.eval(), tuple(tap for tap in body.taps if tap.stride > 2), classifier.preparation


def too_thin(size: tuple[int, int]) -> bool:
    """Whether a photo of (H, W) has no cell of the finest map once it is small."""
    return min(_small_size(size)) <= max(int(part) for part in _backbone()[1][0].offset)


def _small_size(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(1.0, LONGEST / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _shrunk(
    name: str,
    size: tuple[int, int],
    space: LabelSpace,
    folder: Path,
    read: Callable[[], tuple[NDArray[np.uint8], NDArray[Any]]],
) -> Small:
    height, width = _small_size(size)
    labels_file = folder / f"{name}.labels.npy"
    if not labels_file.exists():  # written last
        photo, labels = read()
        smaller = np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX))
        _write(folder / f"{name}.maps.npy", _seen(smaller))
        _write(labels_file, nearest(labels, (height, width)))
    return Small(name, (height, width), space, folder)


def _seen(photo: NDArray[np.uint8]) -> NDArray[np.float16]:
    """All maps of a small photo, one after the other."""
    body, taps, preparation = _backbone()
    height, width = photo.shape[:2]
    down, across = (long - side for long, side in zip(_extended((height, width)), (height, width), strict=True))
    with torch.inference_mode():
        maps = body(F.pad(preparation.prepare(photo)[None], (0, across, 0, down)))
    return np.concatenate([one.numpy().ravel() for one in maps[-len(taps) :]]).astype(_TYPE)


def _extended(size: tuple[int, int]) -> tuple[int, int]:
    """To whole coarsest cells, as many as a crop has at least."""
    height, width = (max(_CROP, -(-side // CELL)) * CELL for side in size)
    return height, width


def _batch(samples: Sequence[Small], draw: np.random.Generator) -> tuple[list[Tensor], Tensor]:
    """Crops of maps, and the classes at the centres of the finest map's cells."""
    taps = _backbone()[1]
    top, left = (int(part) for part in taps[0].offset)
    maps, labels = [], []
    for sample in samples:
        height, width = _extended(sample.size)
        row, column = (int(draw.integers(side // CELL - _CROP + 1)) * CELL for side in (height, width))
        strides = [tap.stride for tap in taps]
        maps.append([_tensor(_cropped(one, row, column, by)) for one, by in zip(sample.maps(), strides, strict=True)])
        whole = np.full((height, width), sample.label_space.void, np.int64)
        whole[: sample.size[0], : sample.size[1]] = sample.labels()
        crop = _cropped(whole, row, column, 1)
        labels.append(torch.from_numpy(crop[top :: strides[0], left :: strides[0]].copy()))
    return [torch.stack(several) for several in zip(*maps, strict=True)], torch.stack(labels)


def _cropped(of: NDArray[Any], row: int, column: int, stride: int) -> NDArray[Any]:
    """The crop whose corner is this pixel, of an array whose last two sides are cells of so many pixels."""
    side = _CROP * CELL // stride
    return of[..., row // stride :, column // stride :][..., :side, :side]


def _tensor(maps: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(np.asarray(maps, np.float32))


def _write(path: Path, array: NDArray[np.generic]) -> None:
    stream = io.BytesIO()
    np.save(stream, array)
    write_bytes(path, stream.getvalue())
