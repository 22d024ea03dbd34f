"""Seconds a step of the systems for tissues from few labels, and what whole runs of the papers' sizes would take.

The supervised system is always timed, and the others as multiples of it. They take turns in one process, so their
ratios hold better than their seconds on a noisy machine. Seconds are of the processor (CPU time): other programs
count little. Batches are made up and lie in memory: half of the patches have labels, and the loader is not measured.
Whole runs are extrapolated: seconds are taken to grow with the patches of a batch, and to be the same in every step.

python benchmarks/bench_few_labels.py --narrow --modalities 1  # the widths of the plan few_shot
python benchmarks/bench_few_labels.py --patches 4 --rounds 2 --volume 144 192 256  # iSEG-2017
python benchmarks/bench_few_labels.py --patches 4 --rounds 2 --modalities 3 --volume 48 240 240  # MRBrainS13
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from math import prod
from typing import Any

import torch
import yaml
from bench_systems import built
from torch import nn

from segan_pl.batch import Batch
from segan_pl.experiments.shipped import find_config
from segan_pl.nets.blocks import to_channels_last
from segan_pl.objectives.base import StepContext

SUPERVISED = "supervised_unet3d"
SYSTEMS = ("gan", "gan_fm", "gan_wfm", "gan_bad", "gt_gan")
CLASSES, SIDE, STRIDE = 4, 32, 16


def batch_of(patches: int, modalities: int) -> Batch:
    """Noise and blocks of labels, channels last as in `fit`; the first half is labelled."""
    image = 2 * torch.rand(patches, modalities, *[SIDE] * 3) - 1
    label = torch.randint(CLASSES, (patches, *[SIDE // 8] * 3))
    for axis in (1, 2, 3):
        label = label.repeat_interleave(8, axis)
    target = nn.functional.one_hot(label, CLASSES).movedim(-1, 1).float()
    image, target = (one.contiguous(memory_format=torch.channels_last_3d) for one in (image, target))
    rows = torch.arange(patches)
    there = torch.ones(patches, modalities, dtype=torch.bool)
    return Batch(image, target, rows < patches // 2, there, rows, torch.zeros(patches, 3, dtype=torch.int64), rows)


def networks_and_step(args: argparse.Namespace, system: str) -> tuple[dict[str, nn.Module], Callable[[Batch], None]]:
    """The networks of a system, and a training step as the system's loop takes it."""
    model = yaml.safe_load(find_config(system).read_text())["model"]
    objective = built(model["objective"])
    networks: dict[str, nn.Module] = {}
    torch.manual_seed(0)
    for name in objective.networks:
        more = {"width": model["networks"][name]["init_args"]["width"] // 4} if args.narrow else {}
        networks[name] = built(model["networks"][name], **objective.channels(name, args.modalities, CLASSES), **more)
        to_channels_last(networks[name])
    given = model["optimizers"]
    optimizers = {
        name: built(given.get(name, given.get("default")), network.parameters()) for name, network in networks.items()
    }

    def step(batch: Batch) -> None:
        context = StepContext(networks, batch, "softmax", step=1, steps=100)
        for phase in objective.phases():
            with context.only([phase.network]):
                phase.loss(context).total.backward()
            optimizers[phase.network].step()
            optimizers[phase.network].zero_grad()

    return networks, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, help=f"next to {SUPERVISED}, with labels for half")
    parser.add_argument("--patches", type=int, default=8, help="of a batch, half of them with labels")
    parser.add_argument("--modalities", type=int, default=2)
    parser.add_argument("--narrow", action="store_true", help="a quarter of the files' widths")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--volume", type=int, nargs=3, help="voxels of a case: print what a run of the files would take"
    )
    args = parser.parse_args()
    both = batch_of(args.patches, args.modalities)
    half = Batch(*(field[: args.patches // 2] for field in both))
    systems = [SUPERVISED, *(system for system in args.systems if system != SUPERVISED)]
    networks, step = networks_and_step(args, SUPERVISED)
    _, other = networks_and_step(args, SUPERVISED)
    segmentor = networks["segmentor"]
    rows: dict[str, Callable[[], Any]] = {
        SUPERVISED: lambda: step(half),
        "supervised, all labelled": lambda: other(both._replace(labelled=both.labelled | True)),
    }
    for system in systems[1:]:
        _, played = networks_and_step(args, system)
        rows[system] = lambda played=played: played(both)
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(args.rounds + 1):
        for name, run in rows.items():
            start = time.process_time()
            run()
            if turn:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    first = middle[SUPERVISED]
    print(f"{args.patches} patches of {SIDE}^3, {args.modalities} modalities, {torch.get_num_threads()} threads")
    for name, taken in middle.items():
        low, high = min(seconds[name]), max(seconds[name])
        print(f"{name:26s} {taken:6.2f} CPU s a step ({low:.2f} to {high:.2f}), {taken / first:.1f} times")
    if args.volume is None:
        return
    with torch.no_grad():
        start = time.process_time()
        segmentor(both.image)
        window = (time.process_time() - start) / args.patches
    files = {system: yaml.safe_load(find_config(system).read_text()) for system in systems}
    windows = prod(-(-(side - SIDE) // STRIDE) + 1 for side in args.volume)
    for system, file in files.items():
        epochs, steps = file["trainer"]["max_epochs"], file["data"]["sampling"]["batches"]
        patches = file["data"]["batch_size"]
        whole = middle[system] * patches / args.patches
        training, validation = epochs * steps * whole, epochs * windows * window
        print(
            f"{system:26s} {patches // 2} labelled patches: {whole:.0f} CPU s a step, {epochs} x {steps} steps "
            f"{training / 3600:.0f} h, validation of one case {epochs} x {windows} windows {validation / 3600:.1f} h"
        )


if __name__ == "__main__":
    main()
