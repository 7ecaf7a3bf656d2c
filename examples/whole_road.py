"""The whole road in Python: samples, classifier, surgery, FCN, measures, bundle, prediction.

python examples/whole_road.py               on drawn scenes
python examples/whole_road.py DATA          on your samples
python examples/whole_road.py DATA 300      with 300 steps a stage rather than 40
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import fullconv as fc
from fullconv.data.scenes import write_scenes


def main(data: Path, out: Path, *, steps: int) -> None:
    samples = fc.read_samples(data)
    print(*samples.notes, sep="\n")
    ceiling = fc.fingerprint(samples).ceiling
    print(f"classes: {', '.join(samples.label_space.names)}; mean IoU at best from cells of 8x8: {ceiling[8]:.3f}")

    # A classifier: which classes are in a window of a photo?
    names = samples.label_space.names
    classifier = fc.build_classifier("embedded:efficientnet_lite0", classes=len(names))
    classifier = replace(classifier, class_names=names)
    how = replace(fc.recipe("modern"), steps=steps, batch=8, crop=(160, 160))
    for step in fc.classifier_steps(classifier, samples.train, recipe=how):
        print(f"classifier {step.step}/{step.steps}: loss {step.loss:.3f}", end="\r")

    # The same network, fully convolutional, with the proof that it is the same.
    converted = fc.convolutionalize(classifier.network.eval(), window=classifier.window)
    print(f"\nstride {converted.proof.stride}, difference {converted.proof.at_window.relative_difference:.1e}")

    # Stage by stage: each starts from the last.
    net = None
    backbone = {"name": classifier.name, "classes": len(names)}
    shared = {"label_space": samples.label_space, "preparation": classifier.preparation, "backbone": backbone}
    for build in (fc.fcn32s, fc.fcn16s, fc.fcn8s):
        net = build(converted, **shared, start=net)
        for step in fc.training_steps(net, samples.train, recipe=how):
            print(f"{build.__name__} {step.step}/{step.steps}: loss {step.loss:.3f}", end="\r")
        print(f"\n{build.__name__}: mean IoU {fc.evaluate(net, samples.val).mean_iou:.3f} on {len(samples.val)} photos")

    fc.save_bundle(net, out)
    prediction = fc.load(out).predict(samples.val[0].photo)
    print(f"{samples.val[0].name}: labels {prediction.labels.shape}, written to {out}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        drawn = len(sys.argv) < 2
        DATA = write_scenes(Path(folder), train=40, val=10, size=(128, 160)) if drawn else Path(sys.argv[1])
        main(DATA, Path("whole-road-bundle"), steps=int(sys.argv[2]) if len(sys.argv) > 2 else 40)
