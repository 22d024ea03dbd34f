"""A paper outside the package: two networks, an objective and a YAML."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.objectives.base import Objective, StepContext
from tests.changes.tiny import checkpoint, fit, rows
from tests.cohort import CASES, QUIET
from tests.contracts import ObjectiveContract, tiny_batch

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated", "example"),
]


class TestLeastSquares(ObjectiveContract):
    """Each network moves in its own phase and only then, and what else every objective must keep."""

    def build(self, **options: Any) -> Objective:
        return importlib.import_module("my_objective").LeastSquares(**options)

    def networks(self, objective: Objective, modalities: int, channels: int) -> dict[str, nn.Module]:
        nets = importlib.import_module("my_nets")
        kinds = {"segmentor": nets.Segmentor, "critic": nets.Critic}
        return {name: kind(**objective.channels(name, modalities, channels)) for name, kind in kinds.items()}

    def test_the_losses_are_those_of_the_paper(self) -> None:
        objective, networks = self.cast(adversarial_weight=0.25)
        context = StepContext(networks, tiny_batch(), "sigmoid")
        critic, (image, target) = networks["critic"], context.batch[:2]
        real, fake = (critic(torch.cat([image, mask], 1)) for mask in (target, context.probability))
        entropy = nn.functional.binary_cross_entropy_with_logits(context.logits, target)
        expected = ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2
        torch.testing.assert_close(objective.phases()[0].loss(context).total, expected)
        torch.testing.assert_close(
            objective.phases()[1].loss(context).total, entropy + 0.25 * ((fake - 1) ** 2).mean() / 2
        )


def test_it_is_trained_tested_and_predicts(example: Path, cohort: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    paper = f"--config={example / 'my_paper.yaml'}"
    assert fit(cohort, run, paper) == 0
    found = rows(run / "metrics.csv")
    assert [row["epoch"] for row in found] == ["0", "1"]
    names = ("critic_real", "critic_fake", "segmentor_cross_entropy", "segmentor_adversarial")
    assert all(float(row[f"train/{name}"]) >= 0 for row in found for name in names)
    assert float(found[1]["train/segmentor_cross_entropy"]) < float(found[0]["train/segmentor_cross_entropy"])
    assert main(["test", f"--ckpt_path={checkpoint(run)}", f"--run.directory={run}", "--data.workers=0"]) == 0
    assert len(list((run / "scores").glob("test_*.csv"))) == 1
    line = [f"--ckpt_path={checkpoint(run)}", f"--root={cohort}", f"--output={out}", "--device=cpu"]
    assert main(["predict", *line]) == 0
    masks = sorted(out.glob("*.nii.gz"))
    assert len(masks) == CASES
    assert read_volume(masks[0]).array.shape == (8, 48, 48)
