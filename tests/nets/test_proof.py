"""The proof: it holds for an honest conversion, fails for a broken one, and its record has the contract's keys."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor, nn

from fullconv.base.errors import SurgeryError, UsageError
from fullconv.nets.proof import cells_and_windows, prove
from fullconv.nets.surgery import Converted, convolutionalize


def classifier(padding: int, window: int = 21) -> nn.Module:
    torch.manual_seed(11)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, padding), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, padding), nn.ReLU())
    cells = body(torch.zeros(1, 3, window, window)).shape[2]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(6 * cells * cells, 8), nn.ReLU(), nn.Linear(8, 5)).eval()


def converted(padding: int) -> tuple[nn.Module, Converted]:
    model = classifier(padding)
    return model, convolutionalize(model, 21)


def test_the_record_has_the_keys_of_the_contract() -> None:
    model, made = converted(0)
    record = json.loads(json.dumps(prove(model, made).to_json()))
    assert record["schema"] == "fullconv.proof/1"
    assert record["window"] == [21, 21]
    assert record["stride"] == [4, 4]
    assert record["offset"] == [9, 9]
    assert record["receptive_field"] == [19, 19]
    assert set(record["at_window"]) == {"images", "largest_difference", "relative_difference"}
    assert set(record["dense"]) == {
        *("size", "grid", "windows", "largest_difference", "relative_difference", "top1_agreement", "exact", "why"),
    }
    assert set(record["account"]) == {"copied", "reshaped", "folded", "dropped", "fresh"}
    assert set(record["seconds"]) == set(record["peak_bytes"]) == {"dense", "windows"}
    assert record["seconds"]["dense"] > 0
    assert converted(0)[1].proof.to_json()["dense"] is None


def test_a_proof_of_an_unpadded_network_is_exact() -> None:
    model, made = converted(0)
    dense = prove(model, made).dense
    assert dense is not None
    assert dense.exact
    assert (dense.size, dense.grid, dense.windows, dense.top1_agreement) == ((29, 29), (3, 3), 9, 1.0)


def test_a_padded_network_differs_and_the_proof_says_why() -> None:
    model, made = converted(1)
    assert made.proof.holds
    dense = prove(model, made).dense
    assert dense is not None
    assert not dense.exact
    assert dense.relative_difference > 1e-3
    assert "2 layers pad (the first: '0')" in dense.why


@pytest.mark.parametrize("layer", ["0", "2", "5", "7"])
def test_a_broken_weight_breaks_the_proof(layer: str) -> None:
    model, made = converted(0)
    with torch.no_grad():
        made.network.get_submodule(layer).weight.add_(0.01)
    proof = prove(model, made)
    assert not proof.holds
    assert proof.dense is not None
    assert not proof.dense.exact
    assert "error in the conversion" in proof.dense.why


def test_a_wrong_order_of_rows_and_columns_breaks_the_proof() -> None:
    model, made = converted(0)
    with torch.no_grad():
        weight = made.network.get_submodule("5").weight
        weight.copy_(weight.transpose(2, 3).clone())
    assert not prove(model, made).holds


def test_an_offset_that_is_wrong_by_a_cell_breaks_the_dense_part_alone() -> None:
    model, made = converted(0)
    offset = tuple(v - 4 for v in made.geometry.offset)
    moved = dataclasses.replace(made, geometry=dataclasses.replace(made.geometry, offset=offset))
    proof = prove(model, moved)
    assert proof.holds
    assert proof.dense is not None
    assert not proof.dense.exact


def test_photos_may_differ_in_size_and_only_whole_windows_are_compared() -> None:
    model, made = converted(0)
    photos = [torch.randn(3, 24, 33), torch.randn(3, 21, 21), torch.randn(3, 26, 40).numpy()]
    proof = prove(model, made, photos=photos)
    assert proof.at_window.images == 3
    assert proof.dense is not None
    assert proof.dense.windows == 1 * 4 + 1 + 2 * 5
    assert proof.dense.exact


def test_windows_start_where_geometry_says() -> None:
    _, made = converted(1)
    cells, starts = cells_and_windows(made, (30, 26))
    assert cells == [(y, x) for y in range(3) for x in range(2)]
    assert starts == [(4 * y, 4 * x) for y, x in cells]


def test_photos_smaller_than_the_window_are_refused() -> None:
    model, made = converted(0)
    with pytest.raises(UsageError, match="window 21x21"):
        prove(model, made, photos=[torch.zeros(3, 20, 40)])


def test_proving_leaves_the_modes_and_the_weights_alone() -> None:
    model, made = converted(0)
    model.train()
    made.network.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prove(model, made)
    assert model.training
    assert made.network.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.two = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 4), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x).mean((2, 3))
        return self.one(x), self.two(x)


def test_several_heads_are_all_converted_and_compared() -> None:
    torch.manual_seed(12)
    made = convolutionalize(TwoHeads().eval(), 11)
    assert made.proof.holds
    assert [tuple(s.shape) for s in made.network(torch.rand(1, 3, 13, 15))] == [(1, 4, 2, 3), (1, 3, 2, 3)]


def test_a_network_that_gives_a_map_already_is_no_classifier() -> None:
    with pytest.raises(SurgeryError, match="score vector"):
        convolutionalize(nn.Sequential(nn.Conv2d(3, 4, 3)), 9)
