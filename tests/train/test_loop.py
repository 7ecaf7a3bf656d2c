"""The loop: equal bit for bit however often it is stopped, and quick to say what went wrong."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.conftest import tiny_net
from torch import Tensor

from fullconv.base.errors import TrainingError, UnreadableImage
from fullconv.data.read import read_samples
from fullconv.data.samples import SampleSet
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.sharp import sharp
from fullconv.nets.surgery import convolutionalize
from fullconv.train import loop
from fullconv.train.checkpoint import checkpoint_step
from fullconv.train.loop import training_steps
from fullconv.train.recipe import Recipe, recipe

SHORT = replace(recipe("modern"), steps=12, batch=2, crop=(32, 32), precision="fp32", workers=0)


def trained(
    samples: SampleSet, how: Recipe, checkpoint: Path | None = None, until: int | None = None
) -> dict[str, Tensor]:
    net = tiny_net(samples.label_space)
    for _ in training_steps(net, samples.train, recipe=how, checkpoint=checkpoint, until=until):
        pass
    return net.state_dict()


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    different = [name for name in left if not torch.equal(left[name], right[name])]
    if different or left.keys() != right.keys():
        raise AssertionError(f"{len(different)} tensors differ: {different[:3]}")


@pytest.mark.parametrize("name", ["modern", "paper", "paper-accumulated"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(scenes: SampleSet, tmp_path: Path, name: str) -> None:
    how = replace(
        recipe(name),
        steps=6,
        workers=0,
        crop=(32, 32) if name == "modern" else None,
        accumulate=1 if name != "paper-accumulated" else 3,
    )
    how = replace(how, batch=2) if name == "modern" else how
    whole = trained(scenes, how)
    for stop in (1, 4):
        trained(scenes, how, tmp_path / f"{stop}", until=stop)
        assert_equal(trained(scenes, how, tmp_path / f"{stop}"), whole)


def test_another_seed_or_order_gives_other_weights(scenes: SampleSet) -> None:
    other = tiny_net(scenes.label_space)
    for _ in training_steps(other, scenes.train, recipe=SHORT, seed=1):
        pass
    with pytest.raises(AssertionError, match="tensors differ"):
        assert_equal(trained(scenes, SHORT), other.state_dict())


def test_worker_processes_change_nothing(scenes: SampleSet) -> None:
    assert_equal(trained(scenes, replace(SHORT, workers=2)), trained(scenes, SHORT))


def test_the_rate_does_not_jump_on_resume(scenes: SampleSet, tmp_path: Path) -> None:
    net = tiny_net(scenes.label_space)
    whole = [step.rate for step in training_steps(net, scenes.train, recipe=SHORT)]
    first = [
        s.rate
        for s in training_steps(
            tiny_net(scenes.label_space), scenes.train, recipe=SHORT, checkpoint=tmp_path / "c", until=5
        )
    ]
    rest = [
        s.rate
        for s in training_steps(tiny_net(scenes.label_space), scenes.train, recipe=SHORT, checkpoint=tmp_path / "c")
    ]
    assert first + rest == whole


def test_a_finished_stage_does_no_step_and_gives_its_weights(scenes: SampleSet, tmp_path: Path) -> None:
    done = trained(scenes, SHORT, tmp_path / "c")
    net = tiny_net(scenes.label_space, seed=7)
    assert list(training_steps(net, scenes.train, recipe=SHORT, checkpoint=tmp_path / "c")) == []
    assert_equal(net.state_dict(), done)


def test_a_checkpoint_of_another_recipe_is_not_taken_up(scenes: SampleSet, tmp_path: Path) -> None:
    trained(scenes, SHORT, tmp_path / "c", until=5)
    net = tiny_net(scenes.label_space)
    steps = list(training_steps(net, scenes.train, recipe=replace(SHORT, rate=1e-4), checkpoint=tmp_path / "c"))
    assert steps[0].step == 1


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_broken_checkpoint_starts_anew(scenes: SampleSet, tmp_path: Path, damage: bytes | None) -> None:
    trained(scenes, SHORT, tmp_path / "c", until=5)
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert checkpoint_step(tmp_path / "c") == 0 or damage is None
    assert_equal(trained(scenes, SHORT, tmp_path / "c"), trained(scenes, SHORT))


LONGER = replace(SHORT, steps=40)


def train_to_be_killed(root: Path, checkpoint: Path, steps_done: Any) -> None:
    """Runs in a process of its own, to be killed: a checkpoint at every step."""
    torch.set_num_threads(1)
    loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    samples = read_samples(root)
    net = tiny_net(samples.label_space)
    for _ in training_steps(net, samples.train, recipe=LONGER, checkpoint=checkpoint):
        steps_done.value += 1


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_killed_at_20_random_moments_the_weights_are_the_same(scenes: SampleSet, tmp_path: Path) -> None:
    processes, moments = multiprocessing.get_context("forkserver"), random.Random(5)
    processes.set_forkserver_preload(["fullconv.train.loop", "fullconv.data.read", "tests.train.test_loop"])
    checkpoint, reached = tmp_path / "c", []
    for _ in range(20):
        steps_done, wanted = processes.Value("i", 0), moments.randrange(3)
        process = processes.Process(target=train_to_be_killed, args=(scenes.root, checkpoint, steps_done), daemon=True)
        process.start()
        while steps_done.value < wanted and process.is_alive():
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.02))  # into the middle of a step, or of writing a checkpoint
        process.kill()
        process.join()
        reached.append(checkpoint_step(checkpoint))
    assert reached == sorted(reached)
    assert 10 < reached[-1] <= LONGER.steps
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert_equal(trained(scenes, LONGER, checkpoint), trained(scenes, LONGER))
    finally:
        torch.set_num_threads(threads)


def test_a_loss_that_is_not_a_number_stops_at_once(scenes: SampleSet) -> None:
    with pytest.raises(TrainingError, match="finite number"):
        trained(scenes, replace(SHORT, optimiser="sgd", rate=1e30, clip=0.0))


def test_a_flat_run_stops_after_a_third(scenes: SampleSet) -> None:
    with pytest.raises(TrainingError, match=r"guessing by class shares|more than one class"):
        trained(scenes, replace(SHORT, rate=0.0, steps=90))


def test_a_flat_run_from_random_weights_goes_on(scenes: SampleSet) -> None:
    assert trained(scenes, replace(SHORT, rate=0.0, steps=90, stops_flat=False))


def test_one_class_everywhere_is_named(scenes: SampleSet) -> None:
    net = tiny_net(scenes.label_space)
    with torch.no_grad():
        net.network.score.bias[2] = 30.0  # type: ignore[union-attr, operator]
    with pytest.raises(TrainingError, match="every pixel is called class 2"):
        list(training_steps(net, scenes.train, recipe=replace(SHORT, rate=1e-6, steps=90)))


def test_the_wait_for_data_stands_in_the_journal(scenes: SampleSet) -> None:
    step = next(iter(training_steps(tiny_net(scenes.label_space), scenes.train, recipe=SHORT)))
    assert 0 <= step.to_json()["wait_share"] <= 1
    assert step.to_json()["images"] == SHORT.batch


def test_loop_leaves_the_callers_randomness_alone(scenes: SampleSet) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    steps = training_steps(tiny_net_quietly(scenes), scenes.train, recipe=SHORT)
    next(steps)
    assert torch.equal(torch.rand(3), expected)
    steps.close()


def tiny_net_quietly(samples: SampleSet) -> loop.SegmentationNet:
    with torch.random.fork_rng(devices=[]):
        return tiny_net(samples.label_space)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_vanishes_is_said_in_the_form_of_every_error(scenes: SampleSet, workers: int) -> None:
    """Also where a process of its own reads it."""
    gone = tuple(replace(sample, photo=sample.photo.with_name("gone.png")) for sample in scenes.train)
    how = replace(recipe("modern"), steps=2, batch=2, crop=(32, 32), precision="fp32", workers=workers)
    with pytest.raises(UnreadableImage, match=r"gone\.png is not there"):
        list(training_steps(tiny_net(scenes.label_space), gone, recipe=how))


def test_frozen_layers_stay_and_all_others_learn(scenes: SampleSet) -> None:
    classifier = build_classifier("embedded:efficientnet_lite0", weights="none")
    converted = convolutionalize(classifier.network, 64)  # with its normalisation, whose statistics must stay too
    net = sharp(converted, label_space=scenes.label_space, preparation=classifier.preparation)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for _ in training_steps(net, scenes.train, recipe=replace(SHORT, steps=2, frozen=4, ema=0.0, stops_flat=False)):
        pass
    after = net.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    body = "network.body.network."
    early = ("conv_stem", "bn1", "blocks.0.", "blocks.1.", "blocks.2.0.conv_pw.", "blocks.2.0.bn1.")  # up to stride 4
    assert {name for name in before if name.startswith(tuple(body + start for start in early))} <= same
    assert f"{body}blocks.2.0.conv_dw.weight" not in same
    assert not {name for name in same if name.startswith(body + "blocks.6") and "tracked" not in name}
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_sharp_head_does_without_as_many_channels_as_the_recipe_says(scenes: SampleSet, share: float) -> None:
    classifier = build_classifier("embedded:efficientnet_lite0", weights="none")
    converted = convolutionalize(classifier.network, 64)
    net = sharp(converted, label_space=scenes.label_space, preparation=classifier.preparation)
    dropped = []
    coarsest: Any = net.network.head.laterals[-1]  # type: ignore[union-attr]
    coarsest.register_forward_pre_hook(lambda _, given: dropped.append((given[0].amax((2, 3)) == 0).float().mean()))
    for _ in training_steps(net, scenes.train, recipe=replace(SHORT, steps=2, dropout=share, stops_flat=False)):
        pass
    assert len(dropped) == 2
    assert all(abs(float(one) - share) < 0.1 for one in dropped)


def test_a_run_that_is_left_gives_the_frozen_layers_back(scenes: SampleSet) -> None:
    classifier = build_classifier("embedded:efficientnet_lite0", weights="none")
    converted = convolutionalize(classifier.network, 64)
    net = sharp(converted, label_space=scenes.label_space, preparation=classifier.preparation)
    steps = training_steps(net, scenes.train, recipe=replace(SHORT, frozen=4))
    next(steps)
    assert not all(parameter.requires_grad for parameter in net.parameters())
    steps.close()  # type: ignore[attr-defined]
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_the_head_learns_first_and_then_all(scenes: SampleSet) -> None:
    how = replace(SHORT, steps=8, head_first=0.5, ema=0.0, stops_flat=False)
    net = tiny_net(scenes.label_space)
    body, score = net.network.body[0].weight, net.network.score.weight  # type: ignore[union-attr,index]
    moved = []
    for _ in training_steps(net, scenes.train, recipe=how):
        moved.append((body.detach().clone(), score.detach().clone()))
    starts = tiny_net(scenes.label_space).network.body[0].weight  # type: ignore[union-attr,index]
    assert all(torch.equal(body, starts) for body, _ in moved[:4])
    assert not any(torch.equal(body, starts) for body, _ in moved[4:])
    assert not any(torch.equal(one[1], after[1]) for one, after in pairwise(moved[:4]))
    assert all(parameter.requires_grad for parameter in net.parameters())
