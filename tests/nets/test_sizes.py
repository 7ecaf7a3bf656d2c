"""The size rule, against networks that are run."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from fullconv.base.errors import GeometryError
from fullconv.nets.sizes import grid_size, sizes_giving
from fullconv.nets.surgery import rewritten
from small_nets import converted


@pytest.mark.parametrize("kind", ["residual", "tf_same", "patches", "vgg", "alexnet"])
def test_the_range_is_that_of_the_network_itself(kind: str) -> None:
    network = converted(kind).network
    (top, bottom), (left, right) = sizes_giving(network, (2, 3), near=(300, 300))
    with torch.no_grad():
        for height, width, grid in ((top, left, (2, 3)), (bottom, right, (2, 3)), (top - 1, right + 1, (1, 4))):
            assert network(torch.zeros(1, 3, height, width)).shape[2:] == grid
            assert grid_size(network, (height, width)) == grid


def test_the_seed_case_of_vgg16() -> None:
    """384 pixels: 6 x 6 scores."""
    with torch.device("meta"):
        made = rewritten(torchvision.models.vgg16(weights=None, init_weights=False), (224, 224))
    assert grid_size(made.network, (384, 384)) == (6, 6)
    assert sizes_giving(made.network, (6, 6), near=(384, 384)) == ((384, 415), (384, 415))


def test_a_grid_that_no_size_gives() -> None:
    doubled = nn.Sequential(nn.ConvTranspose2d(3, 3, 2, 2))
    with pytest.raises(GeometryError, match="no size gives 3 rows"):
        sizes_giving(doubled, (3, 4), near=(8, 8))


def test_what_has_no_grid() -> None:
    with pytest.raises(GeometryError, match="convert it first"):
        grid_size(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), (8, 8))
