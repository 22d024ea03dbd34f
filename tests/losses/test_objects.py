"""Losses as objects: the options of their functions, checked when a configuration is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from segan_pl.losses.features import MultiscaleL1, multiscale_l1
from segan_pl.losses.overlap import SoftDice, WeightedCrossEntropy, soft_dice_loss
from segan_pl.losses.vat import ReleasedVATLoss, VATLoss, adversarial_perturbation, released_vat_loss, vat_loss
from tests.contracts import tiny_batch


@pytest.mark.parametrize("options", [{}, {"reduction": "batch", "epsilon": 1.0}, {"form": "linear"}])
def test_soft_dice_is_its_function_with_the_options(options: dict[str, Any]) -> None:
    target = tiny_batch(channels=2).target
    probability = torch.rand_like(target)
    assert torch.equal(SoftDice(**options)(probability, target), soft_dice_loss(probability, target, **options))


@pytest.mark.parametrize("options", [{}, {"layer_weights": [1.0, 2.0], "reduction": "layer_mean"}])
def test_multiscale_l1_is_its_function_with_the_options(options: dict[str, Any]) -> None:
    fake, real = ([torch.rand(2, 3, 4, 4), torch.rand(2, 6, 2, 2)] for _ in range(2))
    assert torch.equal(MultiscaleL1(**options)(fake, real), multiscale_l1(fake, real, **options))


@pytest.mark.parametrize("reference", ["prediction", "labels"])
def test_vat_prices_the_perturbation_that_it_finds_against_its_reference(reference: Any) -> None:
    batch, network = tiny_batch(1), torch.nn.Conv2d(1, 1, 3, padding=1)
    clean = network(batch.image).sigmoid()
    torch.manual_seed(3)
    found = VATLoss(reference=reference, epsilon=0.2)(network, batch.image, batch.target, clean, "sigmoid", None)
    held = batch.target if reference == "labels" else clean.detach()
    torch.manual_seed(3)
    change = adversarial_perturbation(network, batch.image, held, "sigmoid", epsilon=0.2)
    assert torch.equal(found, vat_loss(network, batch.image, held, "sigmoid", change))


def test_the_released_vat_reads_neither_the_clean_prediction_nor_what_is_there() -> None:
    batch, network = tiny_batch(1), torch.nn.Conv2d(1, 1, 3, padding=1)
    torch.manual_seed(3)
    found = ReleasedVATLoss()(network, batch.image, batch.target, torch.empty(0), "sigmoid", None)
    torch.manual_seed(3)
    assert torch.equal(found, released_vat_loss(network, batch.image, batch.target, "sigmoid"))


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (SoftDice, {"reduction": "volume"}, "dice reduction is 'volume'.*slice"),
        (SoftDice, {"form": "eq3"}, "dice form is 'eq3'.*printed"),
        (SoftDice, {"epsilon": -1.0}, "dice epsilon is -1.0"),
        (WeightedCrossEntropy, {"weights": [1.0, -1.0]}, "cross-entropy weights are .*-1.0.* at least 0"),
        (WeightedCrossEntropy, {"weights": [1.0, float("nan")]}, "cross-entropy weights are .*nan"),
        (WeightedCrossEntropy, {"weights": [0.0, 0.0]}, "not all 0"),
        (WeightedCrossEntropy, {"weights": []}, "not all 0"),
        (WeightedCrossEntropy, {"weights": [1.0], "normaliser": "sum"}, "normaliser is 'sum'.*voxels"),
        (MultiscaleL1, {"reduction": "mean"}, "global_mean"),
        (MultiscaleL1, {"layer_weights": [-1.0]}, "layer_weights"),
        (VATLoss, {"reference": "truth"}, "vat reference is 'truth', expected one of"),
        (VATLoss, {"norm": "l2"}, "'sample', 'rms', 'voxel'"),
        (VATLoss, {"epsilon": 0.0}, "vat epsilon is 0.0"),
        (VATLoss, {"xi": -1.0}, "vat xi is -1.0"),
        (VATLoss, {"power_iterations": -1}, "vat power_iterations are -1"),
    ],
)
def test_options_out_of_range_are_refused_when_the_object_is_made(
    kind: Any, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        kind(**options)
