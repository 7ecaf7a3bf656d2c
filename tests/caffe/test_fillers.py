"""Fillers draw from Caffe's distributions: statistics of 85 of its fills; and bilinear kernels, number by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.caffe.conftest import GOLDEN, listed

from fullconv.base.errors import CaffeError
from fullconv.caffe.fillers import FILLERS, bilinear_kernel, filled
from fullconv.caffe.message import Message
from fullconv.caffe.prototxt import parse_prototxt

CASES = listed("fillers/fillers.json")
KERNELS = list(np.load(GOLDEN / "fillers/bilinear.npz")) if GOLDEN.is_dir() else []
DRAWS = 4  # as Caffe's statistics
ERRORS = 5  # standard errors that two estimates may lie apart
# How far the highest numbers of two fills lie apart, in deviations: those of an even distribution all but meet.
TAILS = {"gaussian": 2, "msra": 2, "positive_unitball": 0.5}


def filler_of(case: dict[str, Any]) -> Message:
    return parse_prototxt(case["param"] or "", "FillerParameter")


def drawn(case: dict[str, Any]) -> NDArray[np.float64]:
    """(draws, rows, numbers of a row)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [filled(tuple(case["shape"]), filler_of(case), of="it") for _ in range(DRAWS)]
    return torch.stack(draws).flatten(2).double().numpy()


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']} {case['filler']}" for case in CASES])
def test_a_filler_draws_from_caffes_distribution(golden: Path, case: dict[str, Any]) -> None:
    found, kind = drawn(case), filler_of(case).type
    std, share = case["std"], case["nonzero_fraction"]
    apart = ERRORS * np.sqrt(2 / found.size)  # of two means of numbers whose deviation is 1
    assert found.mean() == pytest.approx(case["mean"], abs=apart * std)
    assert found.std() == pytest.approx(std, rel=apart / np.sqrt(share or 1), abs=1e-12)
    assert (found != 0).mean() == pytest.approx(share, abs=1e-4 + apart * np.sqrt(share * (1 - share)))
    tail = TAILS.get(kind, 1e-3) * std / np.sqrt(share or 1)
    assert [found.min(), found.max()] == pytest.approx([case["min"], case["max"]], abs=tail)
    if kind == "positive_unitball":
        assert found.sum(2) == pytest.approx(1, abs=1e-5)
    else:  # numbers of a row are drawn one by one; the golden sums are those of one draw, of few rows
        spread = case["row_sums"][1] - case["row_sums"][0]
        assert spread / 3 <= np.ptp(found.sum(2), 1).mean() <= spread * 3


def test_every_filler_has_a_case() -> None:
    if not CASES:
        pytest.skip("what Caffe filled is not here")
    assert {filler_of(case).type for case in CASES} == set(FILLERS) - {"bilinear"}


@pytest.mark.parametrize("key", KERNELS)
def test_a_bilinear_kernel_is_caffes_to_the_bit(golden: Path, key: str) -> None:
    wanted = np.load(golden / "fillers/bilinear.npz")[key]
    size = wanted.shape[-1]
    shape = wanted.shape if wanted.ndim == 4 else (1, 1, size, size)
    found = filled(shape, Message("FillerParameter", type="bilinear"), of="it").numpy()
    assert np.array_equal(found.reshape(wanted.shape), wanted)
    assert np.array_equal(found[-1, -1], bilinear_kernel(size).numpy())


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ('type: "bilinar"', (1, 1, 2, 2), "bilinear"),
        ('type: "bilinear"', (1, 1, 2, 3), "square"),
        ('type: "bilinear"', (4, 4), "square"),
        ('type: "gaussian" sparse: 5', (4, 4), "5 of 4"),
    ],
)
def test_a_filler_that_does_not_fit_is_refused(text: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(CaffeError, match=said):
        filled(shape, parse_prototxt(text, "FillerParameter"), of="layer 'c'")
