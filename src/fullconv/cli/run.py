"""`fullconv run`: the whole road on your samples."""

from __future__ import annotations

from pathlib import Path

import click

from fullconv.cli.data import label_options, split_names


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The run's folder; the same command goes on there.",
)
@click.option(
    "--minutes", type=click.FloatRange(min=0.5), default=None, help="How long the run may take.  [default: 20]"
)
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Steps of each stage, instead of --minutes.")
@click.option(
    "--head",
    type=click.Choice(["sharp", "8s", "16s", "32s", "4s"]),
    default="sharp",
    show_default=True,
    help="What turns features into scores.",
)
@click.option(
    "--recipe",
    type=click.Choice(["modern", "paper", "paper-accumulated"]),
    default="modern",
    show_default=True,
    help="How it is trained.",
)
@click.option(
    "--classifier-data",
    type=click.Path(path_type=Path),
    default=None,
    help="Class folders, one a class, to train the classifier on.",
)
@click.option("--no-classifier", is_flag=True, help="Leave out the classifier's own training.")
@click.option(
    "--model",
    default="embedded:efficientnet_lite0",
    show_default=True,
    help="Backbone: embedded:NAME, timm:NAME or torchvision:NAME.",
)
@click.option("--weights", default="embedded", show_default=True, help="embedded, hub, none or a FILE.")
@label_options
@click.option("--json", "as_json", is_flag=True, help="Print run.json on stdout and nothing else there.")
def command(
    data: Path,
    out: Path,
    minutes: float | None,
    steps: int | None,
    head: str,
    recipe: str,
    classifier_data: Path | None,
    no_classifier: bool,
    model: str,
    weights: str,
    classes: str | None,
    others: str,
    void: str | None,
    splits: Path | None,
    seed: int,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Train, convert, measure: the whole road from the samples in DATA to a segmenter and a report.

    Stopped at any moment, the same command goes on from the last checkpoint.
    """
    if minutes is not None and steps is not None:
        raise click.UsageError("--minutes and --steps exclude each other")
    if no_classifier and classifier_data:
        raise click.UsageError("--no-classifier and --classifier-data exclude each other")
    from fullconv.road import Asked, run

    asked = Asked(
        data=data,
        out=out,
        classifier_data=classifier_data,
        model=model,
        weights=weights,
        head=head,
        recipe=recipe,
        minutes=20.0 if minutes is None else minutes,
        steps=steps,
        classes=split_names(classes) or (),
        others=others,
        void=void,
        splits=splits,
        no_classifier=no_classifier,
        seed=seed,
        skip_bad=skip_bad,
    )
    report = run(asked, say=lambda sentence: click.echo(sentence, err=as_json))
    if as_json:
        click.echo((out / "run.json").read_text(encoding="utf-8").strip())
    else:
        say_end(out, report)


def say_end(out: Path, report: Path) -> None:
    """Print the table of scores and where everything lies."""
    from fullconv.base.files import read_json
    from fullconv.measure.table import scores_table

    scores = read_json(out / "bundle" / "card.json")["scores"]
    click.echo("\n" + scores_table(scores))
    click.echo(
        f"\nbundle: {out / 'bundle'}\nreport: {report}\nnext:   fullconv predict {out / 'bundle'} PHOTOS --out DIR"
    )
