"""From files to segmentations, with checkpoints that a tiny fit wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from segan_pl.data.case import MODALITIES, CaseError
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference.brain import blank
from segan_pl.inference.checkpoint_file import KEY, CheckpointError
from segan_pl.inference.input_case import output_name
from segan_pl.inference.predictor import Predictor, Settings
from segan_pl.inference.trained import load_segmentor
from tests.cohort import QUIET, build_data, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

SEGMENTOR = "{class_path: segan_pl.nets.segan.Segmentor, init_args: {width: 2}}"
CONFIG = "model: {networks: {segmentor: %s}, slices: 4}\ntrainer: {precision: 32}\n"


def train(folder: Path, cohort: Path, cache: Path, name: str, seed: int = 0, **settings: object) -> Path:
    """A checkpoint of one epoch."""
    shared = {key: settings[key] for key in ("modalities", "labels") if key in settings}
    data = build_data(cohort, cache, preparation=settings.get("preparation", Preparation(crop=(6, 40, 64))), **shared)
    system = build_system(seed=seed, **{"averaging": settings.get("averaging"), **shared})  # type: ignore[arg-type]
    system.config_text = CONFIG % settings.get("segmentor", SEGMENTOR)
    trainer = build_trainer(folder / name)
    trainer.fit(system, data)
    trainer.save_checkpoint(folder / f"{name}.ckpt")
    return folder / f"{name}.ckpt"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, cohort: Path, prepared: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "wt": train(folder, cohort, prepared, "wt"),
        "other": train(folder, cohort, prepared, "other", seed=1),
        "averaged": train(folder, cohort, prepared, "averaged", averaging=0.5),
        "regions": train(folder, cohort, prepared, "regions", labels="regions"),
        "labels": train(folder, cohort, prepared, "labels", labels="labels"),
        "flair": train(folder, cohort, prepared, "flair", modalities=["flair"]),
    }


@pytest.fixture
def case(cohort: Path):
    return find_cases(cohort)[0]


def test_a_checkpoint_alone_says_all_that_prediction_needs(checkpoints):
    segmentor = load_segmentor(checkpoints["regions"])
    assert segmentor.modalities == ("t1", "t1ce", "t2", "flair")
    assert segmentor.scheme.name == "regions/brats2017"
    assert segmentor.preparation == Preparation(crop=(6, 40, 64))
    assert (segmentor.patch, segmentor.slices, segmentor.precision) == ((32, 32), 4, torch.float32)
    assert not segmentor.network.training
    assert not any(p.requires_grad for p in segmentor.network.parameters())


def test_the_prediction_is_the_networks_own_on_the_prepared_case_put_back(checkpoints, case):
    predictor = Predictor.load(checkpoints["wt"])
    prepared = prepare(case, predictor.segmentors[0].preparation)
    image = torch.from_numpy(prepared.image).float().movedim(1, 0)  # (D, M, H, W)
    padded = torch.nn.functional.pad(image, (0, -image.shape[-1] % 16, 0, -image.shape[-2] % 16))
    with torch.inference_mode():
        logits = predictor.segmentors[0].network(padded)[:, 0, : image.shape[2], : image.shape[3]]
    expected = prepared.geometry.restore((logits > 0).numpy().astype(np.uint8))
    found = predictor(case)
    np.testing.assert_array_equal(found.label, expected)
    assert 0 < expected.sum() < expected.size


def test_averaged_weights_are_the_ones_that_predict(checkpoints):
    state = torch.load(checkpoints["averaged"], weights_only=True)["state_dict"]
    weight = load_segmentor(checkpoints["averaged"]).network.state_dict()["output.conv.weight"]
    torch.testing.assert_close(weight, state["averaged.segmentor.module.output.conv.weight"])
    assert not torch.equal(weight, state["networks.segmentor.output.conv.weight"])


def test_probabilities_decide_as_the_label_does_and_background_is_certain_outside(checkpoints, case):
    for name in ("wt", "regions", "labels"):
        predictor = Predictor.load(checkpoints[name])
        prediction = predictor(case, probability=True)
        assert prediction.probability is not None
        scheme = predictor.scheme
        if scheme.activation == "sigmoid":
            mask = prediction.probability > 0.5
        else:
            winner = prediction.probability.argmax(0)
            mask = np.stack([winner == c for c in range(len(scheme.channels))])
            np.testing.assert_allclose(prediction.probability.sum(0), 1, atol=1e-5)
        np.testing.assert_array_equal(scheme.decode(mask), prediction.label)
        np.testing.assert_array_equal(prediction.label, predictor(case).label)
        outside = prediction.probability[:, 0]  # the crop leaves the first slice out
        assert not prediction.label[0].any()
        np.testing.assert_array_equal(outside, np.broadcast_to(np.array(outside[:, :1, :1]), outside.shape))


def test_several_checkpoints_average_their_probabilities(checkpoints, case):
    single = [Predictor.load(checkpoints[n])(case, probability=True).probability for n in ("wt", "other")]
    both = Predictor.load(checkpoints["wt"], checkpoints["other"])(case, probability=True)
    np.testing.assert_allclose(both.probability, (single[0] + single[1]) / 2, atol=1e-6)
    weighted = Predictor.load(checkpoints["wt"], checkpoints["other"], settings=Settings(weights=(3.0, 1.0)))
    found = weighted(case, probability=True).probability
    np.testing.assert_allclose(found, (3 * single[0] + single[1]) / 4, atol=1e-6)


def test_single_modality_models_vote_each_with_its_own_images(checkpoints, case):
    names = ("wt", "other", "flair")
    single = [Predictor.load(checkpoints[name])(case).label for name in names]
    together = Predictor.load(*(checkpoints[name] for name in names), settings=Settings(combine="vote"))
    np.testing.assert_array_equal(together(case).label, np.sum(single, 0) >= 2)
    assert together.modalities == ("t1", "t1ce", "t2", "flair")


def test_the_native_labels_of_the_output_can_be_another_data_sets(checkpoints, case):
    own = Predictor.load(checkpoints["regions"])(case).label
    other = Predictor.load(checkpoints["regions"], convention="brats2023")(case).label
    np.testing.assert_array_equal(other, np.where(own == 4, 3, own))


def test_files_and_arrays_are_predicted_in_three_lines(checkpoints, case, tmp_path):
    predictor = Predictor.load(checkpoints["wt"])
    prediction = predictor(case.images)
    prediction.save(tmp_path / "seg.nii.gz", like=case.images["t1"])
    np.testing.assert_array_equal(read_volume(tmp_path / "seg.nii.gz").array, prediction.label)
    image = prepare(case, predictor.segmentors[0].preparation).image
    probability = predictor.predict_array(image)
    assert probability.shape == (1, *image.shape[1:])
    with pytest.raises(ValueError, match=r"expected \(4, D, H, W\)"):
        predictor.predict_array(image[:2])


@pytest.mark.parametrize("shape", [(3, 17, 50), (9, 33, 20)])
def test_odd_oblique_and_anisotropic_volumes_come_back_on_their_own_grid(checkpoints, tmp_path, shape):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation @ np.diag([0.5, 1.0, 5.5]), (7, -80, 33)
    images = {}
    for number, modality in enumerate(("t1", "t1ce", "t2", "flair")):
        images[modality] = tmp_path / f"{modality}.nii.gz"
        array = np.random.default_rng(number).integers(0, 500, shape).astype(np.int16)
        write_volume(images[modality], array, affine)
    predictor = Predictor.load(checkpoints["wt"])
    predictor(images).save(tmp_path / "seg.nii.gz", like=images["t2"])
    image, label = nib.load(images["t2"]), nib.load(tmp_path / "seg.nii.gz")
    assert label.shape == image.shape
    assert label.affine.tobytes() == image.affine.tobytes()


def test_a_case_of_zeros_is_segmented_as_empty_with_a_note(checkpoints, tmp_path):
    images = {}
    for modality in ("t1", "t1ce", "t2", "flair"):
        images[modality] = tmp_path / f"a_{modality}.nii.gz"
        write_volume(images[modality], np.zeros((6, 40, 64), np.int16), np.eye(4))
    prediction = Predictor.load(checkpoints["wt"])(images, probability=True)
    assert not prediction.label.any()
    assert prediction.notes[-2:] == ("every voxel is 0", "the segmentation is empty")


def test_zeros_are_known_by_the_background_of_the_preparation():
    assert blank(np.full((2, 3, 3, 3), -1, np.float16), -1.0)
    assert blank(np.zeros((2, 3, 3, 3), np.float16), -1.0)
    assert not blank(np.full((2, 3, 3, 3), 0.5, np.float16), -1.0)
    assert not blank(np.full((2, 3, 3, 3), -1, np.float16), 0.0)


def test_a_missing_modality_is_refused_or_zeros_on_request_and_noted(checkpoints, case):
    images = {modality: path for modality, path in case.images.items() if modality != "t2"}
    with pytest.raises(CaseError, match=r"no t2, the checkpoint takes t1, t1ce, t2, flair; complete the case"):
        Predictor.load(checkpoints["wt"])(images)
    filled = Predictor.load(checkpoints["wt"], settings=Settings(missing="zero"))
    prediction = filled(images)
    assert any("zeros for t2; used t1, t1ce, flair" in note for note in prediction.notes)
    prepared = filled.read(case)[0]
    prepared.image[2] = 0
    np.testing.assert_array_equal(prediction.label, filled.segment([prepared]).label)


def test_only_the_files_that_the_networks_take_are_read(checkpoints, case, tmp_path):
    images = dict(case.images) | {"t1": tmp_path / "gone.nii.gz"}
    label = Predictor.load(checkpoints["flair"])(images).label
    np.testing.assert_array_equal(label, Predictor.load(checkpoints["flair"])(case).label)


def test_post_processing_runs_on_the_native_labels(checkpoints, case):
    from segan_pl.inference.postprocessing import Step

    settings = Settings(steps=(Step("small_components", 1e6),))
    assert not Predictor.load(checkpoints["wt"], settings=settings)(case).label.any()


def test_a_network_from_elsewhere_is_not_imported(checkpoints, tmp_path, monkeypatch):
    content = torch.load(checkpoints["wt"], weights_only=True)
    content[KEY]["config"] = CONFIG % "{class_path: subprocess.Popen, init_args: {args: ls}}"
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"the network subprocess\.Popen is outside .*ALLOW_IMPORTS=subprocess"):
        load_segmentor(tmp_path / "evil.ckpt")


def test_a_checkpoint_of_other_weights_or_none_of_ours_is_refused(checkpoints, tmp_path):
    content = torch.load(checkpoints["wt"], weights_only=True)
    content[KEY]["config"] = CONFIG % SEGMENTOR.replace("width: 2", "width: 3")
    torch.save(content, tmp_path / "wide.ckpt")
    with pytest.raises(CheckpointError, match="was the network changed"):
        load_segmentor(tmp_path / "wide.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of segan_pl"):
        load_segmentor(tmp_path / "foreign.ckpt")


def test_checkpoints_of_different_labels_do_not_decide_together(checkpoints):
    with pytest.raises(UsageError, match=r"predicts wt, tc, et, .* predicts wt; give checkpoints of one label scheme"):
        Predictor.load(checkpoints["wt"], checkpoints["regions"])
    with pytest.raises(UsageError, match="for 1 checkpoints; expected one each"):
        Predictor.load(checkpoints["wt"], settings=Settings(weights=(1.0, 2.0)))
    with pytest.raises(UsageError, match=r"binary: has channels|regions: the native labels 'binary' do not tell"):
        Predictor.load(checkpoints["labels"], convention="binary")


def test_the_output_is_called_as_the_data_set_asks(case, tmp_path):
    from dataclasses import replace

    assert output_name(case, MODALITIES) == f"{case.name}.nii.gz"
    assert output_name(replace(case, output="VSD.Seg.1.mha"), MODALITIES) == "VSD.Seg.1.mha"
    assert output_name(replace(case, images={"t1": tmp_path / "a.mha"}), MODALITIES) == f"{case.name}.mha"
    shutil.rmtree(tmp_path)
