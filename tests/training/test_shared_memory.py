"""A real /dev/shm that is too small for the loader's workers: refused beforehand, and noticed where it fills later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample import loading
from segan_pl.data.sample.loading import Loads, require_shared_memory
from tests.cohort import QUIET, SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MB = 10**6
SMALL = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=256k tmpfs /dev/shm && exec "$@"', "sh"]
FIT = "import sys; from segan_pl.__main__ import main; sys.exit(main(sys.argv[1:]))"
UNFORESEEN = f"from segan_pl.data.sample import loading; loading.shared_memory_free = lambda: None; {FIT}"


def fit_in_small_shared_memory(code: str, root: Path, cache: Path, folder: Path) -> tuple[int, list[str]]:
    """Exit code and the last line of `fit` with two workers where /dev/shm has 256 kB."""
    if subprocess.run([*SMALL, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a /dev/shm of its own (unshare -m)")
    config = folder / "tiny.yaml"
    config.write_text(SYSTEM % (root, cache, folder / "runs"))
    line = ["fit", f"--config={config}", "--data.workers=2", "--trainer.max_epochs=1"]
    done = subprocess.run(
        [*SMALL, sys.executable, "-c", code, *line],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stderr.strip().splitlines()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_that_a_real_small_shared_memory_does_not_hold_are_refused(
    cohort: Path, prepared: Path, tmp_path: Path
) -> None:
    code, said = fit_in_small_shared_memory(FIT, cohort, prepared, tmp_path)
    assert code == 1, said
    assert said[-1].startswith("segan_pl: error: /dev/shm has under 1 MB free, --data.workers 2 may need 2 MB")
    for remedy in ("--shm-size=", "--ipc=host", "--data.workers auto", "or 0"):
        assert remedy in said[-1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_shared_memory_that_fills_in_training_ends_the_run_instead_of_letting_it_wait(
    cohort: Path, prepared: Path, tmp_path: Path
) -> None:
    code, said = fit_in_small_shared_memory(UNFORESEEN, cohort, prepared, tmp_path)
    assert code == 1, said
    assert "segan_pl: error: a loader's worker, process " in said[-1]
    assert "/dev/shm" in said[-1]  # PyTorch names the signal or not, whichever of its checks is first


def test_docker_has_too_little_for_two_workers_of_unet3d(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Loads(batch=2 * 128**3 * 11, case=155 * 240 * 240 * 11, epoch=10**10)
    monkeypatch.setattr(loading, "shared_memory_free", lambda: 64 * MB)
    require_shared_memory(loads, 0)
    with pytest.raises(CaseError, match=r"64 MB free, --data\.workers 2 may need 866 MB .*--shm-size=1g"):
        require_shared_memory(loads, 2)
    monkeypatch.setattr(loading, "shared_memory_free", lambda: 1000 * MB)
    require_shared_memory(loads, 2)
    with pytest.raises(CaseError, match="1732 MB"):
        require_shared_memory(loads, 2, ranks=2)
    monkeypatch.setattr(loading, "shared_memory_free", lambda: None)  # not Linux
    require_shared_memory(loads, 2)


@pytest.mark.parametrize(
    ("error", "number"),
    [("unable to allocate shared memory(shm) for file </torch>: No space left", signal.SIGBUS), ("x", signal.SIGABRT)],
)
def test_a_worker_that_cannot_hand_over_a_batch_ends(monkeypatch: pytest.MonkeyPatch, error: str, number: int) -> None:
    ends: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, given: ends.append((process, given)))
    loading._end_worker(RuntimeError(error), None)
    assert ends == [(os.getpid(), number)]


def test_the_loaders_workers_begin_as_told(make_data: Callable[..., MRIDataModule]) -> None:
    data = make_data(workers=1)
    data.prepare_data()
    data.setup("fit")
    assert data.train_dataloader().worker_init_fn is loading.begin_worker
    assert data.val_dataloader().worker_init_fn is loading.begin_worker
