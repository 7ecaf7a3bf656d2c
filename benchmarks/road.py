"""What does the whole road give on real photos, in the minutes given?

python benchmarks/road.py RUNS CASE ...      runs the cases into RUNS/CASE, one after another (resumable)
python benchmarks/road.py RUNS               names the cases

For a quiet machine. Writes benchmarks/results/road.json: one row a case; rows of other cases and machines stay, with
their commit.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fullconv.base.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "road.json"
ANIMALS = [
    "voc-animals",
    "--classes",
    "background,cat,cow,dog,horse,person,sheep",
    "--others",
    "void",
]
FOLDERS = ["--classifier-data", "animals-classification"]
SEEDS = {  # the final figures, repeated: CASE-seed-N
    "camvid-sharp": ["run", "camvid", "--minutes", "20"],
    "camvid-5-minutes": ["run", "camvid", "--minutes", "5"],
    "voc-animals": ["run", *ANIMALS, "--minutes", "20", *FOLDERS],
}
CASES = {
    "demo": ["demo"],
    **SEEDS,
    **{f"{case}-seed-{seed}": [*words, "--seed", str(seed)] for case, words in SEEDS.items() for seed in (1, 2)},
    "camvid-8s": ["run", "camvid", "--minutes", "20", "--head", "8s"],
    "voc-animals-5-minutes": ["run", *ANIMALS, "--minutes", "5", *FOLDERS],
    "voc-animals-random": ["run", *ANIMALS, "--minutes", "20", *FOLDERS, "--weights", "none"],
    "voc-animals-no-classifier": ["run", *ANIMALS, "--minutes", "20", "--no-classifier"],
    "human-seg": ["run", "human-seg", "--minutes", "5"],
}


def main(runs: Path, cases: list[str]) -> None:
    for case in cases:
        row = measured(runs / case, CASES[case])
        document = read_json(RESULTS) if RESULTS.exists() else {"rows": []}
        rows = beside(document["rows"], {"case": case} | row)
        order = list(CASES)
        write_json(RESULTS, {"rows": sorted(rows, key=lambda one: order.index(one["case"]))})
        print(json.dumps({"case": case} | row)[:400], flush=True)


def beside(old: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The old rows, but for that of the same case on the same machine, and this one."""
    return [one for one in old if (one["case"], one["machine"]) != (row["case"], row["machine"])] + [row]


def measured(out: Path, words: list[str]) -> dict[str, Any]:
    """Run the command (it goes on where it was stopped) and read what it left."""
    began = time.perf_counter()
    command = ["fullconv", *words, "--out", out.name]
    full = [str(DATA / word) if (DATA / word).is_dir() and word != "demo" else word for word in command[1:-1]]
    subprocess.run([sys.executable, "-m", "fullconv", *full, str(out)], check=True)
    seconds = time.perf_counter() - began
    folder = out / "run" if words == ["demo"] else out
    run, classifier = read_json(folder / "run.json"), folder / "classifier"
    return {
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else ""),
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(command),
        "machine": machine(),
        "versions": run["versions"],
        "command_seconds": round(seconds, 1),
        "seconds": run["seconds"],
        "peak_bytes": run["peak_bytes"],
        "stages": run["stages"],
        "baselines": run["baselines"],
        "scores": {
            name: read_json(folder / "bundle" / "card.json")["scores"][name]
            for name in ("images", "mean_iou", "mean_iou_interval", "pixel_accuracy")
        },
        "classes": {one["name"]: one["iou"] for one in read_json(folder / "bundle" / "card.json")["scores"]["classes"]},
        "classifier": summary(classifier / "scores.json"),
        "proof": read_json(classifier / "proof.json")["at_window"],
        "pace": pace(folder, run),
    }


def summary(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    scores = read_json(path)
    return {"kind": scores["kind"], "images": scores["images"], "accuracy": scores["accuracy"]}


def pace(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Images a second and share of waiting of the last stage."""
    lines = [
        json.loads(line) for line in (folder / run["stages"][-1]["name"] / "journal.jsonl").read_text().splitlines()
    ]
    seconds = sum(line["seconds"] for line in lines)
    return {
        "images_per_second": round(sum(line["images"] for line in lines) / seconds, 2),
        "wait_share": round(sum(line["wait_seconds"] for line in lines) / seconds, 4),
        "images": sum(line["images"] for line in lines),
    }


def machine() -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    return f"{cpu}, {len(Path('/proc/cpuinfo').read_text().split('processor')) - 1} cores, {platform.system()}"


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print("\n".join(f"{name:<28} fullconv {' '.join(words)}" for name, words in CASES.items()))
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
