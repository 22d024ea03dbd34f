"""Both sides' runs: the base's, kept for this machine, and those of the working tree.

The base's results lie in $SEGAN_PL_GOLDEN, or segan_pl_golden in the folder for temporary files, in a folder for each
commit, processor, set of library versions, and content of the files that say what runs (`_key`).
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from tests.golden import base_runs, runs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIBRARIES = ("torch", "lightning", "numpy", "scipy", "monai", "nibabel")
PASSED_ON = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")
"""Of the environment; the rest could change a run (ranks, W&B, threads, where caches are)."""

SET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
}


class BaseMissingError(Exception):
    """The base commit's code is not here, so nothing can be compared."""


class RunFailedError(Exception):
    """A side's process ended with an error."""


def base_results() -> Path:
    """The folder of the base's results and of the cohort; computed by the first process that asks for it.

    Raises:
        BaseMissingError: There is no git, or its history here does not have the base commit.
        RunFailedError: The base's code does not run.
    """
    home = Path(os.environ.get("SEGAN_PL_GOLDEN") or Path(tempfile.gettempdir(), "segan_pl_golden"))
    folder = home / f"{base_runs.COMMIT}-{_key()}"
    if folder.is_dir():
        return folder
    archive = _archive()
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several working trees may ask at once
        if not folder.is_dir():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
            code = partial / "code"
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(code, filter="data")
            changes = str(HERE / "known_changes.py")
            _train(code, partial, partial / "cohort", base_runs.RUNS, base_runs.FILES, changes=changes)
            shutil.rmtree(code)
            partial.rename(folder)
    return folder


def now_results(names: Iterable[str], cohort: Path, out: Path) -> str:
    """Train with the working tree's code, the runs that `names` begin from too; returns what the process printed.

    Raises:
        RunFailedError: One of the runs ends with an error.
    """
    lines = {name: runs.RUNS[name] for name in with_sources(names)}
    return _train(ROOT, out, cohort, lines, runs.FILES)


def with_sources(names: Iterable[str]) -> list[str]:
    """The runs in the table's order, with those whose checkpoint one of them begins with."""
    wanted = set(names)
    sources = {source for name in wanted for part in runs.RUNS[name] for source in re.findall(r"@runs/(\w+)/", part)}
    return [name for name in runs.RUNS if name in wanted | sources]


def _train(
    root: Path,
    out: Path,
    cohort: Path,
    lines: Mapping[str, list[str]],
    files: Mapping[str, str],
    *,
    changes: str = "",
) -> str:
    """One process that runs the lines with `root`'s code in the folder `out`."""
    folders = {"@cohort": str(cohort), "@prepared": str(out / "prepared"), "@runs": str(out / "runs")}
    request = {
        "root": str(root),
        "cohort": str(cohort),
        "changes": changes,
        "files": dict(files),
        "lines": {name: [_filled(part, folders) for part in line] for name, line in lines.items()},
    }
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= SET
    done = subprocess.run(
        [sys.executable, "-P", str(HERE / "child.py")],  # -P: nothing of its own folder is importable
        input=json.dumps(request),
        cwd=out,
        env={**environment, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RunFailedError(f"{root}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    shutil.rmtree(out / "runs")
    shutil.rmtree(out / "prepared")
    return done.stdout


def _filled(part: str, folders: Mapping[str, str]) -> str:
    for name, folder in folders.items():
        part = part.replace(name, folder)
    return part


def _archive() -> bytes:
    """The base commit's files as a tar archive."""
    try:
        made = subprocess.run(["git", "-C", str(ROOT), "archive", base_runs.COMMIT], capture_output=True)
    except FileNotFoundError:
        raise BaseMissingError(
            f"git is not installed; the golden runs need it to read commit {base_runs.COMMIT}"
        ) from None
    if made.returncode:
        reason = made.stderr.decode(errors="replace").strip()
        raise BaseMissingError(
            f"commit {base_runs.COMMIT} is not in the history of {ROOT} (a shallow clone?): {reason}"
        )
    return made.stdout


def _key() -> str:
    """What the base's numbers depend on besides its commit."""
    facts = [platform.python_version(), *(f"{name} {version(name)}" for name in LIBRARIES), _processor(), str(SET)]
    facts += [(HERE / name).read_text() for name in ("base_runs.py", "known_changes.py", "child.py")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def _processor() -> str:
    """Model and instruction sets: libraries choose their kernels by them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
