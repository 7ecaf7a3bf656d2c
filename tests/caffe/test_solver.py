"""Training beside Caffe: 12 runs of all solvers and rate policies, and going on from their snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.caffe.conftest import listed, must_be_close

from fullconv.base.errors import CaffeError, WeightsError
from fullconv.caffe.solver import Solver
from fullconv.caffe.weights import copy_weights

RUNS = listed("training/index.json", "runs")
NAMES = [run["name"] for run in RUNS]


def solver_of(name: str) -> Solver:
    solver = Solver(f"{name}.solver.prototxt")
    solver.param.snapshot = 0
    copy_weights(solver.net, Path(f"{name}.init.caffemodel"))
    return solver


def train(solver: Solver, run: dict[str, Any], kept: Any) -> None:
    """Train to the end of a run; all that Caffe kept of it must be met on the way."""
    for iteration in range(solver.iter, run["iterations"]):
        if "data" in solver.net.inputs:
            for blob in ("data", "label"):
                solver.net.cells[blob].data = torch.from_numpy(kept[blob][iteration % run["batches"]])
        assert solver.rate() == pytest.approx(float(kept["lr"][iteration]), rel=1e-5)
        solver.step(1)
        assert float(solver.net.cells["loss"].data) == pytest.approx(float(kept["loss"][iteration]), rel=1e-4)
        for key in kept:
            if key.startswith(f"it{iteration + 1}:"):
                _, layer, place = key.split(":")
                must_be_close(solver.net.parameters[layer][int(place)].data.numpy(), kept[key], 1e-4, key)


@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_a_run_is_caffes(training: Path, run: dict[str, Any]) -> None:
    if run["name"] == "inv_iter_size2":
        pytest.importorskip("h5py")
    kept = np.load(f"{run['name']}.npz")
    solver = solver_of(run["name"])
    train(solver, run, kept)
    histories = [history for kind in solver.histories for history in kind]
    assert len(histories) == run["state"].get("n_history", len(histories))
    for place, history in enumerate(histories):
        if f"history{place}" in kept:
            must_be_close(history.numpy().ravel(), kept[f"history{place}"].ravel(), 1e-3, f"history {place}")


@pytest.mark.parametrize("run", [run for run in RUNS if run["resume_at"]], ids=lambda run: str(run["name"]))
def test_a_run_goes_on_from_caffes_snapshot(training: Path, run: dict[str, Any]) -> None:
    (state,) = training.glob(f"{run['name']}_iter_{run['resume_at']}.solverstate*")
    if state.suffix == ".h5":
        pytest.importorskip("h5py")
    solver = solver_of(run["name"])
    solver.restore(state)
    assert solver.iter == run["resume_at"]
    train(solver, run, np.load(f"{run['name']}.npz"))


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_a_run_goes_on_from_its_own_snapshot_bit_for_bit(training: Path, form: str) -> None:
    if form == "HDF5":
        pytest.importorskip("h5py")
    run = next(run for run in RUNS if run["name"] == "adam")
    kept = np.load("adam.npz")
    through, stopped = solver_of("adam"), solver_of("adam")
    for solver in (through, stopped):
        solver.param.snapshot_prefix, solver.param.snapshot_format = "mine", form
        train(solver, {**run, "iterations": 3}, kept)
    again = solver_of("adam")
    again.restore(stopped.snapshot())
    for solver in (through, again):
        train(solver, run, kept)
    for one, other in zip(through.net.learnable, again.net.learnable, strict=True):
        assert torch.equal(one.data, other.data)


def test_a_snapshot_has_caffes_bytes(training: Path) -> None:
    state = training / "adam_iter_3.solverstate"
    solver = solver_of("adam")
    solver.restore(state)
    solver.param.snapshot_prefix = "adam"
    kept = state.read_bytes()
    for path in training.glob("adam_iter_3.*"):
        path.unlink()
    assert solver.snapshot().read_bytes() == kept


def test_a_state_of_another_net_is_refused(training: Path) -> None:
    with pytest.raises(WeightsError, match="histories"):
        solver_of("adam").restore(training / "heavy_iter_6.solverstate")


def test_a_net_that_shares_is_trained(training: Path) -> None:
    kept = np.load("heavy.npz")
    solver, other = solver_of("heavy"), solver_of("heavy")
    solver.net.share(other.net)
    before = [cell.data.clone() for cell in other.net.learnable]
    for blob in ("data", "label"):
        solver.net.cells[blob].data = torch.from_numpy(kept[blob][0])
    solver.step(2)
    assert all(
        not torch.equal(cell.data, old)
        for cell, old in zip(other.net.learnable, before, strict=True)
        if cell.lr_mult and cell.diff.any()
    )
    assert any(cell.diff.any() for cell in other.net.learnable)


def test_a_pass_backward_after_numbers_changed_asks_for_one_forward(training: Path) -> None:
    kept = np.load("heavy.npz")
    solver = solver_of("heavy")
    for blob in ("data", "label"):
        solver.net.cells[blob].data = torch.from_numpy(kept[blob][0])
    solver.step(1)
    with pytest.raises(CaffeError, match="comes before one backward"):
        solver.net.backward()
