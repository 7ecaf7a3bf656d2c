"""`fullconv study`: what is wrong with the samples, and a mended copy of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fullconv.base.errors import UsageError
from fullconv.cli.data import LABEL_OPTIONS, split_names, with_options

if TYPE_CHECKING:
    from fullconv.study.case import Case
    from fullconv.study.findings import Finding
    from fullconv.study.suspects import WrongLabels

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
    fixes: Path | None,
    to: Path | None,
    as_json: bool,
) -> None:
    """Say what is wrong with the samples of DATA, why it matters, and how to mend it.

    OUT gets study.html to read, the same as study.json, and fixes.json, which lists the repairs: edit it, then
    fullconv study --apply OUT/fixes.json --to MENDED writes a mended copy. DATA is only read, and nothing is trained
    unless --run asks for wrong labels; stopped then, the same command goes on.
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

    if earlier is None:
        case = read_case(data, classes=split_names(classes), others=others, void=void, splits=splits)
        wrong = None
    else:
        if classes or others != "void" or void or splits:
            raise UsageError(
                "with --run the classes and splits are those of the run",
                "--run beside --classes, --others, --void or --splits",
                "leave them out",
            )
        case, wrong = _with_run(data, earlier, out, quiet=as_json)
    findings = findings_of(case)
    document = write_study(out, case, findings, wrong)
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else describe(case, findings, wrong, out))


def _with_run(data: Path, earlier: Path, out: Path, *, quiet: bool) -> tuple[Case, WrongLabels]:
    """The case as the run read it, and what networks say of the labels that have not seen them."""
    from dataclasses import replace

    from fullconv.road import again, asked_of, case_of
    from fullconv.study.folds import FOLDS, unseen
    from fullconv.study.wrong_labels import wrong_labels

    asked = asked_of(earlier)
    case = case_of(replace(asked, data=data))
    say = (lambda _: None) if quiet else click.echo
    how_long = f"{asked.steps} steps a stage" if asked.steps else f"{asked.minutes:g} minutes"
    say(f"Wrong labels: {FOLDS} runs of {how_long}, as {earlier} was asked, each without a part of train.")
    parts = unseen(
        case,
        earlier,
        out / "folds",
        lambda splits, folder: again(earlier, data=data, out=folder, splits=splits, say=say),
        seed=asked.seed,
    )
    assert case.space is not None
    return case, wrong_labels(parts, case.space)


def describe(case: Case, findings: list[Finding], wrong: WrongLabels | None, out: Path) -> str:
    """The findings as text for a terminal."""
    lines = [*case.notes, f"{len(case.samples)} of {len(case.looks)} samples can be used.", ""]
    for finding in findings:
        lines += [f"{finding.severity:<5} {finding.kind}: {finding.sentence}", f"      {finding.why}"]
    lines += [] if findings else ["Nothing is wrong that the doctor knows of."]
    lines += [] if wrong is None else _suspects(case, wrong)
    lines += ["", f"With pictures: {out / 'study.html'}"]
    if any(finding.repair for finding in findings):
        lines += ["", f"What can be mended stands in {out / 'fixes.json'}; edit it, then:"]
        lines += [f"  fullconv study --apply {out / 'fixes.json'} --to MENDED"]
    return "\n".join(lines)


def _suspects(case: Case, wrong: WrongLabels) -> list[str]:
    assert case.space is not None
    names = case.space.names
    rows = [
        f"  {one.score:.2f} {one.kind:<8} {one.sample}, {names[one.given]} that looks like {names[one.likely]}"
        for one in wrong.suspects[:LISTED]
    ]
    more = len(wrong.suspects) - len(rows)
    return ["", "Labels to look at, the likeliest errors first:", *rows, *([f"  and {more} more"] if more > 0 else [])]


def _apply(fixes: Path, to: Path | None) -> None:
    if to is None:
        raise UsageError("a mended copy goes to a new folder", "--apply without --to", "--to MENDED")
    from fullconv.study.repairs import mend_samples

    mended = mend_samples(fixes, to)
    done = ", ".join(f"{repair} {number}" for repair, number in sorted(mended.done.items())) or "nothing to mend"
    click.echo(f"{mended.written} samples written to {to} ({done})")
    for name, why in list(mended.left.items())[:20]:
        click.echo(f"  left out: {name}: {why}")
