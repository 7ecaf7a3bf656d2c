"""The proof drawn, where the photo is a strip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fullconv.nets.proof import compared
from fullconv.nets.surgery import convolutionalize
from fullconv.report.proof_sheet import proof_sheet, shown, shown_size, with_windows


@pytest.mark.parametrize("size", [(8, 4000), (4000, 8), (12, 40)])
def test_a_strip_with_windows_of_less_than_a_pixel_is_drawn(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    made = convolutionalize(net, 8)
    picture = torch.rand(3, *size)
    both = compared(net, made, picture)
    assert proof_sheet(picture, both, made, None, title="strip").width > 300
    drawn = with_windows(shown(picture), both, made, shown_size(size))
    assert drawn.shape == (*shown_size(size), 3)
    assert min(drawn.shape) >= 1
    assert np.ptp(drawn) > 0
