"""What else is installed or set on a machine changes neither the tests nor what `fit` prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonargparse import Namespace

from segan_pl.cli.lightning import SeganCLI
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.training.run.requeue import in_batch_job_without_srun
from segan_pl.training.run.surroundings import environments, is_first_rank, srun_note
from tests.cohort import SYSTEM

PROJECT = Path(__file__).resolve().parents[3]
COPIED = ("segan_pl", "tests", "configs", "Makefile", "pyproject.toml", "constraints.txt")
HANDFUL = (
    "tests/cli/test_main.py::test_tensorboard_files_are_written_on_request",  # a fit, its loggers, its files
    "tests/training/callbacks/test_early_stopping.py",
    "tests/training/finetuning/test_pretrained.py",
)
SRUN = {"PATH": "{srun}:" + os.environ["PATH"]}
RANK = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere.invalid", "MASTER_PORT": "1"}
JOB = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_NNODES": "1", "SLURM_PROCID": "0"}
LOGGED = {"WANDB_MODE": "online", "WANDB_PROJECT": "p", "WANDB_API_KEY": "0" * 40, "WANDB_DIR": "/nonexistent"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
OTHERS = {**RANK, **LOGGED, "CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "7", "TMPDIR": "/dev/shm"}
NOBODY = "65534"
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")
WHERE: dict[str, dict[str, str]] = {
    "a job of one task": {**SRUN, **JOB, "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"},
    "other programs' variables, C locale, no home": {**OTHERS, **C_LOCALE, "HOME": "/nonexistent/home"},
    "not root": {},
    "a path with a blank": {},
}
"""Each starts Python, PyTorch and a fit, so what cannot interfere shares one."""


class Place(NamedTuple):
    """Where a command is called.

    Attributes:
        environment: This process's variables, and those of the surroundings.
        project: The checkout.
        scratch: A folder that whoever is to run may write to.
        prefix: What goes before a command, to run it as somebody else.
    """

    environment: dict[str, str]
    project: Path
    scratch: Path
    prefix: tuple[str, ...] = ()

    def called(self, arguments: list[str], folder: Path) -> tuple[int, str]:
        """Exit code and output of a Python command."""
        done = subprocess.run(
            [*self.prefix, sys.executable, *arguments],
            env=self.environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """The surroundings by their name; with a folder in which Slurm's client lies."""
    client = tmp_path / "bin" / "srun"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\nexit 1\n")
    client.chmod(0o755)
    found = {name: value.format(srun=client.parent) for name, value in WHERE[request.param].items()}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **found}
    if request.param == "not root":
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            yield as_nobody(environment, Path(folder))
    elif request.param == "a path with a blank":
        yield Place(environment, copied(tmp_path / "a b"), tmp_path)
    else:
        yield Place(environment, PROJECT, tmp_path)


def copied(folder: Path) -> Path:
    """A copy of the checkout, without what was built in it."""
    folder.mkdir(parents=True)
    for name in COPIED:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, folder)
    return folder


def as_nobody(environment: dict[str, str], folder: Path) -> Place:
    """A copy of the checkout in `folder`, called by a user without rights, with a home of its own."""
    if os.geteuid() != 0:
        pytest.skip("this user is not root: all tests are run in these surroundings")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here, by which root becomes somebody else")
    place = Place({**environment, "HOME": str(folder)}, copied(folder / "checkout"), folder, AS_NOBODY)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, int(NOBODY), int(NOBODY))
    if place.called(["-c", "import torch, pytest"], folder)[0]:
        pytest.skip("the interpreter or its packages can be read by root alone")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("place", WHERE, indirect=True)
def test_tests_pass_wherever_they_are_called(place: Place) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={place.scratch / 'base'}"]
    code, said = place.called(["-m", "pytest", *options, *HANDFUL], place.project)
    assert code == 0, said
    assert "warning" not in said.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("place", [name for name in WHERE if "blank" not in name], indirect=True)
def test_fit_runs_wherever_it_is_called_and_warns_of_nothing(place: Place) -> None:
    folder = place.scratch / "a folder"  # with a blank
    make_cohort(folder / "cohort", cases=8, shape=(8, 48, 48))
    (folder / "tiny.yaml").write_text(SYSTEM % (folder / "cohort", folder / "cache", folder / "runs"))
    if place.prefix:
        os.chown(folder, int(NOBODY), int(NOBODY))
        place.environment["PYTHONPATH"] = str(place.project)
    line = ["fit", "--config", "tiny.yaml", "--trainer.max_epochs=1", "--run.directory=run"]
    code, said = place.called(["-m", "segan_pl", *line], folder)
    assert code == 0, said
    last = folder / "run" / "checkpoints" / "last.ckpt"
    assert last.stat().st_uid == (int(NOBODY) if place.prefix else os.geteuid())
    assert "arning" not in said
    lines = [line for line in said.splitlines() if "srun" in line]
    # the stand-in's, or a Slurm that this machine has
    client = shutil.which("srun", path=place.environment["PATH"])
    assert [line[:6] for line in lines] == ["note: "] * (client is not None)


def test_make_takes_a_checkout_whose_path_has_a_blank(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    folder = tmp_path / "a b" / "checkout"
    data = tmp_path / "a b" / "shared" / "data"
    data.mkdir(parents=True)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, folder)
    for stamp in (".runs", ".installed"):  # in the order in which make writes them
        (folder / ".venv" / stamp).touch()
    client = folder / ".venv" / "bin" / "python"
    client.write_text('#!/bin/sh\necho "$SEGAN_PL_TEST_DATA"\n')
    client.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "SEGAN_PL_TEST_DATA"}
    done = subprocess.run(["make", "-s", "test"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == data


def test_a_job_without_srun_starts_its_own_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**JOB, "SLURM_NTASKS": "2"}.items():
        monkeypatch.setenv(name, value)
    (environment,) = environments(given=False)
    assert not environment.creates_processes_externally
    assert environments(given=True) == []
    assert "did not start the run by srun" in (srun_note() or "")
    monkeypatch.setenv("SLURM_STEP_ID", "0")  # as srun sets it
    (environment,) = environments(given=False)
    assert environment.creates_processes_externally
    assert srun_note() is None
    monkeypatch.setenv("SLURM_NTASKS", "1")  # a step's only task starts the ranks of its node
    (environment,) = environments(given=False)
    assert not environment.creates_processes_externally


@pytest.mark.parametrize(
    ("variables", "batch"),
    [
        (JOB, False),  # of salloc
        ({**JOB, "ENVIRONMENT": "BATCH"}, True),
        ({**JOB, "ENVIRONMENT": "BATCH", "SLURM_STEP_ID": "0"}, False),
        ({"ENVIRONMENT": "BATCH"}, False),
    ],
)
def test_only_a_batch_job_can_be_requeued_without_srun(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], batch: bool
) -> None:
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert in_batch_job_without_srun() is batch


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("gpu-[01,03-05],cpu-1", "gpu-01"),
        ("a1,a2", "a1"),
        ("r[1-2]n[3-4]", "r1n3"),
        ("x[08]-ib,y", "x08-ib"),
    ],
)
def test_ranks_meet_on_the_first_node_of_their_step(monkeypatch: pytest.MonkeyPatch, nodes: str, first: str) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": nodes, "SLURM_NODELIST": "other[1-9]"}
    for name, value in {**JOB, **step}.items():
        monkeypatch.setenv(name, value)
    (environment,) = environments(given=False)
    assert environment.main_address == first
    monkeypatch.setenv("MASTER_ADDR", "given")
    assert environment.main_address == "given"


def test_ranks_of_two_steps_of_a_job_meet_at_two_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []
    for step in "01":
        monkeypatch.delenv("MASTER_PORT", raising=False)
        for name, value in {**JOB, "SLURM_STEP_ID": step, "SLURM_NTASKS": "2"}.items():
            monkeypatch.setenv(name, value)
        (environment,) = environments(given=False)
        ports.append(environment.main_port)
    assert ports == [15077, 16086]
    monkeypatch.setenv("MASTER_PORT", "1234")
    assert environment.main_port == 1234


def test_slurms_client_is_noted_in_one_line_and_only_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert srun_note() is None
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    note = srun_note()
    assert note is not None
    assert note.startswith("note: srun is here and not used; ")


@pytest.mark.parametrize(
    ("set_to", "nodes", "first"),
    [
        ({}, 2, True),
        ({"NODE_RANK": "0"}, 2, True),
        ({"NODE_RANK": "1"}, 2, False),
        ({"GROUP_RANK": "1"}, 2, False),
        ({"NODE_RANK": "0", "GROUP_RANK": "1"}, 2, True),
        ({"NODE_RANK": "1"}, 1, True),  # left over: a run of one node is its own first
    ],
)
def test_of_several_nodes_one_command_each_the_first_node_has_the_first_rank(
    monkeypatch: pytest.MonkeyPatch, set_to: dict[str, str], nodes: int, first: bool
) -> None:
    for name in ("NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    assert is_first_rank(nodes) is first


def test_the_second_nodes_command_leaves_the_folder_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    command: Any = SeganCLI.__new__(SeganCLI)
    command.subcommand, command.config = "fit", {"fit": Namespace(trainer=Namespace(num_nodes=2))}
    assert not command._is_first_rank
