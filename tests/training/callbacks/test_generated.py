"""Pictures of generated patches next to real ones: from a game's last batch of an epoch to a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from segan_pl.objectives.gan import SemiSupervisedGAN
from segan_pl.objectives.gt_gan import GTGAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.callbacks.generated import SHOWN, GeneratedPatches, draw
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET
OPTIMIZERS = {"default": partial(torch.optim.Adam, lr=1e-3)}


@pytest.mark.parametrize("objective", [SemiSupervisedGAN, GTGAN])
def test_each_epoch_leaves_a_picture_and_changes_no_training(objective, make_data, tmp_path: Path) -> None:
    weights = []
    for folder, callbacks in (("with", [GeneratedPatches(tmp_path / "with", every=2)]), ("without", [])):
        system = build_system(objective(), optimizers=OPTIMIZERS)
        torch.manual_seed(0)
        trainer = build_trainer(tmp_path / folder, *callbacks, epochs=3)
        trainer.fit(system, make_data(n_labelled=2, labels="labels"))
        weights.append(torch.cat([p.detach().flatten() for p in system.networks.parameters()]))
    assert torch.equal(*weights)
    names = [path.name for path in sorted((tmp_path / "with" / "previews").iterdir())]
    assert names == ["epoch_0000_generated.png", "epoch_0002_generated.png"]
    assert set(system.pictures) == {"real", "generated"}
    assert system.pictures["real"].shape == system.pictures["generated"].shape
    assert system.pictures["real"].shape[1:] == (4, 32, 32)


def test_an_objective_that_makes_no_image_leaves_no_picture(make_data, tmp_path: Path) -> None:
    system = build_system(Supervised(), optimizers=OPTIMIZERS)
    build_trainer(tmp_path, GeneratedPatches(tmp_path)).fit(system, make_data())
    assert not (tmp_path / "previews").exists()


def test_a_picture_has_a_row_for_each_kind_in_the_range_of_the_real_ones() -> None:
    real, made = torch.rand(8, 2, 6, 16, 16), 5 + torch.rand(3, 2, 6, 16, 16)
    figure = draw({"real": real, "generated": made}, "epoch 3")
    shown = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(shown) == SHOWN + 3
    np.testing.assert_array_equal(shown[0].get_array(), real[0, 0, 3])
    np.testing.assert_array_equal(shown[SHOWN].get_array(), made[0, 0, 3])
    assert {image.get_clim() for image in shown} == {shown[0].get_clim()}
    assert shown[0].get_clim()[1] <= 1
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == ["real", "generated"]
