"""A rank that ends in the middle of a run: all others end within seconds, and say which it was and why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cohort import SYSTEM
from tests.training.run.test_stopping_ranks import LONG, is_gone, limit

pytest_plugins = ["tests.cohort_fixtures"]

PROJECT = Path(__file__).resolve().parents[3]

DYING = """
import os, signal, sys, time
from pathlib import Path

def die(how):
    Path(__file__).with_name("died").write_text(f"{os.getpid()} {time.time()}")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    import torch

    raise torch.OutOfMemoryError("no memory") if how == "memory" else ValueError("a bad batch")

if __name__ == "__main__":
    from segan_pl.__main__ import main
    from segan_pl.data.module import MRIDataModule
    from segan_pl.training.system import AdversarialSegmentation

    how, rank, moment = os.environ["DIES"].split("-")
    if os.environ.get("LOCAL_RANK", "0") == rank:
        if moment == "preparing":
            MRIDataModule.prepare_data = lambda data: die(how)
        else:
            name = {"training": "training_step", "validation": "validation_step"}[moment]
            step = getattr(AdversarialSegmentation, name)

            def dying(system, batch, batch_idx):
                if moment == "validation" or batch_idx == 1:
                    die(how)
                return step(system, batch, batch_idx)

            setattr(AdversarialSegmentation, name, dying)
    sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dies", "why"),
    [
        (
            "raises-1-training",
            "rank 1 of 2 ({host}, process {dead}) ended with ValueError: a bad batch: look at",
        ),
        (
            "killed-1-training",
            "process {dead}) was killed by SIGKILL, as the system does when memory runs out:",
        ),
        ("memory-0-training", "rank 0 of 2 ({host}, process {dead}) ended with OutOfMemoryError: no memory: look at"),
        ("killed-0-preparing", "rank 0 of 2 ({host}, process {dead}) ended without a word (killed, out of memory, or"),
        (
            "killed-1-validation",
            "process {dead}) was killed by SIGKILL, as the system does when memory runs out:",
        ),
    ],
)
def test_when_a_rank_ends_the_other_ends_and_says_why(
    tmp_path: Path, cohort: Path, prepared: Path, dies: str, why: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))
    (tmp_path / "fit.py").write_text(DYING)
    with (tmp_path / "output").open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "fit.py", "fit", "-c", "tiny.yaml", *LONG, "--run.directory=run", "--data.workers=1"],
            cwd=tmp_path,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), "DIES": dies},
            start_new_session=True,
        )
    try:
        process.wait(900)
        dead, when = (tmp_path / "died").read_text().split()
        # rank 1 outlives rank 0 where that dies
        while any(not is_gone(one) for one in members(process.pid)) and time.time() < float(when) + limit():
            time.sleep(0.1)
        took = time.time() - float(when)
        assert [one for one in members(process.pid) if not is_gone(one)] == []
    finally:
        for one in members(process.pid):
            os.kill(one, signal.SIGKILL)
    said = (tmp_path / "output").read_text()
    assert took < limit(), said
    assert process.returncode not in (0, None)
    assert why.format(host=os.uname().nodename, dead=dead) in said
    last = [line for line in said.splitlines() if line.startswith("segan_pl: error: ")]
    assert "GLHF" not in "".join(last)
    assert all("Traceback" not in line or "killed" not in dies for line in said.splitlines()), said


def members(group: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getsid(int(folder.name)) == group and not is_gone(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return found
