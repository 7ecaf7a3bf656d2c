"""A small network on small photos, trained in seconds on any part of the samples. Road: study, before what retrains.

In: samples. Out: the same samples shrunk; a trained segmenter; what it gets right, by class. What the value of samples,
learning curves and what to label next ask again and again, a run of minutes could not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fullconv.base.progress import progress
from fullconv.data.samples import Sample
from fullconv.labels.maps import nearest, write_index_png
from fullconv.labels.space import LabelSpace
from fullconv.measure.confusion import confusion
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.sharp import sharp
from fullconv.nets.surgery import convolutionalize
from fullconv.predict.photo import predict_photo
from fullconv.train.loop import training_steps
from fullconv.train.precision import quick_bfloat16
from fullconv.train.recipe import recipe

LONGEST = 256  # px, the longer side of a small photo
STEPS, BATCH, CROP = 80, 8, 160
MODEL = "embedded:efficientnet_lite0"


def shrink_samples(samples: Iterable[Sample], folder: Path) -> tuple[Sample, ...]:
    """The samples with photos of at most `LONGEST` pixels; what is there is not written again.

    Photos are averaged, label maps take the nearest pixel's class.

    Raises: UnreadableImage, UnknownLabel, DiskFull.
    """
    small = []
    for sample in progress(samples, what="shrinking photos"):
        factor = min(1.0, LONGEST / max(sample.size))
        height, width = (max(1, round(side * factor)) for side in sample.size)
        space = _own_ids(sample.label_space)
        smaller, label_map = (folder / part / f"{sample.name}.png" for part in ("photos", "label_maps"))
        if not label_map.exists():  # written last
            photo, labels = sample.read()
            smaller.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).resize((width, height), Image.Resampling.BOX).save(smaller)
            write_index_png(label_map, nearest(labels, (height, width)), space)
        small.append(Sample(sample.name, smaller, label_map, (height, width), space))
    return tuple(small)


def train_small(samples: tuple[Sample, ...], *, seed: int) -> SegmentationNet:
    """The sharp head on EfficientNet-Lite0 with ImageNet weights, trained on small photos by the recipe `modern`.

    Raises: TrainingError.
    """
    classifier = build_classifier(MODEL, classes=None, weights="embedded", seed=seed)
    converted = convolutionalize(classifier.network, classifier.window, norms="folded")
    torch.manual_seed(seed)  # the fresh layers
    net = sharp(converted, label_space=samples[0].label_space, preparation=classifier.preparation)
    precision = "bf16" if quick_bfloat16(torch.device("cpu")) else "fp32"
    how = replace(
        recipe("modern"), steps=STEPS, batch=BATCH, crop=(CROP, CROP), precision=precision, channels_last=True
    )
    for _ in training_steps(net, samples, recipe=how, seed=seed):
        pass
    return net


def pixels_by_guess(net: SegmentationNet, samples: Sequence[Sample]) -> NDArray[np.int64]:
    """(K, K) pixels of the samples by class and by guess."""
    space = samples[0].label_space
    counts = np.zeros((space.size, space.size), np.int64)
    for sample in samples:
        photo, truth = sample.read()
        counts += confusion(truth, predict_photo(net, photo).labels, space)
    return counts


def _own_ids(space: LabelSpace) -> LabelSpace:
    """The space for files that hold its class ids and void."""
    own: tuple[Any, ...] = tuple((index,) for index in range(space.size))
    return replace(space, file_values=own, void_values=(space.void,), others="error")
