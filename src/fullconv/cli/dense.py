"""`fullconv dense`: scores at every pixel, by one way or several side by side. Road: cli."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.base.errors import UsageError
from fullconv.cli.models import MODEL, SIZE, model_options, prints_aside
from fullconv.cli.predict import find_photos, records_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fullconv.dense.full_size import DenseScores
    from fullconv.dense.ways import Choices, DenseClassifier
    from fullconv.nets.segmentation import SegmentationNet

SHOWN = 3  # classes that are drawn where none was named


@click.command("dense")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--model", default=MODEL, show_default=True, help="A classifier, or the folder of a bundle.")
@click.option("--window", type=SIZE, default=None, help="The classifier's training size.  [default: its own]")
@model_options
@click.option(
    "--way", "ways", default="once", show_default=True, help="once, windows, patches, shift, rarefied, scales; or all."
)
@click.option("--classes", default=None, help="Whose maps are drawn: names or numbers, with commas between them.")
@click.option(
    "--pooling",
    type=click.Choice(["cell", "window"]),
    default="cell",
    show_default=True,
    help="What a cell of a converted classifier scores: itself, or one window.",
)
@click.option("--stride", type=click.IntRange(1), default=None, help="Of shift and rarefied.  [default: half]")
@click.option("--step", type=click.IntRange(1), default=None, help="Pixels between windows.  [default: the stride]")
@click.option("--patch", type=click.IntRange(1), default=15, show_default=True, help="Side of the patches, odd.")
@click.option("--scales", default="0.75,1,1.25", show_default=True, help="Factors of the photo's sides.")
@click.option("--no-mirror", is_flag=True, help="scales: leave out mirror images.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Folder for the pictures.  [default: here]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
def command(
    images: tuple[str, ...],
    model: str,
    window: tuple[int, int] | None,
    weights: str | None,
    class_names: Path | None,
    preparation: Path | None,
    ways: str,
    classes: str | None,
    pooling: str,
    stride: int | None,
    step: int | None,
    patch: int,
    scales: str,
    no_mirror: bool,
    out: Path,
    as_json: bool,
) -> int:
    """Score every class at every pixel of each IMAGE with a classifier, and draw it.

    \b
    once      one pass of the converted network, interpolated to full size
    windows   the classifier on windows that slide, averaged where they overlap
    patches   the classifier on a small patch round every pixel, as before FCN
    shift     shift-and-stitch: shifted photos, maps interlaced to a finer stride
    rarefied  the same stride in one pass of dilated kernels
    scales    several scales and mirror images, averaged
    bilinear  of a bundle: its learned deconvolutions put back to bilinear ones

    For photo.jpg: photo_dense.png, a row a way: the class that leads at every pixel, the maps of the classes asked for,
    seconds and memory. A photo that cannot be scored is named and skipped; the exit code is then 1.
    """
    from fullconv.dense.ways import Choices
    from fullconv.predict.outputs import output_names

    photos = find_photos(images)
    choices = Choices(stride, step, patch, scales_of(scales), not no_mirror)
    pictures = dict(zip(photos, (out / f"{name}_dense.png" for name in output_names(photos)), strict=True))
    done = []
    with prints_aside(as_json):
        scorer, names = scorer_of(
            model, weights=weights, class_names=class_names, preparation=preparation, window=window, pooling=pooling
        )
        chosen = ways_of(ways, scorer)
        if names:
            asked_for(classes, names, len(names))  # a wrong name is said before any work
        work = partial(
            one_photo, scorer=scorer, names=names, ways=chosen, choices=choices, classes=classes, pictures=pictures
        )
        for record in records_of(photos, work):
            done.append(record)
            if not as_json:
                click.echo(in_words(record))
    if as_json:
        click.echo(json.dumps({"schema": "fullconv.dense/1", "model": model, "photos": done}, indent=2))
    return 0 if len(done) == len(photos) else 1


def scales_of(text: str) -> tuple[float, ...]:
    """ "0.75,1" -> (0.75, 1.0)."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError("scales are numbers with commas between them", repr(text), "--scales 0.75,1,1.25") from error


def scorer_of(
    model: str,
    *,
    weights: str | None,
    class_names: Path | None,
    preparation: Path | None,
    window: tuple[int, int] | None,
    pooling: str,
) -> tuple[DenseClassifier | SegmentationNet, Sequence[str] | None]:
    """What scores, and its classes' names: the segmenter of a bundle, or a converted classifier."""
    from fullconv.cli.models import chosen_classifier
    from fullconv.dense.ways import dense_classifier
    from fullconv.nets.bundle import load

    if Path(model).is_dir():
        bundle = load(model)
        return bundle.net, bundle.label_space.names
    classifier = chosen_classifier(
        model, weights=weights, class_names=class_names, preparation=preparation, window=window
    )
    return dense_classifier(classifier, pooling=pooling), classifier.class_names


def ways_of(text: str, scorer: DenseClassifier | SegmentationNet) -> list[str]:
    """The ways asked for. Raises: UsageError for one that the model has not, before any work is done."""
    from fullconv.dense.ways import named, ways_for

    known = {way: way for way in ways_for(scorer)}
    return list(known) if text == "all" else [named(known, word.strip()) for word in text.split(",")]


def one_photo(
    file: Path,
    *,
    scorer: DenseClassifier | SegmentationNet,
    names: Sequence[str] | None,
    ways: Sequence[str],
    choices: Choices,
    classes: str | None,
    pictures: Mapping[Path, Path],
) -> dict[str, Any]:
    """Score one photo and draw its picture. Returns: its record for --json."""
    import numpy as np

    from fullconv.base.files import write_bytes
    from fullconv.base.images import read_photo
    from fullconv.base.measured import measured
    from fullconv.predict.outputs import encoded
    from fullconv.report.dense_sheet import WayShown, dense_sheet, leading

    photo = read_photo(file)
    shown: list[WayShown] = []
    wanted: list[int] = []
    for way in ways:
        run = measured(partial(scored, scorer, photo, way, choices))
        scores, (labels, shares) = run.value
        if not shown:
            wanted = asked_for(classes, names, scores.classes) or leading(labels, SHOWN)
        shown.append(WayShown(way, labels, shares, scores.of(wanted), run.seconds, run.peak_bytes))
    titles = [names[k] if names else f"class {k}" for k in range(scores.classes)]
    write_bytes(pictures[file], encoded(np.array(dense_sheet(photo, shown, wanted, titles)), "PNG"))
    return {"photo": str(file), "picture": str(pictures[file]), "ways": [one.to_json(titles) for one in shown]}


def scored(scorer: Any, photo: Any, way: str, choices: Choices) -> tuple[DenseScores, tuple[Any, Any]]:
    """The scores, and the best class at every pixel: both are in what is measured."""
    from fullconv.dense.ways import dense_scores

    scores = dense_scores(scorer, photo, way=way, choices=choices)
    return scores, scores.best()


def asked_for(classes: str | None, names: Sequence[str] | None, count: int) -> list[int]:
    """Ids of the classes named; a class's own name may hold commas."""
    from fullconv.predict.classify import class_named

    if classes is None:
        return []
    if names and classes in names:
        return [list(names).index(classes)]
    return [class_named(word.strip(), names, count) for word in classes.split(",")]


def in_words(record: dict[str, Any]) -> str:
    """The photo, a line a way, where the picture is."""
    lines = [record["photo"]]
    for way in record["ways"]:
        most = ", ".join(f"{one['name'].partition(',')[0]} {one['share']:.0%}" for one in way["classes"][:3])
        memory = "" if way["peak_bytes"] is None else f"  {way['peak_bytes'] / 1e6:6,.0f} MB"
        lines.append(f"  {way['way']:<9}{way['seconds']:7.2f} s{memory}  {most}")
    return "\n".join([*lines, f"  {record['picture']}"])
