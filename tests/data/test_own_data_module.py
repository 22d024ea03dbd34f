"""The data module of docs/python.md, as it stands there: trained, scored and predicted with."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import segan_pl
from segan_pl.data.source import MEMBERS, case_source
from segan_pl.errors import UsageError
from segan_pl.evaluation.scoring import score_case
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.segan import SegAN
from tests.cohort import QUIET

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:.*self.log.*sync_dist.*")]
PAGE = Path(__file__).parents[2] / "docs/python.md"


@pytest.fixture(scope="module")
def data() -> Any:
    """Three volumes with a bright block, in the data module of the page."""
    (block,) = (
        text
        for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "CaseSource" in text or "class Volumes" in text
    )
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    rng = np.random.default_rng(0)
    masks = [np.zeros((6, 32, 32), np.uint8) for _ in range(3)]
    for row, mask in enumerate(masks):
        mask[1:5, 8 + row : 20, 10:22] = 1
    images = [(0.2 * rng.random(mask.shape) + 0.7 * mask).astype(np.float32) for mask in masks]
    return names["Volumes"](images, masks)


def model(**settings: Any) -> segan_pl.AdversarialSegmentation:
    torch.manual_seed(0)
    networks = {"segmentor": partial(Segmentor, width=4), "critic": partial(Critic, width=4)}
    defaults: dict[str, Any] = {
        "modalities": ["flair"],
        "labels": "whole_tumour/binary",
        "optimizers": {"default": partial(torch.optim.Adam, lr=3e-3)},
    }
    return segan_pl.AdversarialSegmentation(networks, SegAN(), **{**defaults, **settings})


def trainer(folder: Path, epochs: int = 1) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    return L.Trainer(default_root_dir=folder, max_epochs=epochs, logger=False, enable_checkpointing=False, **quiet)  # type: ignore[arg-type]


def test_a_data_module_of_ones_own_trains_scores_predicts_and_loads(data: Any, tmp_path: Path) -> None:
    one, by = model(), trainer(tmp_path, epochs=12)
    by.fit(one, datamodule=data)
    learnt = float(by.callback_metrics["val/dice_wt"])
    assert learnt > 0.8
    (prediction,) = by.predict(one, datamodule=data)  # type: ignore[misc]
    assert (prediction.case, prediction.label.shape) == ("case2", (6, 32, 32))
    (region,) = score_case(prediction.label, data.masks[2], (1, 1, 1), scheme=data.scheme, policy=one.scoring.policy)
    assert region.values["dice"] == pytest.approx(learnt, abs=1e-6)
    (tested,) = by.test(one, datamodule=data, verbose=False)
    assert tested["test/dice_wt"] == pytest.approx(learnt, abs=1e-6)
    by.save_checkpoint(tmp_path / "own.ckpt")
    again = segan_pl.AdversarialSegmentation.load_from_checkpoint(tmp_path / "own.ckpt")
    assert trainer(tmp_path).validate(again, datamodule=data, verbose=False)[0]["val/dice_wt"] == pytest.approx(
        learnt, abs=1e-6
    )
    found = segan_pl.load(tmp_path / "own.ckpt", device="cpu")({"flair": data.images[2]}, spacing_mm=(1, 1, 1))
    np.testing.assert_array_equal(found.label, prediction.label)
    assert found.label.any()


def test_a_data_module_that_lacks_something_is_refused_with_what(data: Any, tmp_path: Path) -> None:
    class Half(L.LightningDataModule):
        modalities, patch, batch_size = ("flair",), (32, 32), 8

        def train_dataloader(self) -> list[Any]:
            return []

        val_dataloader = train_dataloader

    with pytest.raises(
        UsageError, match=r"Half lacks scheme, background, cases, rows, .*; a data module of your own has all"
    ):
        trainer(tmp_path).fit(model(), datamodule=Half())
    assert case_source(None) is None
    assert len(MEMBERS) == 12
