"""Which runs of a study's folder Slurm holds: slurm/jobs.json has their numbers, squeue says how they stand.

sacct is not asked: it answers nothing where Slurm keeps no accounts. Of a job that squeue does not know the folder says
all: logs/NAME.json how its run ended; a run without it was stopped, or its job was.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.experiments.runs import Run, load_runs, run_state
from segan_pl.files import write_whole

ENDING = "COMPLETING"
"""The state of a job whose processes are being ended: after scancel, or before it is queued again."""
PATIENCE = 45.0
"""Seconds: Slurm's own KillWait, after which it ends processes that have not ended, is 30 by default."""


def jobs_file(directory: Path) -> Path:
    """Of a study's folder."""
    return directory / "slurm" / "jobs.json"


def remember_jobs(directory: Path, jobs: Mapping[str, str]) -> None:
    """Keep the numbers of jobs by the names of their runs; earlier ones of other runs stay."""
    write_whole(jobs_file(directory), json.dumps({**_jobs(directory), **jobs}, indent=1) + "\n")


def _jobs(directory: Path) -> dict[str, str]:
    file = jobs_file(directory)
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file}: not readable ({error}); remove it once none of its jobs is in the queue") from error


def under_way(directory: Path) -> dict[str, tuple[str, str]]:
    """The runs whose jobs wait or run: name to the job's number and how it stands, e.g. ("12_3", "PENDING, Priority").

    Raises:
        UsageError: squeue does not answer, so that nobody knows.
    """
    jobs = _jobs(directory)
    if not jobs:
        return {}
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        failed = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    if failed:
        raise UsageError(
            f"squeue does not say how the jobs of {jobs_file(directory)} stand ({' '.join(failed.split())}); call this "
            f"where Slurm is, or remove that file once none of them is in the queue"
        )
    found = {}
    for line in done.stdout.splitlines():
        job, state, reason = line.split("|", 2)
        found[job] = state if reason in ("None", "") else f"{state}, {reason}"
    return {
        name: (job, found[job])
        for name, job in jobs.items()
        if job in found and not (found[job].startswith(ENDING) and _has_ended(directory, name, job))
    }


def settled(directory: Path, names: Collection[str], progress: Callable[[str], None]) -> dict[str, tuple[str, str]]:
    """The same, after a short wait for those jobs of `names` that are ending: cancelled ones, or ones to run again.

    Raises:
        UsageError: As `under_way`.
    """
    limit, said = time.monotonic() + PATIENCE, False
    while True:
        held = under_way(directory)
        ending = [held[name][0] for name in names if name in held and held[name][1].startswith(ENDING)]
        if not ending or time.monotonic() >= limit:
            return held
        if not said:
            progress(f"waiting up to {PATIENCE:.0f} s for the end of job {', '.join(ending)}")
        said = True
        time.sleep(2)


def require_unchanged(runs: Iterable[Run], directory: Path) -> None:
    """Refuse other arguments for a run whose job waits or runs: the job reads its run from the folder when it begins.

    Raises:
        UsageError: One was to be replaced; or as `under_way`.
    """
    known = {one.name: one for one in load_runs(directory)} if (directory / "study.json").is_file() else {}
    pairs = [(known[run.name], run) for run in runs if run.name in known]
    changed = [now.name for before, now in pairs if (before.arguments, before.after) != (now.arguments, now.after)]
    # squeue is not asked for runs that never had a job, so that a folder is worked on where there is no Slurm
    if not _jobs(directory).keys() & set(changed):
        return
    held = under_way(directory)
    for name in changed:
        if name in held:
            raise UsageError(
                f"{directory}: job {held[name][0]} is to carry out {name} with other arguments, or after other runs; "
                f"cancel it (scancel), or give another name or --output"
            )


def _has_ended(directory: Path, name: str, job: str) -> bool:
    """Whether a job's run has ended for good; one that was stopped has not, and Slurm queues its job again.

    The record of an earlier job that failed stays until a later one ends, so it counts by its time.
    """
    record = directory / "logs" / f"{name}.json"
    script = jobs_file(directory).with_name(f"{job.partition('_')[0]}_submission.sh")
    return record.is_file() and not (script.is_file() and record.stat().st_mtime < script.stat().st_mtime)


def standing_lines(runs: Iterable[Run], directory: Path) -> list[str]:
    """One line for each run: how it stands.

    Raises:
        UsageError: As `under_way`.
    """
    held, jobs = under_way(directory), _jobs(directory)
    lines = []
    for run in runs:
        state = run_state(directory, run.name)
        if run.name in held:
            number, how = held[run.name]
            said = f"job {number}: {how}"
        elif state is not None:
            why = f" ({state['error']})" if state.get("error") else ""
            said = f"{state['state']}{why}"
        elif run.name in jobs:
            said = f"stopped; job {jobs[run.name]} is no longer in the queue, the same command submits it again"
        else:
            said = "not submitted"
        lines.append(f"{run.name}: {said}")
    return lines
