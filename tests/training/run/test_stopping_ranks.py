"""Stops of two ranks, as Lightning's launcher starts them: both end, in time, by the exit code of a stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from segan_pl.data.case_pool import cores
from segan_pl.training.run import signals
from tests.cohort import SYSTEM
from tests.training.run.test_stopping import wait_until

pytest_plugins = ["tests.cohort_fixtures"]

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tiny(tmp_path: Path, cohort: Path, prepared: Path) -> None:
    """Writes tiny.yaml: epochs of four batches."""
    (tmp_path / "tiny.yaml").write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))


LONG = ("--data.batch_size=2", "--trainer.max_epochs=500", "--run.patience=5000", "--trainer.devices=2")


def other_rank(launcher: int) -> int | None:
    """The process of rank 1; None before it was started."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) if folder.name.isdigit() else 0
            if parent == launcher and b"LOCAL_RANK=1" in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    return None


RECORDED = """
import os, sys, threading, time
from pathlib import Path

own, leave, folder = os.getpid(), os._exit, Path(__file__).parent

def ended(code):
    if os.getpid() == own:  # a forked process has this too
        place = folder / f"code{os.environ.get('LOCAL_RANK', '0')}"
        whole = place.with_name(f"{place.name}.{threading.get_ident()}")  # two threads may end the process at once
        whole.write_text(str(code))
        whole.replace(place)

def at_once(code):
    ended(code)
    leave(code)

os._exit = at_once
if __name__ == "__main__":
    from segan_pl.__main__ import main

    if "SLOW_STEP" in os.environ:
        from segan_pl.training.system import AdversarialSegmentation

        step = AdversarialSegmentation.training_step
        AdversarialSegmentation.training_step = lambda *given: (print("in a step", flush=True), time.sleep(600))
    code = main()
    ended(code)
    sys.exit(code)
"""
"""A `fit` whose ranks each leave their exit code in a file, with which Lightning's launcher starts the other rank."""


def is_gone(process: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def takes_signals(process: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM; one that only starts yet would die of it."""
    with suppress(OSError):
        mask = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{process}/status").read_text())
        return mask is not None and bool(int(mask[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def limit() -> float:
    """Seconds in which ranks must end: 10, and more where others use the cores too, but never as long as a hang."""
    return 10 * min(4.0, max(1.0, os.getloadavg()[0] / cores()))


@contextmanager
def two_ranks(folder: Path, *line: str, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`fit` on two ranks, with the file of what it says."""
    script, output = folder / "fit.py", folder / "output"
    script.write_text(RECORDED)
    given = [*LONG, f"--run.directory={folder / 'run'}", f"--data.cache_dir={folder / 'cache'}", *line]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(script), "fit", f"--config={folder / 'tiny.yaml'}", *given],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), **variables},
            start_new_session=True,
        )
    try:
        yield process, output
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def told_and_gone(process: subprocess.Popen[bytes], told: str, *, again_after: float | None = None) -> None:
    """Signal one rank, both or their group, and require that both end in time, by the exit code of SIGTERM."""
    wait_until(lambda: other_rank(process.pid), process)
    other = other_rank(process.pid)
    assert other is not None
    wait_until(lambda: takes_signals(other), process)
    time.sleep(0.5)
    allowed, began = limit(), time.monotonic()
    targets = {"rank 0": [process.pid], "rank 1": [other], "both": [process.pid, other], "group": [-process.pid]}[told]
    for pause in (0.0, again_after):
        if pause is not None:
            time.sleep(pause)
            for target in targets:
                with suppress(ProcessLookupError):
                    os.kill(target, signal.SIGTERM)
    while not is_gone(other) or process.poll() is None:
        assert time.monotonic() - began < allowed, f"rank 0: {process.poll()}, rank 1 ended: {is_gone(other)}"
        time.sleep(0.02)
    assert process.returncode == 143


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "told", "again_after"),
    [
        ("preparing", "rank 0", None),
        ("preparing", "rank 1", None),
        ("preparing", "group", None),
        ("training", "rank 0", None),
        ("training", "rank 1", None),
        ("training", "both", None),
        ("training", "group", None),
        ("training", "both", 0.1),
        ("validation", "rank 0", None),
        ("validation", "rank 1", None),
        ("validation", "both", 0.1),
    ],
)
def test_two_ranks_end_together_whichever_was_told(
    tiny: None, tmp_path: Path, moment: str, told: str, again_after: float | None
) -> None:
    line = ["--data.val_fraction=0.75", "--model.subsets=all"] if moment == "validation" else []
    with two_ranks(tmp_path, *line) as (process, output):
        mark = "Initializing distributed" if moment == "preparing" else "epoch 0 of"
        wait_until(lambda: mark in output.read_text(), process)
        told_and_gone(process, told, again_after=again_after)
    assert "Traceback" not in output.read_text()
    assert [(tmp_path / f"code{rank}").read_text() for rank in (0, 1)] == ["143", "143"]
    assert output.read_text().count("segan_pl: stopped by ") == 1
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file() == (moment != "preparing")


@pytest.mark.slow
@pytest.mark.parametrize("told", ["rank 0", "rank 1"])
def test_a_second_signal_ends_both_ranks_in_the_middle_of_a_step(tiny: None, tmp_path: Path, told: str) -> None:
    with two_ranks(tmp_path, SLOW_STEP="1") as (process, output):
        wait_until(lambda: output.read_text().count("in a step") == 2, process)
        told_and_gone(process, told, again_after=signals.TWICE + 0.2)
    assert [(tmp_path / f"code{rank}").read_text() for rank in (0, 1)] == ["143", "143"]
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
