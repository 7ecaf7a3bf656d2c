"""Trained for the same minutes on the same photos from the same weights: which network segments best, and how fast?

python benchmarks/training.py RUNS [SET/NETWORK ...]      e.g. camvid/sharp camvid/smp-FPN; none: all, one after another

Needs segmentation-models-pytorch beside fullconv. For a quiet machine. Every network is trained by the loop of this
package: the same crops, precision, schedule and seed, by the optimiser and at the rates and batch that did best for it
on a part of train (TRIALS, TRIAL_SECONDS each). Those of other libraries learn by the softmax loss, as their users
would; `+recipe` is the same network by our loss, its head trained first, and class offsets. The paper's heads learn in
one stage, by our recipe. RUNS keeps the counts of each photo of val. Writes benchmarks/results/training.json.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from road import DATA
from rows import in_turns, run
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.models.segmentation.lraspp import LRASPPHead

import fullconv as fc
from fullconv.base.memory import keep_freed_memory
from fullconv.data.fingerprint import fingerprint
from fullconv.data.samples import Sample, SampleSet
from fullconv.measure.compare import compare
from fullconv.measure.scores import Scores, read_counts, write_counts
from fullconv.nets.classifiers import Classifier, build_classifier
from fullconv.nets.prediction import predict_photo
from fullconv.nets.segmentation import SegmentationNet
from fullconv.train import plan as planning
from fullconv.train.benchmark import one_step
from fullconv.train.loop import frozen, frozen_layers
from fullconv.train.precision import quick_bfloat16
from fullconv.train.recipe import Recipe, recipe
from fullconv.train.stages import Replanning, Stage, stage_steps

BACKBONE = "embedded:efficientnet_lite0"
SECONDS = 360.0
TRIAL_SECONDS = 60.0
SETTINGS = ("optimiser", "rate", "pretrained_rate", "batch")
# optimiser, rate, factor on the planned rate of pretrained layers, batch; the last: nearly one rate for all layers
TRIALS = (
    ("muon", 4e-3, 1, 16),
    ("muon", 2.8e-3, 1, 8),
    ("adamw", 4e-3, 2, 16),
    ("adamw", 2e-3, 2, 8),
    ("adamw", 1e-3, 8, 8),
)
TIMED_PHOTOS = 20
HELD_OUT = 4  # every fourth sample of train scores the trials
PACE_STEPS = 6  # to plan by; planned again on the way, as the road does
ANIMALS = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
SETS: dict[str, dict[str, Any]] = {"camvid": {}, "voc-animals": {"classes": ANIMALS, "others": "void"}}


class Theirs(nn.Module):
    """An encoder and what scores its maps; sizes that 32 does not divide are extended."""

    def __init__(self, body: nn.Module, decoder: nn.Module, join: Callable[[nn.Module, list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.body, self.decoder, self.join = body, decoder, join

    def forward(self, photos: Tensor) -> Tensor:
        height, width = photos.shape[2:]
        padded = F.pad(photos, (0, -width % 32, 0, -height % 32))
        scores = self.join(self.decoder, self.body(padded))
        if scores.shape[2:] != padded.shape[2:]:
            scores = F.interpolate(scores, size=padded.shape[2:], mode="bilinear", align_corners=False)
        return scores[:, :, :height, :width]


def from_smp(name: str, classes: int) -> nn.Module:
    import segmentation_models_pytorch as smp

    model = getattr(smp, name)("tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes)
    model.encoder.model.load_state_dict(embedded(), strict=False)
    rest = nn.ModuleDict({"decoder": model.decoder, "score": model.segmentation_head})
    return Theirs(model.encoder, rest, lambda parts, maps: parts["score"](parts["decoder"](maps)))  # type: ignore[index]


def from_torchvision(name: str, classes: int) -> nn.Module:
    """Heads of torchvision on the maps of timm's backbone."""
    body = timm.create_model("tf_efficientnet_lite0", features_only=True)
    body.load_state_dict(embedded(), strict=False)
    channels = body.feature_info.channels()
    if name == "FCN":
        return Theirs(body, FCNHead(channels[-1], classes), lambda head, maps: head(maps[-1]))
    head = LRASPPHead(channels[2], channels[-1], classes, 128)
    return Theirs(body, head, lambda head, maps: head({"low": maps[2], "high": maps[-1]}))


def embedded() -> dict[str, Tensor]:
    return build_classifier(BACKBONE, weights="embedded").network.state_dict()


def ours(head: str, samples: SampleSet, classifier: Classifier) -> SegmentationNet:
    converted = fc.convolutionalize(classifier.network, classifier.window, norms="folded")
    return getattr(fc, head)(converted, label_space=samples.label_space, preparation=classifier.preparation)  # type: ignore[no-any-return]


OURS = {"sharp": "sharp", "8s": "fcn8s", "16s": "fcn16s", "32s": "fcn32s"}
THEIRS: dict[str, Callable[[int], nn.Module]] = {
    **{f"smp-{name}": partial(from_smp, name) for name in ("Unet", "FPN", "DeepLabV3Plus")},
    **{f"torchvision-{name}": partial(from_torchvision, name) for name in ("FCN", "LRASPP")},
}
OUR_RECIPE = "+recipe"


def build(network: str, samples: SampleSet) -> SegmentationNet:
    torch.manual_seed(0)
    classifier = build_classifier(BACKBONE, weights="embedded")
    if network in OURS:
        return ours(OURS[network], samples, classifier)
    made = THEIRS[network.removesuffix(OUR_RECIPE)](samples.label_space.size)
    return SegmentationNet(made, label_space=samples.label_space, preparation=classifier.preparation)


def base_recipe(network: str, samples: SampleSet) -> Recipe:
    """The recipe `modern` as the plan fills it in (bf16 where the processor has it); theirs with the plain loss, all
    layers learning from the first step and the likeliest class.
    """
    seen = fingerprint(samples)
    crop = tuple(planning.plan_crop(seen).value)
    aware = planning.plan_class_aware([one.share for one in seen.classes]).value
    rate, dropout = planning.plan_pretrained_rate(seen).value, planning.plan_dropout(seen).value
    precision = "bf16" if quick_bfloat16(torch.device("cpu")) else "fp32"
    planned = {"crop": crop, "class_aware": aware, "pretrained_rate": rate, "dropout": dropout, "precision": precision}
    how = replace(recipe("modern"), **planned)
    plain = {"loss": "softmax", "head_first": 0.0, "pretrained_warm_up": 0.0, "offsets": "none"}
    return replace(how, **plain) if network in THEIRS else how


def train(net: SegmentationNet, train: tuple[Sample, ...], how: Recipe, folder: Path, seconds: float) -> dict[str, Any]:
    """By the loop and the planning of the road; what it took."""
    first = [
        step.seconds for step in fc.training_steps(copy.deepcopy(net), train, recipe=replace(how, steps=PACE_STEPS))
    ]
    steps = int(seconds / statistics.median(first[1:]))
    began = time.monotonic()
    replanning = Replanning([], lambda _: max(1.0, seconds - (time.monotonic() - began)), lambda _: None)
    stage = Stage("trial", folder, str(time.time()), replace(how, steps=steps), replanning)
    took = [step.seconds for step in stage_steps(stage, partial(fc.training_steps, net, train))]
    (folder / "checkpoint.safetensors").unlink()
    return {
        "steps": len(took),
        "seconds": round(sum(took), 1),
        "images_per_second": round(len(took) * how.batch / sum(took), 2),
    }


def tuned(network: str, samples: SampleSet, how: Recipe, folder: Path) -> tuple[Recipe, dict[str, float]]:
    """The recipe with what scores best on the held-out part of train, and what each trial scored."""
    held = samples.train[::HELD_OUT]
    rest = tuple(sample for i, sample in enumerate(samples.train) if i % HELD_OUT)
    scores = {}
    for optimiser, rate, factor, batch in TRIALS:
        pretrained_rate = factor * how.pretrained_rate
        tried = replace(how, optimiser=optimiser, rate=rate, pretrained_rate=pretrained_rate, batch=batch)
        net = build(network, samples)
        train(net, rest, tried, folder / named(tried), TRIAL_SECONDS)
        scores[tried] = fc.evaluate(net, held).mean_iou
    best = max(scores, key=lambda tried: scores[tried])
    return best, {named(tried): round(mean_iou, 4) for tried, mean_iou in scores.items()}


def named(tried: Recipe) -> str:
    return f"{tried.optimiser} {tried.rate:g} {tried.pretrained_rate:g} {tried.batch}"


def measured(runs: Path, name: str, network: str) -> dict[str, Any]:
    samples = fc.read_samples(DATA / name, **SETS[name])
    folder, how = runs / name / network, base_recipe(network, samples)
    how, trials = tuned(network, samples, how, folder)
    net = build(network, samples)
    took = train(net, samples.train, how, folder, SECONDS)
    if how.offsets == "fitted":
        fc.fit_offsets(net, samples.train)
    scores = fc.evaluate(net, samples.val)
    write_counts(scores, folder / "counts.npz")
    low, high = scores.mean_iou_interval
    row = {name: getattr(how, name) for name in (*SETTINGS, "precision", "loss")}
    row |= {"trials": trials} | took
    row |= {"mean_iou": round(scores.mean_iou, 4), "interval": [round(low, 4), round(high, 4)]}
    row |= costs(net, how, samples)
    return row | {"behind_sharp": behind(scores, runs / name / "sharp" / "counts.npz")}


def costs(net: SegmentationNet, how: Recipe, samples: SampleSet) -> dict[str, float]:
    """Of a trained network, which is of no use afterwards."""
    photos = [sample.read()[0] for sample in samples.val[:TIMED_PHOTOS]]
    spent = in_turns(*(partial(predict_photo, net, photo) for photo in photos), rounds=1)
    assert how.crop
    with frozen(frozen_layers(net, how)):
        kept = one_step(net, how, how.crop)[1]
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "seconds_a_photo": round(statistics.median(seconds for one in spent for seconds in one), 4),
        "kept_gb": round(kept / 1e9, 3),
    }


def behind(scores: Scores, sharp: Path) -> dict[str, Any] | None:
    """How far ahead of this network ours is on the same photos; None before ours was measured."""
    return compare(read_counts(sharp), scores).to_json() if sharp.exists() else None


def main(runs: Path, asked: list[str]) -> None:
    keep_freed_memory()
    networks = [*OURS, *THEIRS, *(name + OUR_RECIPE for name in THEIRS)]
    cases = {f"{name}/{network}": partial(measured, runs, name, network) for name in SETS for network in networks}
    run("training", cases, asked)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
