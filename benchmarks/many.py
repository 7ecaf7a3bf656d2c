"""The doctor on very many samples: how many a second, and whether memory stays flat.

python benchmarks/many.py FOLDER [NUMBER ...]      e.g. /tmp/many 10000 100000; samples are made there, and kept

Samples are cut from those of voc-animals at 500x375, turned over, lit differently, saved as JPEG and PNG: no two are
alike. Writes benchmarks/results/many.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from road import DATA
from rows import run

import fullconv as fc

SIZE = (375, 500)
MEASURE = """
import json, resource, sys, time
from fullconv.study.case import read_case
from fullconv.study.rules import findings_of
began = time.perf_counter()
case = read_case(__import__("pathlib").Path(sys.argv[1]))
findings = findings_of(case)
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"seconds": seconds, "peak": peak, "samples": len(case.looks), "findings": [one.sentence for one in findings]}))
"""


def make(folder: Path, number: int) -> None:
    """Make the samples that are not there yet."""
    base = fc.read_samples(DATA / "voc-animals")
    samples = [(one.photo, one.label_map) for one in base.split("all")]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in base.label_space.names))
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_make_one, folder, samples), range(number), chunksize=256))


def _make_one(folder: Path, samples: list[tuple[Path, Path]], index: int) -> None:
    photo, label_map = folder / f"images/{index:06d}.jpg", folder / f"masks/{index:06d}.png"
    if label_map.exists():
        return
    rng = np.random.default_rng(index)
    with Image.open(samples[index % len(samples)][0]) as image, Image.open(samples[index % len(samples)][1]) as labels:
        share = rng.uniform(0.5, 0.8)
        width, height = int(image.width * share), int(image.height * share)
        left, top = int(rng.integers(image.width - width)), int(rng.integers(image.height - height))
        box = (left, top, left + width, top + height)
        pixels = np.asarray(image.convert("RGB").resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR, box), np.float32)
        ids = labels.resize((SIZE[1], SIZE[0]), Image.Resampling.NEAREST, box)
        palette = labels.getpalette()
    lit = (pixels * rng.uniform(0.7, 1.2, 3) + rng.uniform(-20, 20)).clip(0, 255).astype(np.uint8)
    turn = slice(None, None, -1 if rng.random() < 0.5 else 1)
    Image.fromarray(lit[:, turn]).save(photo, quality=85)
    mirrored = Image.fromarray(np.array(ids)[:, turn])
    mirrored.putpalette(palette)
    mirrored.save(label_map)


def measured(folder: Path, number: int) -> dict[str, Any]:
    """Make `number` samples and let the doctor look at them, in a process of its own."""
    root = folder / str(number)
    make(root, number)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(root)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {
        "samples": found["samples"],
        "seconds": round(found["seconds"], 1),
        "samples_a_second": round(found["samples"] / found["seconds"], 1),
        "peak_gb": round(found["peak"][0] / 1e6, 3),
        "peak_gb_of_a_worker": round(found["peak"][1] / 1e6, 3),
        "findings": found["findings"],
    }


if __name__ == "__main__":
    asked = [int(word) for word in sys.argv[2:]] or [10_000, 100_000]
    run("many", {str(number): partial(measured, Path(sys.argv[1]), number) for number in asked}, [])
