"""`fullconv evaluate`: measure a bundle on samples, or two bundles against each other. Road: cli."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fullconv.data.samples import Sample
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
@click.option("--against", metavar="BUNDLE2", type=FOLDER, help="Compare with another bundle, paired by photo.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
def command(bundle: Path, data: Path, split: str, against: Path | None, as_json: bool) -> None:
    """Measure BUNDLE on the samples in DATA.

    DATA may lie in any layout that `fullconv run` reads; its label maps are read with the bundle's own label space.
    """
    from fullconv.data.read import read_samples
    from fullconv.measure.compare import compare
    from fullconv.measure.table import difference_line, scores_table
    from fullconv.nets.bundle import load

    first = load(bundle)
    second = None if against is None else _comparable(load(against), first, against)
    samples = read_samples(data, like=first.label_space).split(split)
    scores = _scores(first, samples)
    document = scores.to_json()
    if second is not None:
        document["difference"] = compare(scores, _scores(second, samples)).to_json()
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(f"{bundle} on {len(samples)} samples of {data} ({split})\n")
    click.echo(scores_table(document))
    if second is not None:
        click.echo("\n" + difference_line(document["difference"], first=str(bundle), second=str(against)))


def _scores(bundle: Bundle, samples: tuple[Sample, ...]) -> Scores:
    from fullconv.measure.evaluate import evaluate_with
    from fullconv.predict.photo import predict_photo

    def segment(photo: Any) -> Any:
        return predict_photo(bundle.net, photo).labels

    return evaluate_with(segment, samples)


def _comparable(second: Bundle, first: Bundle, folder: Path) -> Bundle:
    from fullconv.base.errors import UsageError

    if second.label_space.names != first.label_space.names:
        raise UsageError(
            "two bundles can be compared if they have the same classes in the same order",
            f"{folder} has {', '.join(second.label_space.names)}; the first has {', '.join(first.label_space.names)}",
            "evaluate each on its own, without --against",
        )
    return second
