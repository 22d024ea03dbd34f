"""The bundle's own transforms against the package, which they do not import: bit by bit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from segan_pl.data.case import Case
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.export import bundle, tracing
from segan_pl.export.scripts import inference, postprocessing, preparation, reading
from segan_pl.export.tracing import DiffersError
from segan_pl.inference.inferer import Windows
from segan_pl.inference.postprocessing import Step, postprocess
from segan_pl.inference.trained import TrainedSegmentor, probabilities
from segan_pl.nets.segan import Segmentor
from tests.inference.segmentors import segmentor

PIR = np.array([[0, 0, 1.2, -9.0], [-0.8, 0, 0, 30], [0, -1.0, 0, 12], [0, 0, 0, 1]])
TILTED = np.array([[-0.9, 0.1, 0, 40], [0.1, 0.9, 0.05, -20], [0, -0.05, 2.5, 0], [0, 0, 0, 1]])


def written(folder: Path, affine: np.ndarray, dtype: str = "int16", slope: float = 1.0) -> Case:
    """Two modalities of a ball in air, as files."""
    generator = np.random.default_rng(3)
    x, y, z = np.indices((21, 18, 14))
    ball = ((x - 10) / 8) ** 2 + ((y - 9) / 7) ** 2 + ((z - 6) / 5) ** 2 < 1
    files = {}
    for modality in ("t1", "flair"):
        values = np.where(ball, generator.gamma(4, 60, ball.shape) - 5, 0).astype(dtype)
        image = nib.Nifti1Image(values, affine)
        image.header.set_slope_inter(slope, 0)
        files[modality] = folder / f"a_{modality}.nii.gz"
        nib.save(image, files[modality])
    return Case("a", "a", files)


def carried_out(specs: list[dict[str, Any]], data: Any) -> Any:
    modules = (inference, postprocessing, preparation, reading)
    places = {module.__name__.rpartition(".")[2]: module for module in modules}
    for spec in specs:
        _, module, name = spec["_target_"].split(".")
        data = getattr(places[module], name)(**{k: v for k, v in spec.items() if k != "_target_"})(data)
    return data


PREPARATIONS = [
    Preparation(crop=(8, 30, 12)),
    Preparation(crop=None, statistics_mask="volume", interval=(-1, 1), percentiles=(0, 99)),
    Preparation(crop="nonzero", scaling="zscore", margin=(1, 2), statistics_mask="nonzero"),
    Preparation(crop="scaled", statistics_mask="positive", margin=(2, 0)),
    Preparation(crop=None, scaling="none", orientation=None),
    Preparation(crop=(10, 20, 20), scaling="zscore", statistics_mask="volume", orientation="RAS"),
    Preparation(crop=None, spacing_mm=(1.5, 1.5, 2.0)),
    Preparation(crop="nonzero", scaling="zscore", spacing_mm=(1.0, 1.0, 1.0), interpolation="cubic"),
    Preparation(crop=(6, 12, 12), spacing_mm=(2.0, 1.0, 1.0), interpolation="nearest", statistics_mask="nonzero"),
]


@pytest.mark.parametrize("wanted", PREPARATIONS)
@pytest.mark.parametrize("affine", [PIR, TILTED], ids=["pir", "tilted"])
def test_a_bundle_prepares_a_case_to_the_bit(wanted: Preparation, affine: np.ndarray, tmp_path: Path) -> None:
    case = written(tmp_path, affine)
    model = segmentor("t1", "flair", preparation=wanted)
    files = {modality: str(path) for modality, path in case.images.items()}
    found = carried_out(bundle.preparation_transforms(model), {"case": "a", **files})
    expected = prepare(case, wanted)
    np.testing.assert_array_equal(found["image"].numpy(), expected.image)
    label = (expected.image[0] > np.median(expected.image[0])).astype(np.uint8)
    np.testing.assert_array_equal(found["place"].to_native(label, "nearest"), expected.geometry.restore(label))


@pytest.mark.parametrize(("dtype", "slope"), [("float32", 1.0), ("uint8", 0.37), ("int16", -2.5)])
def test_a_bundle_reads_other_types_and_scaled_headers_alike(dtype: str, slope: float, tmp_path: Path) -> None:
    case, wanted = written(tmp_path, PIR, dtype, slope), Preparation(crop=None, statistics_mask="nonzero")
    model = segmentor("t1", "flair", preparation=wanted)
    found = carried_out(bundle.preparation_transforms(model), {m: str(path) for m, path in case.images.items()})
    np.testing.assert_array_equal(found["image"].numpy(), prepare(case, wanted).image)


WALKS = [
    ((16, 16), Windows(), "whole_tumour", "anywhere"),
    ((16, 16), Windows(), "labels", "brain"),
    ((8, 8, 8), Windows(), "regions", "anywhere"),
    ((8, 8, 8), Windows(step=(3, 5, 8), blend="constant", average="probabilities", batch=2), "labels", "anywhere"),
    ((8, 8, 8), Windows(skip_empty=True), "regions", "anywhere"),
    ((8, 8, 8), Windows(skip_empty=True, average="probabilities"), "labels", "brain"),
    ((8, 8, 8), Windows(whole=4), "regions", "brain"),
    ((32, 8, 8), Windows(), "labels", "anywhere"),
]


@pytest.mark.parametrize(("patch", "windows", "labels", "where"), WALKS)
def test_a_bundle_walks_over_a_volume_to_the_bit(
    patch: tuple[int, ...], windows: Windows, labels: str, where: str
) -> None:
    weights = torch.randn(4, 2, *[3] * len(patch), generator=torch.Generator().manual_seed(0))

    def logits(image: torch.Tensor) -> torch.Tensor:
        convolve = torch.nn.functional.conv3d if image.ndim == 5 else torch.nn.functional.conv2d
        return convolve(image, weights[:channels], padding=1)

    model = segmentor("t1", "flair", scheme=labels, logits=logits, patch=patch, preparation=Preparation(crop=None))
    model = replace(model, windows=windows, predict_in=where)  # type: ignore[arg-type]
    channels = len(model.scheme.channels)
    image = torch.rand(2, 13, 20, 19, generator=torch.Generator().manual_seed(1))
    image[:, :, :, 9:] = 0
    image = image.half()
    walk = bundle.inferer(model)
    found = inference.WholeVolume(**{k: v for k, v in walk.items() if k != "_target_"})(image, model.network)
    with torch.inference_mode():
        assert torch.equal(found, probabilities(model, image))


def test_mask_channels_say_that_every_modality_is_there() -> None:
    model = segmentor("t1", "flair", logits=lambda image: image[:, 2:3] * 3 - image[:, :1], patch=(16, 16))
    model = replace(model, modality_mask="channels")
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).half()
    walk = bundle.inferer(model)
    found = inference.WholeVolume(**{k: v for k, v in walk.items() if k != "_target_"})(image, model.network)
    assert torch.equal(found, probabilities(model, image))


@pytest.mark.parametrize("labels", ["regions", "labels", "whole_tumour"])
@pytest.mark.parametrize("spacing", [None, (1.5, 1.0, 1.0)])
def test_a_bundle_gives_the_labels_of_prediction_with_every_step(
    labels: str, spacing: tuple[float, float, float] | None, tmp_path: Path
) -> None:
    case = written(tmp_path, TILTED)
    model = with_network(labels, Preparation(crop=(12, 24, 20), spacing_mm=spacing))
    steps = [Step("small_components", 0.02), Step("fill_holes"), Step("small_enhancing", 3.0)]
    said = bundle._same_labels(model, model.network, steps, case)
    assert "differ from those of segan_pl predict by" in said
    assert "labels of 0 of" in said


@pytest.mark.parametrize("step", [Step("small_components", 0.03), Step("fill_holes"), Step("small_enhancing", 3.0)])
def test_a_bundle_corrects_labels_alike(step: Step) -> None:
    model = segmentor("t1", scheme="regions")
    noise = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(16, 20, 22)), 1)
    noise[:, :, 11:] += 0.25  # specks on one side, holes on the other
    label = (noise > 0.12).astype(np.uint8) * 2 + (noise > 0.25).astype(np.uint8) * 2
    spec = bundle.label_transforms(model, [step])[1:]
    found = carried_out(spec, {"label": label, "affine": PIR})["label"]
    voxel_ml = abs(np.linalg.det(PIR[:3, :3])) / 1000
    wanted = postprocess(label, [step], convention=model.scheme.convention, voxel_ml=voxel_ml)
    assert (wanted != label).any()
    np.testing.assert_array_equal(found, wanted)


def test_a_bundle_that_would_give_other_probabilities_is_refused(tmp_path: Path) -> None:
    model = with_network("whole_tumour", Preparation(crop=None))
    with pytest.raises(DiffersError, match=r"the bundle: probabilities of a whole case differ .* more than 0\.0001"):
        bundle._same_labels(model, lambda image: model.network(image) + 0.01, [], written(tmp_path, PIR))


def test_a_bundle_may_turn_a_few_voxels_that_rounding_decides_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = written(tmp_path, PIR)

    def one_open(image: torch.Tensor) -> torch.Tensor:
        logits = image[:, :1] * 8 - 4  # (B, 1, H, W)
        return torch.where(logits.abs() == logits.abs().min(), 0.0, logits)

    model = segmentor("t1", "flair", logits=one_open, patch=(16, 16))
    with pytest.raises(DiffersError, match="rounding turns at most 10, so the network decides nothing or ties go"):
        bundle._same_labels(model, lambda image: one_open(image) + 1e-6, [Step("fill_holes")], case)
    monkeypatch.setattr(tracing, "FEW", 1000)
    said = bundle._same_labels(model, lambda image: one_open(image) + 1e-6, [Step("fill_holes")], case)
    found = re.search(r"labels of (\d+) of \d+ voxels, each within 0\.0001 of a tie or of 0\.5, where rounding", said)
    assert found, said
    assert int(found[1]) >= 1


def test_a_bundle_whose_step_corrects_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocessing.SmallComponentsd, "corrected", lambda self, label, _: label * 0)
    model = with_network("whole_tumour", Preparation(crop=None))
    with pytest.raises(DiffersError, match=r"post-processing gives .* another label"):
        bundle._same_labels(model, model.network, [Step("small_components", 0.001)], written(tmp_path, PIR))


def with_network(labels: str, wanted: Preparation) -> TrainedSegmentor:
    torch.manual_seed(0)
    model = segmentor("t1", "flair", scheme=labels, preparation=wanted, patch=(16, 16))
    return replace(model, network=Segmentor(2, len(model.scheme.channels), width=2).eval())


def test_cases_are_found_by_the_usual_names_of_their_modalities(tmp_path: Path) -> None:
    names = {"t1": ["t1", "t1n"], "t1ce": ["t1ce", "t1gd"]}
    for name in ("x/b/b-t1n.nii.gz", "x/b/b-t1_gd.nii", "x/b/b-seg.nii.gz", "a/A_T1.nii.gz", "a/A_T1ce.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = reading.find_cases(str(tmp_path), names)
    assert [case["case"] for case in found] == ["a", "b"]
    assert [Path(found[1][m]).name for m in names] == ["b-t1n.nii.gz", "b-t1_gd.nii"]
    (tmp_path / "a" / "A_t1n.nii.gz").touch()
    with pytest.raises(ValueError, match="are both t1; keep one"):
        reading.find_cases(str(tmp_path), names)
    with pytest.raises(ValueError, match="no folder in it has a NIfTI file for each of t1, pet"):
        reading.find_cases(str(tmp_path / "x"), {"t1": ["t1n"], "pet": ["pet"]})
