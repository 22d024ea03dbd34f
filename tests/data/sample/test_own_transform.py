"""A transform of one's own, for the device: a file outside the package, named in a YAML."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.batch import Batch
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.augment import Gathered
from segan_pl.data.sample.random_numbers import uniform
from segan_pl.errors import UsageError
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
]

FILE = '''
"""Cutout (DeVries and Taylor 2017): a square of each image is blank, where the sample's seed says."""

from dataclasses import dataclass

import torch

from segan_pl.batch import Batch
from segan_pl.data.sample.random_numbers import uniform


@dataclass(frozen=True)
class Cutout:
    side: int = 8

    def __call__(self, batch: Batch) -> Batch:
        height, width = batch.image.shape[-2:]
        room = torch.tensor([height - self.side, width - self.side], device=batch.seed.device)
        first = uniform(batch.seed, 200, 2) * room
        y, x = first.long().unbind(1)
        rows, columns = (torch.arange(n, device=batch.seed.device) for n in (height, width))
        inside = [(at >= start[:, None]) & (at < start[:, None] + self.side) for at, start in ((rows, y), (columns, x))]
        hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return batch._replace(image=batch.image.masked_fill(hole, 0))
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the file, importable and allowed."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "my_cutout.py").write_text(FILE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "my_cutout")
    monkeypatch.delitem(sys.modules, "my_cutout", raising=False)
    return folder


@pytest.mark.parametrize("where", ["loader", "device"])
def test_it_cuts_where_the_seed_says_in_the_loader_and_on_the_device(
    make_data: Callable[..., MRIDataModule], outside: Path, where: str
) -> None:
    from my_cutout import Cutout  # type: ignore[import-not-found]

    plain, cut = make_data(), make_data(transforms=[Cutout(8)], augment_on=where)
    for data in (plain, cut):
        data.prepare_data()
        data.setup("fit")
    for one, other in zip(plain.train_dataloader(), cut.train_dataloader(), strict=True):
        assert isinstance(other, Gathered if where == "device" else Batch)
        batch = cut.on_after_batch_transfer(other, 0)
        start = (uniform(batch.seed, 200, 2) * 24).long()
        for b, (y, x) in enumerate(start.tolist()):
            expected = one.image[b].clone()
            expected[:, y : y + 8, x : x + 8] = 0
            assert torch.equal(batch.image[b], expected)
        assert torch.equal(batch.target, one.target)


@pytest.mark.usefixtures("isolated")
def test_a_run_takes_it_from_a_file_of_settings(cohort: Path, prepared: Path, outside: Path, tmp_path: Path) -> None:
    settings = outside / "cutout.yaml"
    settings.write_text(
        "data:\n  augment_on: device\n  transforms:\n  - class_path: my_cutout.Cutout\n    init_args: {side: 4}\n"
    )
    line = [
        *("fit", "--config=segan_cat", f"--config={settings}", f"--root={cohort}", f"--data.cache_dir={prepared}"),
        *("--model.networks.segmentor.init_args.width=2", "--model.networks.critic.init_args.width=2"),
        *("--data.preparation.crop=null", "--data.patch=[32,32]", "--data.batch_size=12", "--data.stratify_by=[]"),
        *(f"--run.directory={tmp_path / 'run'}", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
        *("--data.prepare_workers=1", "--trainer.enable_progress_bar=false"),
    ]
    assert main(line) == 0
    assert "my_cutout.Cutout" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_transform_that_returns_no_batch_is_named(make_data: Callable[..., MRIDataModule]) -> None:
    def forgetful(batch: Batch) -> None:
        """Returns nothing."""

    data = make_data(transforms=[forgetful])
    data.prepare_data()
    data.setup("fit")
    with pytest.raises(UsageError, match=r"^--data.transforms: forgetful returns NoneType, expected a Batch$"):
        next(iter(data.train_dataloader()))
