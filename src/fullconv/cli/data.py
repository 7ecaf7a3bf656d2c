"""`fullconv data`: what was read, and why; the same in another format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fullconv.data.samples import SampleSet

Option = Callable[[Callable[..., Any]], Callable[..., Any]]
LABEL_OPTIONS: tuple[Option, ...] = (
    click.option("--classes", metavar="A,B,...", help="Only these classes, in this order."),
    click.option(
        "--others",
        type=click.Choice(["void", "background"]),
        default="void",
        show_default=True,
        help="What the other classes become.",
    ),
    click.option("--void", metavar="ID", help="The id or colour (R,G,B) in the label maps that is void, or none."),
    click.option(
        "--splits",
        type=click.Path(path_type=Path),
        help="A file that says which sample is in which split: JSON, or lines NAME SPLIT.",
    ),
)
SPLIT_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Of the split that is drawn where none is given."
    ),
    click.option("--skip-bad", is_flag=True, help="Skip and list samples that would otherwise stop the reading."),
)


def label_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that say how label maps and splits are read: the same for every command that trains or measures."""
    return with_options(*LABEL_OPTIONS, *SPLIT_OPTIONS)(function)


def with_options(*options: Option) -> Option:
    """Add flags to a command, in their order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def split_names(text: str | None) -> tuple[str, ...] | None:
    """`cat, dog` as --classes has it."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text is not None else None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """What was read from a folder of samples, and why; the same in another format."""


@command.command()
@click.argument("data", type=click.Path(path_type=Path))
@label_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document (that of samples.json) and nothing else."
)
def show(
    data: Path,
    classes: str | None,
    others: str,
    void: str | None,
    splits: Path | None,
    seed: int,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Print what fullconv reads in DATA: layout, pairs, classes, splits, what was left out; each with the reason.

    Nothing is trained, nothing is written.
    """
    from fullconv.data.read import read_samples

    samples = read_samples(
        data,
        classes=split_names(classes),
        others=others,
        void=void,
        splits=splits,
        seed=seed,
        skip_bad=skip_bad,
    )
    if as_json:
        import json

        click.echo(json.dumps(samples.to_json(), indent=2, ensure_ascii=False))
    else:
        click.echo(describe(samples))


@command.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["voc", "coco", "labelme", "cvat", "paired"]),
    required=True,
    help="The format to write.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@label_options
def convert(
    data: Path,
    to: str,
    out: Path,
    classes: str | None,
    others: str,
    void: str | None,
    splits: Path | None,
    seed: int,
    skip_bad: bool,
) -> None:
    """Write the samples of DATA in another format, every pixel as it is; DATA is only read.

    COCO, labelme and CVAT get one mask for each connected region of a class, as polygons would lose pixels.
    """
    from fullconv.data.convert import convert_samples
    from fullconv.data.read import read_samples

    samples = read_samples(
        data, classes=split_names(classes), others=others, void=void, splits=splits, seed=seed, skip_bad=skip_bad
    )
    for note in samples.notes:
        click.echo(note)
    number = convert_samples(samples, to, out)
    click.echo(f"{number} samples written as {to} to {out}")


def describe(samples: SampleSet) -> str:
    """What was read, as text for a terminal: notes, classes, the first samples left out."""
    from fullconv.data.samples import class_table
    from fullconv.labels.space import say_value

    space = samples.label_space
    lines = [*samples.notes, "", f"{'id':>5}  {'class':<20} {'in files':<16} {'label maps':>10} {'pixels':>8}"]
    values = (*space.file_values, space.void_values)
    for row, in_files in zip(class_table(samples), values, strict=True):
        said = _short(", ".join(map(say_value, in_files)), 16)
        lines.append(
            f"{row['id']:>5}  {_short(row['name'], 20):<20} {said:<16} {row['images']:>10} {row['share']:>8.2%}"
        )
    for item in samples.skipped[:20]:
        lines.append(("\nleft out:\n" if item is samples.skipped[0] else "") + f"  {item.name}: {item.why}")
    if len(samples.skipped) > 20:
        lines.append(f"  and {len(samples.skipped) - 20} more: --json lists all")
    return "\n".join(lines)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
