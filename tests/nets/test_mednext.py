"""MONAI's MedNeXt as a segmentor: contract, parameters as published, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segan_pl.nets.mednext import MedNeXtSegmentor
from tests.contracts import SegmentorContract


class TestMedNeXt(SegmentorContract):
    size = (16, 16, 16)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return MedNeXtSegmentor(in_channels, out_channels, variant="S", width=2)


class TestMedNeXtOfSlices(SegmentorContract):
    size = (32, 32)

    def build(self, in_channels: int = 2, out_channels: int = 3) -> nn.Module:
        return MedNeXtSegmentor(in_channels, out_channels, spatial_dims=2, width=2)


@pytest.mark.parametrize(
    ("variant", "kernel_size", "millions"),
    [
        *(("S", 3, 5.6), ("S", 5, 5.9), ("B", 3, 10.5), ("B", 5, 11.0)),
        *(("M", 3, 17.6), ("M", 5, 18.3), ("L", 3, 61.8), ("L", 5, 63.0)),
    ],
)
def test_a_variant_has_the_papers_parameters(variant: Any, kernel_size: int, millions: float) -> None:
    """Table 2 of Roy et al. 2023, in whose code the bottleneck and the lower resolutions have a head each."""
    with torch.device("meta"):
        built = MedNeXtSegmentor(1, 14, variant=variant, kernel_size=kernel_size)
    assert sum(parameter.numel() for parameter in built.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"variant": "XL"}, "variant is 'XL', expected one of"),
        ({"kernel_size": 4}, "kernel_size 4: expected 2 or 3, and an odd number from 3 on"),
        (
            {"deep_supervision": 4},
            "deep_supervision is 4, expected 0 .* to 3 lower resolutions for MedNeXt of 5 levels",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        MedNeXtSegmentor(2, 1, **settings)
