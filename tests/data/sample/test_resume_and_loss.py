"""What loaders do when a run goes on within an epoch, and when prepared files or workers go while they are used."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segan_pl.__main__ import _is_foreseen, _reason
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.case_index import opened
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]


def ready(data: MRIDataModule) -> MRIDataModule:
    data.prepare_data()
    data.setup("fit")
    return data


def test_a_sampler_that_goes_on_within_an_epoch_draws_the_rest_and_then_whole_epochs(make_data: MakeData) -> None:
    sampler = ready(make_data()).train_dataloader().sampler
    sampler.set_epoch(3)  # type: ignore[attr-defined]
    whole = [plan.z.tolist() for plan in sampler]
    sampler.resume(3, 2)  # type: ignore[attr-defined]
    for _ in range(2):  # however often it is asked
        assert [plan.z.tolist() for plan in sampler] == whole[2:]
    assert len(sampler) == len(whole)  # type: ignore[arg-type]
    sampler.set_epoch(4)  # type: ignore[attr-defined]
    assert len(list(sampler)) == len(whole)


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cache_that_is_deleted_while_it_is_used_is_told_with_what_helps(
    make_data: MakeData, tmp_path: Path, part: str, workers: int
) -> None:
    data = ready(make_data(cache_dir=str(tmp_path / "cache"), workers=workers))
    loader = getattr(data, f"{part}_dataloader")()
    opened.cache_clear()
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(Exception, match="is gone") as error:
        list(loader)
    assert _is_foreseen(error.value)
    said = _reason(error.value)
    assert said.startswith(f"{tmp_path / 'cache'}")
    assert said.endswith(
        "this prepared file is gone; was the cache changed while the run used it? The same line again prepares it and "
        "goes on from the run's last checkpoint"
    )
    assert "\n" not in said


KILLING = """
import multiprocessing, os, signal, sys
from segan_pl.__main__ import main
from segan_pl.training.system import AdversarialSegmentation
step = AdversarialSegmentation.training_step
def killing(self, batch, index):
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)
    return step(self, batch, index)
AdversarialSegmentation.training_step = killing
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_loader_worker_that_is_killed_ends_the_run_with_one_line(
    cohort: Path, prepared: Path, tmp_path: Path
) -> None:
    line = [
        *("fit", "--config=segan_cat_small", f"--root={cohort}", f"--data.cache_dir={prepared}"),
        *(f"--run.directory={tmp_path / 'run'}", "--data.workers=1", "--data.stratify_by=[]", "--data.batch_size=2"),
        *("--data.preparation.crop=null", "--data.patch=[32,32]", "--trainer.accelerator=cpu"),
        *("--model.networks.segmentor.init_args.width=2", "--model.networks.critic.init_args.width=2"),
    ]  # a process of its own: PyTorch raises the error in a handler, wherever the main thread is
    done = subprocess.run([sys.executable, "-c", KILLING, *line], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "segan_pl: error: a loader's worker, process " in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / ".lease").exists()
