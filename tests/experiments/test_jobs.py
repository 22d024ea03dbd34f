"""Runs as jobs of Slurm: how srun starts them, what its signals do, who queues a job again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from segan_pl.experiments import process
from segan_pl.experiments.local import LocalRunner, run_one
from segan_pl.experiments.runs import Run, run_state, save_runs
from tests.experiments.stand_in_slurm import SRUN


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [(("fit", "--help"), "--kill-on-bad-exit=1 "), (("evaluate", "--help"), "--nodes=1 --ntasks=1 ")],
)
def test_in_a_job_srun_starts_a_run_once_for_each_rank_and_other_commands_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], begins: str
) -> None:
    client, study = tmp_path / "bin" / "srun", tmp_path / "study"
    client.parent.mkdir()
    client.write_text(SRUN.format(folder=tmp_path))
    client.chmod(0o755)
    for name, value in {
        "PATH": f"{client.parent}:/usr/bin:/bin",
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "3",
    }.items():
        monkeypatch.setenv(name, value)
    save_runs([Run("a", arguments)], study)
    assert run_one(study, "a") == 0
    given = {"fit": f" --run.directory {study}/runs/a"}.get(arguments[0], "")
    assert (
        tmp_path / "srun.calls"
    ).read_text() == f"{begins}{sys.executable} -m segan_pl {' '.join(arguments)}{given}\n"


def test_sigusr1_to_a_study_reaches_its_runs_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "said"
    child = (
        f"import pathlib, signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0)); "
        f"pathlib.Path({str(said)!r}).touch(); signal.pause()"
    )
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", child))
    timer = threading.Thread(target=lambda: (wait_for(said), os.kill(os.getpid(), signal.SIGUSR1)))
    timer.start()
    outcome = LocalRunner().run_all([Run("a", ("fit",))], tmp_path / "study")
    timer.join()
    assert outcome.finished == ("a",)


@pytest.fixture
def batch_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A batch job's variables, and Slurm's clients, which write down how they are called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in (
        ("srun", SRUN.format(folder=folder)),
        ("scontrol", f'#!/bin/sh\necho "$@" >> {folder}/scontrol.calls\n'),
    ):
        (folder / name).write_text(body)
        (folder / name).chmod(0o755)
    for name, value in {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "ENVIRONMENT": "BATCH"}.items():
        monkeypatch.setenv(name, value)
    return folder / "scontrol.calls"


SLEEPS = "import pathlib, sys, time; pathlib.Path({said!r}).touch(); time.sleep(60)"


def test_in_a_batch_job_sigusr1_stops_runs_that_do_not_train_and_requeues_the_job_once(
    batch_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, study = tmp_path / "said", tmp_path / "study"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", SLEEPS.format(said=str(said))))
    timer = threading.Thread(target=lambda: (wait_for(said), os.kill(os.getpid(), signal.SIGUSR1)))
    timer.start()
    runs = [Run("a", ("predict",)), Run("b", ("evaluate",)), Run("c", ("fit",))]
    outcome = LocalRunner(2).run_all(runs, study)
    timer.join()
    assert outcome.failed == dict.fromkeys("abc", "stopped")  # the last one was not started
    assert [run_state(study, name) for name in "abc"] == [None] * 3
    assert batch_job.read_text() == "requeue 7\n"


def test_a_run_that_slurm_itself_ended_by_sigusr1_is_stopped_and_the_job_is_requeued(
    batch_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", "import sys; sys.exit(138)"))  # as srun ends
    save_runs([Run("a", ("predict",))], tmp_path / "study")
    assert run_one(tmp_path / "study", "a") == 143
    assert run_state(tmp_path / "study", "a") is None
    assert batch_job.read_text() == "requeue 7\n"


def test_a_run_that_loses_a_node_of_its_step_has_not_failed(
    batch_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "import sys; sys.exit('srun: error: Node failure on node2\\nsrun: error: node2: task 1: Killed')"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", said))
    save_runs([Run("a", ("fit",))], tmp_path / "study")
    lines: list[str] = []
    assert run_one(tmp_path / "study", "a", progress=lines.append) == 143
    assert run_state(tmp_path / "study", "a") is None
    assert lines[1:] == ["a: stopped after 0 s (Node failure on node2)"]
    assert not batch_job.exists()  # Slurm queues it again, or ends it


@pytest.mark.parametrize(("command", "calls"), [("evaluate", 0), ("predict", 1)])
def test_a_run_that_begins_from_nothing_each_time_is_not_queued_again_without_end(
    batch_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, calls: int
) -> None:
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", "import sys; sys.exit(138)"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    save_runs([Run("a", (command,))], tmp_path / "study")
    said: list[str] = []
    assert run_one(tmp_path / "study", "a", progress=said.append) == 143
    assert batch_job.exists() == bool(calls)
    last = "job 7 is requeued" if calls else "the job's time is too short, it began 4 times and is not queued again; "
    assert said[-1].startswith(last)


def test_outside_of_a_job_sigusr1_leaves_runs_that_do_not_train_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    child = SLEEPS.format(said=str(said)).replace("60", "1")
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", child))
    timer = threading.Thread(target=lambda: (wait_for(said), os.kill(os.getpid(), signal.SIGUSR1)))
    timer.start()
    outcome = LocalRunner().run_all([Run("a", ("predict",))], tmp_path / "study")
    timer.join()
    assert outcome.finished == ("a",)


def test_a_run_that_is_killed_because_its_stop_takes_too_long_was_stopped_and_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, study = tmp_path / "said", tmp_path / "study"
    child = (
        f"import os, pathlib, signal, time; "
        f"signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGKILL)); "
        f"pathlib.Path({str(said)!r}).touch(); time.sleep(60)"
    )
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", child))
    save_runs([Run("a", ("fit",))], study)
    timer = threading.Thread(target=lambda: (wait_for(said), os.kill(os.getpid(), signal.SIGTERM)))
    timer.start()
    with pytest.raises(SystemExit):
        run_one(study, "a")
    timer.join()
    assert run_state(study, "a") is None


def wait_for(file: Path) -> None:
    limit = time.monotonic() + 60
    while not file.exists() and time.monotonic() < limit:
        time.sleep(0.01)
