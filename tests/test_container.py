"""The Dockerfile, read as Docker reads it: what it copies is there and enough to build the package, pins are ours."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LINES = [
    line
    for line in re.sub(r"\\\n\s*", "", (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
    if line and not line.startswith("#")
]
STEPS = [tuple(line.split(" ", 1)) for line in LINES]
ARGS = dict(text.split("=", 1) for kind, text in STEPS if kind == "ARG")
COPIED = {name for kind, text in STEPS if kind == "COPY" for name in text.split()[:-1]}
RUNS = [text for kind, text in STEPS if kind == "RUN"]


def test_every_line_is_an_instruction_and_each_command_is_sound_shell() -> None:
    assert {kind for kind, _ in STEPS} <= {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}
    assert STEPS[0][0] == "FROM"
    for command in RUNS:
        assert subprocess.run(["sh", "-n", "-c", command]).returncode == 0, command


def test_the_python_and_torch_are_those_that_are_tested() -> None:
    constraints = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"torch=={ARGS['TORCH']}" in constraints
    least = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert STEPS[0][1] == f"python:{least.removeprefix('>=')}-slim"


def test_what_is_copied_is_there_is_not_ignored_and_is_all_that_the_package_is_built_from() -> None:
    kept = {
        line[1:] for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"
    }
    assert kept == COPIED
    assert all((CHECKOUT / name).exists() for name in COPIED)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    hatch = project["tool"]["hatch"]
    wheel = hatch["build"]["targets"]["wheel"]
    fragments = hatch["metadata"]["hooks"]["fancy-pypi-readme"]["fragments"]
    needed = {one["path"] for one in fragments if "path" in one}
    needed |= {*project["project"]["license-files"], *wheel["packages"]}
    assert needed | set(wheel["force-include"]) | {"pyproject.toml", "constraints.txt"} == COPIED


def test_the_extras_that_it_installs_are_declared() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    install = next(shlex.split(command) for command in RUNS if "-c constraints.txt" in command)
    asked = re.fullmatch(r"\.\[([\w,]+)\]", install[-1])
    assert asked is not None
    assert set(asked[1].split(",")) <= set(extras)


@pytest.mark.parametrize(
    ("variant", "said", "code"),
    [
        ("cuda", "install torch==2.13.0", 0),
        ("cpu", "install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0", 0),
        ("rocm", "", 1),
    ],
)
def test_the_variant_chooses_the_wheel_and_another_one_is_refused(variant: str, said: str, code: int) -> None:
    command = next(one for one in RUNS if "VARIANT" in one)
    shell = f"pip() {{ echo $@; }}; VARIANT={variant} TORCH=2.13.0; {command}"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (said, code)
