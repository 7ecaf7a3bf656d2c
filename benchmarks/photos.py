"""What a converted classifier says of real photos, with real weights.

python benchmarks/photos.py [CASE ...]                      writes benchmarks/results/photos.json
RUN=FOLDER python benchmarks/photos.py scales-fcn           an FCN of the road: the bundle of a run on voc-animals

`peaks` holds Grad-CAM of the package grad-cam beside our maps (pip install grad-cam).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rows
from road import DATA

import fullconv as fc
from fullconv.base.images import read_photo
from fullconv.data.samples import Sample, SampleSet
from fullconv.dense.objects import object_labels
from fullconv.dense.ways import Choices, DenseClassifier, dense_classifier, dense_scores
from fullconv.measure.evaluate import evaluate_with
from fullconv.measure.intervals import LEVEL
from fullconv.nets.classifiers import Classifier, build_classifier
from fullconv.predict.classify import many_positions, one_crop, top

LITE0 = "embedded:efficientnet_lite0"
ANIMALS = ("cat", "cow", "dog", "horse", "sheep")
IMAGENET = {
    # ImageNet's classes (their numbers) that are such an animal; of persons it has none
    "cat": range(281, 286),
    "cow": (345, 346, 347),  # ox, water buffalo, bison
    "dog": range(151, 269),
    "horse": (339,),  # sorrel
    "sheep": (348, 349, 350),  # ram, bighorn, ibex
}
VOC = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
PHOTOS = 50


def voc_animals() -> SampleSet:
    return fc.read_samples(DATA / "voc-animals", classes=VOC, others="void")


def one_animal(samples: SampleSet) -> list[tuple[Sample, str]]:
    """The first photos of val with one kind of animal in them, as many of each kind, and its name."""
    found: dict[str, list[Sample]] = {name: [] for name in ANIMALS}
    for sample in samples.val:
        here = [name for name in ANIMALS if (sample.read()[1] == VOC.index(name)).any()]
        if len(here) == 1:
            found[here[0]].append(sample)
    return [(sample, name) for name in ANIMALS for sample in found[name][: PHOTOS // len(ANIMALS)]]


def likeliest(classifier: Classifier, photo: Any, animal: str) -> int:
    """The class of ImageNet among those of this animal that the classifier finds likeliest in the photo's middle."""
    shares = one_crop(classifier, photo)
    return max(IMAGENET[animal], key=lambda k: float(shares[k]))


def peaks() -> dict[str, Any]:
    """Does the score map of the right class peak on the object?"""
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    classifier = build_classifier(LITE0)
    ours = {"cell": dense_classifier(classifier), "window": dense_classifier(classifier, pooling="window")}
    last = classifier.network.bn2  # the last map before the pooling
    grad_cam = GradCAM(model=classifier.network, target_layers=[last])
    hits: dict[str, list[bool]] = {"cell": [], "window": [], "grad-cam": []}
    seconds: dict[str, list[float]] = {name: [] for name in hits}

    def score(name: str, truth: Any, label: int, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        values = work()
        seconds[name].append(time.perf_counter() - began)
        hits[name].append(bool(truth[np.unravel_index(int(values.argmax()), values.shape)] == label))

    chosen = one_animal(voc_animals())
    for sample, animal in chosen:
        photo, truth = sample.read()
        k, label = likeliest(classifier, photo, animal), VOC.index(animal)
        for name, dense in ours.items():
            score(name, truth, label, partial(our_map, dense, photo, k))
        x = classifier.preparation.prepare(photo)[None]
        score("grad-cam", truth, label, partial(their_map, grad_cam, x, [ClassifierOutputTarget(k)]))
    torch.set_grad_enabled(True)
    area = [float((s.read()[1] == VOC.index(a)).mean()) for s, a in chosen]
    return {
        "model": LITE0,
        "photos": len(chosen),
        "object_share": round(float(np.mean(area)), 3),
        "peaks_on_object": {name: round(float(np.mean(found)), 3) for name, found in hits.items()},
        "seconds": {name: rows.summary(spent) for name, spent in seconds.items()},
    }


def our_map(dense: DenseClassifier, photo: Any, k: int) -> Any:
    return dense_scores(dense, photo).of([k])[0]


def their_map(grad_cam: Any, x: Any, targets: list[Any]) -> Any:
    return grad_cam(input_tensor=x, targets=targets)[0]


def cat() -> dict[str, Any]:
    """The top five of the article's photo of a cat."""
    classifier, photo = build_classifier(LITE0), read_photo(DATA / "article" / "cat.jpg")
    converted = fc.convolutionalize(classifier.network, classifier.window)
    found = {"crop": one_crop(classifier, photo), "dense": many_positions(classifier, converted, photo)}
    return {
        "model": LITE0,
        "top5": {
            way: [[name, round(p, 3)] for _, name, p in top(v, classifier.class_names)] for way, v in found.items()
        },
    }


def classify() -> dict[str, Any]:
    """Accuracy of one crop and of many positions; how far to enlarge is chosen on the even photos, told on the odd."""
    classifier = build_classifier(LITE0)
    converted = fc.convolutionalize(classifier.network, classifier.window)
    items = [(p, a) for a in ANIMALS for p in sorted((DATA / "animals-classification" / a).iterdir())]
    ways = {"crop": lambda photo: one_crop(classifier, photo)}
    for enlarged in (1.0, 1.15, 1.25, 1.5, 2.0):
        ways[f"dense {enlarged:g}"] = lambda photo, e=enlarged: many_positions(classifier, converted, photo, enlarged=e)
    right: dict[str, list[bool]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for path, animal in items:
        photo = read_photo(path)
        for way, judge in ways.items():
            began = time.perf_counter()
            right[way].append(int(judge(photo).argmax()) in IMAGENET[animal])
            seconds[way].append(time.perf_counter() - began)
    halves = {way: [float(np.mean(found[half::2])) for half in (0, 1)] for way, found in right.items()}
    return {
        "model": LITE0,
        "photos": len(items),
        "right": "the first class is one of ImageNet's classes of that animal",
        "accuracy": {way: round(float(np.mean(found)), 4) for way, found in right.items()},
        "even_photos": {way: round(both[0], 4) for way, both in halves.items()},
        "odd_photos": {way: round(both[1], 4) for way, both in halves.items()},
        "seconds_a_photo": {way: round(float(np.median(spent)), 4) for way, spent in seconds.items()},
    }


def folders_classifier() -> Classifier:
    """Lite0 trained on the class folders alone: no label map is read."""
    folders = fc.read_class_folders(DATA / "animals-classification")
    classifier = build_classifier(LITE0, classes=len(folders.class_names))
    classifier = replace(classifier, class_names=folders.class_names)
    how = replace(fc.recipe("modern"), steps=240, batch=8, crop=classifier.window)
    for _ in fc.classifier_steps(classifier, folders.train, recipe=how):
        pass
    classifier.network.eval()
    return classifier


def no_label_maps() -> dict[str, Any]:
    """Label maps from a classifier of class folders: the threshold of the literature, and others beside it."""
    began = time.perf_counter()
    classifier = folders_classifier()
    spent = time.perf_counter() - began
    dense, samples = dense_classifier(classifier), voc_animals()
    found = {}
    for threshold in (0.2, 0.35, 0.5):

        def labels(photo: Any, threshold: float = threshold) -> Any:
            return object_labels(dense_scores(dense, photo), threshold=threshold)

        document = evaluate_with(labels, samples.val).to_json()
        found[f"threshold {threshold:g}"] = {
            "mean_iou": document["mean_iou"],
            "interval": document["mean_iou_interval"],
            "classes": {one["name"]: one["iou"] for one in document["classes"]},
        }
    nothing = evaluate_with(lambda photo: np.zeros(photo.shape[:2], np.uint8), samples.val).to_json()
    return {
        "model": LITE0,
        "photos": len(samples.val),
        "classes": list(VOC),
        "training_seconds": round(spent, 1),
        "level": LEVEL,
        "ways": found,
        "background_everywhere": nothing["mean_iou"],
    }


def scales_fcn() -> dict[str, Any]:
    """Multi-scale and mirror averaging on an FCN of the road; learned deconvolution beside bilinear."""
    bundle, samples = fc.load(Path(os.environ["RUN"]) / "bundle"), voc_animals()
    ways = {
        "once": ("once", Choices()),
        "mirror": ("scales", Choices(scales=(1.0,))),
        "scales 0.75, 1, 1.25, mirror": ("scales", Choices()),
        "bilinear": ("bilinear", Choices()),
    }
    if "deconvolution" not in str(bundle.card["architecture"]["arguments"]):
        del ways["bilinear"]
    found = {}
    for name, (way, choices) in ways.items():

        def labels(photo: Any, way: str = way, choices: Choices = choices) -> Any:
            return dense_scores(bundle.net, photo, way=way, choices=choices).best()[0]

        began = time.perf_counter()
        document = evaluate_with(labels, samples.val).to_json()
        spent = (time.perf_counter() - began) / len(samples.val)
        found[name] = {
            "mean_iou": document["mean_iou"],
            "interval": document["mean_iou_interval"],
            "seconds_a_photo": round(spent, 3),
        }
    return {"head": bundle.card["architecture"]["head"], "photos": len(samples.val), "ways": found}


CASES = {
    "cat": cat,
    "peaks": peaks,
    "classify": classify,
    "no-label-maps": no_label_maps,
    "scales-fcn": scales_fcn,
}

if __name__ == "__main__":
    rows.run("photos", CASES, sys.argv[1:])
