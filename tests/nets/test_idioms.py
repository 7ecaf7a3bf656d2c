"""Classifiers as people write them: each spelling becomes one exact conversion, or is refused with its true reason."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullconv.base.errors import SurgeryError, UsageError
from fullconv.nets.proof import prove
from fullconv.nets.surgery import Converted, convolutionalize

Forward = Callable[["Written", Tensor], Tensor]
WINDOW = 31


class Written(nn.Module):
    """A body of stride 4 that pads nothing (8 channels on 7x7 cells at 31), then steps as a person writes them."""

    def __init__(self, steps: Forward, features: int = 8, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
        self.fc = nn.Linear(features, 5)
        self.steps = steps
        for name, part in parts.items():
            setattr(self, name, part)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, self.body(x))


def proven(model: nn.Module) -> tuple[Converted, float, bool]:
    """The conversion, its relative difference to every window of a larger photo, and whether it is exact."""
    made = convolutionalize(model, WINDOW)
    found = prove(model, made).dense
    assert found is not None
    assert found.windows == 9
    return made, found.relative_difference, found.exact


def gem(m: Written, x: Tensor) -> Tensor:
    powers = x.clamp(min=1e-6).pow(3)
    return m.fc(F.avg_pool2d(powers, (x.size(-2), x.size(-1))).pow(1 / 3).flatten(1))


POOLINGS: dict[str, Forward] = {
    "average of x.shape": lambda m, x: m.fc(F.avg_pool2d(x, x.shape[2:]).flatten(1)),
    "average of x.size()": lambda m, x: m.fc(F.avg_pool2d(x, x.size()[2:]).view(len(x), -1)),
    "average of a number": lambda m, x: m.fc(F.avg_pool2d(x, 7).flatten(1)),
    "maximum of x.shape": lambda m, x: m.fc(F.max_pool2d(x, x.shape[2:]).flatten(1)),
    "generalized mean": gem,
    "means one after the other": lambda m, x: m.fc(x.mean(-1).mean(-1)),
    "means of columns, then rows": lambda m, x: m.fc(x.mean(3).mean(2)),
    "one cell by its index": lambda m, x: m.fc(F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]),
    "sum over area": lambda m, x: m.fc(x.sum((2, 3)) / (x.shape[2] * x.shape[3])),
    "normalized features": lambda m, x: m.fc(F.normalize(x.mean((2, 3)))),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_every_spelling_of_a_pooling_is_exact_at_the_bodys_own_stride(name: str) -> None:
    made, difference, exact = proven(Written(POOLINGS[name]))
    assert exact, difference
    assert made.geometry.stride == (4, 4)


def test_a_kernel_read_off_the_map_is_not_that_of_the_window_on_a_larger_photo() -> None:
    made = convolutionalize(Written(POOLINGS["average of x.shape"]), WINDOW)
    assert made.network(torch.zeros(1, 3, WINDOW + 12, WINDOW + 20)).shape == (1, 5, 4, 6)


def both(m: Written, x: Tensor) -> Tensor:
    bins = F.adaptive_avg_pool2d(x, (2, 3)).flatten(1)
    return m.fc(bins) + m.second(bins)


def test_two_layers_may_read_one_pooling_with_bins_of_unequal_size() -> None:
    _, difference, exact = proven(Written(both, 48, second=nn.Linear(48, 5)))
    assert exact, difference


MIXING: dict[str, Forward] = {
    "flip": lambda m, x: m.fc(x.flip(3).mean((2, 3))),
    "roll": lambda m, x: m.fc(torch.roll(x, 1, 3).mean((2, 3))),
    "cumsum": lambda m, x: m.fc((x.cumsum(3) ** 2).mean((2, 3))),
    "sort": lambda m, x: m.fc((x.sort(3)[0] ** 2).mean((2, 3))),
    "arange": lambda m, x: m.fc((x * torch.arange(x.size(3))).mean((2, 3))),
    "unsqueeze": lambda m, x: m.fc((x * m.place.unsqueeze(0)).mean((2, 3))),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_belongs_to_fixed_positions_is_refused_by_name(name: str) -> None:
    with pytest.raises(SurgeryError, match="positions: what is learnt"):
        convolutionalize(Written(MIXING[name], place=nn.Parameter(torch.randn(8, 7, 7))), WINDOW)


FIXED: dict[str, Forward] = {
    "interpolate": lambda m, x: m.fc(F.interpolate(x, size=(9, 9)).mean((2, 3))),
    "getitem": lambda m, x: m.fc(x[:, :, :4, :4].mean((2, 3))),
    "view": lambda m, x: m.fc(x.reshape(-1, 392).view(-1, 8, 7, 7).mean((2, 3))),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_size_fixed_in_the_code_is_refused(name: str) -> None:
    with pytest.raises(SurgeryError, match=r"grows with the photo|any size|act alike"):
        convolutionalize(Written(FIXED[name]), WINDOW)


OVER_THE_MAP: dict[str, Forward] = {
    "softmax": lambda m, x: m.fc((x * x.flatten(2).softmax(-1).view_as(x)).sum((2, 3))),
    "layer_norm": lambda m, x: m.fc(F.layer_norm(x, x.shape[1:]).relu().mean((2, 3))),
    "normalize": lambda m, x: m.fc(F.normalize(x, dim=3).mean((2, 3))),
}


@pytest.mark.parametrize("name", OVER_THE_MAP)
def test_what_divides_by_the_whole_map_has_no_bounded_receptive_field(name: str) -> None:
    made, _, exact = proven(Written(OVER_THE_MAP[name]))
    assert made.proof.holds
    assert not exact
    assert made.geometry.receptive_field is None


def written(m: Written, x: Tensor) -> Tensor:
    m.act(x)
    return m.fc(x.mean((2, 3)))


def test_a_layer_that_works_in_place_counts_though_nobody_reads_its_result() -> None:
    _, difference, exact = proven(Written(written, act=nn.ReLU(inplace=True)))
    assert exact, difference


def through_a_view(m: Written, x: Tensor) -> Tensor:
    x.view(len(x), -1).mul_(2)
    return m.fc(x.mean((2, 3)))


def test_writing_through_a_view_is_refused() -> None:
    with pytest.raises(SurgeryError, match="writes into a part of"):
        convolutionalize(Written(through_a_view), WINDOW)


class Cosine(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(F.normalize(input), F.normalize(self.weight), self.bias)


def test_a_persons_own_linear_layer_is_followed_and_not_taken_for_the_plain_one() -> None:
    _, difference, exact = proven(Written(lambda m, x: m.own(x.mean((2, 3))), own=Cosine(8, 5)))
    assert exact, difference


class PadsItself(nn.Conv2d):
    """TF-SAME by hand, under a name that says nothing."""

    def forward(self, input: Tensor) -> Tensor:
        amounts = []
        for side, k, s in zip(input.shape[-2:], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(side / s) - 1) * s + k - side, 0)
            amounts = [total // 2, total - total // 2, *amounts]
        return F.conv2d(F.pad(input, amounts), self.weight, self.bias, self.stride)


def test_padding_as_needed_is_known_by_what_it_does() -> None:
    model = Written(lambda m, x: m.fc(m.own(x).mean((2, 3))), own=PadsItself(8, 8, 3, 2))
    made = convolutionalize(model, WINDOW)
    assert made.geometry.stride == (8, 8)
    for side in (WINDOW + 4, WINDOW + 8):  # padding on a larger photo is that photo's own
        x = torch.randn(1, 3, side, side)
        mean = model.own(model.body(x)).unfold(2, 4, 1).unfold(3, 4, 1).mean((-1, -2))
        expected = torch.einsum("kc,nchw->nkhw", model.fc.weight, mean) + model.fc.bias[:, None, None]
        torch.testing.assert_close(made.network(x), expected, atol=1e-5, rtol=1e-5)


def test_attention_of_channels_over_the_largest_and_the_mean_as_its_authors_write_it() -> None:
    def attended(m: Written, x: Tensor) -> Tensor:
        seen = torch.cat([torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)], dim=1)
        return m.fc((x * m.gate(seen).sigmoid()).mean((2, 3)))

    _, difference, exact = proven(Written(attended, gate=nn.Conv2d(2, 1, 1)))
    assert exact, difference


def test_a_layer_frozen_by_eval_inside_a_training_network_stays_frozen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 225, 5))
    model.train()
    model[1].eval()
    made = convolutionalize(model, WINDOW)
    assert not made.network.get_submodule("1").training
    assert made.network.get_submodule("0").training
    assert model.training


def test_a_second_head_that_is_wrong_is_not_hidden_by_a_first_with_large_scores() -> None:
    model = Written(lambda m, x: (m.fc(x.mean((2, 3))) * 1e7, m.second(x.mean((2, 3)))), second=nn.Linear(8, 4))
    made = convolutionalize(model, WINDOW)
    with torch.no_grad():
        made.network.get_submodule("second").weight.mul_(1.5)
    proof = prove(model, made)
    assert not proof.holds
    assert proof.dense is not None
    assert not proof.dense.exact
    with torch.no_grad():
        made.network.get_submodule("second").weight.fill_(math.nan)
    assert not prove(model, made).holds


@pytest.mark.parametrize("window", [0, -5, 31.5, "31", (31, 31, 3), None])
def test_a_window_is_one_or_two_whole_numbers(window: object) -> None:
    with pytest.raises(UsageError, match="rows, columns"):
        convolutionalize(Written(POOLINGS["generalized mean"]), window)  # type: ignore[arg-type]


def test_a_class_is_not_a_network() -> None:
    with pytest.raises(UsageError, match=r"torch\.nn\.Module"):
        convolutionalize(Written, WINDOW)  # type: ignore[arg-type]


def test_a_shape_that_is_given_by_its_name_is_followed_too() -> None:
    _, difference, exact = proven(Written(lambda m, x: m.fc(x.reshape(shape=x.shape).mean((2, 3)))))
    assert exact, difference
