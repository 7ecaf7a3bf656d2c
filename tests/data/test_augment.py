"""Crops: photo and label map stay together, void lies outside, everything comes from the generator given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from fullconv.base import seeds
from fullconv.data.augment import Augmentation, augment, vary_colour
from fullconv.data.batch import Order

PLAIN = Augmentation(crop=(32, 32), mirror=0.0)


def striped(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo whose red channel says the class: 10 times it."""
    labels = np.broadcast_to(np.arange(width) // 8 % 5, (height, width)).astype(np.uint8)
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0] = 10 * labels
    return photo, np.ascontiguousarray(labels)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 99),
    low=st.sampled_from([0.5, 1.0]),
    aware=st.sampled_from([0.0, 1.0]),
)
def test_every_photo_gives_a_crop_of_the_size_asked(
    height: int, width: int, seed: int, low: float, aware: float
) -> None:
    photo, labels = striped(height, width)
    how = Augmentation(crop=(24, 40), scale=(low, 2.0), aspect=(0.8, 1.25), colour=0.3, class_aware=aware)
    x, y = augment(photo, labels, how, void=255, rng=seeds.rng(seed))
    assert x.shape == (3, 24, 40)
    assert x.dtype == torch.uint8
    assert y.shape == (24, 40)
    assert set(y.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    assert (y != 255).any() or min(height, width) < 3  # made half as large, a line of pixels may vanish


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_photo_and_label_map_stay_together(mirror: float) -> None:
    photo, labels = striped(50, 90)
    x, y = augment(photo, labels, Augmentation(crop=(32, 32), mirror=mirror), void=255, rng=seeds.rng(3))
    assert torch.equal(x[0].long(), 10 * y)


def test_outside_the_photo_is_void() -> None:
    photo, labels = striped(10, 12)
    _, y = augment(photo, labels, PLAIN, void=255, rng=seeds.rng(0))
    assert int((y != 255).sum()) == 10 * 12


def test_the_same_generator_gives_the_same_crop() -> None:
    photo, labels = striped(60, 80)
    how = Augmentation(crop=(32, 32), scale=(0.5, 2.0), colour=0.4)
    first, second, other = (augment(photo, labels, how, void=255, rng=seeds.rng(s, "crop", 1, 2)) for s in (0, 0, 1))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], other[0])


def test_class_aware_crops_hold_the_rare_class() -> None:
    labels = np.zeros((200, 300), np.uint8)
    labels[150:160, 250:262] = 1
    photo = np.zeros((200, 300, 3), np.uint8)
    how = Augmentation(crop=(48, 48), class_aware=1.0)
    held = [bool((augment(photo, labels, how, void=255, rng=seeds.rng(s))[1] == 1).any()) for s in range(30)]
    blind = [
        bool((augment(photo, labels, Augmentation(crop=(48, 48)), void=255, rng=seeds.rng(s))[1] == 1).any())
        for s in range(30)
    ]
    assert sum(held) > 10  # one draw in two is for the rare class
    assert sum(blind) < 5


def test_labels_past_255_survive() -> None:
    labels = np.full((40, 40), 300, np.uint16)
    _, y = augment(np.zeros((40, 40, 3), np.uint8), labels, PLAIN, void=65535, rng=seeds.rng(0))
    assert y.unique().tolist() == [300]


def test_every_epoch_holds_every_item_once_in_another_order() -> None:
    order = Order(7, seed=3)
    epochs = [[order.at(position) for position in range(epoch * 7, epoch * 7 + 7)] for epoch in range(3)]
    assert all(sorted(index for _, index in epoch) == list(range(7)) for epoch in epochs)
    assert [epoch[0][0] for epoch in epochs] == [0, 1, 2]
    assert len({tuple(index for _, index in epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("seed", range(4))
def test_colour_varies_as_torchvision_does_it_one_after_another(seed: int) -> None:
    photo = torch.randint(60, 140, (3, 20, 30), generator=torch.Generator().manual_seed(seed)).byte()
    brightness, contrast, saturation = seeds.rng(seed, "colour").uniform(0.7, 1.3, 3)
    wanted = tv.adjust_brightness(photo.float() / 255, brightness)
    wanted = tv.adjust_saturation(tv.adjust_contrast(wanted, contrast), saturation) * 255
    varied = vary_colour(photo, 0.3, seeds.rng(seed, "colour"))
    assert (varied - wanted).abs().max() <= 0.6
    assert not torch.equal(varied, photo)
