"""How much memory does one photo take, and how fast does the command answer?

python benchmarks/footprint.py BUNDLE [RUN ...]

Writes benchmarks/results/footprint.json. Peak memory of a photo is the resident set of a process of its own; that of a
run, as run.json has it, adds its largest worker: pages that both share count twice.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from road import DATA, ROOT, git, machine  # type: ignore[import-not-found]

from fullconv.base.files import read_json, write_json

PHOTO = DATA / "voc-animals" / "JPEGImages"
PEAK = """
import resource, sys
from fullconv.cli import main

try:
    main(sys.argv[1:])
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def main(bundle: str, *runs: str) -> None:
    from fullconv.base.images import photo_size

    photo = next(path for path in sorted(PHOTO.glob("*.jpg")) if photo_size(path) == (375, 500))
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "-c", PEAK, "predict", bundle, str(photo), "--out", out],
            capture_output=True,
            text=True,
            check=True,
        )
    peak = int(done.stderr.split("PEAK")[1]) * 1024
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([Path(sys.executable).parent / "fullconv", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    rows = [
        {
            "what": "peak memory, one 500x375 photo segmented",
            "value": f"{peak / 1e9:.2f} GB",
            "bound": "1.5 GB",
            "command": "`fullconv predict BUNDLE PHOTO --out DIR`",
        },
        {
            "what": "seconds of --help, best and median of 7",
            "value": f"{min(seconds):.2f}, {sorted(seconds)[3]:.2f}",
            "bound": "0.5",
            "command": "`fullconv --help`",
        },
    ]
    rows += [memory_of(read_json(Path(run) / "run.json")) for run in runs]
    document = {"commit": git("rev-parse", "--short", "HEAD"), "machine": machine(), "rows": rows}
    write_json(ROOT / "benchmarks" / "results" / "footprint.json", document)


def memory_of(run: dict[str, Any]) -> dict[str, str]:
    asked = run["asked"]
    words = [Path(asked["data"]).name, f"--minutes {asked['minutes']:g}", f"--head {asked['head']}"]
    words += ["--no-classifier"] if asked["no_classifier"] else []
    return {
        "what": "peak memory of a run and its worker",
        "value": f"{run['peak_bytes'] / 1e9:.1f} GB",
        "bound": "8 GB",
        "command": f"`fullconv run {' '.join(words)}`",
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
