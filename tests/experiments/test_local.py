"""Runs in processes: order, what is kept, what fails, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments import process
from segan_pl.experiments.local import LocalRunner, run_one
from segan_pl.experiments.runs import Outcome, Run, command_lines, run_folder, run_state, save_runs

PLAYER = """
import os, sys, time
from pathlib import Path
command, *rest = sys.argv[1:]
if command == "fit":
    folder = Path(rest[rest.index("--run.directory") + 1])
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    with (folder / "starts").open("a") as file:
        seen = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")]
        file.write(f"{rest[0]} {seen[0]} {seen[1]} {time.time()}\\n")
    time.sleep(float(rest[1]))
    for dice in ("0.5000", "0.7000"):
        (folder / "checkpoints" / f"epoch0001_dice{dice}.ckpt").write_text("x")
    if Path(rest[0]).name == "bad" and not os.environ.get("MENDED"):
        print("segan_pl: error: epoch 0: a loss is not finite")
        sys.exit(1)
    if rest[0] == "killed":
        os.kill(os.getpid(), 9)
    (folder / "ended").write_text(str(time.time()))
print("arguments", command, *rest)
"""


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the command `segan_pl`."""
    script = tmp_path / "player.py"
    script.write_text(PLAYER)
    monkeypatch.setattr(process, "COMMAND", (sys.executable, str(script)))
    return script


def fit(name: str, seconds: float = 0.0, *more: str, after: tuple[str, ...] = ()) -> Run:
    return Run(name, ("fit", name, str(seconds), *more), after)


def run(runs: list[Run], study: Path, **options: object) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    return LocalRunner(progress=said.append, **options).run_all(runs, study), said  # type: ignore[arg-type]


def starts(study: Path, name: str) -> list[list[str]]:
    return [line.split() for line in (run_folder(study, name) / "starts").read_text().splitlines()]


def test_placeholders_name_the_folder_and_the_best_checkpoint_of_a_finished_run(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    runs = [fit("flair"), Run("test", ("test", "--ckpt_path", "{best:flair}", "--x={run:flair}"))]
    assert runs[1].needs == ("flair",)
    outcome, _ = run(runs, study)
    assert outcome == Outcome(("flair", "test"), {}, {}, ())
    said = (study / "logs" / "test.log").read_text().split()
    best = study / "runs" / "flair" / "checkpoints" / "epoch0001_dice0.7000.ckpt"
    assert said == ["arguments", "test", "--ckpt_path", str(best), f"--x={study / 'runs' / 'flair'}"]


def test_one_failure_costs_only_those_that_need_it_and_the_next_call_runs_only_them(
    player: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    runs = [fit("good"), fit("bad"), fit("child", after=("bad",)), fit("grandchild", after=("child",)), fit("last")]
    outcome, said = run(runs, study)
    assert outcome.finished == ("good", "last")
    assert outcome.failed == {"bad": "epoch 0: a loss is not finite"}
    assert outcome.skipped == {"child": "bad", "grandchild": "child"}
    assert outcome.exit_code == 1
    assert outcome.lines()[-1] == "5 runs, 2 finished, 1 failed, 2 skipped"
    assert "failed: bad: epoch 0: a loss is not finite" in outcome.lines()
    assert [line for line in said if line.startswith("bad")][-1].startswith("bad: failed (epoch 0: a loss")
    monkeypatch.setenv("MENDED", "1")
    outcome, said = run(runs, study)
    assert outcome.exit_code == 0
    assert outcome.finished == ("good", "bad", "child", "grandchild", "last")
    assert outcome.kept == ("good", "last")
    assert [len(starts(study, name)) for name in outcome.finished] == [1, 2, 1, 1, 1]
    assert run(runs, study)[1] == []  # nothing runs again


def test_a_killed_run_is_said_to_be_killed(player: Path, tmp_path: Path) -> None:
    outcome, _ = run([fit("killed")], tmp_path / "study")
    assert outcome.failed == {"killed": "killed by signal 9 (out of memory?)"}


def test_side_by_side_on_two_devices_each_run_has_one_of_them(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    names = [f"t{number}" for number in range(4)]
    run([fit(name, 0.3) for name in names], study, parallel=2, devices=("0", "1"))
    seen = [starts(study, name)[0] for name in names]
    assert sorted(one[1] for one in seen[:2]) == ["0", "1"]
    assert {one[1] for one in seen} == {"0", "1"}
    ends = [float((run_folder(study, name) / "ended").read_text()) for name in names]
    begins = [float(one[3]) for one in seen]
    assert max(begins[:2]) < min(ends[:2])  # the first two overlap
    assert min(begins[2:]) > min(ends[:2])  # the third waits for a free device


def test_without_devices_the_cores_are_shared_out(
    player: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("segan_pl.experiments.local.cores", lambda: 6)
    run([fit("a")], tmp_path / "one")
    assert starts(tmp_path / "one", "a")[0][2] == "None"  # one alone has them all
    run([fit("a"), fit("b")], tmp_path / "two", parallel=2)
    assert starts(tmp_path / "two", "a")[0][2] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run([fit("a"), fit("b")], tmp_path / "set", parallel=2)
    assert starts(tmp_path / "set", "a")[0][2] == "5"  # what the user set stays


def test_finished_with_other_arguments_is_refused_and_nothing_runs(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    run([fit("a", 0)], study)
    with pytest.raises(UsageError, match=r"run a has finished with other arguments \(0 -> 0.1\); choose"):
        run([fit("b"), fit("a", 0.1)], study)
    assert run_state(study, "b") is None


@pytest.mark.parametrize(
    ("runs", "error"),
    [
        ([fit("a"), fit("a")], "run a: is given twice"),
        ([fit("a", after=("b",)), fit("b")], "run a: needs b, which no run before it is"),
        ([fit("../a")], "expected a name of letters"),
        ([fit("")], "expected a name of letters"),
    ],
)
def test_unsound_studies_are_refused(runs: list[Run], error: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=error):
        LocalRunner().run_all(runs, tmp_path / "study")


def test_a_folder_is_worked_on_by_one_process_at_a_time(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"

    def second(line: str) -> None:
        if line.endswith("started"):
            with pytest.raises(UsageError, match="another process carries out or submits runs in this folder"):
                LocalRunner().run_all([fit("a")], study)

    assert LocalRunner(progress=second).run_all([fit("a")], study).finished == ("a",)


def _caller(study: Path, player: Path, seconds: float) -> subprocess.Popen[bytes]:
    text = (
        "from pathlib import Path\nfrom segan_pl.experiments import local, process, runs\nimport sys\n"
        f"process.COMMAND = (sys.executable, {str(player)!r})\n"
        f"local.LocalRunner().run_all([runs.Run('a', ('fit', 'a', '{seconds}'))], Path({str(study)!r}))\n"
    )
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _until(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_a_caller_killed_at_once_leaves_a_run_that_the_next_call_waits_for(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    caller = _caller(study, player, 2.0)
    _until(run_folder(study, "a") / "starts")
    caller.kill()
    caller.wait()
    outcome, said = run([fit("a", 2.0)], study)
    assert "a: still under way since an earlier call; waiting for it" in said
    first_end = (study / "logs" / "a.log").read_text().count("arguments fit")
    assert outcome.finished == ("a",)
    begins = [float(one[3]) for one in starts(study, "a")]
    assert len(begins) == 2  # its end was not written, so it is run again, which a finished fit survives
    assert begins[1] - begins[0] >= 2.0  # never two at a time in one run folder
    assert first_end == 2


def test_an_interruption_stops_the_run_which_has_not_failed(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    caller = _caller(study, player, 60.0)
    _until(run_folder(study, "a") / "starts")
    began = time.monotonic()
    os.kill(caller.pid, signal.SIGTERM)
    assert caller.wait(timeout=20) == 143
    assert time.monotonic() - began < 10
    assert run_state(study, "a") is None
    assert not (run_folder(study, "a") / "ended").exists()


def test_run_one_is_what_a_job_does(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    save_runs([fit("a"), fit("b", after=("a",))], study)
    said: list[str] = []
    assert run_one(study, "b", progress=said.append) == 1
    assert said == ["b: needs a, which has not finished"]
    assert run_one(study, "a") == 0
    assert run_one(study, "b") == 0
    assert run_one(study, "a", progress=said.append) == 0
    assert said[-1] == "a: finished earlier"
    with pytest.raises(UsageError, match="no run c; known: a, b"):
        run_one(study, "c")
    with pytest.raises(UsageError, match="not readable as a study"):
        run_one(tmp_path, "a")


def test_command_lines_show_the_folder_of_each_fit() -> None:
    lines = command_lines([fit("a b".replace(" ", "_")), Run("t", ("test", "--ckpt_path", "{best:a_b}"))], Path("s"))
    assert lines == ["segan_pl fit a_b 0.0 --run.directory s/runs/a_b", "segan_pl test --ckpt_path '{best:a_b}'"]


def test_states_are_plain_json_with_the_values_for_tables(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    run([Run("a", ("fit", "a", "0"), values={"seed": 1, "modalities": ["t1"]})], study)
    state = json.loads((study / "logs" / "a.json").read_text())
    assert {**state, "seconds": 0, "started": ""} == {
        "name": "a",
        "arguments": ["fit", "a", "0"],
        "state": "finished",
        "values": {"seed": 1, "modalities": ["t1"]},
        "exit_code": 0,
        "seconds": 0,
        "started": "",
        "error": "",
    }


def test_a_failed_run_that_is_mended_begins_anew_and_its_run_is_kept(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    run([fit("bad")], study)
    mended = Run("bad", ("fit", "good", "0.0"))
    outcome, said = run([mended], study)
    assert outcome.finished == ("bad",)
    assert said[0].endswith("that folder is now " + str(study / "runs" / "bad.failed1"))
    assert (study / "runs" / "bad.failed1" / "starts").is_file()
    assert len(starts(study, "bad")) == 1


def test_a_run_that_another_caller_finished_meanwhile_is_not_run_again(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    save_runs([fit("a", 1.0)], study)
    both = [
        subprocess.Popen([sys.executable, "-c", _ONE.format(player=str(player), study=str(study))]) for _ in range(2)
    ]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    assert len(starts(study, "a")) == 1


_ONE = """
import sys
from pathlib import Path
from segan_pl.experiments import local, process
process.COMMAND = (sys.executable, {player!r})
sys.exit(local.run_one(Path({study!r}), "a", progress=lambda line: None))
"""


def test_nothing_starts_after_a_stop(player: Path, tmp_path: Path) -> None:
    children = process.Children()
    children.stop()
    assert process.carry_out(fit("a"), tmp_path / "study", {}, print, children) == 130
    assert not run_folder(tmp_path / "study", "a").exists()


def test_a_stop_reaches_a_run_that_waits_for_another_callers_process(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    caller = _caller(study, player, 20.0)
    _until(run_folder(study, "a") / "starts")
    children = process.Children()
    threading.Timer(0.5, children.stop).start()
    began = time.monotonic()
    assert process.carry_out(fit("a", 20.0), study, {}, lambda line: None, children) == 130
    assert time.monotonic() - began < 10
    caller.terminate()
    caller.wait()


def test_what_needs_an_unfinished_run_of_an_earlier_list_is_skipped_not_forgotten(player: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    run([fit("bad")], study)
    outcome, _ = run([fit("child", after=("bad",))], study)
    assert outcome.skipped == {"child": "bad"}
    assert outcome.exit_code == 1
