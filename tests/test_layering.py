"""Imports go one way, in the order of the road; what must stay light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fullconv.data.scenes import write_scenes

PACKAGE = Path(__file__).parents[1] / "src" / "fullconv"

# a module imports only from folders above its own.
ORDER = (
    "base",
    "labels",
    "geometry",
    "data",
    "caffe",
    "nets",
    "dense",
    "train",
    "measure",
    "predict",
    "refine",
    "export",
    "study",
    "report",
    "road",
    "study_answers",
    "study_road",
    "cli",
)
STRANGERS = ("train", "measure", "predict")  # tied together by road alone
READERS = ("schema", "message", "prototxt", "wire", "blobs", "hdf5", "upgrade", "rules")  # of Caffe's files
FREE_OF_TORCH = ("base", "labels", "geometry", "data/formats", *(f"caffe/{name}.py" for name in READERS))
TORCH = ("torch", "torchvision", "timm")


def imports_of(source: str, module: str) -> Iterator[str]:
    """Every module that the source imports, at its top or inside functions, by full name."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            base = (start + (node.module or "")).rstrip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def station(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "fullconv" and len(parts) > 1 and parts[1] in ORDER else None


def wrong_edges(module: str, source: str) -> list[str]:
    """The imports of one module that go against the order, as sentences."""
    own = station(module)
    if own is None:  # fullconv/__init__.py gathers the public names
        return []
    return sorted(
        {
            f"{module} imports {other}: {own} must not know {station(other)}"
            for other in imports_of(source, module)
            if (target := station(other)) and target != own and not allowed(own, target)
        }
    )


def allowed(own: str, target: str) -> bool:
    if own in STRANGERS and target in STRANGERS:
        return False
    return ORDER.index(target) < ORDER.index(own)


def heavy_imports(module: str, source: str) -> list[str]:
    return sorted({other.split(".")[0] for other in imports_of(source, module)} & set(TORCH))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts)


def modules(*folders: str) -> list[Path]:
    """The modules of folders; a file stands for itself."""
    places = [PACKAGE / folder for folder in folders or (".",)]
    return sorted(path for place in places for path in ([place] if place.suffix else place.rglob("*.py")))


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_a_module_imports_only_from_stations_before_its_own(path: Path) -> None:
    assert wrong_edges(module_name(path), path.read_text()) == []


@pytest.mark.parametrize("path", modules(*FREE_OF_TORCH), ids=module_name)
def test_what_is_pure_stays_free_of_torch(path: Path) -> None:
    assert heavy_imports(module_name(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "edge"),
    [
        ("fullconv.data.x", "from fullconv.train.recipe import Recipe", "data must not know train"),
        ("fullconv.train.x", "from fullconv.measure import scores", "train must not know measure"),
        ("fullconv.predict.x", "def f():\n    import fullconv.train.loop", "predict must not know train"),
        ("fullconv.measure.x", "from fullconv import predict", "measure must not know predict"),
        ("fullconv.nets.x", "from ..dense import ways", "nets must not know dense"),
        ("fullconv.labels.x", "from fullconv.road import run", "labels must not know road"),
    ],
)
def test_a_wrong_edge_is_named(module: str, source: str, edge: str) -> None:
    (sentence,) = {wrong.split(": ")[1] for wrong in wrong_edges(module, source)}
    assert sentence == edge
    assert module in wrong_edges(module, source)[0]


def test_a_right_edge_is_not_named() -> None:
    assert wrong_edges("fullconv.train.x", "from fullconv.nets import heads\nfrom . import losses\nimport numpy") == []


def test_torch_is_found_where_it_is_imported() -> None:
    assert heavy_imports("fullconv.data.formats.x", "def f():\n    from torch.nn import Conv2d") == ["torch"]


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders <= set(ORDER)


HEAVY = ("torch", "torchvision", "timm", "matplotlib", "sklearn")


def loaded_by(statement: str) -> set[str]:
    """Which heavy libraries a fresh interpreter has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    path = {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


LIGHT = (
    *("fullconv", "fullconv.cli", "fullconv.data.formats", "fullconv.caffe"),
    *(f"fullconv.caffe.{name}" for name in READERS),
)


@pytest.mark.parametrize("statement", [f"import {module}" for module in LIGHT])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == set()


def test_a_study_without_networks_loads_nothing_heavy(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", train=3, val=1, size=(64, 96))
    words = ["study", str(scenes), "--json", "--out", str(tmp_path / "study")]
    quietly = "import contextlib, io\nfrom fullconv.cli import main\nwith contextlib.redirect_stdout(io.StringIO()):"
    assert loaded_by(f"{quietly}\n  try: main({words!r})\n  except SystemExit as ended: assert not ended.code") == set()
    assert (tmp_path / "study" / "study.json").exists()


def test_a_name_that_needs_torch_loads_it() -> None:
    assert "torch" in loaded_by("import fullconv; fullconv.fcn8s")
