"""Is what the plan chose for this machine the best there is, and is the network kept busy?

python benchmarks/machine.py choice    all of precision, layout and threads in turns, and what the plan takes
python benchmarks/machine.py pace      images a second of a run beside the same step on a batch kept in memory

For a quiet machine. Writes benchmarks/results/machine.json.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from road import DATA
from rows import run
from training import build

import fullconv as fc
from fullconv.base.memory import keep_freed_memory
from fullconv.data.samples import SampleSet
from fullconv.nets.segmentation import SegmentationNet
from fullconv.train.benchmark import combinations, measure_machine, one_step
from fullconv.train.loop import frozen, frozen_layers
from fullconv.train.optimiser import build_optimiser
from fullconv.train.plan import plan_machine
from fullconv.train.recipe import recipe

CROP = (320, 320)
BATCHES = (4, 8, 16, 32)
THREADS = (1, 2)
ROUNDS = 3
PACE_STEPS = 60
Setting = tuple[tuple[str, bool], int, int]


def sharp_net() -> tuple[SampleSet, SegmentationNet]:
    samples = fc.read_samples(DATA / "camvid")
    return samples, build("sharp", samples)


def plan_takes(net: SegmentationNet) -> dict[str, Any]:
    measured = list(measure_machine(net, crop=CROP, recipe=recipe("modern")))
    return {one.name: one.value for one in plan_machine(measured, recipe("modern"))}


def choice() -> dict[str, Any]:
    """All ways worth a try to train at the batch that the plan takes; other batches are other training, shown beside."""
    _, net = sharp_net()
    threads = torch.get_num_threads()
    chosen = plan_takes(net)
    combination = chosen["precision"], chosen["channels_last"]
    own: Setting = (combination, chosen["batch"], threads)
    alike = list(product(combinations(torch.device("cpu")), [chosen["batch"]], THREADS))
    settings = dict.fromkeys([*alike, *product([combination], BATCHES, [threads])])
    speeds: dict[Setting, float] = dict.fromkeys(settings, 0.0)
    with frozen(frozen_layers(net, recipe("modern"))):
        for _ in range(ROUNDS):
            for setting in settings:
                speeds[setting] = max(speeds[setting], speed(net, setting))
    torch.set_num_threads(threads)
    best = max(alike, key=lambda setting: speeds[setting])
    rows = [named(setting) | {"images_per_second": round(speeds[setting], 2)} for setting in settings]
    return {"chosen": named(own), "best": named(best), "ratio": round(speeds[own] / speeds[best], 3), "all": rows}


def speed(net: SegmentationNet, setting: Setting) -> float:
    """Images a second of one step, after one in the same layout that is not timed."""
    (precision, last), batch, threads = setting
    torch.set_num_threads(threads)
    how = replace(recipe("modern"), precision=precision, channels_last=last, batch=batch)
    return batch / [one_step(net, how, CROP)[0] for _ in range(2)][1]


def named(setting: Setting) -> dict[str, Any]:
    (precision, last), batch, threads = setting
    return {"precision": precision, "channels_last": last, "batch": batch, "threads": threads}


def pace() -> dict[str, Any]:
    samples, net = sharp_net()
    chosen = plan_takes(net)
    alike = {"head_first": 0.0, "stops_flat": False}  # all steps the same; those between learn chance labels
    how = replace(recipe("modern"), crop=CROP, **chosen, steps=PACE_STEPS, **alike)
    optimiser = build_optimiser(net, how, pretrained=frozenset())
    in_memory, in_run = [], []
    for step in fc.training_steps(net, samples.train, recipe=how):
        in_run.append(step.seconds)
        if step.step % 2:  # in turns: what a neighbour does slows both alike
            with frozen(frozen_layers(net, how)):
                in_memory.append(one_step(net, how, CROP, optimiser)[0])
    runs, kept = (sorted(seconds)[len(seconds) // 2] for seconds in (in_run[5:], in_memory[5:]))
    return {
        "batch": how.batch,
        "in_a_run": round(how.batch / runs, 2),
        "in_memory": round(how.batch / kept, 2),
        "ratio": round(kept / runs, 3),
    }


if __name__ == "__main__":
    keep_freed_memory()
    run("machine", {"choice": choice, "pace": pace}, sys.argv[1:])
