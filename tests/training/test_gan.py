"""GANs whose discriminator is the segmentor, in runs: exact continuation, frozen networks, logs, and what predicts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.inference.predictor import Predictor
from segan_pl.nets import few_shot, gt_gan
from segan_pl.objectives.base import Objective
from segan_pl.objectives.gan import Discriminating, SemiSupervisedGAN
from segan_pl.objectives.gt_gan import GTGAN
from segan_pl.training.callbacks.freezing import Freezing
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]
GAMES: dict[str, Callable[[], Discriminating]] = {
    "three networks": lambda: SemiSupervisedGAN(encoder_weight=0.01),
    "GT-GAN": lambda: GTGAN(warm_up=4),
}


def system_of(objective: Objective) -> AdversarialSegmentation:
    return build_system(objective, optimizers={"default": partial(torch.optim.Adam, lr=1e-2, betas=(0.5, 0.999))})


def few_labels(make_data: MakeData) -> MRIDataModule:
    """Two of six cases labelled: three batches an epoch of six labelled and six unlabelled slices."""
    return make_data(n_labelled=2, labels="labels")


def state(system: AdversarialSegmentation) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in system.networks.state_dict().items()}


@pytest.mark.parametrize("name", GAMES)
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(name: str, make_data: MakeData, tmp_path: Path) -> None:
    """With GT-GAN the warm-up ends in the second epoch."""
    whole, first, second = (system_of(GAMES[name]()) for _ in range(3))
    torch.manual_seed(3)
    build_trainer(tmp_path / "whole", epochs=2).fit(whole, few_labels(make_data))
    trainer = build_trainer(tmp_path / "first", epochs=1)
    torch.manual_seed(3)
    trainer.fit(first, few_labels(make_data))
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    torch.manual_seed(99)  # what the process drew before does not matter
    build_trainer(tmp_path / "second", epochs=2).fit(second, few_labels(make_data), ckpt_path=tmp_path / "first.ckpt")
    expected, found, middle = state(whole), state(second), state(first)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    for network in whole.objective.networks:
        assert any(not torch.equal(value, middle[key]) for key, value in expected.items() if key.startswith(network))


@pytest.mark.parametrize("name", GAMES)
def test_a_frozen_generator_stays_and_the_segmentor_still_learns_from_its_images(
    name: str, make_data: MakeData, tmp_path: Path
) -> None:
    system = system_of(GAMES[name]())
    before = state(system)
    trainer = build_trainer(tmp_path, Freezing(["generator"]), epochs=2, limit_val_batches=0)
    trainer.fit(system, few_labels(make_data))
    moved = {key.split(".")[0] for key, value in state(system).items() if not torch.equal(value, before[key])}
    assert moved == set(system.objective.networks) - {"generator"}
    assert 0 < trainer.callback_metrics["train/segmentor_fake"] < 1


def test_training_logs_both_verdicts_and_validation_the_labels_loss(make_data: MakeData, tmp_path: Path) -> None:
    system = system_of(SemiSupervisedGAN())
    trainer = build_trainer(tmp_path)
    trainer.fit(system, few_labels(make_data))
    found = trainer.callback_metrics
    for name in ("segmentor_real", "segmentor_fake"):
        assert 0 < found[f"train/{name}"] < 1
    assert {"train/segmentor_cross_entropy", "train/generator_feature_matching"} <= set(found)
    assert found["val/loss"].item() == pytest.approx(found["val/loss_cross_entropy"].item())


@pytest.mark.parametrize(
    ("patch", "batch", "labelled", "said"),
    [
        (
            (16, 16),
            4,
            3,
            "so few unlabelled patches leave the networks' batch norm one value .* 1 labelled and 2",
        ),
        ((16, 16), 2, 1, "so few unlabelled patches"),
        ((16, 16), 3, 1, None),
        ((16, 32), 2, 1, None),
    ],
)
def test_a_batch_of_one_generated_image_is_refused_before_anything_is_prepared_where_batch_norm_has_one_value(
    patch: tuple[int, int], batch: int, labelled: int, said: str | None, make_data: MakeData, tmp_path: Path
) -> None:
    networks = {
        "segmentor": partial(few_shot.Segmentor, width=2, spatial_dims=2),
        "generator": partial(few_shot.Generator, patch=patch, width=2, noise=4),
    }
    modalities = ["t1", "t1ce", "t2", "flair"]
    system = AdversarialSegmentation(networks, SemiSupervisedGAN(), modalities=modalities, labels="labels")
    shares = {"batch_size": batch, "labelled_per_batch": labelled}
    data = make_data(n_labelled=2, labels="labels", patch=patch, cache_dir=str(tmp_path / "cache"), **shares)
    system.require_data(data)
    if said is None:
        data.prepare_data()
        data.setup("fit")
        images = next(iter(data.train_dataloader())).image[labelled:]
        assert system.networks["generator"](torch.rand(len(images), 4)).shape == images.shape
    else:
        with pytest.raises(UsageError, match=said):
            data.prepare_data()
        assert not (tmp_path / "cache").exists()


def test_without_unlabelled_cases_a_batch_needs_as_many_patches_as_are_generated_at_once(make_data: MakeData) -> None:
    data = make_data(patch=(1, 16, 16), batch_size=1)
    with pytest.raises(UsageError, match=r"batch_size 1: a patch of .* give at least 2, or a larger --data.patch"):
        data.require_batch(1, 2)


@pytest.mark.parametrize("name", GAMES)
def test_validation_and_prediction_run_the_segmentor_alone_and_a_prediction_is_given_no_label(
    name: str, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of(GAMES[name]())
    trainer = build_trainer(tmp_path, limit_train_batches=1)
    trainer.fit(system, few_labels(make_data))
    for network, module in system.networks.items():
        if network != "segmentor":
            module.register_forward_pre_hook(lambda *_: pytest.fail("a network besides the segmentor ran"))
    trainer.validate(system, few_labels(make_data), verbose=False)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    for owner in (few_shot.Generator, few_shot.Encoder, gt_gan.Generator):
        monkeypatch.setattr(owner, "__init__", lambda *_, **__: pytest.fail("it was built"))
    image = np.random.default_rng(0).random((4, 4, 32, 32), np.float32)
    predicted = Predictor.load(tmp_path / "last.ckpt", device="cpu").predict_array(image)
    assert predicted.shape == (4, 4, 32, 32)
    np.testing.assert_allclose(predicted.sum(0), 1, rtol=1e-5)
