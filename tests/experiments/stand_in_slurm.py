"""Stand-ins for Slurm's clients: jobs run at once, one after the other, in the background."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

SBATCH = """#!/bin/bash
cd {folder} && echo "$@" >> calls
job=$(wc -l < calls)
cp "$1" $job.sh
last=$(grep -oP '(?<=--array=0-)\\d+' $job.sh)
(
    until [ $job = 1 ] || [ -e $((job - 1)).ended ]; do sleep 0.02; done
    for task in $(seq 0 "${{last:-0}}"); do
        export SLURM_JOB_ID=$job
        [ "$last" ] && export SLURM_ARRAY_JOB_ID=$job SLURM_ARRAY_TASK_ID=$task
        bash $job.sh
    done
    touch $job.ended
) > $job.out 2>&1 < /dev/null &
echo "Submitted batch job $job"
"""
SRUN = """#!/bin/bash
echo "$@" >> {folder}/srun.calls
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SQUEUE = """#!/bin/sh
cat {folder}/queue 2> /dev/null
exit 0
"""


class StandIn:
    """The clients' folder, first on the PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("squeue", SQUEUE)):
            self.replace(name, text.format(folder=folder))
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def replace(self, name: str, text: str) -> None:
        """Let a client be this program."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def script(self, job: int) -> list[str]:
        """The lines of a submitted script."""
        return (self.folder / f"{job}.sh").read_text().splitlines()

    def wait(self, job: int) -> None:
        """Until a job has ended."""
        limit = time.monotonic() + 60
        while not (self.folder / f"{job}.ended").exists():
            assert time.monotonic() < limit, (self.folder / f"{job}.out").read_text()
            time.sleep(0.02)
