"""Levels: which maps they are, and that change is measured as it is defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.dense.conftest import padded, photo, unpadded
from tests.small_nets import BACKBONES, PREPARATION, converted
from torch import nn

from fullconv.base.errors import GeometryError
from fullconv.dense.levels import (
    STEPS,
    canvas_size,
    change,
    changes,
    levels_of,
    unrelated,
    viewed,
)
from fullconv.nets.surgery import rewritten
from fullconv.nets.trace import geometry_of

SIZE = (64, 96)


def canvas(size: tuple[int, int] = SIZE) -> torch.Tensor:
    return PREPARATION.prepare(photo(*canvas_size(size)))


@pytest.mark.parametrize("kind", BACKBONES)
def test_there_is_a_level_for_every_stride_and_its_maps_are_those_of_the_network(kind: str) -> None:
    torch.manual_seed(1)
    network = BACKBONES[kind]().eval()
    found = levels_of(network, (224, 224))
    strides = [level.stride for level in found.levels]
    assert strides == sorted(set(strides))
    assert strides[-1] == 32
    geometries = geometry_of(network, (224, 224), disagreement="span")
    maps = found.maps(torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(0)))
    for level, values in zip(found.levels, maps, strict=True):
        assert level.geometry == geometries[level.name]
        assert tuple(values.shape) == level.shape == (level.shape[0], *level.geometry.size)


def test_a_level_is_the_last_map_of_its_stride() -> None:
    found = levels_of(BACKBONES["vgg"]().eval(), (224, 224))
    assert [level.name for level in found.levels] == ["1", "4", "7", "10", "13", "14"]


def test_the_head_of_a_converted_network_is_no_level() -> None:
    made = converted("vgg")
    with_head, without = levels_of(made.network, (256, 256)), levels_of(made.network, (256, 256), head=made.head)
    assert (with_head.levels[-1].shape, without.levels[-1].shape) == ((4, 2, 2), (6, 8, 8))


def test_a_pooling_over_the_whole_map_begins_the_head() -> None:
    assert levels_of(padded(), (32, 32)).levels[-1].shape == (6, 4, 4)


def test_the_network_is_left_as_it_was() -> None:
    network = padded()
    before = network(torch.ones(1, 3, 32, 32))
    levels_of(network, (32, 32)).maps(torch.ones(3, 32, 32))
    assert torch.equal(network(torch.ones(1, 3, 32, 32)), before)


def test_a_network_without_maps_has_no_levels() -> None:
    with pytest.raises(GeometryError, match="none that can be followed"):
        levels_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), (8, 8))


def test_change_by_definition() -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.normal(size=(5, 2, 3)) for _ in range(2))
    before[:, 0, 0] = after[:, 0, 0] = before[:, 1, 1] = 0
    expected: list[float] = []
    for i in range(2):
        for j in range(3):
            a, b = before[:, i, j], after[:, i, j]
            lengths = np.linalg.norm(a) * np.linalg.norm(b)
            expected.append(0.0 if not a.any() and not b.any() else 1 - float(a @ b / lengths if lengths else 0))
    assert change(torch.tensor(before), torch.tensor(after)) == pytest.approx(np.mean(expected))


def test_change_knows_no_brightness() -> None:
    values = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert change(values, 3 * values) == pytest.approx(0, abs=1e-12)
    assert change(values, -values) == pytest.approx(2)


def test_whole_shifts_are_exact_and_go_down_and_right() -> None:
    whole = canvas()
    top, left = ((whole.shape[1 + i] - SIZE[i]) // 2 for i in (0, 1))
    shifted = viewed(whole, SIZE, shift=(3, 20))
    expected = whole[:, top - 3 : top - 3 + SIZE[0], left - 20 : left - 20 + SIZE[1]]
    assert torch.allclose(shifted, expected, atol=1e-4)


def test_a_quarter_turn_and_a_doubling() -> None:
    whole = canvas((64, 64))
    middle = viewed(whole, (64, 64))
    assert torch.allclose(viewed(whole, (64, 64), degrees=90), middle.rot90(-1, (1, 2)), atol=1e-3)
    doubled = viewed(whole, (64, 64), scale=2)
    down = nn.functional.avg_pool2d(doubled[None], 2)[0]
    assert (down - middle[:, 16:48, 16:48]).abs().mean() < 0.25 * middle.std()


def test_no_view_reaches_beyond_the_canvas() -> None:
    """Ones on the canvas, and views of it extended by zeros: what is seen is all ones."""
    size = (200, 300)
    height, width = canvas_size(size)
    far = torch.zeros(1, height + 80, width + 80)
    far[:, 40:-40, 40:-40] = 1
    for by in STEPS["rotation"]:
        assert viewed(far, size, degrees=by).min() > 0.99
    assert viewed(far, size, shift=(32, 32)).min() > 0.99
    assert viewed(far, size, degrees=60).min() < 0.5  # the counter-tests
    assert viewed(far, (height, width), shift=(2, 0)).min() < 0.5


def test_curves_begin_at_nothing_and_name_every_step() -> None:
    found = levels_of(padded(), SIZE)
    rows = list(changes(found, canvas()))
    assert [(what, by) for what, by, _ in rows] == [(what, by) for what, steps in STEPS.items() for by in steps]
    for what, by, values in rows:
        assert len(values) == len(found.levels)
        if by == STEPS[what][0]:
            assert values == [0.0] * len(values)
        else:
            assert min(values) > 0


def test_a_shift_by_the_stride_moves_the_features_by_a_cell() -> None:
    """Nothing padded: what changes at a cell is what its neighbour was."""
    made = rewritten(unpadded(), (24, 24))
    found, whole = levels_of(made.network, (65, 65), head=made.head), canvas((65, 65))
    assert found.levels[-1].stride == 8
    before, after = (found.maps(viewed(whole, (65, 65), shift=(by, 0)))[-1] for by in (0, 8))
    assert torch.allclose(after[:, 1:], before[:, :-1], atol=1e-4)
    assert change(before, after) > 0


def test_unrelated_places_differ() -> None:
    same, other = torch.ones(3, 4, 4), torch.ones(3, 4, 4)
    other[:, :2] = torch.tensor([1.0, 0, 0])[:, None, None]
    other[:, 2:] = torch.tensor([0, 1.0, 0])[:, None, None]
    assert unrelated([same, other]) == pytest.approx([0, 1])
