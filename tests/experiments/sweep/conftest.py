"""Fixtures of the sweeps' tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.experiments.sweep.file import read_sweep
from segan_pl.experiments.sweep.study import Plan, plan


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Plan]:
    """A plan of a sweep file with these parameters."""

    def made(
        parameters: dict[str, Any], method: str = "grid", extra: Sequence[str] = (), goal: str = "maximize", **more: Any
    ) -> Plan:
        path = tmp_path / "some.yaml"
        command = ["segan_pl", "fit", "--config", "segan_cat", "${args}"]
        metric = {"name": "val/dice_wt", "goal": goal}
        content = {"method": method, "metric": metric, "command": command, "parameters": parameters}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return plan(read_sweep(str(path)), extra, **more)

    return made


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "study"
