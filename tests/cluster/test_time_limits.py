"""What Slurm does when a job's time is up; it looks every 30 seconds, so both jobs' time ends together."""

from __future__ import annotations

import pytest

from tests.cluster.runs import Run, Runs, require_equal
from tests.cluster.slurm import wait_for

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def ending(runs: Runs) -> tuple[Run, Run]:
    """A run that waits in an epoch for the signal before its time is up, and one in a validation for the end.

    Their jobs have an hour until both wait, since nobody knows how long a start takes.
    """
    signalled, expiring = runs.new("signalled"), runs.new("expiring")
    signalled.submit(["train 0 1"], "--time=60", "--signal=SIGUSR1@30")
    expiring.submit(["validation 0 1"], "--time=60")
    signalled.until_held("train 0 1")
    expiring.until_held("validation 0 1")
    minutes, seconds = (int(part) for part in signalled.slurm.job(signalled.job)["RunTime"].split(":")[1:])
    signalled.limit(minutes + (2 if seconds > 50 else 1))
    expiring.limit(1)
    return signalled, expiring


def test_the_signal_that_the_script_asks_for_requeues_the_job(runs: Runs, ending: tuple[Run, Run]) -> None:
    signalled, _ = ending
    wait_for(lambda: signalled.slurm.job(signalled.job)["Restarts"] == "1", signalled.words)
    signalled.limit(60)
    signalled.finish()
    assert "stopped by Slurm's signal to requeue in epoch 0, batch 2 of 4; checkpoint" in signalled.said()
    assert signalled.slurm.job(signalled.job)["Restarts"] == "1"
    require_equal(signalled, runs.whole(1))


def test_a_time_limit_that_ends_a_validation_leaves_a_checkpoint_and_a_word(
    runs: Runs, ending: tuple[Run, Run]
) -> None:
    _, expiring = ending
    expiring.slurm.wait(expiring.job, ["TIMEOUT"])
    assert "stopped by SIGTERM in the validation of epoch 0, which will be repeated; checkpoint" in expiring.said()
    expiring.submit()
    expiring.finish()
    require_equal(expiring, runs.whole(1))
