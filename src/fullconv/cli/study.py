"""`fullconv study`: what is wrong with the samples, and a mended copy of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.base.errors import UsageError
from fullconv.cli.data import LABEL_OPTIONS, split_names, with_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fullconv.data.samples import SampleSet
    from fullconv.nets.sharp import SharpHead
    from fullconv.road import Asked
    from fullconv.study.case import Case
    from fullconv.study.document import Answers
    from fullconv.study.findings import Finding
    from fullconv.study.prelabels import Batch, Unlabelled
    from fullconv.study.small import Small
    from fullconv.study.suspects import WrongLabels

LISTED = 12  # suspects in the terminal
FEWEST = 8  # samples of train, of which parts are trained on


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Where study.html, study.json and fixes.json go.")
@with_options(*LABEL_OPTIONS)
@click.option(
    "--run",
    "earlier",
    type=click.Path(path_type=Path),
    help="A finished run of DATA: finds wrong labels too, by three runs like it on parts of train.",
)
@click.option("--value", is_flag=True, help="Also: what each sample of train is worth, checked by training on halves.")
@click.option("--curve", is_flag=True, help="Also: what more samples would bring, from trainings on parts.")
@click.option(
    "--next",
    "unlabelled",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of photos without label maps: also, which to label next, with label maps to begin with.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=24, show_default=True, help="With --next: how many photos."
)
@click.option("--apply", "fixes", type=click.Path(path_type=Path), help="A fixes.json to perform.")
@click.option("--to", type=click.Path(path_type=Path), help="With --apply: a new folder for the mended copy.")
@click.option("--json", "as_json", is_flag=True, help="Print study.json and nothing else.")
def command(
    data: Path | None,
    out: Path | None,
    classes: str | None,
    others: str,
    void: str | None,
    splits: Path | None,
    earlier: Path | None,
    value: bool,
    curve: bool,
    unlabelled: Path | None,
    batch: int,
    fixes: Path | None,
    to: Path | None,
    as_json: bool,
) -> None:
    """Say what is wrong with the samples of DATA, why it matters, and how to mend it.

    OUT gets study.html to read, the same as study.json, and fixes.json, which lists the repairs: edit it, then
    fullconv study --apply OUT/fixes.json --to MENDED writes a mended copy. DATA is only read, and nothing is trained
    unless --run, --value, --curve or --next ask for it; stopped then, the same command goes on.
    """
    if fixes is not None:
        _apply(fixes, to)
        return
    if data is None or out is None:
        missing = "DATA" if data is None else "--out"
        raise UsageError(
            "a study has samples and a place for what it finds", f"no {missing}", "fullconv study DATA --out DIR"
        )
    import json

    from fullconv.report.study_page import write_study
    from fullconv.study.case import read_case
    from fullconv.study.rules import findings_of

    if earlier is not None and (classes or others != "void" or void or splits):
        raise UsageError(
            "with --run the classes and splits are those of the run",
            "--run beside --classes, --others, --void or --splits",
            "leave them out",
        )
    names = split_names(classes)
    if earlier is None and not (value or curve or unlabelled):  # the doctor alone: torch is not loaded
        case, answers = read_case(data, classes=names, others=others, void=void, splits=splits), None
    else:
        from fullconv.road import Asked, asked_of, case_of

        asked = Asked(data=data, out=out, classes=names or (), others=others, void=void, splits=splits, skip_bad=True)
        if earlier is not None:
            asked = replace(asked_of(earlier), data=data)
        case = case_of(asked)
        say = (lambda _: None) if as_json else click.echo
        wished = Wished(earlier, value, curve, unlabelled, batch)
        answers = _answers(case, asked, wished, out, say)
    findings = findings_of(case)
    document = write_study(out, case, findings, answers)
    click.echo(
        json.dumps(document, indent=2, ensure_ascii=False) if as_json else describe(case, findings, document, out)
    )


@dataclass(frozen=True)
class Wished:
    """What a study is asked beyond its findings; see the options of the same names."""

    earlier: Path | None
    value: bool
    curve: bool
    unlabelled: Path | None
    batch: int


def _answers(case: Case, asked: Asked, wished: Wished, out: Path, say: Callable[[str], None]) -> Answers:
    """What was asked beyond the findings. What can be told at once comes before what takes minutes."""
    from fullconv.study.document import Answers

    if not (wished.value or wished.curve or wished.unlabelled):
        assert wished.earlier is not None
        return Answers(_wrong_labels(case, asked, wished.earlier, out, say))

    from fullconv.study.folds import folds_of, items_of
    from fullconv.study.growth import growth_of
    from fullconv.study.prelabels import photos_to_label
    from fullconv.study.small import NETWORKS, shrink_samples, train_several
    from fullconv.study.small_folds import ROUNDS, seen_by_others
    from fullconv.study.value import worth_of
    from fullconv.study.wrong_labels import at_own_size, wrong_labels

    samples, folder = _samples(case, asked, out)
    _check_enough(samples, wished)
    offered = None
    if wished.unlabelled:
        labelled = samples.contents.values()
        offered = photos_to_label(wished.unlabelled, labelled, samples.label_space, _folder_of_photos(out))
    answers = Answers(None if wished.earlier is None else _wrong_labels(case, asked, wished.earlier, out, say))
    train = shrink_samples(samples.train, folder)
    val = shrink_samples(samples.val, folder)
    if wished.curve:
        say("What more samples would bring: 8 trainings of a small network.")
        answers = replace(answers, growth=growth_of(train, val, folder / "parts.jsonl", seed=asked.seed))
    if wished.value or offered:
        say(f"What small networks make of the samples: {NETWORKS} trainings.")
        heads = train_several(train, NETWORKS, seed=asked.seed)
    if offered:
        answers = replace(answers, batch=_batch(offered, samples, train, val, heads, wished, out))
    if wished.value:
        if answers.wrong is None:
            names = [one.name for one in train]
            rounds = [folds_of(items_of(case, names), seed=asked.seed + number) for number in range(ROUNDS)]
            say(f"Wrong labels: {sum(map(len, rounds))} trainings of a small network.")
            seen = seen_by_others(train, rounds, folder / "others", seed=asked.seed)
            sizes = {one.name: one.size for one in samples.train}
            answers = replace(answers, wrong=at_own_size(wrong_labels(seen, samples.label_space), train, sizes))
        assert answers.wrong is not None
        say("What samples are worth: some 50 trainings of a small network.")
        worth = worth_of(heads, train, val, answers.wrong.doubtful, folder, seed=asked.seed)
        answers = replace(answers, worth=worth)
    return answers


def _batch(
    offered: tuple[dict[str, Unlabelled], dict[Path, str]],
    samples: SampleSet,
    train: Sequence[Small],
    val: Sequence[Small],
    heads: Sequence[SharpHead],
    wished: Wished,
    out: Path,
) -> Batch:
    """Which photos to label next, and label maps to begin with: by the run, else by the small networks."""
    from fullconv.base.files import content_hash
    from fullconv.nets.bundle import load
    from fullconv.study.label_next import label_next
    from fullconv.study.prelabels import Batch, seen_small, write_prelabels

    unlabelled, left_out = offered
    chosen = label_next(heads, train, val, [one.small for one in unlabelled.values()], wished.batch)
    bundle = None if wished.earlier is None else load(wished.earlier / "bundle")

    def see(name: str, photo: NDArray[np.uint8]) -> NDArray[np.integer[Any]]:
        if bundle is not None:
            return bundle.predict(photo).labels
        return seen_small(heads, unlabelled[name].small, (photo.shape[0], photo.shape[1]))

    seen_by = train[0].folder.name if wished.earlier is None else content_hash(wished.earlier / "bundle/card.json")
    photos = {name: one.photo for name, one in unlabelled.items()}
    named = {one.name: photos[one.name] for one in chosen.choices}
    folder = write_prelabels(named, see, seen_by, samples.label_space, out / "next")
    return Batch(chosen, photos, left_out, folder)


def _wrong_labels(case: Case, asked: Asked, earlier: Path, out: Path, say: Callable[[str], None]) -> WrongLabels:
    """What networks say of the labels that have not seen them."""
    from fullconv.road import again
    from fullconv.study.folds import FOLDS, unseen
    from fullconv.study.wrong_labels import probabilities_of, wrong_labels

    how_long = f"{asked.steps} steps a stage" if asked.steps else f"{asked.minutes:g} minutes"
    say(f"Wrong labels: {FOLDS} runs of {how_long}, as {earlier} was asked, each without a part of train.")
    parts = unseen(
        case,
        earlier,
        out / "folds",
        lambda splits, folder: again(earlier, data=asked.data, out=folder, splits=splits, say=say),
        seed=asked.seed,
    )
    assert case.space is not None
    return wrong_labels(partial(probabilities_of, parts), case.space)


def _check_enough(samples: SampleSet, wished: Wished) -> None:
    if len(samples.train) >= FEWEST and (samples.val or not (wished.value or wished.curve)):
        return
    raise UsageError(
        f"--value, --curve and --next train on at least {FEWEST} samples of train; the first two measure on val",
        f"{len(samples.train)} of train, {len(samples.val)} of val, in {samples.root}",
        "add samples, or say which are val: --splits FILE",
    )


def _samples(case: Case, asked: Asked, out: Path) -> tuple[SampleSet, Path]:
    """The samples that the doctor holds for sound, and the folder of what is trained on them: one for each content."""
    from fullconv.base.files import content_hash
    from fullconv.labels.decode import source_of
    from fullconv.road import samples_of
    from fullconv.study.small import too_thin

    samples = samples_of(asked)
    if case.space is None or case.space.names != samples.label_space.names:
        raise UsageError(
            "the classes are those of the label maps that are sound",
            case.space_error or f"others among all: {', '.join(samples.label_space.names)}",
            f"fullconv study {asked.data} --out {out}, mend what it finds, then study the mended copy",
        )
    sound = {one.name: one for one in case.samples.values() if not too_thin(one.size)}
    train, val = (tuple(sound[one.name] for one in part if one.name in sound) for part in (samples.train, samples.val))
    maps = list(dict.fromkeys(source_of(one.label_map) for one in (*train, *val)))
    splits = {"train": [[one.name, one.turn] for one in train], "val": [[one.name, one.turn] for one in val]}
    space = samples.label_space.to_json()
    key = content_hash(asked.seed, space, splits, dict(samples.contents), *_code(), *map(str, maps), *maps)
    return replace(samples, train=train, val=val), out / "small" / key[:12]


def _folder_of_photos(out: Path) -> Path:
    """Of what small networks see of photos that have no label map, whatever the samples are."""
    from fullconv.base.files import content_hash

    return out / "small" / f"photos-{content_hash(*_code())[:12]}"


def _code() -> list[str | Path]:
    """What names the code that trains small networks."""
    from fullconv.road import code_version
    from fullconv.study import check, growth, small, small_folds

    return [code_version(), *(Path(str(module.__file__)) for module in (check, growth, small, small_folds))]


def describe(case: Case, findings: list[Finding], document: dict[str, Any], out: Path) -> str:
    """The study as text for a terminal."""
    lines = [*case.notes, f"{len(case.samples)} of {len(case.looks)} samples can be used.", ""]
    for finding in findings:
        lines += [f"{finding.severity:<5} {finding.kind}: {finding.sentence}", f"      {finding.why}"]
    lines += [] if findings else ["Nothing is wrong that the doctor knows of."]
    lines += _suspects(document) if "suspects" in document else []
    lines += _advice(document) if "advice" in document else []
    lines += _curve(document["learning_curve"]) if "learning_curve" in document else []
    lines += _next(document["label_next"]) if "label_next" in document else []
    lines += ["", f"With pictures: {out / 'study.html'}"]
    if any(finding.repair for finding in findings):
        lines += ["", f"What can be mended stands in {out / 'fixes.json'}; edit it, then:"]
        lines += [f"  fullconv study --apply {out / 'fixes.json'} --to MENDED"]
    return "\n".join(lines)


def _suspects(document: dict[str, Any]) -> list[str]:
    suspects = document["suspects"]
    rows = [
        f"  {one['score']:.2f} {one['kind']:<8} {one['sample']}, {one['given']} that looks like {one['likely']}"
        for one in suspects[:LISTED]
    ]
    more = len(suspects) - len(rows)
    return ["", "Labels to look at, the likeliest errors first:", *rows, *([f"  and {more} more"] if more > 0 else [])]


def _advice(document: dict[str, Any]) -> list[str]:
    advice, check = document["advice"], document["value_check"]
    of_iou, most = (check[what]["iou"]["mean"] for what in ("agreement", "ceiling"))
    lines = ["", f"Samples of train: keep {advice['keep']}, fix {len(advice['fix'])}, drop {len(advice['drop'])}."]
    if advice["gain"]:
        gain, low, high = advice["gain"]
        lines += [f"Without those to fix or to drop: mean IoU {gain:+.3f} ({low:+.3f} to {high:+.3f})."]
    return [
        *lines,
        f"Values foretell trainings on halves by {of_iou:.2f}; trainings foretell each other by {most:.2f}.",
    ]


def _curve(growth: dict[str, Any]) -> list[str]:
    lines = ["", "More samples, by small networks:"]
    lines += [
        f"  {one['samples']} samples: mean IoU {one['figure']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        for one in growth["mean_iou"]
        if one["samples"] >= growth["parts"][0]["samples"]
    ]
    return lines + [_more(one) for one in growth["classes"] if one["recall"]]


def _more(one: dict[str, Any]) -> str:
    now, more = one["recall"]["now"], one["recall"]["more"]
    interval = f"({more['low']:.2f} to {more['high']:.2f})"
    images = more["images"] - one["images"]
    return (
        f"  {images} more with {one['class']}: its recall from {now['figure']:.2f} to {more['figure']:.2f} {interval}"
    )


def _next(label_next: dict[str, Any]) -> list[str]:
    photos = label_next["photos"]
    rows = [f"  {one['promise']:.1f} {Path(one['photo']).name}, {', '.join(one['classes'])}" for one in photos[:LISTED]]
    more = len(photos) - len(rows)
    return [
        "",
        f"To label next, of {label_next['of']} photos; what each would teach, times the median; classes in doubt:",
        *rows,
        *([f"  and {more} more"] if more > 0 else []),
        f"With label maps to begin with, for labelme, CVAT and COCO tools: {label_next['prelabels']}",
    ]


def _apply(fixes: Path, to: Path | None) -> None:
    if to is None:
        raise UsageError("a mended copy goes to a new folder", "--apply without --to", "--to MENDED")
    from fullconv.study.repairs import mend_samples

    mended = mend_samples(fixes, to)
    done = ", ".join(f"{repair} {number}" for repair, number in sorted(mended.done.items())) or "nothing to mend"
    click.echo(f"{mended.written} samples written to {to} ({done})")
    for name, why in list(mended.left.items())[:20]:
        click.echo(f"  left out: {name}: {why}")
