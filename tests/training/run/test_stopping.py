"""Stops by real signals, in this process: what is saved, said and returned, and that a continued run ends the same."""

from __future__ import annotations

import csv
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.cli import main as cli
from segan_pl.data.module import MRIDataModule
from segan_pl.inference.checkpoint_file import KEY
from segan_pl.training.callbacks import checkpoint
from segan_pl.training.run import signals
from segan_pl.training.run.launch import started_rank
from segan_pl.training.run.signals import ALL, FELLOW
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path, cohort: Path, prepared: Path) -> Command:
    """`segan_pl fit --config tiny.yaml ...`: two epochs of four batches."""
    config = tmp_path / "tiny.yaml"
    config.write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))
    return lambda *arguments: main(["fit", "--config", str(config), "--run.preview_every=0", *map(str, arguments)])


def send(number: int) -> None:
    """A signal to this process, noticed before this returns."""
    active = signals.ACTIVE
    assert active is not None
    os.kill(os.getpid(), number)
    limit = time.monotonic() + 10
    while not (active.stop or active.save) and time.monotonic() < limit:
        time.sleep(0.001)


def at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, call: int, act: Callable[[], None]) -> None:
    """Do something in the `call`th call of a method, counted from 1, and never again."""
    original, seen = getattr(owner, method), []

    def changed(*arguments: Any, **named: Any) -> Any:
        seen.append(None)
        if len(seen) == call:
            act()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, method, changed)


def scores(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without what is of the process."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k.startswith(("val/", "epoch", "batches"))} for row in csv.DictReader(file)
        ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.fixture
def whole(whole_run: Path, command: Command) -> Path:
    """The run that nobody stopped, made once."""
    if not whole_run.exists():
        assert command(f"--run.directory={whole_run}") == 0
    return whole_run


@pytest.mark.parametrize(
    ("method", "call", "where"),
    [
        ("training_step", 2, "in epoch 0, batch 2 of 4; checkpoint "),
        pytest.param(
            "training_step",
            4,
            "in the validation of epoch 0, which will be repeated; checkpoint ",
            marks=pytest.mark.slow,
        ),  # the last batch
        ("validation_step", 3, "in the validation of epoch 0, which will be repeated; checkpoint "),  # 1 looks first
        pytest.param("on_train_epoch_end", 1, "in epoch 1, batch 1 of 4; checkpoint ", marks=pytest.mark.slow),
        ("training_step", 7, "in epoch 1, batch 3 of 4; checkpoint "),
        pytest.param(
            "validation_step",
            5,
            "in the validation of epoch 1, which will be repeated; checkpoint ",
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("workers", [0])
def test_a_stopped_run_that_goes_on_ends_with_the_weights_and_scores_of_one_that_nobody_stopped(
    whole: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    call: int,
    where: str,
    workers: int,
) -> None:
    folder = tmp_path / "run"
    line = (f"--run.directory={folder}", f"--data.workers={workers}")
    with monkeypatch.context() as patch:
        at_call(patch, AdversarialSegmentation, method, call, lambda: send(signal.SIGTERM))
        assert command(*line) == 143
    assert f"stopped by SIGTERM {where}" in capsys.readouterr().err
    assert command(*line) == 0
    assert scores(folder) == scores(whole)
    before, after = weights(whole), weights(folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_ctrl_c_and_a_closed_terminal_leave_a_checkpoint_too(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    at_call(monkeypatch, AdversarialSegmentation, "training_step", 1, lambda: send(number))
    assert command(f"--run.directory={tmp_path / 'run'}") == code
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved[KEY]["batches_seen"] == 1


def test_sigusr1_writes_a_checkpoint_and_training_goes_on(
    whole: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, seen = tmp_path / "run", []
    at_call(monkeypatch, AdversarialSegmentation, "training_step", 2, lambda: send(signal.SIGUSR1))
    saved = folder / "checkpoints" / "last.ckpt"
    at_call(monkeypatch, AdversarialSegmentation, "training_step", 3, lambda: seen.append(saved.is_file()))
    assert command(f"--run.directory={folder}") == 0
    assert seen == [True]
    assert f"SIGUSR1 in epoch 0, batch 2 of 4: checkpoint {saved}; training goes on" in capsys.readouterr().err
    assert scores(folder) == scores(whole)


def test_batches_that_share_a_step_are_not_parted(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their gradients are in no checkpoint."""
    line = ("--model.accumulate=2", "--trainer.max_epochs=1")
    assert command(f"--run.directory={tmp_path / 'whole'}", *line) == 0
    with monkeypatch.context() as patch:
        at_call(patch, AdversarialSegmentation, "training_step", 1, lambda: send(signal.SIGTERM))
        assert command(f"--run.directory={tmp_path / 'run'}", *line) == 143
    assert "in epoch 0, batch 2 of 4" in capsys.readouterr().err
    assert command(f"--run.directory={tmp_path / 'run'}", *line) == 0
    before, after = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_stop_while_preparing_ends_at_once(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_call(monkeypatch, MRIDataModule, "prepare", 1, lambda: send(signal.SIGTERM))
    assert command(f"--run.directory={tmp_path / 'run'}") == 143
    assert "segan_pl: stopped by SIGTERM before training" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_fit_has_no_folder_among_the_temporary_files_that_a_kill_could_leave(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, seen = tmp_path / "scratch", []
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    at_call(monkeypatch, AdversarialSegmentation, "training_step", 3, lambda: seen.append(list(scratch.iterdir())))
    assert command(f"--run.directory={tmp_path / 'run'}", "--trainer.max_epochs=1") == 0
    assert seen == [[]]


# -- what is said ----------------------------------------------------------------------------------------------------


def test_ctrl_c_after_training_ends_the_command_and_says_so(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    at_call(monkeypatch, cli, "finish", 1, lambda: send(signal.SIGINT))
    assert command(f"--run.directory={folder}", "--trainer.max_epochs=1") == 130
    assert "segan_pl: stopped by Ctrl-C after training" in capsys.readouterr().err
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_a_stop_that_no_batch_follows_is_answered(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_call(monkeypatch, AdversarialSegmentation, "on_train_epoch_end", 1, lambda: send(signal.SIGTERM))
    assert command(f"--run.directory={tmp_path / 'run'}", "--trainer.max_epochs=1") == 0
    assert "SIGTERM came after the last batch: training is complete" in capsys.readouterr().err


def test_a_scoring_that_is_stopped_speaks_of_no_training(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        send(signal.SIGTERM)

    at_call(monkeypatch, AdversarialSegmentation, "validation_step", 1, told)
    line = ["validate", f"--ckpt_path={whole / 'checkpoints' / 'last.ckpt'}", f"--run.directory={tmp_path / 'scored'}"]
    assert main(line) == 143
    said = capsys.readouterr().err
    assert "segan_pl: validate was stopped by SIGTERM\n" in said
    assert "SIGUSR1: validate trains nothing, there is nothing to save" in said
    assert "before training" not in said


def test_a_run_without_a_whole_checkpoint_does_not_promise_to_go_on(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, AdversarialSegmentation, "training_step", 1, lambda: send(signal.SIGTERM))
        assert command(f"--run.directory={tmp_path / 'tried'}", "--trainer.fast_dev_run=3") == 143
    said = capsys.readouterr().err
    assert "in epoch 0, batch 1 of 3; no checkpoint, as this run writes none\n" in said
    assert not (tmp_path / "tried").exists()


@pytest.mark.filterwarnings("ignore:.*the disk is full")
def test_a_full_disk_at_a_stop_leaves_the_checkpoint_before(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def told() -> None:
        monkeypatch.setattr(checkpoint, "write_atomically", full)
        send(signal.SIGTERM)

    folder = tmp_path / "run"
    at_call(monkeypatch, AdversarialSegmentation, "training_step", 6, told)
    assert command(f"--run.directory={folder}") == 143
    said = capsys.readouterr().err
    assert "the disk is full, this checkpoint was not written" in said
    assert f"--run.directory {folder} goes on from the checkpoint before" in said
    assert "goes on from there" not in said


@pytest.mark.parametrize("limit", ["--trainer.max_time=00:00:00:01", "--trainer.val_check_interval=00:00:00:01"])
def test_a_validation_that_time_began_is_not_said_to_be_repeated(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    at_call(monkeypatch, AdversarialSegmentation, "training_step", 2, lambda: time.sleep(1.1))
    at_call(monkeypatch, AdversarialSegmentation, "validation_step", 2, lambda: send(signal.SIGTERM))
    assert command(f"--run.directory={tmp_path / 'run'}", limit) == 143
    said = capsys.readouterr().err
    assert "stopped by SIGTERM in the validation of epoch 0, which time began and nothing repeats; checkpoint " in said


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({"RANK": "3"}, 0),  # left over from another program
        ({"RANK": "3", "TORCHELASTIC_RUN_ID": "x"}, 3),
        ({"SLURM_PROCID": "2"}, 0),  # a job without srun
        ({"SLURM_PROCID": "2", "SLURM_STEP_ID": "0"}, 2),
    ],
)
def test_one_rank_speaks_for_all_that_srun_or_torchrun_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], rank: int
) -> None:
    for name in ("RANK", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert started_rank() == rank
    told = signals.Signals()
    told.training = True
    told.notice(signal.SIGTERM)
    told.last_word("stopped")
    told.last_word("stopped, said again")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in lines] == (
        ["segan_pl: SIGTERM: stopping after this batch, with a checkpoint", "segan_pl: stopped"] if rank == 0 else []
    )


# -- Slurm's signal to requeue ---------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of a Slurm step; returns the file in which a scontrol writes what it was told."""
    client, told = tmp_path / "bin" / "scontrol", tmp_path / "told"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\necho "$@" >> "{told}"\nexit ${{SCONTROL_FAILS:-0}}\n')
    client.chmod(0o755)
    task = {"JOB_ID": "77", "JOB_NAME": "train", "STEP_ID": "0", "NTASKS": "1", "NNODES": "1", "PROCID": "0"}
    for name, value in {**task, "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    return told


@pytest.mark.parametrize(
    ("method", "call", "where"),
    [("training_step", 2, "in epoch 0, batch 2 of 4; "), ("validation_step", 3, "in the validation of epoch 0, ")],
)
def test_slurms_signal_stops_the_run_with_a_checkpoint_and_requeues_the_job(
    whole: Path,
    command: Command,
    slurm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    call: int,
    where: str,
) -> None:
    line = f"--run.root={tmp_path / 'runs'}"  # the folder is found again by the job's number
    with monkeypatch.context() as patch:
        at_call(patch, AdversarialSegmentation, method, call, lambda: send(signal.SIGUSR1))
        assert command(line) == 143
    said = capsys.readouterr().err
    assert "Slurm's signal to requeue: stopping after this batch, with a checkpoint; then the job is requeued" in said
    assert f"stopped by Slurm's signal to requeue {where}" in said
    assert "segan_pl: job 77 is requeued" in said
    assert slurm.read_text() == "requeue 77\n"
    assert command(line) == 0
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert scores(folder) == scores(whole)
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_a_job_that_cannot_be_requeued_says_so(
    command: Command, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCONTROL_FAILS", "3")
    for name, value in (("SLURM_ARRAY_JOB_ID", "70"), ("SLURM_ARRAY_TASK_ID", "4")):
        monkeypatch.setenv(name, value)
    at_call(monkeypatch, AdversarialSegmentation, "training_step", 1, lambda: send(signal.SIGUSR1))
    assert command(f"--run.directory={tmp_path / 'run'}") == 143
    assert slurm.read_text() == "requeue 70_4\n"
    assert "job 70_4 was not requeued, submit it again: exit code 3" in capsys.readouterr().err


def test_slurms_own_end_after_its_signal_does_not_cost_the_checkpoint(
    ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "TWICE", 0.0)
    told = signals.Signals()
    told.training, told.requeue = True, signal.SIGUSR1
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
        told.notice(number)
    assert ends == []
    assert told.stop == signal.SIGTERM
    told.notice(signal.SIGTERM)
    assert ends == [143]


def test_in_a_slurm_job_a_second_sigterm_means_no_more_than_the_first(
    ends: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """slurmd and srun each send one, seconds apart where ranks are many."""
    monkeypatch.setattr(signals, "TWICE", 0.0)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    told = signals.Signals()
    told.training = True
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM):
        told.notice(number)
    assert ends == []
    assert capsys.readouterr().err == "segan_pl: SIGTERM: stopping after this batch, with a checkpoint\n"
    told.notice(signal.SIGINT)
    assert ends == [130]


# -- signals without a run -------------------------------------------------------------------------------------------


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes with which a process would have ended at once."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_the_second_signal_ends_at_once_but_for_the_same_one_delivered_twice(
    ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = signals.Signals()
    told.training = True
    for number in (signal.SIGTERM, signal.SIGTERM, FELLOW):  # a launcher's and a group's, then another rank's
        told.notice(number)
    assert ends == []
    monkeypatch.setattr(signals, "TWICE", 0.0)
    told.notice(FELLOW)
    assert ends == []
    told.notice(signal.SIGINT)
    assert ends == [130]


def test_a_main_thread_that_hangs_before_training_is_not_waited_for(
    ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "GRACE", 0.05)
    signals.Signals().notice(signal.SIGTERM)
    limit = time.monotonic() + 10
    while not ends and time.monotonic() < limit:
        time.sleep(0.01)
    assert ends == [143]


SIGNAL_IN_NUMPY = """
import os, signal, sys, time

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["TOLD_IN"] and "told" not in globals():
            globals()["told"] = True
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

sys.meta_path.insert(0, Finder())
from segan_pl.__main__ import main

sys.exit(main(["fit", "--config", "demo"]))
"""


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy._core.overrides"])
def test_a_signal_in_the_midst_of_pytorchs_import_of_numpy_ends_the_run_as_any_other(module: str) -> None:
    environment = {**os.environ, "TOLD_IN": module}
    call = [sys.executable, "-c", SIGNAL_IN_NUMPY]
    ended = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stderr.count("Traceback")) == (143, 0), ended.stderr
    assert ended.stderr.count("segan_pl: stopped by SIGTERM") == 1


def test_what_was_ignored_stays_ignored_and_everything_is_put_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals.watching() as told:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == told.handle
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_process_takes_signals_as_any_program_does() -> None:
    with signals.watching() as told:
        child = os.fork()
        if child == 0:
            own = all(signal.getsignal(number) != told.handle for number in ALL)
            os._exit(0 if own and signal.set_wakeup_fd(-1) == -1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert told.stop == 0


def test_workers_are_not_in_the_runs_process_group(make_data: Callable[..., MRIDataModule]) -> None:
    data = make_data(workers=1)
    data.prepare_data()
    data.setup("fit")
    batches: Any = iter(data.train_dataloader())
    (worker,) = batches._workers
    limit = time.monotonic() + 30
    while os.getpgid(worker.pid) == os.getpgid(0) and time.monotonic() < limit:
        time.sleep(0.01)  # it leaves the group as the first thing that it does
    assert os.getpgid(worker.pid) == worker.pid


@contextmanager
def started(folder: Path, output: Path, *line: str) -> Iterator[subprocess.Popen[bytes]]:
    """`fit` as a process in a session of its own, which is gone afterwards."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "segan_pl", "fit", f"--config={folder / 'tiny.yaml'}", *line],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(ready: Callable[[], Any], process: subprocess.Popen[Any], seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)


def workers_of(parent: int) -> list[int]:
    """The processes that a process forked or started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.slow
def test_a_signal_that_also_reaches_the_loaders_workers_costs_no_checkpoint(command: Command, tmp_path: Path) -> None:
    """As systemd and Slurm send it: to every process of the job."""
    folder, output = tmp_path / "run", tmp_path / "output"
    line = ["--data.batch_size=2", "--trainer.max_epochs=500", "--run.patience=5000", "--data.workers=2"]
    with started(tmp_path, output, *line, f"--run.directory={folder}") as process:
        wait_until(lambda: "epoch 0 of" in output.read_text(), process)
        wait_until(lambda: workers_of(process.pid), process)
        time.sleep(0.5)  # a worker is told as the first thing that it does
        for number, said in ((signal.SIGUSR1, "; training goes on"), (signal.SIGTERM, "stopped by SIGTERM in ")):
            for target in [process.pid, *workers_of(process.pid)]:
                os.kill(target, number)
            if number == signal.SIGUSR1:
                wait_until(lambda said=said: said in output.read_text(), process)  # type: ignore[misc]
        assert process.wait(timeout=60) == 143
    assert said in output.read_text()
    assert "Traceback" not in output.read_text()
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_a_worker_ends_by_its_parents_signal_alone(make_data: Callable[..., MRIDataModule]) -> None:
    data = make_data(workers=1)
    data.prepare_data()
    data.setup("fit")
    batches: Any = iter(data.train_dataloader())
    next(batches)
    (worker,) = batches._workers
    for name in ("TERM", "USR1", "USR2", "INT", "HUP"):
        subprocess.run(["sh", "-c", f"kill -{name} {worker.pid}"], check=True)
    next(batches)
    assert worker.is_alive()
    torch.utils.data._utils.signal_handling._remove_worker_pids(id(batches))  # as a DataLoader does before
    batches._worker_pids_set = False
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
