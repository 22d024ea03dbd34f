"""What the GANs whose discriminator is the segmentor must keep, and the smallest of their steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from segan_pl.batch import Batch
from segan_pl.nets.few_shot import Encoder, Generator, Segmentor
from segan_pl.nets.gt_gan import Generator as GTGenerator
from segan_pl.objectives.base import Objective, Phase, StepContext
from segan_pl.objectives.gt_gan import GTGAN
from tests.contracts import ObjectiveContract, descent, differ, parameters_of, take_phase, tiny_batch
from tests.phantom import dice_by_tissue, phantoms

SIZE = (16, 16, 16)


def networks_of(objective: Objective, modalities: int, channels: int) -> dict[str, nn.Module]:
    """The smallest."""
    own = objective.channels("generator", modalities, channels)
    generator: Any = GTGenerator if isinstance(objective, GTGAN) else Generator
    built = {
        "segmentor": Segmentor(modalities, channels, width=2),
        "generator": generator(**own, patch=SIZE, width=2, noise=5),
    }
    if "encoder" in objective.networks:
        built["encoder"] = Encoder(**objective.channels("encoder", modalities, channels), patch=SIZE, width=2, noise=5)
    return built


def partly(labelled: int, unlabelled: int, channels: int = 4) -> Batch:
    """A batch of exclusive labels, in which the targets of unlabelled samples are NaN."""
    batch = tiny_batch(2, channels, size=SIZE, items=labelled + unlabelled, activation="softmax")
    batch.target[labelled:] = torch.nan
    return batch._replace(labelled=torch.arange(labelled + unlabelled) < labelled)


def step(objective: Objective, networks: Mapping[str, nn.Module], batch: Batch, **more: Any) -> dict[str, Any]:
    """All phases of one step; what each minimised and logged."""
    context = StepContext(networks, batch, "softmax", **more)
    return {phase.network: take_phase(phase, context, descent(networks)) for phase in objective.phases()}


class DiscriminatingContract(ObjectiveContract):
    size = SIZE

    def networks(self, objective: Objective, modalities: int, channels: int) -> dict[str, nn.Module]:
        return networks_of(objective, modalities, channels)

    def test_one_segmentor_forward_serves_a_batch(self) -> None:
        """It sees real images once, and generated ones once in each phase; features of real ones are taken anew."""
        for option in self.options:
            objective, networks = self.cast(2, 4, **option)
            seen: list[int] = []
            networks["segmentor"].encoder[0].register_forward_hook(  # type: ignore[index,union-attr]
                lambda *given, seen=seen: seen.append(len(given[-1]))
            )
            made: list[int] = []
            networks["generator"].register_forward_hook(lambda *_, made=made: made.append(1))
            step(objective, networks, partly(2, 3))
            assert len(made) == 1
            assert seen == self.passes(option)

    def passes(self, option: Mapping[str, Any]) -> list[int]:
        """Samples in the segmentor's forward passes, for 2 labelled and 3 unlabelled ones."""
        raise NotImplementedError

    def test_unlabelled_samples_change_nothing(self) -> None:
        """They do change what is learnt, but not by their targets, which are NaN here."""
        for option in self.options:
            objective, networks = self.cast(2, 4, **option)
            found = step(objective, networks, partly(2, 3))
            assert all(value.isfinite() for part in found.values() for value in part.values()), option
            other, others = self.cast(2, 4, **option)
            step(other, others, partly(2, 0))
            assert differ(parameters_of(networks["segmentor"]), parameters_of(others["segmentor"])), option

    def test_tiny_case_is_overfitted(self) -> None:
        """One phantom, by the labelled term alone; tests/whole has every system's game on one case."""
        torch.manual_seed(0)
        networks, batch = {"segmentor": Segmentor(2, 4, width=4)}, phantoms(1, SIZE, modalities=2)
        phase = Phase("segmentor", self.build().labelled_loss)  # type: ignore[attr-defined]
        optimisers = {"segmentor": torch.optim.Adam(networks["segmentor"].parameters(), 5e-3, (0.5, 0.999))}
        for number in range(80):
            optimisers["segmentor"].param_groups[0]["lr"] = 5e-3 * (1 - number / 80)
            take_phase(phase, StepContext(networks, batch, "softmax"), optimisers)
        with torch.no_grad():
            found = networks["segmentor"](batch.image).argmax(1)
        assert min(dice_by_tissue(found, batch.target)) > 0.95
