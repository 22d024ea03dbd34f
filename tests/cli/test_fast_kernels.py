"""Which of CUDA's faster and less repeatable ways a run takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from segan_pl.cli.trainer import use_fast_kernels


@pytest.fixture(autouse=True)
def as_pytorch_begins() -> Iterator[None]:
    benchmark, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    yield
    torch.backends.cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize(
    ("device", "settings", "benchmark", "precision"),
    [
        ("cpu", {}, False, "highest"),
        ("cuda", {}, True, "high"),
        ("cuda", {"benchmark": None, "deterministic": None}, True, "high"),
        ("cuda", {"benchmark": False}, False, "high"),
        ("cuda", {"deterministic": True}, False, "highest"),
        ("cuda", {"deterministic": "warn"}, False, "highest"),
    ],
)
def test_a_gpu_takes_the_fast_kernels_unless_the_run_is_to_repeat(
    device: str, settings: dict[str, Any], benchmark: bool, precision: str
) -> None:
    note = use_fast_kernels(torch.device(device), settings)
    assert torch.backends.cudnn.benchmark is benchmark
    assert torch.get_float32_matmul_precision() == precision
    assert ("--trainer.deterministic true" in note) is (precision == "high")
