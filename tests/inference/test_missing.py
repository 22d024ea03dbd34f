"""Cases that lack modalities: which checkpoints take them, what the network is told, what must not matter."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from segan_pl.__main__ import main
from segan_pl.data.case import Case, CaseError
from segan_pl.data.layouts import find_cases
from segan_pl.inference.checkpoint_file import KEY, CheckpointError
from segan_pl.inference.inferer import Windows
from segan_pl.inference.predictor import Predictor, Settings
from segan_pl.inference.trained import load_segmentor, probabilities
from segan_pl.nets.reciprocal import Segmentor as VolumeSegmentor
from tests.cohort import CROP, QUIET, build_data, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

SEGMENTOR = {"class_path": "segan_pl.nets.segan.Segmentor", "init_args": {"width": 2}}
DROPOUT = {"augmentation": {"mirror": [0, 0, 0.5], "modality_dropout": 0.25}, "missing": "refuse"}


def train(folder: Path, cohort: Path, cache: Path, name: str, modality_mask: str, data: dict[str, object]) -> Path:
    """A checkpoint of one epoch whose configuration says how it met missing modalities."""
    system = build_system(modality_mask=modality_mask)
    model = {"networks": {"segmentor": SEGMENTOR}, "modality_mask": modality_mask}
    system.config_text = yaml.safe_dump({"model": model, "data": data, "trainer": {"precision": 32}})
    trainer = build_trainer(folder / name)
    trainer.fit(system, build_data(cohort, cache, preparation=CROP))
    trainer.save_checkpoint(folder / f"{name}.ckpt")
    return folder / f"{name}.ckpt"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, cohort: Path, prepared: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("missing")
    kinds: dict[str, tuple[str, dict[str, object]]] = {
        "plain": ("zeros", {"augmentation": None, "missing": "drop"}),
        "zeros": ("zeros", DROPOUT),
        "told": ("channels", DROPOUT),
        "filled": ("zeros", {"augmentation": {"modality_dropout": 0.0}, "missing": "zero"}),
    }
    return {name: train(folder, cohort, prepared, name, *kind) for name, kind in kinds.items()}


@pytest.fixture
def case(cohort: Path) -> Case:
    return find_cases(cohort)[0]


def without(case: Case, *modalities: str) -> Case:
    return replace(case, images={name: path for name, path in case.images.items() if name not in modalities})


def test_a_checkpoint_says_whether_it_met_missing_modalities_and_what_it_is_told(checkpoints: dict[str, Path]) -> None:
    found = {name: load_segmentor(path) for name, path in checkpoints.items()}
    assert {name: one.copes for name, one in found.items()} == {
        "plain": False,
        "zeros": True,
        "told": True,
        "filled": False,  # zeros were allowed, but no training case lacked anything
    }
    assert {name: one.modality_mask for name, one in found.items()} == dict.fromkeys(found, "zeros") | {
        "told": "channels"
    }


def test_of_a_checkpoint_that_does_not_say_what_it_saw_the_settings_count(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = torch.load(checkpoints["filled"], weights_only=True)
    del checkpoint[KEY]["data"]["seen"]
    torch.save(checkpoint, tmp_path / "earlier.ckpt")
    assert load_segmentor(tmp_path / "earlier.ckpt").copes


def test_training_cases_that_lack_a_modality_make_a_checkpoint_cope(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = torch.load(checkpoints["filled"], weights_only=True)
    assert checkpoint[KEY]["data"]["seen"]["absent"] == {}
    checkpoint[KEY]["data"]["seen"]["absent"] = {"t2": 3}
    torch.save(checkpoint, tmp_path / "met.ckpt")
    assert load_segmentor(tmp_path / "met.ckpt").copes


@pytest.mark.parametrize("name", ["zeros", "told"])
def test_trained_for_it_a_checkpoint_takes_incomplete_cases_without_options(
    checkpoints: dict[str, Path], case: Case, name: str
) -> None:
    found = Predictor.load(checkpoints[name])(without(case, "t1ce", "t2"))
    assert f"{case.name}: zeros for t1ce, t2; used t1, flair" in found.notes
    asked = Predictor.load(checkpoints[name], settings=Settings(missing="zero"))(without(case, "t1ce", "t2"))
    np.testing.assert_array_equal(found.label, asked.label)
    with pytest.raises(CaseError, match=r"no t2, .*; complete the case or set --missing zero$"):
        Predictor.load(checkpoints[name], settings=Settings(missing="refuse"))(without(case, "t2"))


def test_not_trained_for_it_a_checkpoint_refuses_unless_told_otherwise(
    checkpoints: dict[str, Path], case: Case
) -> None:
    with pytest.raises(CaseError) as refused:
        Predictor.load(checkpoints["plain"])(without(case, "t2"))
    assert str(refused.value).endswith(
        "no t2, the checkpoint takes t1, t1ce, t2, flair; complete the case, or train with "
        "--data.augmentation.modality_dropout 0.25: plain.ckpt never saw a case without"
    )
    filled = Predictor.load(checkpoints["plain"], settings=Settings(missing="zero"))(without(case, "t2"))
    warning = "but plain.ckpt never saw a case without: the segmentation may mean nothing"
    assert f"{case.name}: zeros for t2; used t1, t1ce, flair, {warning}" in filled.notes


def test_of_several_checkpoints_all_must_be_trained_for_it(checkpoints: dict[str, Path], case: Case) -> None:
    together = Predictor.load(checkpoints["told"], checkpoints["zeros"])(without(case, "t1"))
    assert f"{case.name}: zeros for t1; used t1ce, t2, flair" in together.notes
    with pytest.raises(CaseError, match=r"plain\.ckpt never saw a case without"):
        Predictor.load(checkpoints["told"], checkpoints["plain"])(without(case, "t1"))


def test_a_case_with_none_of_the_modalities_is_refused_whatever_is_set(
    checkpoints: dict[str, Path], case: Case
) -> None:
    bare = Case("a", "a", {"dwi": case.images["t1"]})
    for name, missing in (("told", "auto"), ("zeros", "zero"), ("plain", "refuse")):
        with pytest.raises(CaseError, match=r"a: no t1, t1ce, t2, flair, .*; complete the case$"):
            Predictor.load(checkpoints[name], settings=Settings(missing=missing))(bare)  # type: ignore[arg-type]


def test_the_network_is_told_what_a_case_lacks(checkpoints: dict[str, Path], case: Case) -> None:
    predictor = Predictor.load(checkpoints["told"])
    seen: list[torch.Tensor] = []
    predictor.segmentors[0].network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    predictor(without(case, "t1", "t2"))
    assert all(part.shape[1] == 8 for part in seen)
    assert all((part[:, 4:].amax((0, 2, 3)) == torch.tensor([0.0, 1, 0, 1])).all() for part in seen)
    assert all((part[:, 4:].amin((0, 2, 3)) == torch.tensor([0.0, 1, 0, 1])).all() for part in seen)
    assert all(not part[:, [0, 2]].any() for part in seen)


@pytest.mark.parametrize("name", ["zeros", "told"])
def test_what_an_array_holds_of_an_absent_modality_does_not_matter(checkpoints: dict[str, Path], name: str) -> None:
    predictor, rng = Predictor.load(checkpoints[name]), np.random.default_rng(0)
    image = rng.random((4, 3, 32, 32)).astype(np.float32)
    other = image.copy()
    other[1] = rng.random((3, 32, 32)) * 50
    present = (True, False, True, True)
    one, two = (predictor.predict_array(array, modality_mask=present) for array in (image, other))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(predictor.predict_array(image), predictor.predict_array(other))
    for wrong in ((True, False), (False,) * 4):
        with pytest.raises(ValueError, match="expected 4 of true or false, at least one true"):
            predictor.predict_array(image, modality_mask=wrong)


def test_validation_and_prediction_of_an_incomplete_case_agree(
    checkpoints: dict[str, Path], cohort: Path, prepared: Path
) -> None:
    predictor = Predictor.load(checkpoints["told"])
    content = torch.load(checkpoints["told"], weights_only=True)
    system = build_system(modality_mask="channels")
    system.load_state_dict(content["state_dict"])
    image = torch.from_numpy(predictor.read(without(find_cases(cohort)[0], "flair"))[0].image)
    with torch.inference_mode():
        logits = system.eval().predict_volume(image, torch.tensor([True, True, True, False]))
    found = predictor.predict_array(image.numpy(), modality_mask=(True, True, True, False))
    np.testing.assert_allclose(found, logits.sigmoid().numpy(), atol=1e-6)


def test_windows_of_a_3d_network_are_told_too(checkpoints: dict[str, Path]) -> None:
    torch.manual_seed(0)
    network = VolumeSegmentor(8, 1, width=4).eval()
    told = replace(load_segmentor(checkpoints["told"]), network=network, patch=(16, 16, 16))
    image = torch.randn(4, 20, 18, 16)
    image[1] = 0
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    probabilities(told, image, modality_mask=(True, False, True, True), windows=Windows(0.5), mirror=(1,))
    assert len(seen) > 2
    assert all(part.shape[1:] == (8, 16, 16, 16) for part in seen)
    assert all(not part[:, 5].any() and (part[:, [4, 6, 7]] == 1).all() for part in seen)


def test_a_presence_of_a_later_version_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    content = torch.load(checkpoints["told"], weights_only=True)
    content[KEY]["config"] = content[KEY]["config"].replace("modality_mask: channels", "modality_mask: embedding")
    torch.save(content, tmp_path / "later.ckpt")
    with pytest.raises(CheckpointError, match=r"modality_mask is 'embedding', expected one of .*later version"):
        load_segmentor(tmp_path / "later.ckpt")


# -- the command -------------------------------------------------------------------------------------------------------


def test_predict_takes_incomplete_cases_and_says_what_it_used(
    checkpoints: dict[str, Path], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(cohort, tmp_path / "copy"))
    lacking = next(root.rglob("*_t2.nii.gz"))
    lacking.unlink()
    assert predict(checkpoints["told"], root, tmp_path / "told", "--share=1/1") == 0
    name = lacking.parent.name
    assert f"note: {name}: zeros for t2; used t1, t1ce, flair" in capsys.readouterr().out
    with (tmp_path / "told" / "predictions.csv").open(newline="") as file:
        notes = {row["case"]: row["notes"] for row in csv.DictReader(file)}
    assert [case for case in notes if notes[case]] == [name]
    assert json.loads((tmp_path / "told" / "predict.json").read_text())["settings"]["missing"] == "zero"
    assert predict(checkpoints["plain"], root, tmp_path / "plain") == 1
    assert f"refused: {name}: no t2" in capsys.readouterr().out
    assert predict(checkpoints["plain"], root, tmp_path / "plain", "--missing=refuse") == 1  # what auto means there


def predict(checkpoint: Path, root: Path, output: Path, *more: str) -> int:
    return main(["predict", "--ckpt_path", str(checkpoint), f"--root={root}", f"--output={output}", *more])
