"""Geometry read off traced graphs, against what gradients say that a cell sees."""

from __future__ import annotations

from fractions import Fraction

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn

from fullconv.base.errors import GeometryError, SurgeryError
from fullconv.nets.graph import photo_channels
from fullconv.nets.trace import geometry_of, trace


def seen(network: nn.Module, size: tuple[int, int], cell: tuple[int, int]) -> list[tuple[int, int]]:
    """First and last pixel, for rows and for columns, that one cell of the output depends on."""
    photo = torch.zeros(1, 1, *size, dtype=torch.float64, requires_grad=True)
    network.double()(photo)[0, 0, cell[0], cell[1]].backward()
    assert photo.grad is not None
    rows, columns = photo.grad[0, 0].nonzero(as_tuple=True)
    return [(int(rows.min()), int(rows.max())), (int(columns.min()), int(columns.max()))]


def positive(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    return network


def check_middle_cell(network: nn.Module, size: tuple[int, int]) -> None:
    """The middle cell sees exactly the extent that geometry derives; no more where that reaches over a border."""
    last = list(geometry_of(network, size).values())[-1]
    with torch.no_grad():
        assert tuple(network.double()(torch.zeros(1, 1, *size, dtype=torch.float64)).shape[2:]) == last.size
    cell = (last.size[0] // 2, last.size[1] // 2)
    for i, (low, high) in enumerate(seen(network, size, cell)):
        axis = last.axis(i)
        centre, field = axis.offset + cell[i] * axis.stride, axis.field
        assert field is not None
        first, last_ = centre - (field - 1) / 2, centre + (field - 1) / 2
        if first >= 0 and last_ < size[i]:
            assert (low, high) == (first, last_)
        assert first <= low <= high <= last_


@st.composite
def layer(draw: st.DrawFn) -> nn.Module:
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    kind = draw(st.sampled_from(["conv", "dilated", "same", "pool", "pool same", "string"]))
    if kind == "conv":
        return nn.Conv2d(1, 1, kernel, stride, (draw(st.integers(0, 2)), draw(st.integers(0, 2))))
    if kind == "dilated":
        return nn.Conv2d(1, 1, kernel, 1, (2, 1), dilation=2)
    if kind == "string":
        return nn.Conv2d(1, 1, kernel, padding="same")
    if kind == "same":
        return Conv2dSame(1, 1, kernel, stride)
    if kind == "pool same":
        return Conv2dSame(1, 1, 3, 2)
    return nn.AvgPool2d(kernel, stride, (kernel[0] // 2, kernel[1] // 2))


@settings(deadline=None, max_examples=30)
@given(layers=st.lists(layer(), min_size=1, max_size=4), size=st.tuples(st.integers(40, 57), st.integers(40, 57)))
def test_stacks_see_exactly_what_geometry_says(layers: list[nn.Module], size: tuple[int, int]) -> None:
    network = positive(nn.Sequential(*layers))
    try:
        geometry_of(network, size)
    except SurgeryError:
        return  # a stack that leaves no cell
    check_middle_cell(network, size)


class Branches(nn.Module):
    def __init__(self, left: nn.Module, right: nn.Module, *, join: str) -> None:
        super().__init__()
        self.left, self.right, self.join = left, right, join

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.left(x), self.right(x)
        return a + b if self.join == "add" else torch.cat([a, b], 1)


@pytest.mark.parametrize("join", ["add", "cat"])
def test_branches_see_what_the_wider_sees(join: str) -> None:
    network = Branches(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 7, 2, 3), join=join)
    last = list(geometry_of(network, (20, 30)).values())[-1]
    assert (last.stride, last.offset, last.receptive_field) == ((2, 2), (0, 0), (7, 7))


@pytest.mark.parametrize("join", ["add", "cat"])
def test_branches_that_disagree_are_an_error_that_names_them(join: str) -> None:
    network = Branches(nn.Conv2d(1, 1, 2, 2), nn.Conv2d(1, 1, 1, 2), join=join)
    with pytest.raises(GeometryError, match=r"'left'.*'right'"):
        geometry_of(network, (20, 20))
    spanned = list(geometry_of(network, (20, 20), disagreement="span").values())[-1]
    assert spanned.offset == (Fraction(1, 2), Fraction(1, 2))


class Sliced(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, 2:, 1::3], (0, 0, 5, 0))


def test_slices_and_padding_move_the_first_cell() -> None:
    last = list(geometry_of(nn.Sequential(nn.Conv2d(1, 1, 1), Sliced()), (20, 20)).values())[-1]
    assert last.offset == (2 - 5, 1)
    assert last.stride == (1, 3)
    assert last.size == (23, 7)


class Shuffled(nn.Module):
    """A channel shuffle, and channels last for a while: rows and columns are not lost."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 6, 3, 2), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_reshapes_of_channels_keep_rows_and_columns() -> None:
    last = list(geometry_of(Shuffled(), (21, 31)).values())[-1]
    assert (last.stride, last.offset, last.size) == ((2, 2), (1, 1), (10, 15))


def test_tf_same_geometry_is_a_function_of_the_size() -> None:
    network = nn.Sequential(Conv2dSame(1, 1, 3, 2), MaxPool2dSame(3, 2))
    even, odd = (list(geometry_of(network, (n, n)).values())[-1] for n in (32, 33))
    assert (even.offset, odd.offset) == ((3, 3), (0, 0))


def test_squeeze_and_excitation_leaves_the_receptive_field_unbounded() -> None:
    found = geometry_of(timm.create_model("mobilenetv3_small_100"), 64)
    assert found["conv_stem"].receptive_field == (3, 3)
    last = found["blocks.5.0.aa"]
    assert last.receptive_field is None
    assert (last.stride, last.offset, last.size) == ((32, 32), (0, 0), (2, 2))


def test_the_second_use_of_a_module_has_a_name_of_its_own() -> None:
    found = geometry_of(torchvision.models.resnet18(weights=None), 64)
    assert {"layer1.0.relu", "layer1.0.relu#2"} <= set(found)


class AsksForShape(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] > 10 and len(x.shape) == 4:
            x = nn.functional.max_pool2d(x, 2)
        for _ in range(x.shape[1]):
            x = nn.functional.dropout(x, 0.5, training=self.training)
        return x


def test_code_that_asks_for_shapes_is_followed_and_dropout_still_drops() -> None:
    network = trace(nn.Sequential(nn.Conv2d(1, 2, 1), AsksForShape()), (20, 20))
    x = torch.rand(1, 1, 20, 20)
    assert network.eval()(x).shape == (1, 2, 10, 10)
    assert (network.train()(x) == 0).any()
    assert not (network.eval()(x) == 0).any()


class Written(nn.Module):
    """A buffer as an argument, a step that writes into its input, an option, the kind of device, a rounded size."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filt", torch.full((1, 1, 2, 2), 0.25))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = x * mask.view(1, 1, 1, 1)
        with torch.autocast(device_type=x.device.type, enabled=False):
            x = nn.functional.conv2d(x, self.filt)
        x.mul_(2)
        x.add_(int((x.shape[2] * x.shape[3]) ** 0.5))
        return x


def test_what_is_written_in_place_is_read_and_what_is_asked_is_answered() -> None:
    network, x = Written(), torch.rand(2, 1, 6, 6)
    traced = trace(nn.Sequential(nn.Conv2d(1, 1, 1), network), (6, 6))
    assert torch.equal(traced(x), network(traced.get_submodule("0")(x)))


@pytest.mark.parametrize("channels", [1, 3, 4, 48])
def test_a_photo_has_no_more_than_four_channels(channels: int) -> None:
    assert photo_channels(nn.Sequential(nn.ReLU(), nn.Conv2d(channels, 8, 3))) == (channels if channels <= 4 else 3)


def test_tracing_leaves_the_network_as_it_was() -> None:
    network = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True).train()
    names = list(network.state_dict())
    traced = trace(network, (64, 64))
    assert network.training
    assert list(network.state_dict()) == names
    assert set(traced.state_dict()) == {n for n in names if not n.startswith("aux")}


def test_a_window_that_is_too_small_is_said() -> None:
    with pytest.raises(SurgeryError, match=r"Sequential at 4x4 stopped at '1'"):
        trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 7)), (4, 4))
