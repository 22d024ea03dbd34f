"""W&B's own sweeps, against stand-ins for its client: no account and no network are needed, nor were they tried."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import WandbLogger

from segan_pl.__main__ import main
from segan_pl.training.run.requeue import AGENT_TOLD
from segan_pl.training.run.signals import REQUEUE
from segan_pl.training.trackers.naming import study_of
from segan_pl.training.trackers.wandb_run import tell_preempted

WANDB = """
import os, signal, subprocess, sys, time
sys.path.pop(0)
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
print(*sys.argv[1:], flush=True)
open("ready", "w").close()
while not told and "WAITS" in os.environ:
    time.sleep(0.01)
open("marked", "w").write(str(os.path.exists(os.environ["SEGAN_PL_AGENT_TOLD"])))
sys.exit(int(os.environ.get("ENDS", "0")))
"""
AGENT = "import sys; from segan_pl.__main__ import main; sys.exit(main(['sweep', 'agent', *sys.argv[1:]]))"


@pytest.fixture
def wandb_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package wandb that knows its user, and whose agent waits for SIGTERM."""
    package = tmp_path / "packages" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def login(**options):\n    return True\n")
    (package / "__main__.py").write_text(WANDB)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 138), (signal.SIGTERM, 143)])
def test_an_agent_that_is_told_to_stop_lets_its_trial_end_and_says_by_its_exit_code_what_told_it(
    wandb_stand_in: Path, number: int, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, "me/project/abc", "--count", "3"],
        env={**os.environ, "WAITS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60
    while not (wandb_stand_in / "ready").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert said == "agent --forward-signals --count 3 me/project/abc\n"
    assert process.returncode == code
    assert (wandb_stand_in / "marked").read_text() == "True"


def test_an_agent_that_nobody_stops_ends_with_its_own_exit_code(wandb_stand_in: Path) -> None:
    done = subprocess.run([sys.executable, "-c", AGENT, "me/project/abc"], env={**os.environ, "ENDS": "4"})
    assert done.returncode == 4
    assert (wandb_stand_in / "marked").read_text() == "False"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["agent", "abc"], "abc: expected ENTITY/PROJECT/ID, as `segan_pl sweep create` prints it"),
        (["agent", "me/project/abc", "--count", "0"], "--count 0: expected at least 1"),
        (["create", "sedes"], "sweep sedes: no such file, and no shipped sweep; did you mean 'seeds'"),
    ],
)
def test_what_is_typed_wrongly_is_one_line(line: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *line]) == 2
    assert capsys.readouterr().err.startswith(f"segan_pl: error: {says}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb's own imports
def test_without_a_login_or_offline_nothing_is_asked_of_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "NETRC", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(["sweep", "create", "seeds"]) == 2
    assert "W&B has no login here; `wandb login`, or WANDB_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["sweep", "agent", "me/project/abc"]) == 2
    assert "WANDB_MODE=offline: W&B's sweeps are on its server" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_sweep_is_made_of_the_whole_file_and_its_agents_lines_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def sweep(content: dict[str, Any], entity: str, project: str) -> str:
        asked.append((content["method"], entity, project))
        return "abc123"

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.login", lambda **options: True)
    monkeypatch.setattr("wandb.Api", lambda: SimpleNamespace(default_entity="me"))
    monkeypatch.setattr("wandb.sweep", sweep)
    assert main(["sweep", "create", "seeds", "--project", "tumours"]) == 0
    assert asked == [("grid", "me", "tumours")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "note: each agent needs the variable DATA_ROOT in its environment"
    assert lines[1] == "here:  segan_pl sweep agent me/tumours/abc123"
    assert lines[2].endswith("--output agents/abc123 -- sweep agent me/tumours/abc123")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_server_that_does_not_say_whose_the_login_is_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Api:
        @property
        def default_entity(self) -> str:
            raise ConnectionError("api.wandb.ai:\nunreachable")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.login", lambda **options: True)
    monkeypatch.setattr("wandb.Api", Api)
    assert main(["sweep", "create", "seeds"]) == 2
    assert capsys.readouterr().err.endswith("W&B refused the sweep: api.wandb.ai: unreachable\n")


@pytest.mark.parametrize(
    ("number", "sweep", "agent_told", "marked"),
    [
        (REQUEUE, True, False, True),
        (signal.SIGTERM, True, True, True),
        (signal.SIGTERM, True, False, False),  # W&B itself has stopped the run
        (REQUEUE, False, False, False),
    ],
)
def test_a_sweeps_run_is_marked_as_preempted_where_its_agent_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sweep: bool, agent_told: bool, marked: bool
) -> None:
    calls: list[bool] = []

    class StandIn(WandbLogger):
        def __init__(self) -> None:
            pass

        @property
        def experiment(self) -> Any:
            return SimpleNamespace(mark_preempting=lambda: calls.append(True))

    file = tmp_path / "told"
    monkeypatch.setenv(AGENT_TOLD, str(file))
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    if sweep:
        monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    if agent_told:
        file.touch()
    tell_preempted([StandIn()], number)
    assert bool(calls) == marked


def test_runs_of_a_study_are_one_group(tmp_path: Path) -> None:
    run = tmp_path / "seeds" / "runs" / "001"
    assert study_of(run) is None
    run.mkdir(parents=True)
    (tmp_path / "seeds" / "study.json").write_text("[]")
    assert study_of(run) == "seeds"


OFFLINE = """
import sys
from pathlib import Path
from segan_pl.training.run.folder import RunOptions
from segan_pl.training.trackers.choice import trackers
(logger,) = trackers(RunOptions(loggers=["wandb"], wandb_offline=True), Path(sys.argv[1]))
logger.log_metrics({"x": 1.0})
logger.experiment.finish()
"""


@pytest.mark.slow
def test_what_an_offline_run_will_send_holds_its_name_and_group_each_time_it_goes_on(tmp_path: Path) -> None:
    places = {f"WANDB_{name}": str(tmp_path / name) for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR")}
    run = tmp_path / "group-of-seeds" / "runs" / "number-001"
    run.mkdir(parents=True)
    (tmp_path / "group-of-seeds" / "study.json").write_text("[]")
    for _ in range(2):
        subprocess.run([sys.executable, "-c", OFFLINE, str(run)], env={**os.environ, **places}, check=True)
        time.sleep(1)  # W&B calls its folders by the second
    files = list(run.rglob("*.wandb"))
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        assert b"number-001" in content
        assert b"group-of-seeds" in content
        assert file.name == files[0].name  # by the run's id
