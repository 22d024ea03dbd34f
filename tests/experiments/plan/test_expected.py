"""The expected time of a study follows from what has finished in its folder, and from nothing else."""

from __future__ import annotations

from pathlib import Path

from segan_pl.experiments.plan.expected import expected_lines
from segan_pl.experiments.runs import Run, write_state

RUNS = [
    *(Run(f"a{n}", ("fit", "--config", "small")) for n in range(3)),
    *(Run(f"b{n}", ("fit", "--config", "large")) for n in range(2)),
    *(Run(f"t{n}", ("test",)) for n in range(2)),
]


def finished(folder: Path, run: Run, seconds: float) -> None:
    write_state(folder, run, "finished", exit_code=0, seconds=seconds)


def test_without_a_finished_run_nothing_is_guessed(tmp_path: Path) -> None:
    assert expected_lines(RUNS, tmp_path) == [
        "7 runs (5 fit, 2 test), 0 finished, 7 left",
        "expected time: unknown for 5 fit, 2 test, as none has finished in this folder",
    ]


def test_a_run_takes_as_long_as_those_of_its_system_else_of_its_kind(tmp_path: Path) -> None:
    finished(tmp_path, RUNS[0], 600)
    said = expected_lines(RUNS, tmp_path)
    assert said == [
        "7 runs (5 fit, 2 test), 1 finished, 6 left",  # four fits of 600 s; no large one has shown that it takes longer
        "expected time: 40 minutes, by the finished runs in this folder; unknown for 2 test, as none has finished in "
        "this folder",
    ]
    finished(tmp_path, RUNS[3], 3600)
    finished(tmp_path, RUNS[5], 30)
    assert expected_lines(RUNS, tmp_path, parallel=2)[1] == (  # (2 x 600 + 3600 + 30) / 2
        "expected time: 40 minutes, by the finished runs in this folder (2 at a time)"
    )


def test_with_everything_finished_there_is_no_time(tmp_path: Path) -> None:
    for run in RUNS:
        finished(tmp_path, run, 1)
    assert expected_lines(RUNS, tmp_path) == ["7 runs (5 fit, 2 test), 7 finished, 0 left"]
