"""Stabilisers in runs: exact continuation, logs, rates, a frozen critic, and what a system refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.objectives.base import Objective
from segan_pl.objectives.gan import SemiSupervisedGAN
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.stabilisers import R1, DiffAugment, InstanceNoise, Stabilisers
from segan_pl.training.callbacks.freezing import Freezing
from segan_pl.training.networks import require_syncable
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]
ADAM = {"default": partial(torch.optim.Adam, lr=1e-3)}
EACH: dict[str, Callable[[], dict[str, Any]]] = {
    "r1": lambda: {"stabilisers": Stabilisers(r1=R1(every=3))},
    "diff_augment": lambda: {"stabilisers": Stabilisers(diff_augment=DiffAugment())},
    "instance_noise": lambda: {"stabilisers": Stabilisers(instance_noise=InstanceNoise(steps=6))},
    "spectral_norm": lambda: {"clip": "none"},
}


def system_of(name: str) -> AdversarialSegmentation:
    normed = ["critic"] if name == "spectral_norm" else None
    return build_system(SegAN(**EACH[name]()), optimizers=ADAM, spectral_norm=normed)


def state(system: AdversarialSegmentation) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in system.networks.state_dict().items()}


@pytest.mark.parametrize("name", EACH)
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(name: str, make_data: MakeData, tmp_path: Path) -> None:
    """Four steps an epoch."""
    whole, first, second = (system_of(name) for _ in range(3))
    build_trainer(tmp_path / "whole", epochs=2).fit(whole, make_data())
    trainer = build_trainer(tmp_path / "first", epochs=1)
    trainer.fit(first, make_data())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    torch.manual_seed(99)  # what the process drew before does not matter
    build_trainer(tmp_path / "second", epochs=2).fit(second, make_data(), ckpt_path=tmp_path / "first.ckpt")
    expected, found, plain = state(whole), state(second), state(first)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert any(not torch.equal(value, plain[key]) for key, value in expected.items())


def test_the_penalty_is_logged_bare_and_a_frozen_critic_has_none(make_data: MakeData, tmp_path: Path) -> None:
    for frozen in (False, True):
        trainer = build_trainer(tmp_path, *([Freezing(["critic"])] if frozen else []), limit_val_batches=0)
        trainer.fit(system_of("r1"), make_data())
        assert ("train/critic_r1" in trainer.callback_metrics) is not frozen


def test_a_frozen_critic_with_spectral_norm_keeps_its_vectors(make_data: MakeData, tmp_path: Path) -> None:
    system = system_of("spectral_norm")
    before = state(system)
    build_trainer(tmp_path, Freezing(["critic"]), limit_val_batches=0).fit(system, make_data())
    now = state(system)
    moved = {key for key, value in before.items() if not torch.equal(value, now[key])}
    assert moved
    assert not any(key.startswith("critic") for key in moved)


def test_in_a_gan_the_segmentor_is_the_critic_that_is_stabilised(make_data: MakeData, tmp_path: Path) -> None:
    every = Stabilisers(r1=R1(), diff_augment=DiffAugment(), instance_noise=InstanceNoise())
    system = build_system(SemiSupervisedGAN(stabilisers=every), optimizers=ADAM, spectral_norm=["generator"])
    trainer = build_trainer(tmp_path, limit_val_batches=0)
    trainer.fit(system, make_data(n_labelled=2, labels="labels"))
    assert trainer.callback_metrics["train/segmentor_r1"] > 0
    assert all(torch.isfinite(value).all() for value in state(system).values())


def test_two_time_scales_are_two_optimisers(make_data: MakeData, tmp_path: Path) -> None:
    rates = {"default": partial(torch.optim.SGD, lr=1e-3), "critic": partial(torch.optim.SGD, lr=4e-3)}
    trainer = build_trainer(tmp_path, limit_train_batches=1, limit_val_batches=0)
    system = build_system(SegAN(), optimizers=rates)
    trainer.fit(system, make_data())
    found = {name: one.param_groups[0]["lr"] for name, one in zip(system.trained, trainer.optimizers, strict=True)}
    assert found == {"segmentor": 1e-3, "critic": 4e-3}


@pytest.mark.parametrize(
    ("objective", "settings", "said"),
    [
        (SegAN(), {"spectral_norm": ["critic"]}, "spectral_norm critic: SegAN clamps its weights, .*clip none"),
        (SegAN(clip="none"), {"spectral_norm": ["segmentor"]}, "spectral_norm segmentor: expected a critic or another"),
        (SegAN(clip="none"), {"spectral_norm": ["crtic"]}, "spectral_norm.crtic: no such network; did you mean 'crit"),
        (SegAN(stabilisers=Stabilisers(r1=R1())), {"compile": True}, "compile true: stabilisers.r1 needs second deriv"),
        (
            Reciprocal(adversarial_weight=0.0),
            {"spectral_norm": ["critic"]},
            "does nothing in a Reciprocal whose critic",
        ),
        (Reciprocal(adversarial="code"), {"spectral_norm": ["critic"]}, "does nothing in a Reciprocal whose critic"),
    ],
)
def test_what_would_do_nothing_or_fail_later_is_refused(
    objective: Objective, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        build_system(objective, **settings)


@pytest.mark.parametrize(("norm", "refused"), [(nn.BatchNorm2d, True), (nn.InstanceNorm2d, False)])
def test_batch_norm_over_ranks_has_no_second_derivative(norm: type[nn.Module], refused: bool) -> None:
    networks = {"segmentor": nn.BatchNorm2d(1), "critic": nn.Sequential(norm(1))}
    require_syncable(networks, SegAN())
    penalised = SegAN(stabilisers=Stabilisers(r1=R1()))
    said = "sync_batchnorm true: stabilisers.r1 needs second derivatives of the critic, whose batch norm"
    with pytest.raises(UsageError, match=said) if refused else nullcontext():
        require_syncable(networks, penalised)
    with pytest.raises(UsageError, match="derivatives of the segmentor"):
        require_syncable({"segmentor": nn.BatchNorm2d(1)}, SemiSupervisedGAN(stabilisers=Stabilisers(r1=R1())))
