"""Two searches, and a runner that trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segan_pl.experiments.runs import Outcome, Run, is_finished, run_folder, write_state

GRID = {"model.objective.init_args.clip": {"values": ["all", "none"]}, "data.seed": {"values": [0, 1]}}
BAYES = {"rate": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0}, "kind": {"values": [[1, 2], None]}}


class StandIn:
    """A runner that finishes every trial with a score that its values decide; those named in `broken` fail."""

    waits, writes = True, True

    def __init__(self, score: Callable[[dict[str, Any]], float] = lambda values: 0.5, parallel: int = 1) -> None:
        self.score = score
        self.parallel = parallel
        self.broken: set[str] = set()
        self.rounds: list[list[str]] = []

    def progress(self, line: str) -> None:
        pass

    def run_all(self, runs: Sequence[Run], directory: Path) -> Outcome:
        left = [run for run in runs if not is_finished(directory, run.name)]
        self.rounds.append([run.name for run in left])
        for run in left:
            self._run(run, directory)
        done = [run.name for run in runs if is_finished(directory, run.name)]
        failed = {run.name: "diverged" for run in runs if run.name not in done}
        return Outcome(tuple(done), failed, {}, tuple(run.name for run in runs if run not in left))

    def _run(self, trial: Run, directory: Path) -> None:
        if trial.name in self.broken:
            write_state(directory, trial, "failed", exit_code=1, seconds=1.0, error="diverged")
            return
        run = run_folder(directory, trial.name)
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(f"epoch,val/dice_wt\n0,0.01\n1,{self.score(dict(trial.values))}\n")
        write_state(directory, trial, "finished", exit_code=0, seconds=2.0, error="")
