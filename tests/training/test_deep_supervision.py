"""A segmentor with deep supervision in whole runs: resumed to the bit, frozen, and read back for prediction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from segan_pl.data.module import MRIDataModule
from segan_pl.inference.predictor import Predictor
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET


def run(folder: Path, data: MRIDataModule, *, epochs: int, checkpoint: Path | None = None) -> AdversarialSegmentation:
    torch.manual_seed(0)
    system = AdversarialSegmentation(
        {"segmentor": partial(MonaiSegmentor, kind="DynUNet", spatial_dims=2, width=4, levels=3, deep_supervision=1)},
        Supervised(cross_entropy_weight=1.0),
        modalities=["t1", "flair"],
        labels="regions",
        averaging=0.9,
        optimizers={"default": partial(torch.optim.Adam, lr=1e-3)},
    )
    kept = ModelCheckpoint(folder, save_last=True, save_top_k=0, save_on_train_epoch_end=True)
    settings: dict[str, Any] = {"enable_checkpointing": True, "limit_train_batches": 2}
    build_trainer(folder, kept, epochs=epochs, **settings).fit(system, data, ckpt_path=checkpoint)
    return system


def test_a_resumed_run_is_the_uninterrupted_one_and_its_checkpoint_predicts_without_heads(
    tmp_path: Path, make_data: Callable[..., MRIDataModule]
) -> None:
    make = partial(make_data, modalities=["t1", "flair"], labels="regions")
    straight = run(tmp_path / "straight", make(), epochs=2)
    run(tmp_path / "broken", make(), epochs=1)
    resumed = run(tmp_path / "broken", make(), epochs=2, checkpoint=tmp_path / "broken" / "last.ckpt")
    ends = [one.state_dict() for one in (straight, resumed)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert sum("heads" in name for name in ends[0]) == 4  # weight and bias, own and averaged
    predictor = Predictor.load(tmp_path / "broken" / "last.ckpt", device="cpu")
    for head in predictor.segmentors[0].network.heads:
        head.register_forward_hook(lambda *_: pytest.fail("prediction runs a head"))
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = resumed.eval().predict_volume(image).sigmoid()
    torch.testing.assert_close(torch.as_tensor(predictor.predict_array(image.numpy())), expected)
