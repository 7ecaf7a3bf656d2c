"""The plan: crop, batch, precision, stages, steps, each with its reason. Road: train, before the first step. Knows
no torch.

In: the fingerprint of the samples, a micro-benchmark of this machine, the minutes given. Out: decisions, written to
plan.json before the first step that uses them and read back on resume, so that a resumed run follows the same plan.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fullconv.data.fingerprint import Fingerprint
from fullconv.train.recipe import Recipe, for_stage, recipe

SCHEMA = "fullconv.plan/1"
GRID = 32
COMBINATIONS = (("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True))  # precision, channels-last
BATCHES = (8, 16)  # the recipe's last, so that trying takes no more memory than training
LARGEST_CROP = 320  # what the first runs used; larger ones are not compared yet
REPLANNED_AFTER = (0.1, 0.5)  # shares of the steps in which all layers learn: a machine may grow slower or quiet
FEWEST_STEPS = 5  # before a plan is made again: the first step also starts the processes that make its batches
CLEARLY = 1.05  # bf16 over fp32: less is within what timing tells
STALL = 3.0  # a step counts at most so many times the median: one stall says nothing of the rest
REPORT_SECONDS = 5.0
KEPT_FREE = 0.01  # share of the minutes that no step is planned into
UNBALANCED = 10.0  # largest over smallest share of pixels from which crops look for classes
CLASS_AWARE = 0.2  # a guess between 0 and 0.5, not compared at equal steps yet: docs/log.md
DROPOUT = 0.2  # where there are objects before a background: voc-animals +0.009 of mean IoU, camvid -0.004
GENTLE = 0.03  # four times that costs voc-animals 0.05 of mean IoU: docs/log.md
DATA_SHARE = 0.1  # of a step's time, for cutting and varying the crops: planned again on the way
STAGE_SHARES = {"32s": 0.5, "16s": 0.25, "8s": 0.25, "4s": 0.2}
CLASSIFIER_SHARE = {"class folders": 0.1, "windows": 0.04}  # windows hold nothing that the label maps do not
CLASSIFIER_BATCH = 16
CLASSIFIER: dict[str, Any] = {  # unlike the stages after it
    "optimiser": "adamw",
    "loss": "softmax",
    "frozen": 0,
    "rate": 2e-3,
    "pretrained_rate": 0.02,  # gently: what it learns from the photos of a folder must not cost what it knew
    "norms_stay": True,  # statistics of such photos cost voc-animals 0.04 of mean IoU: docs/log.md
    "offsets": "none",
    "scale": (0.9, 1.8),
    "batch": CLASSIFIER_BATCH,
}
FROM_PYTHON = "recipe(...) from Python"


@dataclass(frozen=True)
class Question:
    """What the plan depends on, of what was asked.

    Attributes:
        stages: in order, as ("classifier", "sharp").
        recipe: its name.
        weights: of the backbone; "none" means nothing is pretrained.
        minutes: for the whole run.
        steps: of each stage, instead of minutes; or None.
        classifier_items: a key of CLASSIFIER_SHARE.
        device: "cpu" or "cuda".
        cores: of this machine.
    """

    stages: tuple[str, ...]
    recipe: str
    weights: str
    minutes: float
    steps: int | None
    classifier_items: str
    device: str
    cores: int


@dataclass(frozen=True)
class Decision:
    """One line of plan.json.

    Attributes:
        name: what is decided, as "sharp.steps".
        value: what it is.
        rule: how it follows from the evidence.
        evidence: what was measured or found.
        override: what to type to decide otherwise.
    """

    name: str
    value: Any
    rule: str
    evidence: str
    override: str


@dataclass(frozen=True)
class Measured:
    """One row of the micro-benchmark.

    Attributes:
        precision, channels_last, batch, crop: what was run.
        images_per_second: of a whole training step, photos already in memory.
        activation_bytes: kept for the backward pass, a batch.
        peak_bytes: the most memory the process has held so far.
    """

    precision: str
    channels_last: bool
    batch: int
    crop: tuple[int, int]
    images_per_second: float
    activation_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Plan:
    """The decisions, as the stages use them.

    Attributes:
        recipes: stage -> its recipe, with its steps.
        seconds: stage -> seconds for it; empty where steps were asked for.
        reserve: seconds kept for measuring and the report.
    """

    recipes: dict[str, Recipe]
    seconds: dict[str, float]
    reserve: float


def make_plan(
    question: Question,
    seen: Fingerprint,
    rows: Sequence[Measured],
    *,
    window: tuple[int, int],
    seconds_to_measure: float,
) -> list[Decision]:
    """All decisions.

    Args:
        question: what was asked.
        seen: the training samples in numbers.
        rows: of `measure_machine`, at `plan_crop`'s crop.
        window: the classifier's.
        seconds_to_measure: for all photos of val, and those of train that the class offsets are fitted on, once.
    """
    crop, aware = plan_crop(seen), plan_class_aware([one.share for one in seen.classes])
    machine = plan_machine(rows, recipe("modern"))
    batch = next(one.value for one in machine if one.name == "batch")
    reserve = _reserve(question, seconds_to_measure)
    speed = next(row.images_per_second for row in rows[-len(BATCHES) :] if row.batch == batch)
    steps = _steps(question, seen, crop.value, batch, speed, window, reserve.value)
    start = _random_start() if question.weights == "none" else []
    of_crops = [crop, aware, plan_dropout(seen), *([] if start else [plan_pretrained_rate(seen)])]
    if not recipe(question.recipe).crop:  # of whole photos: the recipe's own batch and rates
        of_crops, machine = [], [one for one in machine if one.name != "batch"]
    return [*of_crops, *machine, _workers(question), *start, reserve, *steps]


def plan_of(document: dict[str, Any], question: Question) -> Plan:
    """plan.json as the stages use it."""
    values = {decision["name"]: decision["value"] for decision in document["decisions"]}
    machine = {name: values[name] for name in ("precision", "channels_last", "workers")}
    if question.weights == "none":
        machine |= {one.name: values[one.name] for one in _random_start()}
    base = replace(recipe(question.recipe), **machine)
    if base.crop:
        rate = base.rate * math.sqrt(values["batch"] / base.batch)
        taken = {name: values[name] for name in ("batch", "class_aware", "dropout", "pretrained_rate")}
        base = replace(base, crop=tuple(values["crop"]), rate=rate, **taken)
    classifier = replace(recipe("modern"), **CLASSIFIER | machine)
    recipes = {stage: classifier if stage == "classifier" else for_stage(base, stage) for stage in question.stages}
    return Plan(
        {stage: replace(one, steps=values[f"{stage}.steps"]) for stage, one in recipes.items()},
        {} if question.steps is not None else {stage: values[f"{stage}.seconds"] for stage in question.stages},
        values["reserve"],
    )


def plan_crop(fingerprint: Fingerprint) -> Decision:
    """The largest multiple of 32 below 0.9 of the median short side, 64 to 320."""
    short = statistics.median(min(size) for size, photos in fingerprint.sizes for _ in range(photos))
    crop = max(2 * GRID, min(LARGEST_CROP, int(0.9 * short) // GRID * GRID))
    return Decision(
        "crop",
        [crop, crop],
        f"the largest multiple of {GRID} up to 0.9 of the median short side, at most {LARGEST_CROP}",
        f"median short side {short:.0f} pixels over {fingerprint.photos} photos",
        FROM_PYTHON,
    )


def plan_class_aware(shares: Sequence[float]) -> Decision:
    """A share of the crops is laid over a class drawn from those of the photo where classes are unbalanced."""
    present = [share for share in shares if share > 0]
    ratio = max(present) / min(present)
    return Decision(
        "class_aware",
        CLASS_AWARE if ratio > UNBALANCED else 0.0,
        (
            f"{CLASS_AWARE:.0%} of the crops are laid over a class of the photo, rare ones as often as large ones, if "
            f"the largest class has over {UNBALANCED:.0f} times the pixels of the smallest"
        ),
        f"the largest class has {ratio:.0f} times the pixels of the smallest",
        FROM_PYTHON,
    )


def plan_dropout(fingerprint: Fingerprint) -> Decision:
    """The sharp head does without some channels in training where the samples show objects before a background."""
    return Decision(
        "dropout",
        DROPOUT if fingerprint.background is not None else recipe("modern").dropout,
        (
            f"each step of the sharp head does without {DROPOUT:.0%} of its taps' channels where a class is called "
            "background, else with all: objects vary more than few photos show"
        ),
        _background(fingerprint),
        FROM_PYTHON,
    )


def plan_pretrained_rate(fingerprint: Fingerprint) -> Decision:
    """Pretrained layers learn more gently where the samples show objects before a background, as ImageNet's do."""
    return Decision(
        "pretrained_rate",
        GENTLE if fingerprint.background is not None else recipe("modern").pretrained_rate,
        (
            "factor on the rate of layers that hold pretrained weights: the recipe's, "
            f"but {GENTLE:g} where a class is called background: photos of objects are what such layers know"
        ),
        _background(fingerprint),
        FROM_PYTHON,
    )


def _background(fingerprint: Fingerprint) -> str:
    if fingerprint.background is None:
        return "no class is called background"
    return f"{fingerprint.background:.0%} of the pixels are background"


def best_combination(rows: Sequence[Measured]) -> Measured:
    """The fastest row of fp32, unless one of bf16 (where that was tried) is clearly faster."""
    full = max((row for row in rows if row.precision == "fp32"), key=lambda row: row.images_per_second)
    half = max((row for row in rows if row.precision == "bf16"), key=lambda row: row.images_per_second, default=full)
    return half if half.images_per_second > CLEARLY * full.images_per_second else full


def plan_machine(rows: Sequence[Measured], recipe: Recipe) -> list[Decision]:
    """Precision and layout by speed; the recipe's batch unless another is faster by more than 15% an image."""
    first, sizes = rows[: -len(BATCHES)], rows[-len(BATCHES) :]
    best = best_combination(first)
    said = "; ".join(
        f"{row.precision}{' channels-last' if row.channels_last else ''} {row.images_per_second:.1f}" for row in first
    )
    if all(row.precision == "fp32" for row in first):
        said += "; bf16 not tried, there are no instructions for it"
    usual = next(row for row in sizes if row.batch == recipe.batch)
    fastest = max(sizes, key=lambda row: row.images_per_second)
    batch = fastest if fastest.images_per_second > 1.15 * usual.images_per_second else usual
    said_sizes = "; ".join(
        f"batch {row.batch}: {row.images_per_second:.1f}, {row.activation_bytes / 1e9:.2f} GB kept for the "
        "backward pass"
        for row in sizes
    )
    return [
        Decision(
            "precision",
            best.precision,
            "fp32, unless bf16 is over 5% faster in training steps",
            f"images a second: {said}",
            FROM_PYTHON,
        ),
        Decision(
            "channels_last",
            best.channels_last,
            "the fastest layout in training steps",
            f"images a second: {said}",
            FROM_PYTHON,
        ),
        Decision(
            "batch",
            batch.batch,
            f"{recipe.batch}, unless another is over 15% faster an image; the rate goes with its square root",
            f"images a second: {said_sizes}",
            FROM_PYTHON,
        ),
    ]


def _random_start() -> list[Decision]:
    """What is decided where nothing is pretrained, and only there."""
    found = "--weights none"
    return [
        Decision(
            "pretrained_rate", 1.0, "nothing is pretrained: every layer learns at the full rate", found, FROM_PYTHON
        ),
        Decision("frozen", 0, "nothing is pretrained: every layer learns", found, FROM_PYTHON),
        Decision(
            "head_first", 0.0, "nothing is pretrained: every layer learns from the first step", found, FROM_PYTHON
        ),
        Decision("pretrained_warm_up", 0.0, "nothing is pretrained", found, FROM_PYTHON),
        Decision("norms_stay", False, "nothing is pretrained: there are no statistics to keep", found, FROM_PYTHON),
        Decision("stops_flat", False, "from random weights training begins with guessing", found, FROM_PYTHON),
    ]


def _workers(question: Question) -> Decision:
    return Decision(
        "workers",
        1 if question.device == "cpu" else max(1, min(8, question.cores - 1)),
        (
            "processes that make batches ahead: 1 where the network itself uses every core; beside a GPU all cores "
            "but one, at most 8"
        ),
        f"{question.cores} cores, the network runs on {question.device}",
        FROM_PYTHON,
    )


def _reserve(question: Question, seconds_to_measure: float) -> Decision:
    measured = sum(stage != "classifier" for stage in question.stages)
    return Decision(
        "reserve",
        round(measured * seconds_to_measure + REPORT_SECONDS, 1),
        f"seconds kept for fitting class offsets and measuring every stage, and {REPORT_SECONDS:.0f} for the rest",
        f"{seconds_to_measure:.0f} s to measure once, {measured} stages",
        "fewer val samples",
    )


def _steps(
    question: Question,
    seen: Fingerprint,
    crop: Sequence[int],
    batch: int,
    speed: float,
    window: tuple[int, int],
    reserve: float,
) -> list[Decision]:
    """Seconds and steps of each stage, from the minutes given and the speed measured."""
    asked = question.steps
    if asked is not None:
        return [
            Decision(f"{stage}.steps", asked, "as asked", f"--steps {asked}", "--steps N | --minutes N")
            for stage in question.stages
        ]
    for_training = max(1.0, question.minutes * 60 * (1 - KEPT_FREE) - reserve)
    pixels_a_second = crop[0] * crop[1] * speed * (1 - DATA_SHARE)
    share = CLASSIFIER_SHARE[question.classifier_items]
    decisions = []
    for stage, seconds in plan_seconds(question.stages, seconds=for_training, classifier_share=share).items():
        each = _pixels_a_step(stage, question, seen, crop, batch, window) / pixels_a_second
        evidence = f"{each:.2f} s a step, from {speed:.1f} crops a second"
        rule = "seconds over the measured time of a step; planned again after a tenth and a half"
        decisions += [
            Decision(
                f"{stage}.seconds",
                round(seconds, 1),
                "its share of the minutes",
                f"{question.minutes:g} minutes",
                "--minutes N",
            ),
            Decision(f"{stage}.steps", max(10, int(seconds / each)), rule, evidence, "--steps N"),
        ]
    return decisions


def _pixels_a_step(
    stage: str, question: Question, seen: Fingerprint, crop: Sequence[int], batch: int, window: tuple[int, int]
) -> float:
    if stage == "classifier":
        return CLASSIFIER_BATCH * window[0] * window[1]
    base = recipe(question.recipe)
    if base.crop:
        return batch * base.accumulate * crop[0] * crop[1]
    mean = sum(height * width * photos for (height, width), photos in seen.sizes) / seen.photos
    return base.batch * base.accumulate * mean


def plan_seconds(stages: Sequence[str], *, seconds: float, classifier_share: float) -> dict[str, float]:
    """Share the seconds among the stages: the classifier its share, the rest by what each has to learn."""
    rest = [stage for stage in stages if stage != "classifier"]
    mass = sum(STAGE_SHARES.get(stage, 1.0) for stage in rest)
    given = seconds * (1 - classifier_share) if "classifier" in stages else seconds
    shares = {stage: given * STAGE_SHARES.get(stage, 1.0) / mass for stage in rest}
    return ({"classifier": seconds * classifier_share} if "classifier" in stages else {}) | shares


def plan_again(done: int, step_seconds: Sequence[float], seconds_left: float) -> int:
    """Steps for the whole stage, from what its first steps took.

    Args:
        done: steps done.
        step_seconds: what the last of them took, each.
        seconds_left: for the rest of the stage.
    """
    most = STALL * statistics.median(step_seconds)
    return done + max(1, int(seconds_left / statistics.fmean(min(one, most) for one in step_seconds)))


def to_json(
    question: Question, decisions: Sequence[Decision], measured: Sequence[Measured], *, key: str
) -> dict[str, Any]:
    """plan.json; `key` names the run that it is for; `replanned` holds, per stage, what was planned again on the
    way.
    """
    return {
        "schema": SCHEMA,
        "key": key,
        "minutes": None if question.steps is not None else question.minutes,
        "stages": list(question.stages),
        "recipe": question.recipe,
        "decisions": [asdict(decision) for decision in decisions],
        "replanned": {},
        "measured": [asdict(row) for row in measured],
    }
