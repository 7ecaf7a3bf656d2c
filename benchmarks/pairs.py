"""Does a converted classifier give what Caffe gave, and do derived crops equal those that Caffe derived?

PYTHONPATH=. python benchmarks/pairs.py      writes benchmarks/results/pairs.json

One row a pair of Caffe networks (a classifier, and the same weights fully convolutional), one row a crop. Differences
are relative: the largest over the largest absolute score. Where layers pad, the map differs from the windows in Caffe
too; both figures stand in the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from road import DATA, git, machine
from tests.caffe_pairs import LAYOUTS, PAIRS, Crop, Pair, crops_of, read_pair, relative

from fullconv.base.errors import GeometryError
from fullconv.base.files import read_json, write_json
from fullconv.geometry.geometry import crop_offset
from fullconv.nets.bundle import versions
from fullconv.nets.proof import evaluating, prove
from fullconv.nets.surgery import convolutionalize

GOLDEN = DATA.parent / "caffe-golden"
RESULTS = Path(__file__).parent / "results" / "pairs.json"


def main() -> None:
    rows = [pair_row(read_pair(GOLDEN, name)) for name in PAIRS]
    rows += crop_rows(read_json(GOLDEN / "crop_offsets.json"))
    document = {
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else ""),
        "machine": machine(),
        "versions": versions(),
        "command": "PYTHONPATH=. python benchmarks/pairs.py",
    }
    write_json(RESULTS, document | {"rows": rows})
    for row in rows:
        print(row)


def pair_row(pair: Pair) -> dict[str, Any]:
    made = convolutionalize(pair.scorer, pair.window)
    dense = prove(pair.scorer, made, photos=[pair.photo]).to_json()["dense"]
    with evaluating(made.network), torch.no_grad():
        found = made.network(pair.photo[None])
    caffes, windows = pair.arrays["conv:fc8"], pair.arrays["windows:fc8"][None]
    return {
        "pair": pair.name,
        "window": list(pair.window),
        "padding_inside": pair.pads,
        "at_window": made.proof.at_window.relative_difference,
        "photo": dense["size"],
        "grid": dense["grid"],
        "windows": dense["windows"],
        "to_caffes_map": relative(found, caffes),
        "to_every_window": dense["relative_difference"],
        "to_every_window_in_caffe": relative(caffes, windows),
        "exact": dense["exact"],
        "why": dense["why"],
    }


def crop_rows(recorded: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A crop that is refused has no offset; its shift tells where it would start."""
    for name, layout in LAYOUTS.items():
        crops = crops_of(layout)
        for crop, record in recorded[name].items():
            yield {
                "network": layout.network,
                "layout": name,
                "crop": crop,
                "derived": {"offset": offset(crops[crop]), "shift": crops[crop].shift[0]},
                "recorded": {"offset": record.get("offset", [None])[0], "shift": record["shift"][0]},
            }


def offset(crop: Crop) -> int | None:
    try:
        return crop_offset(crop.larger, crop.reference)[0]
    except GeometryError:
        return None


if __name__ == "__main__":
    main()
