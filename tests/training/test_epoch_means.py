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
from segan_pl.errors import UsageError
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.stabilisers import R1, Stabilisers
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


def run(folder: Path, data: MRIDataModule, objective: Any = None, **options: Any) -> list[dict[str, float]]:
    reader = Reader()
    torch.manual_seed(0)
    build_trainer(folder, Measures(), reader, epochs=2, **options).fit(build_system(objective), datamodule=data)
    return reader.read


OBJECTIVES: dict[str, Callable[[], Any]] = {
    "SegAN": SegAN,
    "a part in every second batch": lambda: SegAN(clip="none", stabilisers=Stabilisers(r1=R1(every=2))),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_means_are_lightnings_to_the_bit(
    make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = run(tmp_path / "found", make_data(), OBJECTIVES[name]())

    class Logged:
        """What takes the losses in by Lightning's own means."""

        def __init__(self, system: AdversarialSegmentation) -> None:
            self.system = system

        def add(self, numbers: dict[str, torch.Tensor], weight: int, device: torch.device) -> None:
            numbers = {name: value.detach() for name, value in numbers.items()}
            self.system.log_dict(numbers, on_step=False, on_epoch=True, batch_size=weight)

        def take(self, total: object, ranks: int) -> dict[str, torch.Tensor]:
            return {}

    def begin(self: AdversarialSegmentation) -> None:
        self.epoch_means = Logged(self)  # type: ignore[assignment]

    monkeypatch.setattr(AdversarialSegmentation, "on_train_epoch_start", begin)
    expected = run(tmp_path / "expected", make_data(), OBJECTIVES[name]())
    assert len(found) == 2
    assert {"train/segmentor_loss", "train/critic_loss"} < found[0].keys()
    assert found == expected


def test_an_epoch_that_is_cut_short_has_the_means_of_its_batches(make_data: MakeData, tmp_path: Path) -> None:
    cut = run(tmp_path / "cut", make_data(), max_steps=4, limit_val_batches=0)  # two batches, a step of each network
    short = run(tmp_path / "short", make_data(), limit_train_batches=2, limit_val_batches=0)
    assert len(cut) == 1
    assert cut[0] == short[0] != {}


CPU = torch.device("cpu")


def test_what_some_batches_lack_is_a_mean_over_the_others_and_ranks_are_summed() -> None:
    means = EpochMeans()
    means.add({"a": torch.tensor(1.0), "b": torch.tensor(5.0)}, 2, CPU)
    means.add({"a": torch.tensor([4.0])}, 1, CPU)
    assert means.take(lambda sums: 2 * sums, 2) == {"a": torch.tensor(2.0), "b": torch.tensor(5.0)}
    assert means.take() == {}


def test_numbers_are_summed_up_where_the_batch_lies() -> None:
    means, device = EpochMeans(), torch.device("meta")
    means.add({"loss": torch.zeros(())}, 2, device)  # of a batch without labels, made on the CPU
    means.add({"loss": torch.ones((), device=device)}, 2, device)
    assert means.take()["loss"].device == device


def test_a_part_that_is_no_number_and_ranks_of_different_parts_are_refused() -> None:
    means = EpochMeans()
    with pytest.raises(UsageError, match=r"train/critic_gap has the shape \[2\]; expected one number, as of each part"):
        means.add({"train/critic_gap": torch.ones(2)}, 1, CPU)
    means.add({"b": torch.ones(()), "a": torch.ones(())}, 1, CPU)
    with pytest.raises(UsageError, match="ranks have losses of different parts, this one a, b; a part must be"):
        means.take(lambda sums: 2 * sums + 1, 2)
