"""Batches in an order that is a function of (seed, epoch, index). Road: data, between samples and training.

In: anything that gives item (epoch, index). Out: batches, made ahead in worker processes so that the network never
waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from fullconv.base import seeds
from fullconv.base.errors import FullconvError
from fullconv.data.augment import Augmentation, augment
from fullconv.data.samples import Sample

CACHE_BYTES = 1_500_000_000


class Source(Protocol):
    """Training items by (epoch, index)."""

    def __len__(self) -> int: ...

    def item(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """The item: an input and its target."""


class Cache:
    """Decoded files, kept until they fill `limit` bytes; decoding costs more than augmenting."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._held: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8 | np.uint16]]] = {}
        self._room = limit

    def read(self, index: int, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8 | np.uint16]]:
        """Photo and label map of the sample at `index`."""
        if index not in self._held:
            photo, labels = sample.read()
            if photo.nbytes + labels.nbytes > self._room:
                return photo, labels
            self._room -= photo.nbytes + labels.nbytes
            self._held[index] = photo, labels
        return self._held[index]


class Crops:
    """Source of augmented crops of samples: (3, h, w) uint8 and (h, w) int64."""

    draws = "crop"  # the name under which the randomness of an item is drawn

    def __init__(self, samples: tuple[Sample, ...], how: Augmentation, *, seed: int) -> None:
        self.samples = samples
        self.how = how
        self.seed = seed
        self._cache = Cache()

    def __len__(self) -> int:
        return len(self.samples)

    def item(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """The crop of sample `index` in `epoch`."""
        sample = self.samples[index]
        photo, labels = self._cache.read(index, sample)
        rng = seeds.rng(self.seed, self.draws, epoch, index)
        return augment(photo, labels, self.how, void=sample.label_space.void, rng=rng)


class WholePhotos(Crops):
    """Source of whole photos at their own size, as the paper trains: batches of one."""

    def item(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Sample `index`, mirrored in half of the epochs if the augmentation says so."""
        photo, labels = self._cache.read(index, self.samples[index])
        x = torch.from_numpy(photo).permute(2, 0, 1)
        y = torch.from_numpy(labels.astype(np.int64))
        mirrored = seeds.rng(self.seed, self.draws, epoch, index).random() < self.how.mirror
        return (x.flip(-1), y.flip(-1)) if mirrored else (x, y)


@dataclass(frozen=True)
class Order:
    """Which item stands at which position of the run."""

    items: int
    seed: int

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, index) at `position`, counted over the whole run."""
        epoch, place = divmod(position, self.items)
        return epoch, int(_permutation(self.items, self.seed, epoch)[place])


@lru_cache(maxsize=2)  # a batch may reach into the next epoch
def _permutation(items: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return seeds.rng(seed, "order", epoch).permutation(items)


Item = tuple[Tensor, Tensor] | FullconvError


class _Positions(Dataset[Item]):
    def __init__(self, source: Source, order: Order) -> None:
        self.source = source
        self.order = order

    def __getitem__(self, position: int) -> Item:
        try:
            return self.source.item(*self.order.at(position))
        except FullconvError as error:  # raised in a worker it would lose its form
            return error


def _stacked(items: list[Item]) -> Any:
    return next((item for item in items if isinstance(item, FullconvError)), None) or default_collate(items)


def batches(
    source: Source, *, batch: int, first_step: int, last_step: int, seed: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of steps first_step + 1 to last_step: (N, 3, h, w) uint8 and the stacked targets.

    Step s holds positions (s - 1) * batch to s * batch - 1 of the run: a resumed run sees what an uninterrupted one
    sees.
    """
    positions = range(first_step * batch, last_step * batch)
    loader = DataLoader(
        _Positions(source, Order(len(source), seed)),
        batch_size=batch,
        sampler=positions,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator().manual_seed(0),  # keeps the loader from drawing on the global generator
        collate_fn=_stacked,
    )
    for made in loader:
        if isinstance(made, FullconvError):
            raise made
        yield made
