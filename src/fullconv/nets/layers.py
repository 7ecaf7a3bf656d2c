"""Layers that surgery puts in place of a classifier's. Road: nets, before graph."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a (N, C, H, W) map."""

    def forward(self, input: Tensor) -> Tensor:
        last = F.layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


class CellGroupNorm(nn.GroupNorm):
    """GroupNorm of each cell of a (N, C, H, W) map by itself, as of an (N, C) tensor."""

    def forward(self, input: Tensor) -> Tensor:
        last = input.permute(0, 2, 3, 1).flatten(0, 2)  # (N H W, C)
        made = F.group_norm(last, self.num_groups, self.weight, self.bias, self.eps)
        return made.view(len(input), *input.shape[2:], -1).permute(0, 3, 1, 2)


class WindowContext(nn.Module):
    """The mean over a window of `size` cells round each cell, kept inside the map; on a map no larger, its mean."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        h, w = min(self.size[0], x.shape[2]), min(self.size[1], x.shape[3])
        inner = F.avg_pool2d(x, (h, w), stride=1)
        up, left = (h - 1) // 2, (w - 1) // 2
        return F.pad(inner, (left, w - 1 - left, up, h - 1 - up), mode="replicate")
