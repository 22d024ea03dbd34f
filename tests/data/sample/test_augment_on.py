"""The loader and the device do the same to a batch, to the bit; for the device a worker only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from segan_pl.batch import Batch
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample import augment
from segan_pl.data.sample.augment import Augment, Gathered
from segan_pl.data.sample.options import Augmentation, Sampling
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]
VARIED = Augmentation(
    **{"elastic": 0.5, "rotation": 0.5, "scaling": 0.5, "mirror": (0.5, 0.5, 0.5), "brightness": 0.5, "gamma": 0.5},
    **{"inverted_gamma": 0.5, "noise": 0.5, "blur": 0.5, "modality_dropout": 0.3, "contrast": 0.5},
    **{"low_resolution": 0.8, "low_resolution_modality": 1.0, "gamma_keeps_moments": True},
)
PATCHES: dict[str, dict[str, Any]] = {
    "slices": {"patch": (32, 32), "batch_size": 12},
    "slabs": {"patch": (3, 16, 16), "batch_size": 3, "sampling": Sampling(per_case=3, foreground=0.5)},
    "depth 1": {"patch": (1, 32, 32), "batch_size": 6, "sampling": Sampling(batches=2), "labels": "labels"},
    "cubes": {"patch": (8, 16, 16), "batch_size": 3, "preparation": Preparation(crop=None, scaling="zscore")},
}


def loaded(data: MRIDataModule) -> list[Any]:
    data.prepare_data()
    data.setup("fit")
    return list(data.train_dataloader())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As a loader's worker has: how many threads share a batch changes the last bit on CPUs with AVX2 alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_device_gives_what_the_loader_gives_to_the_bit(make_data: MakeData, name: str, workers: int) -> None:
    settings = {**PATCHES[name], "augmentation": VARIED, "workers": workers}
    on_device = make_data(**settings, augment_on="device")
    read = loaded(on_device)
    assert all(isinstance(one, Gathered) for one in read)
    assert any(one.moving is not None for one in read)
    found = [on_device.on_after_batch_transfer(one, 0) for one in read]
    expected = loaded(make_data(**settings))
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, Batch)
        assert one.image.shape[2:] == PATCHES[name]["patch"]
        for field, same in zip(one, other, strict=True):
            assert field.dtype == same.dtype
            assert torch.equal(field, same)


def test_labels_are_encoded_off_the_cpu_as_on_it(make_data: MakeData) -> None:
    """The table that a device uses, on the CPU."""
    data = make_data(labels="labels", augmentation=VARIED, augment_on="device")
    label = loaded(data)[0].label
    assert data._trained is not None
    made = data._trained.augment
    assert torch.equal(made.table()[:, label.long()].movedim(0, 1), made.encode(label))


def test_the_worker_only_reads_where_the_device_augments(make_data: MakeData, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def counted(owner: Any, name: str) -> None:
        really = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **more: (called.append(name), really(*given, **more))[1])

    for name in ("resample", "source_coordinates", "with_intensities", "mirrored"):
        counted(augment, name)
    counted(Augment, "encode")
    data = make_data(augmentation=VARIED, augment_on="device")
    read = loaded(data)
    assert called == []
    assert all(one.image.dtype == torch.float16 and one.label.dtype == torch.uint8 for one in read)
    data.on_after_batch_transfer(read[0], 0)
    assert set(called) == {"resample", "source_coordinates", "with_intensities", "mirrored", "encode"}


def test_a_run_is_the_same_wherever_its_patches_lie_and_are_augmented(
    make_data: MakeData, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    weights = []
    ways: list[dict[str, Any]] = [{}, {"augment_on": "device"}, {"residency": "device"}]
    for number, way in enumerate(ways):
        system = build_system(seed=1)
        trainer = build_trainer(tmp_path / str(number), epochs=2)
        trainer.fit(system, datamodule=make_data(augmentation=VARIED, **way))
        weights.append(system.state_dict())
    for other in weights[1:]:
        for name, value in weights[0].items():
            assert torch.equal(value, other[name]), name
    assert caplog.text.count("training set in the memory of cpu: 0.00 GB, ") == 1


def test_a_batch_that_is_one_already_passes_through(make_data: MakeData) -> None:
    data = make_data()
    batch = loaded(data)[0]
    assert data.on_after_batch_transfer(batch, 0) is batch


def test_the_seeds_of_a_batch_are_its_plans(make_data: MakeData) -> None:
    data = make_data(augmentation=VARIED)
    batches = loaded(data)
    plans = list(data.train_dataloader().sampler)
    for batch, plan in zip(batches, plans, strict=True):
        assert batch.seed.tolist() == plan.seed.tolist()
        assert batch.seed.dtype == torch.int64
