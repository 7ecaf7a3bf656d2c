"""Train the classifier. Road: train, before surgery. In: class folders, or windows cut from samples. Out: one
record a step.

From class folders an image has one class; a window cut from a sample has every class that covers enough of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from fullconv.base import seeds
from fullconv.base.images import read_photo
from fullconv.data.augment import Augmentation, augment
from fullconv.data.batch import Crops, Source
from fullconv.data.formats.class_folders import LabelledPhoto
from fullconv.data.samples import Sample
from fullconv.nets.classifiers import Classifier
from fullconv.train.loop import Step, Task, optimise
from fullconv.train.recipe import Recipe
from fullconv.train.watch import Watch

NO_VOID = 255
PRESENT = 0.01  # share of a window's pixels from which a class counts as in the window


class LabelledCrops:
    """Source of crops of labelled photos: (3, h, w) uint8 and the class, a scalar int64."""

    def __init__(self, photos: tuple[LabelledPhoto, ...], how: Augmentation, *, seed: int) -> None:
        self.photos = photos
        self.how = how
        self.seed = seed
        self._largest = round(max(how.crop) * how.scale[1])  # side in pixels up to which detail can be seen
        self._held: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.photos)

    def item(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """The crop of photo `index` in `epoch`; the photo is first brought to the window's size by its short side."""
        if index not in self._held:
            self._held[index] = shrunk(read_photo(self.photos[index].path), self._largest)
        photo = self._held[index]
        rng = seeds.rng(self.seed, "crop", epoch, index)
        fit = max(self.how.crop) / min(photo.shape[:2])
        scaled = Augmentation(
            crop=self.how.crop,
            scale=(fit * self.how.scale[0], fit * self.how.scale[1]),
            aspect=self.how.aspect,
            mirror=self.how.mirror,
            colour=self.how.colour,
        )
        x, _ = augment(photo, np.zeros(photo.shape[:2], np.uint8), scaled, void=NO_VOID, rng=rng)
        return x, torch.tensor(self.photos[index].label)


def shrunk(photo: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, 3) with a short side of at most `side` pixels, so that thousands of photos can be held."""
    height, width = photo.shape[:2]
    if min(height, width) <= side:
        return photo
    size = [round(length * side / min(height, width)) for length in (height, width)]
    return tv.resize(torch.from_numpy(photo).permute(2, 0, 1), size, antialias=True).permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


class Windows(Crops):
    """Source of windows of samples: (3, h, w) uint8 and (K,) float32, 1 where a class is in the window."""

    draws = "window"

    def item(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """A window of sample `index` in `epoch`."""
        x, labels = super().item(epoch, index)
        return x, present(labels, self.samples[index].label_space.size)


def present(labels: Tensor, classes: int) -> Tensor:
    """(K,) float32: 1 for each class that covers at least PRESENT of the (h, w) label map."""
    known = labels[labels < classes]
    return (torch.bincount(known.flatten(), minlength=classes) >= PRESENT * labels.numel()).float()


def classifier_steps(
    classifier: Classifier,
    items: tuple[LabelledPhoto, ...] | tuple[Sample, ...],
    *,
    recipe: Recipe,
    seed: int = 0,
    checkpoint: Path | None = None,
    until: int | None = None,
) -> Iterator[Step]:
    """Train `classifier.network` in place; yield a record a step. See `training_steps` for the arguments.

    Args:
        items: labelled photos (softmax loss over classes) or samples (logistic loss for each class in the window).
    """
    how = Augmentation(
        crop=classifier.window, scale=recipe.scale, aspect=recipe.aspect, mirror=recipe.mirror, colour=recipe.colour
    )
    labelled = isinstance(items[0], LabelledPhoto)
    classes = len(classifier.class_names or ())
    source: Source = LabelledCrops(items, how, seed=seed) if labelled else Windows(items, how, seed=seed)  # type: ignore[arg-type]
    task = Task(
        source=source,
        preparation=classifier.preparation,
        answers=lambda photos, targets: (classifier.network(photos), targets),
        loss=F.cross_entropy if labelled else F.binary_cross_entropy_with_logits,
        targets=len,
        watch=Watch(steps=recipe.steps, classes=classes, void=NO_VOID, weights=None)
        if labelled and classes < NO_VOID and recipe.stops_flat
        else None,
        pretrained=_pretrained(classifier.network),
        frozen=_norms(classifier.network) if recipe.norms_stay else (),
    )
    yield from optimise(classifier.network, task, recipe, seed=seed, checkpoint=checkpoint, until=until)


def _pretrained(network: nn.Module) -> frozenset[str]:
    """All parameters but those of the last layer, which is fresh."""
    names = [name for name, _ in network.named_parameters()]
    last = names[-1].rpartition(".")[0]
    return frozenset(name for name in names if name.rpartition(".")[0] != last)


def _norms(network: nn.Module) -> list[nn.Module]:
    """The layers that hold statistics."""
    return [layer for layer in network.modules() if isinstance(getattr(layer, "running_mean", None), Tensor)]
