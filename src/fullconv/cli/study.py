"""`fullconv study`: what is wrong with the samples, and a mended copy of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fullconv.base.errors import UsageError
from fullconv.cli.data import split_names

if TYPE_CHECKING:
    from fullconv.study.case import Case
    from fullconv.study.findings import Finding


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Where study.html, study.json and fixes.json go.")
@click.option("--classes", metavar="A,B,...", help="Only these classes, in this order.")
@click.option(
    "--others",
    type=click.Choice(["void", "background"]),
    default="void",
    show_default=True,
    help="What the other classes become.",
)
@click.option("--void", metavar="ID", help="The id or colour (R,G,B) in the label maps that is void, or none.")
@click.option(
    "--splits",
    type=click.Path(path_type=Path),
    help="A file that says which sample is in which split: JSON, or lines NAME SPLIT.",
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
    fixes: Path | None,
    to: Path | None,
    as_json: bool,
) -> None:
    """Say what is wrong with the samples of DATA, why it matters, and how to mend it; nothing is trained.

    OUT gets study.html to read, the same as study.json, and fixes.json, which lists the repairs: edit it, then
    fullconv study --apply OUT/fixes.json --to MENDED writes a mended copy. DATA is only read.
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

    from fullconv.base.files import write_json
    from fullconv.report.study_page import write_study_page
    from fullconv.study.case import read_case
    from fullconv.study.document import study_json
    from fullconv.study.repairs import fixes_json
    from fullconv.study.rules import findings_of

    case = read_case(data, classes=split_names(classes), others=others, void=void, splits=splits)
    findings = findings_of(case)
    document = study_json(case, findings, out)
    write_json(out / "study.json", document)
    write_study_page(out / "study.html", case, findings, document)
    write_json(out / "fixes.json", fixes_json(case, findings))
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else describe(case, findings, out))


def describe(case: Case, findings: list[Finding], out: Path) -> str:
    """The findings as text for a terminal."""
    lines = [*case.notes, f"{len(case.samples)} of {len(case.looks)} samples can be used.", ""]
    for finding in findings:
        lines += [f"{finding.severity:<5} {finding.kind}: {finding.sentence}", f"      {finding.why}"]
    lines += [] if findings else ["Nothing is wrong that the doctor knows of."]
    lines += ["", f"With pictures: {out / 'study.html'}"]
    if any(finding.repair for finding in findings):
        lines += ["", f"What can be mended stands in {out / 'fixes.json'}; edit it, then:"]
        lines += [f"  fullconv study --apply {out / 'fixes.json'} --to MENDED"]
    return "\n".join(lines)


def _apply(fixes: Path, to: Path | None) -> None:
    if to is None:
        raise UsageError("a mended copy goes to a new folder", "--apply without --to", "--to MENDED")
    from fullconv.study.repairs import mend_samples

    mended = mend_samples(fixes, to)
    done = ", ".join(f"{repair} {number}" for repair, number in sorted(mended.done.items())) or "nothing to mend"
    click.echo(f"{mended.written} samples written to {to} ({done})")
    for name, why in list(mended.left.items())[:20]:
        click.echo(f"  left out: {name}: {why}")
