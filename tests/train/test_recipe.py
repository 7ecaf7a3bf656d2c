"""Recipes: the paper's figures, rates between summed and mean loss, schedules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fullconv.base.errors import UsageError
from fullconv.train.losses import LOSSES, softmax_loss
from fullconv.train.optimiser import build_optimiser, rate_factor, set_rate
from fullconv.train.recipe import RECIPES, for_stage, recipe, with_reduction


def test_the_paper_recipe_is_that_of_the_authors_solvers() -> None:
    rates = [for_stage(recipe("paper"), stage).rate for stage in ("32s", "16s", "8s")]
    assert rates == pytest.approx([1e-10, 1e-12, 1e-14])
    assert (recipe("paper").momentum, recipe("paper").weight_decay, recipe("paper").batch) == (0.99, 5e-4, 1)
    assert recipe("paper-accumulated").accumulate == 20


def test_biases_learn_at_twice_the_rate_without_decay() -> None:
    optimiser = build_optimiser(nn.Conv2d(3, 4, 3), recipe("paper"), pretrained=frozenset())
    weight, bias = sorted(optimiser.param_groups, key=lambda group: -group["weight_decay"])
    assert bias["lr"] == 2 * weight["lr"]
    assert (weight["weight_decay"], bias["weight_decay"]) == (5e-4, 0.0)


def test_pretrained_layers_learn_at_a_smaller_rate() -> None:
    optimiser = build_optimiser(nn.Linear(2, 2, bias=False), recipe("modern"), pretrained=frozenset({"weight"}))
    assert optimiser.param_groups[0]["lr"] == recipe("modern").rate * recipe("modern").pretrained_rate


def test_muon_makes_all_directions_of_a_matrix_alike_and_adamw_steps_the_rest() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(24, 24, 1), nn.Conv2d(24, 24, 3, groups=24), nn.Conv2d(24, 5, 1))
    how = replace(recipe("modern"), rate=1e-2, matrix_rate=2.0, weight_decay=0.0)
    optimiser = build_optimiser(net, how, pretrained=frozenset())
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    (net(torch.randn(2, 24, 9, 9)).square().mean()).backward()
    optimiser.step()
    moved = {name: before[name] - parameter.detach() for name, parameter in net.named_parameters()}
    of_gradient = torch.linalg.svdvals(net[0].weight.grad[:, :, 0, 0])
    strength = torch.linalg.svdvals(moved.pop("0.weight")[:, :, 0, 0]) / (2e-2 * 0.2 * 24**0.5)
    assert of_gradient[0] > 7 * of_gradient[11]
    assert strength[0] < 2 * strength[11]
    assert of_gradient[0] > 40 * of_gradient[-5]
    assert strength[0] < 10 * strength[-5]
    assert 1.0 < strength[0] < 2.0  # the scale of AdamW's step
    for step in moved.values():  # the first step of AdamW is the rate, whatever the gradient
        assert torch.allclose(step.abs(), torch.full_like(step, 1e-2), rtol=0.05)


class Products(TorchDispatchMode):
    """What types the products of matrices inside it are computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.addmm.out:
            self.types |= {one.dtype for one in args}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("quick", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_muon_iterates_in_float32_where_bfloat16_is_slow(
    quick: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.train.optimiser.quick_bfloat16", lambda device: quick)
    net = nn.Linear(24, 24)
    optimiser = build_optimiser(net, recipe("modern"), pretrained=frozenset())
    net(torch.randn(2, 24)).square().mean().backward()
    with Products() as products:
        optimiser.step()
    assert products.types == {dtype}


def test_muon_steps_fresh_matrices_and_pretrained_ones_at_their_own_rates() -> None:
    net = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False), nn.Linear(16, 4, bias=False))
    how = replace(recipe("modern"), rate=1.0, matrix_rate=2.0, pretrained_rate=0.25)
    optimiser = build_optimiser(net, how, pretrained=frozenset({"0.weight"}))
    assert [group["base_rate"] for group in optimiser.param_groups] == [0.5, 2.0, 1.0]


def test_the_rate_of_pretrained_layers_rises_when_the_head_has_learned() -> None:
    how = replace(recipe("modern"), schedule="constant", warm_up=0.0, steps=10, head_first=0.4, pretrained_warm_up=0.2)
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    optimiser = build_optimiser(net, replace(how, pretrained_rate=1.0), pretrained=frozenset({"0.weight"}))
    rates = []
    for step in range(1, 11):
        set_rate(optimiser, step, how)
        rates.append([group["lr"] / how.rate for group in optimiser.param_groups])
    assert [rate for rate, _ in rates] == [0, 0, 0, 0, 0.5, 1, 1, 1, 1, 1]
    assert all(fresh == 1 for _, fresh in rates)


@pytest.mark.parametrize("name", ["paper", "paper-accumulated"])
def test_summed_and_mean_loss_take_the_same_step(name: str) -> None:
    base, after = replace(RECIPES[name], rate=1e-3), {}
    x, labels = torch.randn(1, 3, 5, 7), torch.randint(0, 4, (1, 5, 7))
    for reduction in ("sum", "mean"):
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 1)
        how = with_reduction(base, reduction, pixels=35)
        optimiser = build_optimiser(layer, how, pretrained=frozenset())
        softmax_loss(layer(x), labels, void=255, weights=None, reduction=reduction).backward()
        optimiser.step()
        after[reduction] = layer.weight.detach()
    assert torch.allclose(after["sum"], after["mean"], atol=1e-6)


def test_cosine_warms_up_and_ends_near_zero() -> None:
    how = replace(recipe("modern"), steps=100)
    factors = [rate_factor(step, how) for step in range(1, 101)]
    assert max(factors) == 1.0
    assert factors[0] < 0.5
    assert factors[-1] < 0.01


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="paper-accumulated"):
        recipe("papper")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_void_pixels_change_no_loss(name: str, reduction: str) -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    labels[:, 0] = 255
    other = scores.clone()
    other[:, :, 0] += 100 * torch.randn(2, 3, 4)
    arguments = {"void": 255, "weights": torch.tensor([1.0, 2.0, 3.0]), "reduction": reduction}
    assert torch.allclose(LOSSES[name](scores, labels, **arguments), LOSSES[name](other, labels, **arguments))


@pytest.mark.parametrize("name", LOSSES)
def test_all_void_gives_a_loss_of_zero(name: str) -> None:
    scores, labels = torch.randn(1, 3, 2, 2, requires_grad=True), torch.full((1, 2, 2), 255)
    loss = LOSSES[name](scores, labels, void=255, weights=None, reduction="mean")
    loss.backward()
    assert loss.item() == 0


def test_softmax_loss_equals_the_plain_count() -> None:
    torch.manual_seed(0)
    scores, labels, weights = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5)), torch.tensor([0.5, 1.0, 2.0])
    labels[0, 0, 0] = 255
    total = mass = 0.0
    for n in range(2):
        for i in range(4):
            for j in range(5):
                label = int(labels[n, i, j])
                if label != 255:
                    total -= float(weights[label] * scores[n, :, i, j].log_softmax(0)[label])
                    mass += float(weights[label])
    assert float(softmax_loss(scores, labels, void=255, weights=weights, reduction="mean")) == pytest.approx(
        total / mass, rel=1e-5
    )
