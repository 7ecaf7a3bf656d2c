"""`fullconv evaluate`: measure a bundle on samples, or two bundles against each other. Road: cli."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fullconv.cli.models import precision_option

if TYPE_CHECKING:
    from fullconv.data.samples import Sample, SampleSet
    from fullconv.measure.scores import Scores
    from fullconv.nets.bundle import Bundle

FOLDER = click.Path(path_type=Path)


@click.command("evaluate")
@click.argument("bundle", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="val",
    show_default=True,
    help="Which samples to measure on.",
)
@click.option("--splits", metavar="FILE", type=FOLDER, help="Says which sample is in which split, as for `run`.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split that is drawn where none is given.")
@click.option("--against", metavar="BUNDLE2", type=FOLDER, help="Compare with another bundle, paired by photo.")
@precision_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
def command(
    bundle: Path,
    data: Path,
    split: str,
    splits: Path | None,
    seed: int,
    against: Path | None,
    precision: str,
    as_json: bool,
) -> None:
    """Measure BUNDLE on the samples in DATA.

    DATA may lie in any layout that `fullconv run` reads; its label maps are read with the bundle's own label space.
    """
    from fullconv.data.read import read_samples
    from fullconv.measure.compare import compare
    from fullconv.measure.table import difference_line, scores_table
    from fullconv.nets.bundle import load

    first = load(bundle)
    second = None if against is None else _comparable(load(against), first, against)
    read = read_samples(data, like=first.label_space, splits=splits, seed=seed)
    samples = read.split(split)
    learned = _learned(first, read, samples)
    if learned:
        click.echo(f"{learned} of the {len(samples)} samples were trained on: the scores are too good", err=True)
    scores = _scores(first, samples, precision)
    document = scores.to_json() | {"trained_on": learned}
    if second is not None:
        document["difference"] = compare(scores, _scores(second, samples, precision)).to_json()
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(f"{bundle} on {len(samples)} samples of {data} ({split})\n")
    click.echo(scores_table(document))
    if second is not None:
        click.echo("\n" + difference_line(document["difference"], first=str(bundle), second=str(against)))


def _scores(bundle: Bundle, samples: tuple[Sample, ...], precision: str) -> Scores:
    from fullconv.measure.evaluate import evaluate_with

    return evaluate_with(lambda photo: bundle.predict(photo, precision=precision).labels, samples)


def _learned(bundle: Bundle, read: SampleSet, samples: tuple[Sample, ...]) -> int | None:
    """How many of the samples the bundle was trained on, by their photos' content; None if its card does not say."""
    known = (bundle.card.get("samples") or {}).get("train")
    if not known:
        return None
    learned = frozenset(known)
    return sum(read.contents[one.name][: len(known[0])] in learned for one in samples)


def _comparable(second: Bundle, first: Bundle, folder: Path) -> Bundle:
    from fullconv.base.errors import UsageError

    if second.label_space.names != first.label_space.names:
        raise UsageError(
            "two bundles can be compared if they have the same classes in the same order",
            f"{folder} has {', '.join(second.label_space.names)}; the first has {', '.join(first.label_space.names)}",
            "evaluate each on its own, without --against",
        )
    return second
