"""The training step inside `fit` against a bare loop over the same networks: 4x160x160, width 64, batch 32.

The two take turns in one process, so the ratio holds better on a noisy machine. The bare loop has its batches in
memory, knows no Lightning, and is plain PyTorch: a reference, not the fastest there could be.

python benchmarks/bench_step.py [--update simultaneous] [--precision bf16-mixed] [--device cpu]
python benchmarks/bench_step.py --update alternating --precision 32-true --against contiguous  # `fit` as shipped, twice
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from segan_pl.data.module import MRIDataModule
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.segan import SegAN
from segan_pl.training.phase_loop import rmsprop
from segan_pl.training.system import AdversarialSegmentation

WARM_UP = 2


def bare_step(
    segmentor: nn.Module,
    critic: nn.Module,
    optimizers: list[Any],
    image: Tensor,
    target: Tensor,
    *,
    alternating: bool,
    cast: Any,
) -> None:
    """SegAN-CAT's arithmetic written out: multi-scale L1 and Dice a slice, kernels clipped."""

    def features(mask: Tensor) -> list[Tensor]:
        return critic(torch.cat([image, mask], 1))

    def gap(fake: list[Tensor], real: list[Tensor]) -> Tensor:
        return sum((f - r).abs().sum(dtype=torch.float32) for f, r in zip(fake, real, strict=True)) / sum(
            f.numel() for f in fake
        )

    def dice(p: Tensor) -> Tensor:
        over = (2, 3)
        return 1 - ((2 * (p * target).sum(over) + 1e-6) / ((p * p).sum(over) + target.sum(over) + 1e-6)).mean()

    with cast():
        probability = segmentor(image).float().sigmoid()
        if alternating:
            (-gap(features(probability.detach()), features(target))).backward()
    if alternating:
        step_critic(critic, optimizers[1])
        critic.requires_grad_(False)
    with cast():
        with torch.no_grad() if alternating else nullcontext():
            real = features(target)
        loss = gap(features(probability), real) + dice(probability)
    loss.backward()
    critic.requires_grad_(True)
    optimizers[0].step()
    optimizers[0].zero_grad()
    if not alternating:
        for parameter in critic.parameters():
            parameter.grad = -parameter.grad
        step_critic(critic, optimizers[1])


def step_critic(critic: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for module in critic.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.clamp_(-0.05, 0.05)


def bare_loop(options: argparse.Namespace, steps: int) -> float:
    """Median seconds a step."""
    device, memory = torch.device(options.device), torch.channels_last
    cast = partial(torch.autocast, device.type, torch.bfloat16) if options.precision == "bf16-mixed" else nullcontext
    segmentor = Segmentor(4, 1).to(device, memory_format=memory)
    critic = Critic(5).to(device, memory_format=memory)
    optimizers = [rmsprop(segmentor.parameters()), rmsprop(critic.parameters())]
    image = torch.rand(options.batch, 4, 160, 160, device=device).contiguous(memory_format=memory)
    target = (torch.rand(options.batch, 1, 160, 160, device=device) > 0.97).float()
    run = partial(
        bare_step, segmentor, critic, optimizers, image, target, alternating=options.update == "alternating", cast=cast
    )
    return timed(run, steps, device)


def timed(run: Callable[[], None], steps: int, device: torch.device) -> float:
    seconds = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:])


class Clock(L.Callback):
    """Seconds from batch to batch: loading, transfer, step and everything that Lightning does."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Wait for the device, then look at the clock."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.ticks.append(time.perf_counter())


def fit(options: argparse.Namespace, cohort: Path, cache: Path, steps: int, *, last: bool = True) -> float:
    """Median seconds a step inside Trainer.fit, on prepared cases of a generated cohort, channels last or not."""
    data = MRIDataModule(
        str(cohort), cache_dir=str(cache), batch_size=options.batch, val_fraction=0.3, workers=options.workers
    )
    objective = SegAN(update=options.update)
    system = AdversarialSegmentation(
        {"segmentor": Segmentor, "critic": Critic},
        objective,
        modalities=list(data.modalities),
        labels="whole_tumour",
        channels_last=last,
    )
    clock = Clock()
    trainer = L.Trainer(
        accelerator=options.device,
        devices=1,
        precision=options.precision,
        max_epochs=-1,
        logger=False,
        max_steps=2 * (WARM_UP + steps),
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[clock],
    )  # one network each counts a step, so two a batch
    trainer.fit(system, datamodule=data)
    gaps = [b - a for a, b in zip(clock.ticks, clock.ticks[1:], strict=False)]
    return statistics.median(gaps[WARM_UP:])


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "processor unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", default="simultaneous", choices=["simultaneous", "alternating"])
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--against", default="bare", choices=["bare", "contiguous"], help="what `fit` is compared with")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        cohort, cache = Path(folder) / "cohort", Path(folder) / "cache"
        make_cohort(cohort, cases=6, shape=(64, 180, 180))
        here = partial(fit, options, cohort, cache, options.steps)
        other = partial(bare_loop, options, options.steps) if options.against == "bare" else partial(here, last=False)
        rows = [(other(), here()) for _ in range(options.rounds)]
    cpu = processor()
    print(
        f"{options.device}, {cpu}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"4x160x160, width 64, batch {options.batch}, {options.precision}, channels-last, {options.update} updates")
    for number, (bare, inside) in enumerate(rows):
        print(
            f"round {number}: {options.against} {options.batch / bare:.1f} slices/s, "
            f"fit {options.batch / inside:.1f} slices/s, ratio {bare / inside:.2f}"
        )
    print(f"median ratio fit / {options.against}: {statistics.median(bare / inside for bare, inside in rows):.2f}")


if __name__ == "__main__":
    main()
