"""Seconds a training step of a shipped system, and what its terms, its precision and its memory format cost.

The rows take turns in one process, so their ratios hold better than their seconds on a noisy machine. Batches are made
up and lie in memory: the loader is not measured.

OMP_NUM_THREADS=1 python benchmarks/bench_systems.py reciprocal --width 16 --patch 32 32 32 --rows terms
OMP_NUM_THREADS=1 python benchmarks/bench_systems.py albunet3d --width 64 --patch 8 96 96 --rows formats
python benchmarks/bench_systems.py reciprocal --patch 128 128 128 --rows memory  # computed, no step is run
python benchmarks/bench_systems.py reciprocal --device cuda --patch 128 128 128 --rows formats
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.data.labels import label_scheme
from segan_pl.experiments.shipped import find_config
from segan_pl.nets.blocks import MEMORY_FORMATS, to_channels_last
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.training.networks import negate_gradients

TERMS: Mapping[str, Mapping[str, float]] = {
    "Dice alone": {"vat_weight": 0.0, "adversarial_weight": 0.0},
    "+ VAT": {"adversarial_weight": 0.0},
    "+ critic": {"vat_weight": 0.0},
    "+ VAT + critic": {},
}
FORMATS = {
    "float32": (torch.float32, False),
    "float32, channels-last": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
    "bfloat16, channels-last": (torch.bfloat16, True),
}


def named(path: str) -> Any:
    module, name = path.rsplit(".", 1)
    return getattr(import_module(module), name)


def built(settings: Any, *inputs: Any, **more: Any) -> Any:
    """What a file names, the losses among its arguments too."""
    path, options = settings if isinstance(settings, str) else settings["class_path"], {}
    if not isinstance(settings, str):
        options = {k: built(v) if _is_named(v) else v for k, v in settings.get("init_args", {}).items()}
    return named(path)(*inputs, **{**options, **more})


def _is_named(value: Any) -> bool:
    return str(value).startswith("segan_pl.") or (isinstance(value, dict) and "class_path" in value)


def game(system: str, width: int | None, weights: Mapping[str, float]) -> tuple[Objective, dict[str, nn.Module], Any]:
    """The objective, its networks and their optimisers as the system file has them, and the file."""
    file = yaml.safe_load(find_config(system).read_text())
    model, modalities = file["model"], len(file["data"].get("modalities", "1234"))
    channels = len(label_scheme(file["data"].get("labels", "whole_tumour")).channels)
    objective = built(model["objective"], **weights)
    torch.manual_seed(0)
    narrow = {} if width is None else {"width": width}
    untrained = {"pretrained": None} if "pretrained" in model["networks"]["segmentor"]["init_args"] else {}
    networks = {}
    for name in objective.networks:
        more = {**narrow, **untrained} if name == "segmentor" else {}
        networks[name] = built(model["networks"][name], **objective.channels(name, modalities, channels), **more)
    return objective, networks, file


def stepper(args: argparse.Namespace, weights: Mapping[str, float], low: torch.dtype, last: bool) -> Callable[[], None]:
    """One training step as the system's loop takes it."""
    objective, networks, file = game(args.system, args.width, weights)
    scheme, device = label_scheme(file["data"].get("labels", "whole_tumour")), torch.device(args.device)
    for network in networks.values():
        network.to(device)
        if last:
            to_channels_last(network)
    given = file["model"]["optimizers"]
    optimizers = {
        name: built(given.get(name, given.get("default")), network.parameters()) for name, network in networks.items()
    }
    size, modalities = args.batch, len(file["data"].get("modalities", "1234"))
    image = torch.rand(size, modalities, *args.patch, device=device)
    image = image.contiguous(memory_format=MEMORY_FORMATS[image.ndim]) if last else image
    label = torch.randint(len(scheme.channels), (size, *args.patch), device=device)
    target = nn.functional.one_hot(label, len(scheme.channels)).movedim(-1, 1).float()
    there = torch.ones(size, modalities, dtype=torch.bool, device=device)
    batch = Batch(
        image, target, there[:, 0], there, label.new_zeros(size), label.new_zeros(size, 3), label.new_zeros(size)
    )

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=low == torch.bfloat16):
            context = StepContext(networks, batch, scheme.activation)
            for phase in objective.phases():
                movers = (phase.network, *phase.ascending)
                with context.only(movers):
                    total = phase.loss(context).total
                    if total.requires_grad:
                        total.backward()
                for name in movers:
                    if name in phase.ascending:
                        negate_gradients(networks[name])
                    optimizers[name].step()
                    optimizers[name].zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def saved_gib(args: argparse.Namespace) -> float:
    """What one forward pass of the segmentor keeps for its gradients in float32, parameters left out."""
    _, networks, file = game(args.system, args.width, {})
    segmentor = networks["segmentor"].to("meta")
    own = {id(parameter) for parameter in segmentor.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    image = torch.empty(args.batch, len(file["data"].get("modalities", "1234")), *args.patch, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        segmentor(image)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system")
    parser.add_argument("--rows", choices=["terms", "formats", "memory"], default="formats")
    parser.add_argument("--patch", type=int, nargs="+", default=[32, 32, 32], help="2 or 3 numbers")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--width", type=int, help="of the segmentor; default the file's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.rows == "memory":
        print(
            f"{args.system}, {args.batch} x {tuple(args.patch)}: {saved_gib(args):.1f} GiB kept for gradients, float32"
        )
        return
    plain, low = (torch.float32, False), (torch.bfloat16, False)
    kinds: dict[str, tuple[Mapping[str, float], torch.dtype, bool]]
    if args.rows == "terms":
        kinds = {
            f"{name}, {kind}": (w, *f) for name, w in TERMS.items() for kind, f in (("float32", plain), ("bf16", low))
        }
    else:
        kinds = {name: ({}, *how) for name, how in FORMATS.items()}
    steppers = {name: stepper(args, *kind) for name, kind in kinds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    peaks: dict[str, float] = {}
    for turn in range(args.rounds + 1):
        for name, step in steppers.items():
            if args.device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            step()
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
            if args.device.startswith("cuda"):
                peaks[name] = torch.cuda.max_memory_allocated() / 2**30
    first = statistics.median(next(iter(seconds.values())))
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{args.system}, {args.batch} x {tuple(args.patch)}, {threads}")
    for name, taken in seconds.items():
        peak = f", {peaks[name]:.1f} GiB with the other rows' weights" if peaks else ""
        middle = statistics.median(taken)
        print(
            f"{name:28s} {middle:.2f} s a step ({min(taken):.2f} to {max(taken):.2f}), {middle / first:.2f} times{peak}"
        )


if __name__ == "__main__":
    main()
