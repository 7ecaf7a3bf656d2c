"""Classifiers that Caffe ran, beside the fully convolutional form that Caffe ran: ours give the same, weight by weight
and score by score."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caffe_pairs import PAIRS, Pair, read_pair, relative
from fullconv.nets.proof import Dense, cells_and_windows, compared, prove
from fullconv.nets.surgery import Converted, convolutionalize

TOLERANCE = 1e-5  # of the largest absolute score: two programs, sums in another order


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "caffe-golden"


@pytest.fixture(params=PAIRS)
def pair(golden: Path, request: pytest.FixtureRequest) -> Pair:
    return pair_of(golden, request.param)


@lru_cache
def pair_of(golden: Path, name: str) -> Pair:
    return read_pair(golden, name)


@lru_cache
def index(golden: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((golden / "surgery" / "surgery_index.json").read_text())
    return found


def converted(pair: Pair) -> Converted:
    return convolutionalize(pair.scorer, pair.window)


def scores(network: nn.Module, photo: Tensor) -> Tensor:
    with torch.no_grad():
        made: Tensor = network(photo[None])
    return made


def first_window(pair: Pair) -> Tensor:
    """What Caffe's arrays of the same size were computed on."""
    return pair.photo[:, : pair.window[0], : pair.window[1]]


def torch_name(key: str) -> str:
    """param:fc6-conv:0 -> fc6.weight"""
    _, layer, blob = key.split(":")
    return f"{layer.removesuffix('-conv')}.{('weight', 'bias')[int(blob)]}"


def dense(pair: Pair) -> Dense:
    found = prove(pair.scorer, converted(pair), photos=[pair.photo]).dense
    assert found is not None
    return found


def test_every_pair_of_the_folder_is_rebuilt(golden: Path) -> None:
    assert set(index(golden)) == set(PAIRS)
    assert [pair_of(golden, name).pads for name in PAIRS] == [False, True]


# ---------------------------------------------------------------- the torch networks are Caffe's


def test_the_classifier_scores_as_caffes(pair: Pair) -> None:
    assert relative(scores(pair.scorer, first_window(pair)), pair.arrays["same_size:fc8"]) <= TOLERANCE


def test_the_classifier_scores_as_caffes_on_every_window(pair: Pair) -> None:
    both = compared(pair.scorer, converted(pair), pair.photo)
    assert relative(both.windows, pair.windows().flatten(0, 1)) <= TOLERANCE


def test_caffes_fully_convolutional_network_gives_what_it_gave_there(pair: Pair) -> None:
    assert relative(scores(pair.convolutional[:-1].eval(), pair.photo), pair.arrays["conv:fc8"]) <= TOLERANCE
    assert relative(scores(pair.convolutional, pair.photo), pair.arrays["conv:prob"]) <= TOLERANCE


# ---------------------------------------------------------------- the converted network is Caffe's


def test_the_converted_network_equals_the_classifier_at_the_window(pair: Pair) -> None:
    made = converted(pair)
    assert made.proof.at_window.relative_difference <= TOLERANCE
    found = scores(made.network, first_window(pair))
    assert relative(found, pair.arrays["same_size:fc8-conv"]) <= TOLERANCE
    assert relative(found[..., 0, 0], pair.arrays["same_size:fc8"]) <= TOLERANCE


def test_the_converted_map_is_caffes(pair: Pair) -> None:
    assert relative(scores(converted(pair).network, pair.photo), pair.arrays["conv:fc8"]) <= TOLERANCE


def test_a_classifier_that_ends_in_a_softmax_gives_caffes_map_of_probabilities(pair: Pair) -> None:
    made = convolutionalize(pair.classifier, pair.window)
    assert relative(scores(made.network, pair.photo), pair.arrays["conv:prob"]) <= TOLERANCE


def test_the_reshaped_weights_are_caffes_bit_for_bit(pair: Pair, golden: Path) -> None:
    made = converted(pair)
    caffes = {torch_name(key): weights for key, weights in pair.parameters.items()}
    ours = made.network.state_dict()
    assert set(ours) == set(caffes)
    assert [name for name in ours if not torch.equal(ours[name], caffes[name])] == []
    file = (golden / "surgery" / f"{pair.name}_conv.caffemodel").read_bytes()
    assert [name for name in ours if ours[name].numpy().tobytes() not in file] == []


def test_the_account_names_what_was_reshaped_and_leaves_nothing_out(pair: Pair) -> None:
    account = converted(pair).proof.account
    assert account.reshaped == ("fc6.weight", "fc7.weight", "fc8.weight")
    assert (account.folded, account.dropped, account.fresh) == ((), (), ())
    assert set(account.copied) == set(pair.scorer.state_dict()) - set(account.reshaped)


def test_the_grid_is_caffes(pair: Pair, golden: Path) -> None:
    made, known = converted(pair), index(golden)[pair.name]
    assert made.window == (known["window"],) * 2
    assert made.geometry.stride == (known["stride"],) * 2
    assert made.network.get_submodule("fc6").kernel_size == (known["fc6_kernel"],) * 2
    assert list(scores(made.network, pair.photo).shape) == known["map"]
    _, starts = cells_and_windows(made, (pair.photo.shape[1], pair.photo.shape[2]))
    rows, columns = known["map"][2:]
    assert starts == [
        (known["stride"] * row, known["stride"] * column) for row in range(rows) for column in range(columns)
    ]


# ---------------------------------------------------------------- beside every window


def test_without_padding_the_map_equals_the_classifier_on_every_window(golden: Path) -> None:
    found = dense(pair_of(golden, "surgery_valid"))
    assert found.exact
    assert found.relative_difference <= TOLERANCE
    assert (found.windows, found.grid, found.top1_agreement) == (12, (4, 3), 1.0)
    assert "nothing is padded inside" in found.why


def test_with_padding_the_map_differs_and_the_proof_says_so(golden: Path) -> None:
    found = dense(pair_of(golden, "surgery_padded"))
    assert not found.exact
    assert found.relative_difference > 0.1
    assert "2 layers pad (the first: 'conv2')" in found.why
    assert "a window alone sees padding at its edge where the dense pass sees the photo" in found.why


def test_the_proof_measures_the_difference_that_caffe_has(pair: Pair, golden: Path) -> None:
    found, known = dense(pair), index(golden)[pair.name]
    largest = float(pair.windows().abs().max())
    assert abs(found.largest_difference - known["max_abs_diff_windows"]) <= TOLERANCE * largest
