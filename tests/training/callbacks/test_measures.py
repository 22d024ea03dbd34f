"""Learning rates and gradient norms of an epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segan_pl.evaluation.saved_files import metrics_rows
from segan_pl.training.callbacks.measures import Measures
from segan_pl.training.callbacks.record import RunRecord
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = QUIET


class Named(Toy):
    """Its two weights are networks; the second one of three batches has an infinite gradient."""

    trained = ("segmentor", "critic")

    def training_step(self, batch: list[torch.Tensor], index: int) -> None:
        for optimizer, weight, scale in zip(self.optimizers(), (self.weight, self.other), (3.0, 4.0), strict=True):
            optimizer.zero_grad()
            self.manual_backward(weight.sum() * (torch.inf if index == 1 else scale + index))
            optimizer.step()
        with torch.no_grad():
            self.weight.zero_()


def test_rates_and_the_mean_of_finite_norms_are_in_the_epochs_row(tmp_path: Path) -> None:
    run = trainer(tmp_path, Measures(every=1), RunRecord(tmp_path), epochs=2)
    run.fit(Named(size=4), loader(3), loader(1))
    rows = metrics_rows(tmp_path / "metrics.csv")
    assert len(rows) == 2
    for row in rows:
        assert float(row["lr/segmentor"]) == float(row["lr/critic"]) == 0.01
        assert float(row["gradient_norm/segmentor"]) == pytest.approx((3 * 2 + 5 * 2) / 2)  # four equal numbers each
        assert float(row["gradient_norm/critic"]) == pytest.approx((4 + 6) / 2)


def test_of_many_steps_every_tenth_is_looked_at_and_the_first_of_each_epoch(tmp_path: Path) -> None:
    trainer(tmp_path, Measures(), RunRecord(tmp_path), epochs=2).fit(Named(), loader(12), loader(1))
    norms = [float(row["gradient_norm/critic"]) for row in metrics_rows(tmp_path / "metrics.csv")]
    assert norms == pytest.approx(2 * [(4 + 14) / 2])  # batches 0 and 10


def test_a_module_that_names_no_networks_logs_neither(tmp_path: Path) -> None:
    trainer(tmp_path, Measures(), RunRecord(tmp_path), epochs=1).fit(Toy(), loader(2), loader(1))
    assert [name for name in metrics_rows(tmp_path / "metrics.csv")[0] if name.startswith(("lr", "gradient"))] == []
