"""`fullconv inspect`: what a classifier is made of, what each layer sees and costs. Road: cli."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.base.errors import UsageError
from fullconv.cli.models import SIZE, model_options, prints_aside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fullconv.dense.levels import Levels
    from fullconv.nets.classifiers import Classifier
    from fullconv.nets.costs import Layer
    from fullconv.nets.surgery import Convolutional

Size = tuple[int, int]
WIDTH = 100
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("inspect")
@click.argument("model")
@click.option("--window", type=SIZE, default=None, help="Training size: N or HxW.  [default: the model's own]")
@model_options
@click.option("--size", type=SIZE, default=None, help="Of the photo: N or HxW.  [default: the model's window]")
@click.option("--grid", type=SIZE, default=None, help="Also say which photos give this grid of scores: N or HxW.")
@click.option("--pictures", type=click.Path(path_type=Path, file_okay=False), help="Draw what the layers see, here.")
@click.option("--photo", type=FILE, default=None, help="What --pictures shows.  [default: a drawn scene]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
def command(
    model: str,
    window: Size | None,
    weights: str | None,
    class_names: Path | None,
    preparation: Path | None,
    size: Size | None,
    grid: Size | None,
    pictures: Path | None,
    photo: Path | None,
    as_json: bool,
) -> None:
    """Show what the classifier MODEL is made of: each layer's shape, stride, offset, receptive field and cost.

    Below the table: the grid of scores that it gives when it is made fully convolutional, which photos give which grid,
    and how far tiles must overlap. At its window's size the layers are those of the classifier; at any other size,
    those of the converted network. --pictures DIR writes:

    \b
    geometry.png     where the cells of each level lie, and what one of them sees
    levels/*.png     what each level holds of a photo
    invariance.png   how much each level changes when the photo is shifted, enlarged, turned
    levels.json      the figures of all these
    """
    from fullconv.cli.models import chosen_classifier

    if photo is not None and pictures is None:
        raise UsageError("--photo is what --pictures shows", "--photo without --pictures", "--pictures DIR")
    with prints_aside(as_json):
        classifier = chosen_classifier(
            model,
            weights=weights,
            class_names=class_names,
            preparation=preparation,
            window=window,
            random_is_enough=True,
        )
        inspected = inspect(classifier, size or classifier.window)
        document = inspected.to_json() | {"asked": None if grid is None else asked(inspected, grid)}
        if not as_json:
            click.echo(in_words(inspected, document))
        if pictures is not None:
            files = write_pictures(inspected, photo, pictures)
            click.echo(f"written: {', '.join(map(str, files))}", err=as_json)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@dataclass(frozen=True, eq=False)
class Inspected:
    """A classifier at one size of photo.

    Attributes:
        converted: it, made fully convolutional; None where that cannot be, for the reason `why_not`.
        layers: of the classifier at its window's size and where there is no grid, else of the converted network.
        of: whose layers they are: "classifier" or "converted".
        grid: of scores at this size, where it lies, as for --json; None where there is none.
    """

    classifier: Classifier
    size: Size
    converted: Convolutional | None
    why_not: str
    layers: list[Layer]
    of: str
    grid: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "fullconv.inspection/1",
            "model": self.classifier.name,
            "weights": self.classifier.weights,
            "window": list(self.classifier.window),
            "size": list(self.size),
            "layers_of": self.of,
            "layers": [layer.to_json() for layer in self.layers],
            "totals": totals(self.layers),
            "grid": self.grid,
            "not_convertible": self.why_not or None,
        }


def inspect(classifier: Classifier, size: Size) -> Inspected:
    """Look at a classifier. Raises: SurgeryError where its steps cannot be followed at all."""
    from fullconv.base.errors import NetError
    from fullconv.nets.costs import layers_of
    from fullconv.nets.surgery import rewritten

    converted, why_not = None, ""
    try:
        converted = rewritten(classifier.network, classifier.window)
    except NetError as error:
        why_not = " ".join(error.found.partition("; ")[0].split())  # the first layer of those that are in the way
    if converted is None:
        return Inspected(classifier, size, None, why_not, layers_of(classifier.network, size), "classifier", None)
    grid = grid_facts(converted, size)
    if size == classifier.window or grid["size"] is None:  # too small for a cell: the classifier may still take it
        return Inspected(classifier, size, converted, "", layers_of(classifier.network, size), "classifier", grid)
    return Inspected(classifier, size, converted, "", layers_of(converted.network, size), "converted", grid)


def totals(layers: Sequence[Layer]) -> dict[str, int]:
    return {
        "parameters": sum(layer.parameters for layer in layers),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "bytes": sum(layer.bytes for layer in layers),
    }


# ---------------------------------------------------------------------- the grid of scores


def grid_facts(converted: Convolutional, size: Size) -> dict[str, Any]:
    """Window, stride, offset and field of the grid; its cells at this size, which sizes give as many; the halo.

    Where this size gives no cell, all but those are told for a photo of the window's size.
    """
    from fullconv.base.errors import GeometryError
    from fullconv.geometry.geometry import halo
    from fullconv.nets.trace import geometry_of

    try:
        found, fits = geometry_of(converted.network, size, disagreement="span"), True
    except GeometryError:  # smaller than a window
        found, fits = geometry_of(converted.network, converted.window, disagreement="span"), False
    geometry = list(found.values())[-1]
    facts: dict[str, Any] = {"window": list(converted.window), **geometry.to_json()}
    facts["size"] = list(geometry.size) if fits else None
    facts["sizes"] = sizes_as_json(converted, geometry.size, size) if fits else None
    multiple = max(-(-stride // 1) for step in found.values() for stride in step.stride)
    try:
        facts |= {"halo": list(halo(geometry, multiple=int(multiple))), "no_halo": None}
    except GeometryError as error:
        facts |= {"halo": None, "no_halo": error.found}
    return facts


def sizes_as_json(converted: Convolutional, grid: Size, near: Size) -> dict[str, list[int]]:
    """{"rows": [least, most], "columns": [least, most]}: of the photos that give a grid."""
    from fullconv.nets.sizes import sizes_giving

    rows, columns = sizes_giving(converted.network, grid, near=near)
    return {"rows": list(rows), "columns": list(columns)}


def asked(inspected: Inspected, grid: Size) -> dict[str, Any]:
    """Which photos give the grid asked for. Raises: SurgeryError where the classifier has no grid."""
    from fullconv.base.errors import SurgeryError

    if inspected.converted is None:
        raise SurgeryError(
            "a grid of scores comes from a classifier that can be made fully convolutional",
            inspected.why_not,
            f"fullconv inspect {inspected.classifier.name}, without --grid",
        )
    return {"grid": list(grid), **sizes_as_json(inspected.converted, grid, inspected.converted.window)}


# ---------------------------------------------------------------------- words


def in_words(inspected: Inspected, document: Mapping[str, Any]) -> str:
    """The table and what is said below it."""
    classifier, size = inspected.classifier, by(inspected.size)
    whose = classifier.name if inspected.of == "classifier" else f"{classifier.name}, made fully convolutional,"
    lines = [f"{whose} on a photo of {size}", classifier.weights, "", table(inspected.layers), ""]
    lines += grid_in_words(inspected)
    if document["asked"] is not None:
        lines.append(sizes_in_words(document["asked"], document["asked"]["grid"]))
    return "\n".join(lines)


def grid_in_words(inspected: Inspected) -> list[str]:
    """A few lines: the grid, the size rule, the halo; or why there is none."""
    grid = inspected.grid
    if grid is None:
        return [f"cannot be made fully convolutional: {inspected.why_not}"]
    place = ", ".join(
        f"{said} {once(grid[key])}"
        for said, key in (("stride", "stride"), ("offset", "offset"), ("receptive field", "receptive_field"))
    )
    lines = [f"fully convolutional: each cell scores a window of {by(grid['window'])}; {place}"]
    if grid["size"] is None:
        lines.append(f"a photo of {by(inspected.size)} is too small: it gives no cell")
    else:
        lines.append(f"a photo of {by(inspected.size)} gives {by(grid['size'])} cells")
        lines.append(sizes_in_words(grid["sizes"], grid["size"]))
    if grid["halo"] is None:
        lines.append(f"no tile equals the whole: {grid['no_halo']}")
    else:
        lines.append(f"tiles equal the whole where they show {once(grid['halo'])} pixels more on each side")
    return lines


def sizes_in_words(sizes: Mapping[str, Any], grid: Sequence[int]) -> str:
    """384 to 415 pixels give 6 cells."""

    def one(span: Sequence[int], what: str, cells: int, kind: str) -> str:
        least, most = span
        wide = f"{least} to {most} {what} give" if most > least else f"{least} {what} give"
        return f"{wide} {cells} {kind}{'s' if cells != 1 else ''}"

    if sizes["rows"] == sizes["columns"] and grid[0] == grid[1]:
        return one(sizes["rows"], "pixels", grid[0], "cell")
    rows = one(sizes["rows"], "rows", grid[0], "row")
    return f"{rows} of cells; {one(sizes['columns'], 'columns', grid[1], 'column')} of cells"


def table(layers: Sequence[Layer]) -> str:
    """One row a layer, and the totals; WIDTH columns."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, show_footer=True, width=WIDTH)
    sums = totals(layers)
    shown.add_column("layer", "total", overflow="fold", ratio=1)
    shown.add_column("kind", overflow="fold", max_width=14)
    shown.add_column("shape", no_wrap=True)
    for name in ("stride", "offset"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("receptive\nfield", justify="right")
    shown.add_column("parameters", f"{sums['parameters']:,}", justify="right", no_wrap=True)
    shown.add_column("multiply-\nadds, M", millions(sums["multiply_adds"]), justify="right", no_wrap=True)
    shown.add_column("kB", f"{sums['bytes'] / 1000:,.0f}", justify="right", no_wrap=True)
    for layer in layers:
        shown.add_row(*row(layer))
    return printed(shown)


def row(layer: Layer) -> tuple[str, ...]:
    where = ("", "", "")
    if layer.geometry is not None:
        place = layer.geometry.to_json()
        where = (once(place["stride"]), once(place["offset"]), once(place["receptive_field"]))
    return (
        layer.name,
        layer.kind,
        by(layer.shape),
        *where,
        f"{layer.parameters:,}" if layer.parameters else "",
        millions(layer.multiply_adds) if layer.multiply_adds else "",
        f"{layer.bytes / 1000:,.0f}",
    )


def millions(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def by(sizes: Sequence[int]) -> str:
    """512x12x12."""
    return "x".join(map(str, sizes))


def once(pair: Sequence[int | str] | None) -> str:
    """What both axes share is written once; fractions as decimals where those are short."""
    if pair is None:
        return "whole photo"
    y, x = (decimal(Fraction(value)) for value in pair)
    return y if y == x else f"{y}x{x}"


def decimal(value: Fraction) -> str:
    short = f"{float(value):g}"
    return short if Fraction(short) == value else f"{value.numerator}/{value.denominator}"


def printed(what: Any) -> str:
    """As rich lays it out, without colours, the same on a terminal and in a pipe."""
    from rich.console import Console

    console = Console(width=WIDTH, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(what)
    return "\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines())


# ---------------------------------------------------------------------- pictures


def write_pictures(inspected: Inspected, photo: Path | None, folder: Path) -> list[Path]:
    """Draw the levels: geometry, features, change. Returns: the files, levels.json last."""
    from fullconv.base.files import write_json
    from fullconv.dense.levels import canvas_size, levels_of
    from fullconv.predict.classify import middle_window
    from fullconv.report import level_sheets

    network, head = shown_network(inspected)
    found = levels_of(network, inspected.size, head=head)
    whole = photo_of(photo, inspected.size)
    shown = middle_window(whole, inspected.size)
    prepare = inspected.classifier.preparation.prepare
    name = inspected.classifier.name
    files = [folder / "geometry.png"]
    title = f"{name}: {by(inspected.size)} pixels, stride by stride"
    write_png(files[0], level_sheets.geometry_sheet(found.levels, shown, title=title))
    records: list[dict[str, Any]] = []
    for level, maps in zip(found.levels, found.maps(prepare(shown)), strict=True):
        drawing, channels = level_sheets.level_sheet(level, maps.numpy(), shown)
        files.append(folder / "levels" / f"{file_name(level.name)}.png")
        write_png(files[-1], drawing)
        records.append(level.to_json() | {"picture": f"levels/{files[-1].name}", "maps": channels})
    canvas = prepare(middle_window(whole, canvas_size(inspected.size)))
    curves, apart = measured(found, canvas)
    files.append(folder / "invariance.png")
    title = f"{name}: how much its features change when the photo does"
    write_png(files[-1], level_sheets.change_sheet(found.levels, curves, apart, title=title))
    for record, curve, value in zip(records, curves, apart, strict=True):
        record |= {"change": curve, "unrelated": value}
    document = {
        "schema": "fullconv.levels/1",
        "model": name,
        "weights": inspected.classifier.weights,
        "size": list(inspected.size),
        "photo": None if photo is None else str(photo),
        "levels": records,
    }
    files.append(folder / "levels.json")
    write_json(files[-1], document)
    return files


def shown_network(inspected: Inspected) -> tuple[Any, tuple[str, ...]]:
    """The network whose layers were listed, and the steps of its head."""
    if inspected.of == "converted" and inspected.converted is not None:
        return inspected.converted.network, inspected.converted.head
    return inspected.classifier.network, ()


def photo_of(path: Path | None, size: Size) -> NDArray[Any]:
    """(H, W, 3): the photo, or a drawn scene that is large enough to be looked at with margins."""
    from fullconv.base.images import read_photo
    from fullconv.data.scenes import draw_scene
    from fullconv.dense.levels import canvas_size

    if path is not None:
        return read_photo(path)
    height, width = canvas_size(size)
    return draw_scene(0, 0, (max(32, height), max(32, width)))[0]


def measured(found: Levels, canvas: Any) -> tuple[list[dict[str, list[tuple[float, float]]]], list[float]]:
    """For each level its curves of change, and the change between places with other content."""
    from fullconv.base.progress import progress
    from fullconv.dense.levels import STEPS, changes, unrelated, viewed

    curves: list[dict[str, list[tuple[float, float]]]] = [{what: [] for what in STEPS} for _ in found.levels]
    total = sum(map(len, STEPS.values()))
    for what, by_how_much, values in progress(changes(found, canvas), what="changing the photo", total=total):
        for curve, value in zip(curves, values, strict=True):
            curve[what].append((by_how_much, round(value, 4)))
    maps = found.maps(viewed(canvas, found.size))
    return curves, [round(value, 4) for value in unrelated(maps)]


def write_png(path: Path, picture: Any) -> None:
    import io

    from fullconv.base.files import write_bytes

    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def file_name(layer: str) -> str:
    return re.sub(r"[^\w.-]+", "_", layer)
