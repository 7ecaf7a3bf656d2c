"""`fullconv study`: what is wrong with the samples, and a mended copy of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.base.errors import UsageError
from fullconv.cli.data import LABEL_OPTIONS, split_names, with_options

if TYPE_CHECKING:
    from fullconv.study_road import Studied

LISTED = 12  # suspects in the terminal


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

    from fullconv.study.questions import Questions
    from fullconv.study_road import study_samples

    asked = Questions(
        data=data,
        out=out,
        run=earlier,
        value=value,
        curve=curve,
        unlabelled=unlabelled,
        batch=batch,
        classes=split_names(classes) or (),
        others=others,
        void=void,
        splits=splits,
    )
    studied = study_samples(asked, say=(lambda _: None) if as_json else click.echo)
    click.echo(json.dumps(studied.document, indent=2, ensure_ascii=False) if as_json else describe(studied, out))


def describe(studied: Studied, out: Path) -> str:
    """The study as text for a terminal."""
    case, findings, document = studied.case, studied.findings, studied.document
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
    first: dict[str, Any] = {}  # one label map may have many
    for one in document["suspects"]:
        first.setdefault(one["sample"], one)
    rows = [
        f"  {one['score']:.2f} {one['kind']:<8} {one['sample']}, {one['given']} that looks like {one['likely']}"
        for one in list(first.values())[:LISTED]
    ]
    more = len(first) - len(rows)
    more_of = [f"  and {more} samples more; all regions: study.json"] if more > 0 else []
    return ["", "Labels to look at, the likeliest error of each sample first:", *rows, *more_of]


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
