"""MONAI's SwinUNETR as a segmentor: contract, parameters as published, games, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segan_pl.errors import UsageError
from segan_pl.inference.inferer import Windows
from segan_pl.nets import reciprocal, segan
from segan_pl.nets.swin_unetr import SwinUNETRSegmentor
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from segan_pl.training.dry_run import require_sizes
from tests.contracts import SegmentorContract, descent, differ, parameters_of, take_phase, tiny_batch
from tests.objectives.semi_supervised.contract import partly_labelled, with_twins


class TestSwinUNETR(SegmentorContract):
    size = (32, 32, 64)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return SwinUNETRSegmentor(in_channels, out_channels, width=12)


class TestSwinUNETROfSlices(SegmentorContract):
    size = (64, 64)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return SwinUNETRSegmentor(in_channels, out_channels, spatial_dims=2, width=12, residual=True)


@pytest.mark.parametrize(("residual", "parameters"), [(False, 62_191_941), (True, 72_767_301)])
def test_its_parameters_are_those_of_monai(residual: bool, parameters: int) -> None:
    """Hatamizadeh et al. 2022 print 61.98 million."""
    built = SwinUNETRSegmentor(4, 3, residual=residual)
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters


@pytest.mark.parametrize(
    "objective",
    [
        *(SegAN(), MeanTeacher(ramp_up=0)),
        *(pytest.param(one, marks=pytest.mark.slow) for one in (VirtualAdversarial(ramp_up=0), Reciprocal())),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_it_plays_every_kind_of_game(objective: Objective) -> None:
    torch.manual_seed(0)
    dimensions, size = (3, (32, 32, 64)) if isinstance(objective, Reciprocal) else (2, (32, 64))

    def build() -> SwinUNETRSegmentor:
        return SwinUNETRSegmentor(2, 3, spatial_dims=dimensions, width=12)  # type: ignore[arg-type]

    networks = with_twins(objective, {"segmentor": build()}, build)
    if "critic" in objective.networks:
        critic = reciprocal.Critic if isinstance(objective, Reciprocal) else segan.Critic
        networks["critic"] = critic(objective.channels("critic", 2, 3)["in_channels"], width=2)
    made = partly_labelled if objective.needs_unlabelled else tiny_batch
    context = StepContext(networks, made(2, 3, size=size), "sigmoid", step=1, steps=10)
    trained = {name: one for name, one in networks.items() if name not in objective.teachers}
    before = {name: parameters_of(network) for name, network in trained.items()}
    for phase in objective.phases():
        losses = take_phase(phase, context, descent(networks))
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())
    assert all(differ(before[name], parameters_of(network)) for name, network in trained.items())


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = SwinUNETRSegmentor(1, 1, spatial_dims=2, width=12, checkpointing=checkpointing)
        network(torch.ones(1, 1, 32, 64)).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("settings", [{"width": 16}, {"spatial_dims": 1}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected 2 or 3, and a multiple of 12"):
        SwinUNETRSegmentor(2, 1, **settings)


def test_a_patch_of_one_voxel_on_the_lowest_level_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(32, 32\) voxels, at least one side must have 64; pad it, or give"):
        SwinUNETRSegmentor(1, 1, spatial_dims=2, width=12)(torch.zeros(1, 1, 32, 32))


def test_such_a_patch_of_slices_is_refused_before_any_work() -> None:
    network = {"segmentor": SwinUNETRSegmentor(1, 1, spatial_dims=2, width=12)}
    with pytest.raises(UsageError, match=r"--data.patch \[32, 32\]: the segmentor needs 64 voxels along at least one"):
        require_sizes(network, {"segmentor": 1}, (32, 32), Windows(), low_on_cpu=False)
    require_sizes(network, {"segmentor": 1}, (32, 64), Windows(), low_on_cpu=False)
