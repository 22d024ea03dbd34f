"""How many loader processes there are, and the shared memory that they may fill."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.data import DataLoader

from segan_pl.batch import Batch
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample import loading
from segan_pl.data.sample.loading import Loads, automatic_workers, batch_bytes, cores_of_a_rank, shared_memory_needed
from segan_pl.errors import UsageError

pytest_plugins = ["tests.cohort_fixtures"]

MakeData = Callable[..., MRIDataModule]
MB = 10**6
LARGE = Loads(batch=13 * MB, case=37 * MB, epoch=20_000 * MB)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen cores and 24 GB of shared memory."""
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(loading, "cores", lambda: 16)
    monkeypatch.setattr(loading, "shared_memory_free", lambda: 24_000 * MB)


def counts(loads: Loads = LARGE, *, ranks: int = 1, accelerated: bool = True) -> tuple[int, int]:
    return automatic_workers(loads, ranks=ranks, accelerated=accelerated)[:2]


def test_a_device_gets_all_cores_but_one_up_to_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts() == (8, 2)
    monkeypatch.setattr(loading, "cores", lambda: 4)
    assert counts() == (3, 2)
    monkeypatch.setattr(loading, "cores", lambda: 1)
    assert counts() == (0, 0)


def test_ranks_of_a_machine_share_its_cores_and_tasks_of_slurm_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(ranks=4) == (3, 2)
    assert "4 cores a rank" in automatic_workers(LARGE, ranks=4, accelerated=True).why
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert cores_of_a_rank(4) == 6


def test_a_step_on_the_cpu_keeps_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(accelerated=False) == (2, 2)
    monkeypatch.setattr(loading, "cores", lambda: 2)
    assert automatic_workers(LARGE) == (0, 0, "2 cores, which the step alone takes")


def test_what_is_small_or_has_no_shared_memory_is_loaded_in_the_training_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert counts(LARGE._replace(epoch=60 * MB)) == (0, 0)
    monkeypatch.setattr(loading, "shared_memory_free", lambda: None)
    assert automatic_workers(LARGE, accelerated=True).why.startswith("there is no /dev/shm")


def test_no_more_workers_than_half_of_the_free_shared_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "shared_memory_free", lambda: 64 * MB)  # what Docker gives
    small = automatic_workers(LARGE, accelerated=True)
    assert small == (0, 0, "/dev/shm has 64 MB free, 8 workers may need 456 MB")
    monkeypatch.setattr(loading, "shared_memory_free", lambda: 700 * MB)
    some = automatic_workers(LARGE, accelerated=True)
    assert some[:2] == (3, 2)  # (3 * 2 + 2) * 13 + (2 * 2 + 2) * 37 = 326, a fourth worker makes it 352
    assert shared_memory_needed(LARGE, training=3, scoring=2, ranks=2) == 2 * 326 * MB
    assert shared_memory_needed(LARGE, training=0, scoring=0) == 0


def test_the_bytes_of_a_batch_are_those_that_the_loaders_hand_over(make_data: MakeData) -> None:
    for settings in ({}, {"patch": (4, 16, 16), "batch_size": 2}):
        data = make_data(**settings)
        data.prepare_data()
        data.setup("fit")
        loads = data.loads()
        trained, scored = (next(iter(loader)) for loader in (data.train_dataloader(), data.val_dataloader()))
        assert loads.batch == trained.image.nbytes + trained.target.nbytes
        assert loads.case == scored.image.nbytes + scored.target.nbytes
        assert loads.epoch >= len(data.train_dataloader()) * loads.batch // 2
    shared = make_data(n_labelled=2, labelled_per_batch=4)
    shared.prepare_data()
    shared.setup("fit")
    batches = list(shared.train_dataloader())
    assert [len(batch.image) for batch in batches] == [12, 12, 12, 12]
    assert shared.loads().epoch == sum(batch.image.nbytes + batch.target.nbytes for batch in batches)
    assert batch_bytes(2, 3, 1, (4, 5), wide=True) == 2 * 20 * (3 * 4 + 1)


def test_a_tiny_cohort_has_no_workers_which_is_said_once(make_data: MakeData, caplog: pytest.LogCaptureFixture) -> None:
    data = make_data()
    data.prepare_data()
    data.setup("fit")
    with caplog.at_level("INFO"):
        loaders: list[DataLoader[Batch]] = [data.val_dataloader(), data.train_dataloader()]
    assert [loader.num_workers for loader in loaders] == [0, 0]
    assert [text for text in caplog.messages if "workers" in text] == [
        "loader workers: 0 (an epoch reads under 1 MB, which takes no process of its own)"
    ]


def test_automatic_workers_load_what_the_training_process_would(
    make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_data(workers=0)
    monkeypatch.setattr(loading, "TINY", 0)
    helped = make_data()
    for data in (alone, helped):
        data.prepare_data()
        data.setup("fit")
    assert helped.train_dataloader().num_workers == 2
    for one, other in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [-1, "many", True])
def test_other_numbers_of_workers_are_refused(make_data: MakeData, workers: object) -> None:
    with pytest.raises(UsageError, match=rf"--data.workers {workers}: expected auto, or at least 0"):
        make_data(workers=workers)
