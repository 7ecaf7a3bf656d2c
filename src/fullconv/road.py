"""The whole road, one call a station: read it first.

samples -> fingerprint and plan -> classifier -> surgery with proof -> stages -> measures -> bundle -> report

Only this module knows all stations. A step reads what the step before wrote; what is finished is not done again.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fullconv.base.errors import DataError, FullconvError, SplitError, SurgeryError, UsageError
from fullconv.base.files import content_hash, read_json, write_json
from fullconv.base.images import read_photo
from fullconv.base.progress import progress
from fullconv.data.augment import Augmentation
from fullconv.data.fingerprint import Fingerprint, fingerprint
from fullconv.data.formats.class_folders import ClassFolders, read_class_folders
from fullconv.data.formats.listing import count
from fullconv.data.read import read_samples
from fullconv.data.samples import Sample, SampleSet
from fullconv.data.scenes import write_scenes
from fullconv.labels.decode import source_of
from fullconv.measure.classification import MultiLabelScores, SingleLabelScores, multi_label_scores, single_label_scores
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
from fullconv.report.pages import write_report
from fullconv.report.pictures import Example
from fullconv.report.study_page import write_study
from fullconv.study.case import Case, read_case
from fullconv.study.rules import findings_of
from fullconv.train import plan as planning
from fullconv.train.baselines import nearest_colour, patch_forest
from fullconv.train.benchmark import measure_machine, peak_bytes, rows_to_come
from fullconv.train.classifier import Windows, classifier_steps
from fullconv.train.clock import Clock
from fullconv.train.loop import training_steps
from fullconv.train.offsets import PHOTOS as OFFSET_PHOTOS
from fullconv.train.offsets import fit_offsets
from fullconv.train.plan import Measured, Plan, Question
from fullconv.train.recipe import recipe
from fullconv.train.stages import Replanning, Stage, Steps, seconds_spent, stage_steps

SCHEMA = "fullconv.run/1"
HEADS: dict[str, Callable[..., SegmentationNet]] = {
    "sharp": sharp,
    "32s": fcn32s,
    "16s": fcn16s,
    "8s": fcn8s,
    "4s": fcn4s,
}
STAGES = {
    "sharp": ("sharp",),
    "32s": ("32s",),
    "16s": ("32s", "16s"),
    "8s": ("32s", "16s", "8s"),
    "4s": ("32s", "16s", "8s", "4s"),
}
STAGE_FOLDERS = ("classifier", *STAGES["4s"], "sharp")
BASELINES = {"nearest colour": nearest_colour, "random forest on 15x15 patches": patch_forest}
DEMO_TRAIN, DEMO_VAL, DEMO_MINUTES = 160, 40, 2.5
PROOF_PHOTOS = 4
TIMED_PHOTOS = 4
SHORT_HASH = 16  # hexadecimal digits that tell photos apart
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
    void: str | None = None
    splits: Path | None = None
    no_classifier: bool = False
    seed: int = 0
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.head not in STAGES:
            raise UsageError(f"the head is one of {', '.join(STAGES)}", repr(self.head), "--head sharp")
        recipe(self.recipe)

    def to_json(self) -> dict[str, Any]:
        """As run.json keeps it."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Run:
    """What stands before the first step.

    Attributes:
        key: content hash of the question, the files and the code; what was made under another key is made anew.
        began: by time.monotonic().
        say: takes the sentences that tell a person what is done and why.
        measured: what is known of this machine already.
    """

    asked: Asked
    samples: SampleSet
    folders: ClassFolders | None
    key: str
    began: float
    say: Callable[[str], None]
    measured: tuple[Measured, ...] = ()


def run(asked: Asked, *, say: Callable[[str], None] = lambda _: None, baselines: Sequence[str] = ()) -> Path:
    """Go the whole road; the same call goes on where a stopped one was.

    Args:
        asked: data, output folder and choices.
        say: takes the sentences that tell a person what is done and why.
        baselines: names in BASELINES of segmenters without a network, to be scored on val beside the FCN.
    Returns: the path of report.html.
    Raises: DataError, WeightsError, SurgeryError, TrainingError, DiskFull.
    """
    _check_writable(asked.out)
    try:
        this = _read(asked, say)
    except DataError:
        _study(asked, say, key=None)
        raise
    _study(asked, say, key=this.key)
    return _go(this, baselines)


def _go(this: Run, baselines: Sequence[str] = ()) -> Path:
    """The road, once the samples are read."""
    asked = this.asked
    _clear_other_run(this)
    seen = fingerprint(this.samples)
    folders = None if this.folders is None else this.folders.to_json()
    document = this.samples.to_json() | {"fingerprint": seen.to_json(), "class_folders": folders}
    write_json(asked.out / "samples.json", document)
    classifier = _classifier(this)
    plan = _plan(this, classifier, seen)
    clock = _clock(this, plan)

    if not asked.no_classifier:
        _train_classifier(this, plan, classifier, clock)
    converted = _convert(this, classifier)

    net, scores, rows = None, None, []
    for name in STAGES[asked.head]:
        net, scores, row = _stage(this, plan, name, classifier, converted, net, scores, clock)
        rows.append(row)
    assert net is not None
    assert scores is not None
    kept = next(row for row in reversed(rows) if row["kept"])
    how = replace(plan.recipes[kept["name"]], steps=kept["steps"])
    measured = read_json(asked.out / kept["name"] / "scores.json")
    save_bundle(net, asked.out / "bundle", recipe=how.to_json(), scores=measured, samples=_learned_from(this.samples))
    _write_run(this, rows, [_baseline(this, name) for name in baselines])
    return write_report(asked.out, _examples(net, this.samples.val, scores))


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


def asked_of(earlier: Path) -> Asked:
    """What a run was asked. Raises: UsageError if the folder holds no finished one."""
    path = earlier / "run.json"
    if not path.exists():
        raise UsageError(
            "a finished run is a folder with run.json", f"none in {earlier}", f"fullconv run DATA --out {earlier}"
        )
    asked = read_json(path)["asked"]
    paths = {name: Path(asked[name]) for name in ("data", "out", "classifier_data", "splits") if asked[name]}
    return Asked(**{**asked, **paths, "classes": tuple(asked["classes"])})


def case_of(asked: Asked) -> Case:
    """The samples of a run as the doctor looks at them. Raises: as `read_case`."""
    return read_case(
        asked.data, classes=asked.classes or None, others=asked.others, void=asked.void, splits=asked.splits
    )


def samples_of(asked: Asked) -> SampleSet:
    """The samples of a run, split as it has them. Raises: as `read_samples`."""
    return read_samples(
        asked.data,
        classes=asked.classes or None,
        others=asked.others,
        void=asked.void,
        splits=asked.splits,
        seed=asked.seed,
        skip_bad=asked.skip_bad,
    )


def again(earlier: Path, *, data: Path, out: Path, splits: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """Go the road of an earlier run once more, with other splits; what is finished is not gone again.

    Args:
        earlier: the run's folder; what it measured of this machine is not measured again.
        data, out, splits: of the new run, in place of the earlier one's.
    Returns: the new run's bundle.
    Raises: as `run`; UsageError if there is no finished run.
    """
    asked = replace(asked_of(earlier), data=data, out=out, splits=splits)
    _check_writable(out)
    this = _read(asked, say)
    if not _earlier(this):
        _go(replace(this, measured=_measured_here(earlier)))
    return out / "bundle"


def evaluate(net: SegmentationNet, samples: Sequence[Sample]) -> Scores:
    """Score a segmenter on samples, one photo at a time.

    Raises: DataError if there are no samples.
    """
    return evaluate_with(lambda photo: predict_photo(net, photo).labels, samples)


# --- samples and plan ------------------------------------------------------------------------------------------------


def _study(asked: Asked, say: Callable[[str], None], *, key: str | None) -> None:
    """What the doctor finds goes to OUT/study, and what harms is said: nothing of it stops a run by itself.

    Args:
        key: of the run; a study made for it is not made again. None where the samples could not be read.
    """
    out = asked.out / "study"
    if key and (out / "study.json").exists() and read_json(out / "study.json").get("key") == key:
        return
    try:
        case = case_of(asked)
    except FullconvError:  # no set of samples at all: what reading them says is all there is to say
        return
    findings = findings_of(case)
    for finding in findings:
        if finding.severity != "note":
            say(f"study: {finding.kind}: {finding.sentence} {finding.why}")
    write_study(out, case, findings, key=key)
    say(f"study: {count(len(findings), 'finding')}, with pictures: {out / 'study.html'}")


def _read(asked: Asked, say: Callable[[str], None]) -> Run:
    began = time.monotonic()
    samples = samples_of(asked)
    kept_back = frozenset(samples.contents[one.name] for one in (*samples.val, *samples.test))
    folders = (
        read_class_folders(asked.classifier_data, seed=asked.seed, kept_back=kept_back)
        if asked.classifier_data
        else None
    )
    if not samples.val:
        raise SplitError(
            "a run needs at least one sample of val to measure on",
            f"{len(samples.train)} of train, none of val, in {asked.data}",
            "add samples, or say which are val: --splits FILE",
        )
    for note in (*samples.notes, *(folders.notes if folders else ())):
        say(note)
    used = (*samples.train, *samples.val)
    files = list(dict.fromkeys(path for one in used for path in (one.photo, source_of(one.label_map))))
    files += [item.path for item in (*folders.train, *folders.val)] if folders else []
    question = asked.to_json() | {"out": None}
    splits = {"train": [one.name for one in samples.train], "val": [one.name for one in samples.val]}
    splits |= {"held out": [item.name for item in folders.val]} if folders else {}
    weights = Path(asked.weights)
    files += [weights] if weights.is_file() else []
    key = content_hash(question, samples.label_space.to_json(), splits, code_version(), *map(str, files), *files)
    return Run(asked, samples, folders, key, began, say)


def code_version() -> str:
    """Names the code that trains, and what it computes with: a stage made by other code is made anew."""
    root = Path(__file__).parent
    sources = [
        path
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).parts[0] not in ("cli", "report", "study", "study_answers.py", "study_road.py")
    ]
    versions = [version(name) for name in ("fullconv", "torch", "torchvision", "timm")]
    return content_hash(versions, torch.get_num_threads(), *sources)


def _classifier(this: Run) -> Classifier:
    """The backbone with its weights, and a fresh last layer for the classes at hand (its own classes with
    --no-classifier).
    """
    asked = this.asked
    names = this.folders.class_names if this.folders else this.samples.label_space.names
    classes = None if asked.no_classifier else len(names)
    classifier = build_classifier(asked.model, classes=classes, weights=asked.weights, seed=asked.seed)
    classifier.network.to("cuda" if torch.cuda.is_available() else "cpu")
    this.say(f"backbone: {classifier.name}, {classifier.weights}")
    return classifier if asked.no_classifier else replace(classifier, class_names=tuple(names))


def _plan(this: Run, classifier: Classifier, seen: Fingerprint) -> Plan:
    """Read plan.json back if it was made for this very run; else make it and write it down."""
    asked, path = this.asked, this.asked.out / "plan.json"
    question = Question(
        stages=(() if asked.no_classifier else ("classifier",)) + STAGES[asked.head],
        recipe=asked.recipe,
        weights=asked.weights,
        minutes=asked.minutes,
        steps=asked.steps,
        classifier_items="class folders" if this.folders else "windows",
        device=next(classifier.network.parameters()).device.type,
        cores=os.cpu_count() or 1,
    )
    if path.exists() and (document := read_json(path)).get("key") == this.key:
        this.say(f"the plan is read back from {path}")
    else:
        document = _new_plan(this, classifier, seen, question)
        write_json(path, document)
    for decision in document["decisions"]:
        this.say(f"plan: {decision['name']} = {decision['value']}  ({decision['evidence']})")
    return planning.plan_of(document, question)


def _new_plan(this: Run, classifier: Classifier, seen: Fingerprint, question: Question) -> dict[str, Any]:
    """Measure this machine with a network that is thrown away, then decide."""
    converted = convolutionalize(classifier.network, classifier.window, norms=_norms(this.asked))
    net = _build(STAGES[this.asked.head][-1], this, classifier, converted, None)
    crop = tuple(planning.plan_crop(seen).value)
    how = replace(recipe("modern"), frozen=0) if question.weights == "none" else recipe("modern")
    rows = [row for row in this.measured if row.crop == crop]
    if not rows:
        total = rows_to_come(next(net.parameters()).device)
        measuring = measure_machine(net, crop=crop, recipe=how)
        rows = list(progress(measuring, what="measuring this machine", total=total))
    photos = len(this.samples.val) + min(OFFSET_PHOTOS, len(this.samples.train))
    seconds = photos * _seconds_a_photo(net, this.samples.val)
    decisions = planning.make_plan(question, seen, rows, window=classifier.window, seconds_to_measure=seconds)
    return planning.to_json(question, decisions, rows, key=this.key)


def _measured_here(earlier: Path) -> tuple[Measured, ...]:
    """What an earlier run measured, if it ran on a machine like this one."""
    if read_json(earlier / "run.json")["machine"] != _machine():
        return ()
    rows = read_json(earlier / "plan.json")["measured"]
    return tuple(Measured(**{**row, "crop": tuple(row["crop"])}) for row in rows)


def _seconds_a_photo(net: SegmentationNet, val: Sequence[Sample]) -> float:
    """Seconds to score a photo of a middling size as if it were guessed right: this network has learned nothing yet,
    and the many edges that it guesses take longer to judge than those that are to come.
    """
    by_size = sorted(val, key=lambda sample: sample.size[0] * sample.size[1])
    first = max(0, (len(val) - TIMED_PHOTOS) // 2)
    middle = by_size[first : first + TIMED_PHOTOS]
    evaluate(net, middle[:1])  # the first one is slower
    truths = iter([sample.read()[1] for sample in middle])

    def guessed_right(photo: NDArray[np.uint8]) -> NDArray[Any]:
        predict_photo(net, photo)
        return next(truths)

    began = time.perf_counter()
    evaluate_with(guessed_right, middle)
    return (time.perf_counter() - began) / len(middle)


def _check_writable(out: Path) -> None:
    """Before anything is read. Raises: UsageError if the run's folder cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(
            "the run's folder can be made and written to", f"{out}: {error.strerror or error}", "--out another folder"
        ) from error


def _clear_other_run(this: Run) -> None:
    """What another question, other samples or other code left in the folder is of no use: its stages go, its bundle
    and report stay until they are replaced.
    """
    out = this.asked.out
    plan = out / "plan.json"
    stages = [out / name for name in STAGE_FOLDERS if (out / name).exists()]
    if not stages or (plan.exists() and read_json(plan).get("key") == this.key):
        return
    this.say(f"{out} holds a run of another question, other samples or other code: it is begun anew")
    plan.unlink(missing_ok=True)
    for folder in stages:
        shutil.rmtree(folder)


def _learned_from(samples: SampleSet) -> dict[str, Any]:
    """For the card: what the photos of train were, so that nobody measures on them unawares."""
    return {"train": sorted(samples.contents[one.name][:SHORT_HASH] for one in samples.train)}


def _clock(this: Run, plan: Plan) -> Clock:
    """The deadline; what an earlier process spent on this run counts too."""
    spent = sum(seconds_spent(this.asked.out / name) for name in plan.seconds)
    minutes = this.asked.minutes * (1 - planning.KEPT_FREE)
    return Clock(this.began - spent + minutes * 60, plan.reserve, plan.seconds)


# --- the classifier --------------------------------------------------------------------------------------------------


def _train_classifier(this: Run, plan: Plan, classifier: Classifier, clock: Clock) -> None:
    items = this.folders.train if this.folders else this.samples.train
    steps = partial(classifier_steps, classifier, items, seed=this.asked.seed)
    folder = _train(this, plan, "classifier", steps, clock)
    scores = _scores_of_folders(this, classifier) if this.folders else _scores_of_windows(this, classifier)
    document = scores.to_json()
    write_json(folder / "scores.json", document)
    this.say(f"classifier: accuracy {scores.accuracy:.3f} on {document['images']} held out")


def _scores_of_folders(this: Run, classifier: Classifier) -> SingleLabelScores:
    assert this.folders
    held_out = this.folders.val
    guesses = [
        int(window_scores(classifier, middle_window(read_photo(item.path), classifier.window)).argmax())
        for item in progress(held_out, what="measuring the classifier", total=len(held_out))
    ]
    return single_label_scores(classifier.class_names or (), [item.label for item in held_out], guesses)


def _scores_of_windows(this: Run, classifier: Classifier) -> MultiLabelScores:
    windows = Windows(this.samples.val, Augmentation(crop=classifier.window, mirror=0.0), seed=this.asked.seed)
    truth, scores = [], []
    for index in progress(range(len(windows)), what="measuring the classifier", total=len(windows)):
        photo, present = windows.item(0, index)
        truth.append(present.numpy() > 0)
        scores.append(window_scores(classifier, photo.permute(1, 2, 0).numpy()))
    probability = torch.from_numpy(np.array(scores)).sigmoid().numpy()
    return multi_label_scores(classifier.class_names or (), np.array(truth), probability)


def _convert(this: Run, classifier: Classifier) -> Converted:
    """Surgery, with its proof on windows of val photos."""
    windows = [middle_window(sample.read()[0], classifier.window) for sample in this.samples.val[:PROOF_PHOTOS]]
    photos = torch.stack([classifier.preparation.prepare(window) for window in windows])
    network = classifier.network.eval().to(memory_format=torch.contiguous_format)
    photos = photos.to(next(network.parameters()).device)
    converted = convolutionalize(network, classifier.window, norms=_norms(this.asked), photos=photos)
    proof = converted.proof.to_json()
    write_json(this.asked.out / "classifier" / "proof.json", proof)
    difference, images = proof["at_window"]["relative_difference"], proof["at_window"]["images"]
    if not converted.proof.holds:
        raise SurgeryError(
            "the converted classifier gives the classifier's scores at its window",
            f"a relative difference of {difference:.1e} on {images} photos; all of it: classifier/proof.json",
            "another --model; and report this one",
        )
    this.say(
        f"surgery: fully convolutional, the same scores at the window (relative difference {difference:.1e}, "
        f"{images} photos)"
    )
    return converted


# --- the stages ------------------------------------------------------------------------------------------------------


def _stage(
    this: Run,
    plan: Plan,
    name: str,
    classifier: Classifier,
    converted: Converted,
    start: SegmentationNet | None,
    start_scores: Scores | None,
    clock: Clock,
) -> tuple[SegmentationNet, Scores, dict[str, Any]]:
    """Train and measure one stage; fall back to its start if that scores higher, and say so."""
    net = _build(name, this, classifier, converted, start)
    folder = _train(this, plan, name, partial(training_steps, net, this.samples.train, seed=this.asked.seed), clock)
    if plan.recipes[name].offsets == "fitted":
        _set_offsets(this, net, folder)
    scores = _measured(net, this.samples.val, folder)
    again = read_json(this.asked.out / "plan.json")["replanned"].get(name)
    low, high = scores.mean_iou_interval
    row: dict[str, Any] = {
        "name": name,
        "seconds": round(seconds_spent(folder), 1),
        "steps": again[-1]["steps"] if again else plan.recipes[name].steps,
        "mean_iou": scores.mean_iou,
        "interval": [low, high],
        "kept": True,
    }
    this.say(
        f"{name}: mean IoU {scores.mean_iou:.3f} (95%: {low:.3f} to {high:.3f}), {len(this.samples.val)} photos of val"
    )
    if start is None or start_scores is None:
        return net, scores, row
    row["difference"] = compare(scores, start_scores).to_json()
    if scores.mean_iou >= start_scores.mean_iou:
        return net, scores, row
    this.say(
        f"{name} scores lower than what it started from ({start_scores.mean_iou:.3f}), which is kept; more "
        "--minutes may help"
    )
    return start, start_scores, row | {"kept": False}


def _norms(asked: Asked) -> str:
    """From random weights batch normalisation is needed: it has learned nothing that could be folded."""
    return "kept" if asked.weights == "none" else "folded"


def _build(
    name: str, this: Run, classifier: Classifier, converted: Converted, start: SegmentationNet | None
) -> SegmentationNet:
    names = classifier.class_names
    backbone = {"name": classifier.name, "classes": len(names) if names else None, "norms": _norms(this.asked)}
    known = {"label_space": this.samples.label_space, "preparation": classifier.preparation, "backbone": backbone}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(this.asked.seed)  # fresh layers: the same in every process that goes on with a run
        net = HEADS[name](converted, **known, **({} if name == "sharp" else {"start": start}))
    return net.to(next(classifier.network.parameters()).device)


def _train(this: Run, plan: Plan, name: str, steps: Steps, clock: Clock) -> Path:
    """Train one stage to its end, wherever it stands; returns its folder."""
    folder, how = this.asked.out / name, plan.recipes[name]
    key = content_hash(this.key, name, how.to_json())
    stage = Stage(name, folder, key, how, _replanning(this, name, clock) if this.asked.steps is None else None)
    for _ in progress(stage_steps(stage, steps), what=name, total=how.steps, of=lambda step: step.steps):
        pass
    return folder


def _replanning(this: Run, name: str, clock: Clock) -> Replanning:
    """A stage's later plans stand in plan.json, beside the first."""
    path = this.asked.out / "plan.json"

    def keep(again: Sequence[dict[str, Any]]) -> None:
        document = read_json(path)
        document["replanned"][name] = list(again)
        write_json(path, document)
        last = again[-1]
        this.say(f"plan: {name}.steps = {last['steps']} from step {last['after']} on  ({last['because']})")

    known = read_json(path)["replanned"].get(name, [])
    return Replanning(known, lambda spent: clock.seconds_left(name, spent=spent), keep)


def _set_offsets(this: Run, net: SegmentationNet, folder: Path) -> None:
    """What is added to the score of each class: fitted on train once, then read back."""
    path, names = folder / "offsets.json", this.samples.label_space.names
    if not path.exists():
        fitted = fit_offsets(net, this.samples.train, seed=this.asked.seed)
        write_json(path, dict(zip(names, fitted.tolist(), strict=True)))
    net.offsets.copy_(torch.tensor([read_json(path)[name] for name in names]))


def _measured(net: SegmentationNet, val: Sequence[Sample], folder: Path) -> Scores:
    """Scores on val; read back if this stage was already measured."""
    counts = folder / "counts.npz"
    if counts.exists():
        return read_counts(counts)
    scores = evaluate(net, val)
    write_json(folder / "scores.json", scores.to_json())
    write_counts(scores, counts)
    return scores


# --- what the run leaves behind --------------------------------------------------------------------------------------


def _baseline(this: Run, name: str) -> dict[str, Any]:
    for row in _earlier(this).get("baselines", []):
        if row["name"] == name:
            return dict(row)
    began = time.perf_counter()
    scores = evaluate_with(BASELINES[name](this.samples.train, seed=this.asked.seed), this.samples.val)
    this.say(f"{name}: mean IoU {scores.mean_iou:.3f}")
    interval, seconds = list(scores.mean_iou_interval), round(time.perf_counter() - began, 1)
    return {"name": name, "mean_iou": scores.mean_iou, "interval": interval, "seconds": seconds}


def _write_run(this: Run, stages: list[dict[str, Any]], baselines: list[dict[str, Any]]) -> None:
    """run.json; what earlier processes of this very run took is counted in."""
    earlier = _earlier(this)
    document = {
        "schema": SCHEMA,
        "key": this.key,
        "asked": this.asked.to_json(),
        "seed": this.asked.seed,
        "stages": stages,
        "baselines": baselines,
        "seconds": round(earlier.get("seconds", 0.0) + time.monotonic() - this.began, 1),
        "peak_bytes": max(earlier.get("peak_bytes", 0), peak_bytes()),
        "versions": {name: version(name) for name in ("fullconv", "torch", "torchvision", "timm", "numpy")},
        "machine": _machine(),
    }
    write_json(this.asked.out / "run.json", document)


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


def _earlier(this: Run) -> dict[str, Any]:
    """run.json of an earlier process of this very run, or nothing."""
    path = this.asked.out / "run.json"
    document: dict[str, Any] = read_json(path) if path.exists() else {}
    return document if document.get("key") == this.key else {}


def _examples(net: SegmentationNet, val: Sequence[Sample], scores: Scores) -> list[Example]:
    """The best, the median and the worst samples of val by their own mean IoU."""
    union = scores.truth + scores.guess - scores.hit
    each = np.nanmean(np.where(union > 0, scores.hit / np.maximum(union, 1), np.nan), axis=1)
    order = np.argsort(-each, kind="stable")
    middle = max(0, len(order) // 2 - SHOWN // 2)
    chosen = dict.fromkeys([*order[:SHOWN], *order[middle : middle + SHOWN], *order[-SHOWN:]])
    examples = []
    for index in map(int, chosen):
        photo, truth = val[index].read()
        examples.append(Example(val[index].name, photo, truth, predict_photo(net, photo).labels, float(each[index])))
    return examples
