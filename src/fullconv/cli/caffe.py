"""`fullconv caffe`: look into Caffe nets, and make bundles of them. Road: cli."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fullconv.base.errors import UsageError
from fullconv.cli.models import SIZE

if TYPE_CHECKING:
    from fullconv.caffe.graph import Graph
    from fullconv.labels.space import LabelSpace

FILE = click.Path(path_type=Path)


@click.group("caffe")
def command() -> None:
    """Caffe's files, without Caffe: `fullconv caffe info`, `convert`, `fetch`.

    A Caffe classifier is also a MODEL, as FILE.prototxt:FILE.caffemodel: of convert, inspect, dense and classify.
    """


@command.command("info")
@click.argument("prototxt", type=FILE)
@click.argument("caffemodel", type=FILE, required=False)
@click.option("--size", type=SIZE, default=None, help="Of the photo, N or HxW.  [default: the file's]")
@click.option(
    "--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST", show_default=True, help="Which layers are kept."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def info(prototxt: Path, caffemodel: Path | None, size: tuple[int, int] | None, phase: str, as_json: bool) -> None:
    """Show the layers of PROTOTXT: shapes, parameters, multiplications, stride, offset and receptive field (sees).

    With CAFFEMODEL, whether its weights fit.
    """
    from fullconv.caffe.graph import Graph
    from fullconv.caffe.inform import rows_of
    from fullconv.caffe.prototxt import read_prototxt
    from fullconv.caffe.rules import State
    from fullconv.caffe.weights import fit_weights

    graph = Graph(read_prototxt(prototxt), State(phase), of=str(prototxt), folder=prototxt.parent)
    if size is not None:
        for name in graph.inputs:
            cell = graph.cells[name]
            cell.reshape((*cell.shape[:2], *size) if len(cell.shape) == 4 else cell.shape)
        graph.reshape()
    without = [] if caffemodel is None else fit_weights(graph, caffemodel)
    rows = rows_of(graph)
    if as_json:
        found = {"name": graph.name, "inputs": graph.inputs, "outputs": graph.outputs, "layers": rows}
        click.echo(json.dumps(found if caffemodel is None else {**found, "without_weights": without}))
        return
    click.echo(f"{graph.name or prototxt.name}: {', '.join(graph.inputs)} -> {', '.join(graph.outputs)}")
    click.echo(_columns("layer", "type", "shape", "parameters", "multiplications", "stride", "offset", "sees"))
    for row in rows:
        click.echo(_line(row))
    total = {what: sum(row[what] for row in rows) for what in ("parameters", "multiplications")}
    click.echo(f"{total['parameters']:,} parameters, {total['multiplications'] / 1e9:.2f} billion multiplications")
    if caffemodel is not None:
        click.echo(f"The weights of {caffemodel.name} fit" + (f"; none for {', '.join(without)}." if without else "."))


def _line(row: dict[str, Any]) -> str:
    shape = " and ".join("x".join(map(str, top)) or "one number" for top in row["shapes"])
    parameters = f"{row['parameters']:,}" if row["parameters"] else ""
    work = f"{row['multiplications'] / 1e6:,.1f} M" if row["multiplications"] else ""
    told = ("stride", "offset", "receptive_field")
    place = ["x".join(dict.fromkeys(f"{float(Fraction(one)):g}" for one in row[name] or ())) for name in told]
    return _columns(row["name"], row["type"], shape, parameters, work, *place)


def _columns(name: str, kind: str, shape: str, *figures: str) -> str:
    cells = [f"{name:<18}", f"{kind:<16}", f"{shape:<22}"]
    cells += [f"{figure:>{wide}}" for figure, wide in zip(figures, (13, 15, 6, 7, 7), strict=True)]
    return "  ".join(cells).rstrip()


@command.command("convert")
@click.argument("prototxt", type=FILE)
@click.argument("caffemodel", type=FILE)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None, help="Folder for the bundle.")
@click.option("--onnx", type=FILE, default=None, help="ONNX file, beside the bundle or alone.")
@click.option(
    "--class-names", type=FILE, default=None, help="One name a line, or a JSON list.  [default: VOC's for 21]"
)
@click.option(
    "--preparation", type=FILE, default=None, help="JSON with channel_order, mean and scale.  [default: Caffe's]"
)
@click.option(
    "--output",
    default=None,
    metavar="BLOB",
    help="The scores.  [default: the last by name, before softmax; in ONNX, all]",
)
def convert(
    prototxt: Path,
    caffemodel: Path,
    out: Path | None,
    onnx: Path | None,
    class_names: Path | None,
    preparation: Path | None,
    output: str | None,
) -> None:
    """Make a bundle of a Caffe FCN, for predict and evaluate, or an ONNX file of any net: PROTOTXT is its deploy file.

    Written is what is asked for: --out, --onnx or both. The ONNX file reads photos prepared as its metadata
    "preparation" says.
    """
    from fullconv.caffe.graph import Graph
    from fullconv.caffe.onnx_file import write_onnx
    from fullconv.caffe.prototxt import read_prototxt, read_text
    from fullconv.caffe.weights import fit_weights
    from fullconv.nets.bundle import save_bundle
    from fullconv.nets.caffe_network import CAFFE_PHOTO, scores_of
    from fullconv.nets.caffe_segmenter import caffe_segmenter, scores_and_classes
    from fullconv.nets.sources import read_preparation

    if out is None and onnx is None:
        raise UsageError(
            "convert writes a bundle, an ONNX file or both", "neither is asked for", "--out FOLDER or --onnx FILE"
        )
    graph = Graph(read_prototxt(prototxt), of=str(prototxt), folder=prototxt.parent)
    prepared = CAFFE_PHOTO if preparation is None else read_preparation(preparation)
    space = None if out is None else _space(scores_and_classes(graph, output)[1], class_names)
    if without := fit_weights(graph, caffemodel):
        click.echo(f"{caffemodel.name} has no weights for {', '.join(without)}: filled as the net says", err=True)
    if onnx is not None:
        said = {"preparation": json.dumps(prepared.to_json())} if preparation or _reads_photos(graph) else {}
        write_onnx(graph, onnx, outputs=[output] if output else None, metadata=said)
        click.echo(f"{onnx} holds the net" + (f"; it reads prepared photos, {prepared.channel_order}" if said else ""))
    if out is not None and space is not None:
        if output is None and len(graph.outputs) > 1:
            click.echo(
                f"scores: '{scores_of(graph)}', of the last output by name; others: {', '.join(graph.outputs[:-1])} "
                "(--output BLOB)",
                err=True,
            )
        text = read_text(prototxt)
        save_bundle(caffe_segmenter(graph, text, label_space=space, preparation=prepared, output=output), out)
        click.echo(f"{out} holds the bundle: fullconv predict {out} PHOTOS --out OUT")


def _reads_photos(graph: Graph) -> bool:
    shapes = [graph.cells[name].shape for name in graph.inputs]
    return len(shapes) == 1 and shapes[0][1:2] == (3,)


def _space(scores: int, class_names: Path | None) -> LabelSpace:
    from fullconv.labels.builtin import VOC_21, VOC_PALETTE
    from fullconv.labels.space import LabelSpace
    from fullconv.nets.sources import read_names

    if class_names is None and scores == VOC_21.size:
        return VOC_21
    names = tuple(f"class {index}" for index in range(scores)) if class_names is None else read_names(class_names)
    if len(names) != len(set(names)):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise UsageError("class names are there once each", f"'{twice}' is there twice", "rename one in --class-names")
    colours = tuple(VOC_PALETTE[index % len(VOC_PALETTE)] for index in range(len(names)))
    return LabelSpace(
        names, colours, tuple((index,) for index in range(len(names))), (255,) if len(names) <= 255 else ()
    )


@command.command("fetch")
@click.argument("name", required=False)
@click.option("--out", type=FILE, default=None, help="Where to write it.  [default: NAME.caffemodel]")
@click.option("--sha256", default=None, metavar="HEX", help="What its sum must be; no published one is known.")
def fetch(name: str | None, out: Path | None, sha256: str | None) -> None:
    """Download the FCN authors' trained weights NAME; without NAME, list those that there are.

    The file is read and compared with the layers of its net before it gets its name. Stopped or cut off, the same
    command goes on where it was.
    """
    from fullconv.base.progress import progress
    from fullconv.caffe.published import PUBLISHED, download, keep, part_of, proved

    if name is None:
        for known, weights in PUBLISHED.items():
            megabytes = 4 * weights.parameters / 1e6
            click.echo(f"{known:<22}  {weights.parameters:>11,} parameters, {megabytes:>5,.0f} MB  {weights.address}")
        return
    if name not in PUBLISHED:
        raise UsageError("NAME is one of the published weights", repr(name), f"one of {', '.join(PUBLISHED)}")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageError("a sha256 has 64 hexadecimal digits", repr(sha256), "sha256sum FILE, where the file is right")
    weights, path = PUBLISHED[name], out or Path(f"{name}.caffemodel")
    if path.is_file():
        found = proved(path, weights, sha256=sha256)
        click.echo(f"{path} is there already")
    else:
        try:
            parts = download(weights.address, path)
            for _ in progress(parts, what=f"{name}, MB", of=lambda part: part.chunks):
                pass
        except KeyboardInterrupt:
            click.echo(f"\n{part_of(path)} is kept: the same command goes on", err=True)
            raise
        found = keep(path, weights, sha256=sha256)
    said = "as asked for" if sha256 else "no published one is known to compare it with; --sha256 HEX compares"
    click.echo(f"{path}: {weights.parameters:,} parameters, all layers of {name}")
    click.echo(f"sha256 {found} ({said})")
    click.echo(f"next: fullconv caffe convert deploy.prototxt {path} --out BUNDLE")
