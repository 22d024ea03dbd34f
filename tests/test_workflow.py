"""The workflow file for GitHub does what .ci/run does, on the Pythons that the package names."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
JOB = yaml.safe_load((CHECKOUT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]["ci"]


def test_it_runs_on_the_pythons_of_the_classifiers() -> None:
    classifiers = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["classifiers"]
    named = [
        match[1] for one in classifiers if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one))
    ]
    assert JOB["strategy"]["matrix"]["python"] == named
    assert not JOB["strategy"]["fail-fast"]


def test_it_ends_with_ci_run_which_can_be_called() -> None:
    commands = [step["run"] for step in JOB["steps"] if "run" in step]
    assert commands[-1] == ".ci/run"
    assert os.access(CHECKOUT / commands[-1], os.X_OK)
    for command in commands:
        assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0, command


def test_it_installs_the_torch_of_the_constraints() -> None:
    (install,) = (step["run"] for step in JOB["steps"] if "download.pytorch.org" in step.get("run", ""))
    shell = install.replace("python -m venv .venv", ":").replace(".venv/bin/pip", "echo")
    done = subprocess.run(["bash", "-c", shell], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    pinned = re.search(r"^torch==.*$", (CHECKOUT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert done.stdout.split()[-1] == pinned[0]
