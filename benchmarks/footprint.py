"""How much memory does one photo take, and how fast does the command answer?

python benchmarks/footprint.py BUNDLE

Writes benchmarks/results/footprint.json. Peak memory is the resident set of a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from road import DATA, ROOT, git, machine  # type: ignore[import-not-found]

from fullconv.base.files import write_json

PHOTO = DATA / "voc-animals" / "JPEGImages"
PEAK = """
import resource, sys
from fullconv.cli import main

try:
    main(sys.argv[1:])
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def main(bundle: str) -> None:
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
    document = {"commit": git("rev-parse", "--short", "HEAD"), "machine": machine(), "rows": rows}
    write_json(ROOT / "benchmarks" / "results" / "footprint.json", document)


if __name__ == "__main__":
    main(sys.argv[1])
