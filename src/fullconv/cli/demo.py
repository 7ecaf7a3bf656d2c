"""`fullconv demo`: the whole road on drawn scenes."""

from __future__ import annotations

from pathlib import Path

import click

from fullconv.cli.run import say_end


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("fullconv-demo"),
    show_default=True,
    help="Folder for scenes and run.",
)
def command(out: Path) -> None:
    """Draw scenes, train, convert, measure and report: the whole road in under 4 minutes, nothing downloaded."""
    from fullconv.base.files import read_json
    from fullconv.road import demo

    report = demo(out, say=click.echo)
    say_end(out / "run", report)
    document = read_json(out / "run" / "run.json")
    click.echo("\nmean IoU on the same val scenes")
    for row in [*document["baselines"], *document["stages"]]:
        click.echo(f"  {row['name']:<32} {row['mean_iou']:.3f}")
