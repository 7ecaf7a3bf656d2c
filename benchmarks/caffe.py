"""Caffe files beside OpenCV's importer, which still reads them: the same scores, seconds, and memory.

python benchmarks/caffe.py FOLDER [CASE ...]      weights are made in FOLDER, and kept

Needs opencv-python-headless < 5, onnxruntime, and a quiet machine. The FCN authors' voc-fcn8s at full width with random
weights (540 MB), two threads. Each way runs in a process of its own for its memory and its first pass, and in turns with
the others in one process for its seconds. `trained` trains the same layout, a quarter as wide, on camvid by the Caffe
solver (half an hour; it goes on where it was stopped). Writes benchmarks/results/caffe.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rows
import torch
from caffe_ways import THREADS, WAYS, photo_of
from road import DATA

from fullconv.base.images import read_photo
from fullconv.caffe.engine import Engine
from fullconv.caffe.graph import Graph
from fullconv.caffe.message import Message
from fullconv.caffe.onnx_file import write_onnx
from fullconv.caffe.prototxt import read_prototxt
from fullconv.caffe.solver import Solver
from fullconv.caffe.weights import copy_weights, write_weights
from fullconv.data.read import read_samples
from fullconv.nets.caffe_network import CAFFE_PHOTO

PROTOTXT = DATA / "caffe-models/fcn-prototxt/voc-fcn8s/deploy.prototxt"
GOLDEN = DATA.parent / "caffe-golden"
SIZE, OTHER_SIZE = (500, 375), (334, 500)
NARROW = 4  # times narrower than the authors' net is the one that is trained
ITERATIONS = 3000
CLASSES = 11


def off(found: np.ndarray, true: np.ndarray) -> float:
    """The largest difference, as a share of the largest number."""
    largest = np.abs(true).max(initial=0) or 1
    return float(f"{np.abs(found - true).max(initial=0) / largest:.2g}")


# ---- full width -----------------------------------------------------------------------------------------------------


def made(folder: Path) -> Path:
    """A .caffemodel of random weights that keep the scores' size from layer to layer; deconvolutions are bilinear, as
    the authors' are. The ONNX file of the same net lies beside it.
    """
    path = folder / "voc-fcn8s.caffemodel"
    if not path.exists():
        graph = Graph(read_prototxt(PROTOTXT))
        draw = torch.Generator().manual_seed(0)
        for node in graph.nodes:
            for cell in node.blobs:
                cell.data = 0.1 * torch.randn(cell.shape, generator=draw)
                if len(cell.shape) == 4:
                    cell.data *= 10 * (2 / np.prod(cell.shape[1:])) ** 0.5
            if node.layer.param.type == "Deconvolution":
                side = node.blobs[0].shape[2]
                ramp = 1 - (torch.arange(side) - (side - 1) / 2).abs() / (side // 2)
                node.blobs[0].data = torch.eye(21)[:, :, None, None] * ramp[:, None] * ramp
        write_onnx(graph, path.with_suffix(".onnx"))
        write_weights(graph, path)
    return path


def in_double(photo: np.ndarray, weights: Path) -> np.ndarray:
    """The scores, layer by layer in float64."""
    graph = Graph(read_prototxt(PROTOTXT))
    copy_weights(graph, weights)
    for cell in graph.learnable:
        cell.data = cell.data.double()
    graph.cells["data"].data = torch.from_numpy(photo).double()
    graph.reshape()
    graph.forward()
    found: np.ndarray = graph.cells["score"].data.numpy()
    return found


def cached(path: Path) -> Path:
    """The file, after its bytes were read once: what is measured is no disk."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    return path


def alone(way: str, weights: Path) -> dict[str, float]:
    script = Path(__file__).with_name("caffe_ways.py")
    sizes = map(str, (*SIZE, *OTHER_SIZE))
    ran = subprocess.run(
        [sys.executable, str(script), way, str(PROTOTXT), str(cached(weights)), *sizes], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def fcn8s(folder: Path) -> dict[str, Any]:
    weights = made(folder)
    apart = {way: alone(way, weights) for way in WAYS}
    photo = photo_of(SIZE)
    true = in_double(photo, weights)
    runs = {way: partial(make(PROTOTXT, weights), photo) for way, make in WAYS.items()}
    offs = {way: off(run(), true) for way, run in runs.items()}
    seconds = dict(zip(runs, rows.in_turns(*runs.values(), rounds=9), strict=True))
    return {
        "threads": THREADS,
        "bytes": weights.stat().st_size,
        "ways": {way: {"seconds": rows.summary(seconds[way]), "off": offs[way]} | apart[way] for way in WAYS},
        "of_opencv": {way: ratio(seconds[way], seconds["OpenCV"]) for way in WAYS},
    }


def ratio(one: list[float], other: list[float]) -> float:
    """The median of a way's seconds as a share of another's in the same turn."""
    return round(float(np.median(np.array(one) / np.array(other))), 3)


READING = """
import sys
from pathlib import Path
from caffe_ways import peak_gb, seconds_of
what, prototxt, weights = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
if what == "OpenCV":
    import cv2
    read = lambda: cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
else:
    from fullconv.caffe.graph import Graph
    from fullconv.caffe.prototxt import read_prototxt
    from fullconv.caffe.weights import copy_weights, read_weights
    read = lambda: copy_weights(Graph(read_prototxt(prototxt)), weights) if what == "net" else read_weights(weights)
before, held = peak_gb(), []
print(seconds_of(lambda: held.append(read())), (peak_gb() - before) * 1e9)
"""


def reading(folder: Path) -> dict[str, Any]:
    """The file alone: seconds, best of five processes in turns; memory over what the process had before, by its size."""
    weights = made(folder)
    found: dict[str, list[tuple[float, float]]] = {"arrays": [], "net": [], "OpenCV": []}
    for _ in range(5):
        for what, measured in found.items():
            words = [sys.executable, "-c", READING, what, str(PROTOTXT), str(cached(weights))]
            ran = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
            spent, grown = map(float, ran.stdout.split())
            measured.append((spent, round(grown / weights.stat().st_size, 3)))
    ways = {
        what: {"seconds": rows.summary([one for one, _ in measured]), "of_size": max(size for _, size in measured)}
        for what, measured in found.items()
    }
    return {"ways": ways, "bytes": weights.stat().st_size}


# ---- real files -----------------------------------------------------------------------------------------------------

# Prototxt, weights, and what the input is of a photo: three channels or one of grey, size, mean, scale.
REAL = {
    "MTCNN det1": ("mtcnn/det1", "mtcnn/det1", 3, (120, 160), 127.5, 1 / 128),
    "MTCNN det2": ("mtcnn/det2", "mtcnn/det2", 3, (24, 24), 127.5, 1 / 128),
    "MTCNN det3": ("mtcnn/det3", "mtcnn/det3", 3, (48, 48), 127.5, 1 / 128),
    "LeNet": ("lenet/lenet", "lenet/lenet_iter_10000", 1, (28, 28), 0.0, 1 / 256),
    "WeChat sr": ("wechat-qr/sr", "wechat-qr/sr", 1, (90, 120), 0.0, 1 / 255),
}


def real_files(folder: Path) -> dict[str, Any]:
    """Trained nets on real photos: the largest difference from OpenCV; and from a file that we wrote, read by OpenCV."""
    from PIL import Image

    photos = [Image.fromarray(read_photo(path)) for path in sorted((DATA / "article").glob("*.jpg"))]
    photos += [Image.fromarray(read_photo(path)) for path in sorted((DATA / "camvid/val").iterdir())[:10]]
    nets = {}
    for name, (text, numbers, channels, (height, width), mean, scale) in REAL.items():
        prototxt, weights = DATA / f"caffe-models/{text}.prototxt", DATA / f"caffe-models/{numbers}.caffemodel"
        again = written_again(prototxt, weights, folder)
        worst = {"opencv": 0.0, "written": 0.0}
        for photo in photos:
            resized = photo.convert("RGB" if channels == 3 else "L").resize((width, height), Image.Resampling.BILINEAR)
            given = ((np.asarray(resized, np.float32).reshape(height, width, channels) - mean) * scale).transpose(2, 0, 1)
            ours, theirs, theirs_of_ours = outputs(prototxt, weights, again, np.ascontiguousarray(given[None]))
            for blob in ours:
                worst["opencv"] = max(worst["opencv"], off(ours[blob], theirs[blob]))
                worst["written"] = max(worst["written"], float(np.abs(theirs_of_ours[blob] - theirs[blob]).max()))
        nets[name] = worst
    return {"photos": len(photos), "nets": nets, "golden": golden_nets(folder)}


def written_again(prototxt: Path, weights: Path, folder: Path) -> Path:
    """The weights as we write them."""
    graph = Graph(read_prototxt(prototxt))
    copy_weights(graph, weights)
    path = folder / f"again_{weights.name}"
    write_weights(graph, path)
    return path


def golden_nets(folder: Path) -> dict[str, Any]:
    """Nets that Caffe wrote, as far as OpenCV runs them: OpenCV's outputs from its file and from ours."""
    import cv2

    equal, refused = {}, []
    for prototxt in sorted((GOLDEN / "nets").glob("*.prototxt")):
        weights, kept = prototxt.with_suffix(".caffemodel"), prototxt.with_suffix(".a.npz")
        if not (weights.exists() and kept.exists()):
            continue
        given = {key[6:]: values for key, values in np.load(kept).items() if key.startswith("input:")}
        found = []
        for file in (weights, written_again(prototxt, weights, folder)):
            try:
                net = cv2.dnn.readNetFromCaffe(str(prototxt), str(file))
                for blob, values in given.items():
                    net.setInput(values, blob)
                found.append(net.forward(net.getUnconnectedOutLayersNames()))
            except cv2.error:
                found.append(None)
        if found[0] is None:
            refused.append(prototxt.stem)
        else:
            equal[prototxt.stem] = found[1] is not None and all(map(np.array_equal, *found))
    return {"equal": sum(equal.values()), "of": len(equal), "not_run": refused}


def outputs(prototxt: Path, weights: Path, again: Path, photo: np.ndarray) -> list[dict[str, np.ndarray]]:
    """A net's outputs by us, by OpenCV, and by OpenCV from the weights that we wrote."""
    import cv2

    import fullconv.caffe as caffe

    net = caffe.Net(prototxt, weights, caffe.TEST)
    net.blobs["data"].reshape(*photo.shape)
    found = [net.forward(data=photo)]
    for file in (weights, again):
        theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(file))
        theirs.setInput(photo)
        names = list(found[0])
        found.append(dict(zip(names, theirs.forward(names), strict=True)))
    return found


# ---- what Caffe computed --------------------------------------------------------------------------------------------


def golden(_: Path) -> dict[str, Any]:
    """Our numbers beside those that Caffe itself computed: how many arrays, and the largest difference in any."""
    import fullconv.caffe as caffe

    found: dict[str, list[float]] = {"layers forward": [], "layers backward": [], "nets": [], "trainings": []}
    for case in json.loads((GOLDEN / "layers/index.json").read_text())["cases"]:
        kept = np.load(GOLDEN / f"layers/{case['name']}.npz")
        net = caffe.Net(GOLDEN / f"layers/{case['name']}.prototxt", getattr(caffe, case["phase"]))
        for kind, name, place, values in keyed(kept):
            if kind == "bottom":
                net.blobs[name].reshape(*values.shape)
                net.blobs[name].data[...] = values
            elif kind == "param":
                net.params[name][place].data[...] = values
        if case["name"] == "dropout_train_shape":  # its mask is drawn
            continue
        net.forward()
        found["layers forward"] += [off(net.blobs[name].data, values) for kind, name, _, values in keyed(kept) if kind == "top"]
        if case["backward"]:
            for kind, name, _, values in keyed(kept):
                if kind == "topdiff":
                    net.blobs[name].diff[...] = values
            net.clear_param_diffs()
            net.backward()
            for kind, name, place, values in keyed(kept):
                if kind in ("bottomdiff", "paramdiff"):
                    blob = net.blobs[name] if kind == "bottomdiff" else net.params[name][place]
                    found["layers backward"].append(off(blob.diff, values))
    for path in sorted((GOLDEN / "nets").glob("*.[ab].npz")):
        name = path.name.split(".")[0]
        net = caffe.Net(GOLDEN / f"nets/{name}.prototxt", GOLDEN / f"nets/{name}.caffemodel", caffe.TEST)
        kept = np.load(path)
        for kind, blob, _, values in keyed(kept):
            if kind == "input":
                net.blobs[blob].reshape(*values.shape)
                net.blobs[blob].data[...] = values
        net.forward()
        for kind, blob, _, values in keyed(kept):
            if kind in ("blob", "sample"):
                ours = net.blobs[blob].data
                places = np.linspace(0, ours.size - 1, values.size).astype(np.int64)
                found["nets"].append(off(ours.ravel()[places] if kind == "sample" else ours, values))
    found["trainings"] = [one for run in json.loads((GOLDEN / "training/index.json").read_text())["runs"] for one in trained_as(run)]
    return {name: {"arrays": len(each), "worst": max(each)} for name, each in found.items()}


def keyed(kept: Any) -> list[tuple[str, str, int, np.ndarray]]:
    """(kind, name, place, values) of a file of arrays."""
    found = []
    for key, values in kept.items():
        kind, _, rest = key.partition(":")
        name, _, place = rest.partition(":")
        found.append((kind, name, int(place or 0), values))
    return found


def trained_as(run: dict[str, Any]) -> list[float]:
    """How far parameters are from Caffe's at each of a training's marks."""
    folder = GOLDEN / "training"
    kept = np.load(folder / f"{run['name']}.npz")
    found = []
    with chdir(folder):
        solver = Solver(folder / f"{run['name']}.solver.prototxt")
        solver.param.snapshot = 0
        copy_weights(solver.net, folder / f"{run['name']}.init.caffemodel")
        for iteration in range(run["iterations"]):
            for blob in {"data", "label"} & set(solver.net.inputs):
                solver.net.cells[blob].data = torch.from_numpy(kept[blob][iteration % run["batches"]])
            solver.step(1)
            for kind, name, place, values in keyed(kept):
                if kind == f"it{iteration + 1}":
                    found.append(off(solver.net.parameters[name][place].data.numpy(), values))
    return found


# ---- a trained net --------------------------------------------------------------------------------------------------


def narrowed(*, deploy: bool) -> Message:
    """The authors' net with layers a quarter as wide and the classes of camvid; with a loss, where it is to be trained."""
    net = read_prototxt(PROTOTXT)
    for layer in net.layer:
        if layer.type in ("Convolution", "Deconvolution"):
            param = layer.convolution_param
            scores = param.num_output == 21
            param.num_output = CLASSES if scores else param.num_output // NARROW
            param.weight_filler = Message("FillerParameter", type="constant" if scores else "msra")
            if layer.name == "conv1_1":  # photos have numbers of about 60
                param.weight_filler = Message("FillerParameter", type="gaussian", std=(2 / 27) ** 0.5 / 60)
            if layer.type == "Deconvolution":
                param.group, param.weight_filler.type = CLASSES, "bilinear"
    if not deploy:
        label = Message("LayerParameter", name="label", type="Input", top=["label"])
        label.input_param = Message("InputParameter", shape=[Message("BlobShape", dim=[1, 1, 500, 500])])
        loss = Message("LayerParameter", name="loss", type="SoftmaxWithLoss", bottom=["score", "label"], top=["loss"])
        loss.loss_param = Message("LossParameter", ignore_label=255, normalize=True)
        net.layer = [label, *net.layer, loss]
    return net


def photo_and_labels(sample: Any) -> tuple[np.ndarray, np.ndarray]:
    """(1, 3, H, W) as Caffe's nets read it, and (H, W) with 255 for no class."""
    photo, labels = sample.read()
    return CAFFE_PHOTO.prepare(photo)[None].numpy(), np.where(labels < CLASSES, labels, 255)


def training(folder: Path) -> Path:
    """The weights after all iterations."""
    last = folder / f"narrow_iter_{ITERATIONS}.caffemodel"
    if last.exists():
        return last
    solver = Solver(
        Message(
            "SolverParameter",
            type="Adam",
            base_lr=3e-4,
            momentum=0.9,
            momentum2=0.999,
            lr_policy="poly",
            power=0.9,
            max_iter=ITERATIONS,
            snapshot=250,
            snapshot_prefix=str(folder / "narrow"),
            random_seed=0,
            net_param=narrowed(deploy=False),
        )
    )
    states = sorted(folder.glob("narrow_iter_*.solverstate"), key=lambda path: int(path.stem.split("_")[-1]))
    if states:
        solver.restore(states[-1])
    samples = read_samples(DATA / "camvid").train
    while solver.iter < ITERATIONS:
        order = np.random.default_rng(solver.iter // len(samples)).permutation(len(samples))
        photo, labels = photo_and_labels(samples[order[solver.iter % len(samples)]])
        flip = slice(None, None, -1 if np.random.default_rng(solver.iter).random() < 0.5 else 1)
        solver.net.cells["data"].data = torch.from_numpy(photo[..., flip].copy())
        solver.net.cells["label"].data = torch.from_numpy(labels[None, None][..., flip].astype(np.float32))
        solver.net.reshape()
        loss = solver.step(1)
        if solver.iter % 50 == 0:
            print(solver.iter, round(loss, 3), flush=True)
    return last


def trained(folder: Path) -> dict[str, Any]:
    """bfloat16 on a trained net of the authors' layout: the scores' error, and the share of pixels of one class."""
    weights = training(folder)
    graph = Graph(narrowed(deploy=True))
    copy_weights(graph, weights)
    engines = {"fp32": Engine(graph), "bf16": Engine(graph, torch.bfloat16)}
    counts = {precision: np.zeros((CLASSES, CLASSES), np.int64) for precision in engines}
    same, errors, pixels = 0, [], 0
    for sample in read_samples(DATA / "camvid").val:
        photo, labels = photo_and_labels(sample)
        scores = {
            precision: engine.run([torch.from_numpy(photo)])["score"][0].numpy() for precision, engine in engines.items()
        }
        classes = {precision: one.argmax(0) for precision, one in scores.items()}
        same += int((classes["fp32"] == classes["bf16"]).sum())
        pixels += labels.size
        errors.append(np.abs(scores["bf16"] - scores["fp32"]).max() / np.abs(scores["fp32"]).max())
        known = labels < CLASSES
        for precision, found in classes.items():
            pairs = labels[known].astype(np.int64) * CLASSES + found[known]
            counts[precision] += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    ious = {
        precision: float((np.diag(one) / (one.sum(0) + one.sum(1) - np.diag(one))).mean())
        for precision, one in counts.items()
    }
    return {
        "iterations": ITERATIONS,
        "photos": len(errors),
        "same_class": round(same / pixels, 5),
        "off": {"worst": round(float(max(errors)), 4), "median": round(float(np.median(errors)), 4)},
        "mean_iou": {precision: round(one, 4) for precision, one in ious.items()},
    }


if __name__ == "__main__":
    given = Path(sys.argv[1])
    given.mkdir(parents=True, exist_ok=True)
    cases = {"golden": golden, "voc-fcn8s": fcn8s, "reading": reading, "real files": real_files, "trained": trained}
    rows.run("caffe", {case: partial(work, given) for case, work in cases.items()}, sys.argv[2:])
