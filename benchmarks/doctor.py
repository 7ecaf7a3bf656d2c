"""What the doctor finds: faults planted in real samples, and what it says about the samples as they are.

python benchmarks/doctor.py [CASE ...]      e.g. voc-animals camvid; none: all, one after another

Writes benchmarks/results/doctor.json.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from plant import plant
from road import DATA
from rows import run

from fullconv.study.case import read_case
from fullconv.study.rules import findings_of

STRUCTURAL = {
    "leak": ("leak",),
    "binary_255": ("binary_255",),
    "exif_rotation": ("exif_rotation",),
    "jpeg_mask": ("jpeg_mask", "antialiased_mask"),
}


def planted(name: str, seed: int) -> dict[str, Any]:
    """Faults planted and found, kind by kind; the findings of the clean set for comparison."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        clean = findings_of(read_case(DATA / name))
        seconds = time.perf_counter() - began
        truth = plant(DATA / name, Path(folder) / name, seed=seed)
        case = read_case(Path(folder) / name)
        found = findings_of(case)
    usual = {(one.kind, sample) for one in clean for sample in one.samples}
    rows = {}
    for kind, kinds in STRUCTURAL.items():
        said = {sample for one in found if one.kind in kinds for sample in one.samples}
        wanted = set(truth.samples[kind])
        rows[kind] = {"planted": len(wanted), "found": len(wanted & said), "missed": sorted(wanted - said)}
    spoiled = {sample for names in truth.samples.values() for sample in names}
    alarms = sorted(
        f"{one.kind} {sample}"
        for one in found
        for sample in one.samples
        if (one.kind, sample) not in usual and sample not in spoiled and not sample.startswith("copy_")
    )
    return {
        "set": name,
        "seed": seed,
        "samples": len(case.looks),
        "seconds": round(seconds, 1),
        "kinds": rows,
        "false_alarms": alarms,
        "clean": [
            {"kind": one.kind, "severity": one.severity, "samples": len(one.samples), "sentence": one.sentence}
            for one in clean
        ],
    }


CASES = {f"{name} {seed}": partial(planted, name, seed) for name in ("voc-animals", "camvid") for seed in (0, 1)}


if __name__ == "__main__":
    run("doctor", CASES, sys.argv[1:])
