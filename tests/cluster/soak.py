"""Many requeues and cancels of a run and of a search: `python -m tests.cluster.soak --requeues 20 --cancels 20`.

Each start of a job is held at its second batch and stopped there; a search's four workers are stopped together, which
are four stops. The table says whether all that was trained equals, to the bit, what nobody stopped.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from segan_pl.data.synthetic.cohort import make_cohort
from tests.cluster.runs import PROGRAM, Run, Runs, require_equal
from tests.cluster.slurm import Slurm, wait_for
from tests.cohort import CASES, SHAPE

BATCHES = 4
PLACE = "start 1"
WORKERS = 4


class Search(Run):
    """A search by bayes with as many trials as workers, which are an array of jobs."""

    signal = ("--signal=USR1", "--batch")

    def command(self, *more: str) -> list[str]:
        file = self.folder / "sweep.yaml"
        weight = {"model.objective.init_args.dice_weight": {"distribution": "uniform", "min": 0.1, "max": 1.0}}
        head = {"program": "segan_pl", "method": "bayes", "metric": {"name": "val/dice_wt", "goal": "maximize"}}
        line = ["segan_pl", "fit", "--config", str(self.runs.config), "${args}"]
        file.write_text(yaml.safe_dump({**head, "command": line, "parameters": weight}))
        given = ["--slurm", f"--output={self.directory}", f"--count={WORKERS}", f"--parallel={WORKERS}"]
        return [*PROGRAM, "sweep", str(file), *given, "--", "--run.preview_every=0", *more]

    def submit(self, holds: Sequence[str] = (), *options: str, more: Sequence[str] = (), before: str = "") -> None:
        environment = {**self.slurm.environment, "HOLDS": ";".join(holds)}
        done = subprocess.run(self.command(*more), env=environment, capture_output=True, text=True, check=True)
        (self.job,) = re.findall(rf"job (\d+): {WORKERS} workers", done.stdout)

    @property
    def jobs(self) -> list[str]:
        return [f"{self.job}_{number}" for number in range(WORKERS)]

    def said(self) -> str:
        logs = [*self.directory.glob("slurm/*.out"), *self.directory.glob("logs/*.log")]
        return "\n".join(log.read_text() for log in logs)

    def trained(self) -> list[Run]:
        """Its trials."""
        folders = sorted((self.directory / "runs").iterdir())
        trials = [Run(self.runs, folder, 1) for folder in folders]
        for trial in trials:
            trial.directory = trial.folder
        return trials


KINDS = ((f"a search of {WORKERS} workers", Search, WORKERS), ("a run of 2 ranks", Run, 2))


def epochs(starts: int) -> str:
    """Enough for two batches in each start."""
    return f"--trainer.max_epochs={2 + starts * 2 // BATCHES}"


def soak(run: Run, stop: str, rounds: int) -> float:
    """Carry a run to its end; in each round all its jobs are stopped, once all its ranks wait. Returns the seconds."""
    began = time.monotonic()
    more = [epochs(rounds)]
    run.submit([PLACE] * rounds, more=more)
    for number in range(1, rounds + 1):
        wait_for(lambda number=number: run.said().count("held at ") >= number * run.ranks, run.words, 300)  # type: ignore[misc]
        if stop == "requeue":
            run.tell()
            for job in run.jobs:
                wait_for(
                    lambda job=job, number=number: run.slurm.job(job)["Restarts"] == str(number),  # type: ignore[misc]
                    run.words,
                    300,
                )
        else:
            run.slurm.client("scancel", run.job)
            for job in run.jobs:
                run.slurm.wait(job, ["CANCELLED"])
            run.submit([PLACE] * (rounds - number), more=more)
    run.finish(600)
    return time.monotonic() - began


def equal(run: Run, whole: Run) -> str:
    """How much of what was trained is what nobody stopped."""
    pairs = list(zip(run.trained(), whole.trained(), strict=True))
    same = 0
    for one, other in pairs:
        try:
            require_equal(one, other)
            same += 1
        except AssertionError as error:
            print(f"{one.directory}: {error}", file=sys.stderr)
    return f"{same} of {len(pairs)} runs"


def main() -> None:
    """Print one row for each kind of run and of stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requeues", type=int, default=20)
    parser.add_argument("--cancels", type=int, default=20)
    given = parser.parse_args()
    print("| what | stopped by | stops | equal to the bit | seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak") as folder, tempfile.TemporaryDirectory(prefix="slurm") as short:
        cohort, prepared, work = (Path(folder) / name for name in ("cohort", "prepared", "work"))
        for place in (cohort, work):
            place.mkdir()
        make_cohort(cohort, cases=CASES, shape=SHAPE)
        slurm = Slurm(Path(short))
        try:
            slurm.start()
            runs = Runs(slurm, cohort, prepared, work)
            for stop, count in (("requeue", given.requeues), ("scancel", given.cancels)):
                for what, kind, ranks in KINDS if count else ():
                    rounds = count // WORKERS if kind is Search else count
                    name = f"{kind.__name__} {stop}"
                    run, whole = runs.new(name, ranks, kind), runs.new(f"{name}, whole", ranks, kind)
                    whole.submit(more=[epochs(rounds)])
                    whole.finish(600)
                    seconds = soak(run, stop, rounds)
                    print(
                        f"| {what} | {stop} | {rounds * len(run.jobs)} | {equal(run, whole)} | {seconds:.0f} |",
                        flush=True,
                    )
        finally:
            slurm.stop()


if __name__ == "__main__":
    main()
