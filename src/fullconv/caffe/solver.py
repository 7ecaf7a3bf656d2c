"""Train a Caffe net as its solver file says. Road: caffe, on top of a graph.

In: a SolverParameter. Out: a Solver that steps, snapshots and goes on from a snapshot. Source:
docs/explanation/caffe.md, "Solver".
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fullconv.base.errors import CaffeError, WeightsError
from fullconv.caffe.blobs import blob_of, proto_of
from fullconv.caffe.graph import Graph, ParameterCell
from fullconv.caffe.hdf5 import is_hdf5, numbers_of, opened_hdf5, written_hdf5
from fullconv.caffe.message import Message
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.rules import State
from fullconv.caffe.upgrade import upgraded_solver
from fullconv.caffe.weights import copy_weights, write_weights
from fullconv.caffe.wire import read_binary, write_binary

log = logging.getLogger("fullconv.caffe")

# ---- rates ----------------------------------------------------------------------------------------------------------

_NEEDS_GAMMA = ("step", "exp", "inv", "multistep", "sigmoid")


def _sigmoid(solver: Message, n: int) -> float:
    return 1 / (1 + math.exp(-solver.gamma * (n - solver.stepsize)))


POLICIES: Mapping[str, Callable[[Message, int, int], float]] = {  # of the solver, the iteration, the current step
    "fixed": lambda solver, n, step: 1.0,
    "step": lambda solver, n, step: solver.gamma ** (n // solver.stepsize),
    "exp": lambda solver, n, step: solver.gamma**n,
    "inv": lambda solver, n, step: (1 + solver.gamma * n) ** -solver.power,
    "multistep": lambda solver, n, step: solver.gamma**step,
    "poly": lambda solver, n, step: (1 - n / solver.max_iter) ** solver.power,
    "sigmoid": lambda solver, n, step: _sigmoid(solver, n),
}

# ---- updates: of the solver, gradient, histories, rate and iteration; what is taken off the weights -----------------

Update = Callable[[Message, Tensor, list[Tensor], float, int], Tensor]


def _sgd(solver: Message, grad: Tensor, histories: list[Tensor], rate: float, n: int) -> Tensor:
    return histories[0].mul_(solver.momentum).add_(grad, alpha=rate).clone()


def _nesterov(solver: Message, grad: Tensor, histories: list[Tensor], rate: float, n: int) -> Tensor:
    before = histories[0].clone()
    step: Tensor = (1 + solver.momentum) * _sgd(solver, grad, histories, rate, n) - solver.momentum * before
    return step


def _adagrad(solver: Message, grad: Tensor, histories: list[Tensor], rate: float, n: int) -> Tensor:
    step: Tensor = rate * grad / (histories[0].add_(grad * grad).sqrt() + solver.delta)
    return step


def _rmsprop(solver: Message, grad: Tensor, histories: list[Tensor], rate: float, n: int) -> Tensor:
    squares = histories[0].mul_(solver.rms_decay).add_(grad * grad, alpha=1 - solver.rms_decay)
    step: Tensor = rate * grad / (squares.sqrt() + solver.delta)
    return step


def _adadelta(solver: Message, grad: Tensor, histories: list[Tensor], rate: float, n: int) -> Tensor:
    squares, updates = histories
    squares.mul_(solver.momentum).add_(grad * grad, alpha=1 - solver.momentum)
    update: Tensor = grad * ((updates + solver.delta) / (squares + solver.delta)).sqrt()
    updates.mul_(solver.momentum).add_(update * update, alpha=1 - solver.momentum)
    return rate * update


def _adam(solver: Message, grad: Tensor, histories: list[Tensor], rate: float, n: int) -> Tensor:
    first, second = histories
    first.mul_(solver.momentum).add_(grad, alpha=1 - solver.momentum)
    second.mul_(solver.momentum2).add_(grad * grad, alpha=1 - solver.momentum2)
    even = math.sqrt(1 - solver.momentum2 ** (n + 1)) / (1 - solver.momentum ** (n + 1))
    step: Tensor = rate * even * first / (second.sqrt() + solver.delta)
    return step


UPDATES: Mapping[str, Update] = {
    "SGD": _sgd,
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSProp": _rmsprop,
    "AdaDelta": _adadelta,
    "Adam": _adam,
}
_TWO_HISTORIES = ("AdaDelta", "Adam")
_NO_MOMENTUM = ("AdaGrad", "RMSProp")


class Solver:
    """Trains a net by a solver file.

    Args:
        param: a SolverParameter, or the path of its prototxt; nets that it names are looked for from the working
            directory, then from the file's own folder.
    Raises: CaffeError if solver or nets cannot be built.
    """

    def __init__(self, param: Message | Path | str) -> None:
        self.path = None if isinstance(param, Message) else Path(param)
        read = param if isinstance(param, Message) else read_prototxt(Path(param), "SolverParameter")
        self.of = str(self.path or "solver")
        self.folder = self.path.parent if self.path else None
        self.param = upgraded_solver(read, of=self.of)
        self._check()
        if self.param.random_seed >= 0:
            torch.manual_seed(self.param.random_seed)
        self.net = self._train_net()
        self.test_nets = self._test_nets()
        self.iter = 0
        self.current_step = 0
        number = 2 if self.param.type in _TWO_HISTORIES else 1
        self.histories = [[torch.zeros(cell.shape) for cell in self.net.learnable] for _ in range(number)]
        self.losses: list[float] = []
        for path in self.param.weights:
            for one in str(path).split(","):
                copy_weights(self.net, self._found(one.strip()))

    # ---- building ----

    def _fail(self, must: str, found: str, try_: str = "mend the solver's prototxt") -> None:
        raise CaffeError(must, f"{self.of}: {found}", try_)

    def _check(self) -> None:
        param = self.param
        if param.type not in UPDATES:
            self._fail(f"a solver's type is one of {', '.join(UPDATES)}", f"'{param.type}'")
        if param.lr_policy not in POLICIES:
            self._fail(f"lr_policy is one of {', '.join(POLICIES)}", f"'{param.lr_policy}'")
        if param.lr_policy in ("step", "sigmoid") and param.stepsize < 1:
            self._fail(f"lr_policy {param.lr_policy} has a stepsize of at least 1", str(param.stepsize))
        if param.lr_policy == "poly" and param.max_iter < 1:
            self._fail("lr_policy poly has a max_iter of at least 1", str(param.max_iter))
        if param.lr_policy in _NEEDS_GAMMA and param.gamma < 0:
            self._fail("gamma is not negative", str(param.gamma))
        if param.regularization_type not in ("L1", "L2"):
            self._fail("regularization_type is L1 or L2", f"'{param.regularization_type}'")
        if param.type in _NO_MOMENTUM and param.momentum:
            self._fail(f"{param.type} has no momentum", str(param.momentum))
        if not 0 <= param.rms_decay < 1:
            self._fail("rms_decay is from 0 to below 1", str(param.rms_decay))
        if param.iter_size < 1 or param.average_loss < 1:
            self._fail("iter_size and average_loss are at least 1", f"{param.iter_size}, {param.average_loss}")

    def _found(self, name: str) -> Path:
        """A path that the file names: from the working directory, else from the file's own folder."""
        path = Path(name)
        beside = (self.folder or Path()) / path
        return beside if not path.exists() and beside.exists() else path

    def _train_net(self) -> Graph:
        param = self.param
        given = [name for name in ("net", "net_param", "train_net", "train_net_param") if param.has(name)]
        if len(given) != 1:
            self._fail(
                "a solver names one train net: net, net_param, train_net or train_net_param", f"{given or 'none'}"
            )
        net, of = self._net(getattr(param, given[0]))
        return Graph(net, _merged("TRAIN", net.state, param.train_state), of=of, folder=self.folder)

    def _test_nets(self) -> list[Graph]:
        param = self.param
        specific = [*param.test_net_param, *param.test_net]
        general = param.net_param if param.has("net_param") else param.net if param.has("net") else None
        number = len(param.test_iter)
        if number < len(specific) or (general is None and number > len(specific)):
            self._fail("test_iter is given once a test net", f"{number} for {len(specific)}")
        nets = [*specific, *[general] * (number - len(specific))]
        if param.test_state and len(param.test_state) != len(nets):
            self._fail("test_state is given once a test net, or not", f"{len(param.test_state)} for {len(nets)}")
        if nets and param.test_interval < 1:
            self._fail("test_interval is at least 1 where there are test nets", str(param.test_interval))
        found = []
        for place, one in enumerate(nets):
            net, of = self._net(one)
            asked = param.test_state[place] if param.test_state else Message("NetState")
            graph = Graph(net, _merged("TEST", net.state, asked), of=of, folder=self.folder)
            graph.share(self.net)
            found.append(graph)
        return found

    def _net(self, given: Message | str) -> tuple[Message, str]:
        if isinstance(given, Message):
            return given, "net of " + self.of
        path = self._found(given)
        return read_prototxt(path), str(path)

    # ---- steps ----

    def rate(self) -> float:
        """The learning rate of the iteration that comes next."""
        steps = list(self.param.stepvalue)
        if (
            self.param.lr_policy == "multistep"
            and self.current_step < len(steps)
            and self.iter >= steps[self.current_step]
        ):
            self.current_step += 1
            log.info("MultiStep status: iteration %d, step = %d", self.iter, self.current_step)
        return float(self.param.base_lr * POLICIES[self.param.lr_policy](self.param, self.iter, self.current_step))

    def step(self, iterations: int) -> float:
        """Train; returns the loss, averaged over the last `average_loss` iterations of this call."""
        self.losses = []
        smoothed = 0.0
        for _ in range(iterations):
            self.net.clear_parameter_diffs()
            if (
                self.test_nets
                and self.iter % self.param.test_interval == 0
                and (self.iter or self.param.test_initialization)
            ):
                self.test()
            loss = 0.0
            for _ in range(self.param.iter_size):
                loss += self.net.forward()
                self.net.backward()
            loss /= self.param.iter_size
            self.losses = [*self.losses, loss][-self.param.average_loss :]
            smoothed = sum(self.losses) / len(self.losses)
            rate = self.rate()
            if self.param.display and self.iter % self.param.display == 0:
                log.info("Iteration %d, loss = %g, lr = %g", self.iter, smoothed, rate)
            self._update(rate)
            self.iter += 1
            if self.param.snapshot and self.iter % self.param.snapshot == 0:
                self.snapshot()
        return smoothed

    def solve(self, resume: Path | str | None = None) -> None:
        """Train up to max_iter; snapshot at the end if the solver says so, and test."""
        if resume is not None:
            self.restore(resume)
        self.step(max(0, self.param.max_iter - self.iter))
        if self.param.snapshot_after_train and not (self.param.snapshot and self.iter % self.param.snapshot == 0):
            self.snapshot()
        if self.test_nets and self.iter % self.param.test_interval == 0:
            self.test()

    def test(self) -> list[dict[str, float]]:
        """Mean outputs of each test net over its test_iter passes."""
        found = []
        for net, passes in zip(self.test_nets, self.param.test_iter, strict=True):
            sums: dict[str, Tensor] = {}
            for _ in range(passes):
                net.forward()
                for name in net.outputs:
                    sums[name] = sums.get(name, 0) + net.cells[name].data
            means = {name: float((total / passes).mean()) for name, total in sums.items()}
            log.info("Iteration %d, Testing net: %s", self.iter, means)
            found.append(means)
        return found

    def _update(self, rate: float) -> None:
        param, cells = self.param, self.net.learnable
        if param.clip_gradients >= 0:
            norm = math.sqrt(sum(float((cell.diff.double() ** 2).sum()) for cell in cells))
            if norm > param.clip_gradients:
                for cell in cells:
                    cell.diff.mul_(param.clip_gradients / norm)
        update = UPDATES[param.type]
        for place, cell in enumerate(cells):
            histories = [history[place] for history in self.histories]
            grad = self._regularized(cell)
            cell.diff.copy_(update(param, grad, histories, rate * float(cell.lr_mult or 0), self.iter))
        for cell in cells:
            cell.data.sub_(cell.diff)

    def _regularized(self, cell: ParameterCell) -> Tensor:
        grad: Tensor = cell.diff / self.param.iter_size
        decay: float = self.param.weight_decay * float(cell.decay_mult or 0)
        if not decay:
            return grad
        return grad + decay * (cell.data if self.param.regularization_type == "L2" else cell.data.sign())

    # ---- snapshots ----

    def snapshot(self) -> Path:
        """Write weights and state; returns the state's path. Raises: DiskFull, Unwritable."""
        hdf5 = self.param.snapshot_format == "HDF5"
        stem = f"{self._prefix()}_iter_{self.iter}"
        weights = Path(f"{stem}.caffemodel{'.h5' if hdf5 else ''}")
        state = Path(f"{stem}.solverstate{'.h5' if hdf5 else ''}")
        write_weights(self.net, weights, diffs=self.param.snapshot_diff)
        flat = [history for kind in self.histories for history in kind]
        if hdf5:
            with written_hdf5(state) as file:
                file["iter"], file["current_step"] = np.int32(self.iter), np.int32(self.current_step)
                file["learned_net"] = str(weights)
                for place, history in enumerate(flat):
                    file.create_dataset(f"history/{place}", data=history.numpy())
        else:
            message = Message("SolverState", iter=self.iter, learned_net=str(weights), current_step=self.current_step)
            message.history = [proto_of(history.numpy()) for history in flat]
            write_binary(message, state)
        return state

    def _prefix(self) -> Path:
        given = self.param.snapshot_prefix
        own = self.path.with_suffix("") if self.path else Path("solver")
        if not given:
            return own
        return Path(given) / own.name if Path(given).is_dir() else Path(given)

    def restore(self, state: Path | str) -> None:
        """Go on from a snapshot. Raises: CaffeError, WeightsError if it is of another net or solver."""
        path = Path(state)
        try:
            hdf5 = is_hdf5(path)
        except OSError as error:
            raise CaffeError("a solver state can be read", f"{path}: {error.strerror}", "check the path") from None
        if hdf5:
            with opened_hdf5(path) as file:
                told = [int(np.asarray(file[name]).ravel()[0]) for name in ("iter", "current_step")]
                learned = np.asarray(file["learned_net"]).ravel()[0]
                kept = file["history"]
                flat = [numbers_of(kept[key], of=f"history {key} of {path}") for key in sorted(kept, key=int)]
            learned = learned.decode("utf-8", "replace") if isinstance(learned, bytes) else str(learned)
            learned = learned.replace("\0", "")
        else:
            message = read_binary(path, "SolverState")
            told, learned = [message.iter, message.current_step], message.learned_net
            flat = [blob_of(one, of=f"history {place} of {path}").data for place, one in enumerate(message.history)]
        wanted = [tuple(history.shape) for kind in self.histories for history in kind]
        if min(told) < 0:
            raise CaffeError("a state's iteration and step are 0 or more", f"{path} has {told}", "take another state")
        if [one.shape for one in flat] != wanted:
            raise WeightsError(
                f"the state has {len(wanted)} histories, of the net's shapes",
                f"{path} has {len(flat)}, or of other shapes",
                "resume with the solver and net that wrote it",
            )
        weights = Path(learned)
        copy_weights(self.net, weights if os.path.isfile(weights) else path.parent / weights.name)
        self.iter, self.current_step = told
        for history, values in zip([one for kind in self.histories for one in kind], flat, strict=True):
            history.copy_(torch.from_numpy(values))


def _merged(phase: str, *states: Message) -> State:
    """A state and what overrides it; stages add up."""
    level, stages = 0, set()
    for one in states:
        phase = one.phase if one.has("phase") else phase
        level = one.level if one.has("level") else level
        stages |= set(one.stage)
    return State(phase, level, frozenset(stages))
