"""Which shipped systems can be exported as what: all, as everything. Small widths, one system for each network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segan_pl.data.case import MODALITIES
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.export import bundle, formats
from segan_pl.export.tracing import traced
from segan_pl.export.whole import WRITERS, Format
from segan_pl.inference.exported import description
from segan_pl.inference.trained import TrainedSegmentor
from tests.inference.segmentors import segmentor
from tests.whole.test_systems import FILES, SMALLEST, SYSTEMS, made, patch_of

FORMATS: tuple[Format, ...] = ("onnx", "torch", "bundle", "safetensors")
FOLLOWED_FOR_MINUTES = {"swinunetr3d"}  # by torch.export, of its windows


def small(system: str) -> dict[str, Any]:
    """Its segmentor with a small width."""
    spec = FILES[system]["model"]["networks"]["segmentor"]
    arguments = {**spec["init_args"], **SMALLEST[spec["class_path"]]}
    if "deep_supervision" in arguments:
        arguments["deep_supervision"] = 1
    return {"class_path": spec["class_path"], "init_args": arguments}


def built(system: str) -> tuple[Any, TrainedSegmentor]:
    """The specification of its small network, and the network, untrained."""
    model, data, spec = FILES[system]["model"], FILES[system]["data"], small(system)
    modalities = tuple(data.get("modalities", MODALITIES))
    plain = segmentor(*modalities, scheme=data.get("labels", "whole_tumour"), patch=tuple(patch_of(system)))
    channels = made(model["objective"]).channels("segmentor", len(modalities), len(plain.scheme.channels))
    torch.manual_seed(0)
    network = made(spec, **channels).eval()
    ready = replace(plain, network=network, preparation=Preparation(crop=None), source=Path(f"{system}.ckpt"))
    return {**spec, "init_args": {**channels, **spec["init_args"]}}, ready


TELLING = ("kind", "spatial_dims", "neighbours", "norm", "residual_units", "depth_layers")
"""Widths and levels are those of the tests, so what is left tells families apart."""


def families() -> list[str]:
    """The first system of each network."""
    found: dict[str, str] = {}
    for system in SYSTEMS:
        spec = small(system)
        telling = {name: value for name, value in spec["init_args"].items() if name in TELLING}
        found.setdefault(str((spec["class_path"], telling)), system)
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("system", families())
def test_a_shipped_network_is_exported_in_every_format(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, ready = built(system)
    monkeypatch.setattr(formats, "network_of", lambda _: named)
    forms = FORMATS
    if system in FOLLOWED_FOR_MINUTES:
        forms = ("bundle", "safetensors")
    else:
        program = traced(ready)
        for module in (formats, bundle):  # followed once, which takes as long as all the rest
            monkeypatch.setattr(module, "traced", lambda _: program)
    content = description(ready)
    for form in forms:
        (tmp_path / form).mkdir()
        assert WRITERS[form](ready, content, tmp_path / form, None)
    kept = "model.pt" if bundle.monai_definition(ready) else "model.pt2"
    assert [path.name for path in (tmp_path / "bundle" / "models").iterdir()] == [kept]


def test_the_families_are_all_of_the_shipped_networks() -> None:
    classes = {FILES[system]["model"]["networks"]["segmentor"]["class_path"] for system in families()}
    assert classes == {FILES[system]["model"]["networks"]["segmentor"]["class_path"] for system in SYSTEMS}
