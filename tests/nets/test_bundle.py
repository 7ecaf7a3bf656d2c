"""Bundles: saved and loaded they score the same; whatever is wrong with one is said."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from fullconv.base.errors import BundleError
from fullconv.nets.bundle import CARD, PROGRAM, SCHEMA, WEIGHTS, load, save_bundle
from fullconv.nets.classifiers import build_classifier
from fullconv.nets.heads import fcn8s
from fullconv.nets.program import write_program
from fullconv.nets.segmentation import HEADS, SegmentationNet
from fullconv.nets.surgery import convolutionalize
from small_nets import PREPARATION, SPACE, converted

SIZES = [(1, 1), (31, 33), (97, 40)]
BACKBONES = ["timm:test_resnet", "timm:test_efficientnet"]


def trained(head: str, name: str = "timm:test_resnet") -> SegmentationNet:
    """A head on a named backbone, its weights moved as training would."""
    classifier = build_classifier(name, classes=5, weights="none")
    build = getattr(importlib.import_module(HEADS[head]), head)
    net: SegmentationNet = build(
        convolutionalize(classifier.network, classifier.window),
        label_space=SPACE,
        preparation=PREPARATION,
        backbone={"name": name, "classes": 5},
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        net.train()
        net(torch.randn(2, 3, 64, 64, generator=generator))  # moves the running means of normalisation
    return net.eval()


def scores(net: nn.Module, size: tuple[int, int]) -> Tensor:
    with torch.no_grad():
        found: Tensor = net(torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2)))
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(trained("fcn8s"), tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def change_card(folder: Path, **entries: object) -> None:
    card = json.loads((folder / CARD).read_text()) | entries
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
def test_a_loaded_bundle_scores_exactly_as_the_net_that_was_saved(head: str, name: str, tmp_path: Path) -> None:
    net = trained(head, name)
    save_bundle(net, tmp_path)
    bundle = load(tmp_path)
    assert not bundle.net.training
    for size in SIZES:
        assert torch.equal(scores(bundle.net, size), scores(net, size))
    assert scores(net, SIZES[-1]).std() > 0
    assert bundle.label_space == SPACE
    assert bundle.preparation == PREPARATION


def test_the_card_describes_the_bundle(tmp_path: Path) -> None:
    save_bundle(trained("fcn8s"), tmp_path / "new" / "folder", recipe={"name": "paper"}, scores={"mean_iou": 0.5})
    card = load(tmp_path / "new" / "folder").card
    assert list(card)[:10] == [
        "schema", "label_space", "preparation", "architecture", "geometry", "recipe", "scores", "samples", "versions",
        "created",
    ]  # fmt: skip
    assert card["schema"] == SCHEMA == "fullconv.bundle/1"
    assert card["architecture"]["head"] == "fcn8s"
    assert card["recipe"] == {"name": "paper"}
    assert card["scores"] == {"mean_iou": 0.5}
    assert [tap["stride"] for tap in card["geometry"]["taps"]] == [8, 16, 32]
    assert "torch" in card["versions"]
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [CARD, WEIGHTS]


def test_a_bundle_predicts_by_itself(saved: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (37, 52, 3), np.uint8)
    prediction = load(saved).predict(photo)
    assert prediction.labels.shape == (37, 52)
    assert prediction.labels.dtype == np.uint8
    assert prediction.scores.shape == (3, 37, 52)
    assert prediction.label_space == SPACE


def test_saving_again_replaces_the_bundle(copied: Path) -> None:
    save_bundle(trained("fcn32s"), copied)
    assert load(copied).card["architecture"]["head"] == "fcn32s"


def test_saving_leaves_the_net_as_it_was(tmp_path: Path) -> None:
    net = trained("fcn8s").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_bundle(net, tmp_path)
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


# ---------------------------------------------------------------- what can be wrong


def refused(folder: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        load(folder)
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == ["error:", "found:", "try:"]
    return caught.value


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "is not there" in refused(tmp_path / "nowhere").found


def test_a_folder_without_a_card(tmp_path: Path) -> None:
    assert "has no card.json" in refused(tmp_path).found


def test_a_run_folder_is_told_where_its_bundle_lies(copied: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "bundle").mkdir(parents=True)
    (run / "bundle" / CARD).write_bytes((copied / CARD).read_bytes())
    assert str(run / "bundle") in refused(run).try_


def test_a_card_that_is_cut_off(copied: Path) -> None:
    (copied / CARD).write_bytes((copied / CARD).read_bytes()[:100])
    assert CARD in refused(copied).found


def test_a_card_of_another_schema(copied: Path) -> None:
    change_card(copied, schema="fullconv.bundle/99", versions={"fullconv": "9.9"})
    error = refused(copied)
    assert "fullconv.bundle/99" in error.found
    assert "9.9" in error.found


def test_a_converted_classifier_is_told_from_a_bundle(copied: Path) -> None:
    card = json.loads((copied / "card.json").read_text()) | {"schema": "fullconv.converted/1", "model": "timm:some"}
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(BundleError, match=r"converted classifier \(timm:some\)[^\n]*\n.*fc\.load_converted"):
        load(copied)


def test_a_card_without_a_label_space(copied: Path) -> None:
    card = json.loads((copied / CARD).read_text())
    del card["label_space"]
    (copied / CARD).write_text(json.dumps(card))
    assert "label_space" in refused(copied).found


def test_missing_weights(copied: Path) -> None:
    (copied / WEIGHTS).unlink()
    assert WEIGHTS in refused(copied).found


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_weights_that_are_cut_off(copied: Path, share: float) -> None:
    whole = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes(whole[: int(share * len(whole))])
    assert "cannot be read" in refused(copied).found


def test_weights_of_another_shape(copied: Path) -> None:
    weights = safetensors.torch.load_file(copied / WEIGHTS)
    weights["network.scores.stride32.bias"] = torch.zeros(9)
    safetensors.torch.save_file(weights, copied / WEIGHTS)
    assert "network.scores.stride32.bias is (9,), its place (3,)" in refused(copied).found


def test_weights_that_lack_one_and_have_another(copied: Path) -> None:
    weights = safetensors.torch.load_file(copied / WEIGHTS)
    weights["strange"] = weights.pop("network.scores.stride32.bias")
    safetensors.torch.save_file(weights, copied / WEIGHTS)
    error = refused(copied)
    assert "network.scores.stride32.bias is not there" in error.found
    assert "strange has no place" in error.found


def test_weights_of_another_training_under_this_card(copied: Path) -> None:
    weights = safetensors.torch.load_file(copied / WEIGHTS)
    weights["network.scores.stride32.bias"] += 1
    safetensors.torch.save_file(weights, copied / WEIGHTS)
    assert "sha256" in refused(copied).found


# ---------------------------------------------------------------- a user's own network


def own(head: str = "fcn8s", kind: str = "residual") -> SegmentationNet:
    torch.manual_seed(4)
    build = getattr(importlib.import_module(HEADS[head]), head)
    net: SegmentationNet = build(converted(kind), label_space=SPACE, preparation=PREPARATION)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return net.eval()


@pytest.mark.parametrize(
    ("head", "kind"),
    [("fcn8s", "residual"), ("fcn32s", "tf_same"), ("fcn4s", "patches"), ("sharp", "vgg"), ("sharp", "tf_same")],
)
def test_a_users_own_network_loads_without_its_code(head: str, kind: str, tmp_path: Path) -> None:
    net = own(head, kind)
    save_bundle(net, tmp_path)
    bundle = load(tmp_path)
    assert bundle.card["architecture"]["backbone"] is None
    for size in [*SIZES, (64, 64), (200, 170)]:
        torch.testing.assert_close(scores(bundle.net, size), scores(net, size), atol=1e-4, rtol=1e-4)
    assert scores(net, (64, 64)).std() > 0
    bundle.net.train().eval()  # a program has one mode; asking for another does no harm


def test_a_users_own_network_with_the_papers_alignment_is_told_what_to_do(tmp_path: Path) -> None:
    net = fcn8s(converted("residual"), label_space=SPACE, preparation=PREPARATION, alignment="paper")
    with pytest.raises(BundleError, match="alignment 'paper'"):
        save_bundle(net, tmp_path)


def test_a_program_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    save_bundle(own(), tmp_path)
    with zipfile.ZipFile(tmp_path / PROGRAM) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in parts if name.endswith("weights_config.json"))
    parts[name] = parts[name].replace(b'"use_pickle": false', b'"use_pickle": true', 1)
    with zipfile.ZipFile(tmp_path / PROGRAM, "w") as archive:
        for part, data in parts.items():
            archive.writestr(part, data)
    assert "pickle" in refused(tmp_path).must


def test_a_program_that_is_cut_off_or_missing(tmp_path: Path) -> None:
    save_bundle(own(), tmp_path)
    whole = (tmp_path / PROGRAM).read_bytes()
    (tmp_path / PROGRAM).write_bytes(whole[: len(whole) // 2])
    assert PROGRAM in refused(tmp_path).found
    (tmp_path / PROGRAM).unlink()
    assert PROGRAM in refused(tmp_path).found


def test_a_network_that_no_builder_knows_is_an_error_and_leaves_no_bundle(tmp_path: Path) -> None:
    net = SegmentationNet(nn.Conv2d(3, 3, 1), label_space=SPACE, preparation=PREPARATION)
    with pytest.raises(BundleError, match="Conv2d"):
        save_bundle(net, tmp_path)
    assert not list(tmp_path.iterdir())


def by_value(x: Tensor) -> Tensor:
    return x if float(x.sum()) > 0 else -x


def test_steps_that_cannot_be_written_are_an_error_that_names_the_reason() -> None:
    graph = torch.fx.Graph()
    graph.output((graph.call_function(by_value, (graph.placeholder("x"),)),))
    with pytest.raises(BundleError, match=r"torch\.export can write"):
        write_program(torch.fx.GraphModule(nn.Module(), graph), stride=32, remainders=(0, 0))
