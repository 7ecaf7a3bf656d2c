"""Shift-and-stitch and rarefaction: equal to the network on every shifted window, and to each other."""

from __future__ import annotations

import pytest
import torch
from tests.dense.conftest import WINDOW, dense, photo
from torch import nn

from fullconv.base.errors import GeometryError, SurgeryError
from fullconv.dense.rarefied import DilatedAverage, DilatedMaximum, rarefy
from fullconv.dense.shift import passes, shift_and_stitch
from fullconv.dense.ways import Choices, DenseClassifier, dense_scores
from fullconv.nets.trace import geometry_of


def stitched(model: DenseClassifier, x: torch.Tensor, stride: int) -> torch.Tensor:
    return shift_and_stitch(model.converted.network, x, stride=stride, shifts=passes(model.grid, stride))


@torch.inference_mode()
def thin(model: DenseClassifier, x: torch.Tensor, stride: int) -> torch.Tensor:
    down, across = passes(model.grid, stride)
    size = (x.shape[1] - (down - 1) * stride, x.shape[2] - (across - 1) * stride)
    return rarefy(model.converted.network, stride=stride, size=size)(x[None])[0]


@pytest.mark.parametrize("stride", [4, 2, 1])
def test_stitched_cells_are_the_classifier_on_windows_at_the_finer_stride(plain: DenseClassifier, stride: int) -> None:
    x = plain.prepared(photo())
    with torch.inference_mode():
        scores = stitched(plain, x, stride)
        for i, j in ((0, 0), (1, 0), (3, 5)):
            top, left = i * stride, j * stride
            own = plain.classifier.network(x[None, :, top : top + WINDOW, left : left + WINDOW])[0]
            torch.testing.assert_close(scores[:, i, j], own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [4, 2, 1])
def test_rarefaction_equals_shift_and_stitch_everywhere_where_nothing_is_padded(
    plain: DenseClassifier, stride: int
) -> None:
    x = plain.prepared(photo())
    with torch.inference_mode():
        one, other = thin(plain, x, stride), stitched(plain, x, stride)
    assert one.shape[1] >= other.shape[1] > 1
    torch.testing.assert_close(one[:, : other.shape[1], : other.shape[2]], other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bordered", "same"])
def test_with_padding_both_agree_at_cells_that_see_none(kind: str, request: pytest.FixtureRequest) -> None:
    model: DenseClassifier = request.getfixturevalue(kind)
    stride = int(model.grid.stride[0]) // 2
    side = 512 + stride  # each shifted photo keeps a multiple of the stride, as TF-SAME padding asks for
    x = model.prepared(photo(side, side))
    with torch.inference_mode():
        one, other = thin(model, x, stride), stitched(model, x, stride)
    field = model.grid.receptive_field
    assert field is not None
    at = [float(model.grid.offset[0]) + i * stride for i in range(min(one.shape[1], other.shape[1]))]
    reach = float(field[0] - 1) / 2
    inside = [i for i, centre in enumerate(at) if centre - reach >= stride and centre + reach <= side - 2 * stride]
    assert len(inside) >= 2
    low, high = inside[0], inside[-1] + 1
    torch.testing.assert_close(one[:, low:high, low:high], other[:, low:high, low:high], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(one[:, 1, 1], other[:, 1, 1], atol=1e-5), "the second shift pads where it was cut"


def test_a_rarefied_network_has_the_stride_and_the_first_cell_of_the_stitched_map(plain: DenseClassifier) -> None:
    network = rarefy(plain.converted.network, stride=2, size=(61, 80))
    last = list(geometry_of(network, (61, 80)).values())[-1]
    assert last.stride == (2, 2)
    assert last.offset == plain.grid.offset
    assert last.receptive_field == plain.grid.receptive_field


def test_a_rarefied_network_shares_its_weights_and_leaves_the_converted_one_as_it_was(plain: DenseClassifier) -> None:
    x = plain.prepared(photo())
    before = plain.converted.network(x[None])
    network = rarefy(plain.converted.network, stride=4, size=(61, 80))
    own = {p.data_ptr() for p in plain.converted.network.parameters()}
    assert {p.data_ptr() for p in network.parameters()} == own
    torch.testing.assert_close(plain.converted.network(x[None]), before)


@pytest.mark.parametrize("stride", [3, 16, 0])
def test_a_stride_that_does_not_divide_the_networks_own_is_an_error(stride: int, plain: DenseClassifier) -> None:
    with pytest.raises(GeometryError, match="divides the network's own"):
        passes(plain.grid, stride)


def test_a_pooling_over_the_whole_map_has_no_rarefied_form_and_is_named() -> None:
    class Excited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gate = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 1)
            self.last = nn.Conv2d(6, 6, 3, 2)
            self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            x = self.last(x)
            x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
            return self.fc(self.pool(x).flatten(1))

    model = dense(Excited().eval(), pooling="cell")
    with pytest.raises(SurgeryError, match="mean"):
        dense_scores(model, photo(), way="rarefied", choices=Choices(stride=2))


def test_a_dilated_average_is_torchs_average_of_every_other_cell() -> None:
    x = torch.randn(1, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    made = DilatedAverage((2, 3), (1, 1), (2, 2), (0, 0, 0, 0), None)(x)
    expected = nn.AvgPool2d((2, 3), 1)(x[:, :, ::2, ::2])
    torch.testing.assert_close(made[:, :, ::2, ::2], expected)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1)])
@pytest.mark.parametrize("side", [11, 12, 13])
def test_a_pooling_that_rounds_up_is_rarefied_as_its_shifted_passes_are(
    kernel: int, stride: int, padding: int, side: int, counted: bool
) -> None:
    x = torch.rand(1, 3, side, side + 1, generator=torch.Generator().manual_seed(0))
    average = nn.AvgPool2d(kernel, stride, padding, ceil_mode=True, count_include_pad=counted)
    around = (padding,) * 4
    beyond = (kernel - stride,) * 2
    thin_average = DilatedAverage((kernel,) * 2, (1, 1), (1, 1), around, beyond, counted=counted)(x)
    thin_maximum = DilatedMaximum((kernel,) * 2, (1, 1), (1, 1), around, beyond)(x)
    coarse = average(x)
    torch.testing.assert_close(thin_average[:, :, ::2, ::2][:, :, : coarse.shape[2], : coarse.shape[3]], coarse)
    highest = nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)(x)
    torch.testing.assert_close(thin_maximum[:, :, ::2, ::2][:, :, : highest.shape[2], : highest.shape[3]], highest)
    assert thin_average[:, :, ::2].shape[2] >= coarse.shape[2], "no cell of the coarse map is missing"
    if padding == 0:
        shifted = average(x[:, :, 1:, 1:])
        both = (coarse.shape[2] + shifted.shape[2], coarse.shape[3] + shifted.shape[3])
        assert thin_average.shape[2:] == both, "the cells of all shifted passes, no more"
        torch.testing.assert_close(thin_average[:, :, 1::2, 1::2], shifted)
