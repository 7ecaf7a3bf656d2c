"""The options that commands with a MODEL share: which weights are taken where none are named, and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fullconv.base.errors import UsageError
from fullconv.cli.models import SIZE, chosen_classifier, model_options, parse_size, usual_weights


@pytest.mark.parametrize(
    ("model", "random", "word"),
    [
        ("embedded:efficientnet_lite0", False, "embedded"),
        ("tf_efficientnet_lite0", True, "embedded"),
        ("timm:tf_efficientnet_lite0", False, "embedded"),
        ("torchvision:resnet18", False, "hub"),
        ("torchvision:resnet18", True, "none"),
        ("net.onnx", False, "embedded"),
        ("torchvision.models.resnet:resnet18", False, "embedded"),
    ],
)
def test_weights_where_none_are_named(model: str, random: bool, word: str) -> None:
    assert usual_weights(model, random_is_enough=random) == word


def test_a_classifier_is_had_without_weights_where_random_ones_are_enough() -> None:
    options: dict[str, Any] = {"class_names": None, "preparation": None}
    classifier = chosen_classifier("torchvision:squeezenet1_1", weights=None, **options, random_is_enough=True)
    assert classifier.weights == "random weights"
    with pytest.raises(UsageError, match="no network is called"):
        chosen_classifier("torchvision:nothing", weights=None, **options)


@pytest.mark.parametrize(
    ("text", "size"), [("227", (227, 227)), ("375x500", (375, 500)), (" 5X0007 ", (5, 7)), ("5×7", (5, 7))]
)
def test_a_size_is_rows_by_columns_or_one_number(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "0", "0x5", "-3", "5x", "5x6x7", "5.5", "5 6", "1e3", "9999999", "٣"])
def test_what_is_no_size_is_refused_in_three_lines(text: str) -> None:
    with pytest.raises(UsageError, match="rows x columns") as refused:
        parse_size(text)
    assert len(str(refused.value).splitlines()) == 3


def test_the_options_reach_the_command_in_the_order_of_the_help() -> None:
    got: dict[str, Any] = {}

    @click.command()
    @model_options
    @click.option("--size", type=SIZE, default=(224, 224))
    def command(**options: Any) -> None:
        got.update(options)

    words = ["--weights", "none", "--class-names", "n.txt", "--preparation", "p.json", "--size", "10x20"]
    assert CliRunner().invoke(command, words).exit_code == 0
    assert got == {
        "weights": "none",
        "class_names": Path("n.txt"),
        "preparation": Path("p.json"),
        "size": (10, 20),
    }
    text = CliRunner().invoke(command, ["--help"]).output
    places = [text.index(word) for word in ("--weights", "--class-names", "--preparation", "--size HxW|N")]
    assert places == sorted(places)
    assert CliRunner().invoke(command, []).exit_code == 0
    assert got["size"] == (224, 224)


def test_a_wrong_size_in_a_command_is_the_same_error() -> None:
    @click.command()
    @click.option("--size", type=SIZE)
    def command(size: tuple[int, int]) -> None: ...

    found = CliRunner().invoke(command, ["--size", "big"])
    assert isinstance(found.exception, UsageError)
