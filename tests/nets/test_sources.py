"""A classifier from whatever a person names, and what is said where that cannot be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from fullconv.base.errors import CaffeError, FullconvError, NetError, UsageError, WeightsError
from fullconv.nets.classifiers import unwrapped
from fullconv.nets.sources import IMAGENET, Code, is_foreign, parsed, read_classifier

MODULE = """
from torch import nn

SETTING = 3


class Net(nn.Module):
    def __init__(self, classes=3, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.layers(x))


class Body(Net):
    def forward(self, x):
        return self.layers[0](x)


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * 16 * 16, 2)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Listed(Net):
    def forward(self, x):
        return [super().forward(x)]


class Late(Net):
    def __init__(self):
        from own_nets import helper

        super().__init__(helper.CLASSES)


class Leaving(Net):
    def __init__(self):
        raise SystemExit(3)


class Stray(Net):
    def __init__(self):
        super().__init__()
        self.fc.bias.data[1] = float("nan")


class Refusing(Net):
    def __init__(self):
        raise RuntimeError("no such layer\\nat all")


def table():
    return {"a": 1}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a package of a person's own: own_nets.small."""
    package = tmp_path / "own_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text(MODULE)
    (package / "helper.py").write_text("CLASSES = 9\n")
    (package / "broken.py").write_text("import nothing_of_this_name\n")
    (package / "wrong.py").write_text("def f(:\n")
    (package / "script.py").write_text("import sys\nsys.exit('usage: script.py FILE')\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_nets"]:
        del sys.modules[name]


def scores(model: str, **options: Any) -> int:
    classifier = read_classifier(model, **options)
    with torch.no_grad():
        return int(classifier.network(torch.zeros(1, 3, *classifier.window)).shape[1])


# ---------------------------------------------------------------------- known names


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "mobilenet_v3_small"])
def test_a_known_name_is_what_build_classifier_makes_of_it(name: str) -> None:
    classifier = read_classifier(name, weights="none")
    assert (classifier.name, classifier.window) == ("torchvision:mobilenet_v3_small", (224, 224))


def test_window_preparation_and_names_of_a_known_network_can_be_given(tmp_path: Path) -> None:
    prepared = {"channel_order": "BGR", "mean": [1, 2, 3], "scale": [1, 1, 2]}
    (tmp_path / "p.json").write_text(json.dumps(prepared))
    (tmp_path / "n.txt").write_text("\n".join(["crane"] * 1000) + "\n\n")
    classifier = read_classifier(
        "embedded:efficientnet_lite0",
        preparation=tmp_path / "p.json",
        class_names=tmp_path / "n.txt",
        window=(192, 256),
    )
    assert classifier.window == (192, 256)
    assert classifier.preparation.to_json() == prepared
    assert classifier.class_names == ("crane",) * 1000


@pytest.mark.parametrize(
    ("name", "offered"),
    [("torchvision:resnet19", "torchvision:resnet18"), ("tim:resnet18", "timm:resnet18"), ("tv:vgg16", "vgg16")],
)
def test_near_names_are_offered(name: str, offered: str) -> None:
    with pytest.raises(UsageError, match="no network is called") as refused:
        read_classifier(name)
    assert offered in refused.value.try_


# ---------------------------------------------------------------------- a person's own class


@pytest.mark.parametrize(
    ("arguments", "count"), [("", 3), ("()", 3), ("(7)", 7), ("(7, 5)", 7), ('({"classes": 5, "width": 2})', 5)]
)
def test_a_class_is_made_from_its_arguments(here: Path, arguments: str, count: int) -> None:
    assert scores(f"own_nets.small:Net{arguments}") == count


def test_a_class_may_import_late_and_the_path_is_as_it_was(here: Path) -> None:
    before = list(sys.path)
    assert scores("own_nets.small:Late") == 9
    assert sys.path == before
    with pytest.raises(FullconvError):
        read_classifier("own_nets.small:Refusing")
    assert sys.path == before


def test_what_is_not_said_of_a_class_is_imagenets_and_224_and_random_from_a_seed(here: Path) -> None:
    one = read_classifier("own_nets.small:Net")
    torch.manual_seed(11)
    two = read_classifier("own_nets.small:Net")
    assert (one.name, one.window, one.preparation) == ("own_nets.small:Net", (224, 224), IMAGENET)
    assert one.weights == "random weights; ImageNet's mean and deviation"
    assert one.class_names is None
    assert not one.network.training
    assert all(torch.equal(a, b) for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("how", ["@", "--weights"])
def test_a_class_takes_weights_from_a_file(here: Path, suffix: str, how: str) -> None:
    state = {
        k: torch.full_like(v, 0.5) for k, v in read_classifier("own_nets.small:Net(4)").network.state_dict().items()
    }
    file = here / f"net{suffix}"
    if suffix == ".pth":
        torch.save(state, file)
    else:
        safetensors.torch.save_file(state, file)
    if how == "@":
        classifier = read_classifier(f"own_nets.small:Net(4)@{file}")
    else:
        classifier = read_classifier("own_nets.small:Net(4)", weights=str(file))
    assert all(torch.equal(v, state[k]) for k, v in classifier.network.state_dict().items())
    assert classifier.weights.startswith(f"weights of net{suffix}")
    with pytest.raises(WeightsError, match="entry by entry"):
        read_classifier(f"own_nets.small:Net(5)@{file}")


def test_weights_that_were_saved_from_data_parallel_fit(here: Path) -> None:
    network = read_classifier("own_nets.small:Net").network
    wrapped = torch.nn.DataParallel(network)
    torch.save({"epoch": 3, "state_dict": wrapped.state_dict()}, here / "ckpt.pth")
    again = read_classifier("own_nets.small:Net(3)@ckpt.pth").network
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert unwrapped(dict(wrapped.state_dict()), wrapped).keys() == wrapped.state_dict().keys()


def test_a_network_that_was_saved_whole_is_named_in_a_line(here: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), here / "whole.pth")
    with pytest.raises(
        WeightsError, match=r"whole\.pth: .*torch\.nn\.modules\.container\.Sequential, whose"
    ) as refused:
        read_classifier("own_nets.small:Net@whole.pth")
    assert len(refused.value.found) < len(str(here)) + 150


def test_the_parts_of_a_class_are_taken_apart() -> None:
    assert parsed('a.b:Net({"x": "(@)"})@w (1).pth') == Code("a.b", "Net", (), {"x": "(@)"}, Path("w (1).pth"))
    assert parsed('a:Net([1], {"x": 2})') == Code("a", "Net", ([1], {"x": 2}), {}, None)


REFUSED = [
    ("own_nets.none:Net", UsageError, "no module is called 'own_nets.none'"),
    ("nothing_of_this_name.at_all:Net", UsageError, "no module is called 'nothing_of_this_name'"),
    ("own_nets.broken:Net", NetError, "No module named 'nothing_of_this_name'"),
    ("own_nets.wrong:Net", NetError, "SyntaxError"),
    ("own_nets.script:Net", NetError, "SystemExit: usage: script.py FILE"),
    ("own_nets.small:Leaving", NetError, r"Leaving\(\): SystemExit: 3"),
    ("own_nets.small:Stray", WeightsError, "'fc.bias' of .* has NaN or infinity 1 times"),
    ("own_nets.small:Nett", UsageError, "try:   own_nets.small:Net"),
    ("own_nets.small:SETTING", UsageError, "has no class 'SETTING'"),
    ("own_nets.small:table", NetError, "makes a builtins.dict"),
    ("own_nets.small:Net(1, 2, 3)", NetError, r"Net\(1, 2, 3\): TypeError"),
    ('own_nets.small:Net({"classe": 3})', NetError, "unexpected keyword argument 'classe'"),
    ("own_nets.small:Refusing", NetError, "RuntimeError: no such layer at all"),
    ("own_nets.small:Net(classes=3)", UsageError, "arguments of a class are JSON"),
    ("own_nets.small:Net@none.pth", WeightsError, "'none.pth' does not exist"),
    ("own_nets.small:Net@own_nets", WeightsError, "none of these"),
    ("own_nets.small:Body", NetError, r"gives a tensor \(2, 4, 111, 111\)"),
    ("own_nets.small:Listed", NetError, "gives a list"),
    ("own_nets.small:Fixed", NetError, "at 224x224: RuntimeError"),
    ("net.prototxt:net.caffemodel", CaffeError, "net.prototxt: No such file"),
    ("none.onnx", UsageError, "none.onnx does not exist"),
    ("own_nets", UsageError, "is a folder"),
    ("own_nets.small:", UsageError, "is none of these"),
]


@pytest.mark.parametrize(("model", "kind", "message"), REFUSED, ids=[model for model, _, _ in REFUSED])
def test_what_cannot_be_read_is_said_in_three_lines(
    here: Path, model: str, kind: type[FullconvError], message: str
) -> None:
    if model.endswith(".onnx"):
        pytest.importorskip("onnx")
    with pytest.raises(kind, match=message) as refused:
        read_classifier(model)
    assert len(str(refused.value).splitlines()) == 3
    assert refused.value.try_


def test_a_window_that_fits_is_enough_for_a_network_of_fixed_size(here: Path) -> None:
    assert read_classifier("own_nets.small:Fixed", window=(16, 16)).window == (16, 16)


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("own_nets.small:Net", "hub", "random weights, or those of a file"),
        ("own_nets.small:Net@a.pth", "none", "random weights, or those of a file"),
        ("own_nets.small:Net@a.pth", "b.pth", "named once"),
        ("net.onnx", "b.pth", "its own weights"),
    ],
)
def test_weights_are_named_once(here: Path, model: str, weights: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_classifier(model, weights=weights)


def test_own_code_and_files_are_foreign_and_names_are_not(here: Path) -> None:
    found = [is_foreign(m) for m in ("own_nets.small:Net", "a/b.onnx", "timm:resnet18", "resnet18", "timm:nothing")]
    assert found == [True, True, False, False, False]


# ---------------------------------------------------------------------- class names and preparation


@pytest.mark.parametrize(
    ("name", "text"), [("n.txt", "cat, tabby\n dog \ncow\n\n"), ("n.json", '["cat, tabby", "dog", "cow"]')]
)
def test_class_names_are_lines_or_a_json_list(here: Path, name: str, text: str) -> None:
    (here / name).write_text(text)
    classifier = read_classifier("own_nets.small:Net", class_names=here / name)
    assert classifier.class_names == ("cat, tabby", "dog", "cow")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.txt", "cat\ndog\n", "n.txt has 2"),
        ("n.txt", "cat\n\ndog\n", "line 2 is empty"),
        ("n.txt", "", "it holds others"),
        ("n.json", '{"0": "cat"}', "it holds others"),
        ("n.json", "[", "Expecting value"),
        ("n.txt", None, "FileNotFoundError"),
    ],
)
def test_class_names_must_be_one_a_score(here: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (here / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_classifier("own_nets.small:Net", class_names=here / name)


ENDLESS = '{"channel_order": "RGB", "mean": [0, 0, NaN], "scale": [1, 1, Infinity]}'


@pytest.mark.parametrize("text", ["[", "[1]", '{"mean": 3}', ENDLESS, ENDLESS.replace("Infinity", "0"), None])
def test_a_preparation_must_be_whole(here: Path, text: str | None) -> None:
    if text is not None:
        (here / "p.json").write_text(text)
    with pytest.raises(UsageError, match=r"preparation.*\nfound: .*p\.json"):
        read_classifier("own_nets.small:Net", preparation=here / "p.json")


# ---------------------------------------------------------------------- ONNX files


def test_an_onnx_file_brings_its_weights_and_its_window(here: Path) -> None:
    from test_onnx_network import export

    network = read_classifier("own_nets.small:Net(4)").network
    path = export(network, here / "net.onnx", 96, dynamo=False)
    (here / "n.txt").write_text("a\nb\nc\nd")
    classifier = read_classifier(str(path), class_names=here / "n.txt")
    assert (classifier.name, classifier.window, classifier.preparation) == ("net.onnx", (96, 96), IMAGENET)
    assert classifier.class_names == ("a", "b", "c", "d")
    assert classifier.weights == "its own, of net.onnx; ImageNet's mean and deviation"
    x = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(x), network(x), rtol=1e-5, atol=1e-5)
    assert read_classifier(str(path), window=(64, 128)).window == (64, 128)


def test_an_onnx_file_that_gives_maps_is_no_classifier(here: Path) -> None:
    from test_onnx_network import export

    path = export(read_classifier("own_nets.small:Net").network.layers[:2], here / "net.onnx", 96, dynamo=False)  # type: ignore[index]
    with pytest.raises(NetError, match=r"gives a tensor \(2, 4, 47, 47\)"):
        read_classifier(str(path))
