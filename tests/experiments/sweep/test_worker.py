"""Several workers on one journal: they share its trials, and what one leaves another takes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments import process
from segan_pl.experiments.cluster import Cluster
from segan_pl.experiments.local import LocalRunner
from segan_pl.experiments.process import lock_run
from segan_pl.experiments.runs import run_state, write_state
from segan_pl.experiments.slurm import SlurmRunner
from segan_pl.experiments.sweep import worker as sweep_worker
from segan_pl.experiments.sweep.journal import WORK, kept_study, kept_sweep
from segan_pl.experiments.sweep.search import Search
from segan_pl.experiments.sweep.study import Plan, run_sweep
from segan_pl.experiments.sweep.worker import work
from tests.experiments.stand_in_slurm import StandIn
from tests.experiments.sweep.stand_in import BAYES

# In the place of `segan_pl fit`: it counts its starts in the folder, and scores. Trial 1 waits in its first start,
# the others until there is a file "go".
FIT = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--run.directory") + 1])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write("start\\n")
again = (folder / "starts").read_text().count("start") > 1
go = folder.parents[1] / "go"
while not again and (folder.name.startswith("001") or not go.exists()):
    time.sleep(0.02)
(folder / "metrics.csv").write_text("epoch,val/dice_wt\\n0,0.5\\n")
"""
# The same without waiting; the second trial fails.
QUICK = FIT.partition("again")[0] + FIT.splitlines()[-1] + "\nsys.exit(folder.name.startswith('002'))"
WORKER = """
import pathlib, sys
from segan_pl.experiments import process
from segan_pl.experiments.sweep.worker import work
process.COMMAND = (sys.executable, "-c", sys.argv[2])
sys.exit(work(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture
def search(make: Callable[..., Plan], study: Path) -> Path:
    """A search of four trials that workers may take."""
    asked = make(BAYES, "bayes", count=4)
    made = Search(asked.sweep, study, seed=3)
    made.study.set_user_attr(WORK, {"arguments": list(asked.arguments), "count": 4})
    return study


def starts(study: Path) -> dict[str, int]:
    """How often each trial was started."""
    return {file.parent.name[:3]: file.read_text().count("start") for file in sorted(study.glob("runs/*/starts"))}


def journal(study: Path) -> list[optuna.trial.FrozenTrial]:
    return opened(study).study.get_trials()


def opened(study: Path) -> Search:
    kept = kept_study(study)
    assert kept is not None
    return Search(kept_sweep(kept, study), study)


def wait_for(ready: Callable[[], object], what: object = "") -> None:
    limit = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def worker(study: Path, fit: str = FIT) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(study), fit])


def test_what_a_killed_worker_leaves_another_takes_on_in_its_folder_and_no_other_trial_is_started_twice(
    search: Path,
) -> None:
    first = worker(search)
    wait_for(lambda: starts(search) == {"001": 1})
    second = worker(search)
    wait_for(lambda: starts(search) == {"001": 1, "002": 1})
    # with its trial, which is another thread's child
    children = [path.read_text() for path in Path(f"/proc/{first.pid}/task").glob("*/children")]
    for number in (first.pid, *map(int, " ".join(children).split())):
        os.kill(number, signal.SIGKILL)
    first.wait()
    (search / "go").touch()
    assert second.wait() == 0
    assert starts(search) == {"001": 2, "002": 1, "003": 1, "004": 1}
    assert [(trial.state.name, trial.value) for trial in journal(search)] == [("COMPLETE", 0.5)] * 4


def test_workers_that_begin_at_once_share_the_trials(search: Path) -> None:
    workers = [worker(search, QUICK) for _ in range(3)]
    assert sorted(one.wait() for one in workers) == [0, 0, 1]
    assert starts(search) == {"001": 1, "002": 1, "003": 1, "004": 1}


def in_this_process(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", program))


def test_a_trial_whose_process_outlives_its_worker_is_left_to_it(search: Path) -> None:
    first = worker(search)
    wait_for(lambda: starts(search) == {"001": 1})
    (child,) = [
        int(path.read_text()) for path in Path(f"/proc/{first.pid}/task").glob("*/children") if path.read_text()
    ]
    first.kill()
    first.wait()
    (search / "go").touch()
    assert worker(search).wait() == 0
    assert starts(search) == {"001": 1, "002": 1, "003": 1, "004": 1}
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: (lock := lock_run(search, "001")) is not None and lock.close() is None)
    assert worker(search).wait() == 0
    assert starts(search) == {"001": 2, "002": 1, "003": 1, "004": 1}


def test_a_trial_that_ends_while_another_worker_looks_at_it_is_not_repeated(
    search: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch, QUICK.replace("002", "none"))
    plan = Plan(opened(search).sweep, (), 4, 3)
    (trial,) = opened(search).propose(1)
    looks = iter([None])

    def stale(directory: Path, name: str) -> dict[str, Any] | None:
        if name != trial.name or next(looks, "over") is None:  # the first look is before the other's record
            return None
        return run_state(directory, name)

    write_state(search, plan.run(trial), "finished", exit_code=0)
    monkeypatch.setattr(sweep_worker, "run_state", stale)
    assert work(search) == 0
    assert starts(search) == {"002": 1, "003": 1, "004": 1}


def test_a_trial_in_whose_folder_another_process_still_trains_is_waited_for(
    search: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use = "if not again:\n    sys.exit(75)\n"
    program = FIT.partition("go = ")[0] + in_use + FIT.splitlines()[-1]
    in_this_process(monkeypatch, program)
    monkeypatch.setattr(process, "WAIT", 0.01)
    said: list[str] = []
    assert work(search, progress=said.append) == 0
    assert starts(search) == {"001": 2, "002": 2, "003": 2, "004": 2}
    assert len([line for line in said if line.endswith("waiting for it")]) == 4
    assert [trial.state.name for trial in journal(search)] == ["COMPLETE"] * 4


def test_a_trial_whose_lock_is_held_is_left_to_its_holder(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch, QUICK.replace("002", "none"))
    lock = lock_run(search, opened(search).propose(1)[0].name)
    assert lock is not None
    assert work(search) == 0
    assert starts(search) == {"002": 1, "003": 1, "004": 1}
    lock.close()
    assert work(search) == 0
    assert starts(search) == {"001": 1, "002": 1, "003": 1, "004": 1}


def test_a_worker_that_is_told_to_stop_takes_no_other_trial_and_the_next_one_goes_on_with_its_own(
    search: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch, FIT)

    def stop() -> None:
        wait_for(lambda: starts(search))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(SystemExit) as stopped:
        work(search)
    thread.join()
    assert (stopped.value.code, starts(search)) == (143, {"001": 1})
    (search / "go").touch()
    assert work(search) == 0
    assert starts(search) == {"001": 2, "002": 1, "003": 1, "004": 1}


def test_a_folder_without_a_submitted_search_has_nothing_for_a_worker(make: Callable[..., Plan], study: Path) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match="study: holds no search for workers; `segan_pl sweep FILE --slurm` makes"):
            work(study)
        Search(make(BAYES, "bayes", count=1).sweep, study)


# -- submitted ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Clients that take jobs and begin none."""
    clients = StandIn(tmp_path / "slurm", monkeypatch)
    clients.replace("sbatch", "#!/bin/sh\ncp $1 $(dirname $0)/7.sh\necho Submitted batch job 7\n")
    return clients


def test_bayes_is_submitted_as_an_array_of_workers_and_those_under_way_are_not_submitted_again(
    slurm: StandIn, make: Callable[..., Plan], study: Path
) -> None:
    lines: list[str] = []
    runner = SlurmRunner(Cluster(tasks_per_node=2), parallel=3, progress=lines.append)
    assert run_sweep(make(BAYES, "bayes", count=5), study, runner) == (None, [])
    assert lines == ["job 7: 3 workers for 5 trials"]
    asked_for = {"#SBATCH --array=0-2%3", "#SBATCH --ntasks-per-node=2", "#SBATCH --signal=B:SIGUSR1@120"}
    assert asked_for < set(slurm.script(7))
    (slurm.folder / "queue").write_text("7_0|RUNNING|None\n7_2|PENDING|Priority\n")
    run_sweep(make(BAYES, "bayes", count=9), study, runner)
    assert lines[1:] == [
        "worker 1: job 7_0 is under way (RUNNING), not submitted again",
        "worker 3: job 7_2 is under way (PENDING, Priority), not submitted again",
        "job 7: 1 workers for 9 trials",
    ]
    kept = kept_study(study)
    assert kept is not None
    assert kept.user_attrs[WORK] == {"arguments": ["fit", "--config", "segan_cat"], "count": 9}
    other = make(BAYES, "bayes", ["--data.batch_size=3"], count=9)
    with pytest.raises(UsageError, match=r"job 7_0, 7_2 takes trials with other arguments; cancel it \(scancel\), or"):
        run_sweep(other, study, runner)
    with pytest.raises(UsageError, match=r"job 7_0, 7_2 takes trials of this search; wait for it, or cancel it"):
        run_sweep(other, study, LocalRunner())


def test_a_failed_trial_counts_as_failed_until_the_search_is_submitted_again(
    slurm: StandIn, make: Callable[..., Plan], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    runner = SlurmRunner(Cluster(), progress=lines.append)
    run_sweep(make(BAYES, "bayes", count=3), study, runner)
    in_this_process(monkeypatch, QUICK)
    assert [work(study), work(study)] == [1, 0]
    assert starts(study) == {"001": 1, "002": 1, "003": 1}
    failed = journal(study)[1].user_attrs["name"]
    assert (run_state(study, failed) or {})["state"] == "failed"
    in_this_process(monkeypatch, QUICK.replace("002", "none"))
    run_sweep(make(BAYES, "bayes", count=3), study, runner)
    assert run_state(study, failed) is None
    assert work(study) == 0
    assert starts(study) == {"001": 1, "002": 2, "003": 1}
    assert lines == [f"job 7: 1 workers for {left} trials; --parallel N submits N" for left in (3, 1)]
    run_sweep(make(BAYES, "bayes", count=3), study, runner)
    assert lines[2:] == ["every trial has finished; nothing is submitted"]
