"""One Slurm for all tests of this folder, and runs of the tiny cohort in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.runs import Runs
from tests.cluster.slurm import Slurm, missing

REQUIRED = "SEGAN_PL_TEST_SLURM"
"""Where this is set, as by `make test-cluster`, the tests fail without Slurm instead of being skipped."""


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A cluster of one node."""
    if lacking := missing():
        reason = f"this machine lacks {', '.join(lacking)} (Debian: slurmctld slurmd slurm-client munge)"
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(reason)
    # short: munge's socket lies in it
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as folder:
        cluster = Slurm(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def runs(slurm: Slurm, cohort: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Trainings on the tiny cohort."""
    return Runs(slurm, cohort, prepared, tmp_path_factory.mktemp("runs"))
