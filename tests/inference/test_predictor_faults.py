"""What prediction refuses, and what it must not mix, with segmentors that need no training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from segan_pl.data.case import Case, CaseError
from segan_pl.data.io import write_volume
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.source import MEMBERS
from segan_pl.errors import UsageError
from segan_pl.inference.checkpoint_file import CheckpointError
from segan_pl.inference.chosen_steps import chosen_steps, write_companion
from segan_pl.inference.inferer import Windows
from segan_pl.inference.input_case import output_name
from segan_pl.inference.postprocessing import Choice, Step
from segan_pl.inference.predictor import Predictor, Settings
from segan_pl.inference.trained import _build, _device, probabilities
from tests.cohort import build_system
from tests.inference.segmentors import segmentor

SHIFTED = np.diag([1.0, 1, 1, 1])
SHIFTED[:3, 3] = (40, -20, 9)


def write(path: Path, shape: tuple[int, ...] = (4, 8, 8), affine: np.ndarray | None = None) -> Path:
    array = np.random.default_rng(0).integers(1, 500, shape).astype(np.float32)
    write_volume(path, array, np.eye(4) if affine is None else affine)
    return path


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Its T1 lies elsewhere than its FLAIR."""
    t1, flair = write(tmp_path / "a_t1.mha", affine=SHIFTED), write(tmp_path / "a_flair.nii.gz")
    return Case("a", "a", {"t1": t1, "flair": flair})


def test_grid_and_name_come_from_an_image_that_the_network_takes(case, tmp_path):
    predictor = Predictor([segmentor("flair")])
    assert predictor.image_of(case) == case.images["flair"]
    assert output_name(case, predictor.modalities) == "a.nii.gz"
    assert output_name(case, ("t1",)) == "a.mha"
    prediction = predictor(case)
    with pytest.raises(CaseError, match=r"a_t1\.mha: lies on another grid than the images that were segmented"):
        prediction.save(tmp_path / "out.nii.gz", like=case.images["t1"])
    assert not (tmp_path / "out.nii.gz").exists()
    prediction.save(tmp_path / "out.nii.gz", like=case.images["flair"])


@pytest.mark.parametrize("other", [{"affine": SHIFTED}, {"shape": (4, 9, 8)}])
def test_voters_on_different_grids_are_refused(tmp_path, other):
    images = {"t1": write(tmp_path / "t1.nii.gz", **other), "flair": write(tmp_path / "flair.nii.gz")}
    predictor = Predictor([segmentor("flair"), segmentor("t1")], Settings(combine="vote"))
    said = r"t1 (is shifted by .* against flair|has shape .*, flair has shape .*), expected one grid"
    with pytest.raises(CaseError, match=said):
        predictor(images)
    if "affine" in other:
        predictor(Case("a", "a", images, origin_tolerance_mm=float(np.abs(SHIFTED[:3, 3]).max())))
    same = {**images, "t1": write(tmp_path / "near.nii.gz", affine=np.eye(4) + 1e-5 * np.eye(4)[:, ::-1])}
    assert predictor(same).label.any()


def test_a_case_without_any_image_is_refused_as_a_case(tmp_path):
    predictor = Predictor([segmentor("flair")], Settings(missing="zero"))
    with pytest.raises(CaseError, match="a: no flair, the checkpoint takes flair; complete the case"):
        predictor.read(Case("a", "a", {}))
    assert output_name(Case("a", "a", {}), predictor.modalities) == "a.nii.gz"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_torch_without_memory_is_a_memory_error_and_nothing_else_is(case, error):
    def fail(_: Tensor) -> Tensor:
        raise error

    def wrong(_: Tensor) -> Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(MemoryError, match="not enough memory"):
        Predictor([segmentor("flair", logits=fail)])(case)
    with pytest.raises(RuntimeError, match="shapes differ"):
        Predictor([segmentor("flair", logits=wrong)])(case)


def test_steps_that_the_labels_cannot_carry_out_are_refused_before_the_first_case():
    steps = (Step("small_enhancing", 0.5),)
    with pytest.raises(UsageError, match="'binary' has no enhancing tumour and necrosis"):
        Predictor([segmentor("flair", scheme="binary")], Settings(steps=steps))
    assert Predictor([segmentor("flair", scheme="regions")], Settings(steps=steps))


def test_a_case_of_zeros_is_certain_background(tmp_path):
    write_volume(tmp_path / "flair.nii.gz", np.zeros((4, 8, 8), np.int16), np.eye(4))
    for scheme in ("labels", "regions"):
        predictor = Predictor([segmentor("flair", scheme=scheme)])
        found = predictor({"flair": tmp_path / "flair.nii.gz"}, probability=True).probability
        expected = np.zeros_like(found)
        expected[0] = scheme == "labels"  # its first channel is background
        np.testing.assert_array_equal(found, expected)


def test_voxels_that_are_not_finite_are_treated_as_in_training_unless_asked_otherwise(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)
    array[1, 2, 3] = np.nan
    write_volume(tmp_path / "flair.nii.gz", array, np.eye(4))
    images = {"flair": tmp_path / "flair.nii.gz"}
    trained = segmentor("flair", preparation=Preparation(crop=None, nonfinite="zero"))
    assert Predictor([trained])(images).label.any()
    for predictor in (Predictor([segmentor("flair")]), Predictor([trained], Settings(nonfinite="refuse"))):
        with pytest.raises(CaseError, match="NaN"):
            predictor(images)


def test_the_chosen_post_processing_is_used_from_python_too_and_none_is_as_an_empty_one(tmp_path):
    one, other = tmp_path / "one.ckpt", tmp_path / "other.ckpt"
    one.write_bytes(b"weights")
    shutil.copy(one, other)
    step = Step("small_components", 0.1 + 0.2)
    write_companion(one, Choice((step,), 0, 1, ()), ["a"])
    assert chosen_steps([one]) == (step,)  # every digit
    with pytest.raises(UsageError, match="the checkpoints' chosen post-processing differs"):
        chosen_steps([one, other])
    write_companion(one, Choice((), 0, 1, ()), ["a"])
    assert chosen_steps([one, other]) == ()


def test_load_uses_it_unless_settings_are_given(tmp_path, monkeypatch):
    checkpoint = tmp_path / "one.ckpt"
    checkpoint.write_bytes(b"weights")
    write_companion(checkpoint, Choice((Step("small_components", 1.0),), 0, 1, ()), ["a"])
    monkeypatch.setattr("segan_pl.inference.predictor.load_model", lambda *_, **__: segmentor("flair"))
    assert Predictor.load(checkpoint).settings.steps == (Step("small_components", 1.0),)
    assert Predictor.load(checkpoint, settings=Settings()).settings.steps == ()


@pytest.mark.parametrize("patch", [(8, 8), (8, 12, 12)])
def test_a_volume_is_padded_with_the_background_of_its_preparation(patch):
    seen: list[Tensor] = []

    def look(image: Tensor) -> Tensor:
        seen.append(image.clone())
        return image

    below = Preparation(crop=None, interval=(-1.0, 1.0))
    probabilities(segmentor("flair", logits=look, preparation=below, patch=patch), torch.ones(1, 4, 6, 6))
    values, counts = torch.cat([image.flatten() for image in seen]).unique(return_counts=True)
    assert values.tolist() == [-1, 1]
    assert int(counts[1]) == 4 * 6 * 6


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"class_path": "segan_pl.nets.segan.Segmentor", "init_args": {"widht": 2}}, "unexpected keyword argument"),
        ({"class_path": "segan_pl.nets.segan.Gone"}, "has no attribute 'Gone'"),
        ({"class_path": "segan_pl.nets.gone.Segmentor"}, "No module named"),
    ],
)
def test_a_network_that_cannot_be_made_names_its_checkpoint(spec, said):
    with pytest.raises(CheckpointError, match=rf"^x\.ckpt: its network .*{said}.*was it written by another version"):
        _build(spec, {"in_channels": 4, "out_channels": 1}, Path("x.ckpt"))


def test_a_device_that_does_not_exist_is_typed_wrongly():
    with pytest.raises(UsageError, match="--device gpu: no such device; expected auto, cpu, cuda or cuda:1"):
        _device("gpu")


def test_validation_pads_with_the_data_sets_background_as_prediction_does():
    system, seen = build_system(), []
    system.segmentor.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    image, divisor = torch.ones(4, 2, 17, 16), int(system.segmentor.divisor)
    source = SimpleNamespace(**dict.fromkeys(MEMBERS, ()))  # all of `CaseSource`
    source.background = Preparation(crop=None, interval=(-1.0, 1.0)).background
    for data, expected in ((None, 0), (source, -1)):
        system._trainer = SimpleNamespace(datamodule=data)
        with torch.inference_mode():
            system.predict_volume(image)
        assert seen[-1].shape[-2] == 17 + -17 % divisor
        assert seen[-1][..., 17:, :].unique().tolist() == [expected]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"whole": 6}, "--whole 6: one.ckpt needs a multiple of 4"),
        ({"batch": 2}, "--window_batch: one.ckpt takes whole volumes at once; give --overlap or --step too"),
    ],
)
def test_windows_that_say_nothing_of_a_whole_volume_are_refused(asked: dict[str, int], said: str) -> None:
    whole = replace(segmentor("flair", patch=(8, 8, 8)), windows=Windows(whole=8))
    with pytest.raises(UsageError, match=said):
        Predictor([whole], Settings(windows=asked))
    assert Predictor([whole], Settings(windows={"overlap": 0.5, "whole": None, "step": None, "batch": 2}))
