"""A third network, from outside the package: a generator of images for masks; nothing of the package is edited."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segan_pl.__main__ import main
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

MODULE = '''
from torch import nn
from torch.nn.functional import l1_loss

from segan_pl.objectives.base import LossTerms, Objective, Phase


class Generator(nn.Module):
    """A mask (B, C, H, W) to an image (B, M, H, W)."""

    def __init__(self, in_channels, out_channels, *, width=4):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, mask):
        return self.last(self.norm(self.first(mask)).relu())


class Drawn(Objective):
    """The generator draws the image from its mask; the critic tells real images; the segmentor learns from both."""

    networks = ("segmentor", "critic", "generator")

    def __init__(self, *, weight=1.0):
        super().__init__()
        self.weight = weight

    def channels(self, network, modalities, classes):
        own = {"critic": {"in_channels": modalities}, "generator": {"in_channels": classes, "out_channels": modalities}}
        return own.get(network) or super().channels(network, modalities, classes)

    def phases(self):
        return [
            Phase("critic", self.critic_loss),
            Phase("generator", self.generator_loss),
            Phase("segmentor", self.segmentor_loss, every=2),
        ]

    def drawn(self, context):
        target = context.batch.target.to(context.batch.image.dtype)
        return context.kept("drawn", "generator", lambda: context.networks["generator"](target))

    def verdict(self, context, image):
        return context.networks["critic"](image)[-1].mean()

    def critic_loss(self, context):
        gap = self.verdict(context, self.drawn(context).detach()) - self.verdict(context, context.batch.image)
        return LossTerms(gap, {"gap": gap.detach()})

    def generator_loss(self, context):
        close = l1_loss(self.drawn(context), context.batch.image)
        return LossTerms(close - 0.01 * self.verdict(context, self.drawn(context)), {"l1": close.detach()})

    def segmentor_loss(self, context):
        found = context.segment(self.drawn(context).detach()).sigmoid()
        loss = l1_loss(context.probability, context.batch.target) + self.weight * l1_loss(found, context.batch.target)
        return LossTerms(loss, {"l1": loss.detach()})
'''

SYSTEM = """
model:
  networks:
    segmentor: {class_path: segan_pl.nets.segan.Segmentor, init_args: {width: 2}}
    critic: {class_path: segan_pl.nets.segan.Critic, init_args: {width: 2}}
    generator: {class_path: drawing.Generator, init_args: {width: 3}}
  objective: {class_path: drawing.Drawn}
  optimizers:
    default: {class_path: torch.optim.Adam, init_args: {lr: 0.001}}
    generator: {class_path: torch.optim.SGD, init_args: {lr: 0.01}}
  averaging: {segmentor: 0.9, generator: 0.5}
data:
  root: %s
  cache_dir: %s
  preparation: {crop: null}
  patch: [32, 32]
  batch_size: 12
  val_fraction: 0.25
  stratify_by: []
  prepare_workers: 1
trainer: {max_epochs: 2, accelerator: cpu, devices: 1}
run: {experiment: drawing, root: %s}
"""

Fit = Callable[..., int]


@pytest.fixture
def fit(tmp_path: Path, cohort: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """`segan_pl fit` of the system above, whose module lies outside the package."""
    (tmp_path / "drawing.py").write_text(MODULE)
    (tmp_path / "drawing.yaml").write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "drawing", raising=False)  # of the test before
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "drawing")
    return lambda run, *more: main(
        ["fit", "--config", str(tmp_path / "drawing.yaml"), f"--run.directory={tmp_path / run}", *more]
    )


def state_of(tmp_path: Path, run: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True)
    return content


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def test_it_trains_resumes_to_the_bit_is_averaged_and_the_segmentor_predicts(
    fit: Fit, tmp_path: Path, cohort: Path
) -> None:
    assert fit("whole") == 0
    assert fit("broken", "--trainer.max_epochs=1") == 0
    assert fit("broken") == 0
    whole, resumed = (state_of(tmp_path, run)["state_dict"] for run in ("whole", "broken"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    drawn, mean = part(whole, "networks.generator."), part(whole, "averaged.generator.module.")
    assert drawn.keys() == mean.keys()
    assert not torch.equal(drawn["last.weight"], mean["last.weight"])
    assert not part(whole, "averaged.critic.")
    with (tmp_path / "whole" / "metrics.csv").open(newline="") as file:
        columns = set(next(csv.reader(file)))
    assert {"train/generator_l1", "train/critic_gap", "train/segmentor_l1", "lr/generator"} <= columns
    checkpoint = f"--ckpt_path={tmp_path / 'whole' / 'checkpoints' / 'last.ckpt'}"
    assert main(["predict", checkpoint, f"--root={cohort}", f"--output={tmp_path / 'out'}"]) == 0
    assert list((tmp_path / "out").rglob("*.nii.gz"))


def test_it_is_frozen_and_initialised_by_name_and_each_network_moves_by_its_own_optimiser(
    fit: Fit, tmp_path: Path
) -> None:
    assert fit("source", "--trainer.max_epochs=1") == 0
    source = state_of(tmp_path, "source")
    begin = f"--finetuning.init_from={tmp_path / 'source' / 'checkpoints' / 'last.ckpt'}"
    frozen = ["--finetuning.networks=[generator]", "--finetuning.frozen=[generator.first,generator.norm]"]
    assert fit("next", begin, *frozen, "--trainer.max_epochs=1") == 0
    before, after = (
        part(one["state_dict"], "averaged.generator.module.") for one in (source, state_of(tmp_path, "next"))
    )
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name in before if not name.startswith("last.")}
    assert state_of(tmp_path, "next")["segan_pl"]["optimizers"] == ["Adam", "Adam", "SGD"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--model.networks.generator.init_args.widht=2"],
            "--model.networks.generator.init_args.widht: not accepted",
        ),
        (
            ["--model.optimizers.genertor=torch.optim.Adam"],
            "--model.optimizers.genertor: no such network; did",
        ),
        (
            ["--finetuning.frozen=[genrator]"],
            "--finetuning.frozen genrator: names no part of the networks; did you mean 'generator'",
        ),
    ],
)
def test_a_slip_in_its_name_or_options_is_one_line(
    fit: Fit, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = fit("run", *given)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
