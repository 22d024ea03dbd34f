"""An epoch's mean losses: those that Lightning would have summed up, to the bit, and there when an epoch ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from segan_pl.data.module import MRIDataModule
from segan_pl.training.callbacks.measures import Measures
from segan_pl.training.epoch_means import EpochMeans
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET]

MakeData = Callable[..., MRIDataModule]


class Reader(Callback):
    """Keeps what an epoch's end finds logged of the losses."""

    def __init__(self) -> None:
        self.read: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        logged = trainer.callback_metrics.items()
        self.read.append({name: float(value) for name, value in logged if name.startswith("train/")})


def run(folder: Path, data: MRIDataModule, **options: Any) -> list[dict[str, float]]:
    reader = Reader()
    torch.manual_seed(0)
    build_trainer(folder, Measures(), reader, epochs=2, **options).fit(build_system(), datamodule=data)
    return reader.read


def test_means_are_lightnings_to_the_bit(make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(tmp_path / "found", make_data())

    class Logged:
        """What takes the losses in by Lightning's own means."""

        def __init__(self, system: AdversarialSegmentation) -> None:
            self.system = system

        def add(self, numbers: dict[str, torch.Tensor], weight: int) -> None:
            numbers = {name: value.detach() for name, value in numbers.items()}
            self.system.log_dict(numbers, on_step=False, on_epoch=True, batch_size=weight)

        def take(self, total: object) -> dict[str, torch.Tensor]:
            return {}

    def begin(self: AdversarialSegmentation) -> None:
        self.epoch_means = Logged(self)  # type: ignore[assignment]

    monkeypatch.setattr(AdversarialSegmentation, "on_train_epoch_start", begin)
    expected = run(tmp_path / "expected", make_data())
    assert len(found) == 2
    assert {"train/segmentor_loss", "train/critic_loss"} < found[0].keys()
    assert found == expected


def test_an_epoch_that_is_cut_short_has_the_means_of_its_batches(make_data: MakeData, tmp_path: Path) -> None:
    cut = run(tmp_path / "cut", make_data(), max_steps=4, limit_val_batches=0)  # two batches, a step of each network
    short = run(tmp_path / "short", make_data(), limit_train_batches=2, limit_val_batches=0)
    assert len(cut) == 1
    assert cut[0] == short[0] != {}


def test_what_some_batches_lack_is_a_mean_over_the_others_and_ranks_are_summed() -> None:
    means = EpochMeans()
    means.add({"a": torch.tensor(1.0), "b": torch.tensor(5.0)}, 2)
    means.add({"a": torch.tensor(4.0)}, 1)
    assert means.take(lambda sums: 2 * sums) == {"a": torch.tensor(2.0), "b": torch.tensor(5.0)}
    assert means.take() == {}
