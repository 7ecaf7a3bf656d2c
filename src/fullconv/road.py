"""The whole road, one call a station: read it first.

samples -> fingerprint and plan -> classifier -> surgery with proof -> stages -> measures -> bundle -> report

Only this module knows all stations. A step reads what the step before wrote; what is finished is not done again.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fullconv.base.errors import UsageError
from fullconv.base.files import content_hash, read_json, write_json
from fullconv.base.progress import progress
from fullconv.data.augment import Augmentation
from fullconv.data.fingerprint import Fingerprint, fingerprint
from fullconv.data.formats.class_folders import ClassFolders, read_class_folders
from fullconv.data.read import read_samples
from fullconv.data.samples import Sample, SampleSet
from fullconv.data.scenes import write_scenes
from fullconv.measure.classification import multi_label_scores, single_label_scores
from fullconv.measure.compare import compare
from fullconv.measure.evaluate import evaluate_with
from fullconv.measure.scores import Scores, read_counts, write_counts
from fullconv.nets.bundle import save_bundle
from fullconv.nets.classifiers import Classifier, build_classifier
from fullconv.nets.heads import fcn4s, fcn8s, fcn16s, fcn32s
from fullconv.nets.segmentation import SegmentationNet
from fullconv.nets.sharp import sharp
from fullconv.nets.surgery import Converted, convolutionalize
from fullconv.predict.classify import middle_window, window_scores
from fullconv.predict.photo import predict_photo
from fullconv.report.pages import Example, write_report
from fullconv.train import plan as planning
from fullconv.train.baselines import nearest_colour, patch_forest
from fullconv.train.classifier import Windows, classifier_steps
from fullconv.train.loop import training_steps
from fullconv.train.plan import Decision
from fullconv.train.recipe import Recipe, for_stage, recipe
from fullconv.train.stages import Stage, seconds_spent, stage_record, stage_steps

RUN_SCHEMA = "fullconv.run/1"
STAGES = {
    "sharp": ("sharp",),
    "32s": ("32s",),
    "16s": ("32s", "16s"),
    "8s": ("32s", "16s", "8s"),
    "4s": ("32s", "16s", "8s", "4s"),
}
BUILDERS = {"32s": fcn32s, "16s": fcn16s, "8s": fcn8s, "4s": fcn4s}
BASELINES = {"nearest colour": nearest_colour, "random forest on 15x15 patches": patch_forest}
CLASSIFIER_SHARE = {"class folders": 0.2, "windows": 0.08}  # of the seconds for training
DEMO_TRAIN, DEMO_VAL, DEMO_MINUTES = 160, 40, 2.5
PROOF_PHOTOS = 4
SHOWN = 3  # best, median and worst samples in the report, of each


@dataclass(frozen=True)
class Asked:
    """What a run is asked to do; the flags of `fullconv run`."""

    data: Path
    out: Path
    classifier_data: Path | None = None
    model: str = "embedded:efficientnet_lite0"
    weights: str = "embedded"
    head: str = "sharp"
    recipe: str = "modern"
    minutes: float = 20.0
    steps: int | None = None
    classes: tuple[str, ...] = ()
    others: str = "void"
    void: int | None = None
    splits: Path | None = None
    no_classifier: bool = False
    seed: int = 0
    skip_bad: bool = False

    def to_json(self) -> dict[str, Any]:
        """As run.json keeps it."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Run:
    """What stands before the first step: the question, the samples, what they are like, and when to be done."""

    asked: Asked
    samples: SampleSet
    folders: ClassFolders | None
    key: str
    say: Callable[[str], None]


def run(asked: Asked, *, say: Callable[[str], None] = lambda _: None, baselines: Sequence[str] = ()) -> Path:
    """Go the whole road; the same call goes on where a stopped one was.

    Args:
        asked: data, output folder and choices.
        say: takes the sentences that tell a person what is done and why.
        baselines: names in BASELINES of segmenters without a network, to be scored on val beside the FCN.
    Returns: the path of report.html.
    Raises: DataError, WeightsError, SurgeryError, TrainingError, DiskFull.
    """
    began = time.monotonic()
    if asked.head not in STAGES:
        raise UsageError(f"--head is one of {', '.join(STAGES)}", repr(asked.head), "--head sharp")
    this = _read(asked, say)
    print_of_samples = fingerprint(this.samples)
    write_json(asked.out / "samples.json", this.samples.to_json() | {"fingerprint": print_of_samples.to_json()})
    classifier = _classifier(this)
    plan = _plan(this, classifier, print_of_samples)
    clock = _Clock(this, plan, began)

    if not asked.no_classifier:
        _train_classifier(this, plan, classifier, clock)
    converted = convolutionalize(classifier.network.eval(), classifier.window, photos=_proof_photos(this, classifier))
    write_json(asked.out / "classifier" / "proof.json", converted.proof.to_json())
    say(f"surgery: the fully convolutional network equals the classifier ({_proof_sentence(converted)})")

    stages: list[dict[str, Any]] = []
    net, best = None, None
    for name in STAGES[asked.head]:
        net, scores, row = _stage(this, plan, name, classifier, converted, net, best, clock)
        best = scores
        stages.append(row)
    assert net is not None and best is not None
    save_bundle(net, asked.out / "bundle", recipe=plan.recipe.to_json(), scores=best.to_json())
    _write_run(this, stages, [_baseline(this, name) for name in baselines], clock)
    report = write_report(asked.out, _examples(net, this.samples.val, best))
    say(f"report: {report}")
    return report


def demo(out: Path, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """The whole road on drawn scenes: nothing is downloaded.

    Args:
        out: gets `scenes/` (the samples) and `run/`.
        say: as in `run`.
    Returns: the path of report.html.
    """
    scenes = out / "scenes"
    if not (scenes / "classes.txt").exists():
        say(f"drawing {DEMO_TRAIN + DEMO_VAL} scenes into {scenes}")
        write_scenes(scenes, train=DEMO_TRAIN, val=DEMO_VAL)
    return run(Asked(data=scenes, out=out / "run", minutes=DEMO_MINUTES), say=say, baselines=tuple(BASELINES))


def evaluate(net: SegmentationNet, samples: Sequence[Sample]) -> Scores:
    """Score a segmenter on samples, one photo at a time.

    Raises: DataError if there are no samples.
    """
    return evaluate_with(lambda photo: predict_photo(net, photo).labels, samples)


def _read(asked: Asked, say: Callable[[str], None]) -> Run:
    samples = read_samples(
        asked.data,
        classes=asked.classes or None,
        others=asked.others,
        void=asked.void,
        splits=asked.splits,
        seed=asked.seed,
        skip_bad=asked.skip_bad,
    )
    folders = read_class_folders(asked.classifier_data, seed=asked.seed) if asked.classifier_data else None
    for note in samples.notes + (folders.notes if folders else ()):
        say(note)
    parts = [sorted(_stamp(path) for path in _files(samples, folders)), samples.label_space.to_json()]
    question = asked.to_json() | {"out": None}
    return Run(asked, samples, folders, content_hash(question, *parts, code_version()), say)


def _files(samples: SampleSet, folders: ClassFolders | None) -> list[Path]:
    files = [path for sample in (*samples.train, *samples.val) for path in (sample.photo, sample.label_map)]
    return files + ([item.path for item in (*folders.train, *folders.val)] if folders else [])


def _stamp(path: Path) -> str:
    return f"{path}:{content_hash(path)}"


def code_version() -> str:
    """Names the code that trains: a stage made by other code is made anew."""
    root = Path(__file__).parent
    parts = [path for part in ("data", "labels", "nets", "train") for path in sorted((root / part).rglob("*.py"))]
    return content_hash(version("fullconv"), torch.__version__, torch.get_num_threads(), *parts)


def _classifier(this: Run) -> Classifier:
    """The backbone with its weights, and a fresh last layer for the classes at hand (its own classes with --no-classifier)."""
    asked = this.asked
    names = this.folders.class_names if this.folders else this.samples.label_space.names
    classes = None if asked.no_classifier else len(names)
    classifier = build_classifier(asked.model, classes=classes, weights=asked.weights, seed=asked.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classifier.network.to(device)
    return classifier if asked.no_classifier else replace(classifier, class_names=tuple(names))


# --- the plan -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What was decided: the recipe all stages share, and for each stage its seconds and steps."""

    recipe: Recipe
    seconds: dict[str, float]
    steps: dict[str, int]
    reserve: float


def _plan(this: Run, classifier: Classifier, seen: Fingerprint) -> Plan:
    """Read plan.json back if it was made for this very run; else make it and write it down."""
    path = this.asked.out / "plan.json"
    if path.exists() and (document := read_json(path)).get("key") == this.key:
        this.say(f"the plan is read back from {path}")
    else:
        document = _new_plan(this, classifier, seen)
        write_json(path, document)
    values = {decision["name"]: decision["value"] for decision in document["decisions"]}
    for decision in document["decisions"]:
        this.say(f"plan: {decision['name']} = {decision['value']}  ({decision['evidence']})")
    base = recipe(this.asked.recipe)
    chosen = {name: values[name] for name in ("precision", "channels_last", "workers") if name in values}
    if base.crop:
        chosen |= {"crop": tuple(values["crop"]), "batch": values["batch"], "class_weights": tuple(values["class_weights"])}
        chosen |= {"class_aware": values["class_aware"], "crop_class_weights": tuple(values["class_weights"])}
    if this.asked.weights == "none":
        chosen |= {"pretrained_rate": 1.0}
    names = document["stages"]
    return Plan(
        replace(base, **chosen),
        {name: values[f"{name}.seconds"] for name in names} if this.asked.steps is None else {},
        {name: values[f"{name}.steps"] for name in names},
        values["reserve"],
    )


def _new_plan(this: Run, classifier: Classifier, seen: Fingerprint) -> dict[str, Any]:
    asked, space = this.asked, this.samples.label_space
    names = (() if asked.no_classifier else ("classifier",)) + STAGES[asked.head]
    base = recipe(asked.recipe)
    crop = planning.plan_crop(seen)
    decisions = [crop, planning.plan_balance([one.share for one in seen.classes])]
    decisions.append(_class_aware(decisions[1].value))
    converted = convolutionalize(classifier.network, classifier.window)
    net = _build(STAGES[asked.head][-1], classifier, converted, this.samples, None)
    rows = list(
        progress(
            planning.measure_machine(net, crop=tuple(crop.value), classes=space.size, recipe=recipe("modern")),
            what="measuring this machine",
            total=7,
        )
    )
    decisions += planning.plan_machine(rows, recipe("modern"))
    decisions.append(planning.plan_workers(next(net.parameters()).device.type, os.cpu_count() or 1))
    batch = next(one.value for one in decisions if one.name == "batch")
    reserve = _reserve(net, this.samples.val, len(STAGES[asked.head]))
    decisions.append(reserve)
    speed = planning.images_per_second(rows, batch)
    decisions += _steps(asked, names, base, crop.value, batch, speed, reserve.value, this)
    return planning.to_json(decisions, rows, minutes=None if asked.steps else asked.minutes) | {
        "key": this.key,
        "stages": list(names),
        "recipe": base.to_json(),
    }


def _class_aware(weights: list[float]) -> Decision:
    return Decision(
        "class_aware",
        0.5 if weights else 0.0,
        "half of the crops are laid over a rare class where classes are balanced",
        "classes are balanced" if weights else "classes are not balanced",
        "recipe(...).class_aware from Python",
    )


def _reserve(net: SegmentationNet, val: Sequence[Sample], measured: int) -> Decision:
    """Seconds to keep for measuring on val after each stage and for the report."""
    middle = sorted(val, key=lambda sample: sample.size[0] * sample.size[1])[len(val) // 2]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        evaluate(net, [middle])
        seconds.append(time.perf_counter() - began)
    value = measured * len(val) * statistics.median(seconds) + planning.REPORT_SECONDS
    evidence = f"{statistics.median(seconds):.2f} s for a photo of {middle.size[0]}x{middle.size[1]}, {len(val)} photos, {measured} times"
    return Decision("reserve", round(value, 1), "seconds kept for measuring and the report", evidence, "fewer val samples")


def _steps(
    asked: Asked, names: Sequence[str], base: Recipe, crop: list[int], batch: int, speed: float, reserve: float, this: Run
) -> list[Decision]:
    """Seconds and steps of each stage, from the minutes given and the speed measured."""
    if asked.steps is not None:
        return [Decision(f"{n}.steps", asked.steps, "as asked", f"--steps {asked.steps}", "--steps N | --minutes N") for n in names]
    for_training = max(1.0, asked.minutes * 60 * 0.99 - reserve)
    share = CLASSIFIER_SHARE["class folders" if this.folders else "windows"]
    decisions = []
    for name, seconds in planning.plan_seconds(names, seconds=for_training, classifier_share=share).items():
        pixels = crop[0] * crop[1] * speed * 0.85  # what augmentation takes of the cores
        size = statistics.median(h * w for h, w in (s.size for s in this.samples.train)) if not base.crop else crop[0] * crop[1]
        images = 224 * 224 if name == "classifier" else size
        each = (batch if base.crop or name == "classifier" else base.batch) * base.accumulate * images / pixels
        decisions += [
            Decision(f"{name}.seconds", round(seconds, 1), "its share of the minutes given", f"--minutes {asked.minutes}", "--minutes N"),
            Decision(
                f"{name}.steps",
                max(10, int(seconds / each)),
                "seconds over the measured time of a step; planned again after the first tenth",
                f"{each:.2f} s a step at {speed:.1f} crops a second, data included",
                "--steps N",
            ),
        ]
    return decisions


class _Clock:
    """Seconds left for what remains of the road; stages that an earlier process spent time on count too."""

    def __init__(self, this: Run, plan: Plan, began: float) -> None:
        spent = sum(seconds_spent(this.asked.out / name) for name in plan.seconds)
        self._deadline = began - spent + this.asked.minutes * 60 * 0.99
        self._plan = plan
        self.began = began

    def seconds_left(self, stage: str) -> float:
        """For this stage, if it and the later ones share what is left as the plan says."""
        names = list(self._plan.seconds)
        rest = names[names.index(stage) :]
        share = self._plan.seconds[stage] / sum(self._plan.seconds[name] for name in rest)
        # the stage's own first tenth is already spent, so its share of what is left is a little smaller
        return max(1.0, (self._deadline - self._plan.reserve - time.monotonic()) * share)


# --- the classifier -----------------------------------------------------------------------------------------------------


def _train_classifier(this: Run, plan: Plan, classifier: Classifier, clock: _Clock) -> None:
    asked = this.asked
    folder = asked.out / "classifier"
    items: Any = this.folders.train if this.folders else this.samples.train
    base = recipe("modern")
    how = replace(
        base,
        steps=plan.steps["classifier"],
        batch=16,
        precision=plan.recipe.precision,
        channels_last=plan.recipe.channels_last,
        workers=plan.recipe.workers,
        pretrained_rate=plan.recipe.pretrained_rate,
        scale=(0.9, 1.8),
        mirror=0.5,
    )
    stage = Stage("classifier", folder, content_hash(this.key, "classifier"), how, _left(clock, asked, "classifier"))
    steps = partial(classifier_steps, classifier, items, seed=asked.seed)
    _drain(stage, steps)
    scores = _measure_classifier(this, classifier)
    write_json(folder / "scores.json", scores.to_json())
    this.say(f"classifier: accuracy {scores.accuracy:.3f} on {scores.to_json()['images']} held out")


def _measure_classifier(this: Run, classifier: Classifier) -> Any:
    names = classifier.class_names or ()
    if this.folders:
        from fullconv.base.images import read_photo

        guesses = [
            int(window_scores(classifier, middle_window(read_photo(item.path), classifier.window)).argmax())
            for item in progress(this.folders.val, what="measuring the classifier", total=len(this.folders.val))
        ]
        return single_label_scores(names, [item.label for item in this.folders.val], guesses)
    windows = Windows(this.samples.val, Augmentation(crop=classifier.window, mirror=0.0), seed=this.asked.seed)
    truth, scores = [], []
    for index in progress(range(len(windows)), what="measuring the classifier", total=len(windows)):
        photo, target = windows.item(0, index)
        truth.append(target.numpy() > 0)
        scores.append(window_scores(classifier, photo.permute(1, 2, 0).numpy()))
    return multi_label_scores(names, np.array(truth), np.array(scores))


def _proof_photos(this: Run, classifier: Classifier) -> torch.Tensor:
    """(n, 3, h, w) prepared windows of val photos."""
    windows = [middle_window(sample.read()[0], classifier.window) for sample in this.samples.val[:PROOF_PHOTOS]]
    return torch.stack([classifier.preparation.prepare(window) for window in windows])


def _proof_sentence(converted: Converted) -> str:
    at_window = converted.proof.to_json()["at_window"]
    return f"largest relative difference {at_window['relative_difference']:.1e} on {at_window['images']} photos"


# --- the stages ---------------------------------------------------------------------------------------------------------


def _stage(
    this: Run,
    plan: Plan,
    name: str,
    classifier: Classifier,
    converted: Converted,
    start: SegmentationNet | None,
    start_scores: Scores | None,
    clock: _Clock,
) -> tuple[SegmentationNet, Scores, dict[str, Any]]:
    """Train and measure one stage; fall back to its start if that scores higher, and say so."""
    asked, folder = this.asked, this.asked.out / name
    torch.manual_seed(asked.seed)
    net = _build(name, classifier, converted, this.samples, start)
    how = replace(for_stage(plan.recipe, name), steps=plan.steps[name])
    stage = Stage(name, folder, content_hash(this.key, name), how, _left(clock, asked, name))
    _drain(stage, partial(training_steps, net, this.samples.train, seed=asked.seed))
    scores = _measured(net, this.samples.val, folder)
    row: dict[str, Any] = {
        "name": name,
        "seconds": round(seconds_spent(folder), 1),
        "steps": stage_record(folder)["replanned"] or how.steps,
        "mean_iou": scores.mean_iou,
        "interval": list(scores.mean_iou_interval),
        "kept": True,
    }
    this.say(f"{name}: mean IoU {scores.mean_iou:.3f} (95%: {row['interval'][0]:.3f} to {row['interval'][1]:.3f})")
    if start is None or start_scores is None:
        return net, scores, row
    row["difference"] = compare(scores, start_scores).to_json()
    if scores.mean_iou >= start_scores.mean_iou:
        return net, scores, row
    this.say(f"{name} scores lower than what it started from ({start_scores.mean_iou:.3f}): that one is kept; more --minutes may help")
    return start, start_scores, row | {"kept": False}


def _build(
    name: str, classifier: Classifier, converted: Converted, samples: SampleSet, start: SegmentationNet | None
) -> SegmentationNet:
    names = classifier.class_names
    backbone = {"name": classifier.name, "classes": len(names) if names else None}
    space, preparation = samples.label_space, classifier.preparation
    net = (
        sharp(converted, label_space=space, preparation=preparation, backbone=backbone)
        if name == "sharp"
        else BUILDERS[name](converted, label_space=space, preparation=preparation, backbone=backbone, start=start)
    )
    return net.to(next(classifier.network.parameters()).device)


def _measured(net: SegmentationNet, val: Sequence[Sample], folder: Path) -> Scores:
    """Scores on val; read back if this stage was already measured."""
    counts = folder / "counts.npz"
    if not counts.exists():
        scores = evaluate(net, val)
        write_json(folder / "scores.json", scores.to_json())
        write_counts(scores, counts)
        return scores
    return read_counts(counts)


def _left(clock: _Clock, asked: Asked, name: str) -> Callable[[], float] | None:
    return None if asked.steps is not None else partial(clock.seconds_left, name)


def _drain(stage: Stage, steps: Any) -> None:
    for _ in progress(stage_steps(stage, steps), what=stage.name, total=stage.recipe.steps):
        pass


# --- what the run leaves behind -----------------------------------------------------------------------------------------


def _baseline(this: Run, name: str) -> dict[str, Any]:
    began = time.perf_counter()
    scores = evaluate_with(BASELINES[name](this.samples.train, seed=this.asked.seed), this.samples.val)
    this.say(f"{name}: mean IoU {scores.mean_iou:.3f}")
    interval, seconds = list(scores.mean_iou_interval), round(time.perf_counter() - began, 1)
    return {"name": name, "mean_iou": scores.mean_iou, "interval": interval, "seconds": seconds}


def _write_run(this: Run, stages: list[dict[str, Any]], baselines: list[dict[str, Any]], clock: _Clock) -> None:
    document = {
        "schema": RUN_SCHEMA,
        "asked": this.asked.to_json(),
        "seed": this.asked.seed,
        "stages": stages,
        "baselines": baselines,
        "seconds": round(time.monotonic() - clock.began, 1),
        "peak_bytes": planning.peak_bytes(),
        "versions": {name: version(name) for name in ("fullconv", "torch", "torchvision", "timm", "numpy")},
        "machine": {"system": platform.platform(), "threads": torch.get_num_threads(), "python": platform.python_version()},
    }
    write_json(this.asked.out / "run.json", document)


def _examples(net: SegmentationNet, val: Sequence[Sample], scores: Scores) -> list[Example]:
    """The best, the median and the worst samples of val by their own mean IoU."""
    union = scores.truth + scores.guess - scores.hit
    each = np.nanmean(np.where(union > 0, scores.hit / np.maximum(union, 1), np.nan), axis=1)
    order = np.argsort(-each, kind="stable")
    middle = len(order) // 2
    chosen = dict.fromkeys([*order[:SHOWN], *order[middle : middle + SHOWN], *order[-SHOWN:]])
    examples = []
    for index in map(int, chosen):
        photo, truth = val[index].read()
        examples.append(Example(val[index].name, photo, truth, predict_photo(net, photo).labels, float(each[index])))
    return examples
