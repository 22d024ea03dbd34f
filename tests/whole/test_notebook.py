"""Training, scoring and predicting as a notebook does it: a trainer and a data module made by hand, no command line."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn

import segan_pl
from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.options import Augmentation
from segan_pl.errors import UsageError
from segan_pl.inference.checkpoint_file import KEY, CheckpointError
from segan_pl.inference.inferer import Windows
from segan_pl.inference.prediction import Prediction
from segan_pl.losses.overlap import SoftDice
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.base import Objective, Phase
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.finetuning.initialising import initialise
from segan_pl.training.finetuning.settings import FinetuningOptions
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, PlainSegmentor

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.filterwarnings("ignore:.*self.log.*sync_dist.*"),
    pytest.mark.filterwarnings("ignore:.*dataloader is not resumable.*"),
    pytest.mark.filterwarnings("ignore:.*will duplicate the last"),
]

MakeData = Callable[..., MRIDataModule]
ADAM = partial(torch.optim.Adam, lr=1e-3)
MODALITIES = ["t1", "t1ce", "t2", "flair"]


def model(**settings: Any) -> AdversarialSegmentation:
    """A model as a notebook makes it."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "networks": {"segmentor": partial(Segmentor, width=2), "critic": partial(Critic, width=2)},
        "objective": SegAN(clip_value=0.04, dice=SoftDice(epsilon=0.5)),
        "modalities": MODALITIES,
        "labels": "whole_tumour/brats2017",
        "optimizers": {"default": ADAM},
        "slices": 4,
    }
    return AdversarialSegmentation(**{**defaults, **settings})


def trainer(folder: Path, *, epochs: int = 1, **settings: Any) -> L.Trainer:
    """Lightning's own, with nothing of ours in it."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    return L.Trainer(default_root_dir=folder, max_epochs=epochs, **{"logger": False, **quiet, **settings})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, make_data: MakeData) -> tuple[Path, AdversarialSegmentation]:
    """A checkpoint that Lightning's trainer saved, and the model that it is of."""
    folder = tmp_path_factory.mktemp("notebook")
    one, by = model(averaging=0.5), trainer(folder, enable_checkpointing=False)
    by.fit(one, datamodule=make_data())
    by.save_checkpoint(folder / "saved.ckpt")
    return folder / "saved.ckpt", one


def test_the_script_of_the_page_has_all_but_imports_under_its_guard() -> None:
    page = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
    (script,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "trainer.fit(" in text)
    *imports, last = ast.parse(script).body
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in imports)
    assert isinstance(last, ast.If)
    assert ast.unparse(last.test) == "__name__ == '__main__'"


def test_a_model_goes_through_lightnings_own_loggers_and_callbacks(tmp_path: Path, make_data: MakeData) -> None:
    best = ModelCheckpoint(tmp_path / "kept", monitor="val/dice_mean", mode="max", filename="{epoch}", save_last=True)
    callbacks = [best, EarlyStopping("val/dice_mean", mode="max", patience=5), LearningRateMonitor()]
    logger, schedule = CSVLogger(tmp_path), partial(torch.optim.lr_scheduler.StepLR, step_size=1)
    by = trainer(tmp_path, epochs=2, logger=logger, callbacks=callbacks, num_sanity_val_steps=2)
    data = make_data()
    by.fit(model(schedule=schedule), datamodule=data)
    assert {"train/segmentor_dice", "val/dice_mean"} <= by.callback_metrics.keys()
    assert (tmp_path / "kept/last.ckpt").is_file()
    assert "val/dice_mean" in (Path(logger.log_dir) / "metrics.csv").read_text()
    (scores,) = by.validate(datamodule=data, ckpt_path=best.best_model_path, verbose=False)
    assert scores["val/dice_mean"] == pytest.approx(float(best.best_model_score))  # type: ignore[arg-type]
    again = trainer(tmp_path, epochs=3, callbacks=[ModelCheckpoint(tmp_path / "more")])
    other = model(schedule=schedule)
    again.fit(other, datamodule=make_data(), ckpt_path=tmp_path / "kept/last.ckpt")
    assert (other.batches_seen, again.current_epoch) == (12, 3)


def test_a_model_loads_from_its_checkpoint_without_further_arguments(
    fitted: tuple[Path, AdversarialSegmentation],
) -> None:
    path, before = fitted
    loaded = AdversarialSegmentation.load_from_checkpoint(path)
    assert loaded.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert loaded.objective.dice.loss.keywords["epsilon"] == 0.5
    assert (loaded.objective.clip_value, loaded.slices, loaded.patch) == (0.04, 4, (32, 32))
    assert (loaded.modalities, loaded.scheme.name) == (MODALITIES, "whole_tumour/brats2017")
    assert loaded.batches_seen == before.batches_seen == 4
    other = AdversarialSegmentation.load_from_checkpoint(path, slices=2, optimizers={"default": torch.optim.SGD})
    assert (other.slices, other.optimizer_of) == (2, {"default": torch.optim.SGD})


def test_what_was_loaded_trains_and_saves_as_the_first_did(
    fitted: tuple[Path, AdversarialSegmentation], make_data: MakeData, tmp_path: Path
) -> None:
    path, _ = fitted
    ends = []
    for system in (AdversarialSegmentation.load_from_checkpoint(path), model(averaging=0.5)):
        by = trainer(tmp_path, epochs=2, enable_checkpointing=False)
        by.fit(system, datamodule=make_data(), ckpt_path=path)
        by.save_checkpoint(tmp_path / "again.ckpt")
        ends.append(AdversarialSegmentation.load_from_checkpoint(tmp_path / "again.ckpt").state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_model_gives_logits_of_a_plain_batch(fitted: tuple[Path, AdversarialSegmentation]) -> None:
    path, _ = fitted
    loaded = AdversarialSegmentation.load_from_checkpoint(path).eval()
    image = torch.rand(3, 4, 32, 48)
    with torch.no_grad():
        logits = loaded(image)
        assert logits.shape == (3, 1, 32, 48)
        torch.testing.assert_close(logits, loaded.scored(image))
        volume = loaded.predict_volume(image.movedim(0, 1))
        torch.testing.assert_close(volume.movedim(1, 0), logits, rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"an image of shape \(4, 3, 32, 48\); expected \(B, 4, \*spatial\) of t1, t1ce"
    ):
        loaded(image.movedim(0, 1))


def test_a_model_of_volumes_gives_logits_and_learns_its_patch_from_the_data(
    tmp_path: Path, make_data: MakeData
) -> None:
    flat = {"segmentor": partial(Flat3d, width=2)}
    three = model(networks=flat, objective=Supervised(), windows=Windows(overlap=0.25))
    by = trainer(tmp_path, enable_checkpointing=False)
    by.fit(three, datamodule=make_data(patch=(4, 32, 32), batch_size=2))
    assert three.patch == (4, 32, 32)
    assert three(torch.rand(2, 4, 4, 16, 16)).shape == (2, 1, 4, 16, 16)
    by.save_checkpoint(tmp_path / "three.ckpt")
    loaded = AdversarialSegmentation.load_from_checkpoint(tmp_path / "three.ckpt")
    assert (loaded.patch, loaded.windows.overlap) == ((4, 32, 32), 0.25)


class Flat3d(nn.Module):
    """One convolution over volumes."""

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(in_channels, width, 1), nn.Conv3d(width, out_channels, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


@pytest.mark.parametrize("spacing_mm", [None, (1.2, 1.0, 1.5)])
def test_a_trainer_predicts_what_the_predictor_predicts(
    tmp_path: Path, make_data: MakeData, spacing_mm: tuple[float, float, float] | None
) -> None:
    from segan_pl.data.prepare.preparation import Preparation

    data = make_data(preparation=Preparation(crop=(6, 40, 44), spacing_mm=spacing_mm))
    one, by = model(), trainer(tmp_path, enable_checkpointing=False)
    by.fit(one, datamodule=data)
    by.save_checkpoint(tmp_path / "saved.ckpt")
    found: list[Prediction] = by.predict(one, datamodule=data)  # type: ignore[assignment]
    assert [prediction.case for prediction in found] == [data.cases[row].name for row in data.rows("val")]
    predictor = segan_pl.load(tmp_path / "saved.ckpt", device="cpu")
    for prediction, row in zip(found, data.rows("val"), strict=True):
        expected = predictor(data.cases[row])
        np.testing.assert_array_equal(prediction.label, expected.label)
        np.testing.assert_allclose(prediction.affine, expected.affine)
    assert any(prediction.label.any() for prediction in found)
    found[0].save(tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "seg.nii.gz").array, found[0].label)
    data.predict_part = "train"
    assert len(by.predict(one, datamodule=data)) == len(data.rows("train"))  # type: ignore[arg-type]


def test_networks_may_be_plain_classes(tmp_path: Path, make_data: MakeData) -> None:
    plain = model(networks={"segmentor": PlainSegmentor}, objective=Supervised(), optimizers=None)
    by = trainer(tmp_path, enable_checkpointing=False)
    by.fit(plain, datamodule=make_data())
    by.save_checkpoint(tmp_path / "plain.ckpt")
    assert isinstance(AdversarialSegmentation.load_from_checkpoint(tmp_path / "plain.ckpt").segmentor, PlainSegmentor)
    assert isinstance(segan_pl.load(tmp_path / "plain.ckpt").segmentors[0].network, PlainSegmentor)


def test_a_network_without_a_name_is_given_again(tmp_path: Path, make_data: MakeData) -> None:
    def nameless(in_channels: int, out_channels: int) -> nn.Module:
        return PlainSegmentor(in_channels, out_channels)

    networks: dict[str, Any] = {"segmentor": nameless}
    by = trainer(tmp_path, enable_checkpointing=False)
    by.fit(one := model(networks=networks, objective=Supervised()), datamodule=make_data())
    by.save_checkpoint(path := tmp_path / "nameless.ckpt")
    with pytest.raises(
        CheckpointError, match=r"cannot make networks\.segmentor: .*nameless again.* give networks to load"
    ):
        AdversarialSegmentation.load_from_checkpoint(path)
    loaded = AdversarialSegmentation.load_from_checkpoint(path, networks=networks)
    assert torch.equal(loaded.segmentor.layers[0].weight, one.segmentor.layers[0].weight)
    with pytest.raises(CheckpointError, match=r"its segmentor is .*nameless"):
        segan_pl.load(path)


def test_an_objective_of_ones_own_is_made_again(tmp_path: Path, make_data: MakeData) -> None:
    by = trainer(tmp_path, enable_checkpointing=False)
    by.fit(model(networks={"segmentor": PlainSegmentor}, objective=Own(3.0)), datamodule=make_data())
    by.save_checkpoint(tmp_path / "own.ckpt")
    found = AdversarialSegmentation.load_from_checkpoint(tmp_path / "own.ckpt").objective
    assert (type(found), found.scale) == (Own, 3.0)


class Own(Objective):
    """Cross-entropy by another name."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.inner = Supervised()

    def phases(self) -> list[Phase]:
        return list(self.inner.phases())


def test_a_checkpoint_runs_and_imports_nothing_of_its_own(
    fitted: tuple[Path, AdversarialSegmentation], tmp_path: Path
) -> None:
    path, _ = fitted
    checkpoint = torch.load(path, weights_only=True)
    settings = yaml.safe_load(checkpoint[KEY]["config"])
    for place, name in (("segmentor", "os.system"), ("segmentor", "antigravity.geohash"), ("critic", "subprocess.run")):
        settings["model"]["networks"][place] = name
        checkpoint[KEY]["config"] = yaml.safe_dump(settings)
        torch.save(checkpoint, tmp_path / "bad.ckpt")
        with pytest.raises(CheckpointError, match=rf"{name} is outside the packages that may be imported"):
            AdversarialSegmentation.load_from_checkpoint(tmp_path / "bad.ckpt")
        settings["model"]["networks"][place] = "segan_pl.nets.segan.Segmentor"


def test_options_that_would_loosen_the_loading_are_refused(fitted: tuple[Path, AdversarialSegmentation]) -> None:
    with pytest.raises(UsageError, match=r"takes no hparams_file, strict=False"):
        AdversarialSegmentation.load_from_checkpoint(fitted[0], strict=False)  # type: ignore[arg-type]


def test_a_checkpoint_of_a_notebook_begins_another_run(
    fitted: tuple[Path, AdversarialSegmentation],
) -> None:
    path, before = fitted
    one = model(modalities=["t1", "t1ce", "t2", "flair"])
    (line, *_) = initialise(one, FinetuningOptions(init_from=str(path), networks=["segmentor"]))
    assert line == f"segmentor begin with epoch 1 of {path}"
    averaged = before.scored.state_dict()
    assert all(torch.equal(value, averaged[f"module.{name}"]) for name, value in one.segmentor.state_dict().items())


@pytest.mark.usefixtures("isolated")
def test_a_checkpoint_of_a_notebook_serves_the_command_line(
    fitted: tuple[Path, AdversarialSegmentation], tmp_path: Path, cohort: Path
) -> None:
    path, _ = fitted
    run = ["--run.directory", str(tmp_path / "run")]
    assert main(["validate", "--ckpt_path", str(path), *run]) == 0
    assert len((tmp_path / "run/scores/validate_saved.csv").read_text().splitlines()) == 3
    assert main(["predict", "--ckpt_path", str(path), "--root", str(cohort), "--output", str(tmp_path / "masks")]) == 0
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 8
    settings = yaml.safe_load(torch.load(path, weights_only=True)[KEY]["config"])
    settings["trainer"] = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(settings))
    go_on = [
        "fit",
        "-c",
        str(tmp_path / "again.yaml"),
        "--ckpt_path",
        str(path),
        "--run.directory",
        str(tmp_path / "on"),
    ]
    assert main(go_on) == 0
    last = torch.load(tmp_path / "on/checkpoints/last.ckpt", weights_only=True)
    assert (last["epoch"], last[KEY]["batches_seen"]) == (1, 8)


def test_what_a_checkpoint_says_of_its_data_tells_a_network_that_copes(tmp_path: Path, make_data: MakeData) -> None:
    by = trainer(tmp_path, enable_checkpointing=False)
    by.fit(model(), datamodule=make_data(augmentation=Augmentation(modality_dropout=0.3)))
    by.save_checkpoint(tmp_path / "copes.ckpt")
    assert segan_pl.load(tmp_path / "copes.ckpt").segmentors[0].copes


def test_data_of_other_channels_and_no_data_module_are_refused(tmp_path: Path, make_data: MakeData) -> None:
    by = trainer(tmp_path, enable_checkpointing=False)
    with pytest.raises(
        UsageError, match=r"the model was made with modalities \['flair'\], its data have \['t1', 't1ce'"
    ):
        by.fit(model(modalities=["flair"]), datamodule=make_data())
    with pytest.raises(UsageError, match=r"made with labels regions/brats2017, its data have whole_tumour/brats2017"):
        by.fit(model(labels="regions/brats2017"), datamodule=make_data())
    data = make_data()
    data.prepare_data()
    data.setup("fit")
    with pytest.raises(UsageError, match=r"whole cases need a data module: trainer.fit\(model, datamodule=data\)"):
        trainer(tmp_path).validate(model(), dataloaders=data.val_dataloader(), verbose=False)


def test_the_arguments_of_a_model_are_remembered_by_name() -> None:
    one = model(windows=Windows(overlap=0.25), crop=(1, 2, 3))
    assert one.recipe.keys() == set(inspect.signature(AdversarialSegmentation.__init__).parameters) - {"self"}
    assert one.recipe["networks"]["critic"] == {"class_path": "segan_pl.nets.segan.Critic", "init_args": {"width": 2}}
    assert one.recipe["objective"]["init_args"]["clip_value"] == 0.04
    assert (one.recipe["crop"], one.recipe["windows"]["overlap"]) == ([1, 2, 3], 0.25)
    assert yaml.safe_load(yaml.safe_dump(one.recipe)) == one.recipe
