"""`fullconv classify`: what a classifier says of photos, by name. Road: cli."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.cli.models import MODEL, model_options, prints_aside
from fullconv.cli.predict import find_photos, records_of

if TYPE_CHECKING:
    from collections.abc import Callable

BAR = 24  # characters of a probability of 1


@click.command("classify")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--model", default=MODEL, show_default=True, help="The classifier.")
@model_options
@click.option("--dense", is_flag=True, help="Score many positions of the enlarged photo, and average.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
def command(
    images: tuple[str, ...],
    model: str,
    weights: str | None,
    class_names: Path | None,
    preparation: Path | None,
    dense: bool,
    as_json: bool,
) -> int:
    """Name the five most likely classes of each IMAGE, with their probabilities.

    IMAGE is a file, a folder (the photos in it) or a pattern in quotes. Without --dense one crop is scored, the middle
    of the photo; with it every position of the enlarged photo and of its mirror image, in one pass.
    """
    from fullconv.base.progress import progress
    from fullconv.cli.models import chosen_classifier

    photos = find_photos(images)
    done = []
    with prints_aside(as_json):
        classifier = chosen_classifier(model, weights=weights, class_names=class_names, preparation=preparation)
        judge = judge_of(classifier, dense)
        if not as_json:
            click.echo(f"{classifier.name}: {classifier.weights}", err=True)
        records = records_of(photos, partial(judged, judge=judge, names=classifier.class_names))
        for record in progress(records, what="classifying", total=len(photos)):
            done.append(record)
            if not as_json:
                click.echo(in_words(record))
    if as_json:
        document = {"schema": "fullconv.classification/1", "model": classifier.name, "dense": dense, "photos": done}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    return 0 if len(done) == len(photos) else 1


def judge_of(classifier: Any, dense: bool) -> Callable[[Any], Any]:
    """A function from a photo (H, W, 3) to (K,) probabilities."""
    from fullconv.nets.surgery import convolutionalize
    from fullconv.predict.classify import many_positions, one_crop

    if not dense:
        return partial(one_crop, classifier)
    return partial(many_positions, classifier, convolutionalize(classifier.network, classifier.window))


def judged(photo: Path, judge: Callable[[Any], Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    """One photo's record for --json."""
    from fullconv.base.images import read_photo
    from fullconv.predict.classify import top

    ranked = top(judge(read_photo(photo)), names)
    classes = [{"id": k, "name": name, "probability": round(p, 6)} for k, name, p in ranked]
    return {"photo": str(photo), "classes": classes}


def in_words(record: dict[str, Any]) -> str:
    """The photo, and a line a class."""
    lines = [
        f"  {one['probability']:6.1%}  {'█' * round(BAR * one['probability']):<{BAR}}  {one['name']}"
        for one in record["classes"]
    ]
    return "\n".join([record["photo"], *lines])
