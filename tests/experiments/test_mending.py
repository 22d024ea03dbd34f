"""A run that failed and is mended: its earlier run makes way, and no stop or kill costs what the new one trained."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segan_pl.experiments import process
from segan_pl.experiments.process import Children, carry_out
from segan_pl.experiments.runs import Run, is_finished, run_folder, run_state, write_state

PLAYER = """
import shlex, sys, time
from pathlib import Path
kind, seconds = sys.argv[2], float(sys.argv[3])
folder = Path(sys.argv[sys.argv.index("--run.directory") + 1])
if kind == "typo":
    print("segan_pl: error: unknown option")
    sys.exit(2)
folder.mkdir(parents=True, exist_ok=True)
with (folder / "command.txt").open("a") as file:
    file.write(shlex.join(sys.argv) + "\\n")
if kind == "bad":
    sys.exit(1)
time.sleep(seconds)
(folder / "last.ckpt").touch()
"""
FAILED = Run("a", ("fit", "bad", "0"))
MENDED = Run("a", ("fit", "good", "0"))
LONG = Run("a", ("fit", "a mended one", "60"))


class Killed(BaseException):
    """What a kill is to the code that it strikes."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder whose run "a" has failed; a stand-in for the command `segan_pl`."""
    script = tmp_path / "player.py"
    script.write_text(PLAYER)
    monkeypatch.setattr(process, "COMMAND", (sys.executable, str(script)))
    assert call(FAILED, tmp_path / "study") == 1
    return tmp_path / "study"


def call(run: Run, study: Path, said: list[str] | None = None) -> int:
    said = [] if said is None else said
    return carry_out(run, study, {}, said.append, Children())


def starts(run: Path) -> list[str]:
    """What kind began in a run's folder, start by start."""
    file = run / "command.txt"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [next(kind for kind in ("bad", "good", "mended") if kind in line) for line in lines]


def until(begun: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not begun():
        assert time.monotonic() < deadline, "the run never began to train"
        time.sleep(0.02)


def call_and_stop(run: Run, study: Path, kind: str) -> None:
    """A call that is stopped as soon as its run trains."""
    children, codes = Children(), list[int]()
    folder = run_folder(study, run.name)
    before = starts(folder).count(kind)
    thread = threading.Thread(target=lambda: codes.append(carry_out(run, study, {}, print, children)))
    thread.start()
    until(lambda: starts(folder).count(kind) > before)
    children.stop()
    thread.join()
    assert codes[0] in process.STOPPED


def runs(study: Path) -> dict[str, list[str]]:
    return {folder.name: starts(folder) for folder in sorted((study / "runs").iterdir())}


def test_a_mended_run_that_is_stopped_goes_on_with_its_own_run(study: Path) -> None:
    for _ in range(3):
        call_and_stop(LONG, study, "mended")
    assert runs(study) == {"a": ["mended"] * 3, "a.failed1": ["bad"]}
    assert run_state(study, "a") is None  # a stop is no failure, and the old one is not this run's


def test_a_second_call_leaves_a_mended_run_under_way_alone(study: Path) -> None:
    mended, said = Run("a", ("fit", "good", "1.0")), list[str]()
    both = [threading.Thread(target=call, args=(mended, study, said)) for _ in range(2)]
    both[0].start()
    until(lambda: starts(run_folder(study, "a")) == ["good"])
    both[1].start()
    for one in both:
        one.join()
    assert runs(study) == {"a": ["good"], "a.failed1": ["bad"]}
    assert said[-1] == "a: finished elsewhere"
    assert is_finished(study, "a")


@pytest.mark.parametrize("moment", ["before the run is moved", "before the record goes", "before the start"])
def test_a_kill_while_a_failed_run_makes_way_costs_nothing(
    moment: str, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {
        "before the run is moved": (Path, "rename"),
        "before the record goes": (Path, "unlink"),
        "before the start": (Children, "start"),
    }[moment]
    with monkeypatch.context() as patched:
        patched.setattr(*target, killed)
        with pytest.raises(Killed):
            call(MENDED, study)
    assert call(MENDED, study) == 0
    assert runs(study) == {"a": ["good"], "a.failed1": ["bad"]}


def test_a_kill_after_the_training_and_before_its_record_does_not_repeat_it(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(process, "write_state", killed)
        with pytest.raises(Killed):
            call(MENDED, study)
    assert call(MENDED, study) == 0
    assert runs(study) == {"a": ["good", "good"], "a.failed1": ["bad"]}  # in the same folder, where fit goes on


@pytest.mark.parametrize("typos", [["one"], ["one", "another"]])
def test_mistyped_options_between_two_calls_cost_the_stopped_run_nothing(
    typos: list[str], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_and_stop(LONG, study, "mended")
    for typo in typos:
        assert call(Run("a", ("fit", "typo", "0", typo)), study) == 2
    monkeypatch.chdir(study.parent)
    call_and_stop(LONG, Path("study"), "mended")  # as a job of Slurm and a call here name the same folder
    assert runs(study) == {"a": ["mended"] * 2, "a.failed1": ["bad"]}


def test_a_stopped_run_is_not_taken_for_one_whose_failure_was_mended_before(study: Path) -> None:
    call_and_stop(LONG, study, "mended")
    write_state(study, FAILED, "failed", exit_code=1)  # as earlier versions left it
    call_and_stop(LONG, study, "mended")
    assert runs(study) == {"a": ["mended"] * 2, "a.failed1": ["bad"]}


def test_a_failed_run_that_continues_another_makes_way_too(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Run("b", ("fit", "bad", "0", "--init={run:a}", "its loss is not finite"))
    assert call(failed, study) == 1
    monkeypatch.chdir(study.parent)
    assert call(Run("b", ("fit", "good", "0", "--init={run:a}")), Path("study")) == 0
    assert runs(study) == {"a": ["bad"], "b": ["good"], "b.failed1": ["bad"]}


def test_a_run_without_a_record_of_its_command_counts_as_the_one_that_failed(study: Path) -> None:
    (run_folder(study, "a") / "command.txt").unlink()
    assert call(MENDED, study) == 0
    assert runs(study) == {"a": ["good"], "a.failed1": []}
