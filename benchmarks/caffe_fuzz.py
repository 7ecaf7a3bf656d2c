"""Bytes that nobody wrote, given to the readers of Caffe's files: does each end in one of our errors?

python benchmarks/caffe_fuzz.py SECONDS [TARGET ...]      needs atheris

Each target is run for SECONDS by a process of its own, one thread, from the small files that the original Caffe wrote
("nets": from random bytes, which choose layers and parameters). A finding is an error that is none of ours, an input
that takes more than 5 seconds, or one that takes more than 300 MB beyond all before it; one a place in the code. Writes
benchmarks/results/caffe_fuzz.json.
"""

from __future__ import annotations

import json
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fullconv.base.errors import FullconvError, UsageError

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "caffe-golden"
SECONDS_EACH, BYTES_EACH = 5, 300_000_000
LONGEST = 30_000  # bytes of an input; larger files begin no corpus
BETWEEN = b"\0"  # the text and the weights, which it cannot hold
MOST = 1 << 16  # numbers in a blob, of nets that are built
Target = Callable[[bytes], Any]


# ---- targets: run in a process of their own, where atheris follows the code ------------------------------------------


def binary(folder: Path) -> Target:
    """All that is read from protobuf's wire format."""
    from fullconv.caffe.blobs import read_mean
    from fullconv.caffe.weights import read_weights
    from fullconv.caffe.wire import parse_binary

    path = folder / "file"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for one in (read_weights, read_mean):
            tried(one, path)
        for kind in ("SolverState", "Datum", "SolverParameter"):
            tried(parse_binary, data, kind)

    return read


def text(folder: Path) -> Target:
    """Prototxt of nets and of solvers."""
    from fullconv.caffe.prototxt import read_prototxt

    path = folder / "file"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for kind in ("NetParameter", "SolverParameter"):
            tried(read_prototxt, path, kind)

    return read


def both(folder: Path) -> Target:
    """Nets of small blobs, built, with weights copied and written."""
    small_blobs()
    from fullconv.caffe.graph import Graph
    from fullconv.caffe.prototxt import parse_prototxt
    from fullconv.caffe.rules import State
    from fullconv.caffe.weights import as_message, copy_weights

    path = folder / "file"

    def build(data: bytes) -> None:
        words, _, weights = data.partition(BETWEEN)
        path.write_bytes(weights)
        net = parse_prototxt(words.decode("utf-8", "ignore"))
        for phase in ("TEST", "TRAIN"):
            graph = Graph(net, State(phase), folder=folder)
            tried(graph.reshape)
            tried(copy_weights, graph, path)
            tried(as_message, graph)

    return partial(tried, build)


def nets(folder: Path) -> Target:
    """Nets of layers and parameters drawn from the bytes: built, and run forward and backward."""
    small_blobs()
    from fullconv.caffe.graph import Graph
    from fullconv.caffe.rules import State

    def run(data: bytes) -> None:
        net = drawn_net(Draw(data))
        for phase in ("TEST", "TRAIN"):
            tried(built_and_run, Graph, net, State(phase), folder)

    return run


def built_and_run(graph_of: Any, net: Any, state: Any, folder: Path) -> None:
    graph = graph_of(net, state, folder=folder)
    graph.reshape()
    graph.forward()
    graph.backward()


def small_blobs() -> None:
    import torch

    import fullconv.caffe.layer

    fullconv.caffe.layer.MOST = MOST  # before those that take it from there
    torch.set_num_threads(1)
    logging.disable()


TARGETS = {"binary": binary, "text": text, "both": both, "nets": nets}


# ---- nets drawn from bytes: of each layer type, with parameters of its own message -----------------------------------

INPUTS = [[1, 3, 8, 8], [2, 4, 6, 5], [1, 2], [3], [], [2, 3, 4], [1, 1, 1, 1], [0, 3, 4, 4], [4, 2], [1, 2, 3, 4, 5]]
WHOLE = [0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 16, -1, -2, 100, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63)]
REAL = [0.0, 1.0, -1.0, 0.5, 2.0, 1e-9, 1e30, float("inf"), float("nan")]
TEXTS = [
    "t0",
    "t1",
    "i0",
    "",
    "constant",
    "gaussian",
    "xavier",
    "msra",
    "bilinear",
    "uniform",
    "positive_unitball",
    "{}",
]
RANGES = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1)}
SHARED = {"Deconvolution": "convolution", "Im2col": "convolution", "LSTM": "recurrent", "RNN": "recurrent"}


class Draw:
    """Choices by the bytes of an input, the first of each kind where they are used up."""

    def __init__(self, data: bytes) -> None:
        self.bytes = iter(data)

    def one(self, of: Sequence[Any]) -> Any:
        return of[next(self.bytes, 0) % len(of)]

    def happens(self, share: float) -> bool:
        return next(self.bytes, 255) < 256 * share


def drawn_net(draw: Draw) -> Any:
    from fullconv.caffe.kinds import LAYERS
    from fullconv.caffe.message import Message
    from fullconv.caffe.schema import MESSAGES

    blobs = [f"i{place}" for place in range(draw.one([1, 2, 2, 3]))]
    shapes = [draw.one(INPUTS)]
    shapes += [draw.one(INPUTS) if draw.happens(0.5) else shapes[0] for _ in blobs[1:]]
    given = Message("InputParameter", shape=[Message("BlobShape", dim=list(shape)) for shape in shapes])
    layers = [Message("LayerParameter", name="in", type="Input", top=list(blobs), input_param=given)]
    fields = MESSAGES["LayerParameter"]
    for number in range(draw.one([1, 1, 2, 3, 5])):
        kind = draw.one(sorted(LAYERS))
        layer = Message("LayerParameter", name=f"l{number}", type=kind)
        if draw.happens(0.9) and LAYERS[kind].bottoms != (0, 0):
            layer.bottom = [draw.one(blobs) for _ in range(draw.one([1, 1, 1, 2, 2, 3]))]
        layer.top = [f"t{number}{one}" if draw.happens(0.85) else draw.one(blobs) for one in draw.one(["a", "a", "ab"])]
        own = SHARED.get(kind, kind).lower()
        for name, field in fields.items():
            likely = 0.9 if name.removesuffix("_param").replace("_", "") == own else 0.03
            likely = 0.9 if kind.endswith("Loss") and name in ("loss_param", "softmax_param") else likely
            if field.is_message and name != "blobs" and draw.happens(likely):
                put(layer, field, draw)
        for name in ("loss_weight", "propagate_down"):
            if draw.happens(0.06):
                put(layer, fields[name], draw)
        layers.append(layer)
        blobs += [top for top in layer.top if top not in blobs]
    return Message("NetParameter", name="n", layer=layers, force_backward=draw.happens(0.2))


def put(into: Any, field: Any, draw: Draw) -> None:
    values = [drawn(field, draw) for _ in range(draw.one([1, 1, 2, 3]) if field.repeated else 1)]
    setattr(into, field.name, values if field.repeated else values[0])


def drawn(field: Any, draw: Draw) -> Any:
    from fullconv.caffe.message import Message
    from fullconv.caffe.schema import ENUMS, MESSAGES

    if field.is_message:
        found = Message(field.kind)
        for one in MESSAGES[field.kind].values():
            if one.required or draw.happens(0.4):
                put(found, one, draw)
        return found
    if field.is_enum:
        return draw.one(list(ENUMS[field.kind]))
    if field.kind in RANGES:
        low, high = RANGES[field.kind]
        return min(max(draw.one(WHOLE), low), high)
    return draw.one({"float": REAL, "double": REAL, "bool": [False, True]}.get(field.kind, TEXTS))


def tried(what: Callable[..., Any], *arguments: Any) -> None:
    try:
        what(*arguments)
    except FullconvError as error:
        if not (error.must and error.found and error.try_) or len(str(error)) > 5000:
            raise AssertionError(f"an error without its three lines, or a long one: {str(error)[:200]}") from error


def corpus(target: str) -> Iterator[bytes]:
    """What a target's inputs are made from."""
    small = [path for path in sorted(GOLDEN.rglob("*")) if path.is_file() and path.stat().st_size < LONGEST]
    if target == "binary":
        ends = (".caffemodel", ".solverstate", ".binaryproto", "datum.bin")
        yield from (path.read_bytes() for path in small if path.name.endswith(ends))
    elif target == "text":
        yield from (path.read_bytes() for path in small if path.suffix == ".prototxt")
        for case in json.loads((GOLDEN / "refuse" / "cases.json").read_text())["cases"]:
            yield (case["prototxt"] + case.get("solver", "")).encode()
    elif target == "nets":
        yield from (random.Random(seed).randbytes(300) for seed in range(400))
    else:
        for path in small:
            if path.suffix == ".prototxt":
                weights = path.with_suffix(".caffemodel")
                yield path.read_bytes() + BETWEEN + (weights.read_bytes() if weights in small else b"")


# ---- a process of one target -----------------------------------------------------------------------------------------


def fuzz(target: str, seconds: int, folder: Path) -> None:
    """Run a target until the time is over; findings go to FOLDER/findings, a line each."""
    import resource

    import atheris

    with atheris.instrument_imports(include=["fullconv.caffe"]):
        run = TARGETS[target](folder)
    seen: set[str] = set()
    peak = 0

    def one(data: bytes) -> None:
        nonlocal peak
        began, found = time.perf_counter(), None
        try:
            run(data)
        except Exception as error:
            at = [one for one in traceback.extract_tb(error.__traceback__) if "fullconv" in one.filename][-1]
            found = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {str(error)[:200]}"
        spent = time.perf_counter() - began
        before, peak = peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if found is None and spent > SECONDS_EACH:
            found = f"{spent:.1f} s"
        if found is None and before and peak - before > BYTES_EACH:
            found = f"{(peak - before) / 1e6:.0f} MB"
        if found is not None and (place := found.split(": ")[0]) not in seen:
            seen.add(place)
            (folder / f"finding-{len(seen)}").write_bytes(data)
            with (folder / "findings").open("a") as file:
                file.write(json.dumps(found) + "\n")

    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=60", "-rss_limit_mb=6000"]
    atheris.Setup(
        ["fuzz", str(folder / "corpus"), *limits, f"-artifact_prefix={folder}/", "-print_final_stats=1", "-seed=1"], one
    )
    atheris.Fuzz()


# ---- the figures -----------------------------------------------------------------------------------------------------


def measured(target: str, seconds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        (folder / "corpus").mkdir()
        for place, data in enumerate(corpus(target)):
            (folder / "corpus" / f"{place:04}").write_bytes(data)
        begun_with = len(list((folder / "corpus").iterdir()))
        words = [sys.executable, __file__, "--target", target, str(seconds), given]
        done = subprocess.run(words, capture_output=True, text=True)
        said = re.findall(r"stat::number_of_executed_units: *(\d+)", done.stderr)
        if not said:
            print(done.stderr[-3000:], file=sys.stderr)
        found = [json.loads(line) for line in lines(folder / "findings")]
        if done.returncode:
            found.append(f"the process ended with {done.returncode}: {done.stderr[-200:]}")
        for path in folder.glob("finding-*"):
            print(path.name, path.read_bytes())
        covered = re.findall(r"cov: (\d+)", done.stderr)
        return {
            "seconds": seconds,
            "begun_with": begun_with,
            "executions": int(said[-1]) if said else 0,
            "covered": int(covered[-1]) if covered else 0,
            "findings": found,
        }


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def main(words: list[str]) -> None:
    if words[:1] == ["--target"]:
        fuzz(words[1], int(words[2]), Path(words[3]))
    if not words or not words[0].isdigit() or not set(words[1:]) <= set(TARGETS):
        raise UsageError("SECONDS, then targets", " ".join(words) or "nothing", f"60 {' '.join(TARGETS)}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        raise UsageError("inputs are made by atheris", "it is not installed", "pip install atheris") from None
    import rows

    rows.run("caffe_fuzz", {name: partial(measured, name, int(words[0])) for name in TARGETS}, words[1:])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FullconvError as error:
        sys.exit(str(error))
