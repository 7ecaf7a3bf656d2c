"""The classifier's training: class folders and windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fullconv.data.augment import Augmentation
from fullconv.data.formats.class_folders import read_class_folders
from fullconv.data.samples import SampleSet
from fullconv.nets.classifiers import Classifier
from fullconv.nets.preparation import Preparation
from fullconv.train.classifier import LabelledCrops, Windows, classifier_steps, present
from fullconv.train.recipe import recipe

HOW = replace(recipe("modern"), steps=40, batch=4, precision="fp32", workers=0, scale=(1.0, 1.2), colour=0.0)


def tiny_classifier(names: tuple[str, ...]) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, len(names))
    )
    return Classifier(network, "tiny", (32, 32), Preparation(), names, "none")


def test_it_learns_to_tell_class_folders_apart(tmp_path: Path) -> None:
    for name, value in (("dark", 30), ("light", 220)):
        (tmp_path / name).mkdir()
        for index in range(8):
            noise = np.random.default_rng(index).integers(-25, 25, (40, 50, 3))
            Image.fromarray((value + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / name / f"{index}.png")
    folders = read_class_folders(tmp_path)
    classifier = tiny_classifier(folders.class_names)
    losses = [
        step.loss
        for step in classifier_steps(classifier, folders.train, recipe=replace(HOW, rate=1e-2, pretrained_rate=1.0))
    ]
    assert losses[-1] < 0.7 * losses[0]


def test_windows_are_learned_as_several_labels(scenes: SampleSet) -> None:
    classifier = tiny_classifier(scenes.label_space.names)
    steps = list(classifier_steps(classifier, scenes.train, recipe=replace(HOW, steps=3)))
    assert [step.step for step in steps] == [1, 2, 3]


def test_the_last_layer_is_fresh_and_learns_faster(scenes: SampleSet) -> None:
    classifier = tiny_classifier(scenes.label_space.names)
    before = {name: tensor.clone() for name, tensor in classifier.network.named_parameters()}
    list(
        classifier_steps(
            classifier, scenes.train, recipe=replace(HOW, steps=3, pretrained_rate=0.0, weight_decay=0.0, ema=0.0)
        )
    )
    moved = {name for name, tensor in classifier.network.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == {"4.weight", "4.bias"}


@pytest.mark.parametrize("stay", [True, False])
def test_normalisation_stays_as_it_was_where_the_recipe_says_so(scenes: SampleSet, stay: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8)
    )
    classifier = replace(tiny_classifier(scenes.label_space.names), network=network)
    before = {name: tensor.clone() for name, tensor in network[1].state_dict().items()}
    weight = network[0].weight.clone()
    list(classifier_steps(classifier, scenes.train, recipe=replace(HOW, steps=3, head_first=0.0, norms_stay=stay)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network[1].state_dict().items()) is stay
    assert not torch.equal(network[0].weight, weight)


def test_present_needs_one_in_a_hundred_pixels() -> None:
    labels = torch.zeros(10, 20, dtype=torch.long)
    labels[0, 0] = 1
    labels[1, :2] = 2
    labels[2, :] = 255
    assert present(labels, 4).tolist() == [1, 0, 1, 0]


def test_items_are_functions_of_epoch_and_index(scenes: SampleSet, tmp_path: Path) -> None:
    how = Augmentation(crop=(32, 32), scale=(0.8, 1.5), colour=0.3)
    first, second = Windows(scenes.train, how, seed=1), Windows(scenes.train, how, seed=1)
    second.item(4, 0)
    assert torch.equal(first.item(2, 3)[0], second.item(2, 3)[0])
    assert not torch.equal(first.item(2, 3)[0], first.item(3, 3)[0])
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a", "b"):
        for i in range(4):
            Image.fromarray(
                np.random.default_rng(10 * i + ord(name)).integers(0, 255, (20, 90, 3)).astype(np.uint8)
            ).save(tmp_path / name / f"{i}.png")
    folders = read_class_folders(tmp_path)
    crops = LabelledCrops(folders.train, how, seed=1)
    assert crops.item(0, 0)[0].shape == (3, 32, 32)
    assert torch.equal(crops.item(1, 1)[0], LabelledCrops(folders.train, how, seed=1).item(1, 1)[0])
