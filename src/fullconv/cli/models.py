"""What commands with a MODEL share: its options, and sizes as people type them. Road: cli."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fullconv.base.errors import UsageError

if TYPE_CHECKING:
    from fullconv.nets.classifiers import Classifier

MODEL = "embedded:efficientnet_lite0"
"""The classifier where none is named: its ImageNet weights come as a package."""

Command = TypeVar("Command", bound=Callable[..., Any])


def model_options(command: Command) -> Command:
    """The decorator that adds --weights, --class-names and --preparation, as `chosen_classifier` takes them."""
    file = click.Path(path_type=Path)
    options = (
        click.option(
            "--weights",
            metavar="embedded|hub|FILE|none",
            help="Weights of a network by name: from its package, downloaded, a .safetensors or .pth file, or random.",
        ),
        click.option(
            "--class-names", metavar="FILE", type=file, help="One name a line or a JSON list, in the scores' order."
        ),
        click.option(
            "--preparation", metavar="FILE", type=file, help="JSON with channel_order, mean and scale, for 0 to 255."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def precision_option(command: Command) -> Command:
    """The decorator that adds --precision."""
    return click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="bf16 is faster on processors made for it, and rounds scores to 8 bits.",
    )(command)


@contextmanager
def prints_aside(as_json: bool) -> Iterator[None]:
    """While a person's own code may print, and --json promises one document: what is printed goes to stderr."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


def chosen_classifier(
    model: str,
    *,
    weights: str | None,
    class_names: Path | None,
    preparation: Path | None,
    window: tuple[int, int] | None = None,
    random_is_enough: bool = False,
) -> Classifier:
    """The classifier that MODEL and its options name.

    Args:
        weights: None takes those that come as a package where there are some, else random ones if
            `random_is_enough`, else the hub's. ONNX files and a person's own class carry theirs.
    Raises: see `read_classifier`.
    """
    from fullconv.nets.sources import read_classifier

    return read_classifier(
        model,
        weights=weights or usual_weights(model, random_is_enough=random_is_enough),
        class_names=class_names,
        preparation=preparation,
        window=window,
    )


def usual_weights(model: str, *, random_is_enough: bool) -> str:
    """The word for --weights where nobody gives one."""
    from fullconv.nets.classifiers import has_embedded, resolved
    from fullconv.nets.sources import is_foreign

    if is_foreign(model) or has_embedded(":".join(resolved(model))):
        return "embedded"
    return "none" if random_is_enough else "hub"


def parse_size(text: str) -> tuple[int, int]:
    """(rows, columns).

    Raises: UsageError unless it is one whole number from 1, or two with an x between.

    >>> parse_size("227"), parse_size("375x500")
    ((227, 227), (375, 500))
    """
    found = re.fullmatch(r"0*([1-9]\d{0,5})(?:[xX×]0*([1-9]\d{0,5}))?", text.strip())
    if found is None:
        raise UsageError("a size is rows x columns in pixels, or one number for both", repr(text), "227 or 375x500")
    return int(found[1]), int(found[2] or found[1])


class SizeType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A size as `parse_size` reads it."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(rows, columns); a default may be that already."""
        return value if isinstance(value, tuple) else parse_size(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """How the help calls it; older versions of click give no context."""
        return "HxW|N"


SIZE = SizeType()
