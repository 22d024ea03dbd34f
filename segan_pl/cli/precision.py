"""The precision of a run whose `--trainer.precision` nobody gave, by its system and its hardware."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from segan_pl.evaluation.saved_files import mapping, yaml_file
from segan_pl.inference.checkpoint_file import own_part, read_checkpoint, stored_settings

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD; the last is ARM's
LOW, FULL = "bf16-mixed", "32-true"


def settle_precision(settings: Namespace, directory: Path) -> str:
    """Put the precision into a run's settings; returns what the user should know of it, or "".

    A run that goes on keeps the one that it began with, also on another machine. A new one takes bfloat16 where its
    system says `--run.precision_safe true` and the hardware has instructions for it. A CPU without them computes
    bfloat16 by detours: a convolution took 3.5 times as long (`python benchmarks/bench_bfloat16.py`, AVX2).

    Args:
        settings: Of `fit`, `validate` or `test`; `trainer.precision` is changed in place.
        directory: The run's.
    """
    trainer = settings.trainer
    native = has_bfloat16(trainer.accelerator)
    if trainer.precision is not None:
        if "bf16" not in str(trainer.precision) or native:
            return ""
        return (
            f"note: --trainer.precision {trainer.precision}: this machine has no bfloat16 instructions and takes "
            f"several times as long; 32 is faster"
        )
    if (before := _began_with(settings.get("ckpt_path"), directory)) is not None:
        trainer.precision = before.get("precision")
        return ""
    if not settings.run.precision_safe:
        return ""  # PyTorch's float32
    trainer.precision = LOW if native else FULL
    reason = "this machine has instructions for it" if native else "this machine has no bfloat16 instructions"
    return f"precision: {trainer.precision} ({reason}); --trainer.precision gives another"


def _began_with(checkpoint: str | None, directory: Path) -> Mapping[str, Any] | None:
    """The trainer's settings of the run that goes on, or is scored; None for a new one."""
    if (config := directory / "config.yaml").is_file():
        return mapping(yaml_file(config).get("trainer"))
    # config.yaml may be lost; the checkpoints hold it, too
    given = checkpoint or next(iter(sorted(directory.glob("checkpoints/*.ckpt"))), None)
    if given is None:
        return None
    file = Path(given).expanduser()
    return mapping(stored_settings(own_part(read_checkpoint(file), file), file).get("trainer"))


def has_bfloat16(accelerator: str | None, cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a run's device computes in bfloat16 by instructions of its own.

    Args:
        accelerator: `--trainer.accelerator`.
        cpu_info: Linux's list of what the processor has; without it a CPU counts as one that has none.
    """
    if accelerator in (None, "auto", "gpu", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator not in (None, "auto", "cpu") or not cpu_info.is_file():
        return False
    lines = (line.split() for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines())
    words = next((line for line in lines if line[:1] in (["flags"], ["Features"])), [])
    return bool(CPU_FLAGS & {*words})
