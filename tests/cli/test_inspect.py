"""`fullconv inspect` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fullconv.base.errors import SurgeryError, UsageError
from fullconv.cli.inspect import command, grid_in_words, inspect, once
from fullconv.nets.classifiers import build_classifier

TINY = ("timm:test_resnet", "--weights", "none")
ATTENTION = ("timm:test_vit", "--weights", "none")
VGG = ("tests.small_nets:vgg",)


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


def document(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*words, "--json").stdout)
    return found


def test_the_table_holds_every_layer_and_fits_a_hundred_columns() -> None:
    out = run(*VGG).stdout
    layers = document(*VGG)["layers"]
    table = out.split("\n\n")[1].splitlines()
    names = [line.split()[0] for line in table[3:]]
    assert names == [layer["name"] for layer in layers]
    assert all(len(line) <= 100 for line in table)


def test_the_seed_case() -> None:
    """384 pixels through VGG's shape: 12x12 cells before the head, 6x6 scores; 384 to 415 pixels give as many."""
    out = run(*VGG, "--size", 384).stdout
    assert "made fully convolutional" in out.splitlines()[0]
    row = next(line.split() for line in out.splitlines() if line.startswith("14 "))
    assert row[:6] == ["14", "pooling", "6x12x12", "32", "15.5", "94"]
    assert "a photo of 384x384 gives 6x6 cells\n384 to 415 pixels give 6 cells\n" in out
    assert "each cell scores a window of 224x224; stride 32, offset 111.5" in out


def test_numbers_carry_separators_and_add_up() -> None:
    found = document(*VGG)
    totals = found["totals"]
    for key, value in totals.items():
        assert value == sum(layer[key] for layer in found["layers"])
    total = next(line.split() for line in run(*VGG).stdout.splitlines() if line.startswith("total"))
    assert total[1:] == [
        f"{totals['parameters']:,}",
        f"{totals['multiply_adds'] / 1e6:,.1f}",
        f"{totals['bytes'] / 1000:,.0f}",
    ]
    assert "," in total[3]


def test_the_document_says_where_the_grid_lies() -> None:
    found = document(*VGG, "--size", "384x300", "--grid", "2x3")
    assert found["schema"] == "fullconv.inspection/1"
    assert (found["size"], found["window"], found["layers_of"]) == ([384, 300], [224, 224], "converted")
    grid = found["grid"]
    assert (grid["stride"], grid["offset"], grid["size"]) == ([32, 32], ["223/2", "223/2"], [6, 3])
    assert grid["sizes"] == {"rows": [384, 415], "columns": [288, 319]}
    assert found["asked"] == {"grid": [2, 3], "rows": [256, 287], "columns": [288, 319]}
    field = grid["receptive_field"][0]
    assert grid["halo"][0] % 32 == 0
    assert grid["halo"][0] - 32 < (field - 1) / 2 <= grid["halo"][0]
    assert found["not_convertible"] is None


def test_what_a_grid_asks_for_in_words() -> None:
    out = run(*VGG, "--grid", "2x3").stdout
    assert out.endswith("256 to 287 rows give 2 rows of cells; 288 to 319 columns give 3 columns of cells\n")


def test_a_photo_smaller_than_the_window_gives_no_cell() -> None:
    out = run(*TINY, "--size", 96).stdout
    assert "a photo of 96x96 is too small: it gives no cell" in out
    assert document(*TINY, "--size", 96)["grid"]["size"] is None


def test_a_padded_network_gives_a_cell_a_little_below_its_window() -> None:
    found = document("tests.small_nets:residual", "--size", 200)
    assert found["grid"]["size"] == [1, 1]
    assert found["grid"]["sizes"]["rows"] == [193, 224]
    assert found["layers_of"] == "converted"


def test_no_halo_is_enough_where_the_whole_photo_is_seen() -> None:
    """Squeeze-and-excitation pools the whole map inside the body."""
    found = inspect(build_classifier("timm:test_efficientnet", weights="none"), (160, 160))
    assert found.grid is not None
    assert found.grid["receptive_field"] is None
    assert found.grid["halo"] is None
    words = grid_in_words(found)
    assert words[0].endswith("receptive field whole photo")
    assert words[-1].startswith("no tile equals the whole: the receptive field is unbounded")


def test_what_cannot_be_converted_is_still_shown() -> None:
    out = run(*ATTENTION).stdout
    assert "cannot be made fully convolutional: 'blocks.0.attn" in out
    assert "patch_embed.proj" in out
    assert document(*ATTENTION)["grid"] is None
    with pytest.raises(SurgeryError, match="attention"):
        run(*ATTENTION, "--grid", 3)


def test_pictures_of_a_photo(tmp_path: Path) -> None:
    photo = tmp_path / "grey.png"
    Image.new("L", (80, 50), 90).save(photo)
    done = run(*TINY, "--pictures", tmp_path / "out", "--photo", photo, "--json")
    assert json.loads(done.stdout)["schema"] == "fullconv.inspection/1"
    levels = json.loads((tmp_path / "out" / "levels.json").read_text())
    assert levels["schema"] == "fullconv.levels/1"
    assert levels["photo"] == str(photo)
    drawn = {"geometry.png", "invariance.png", *(level["picture"] for level in levels["levels"])}
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")} == drawn
    for name in drawn:
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 300
    assert [set(level["change"]) for level in levels["levels"]] == [{"shift", "scale", "rotation"}] * len(
        drawn - {"geometry.png", "invariance.png"}
    )


def test_pictures_need_no_photo(tmp_path: Path) -> None:
    done = run(*ATTENTION, "--pictures", tmp_path)
    assert "written: " in done.stdout
    assert json.loads((tmp_path / "levels.json").read_text())["photo"] is None


def test_shallow_levels_change_sooner_than_deep_ones(tmp_path: Path) -> None:
    """Claim 2 of the article, with trained weights: a small shift is a change for shallow features, hardly for deep."""
    run("embedded:efficientnet_lite0", "--size", 128, "--pictures", tmp_path)
    levels = json.loads((tmp_path / "levels.json").read_text())["levels"]
    shallow, deep = (dict(levels[i]["change"]["shift"]) for i in (1, -1))
    assert levels[-1]["geometry"]["stride"] == [32, 32]
    assert shallow[8] > 2 * deep[8] > 0


def test_a_photo_without_pictures_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="--pictures DIR"):
        run(*TINY, "--photo", "cat.jpg")


@pytest.mark.parametrize(
    ("pair", "text"),
    [([32, 32], "32"), ([32, 16], "32x16"), (["31/2", "31/2"], "15.5"), (["1/3", 2], "1/3x2"), (None, "whole photo")],
)
def test_what_both_axes_share_is_written_once(pair: list[int | str] | None, text: str) -> None:
    assert once(pair) == text
