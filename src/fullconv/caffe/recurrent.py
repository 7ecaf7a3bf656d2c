"""LSTM and RNN, unrolled over time. Road: caffe, layers.

Bottoms: (T, N, ...) numbers; (T, N) flags, 0 where a sequence begins; with expose_hidden the state before. What a pass
ends with, the next one begins with. Source: docs/explanation/caffe.md, "Layers".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fullconv.caffe.layer import Layer, Parameter, Shape, count


class _Recurrent(Layer):
    bottoms = (2, 5)
    tops = (1, 3)
    blind = (1,)
    states: ClassVar[int]  # blobs of state
    gates: ClassVar[int]  # rows of the input's weights, per output

    state: list[Tensor] | None = None

    @property
    def width(self) -> int:
        return int(self.param.recurrent_param.num_output)

    @property
    def exposed(self) -> int:
        return self.states if self.param.recurrent_param.expose_hidden else 0

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        param, rows = self.param.recurrent_param, self.gates * self.width
        if self.width < 1:
            self.fail("num_output is at least 1", str(self.width))
        if len(bottoms) > 2 + self.exposed:
            self.fail("its bottoms are numbers, flags and, with expose_hidden, the state", f"{len(bottoms)} bottoms")
        weight = [Parameter((rows, count(bottoms[0][2:])), param.weight_filler), Parameter((rows,), param.bias_filler)]
        return [*weight, Parameter((rows, self.width), param.weight_filler)]

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        x, flags = bottoms[:2]
        if len(x) < 2 or flags != x[:2]:
            self.fail("its bottoms are (T, N, ...) and (T, N)", f"{list(x)} and {list(flags)}")
        if len(bottoms) != 2 + self.exposed or len(self.param.top) != 1 + self.exposed:
            self.fail(f"it has {2 + self.exposed} bottoms and {1 + self.exposed} tops", f"{len(bottoms)} bottoms")
        return [(*x[:2], self.width), *[(1, x[1], self.width)] * self.exposed]

    def run(self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor]) -> list[Tensor]:
        x, flags = bottoms[0].reshape(*bottoms[0].shape[:2], -1), bottoms[1]
        items = x.shape[1]
        state = [one.reshape(items, -1) for one in bottoms[2:]] if self.exposed else self.state
        if state is None or len(state[0]) != items:
            state = [x.new_zeros(items, self.width) for _ in range(self.states)]
        inputs, found = F.linear(x, blobs[0], blobs[1]), []
        for step, goes_on in zip(inputs, flags, strict=True):
            top, state = self.step(step, goes_on[:, None], state, blobs[2:])
            found.append(top)
        self.state = [one.detach() for one in state]
        return [torch.stack(found), *(one[None] for one in state[: self.exposed])]

    def step(
        self, given: Tensor, goes_on: Tensor, state: list[Tensor], blobs: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        raise NotImplementedError


class LSTM(_Recurrent):
    """Long short-term memory; gates in the order input, forget, output, new."""

    states, gates = 2, 4

    def step(
        self, given: Tensor, goes_on: Tensor, state: list[Tensor], blobs: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        hidden, cell = state
        enters, forgets, leaves, new = (given + F.linear(goes_on * hidden, blobs[0])).chunk(4, 1)
        cell = goes_on * torch.sigmoid(forgets) * cell + torch.sigmoid(enters) * torch.tanh(new)
        hidden = torch.sigmoid(leaves) * torch.tanh(cell)
        return hidden, [hidden, cell]


class RNN(_Recurrent):
    """tanh of what comes in and of the state, and tanh of a further layer on top."""

    states, gates = 1, 1

    def parameters(self, bottoms: Sequence[Shape]) -> list[Parameter]:
        param = self.param.recurrent_param
        out = [Parameter((self.width, self.width), param.weight_filler), Parameter((self.width,), param.bias_filler)]
        return [*super().parameters(bottoms), *out]

    def step(
        self, given: Tensor, goes_on: Tensor, state: list[Tensor], blobs: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        hidden = torch.tanh(given + F.linear(goes_on * state[0], blobs[0]))
        return torch.tanh(F.linear(hidden, blobs[1], blobs[2])), [hidden]
