"""A third network and cases without labels: two networks, an objective of three phases and a YAML."""

from __future__ import annotations

import importlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume, write_volume
from segan_pl.nets.segan import Segmentor
from segan_pl.objectives.base import Objective, StepContext
from tests.changes.tiny import checkpoint, differing, fit, rows, weights
from tests.cohort import QUIET
from tests.contracts import ObjectiveContract, tiny_batch

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated", "example"),
]
UNLABELLED = 3


class TestCycle(ObjectiveContract):
    """Each network moves in its own phase and only then, and what else every objective must keep."""

    test_unlabelled_samples_change_nothing = None  # they do, in the way of the test below

    def build(self, **options: Any) -> Objective:
        return importlib.import_module("my_objective").Cycle(**options)

    def networks(self, objective: Objective, modalities: int, channels: int) -> dict[str, nn.Module]:
        nets = importlib.import_module("my_nets")
        kinds = {"segmentor": partial(Segmentor, width=8), "generator": nets.Generator, "critic": nets.Critic}
        return {name: kind(**objective.channels(name, modalities, channels)) for name, kind in kinds.items()}

    def test_it_says_that_it_reads_unlabelled_samples(self) -> None:
        assert self.build().reads_unlabelled()

    def test_unlabelled_samples_share_in_the_cycle_and_their_targets_in_nothing(self) -> None:
        objective, networks = self.cast()
        found = []
        for junk in (0.0, torch.nan):
            batch = tiny_batch(items=3)
            batch.target[2] = junk
            batch = batch._replace(labelled=torch.tensor([True, True, False]))
            context = StepContext({name: one.eval() for name, one in networks.items()}, batch, "sigmoid")
            found.append([phase.loss(context) for phase in objective.phases()])
        for terms, others in zip(*found, strict=True):
            assert torch.equal(terms.total, others.total)
        parts = found[0][2].parts
        gap = networks["generator"](context.probability) - batch.image
        torch.testing.assert_close(parts["cycle"], gap.abs().mean().detach())
        entropy = nn.functional.binary_cross_entropy_with_logits(context.logits[:2], batch.target[:2])
        torch.testing.assert_close(parts["cross_entropy"], entropy.detach())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("third")


@pytest.fixture
def partly(cohort: Path, folder: Path) -> Path:
    """The cohort, without the masks of some cases; made once."""
    root = folder / "partly"
    if not root.exists():
        shutil.copytree(cohort, root)
        for mask in sorted(root.rglob("*_seg.nii.gz"))[:UNLABELLED]:
            mask.unlink()
    return root


@pytest.fixture
def finished(example: Path, partly: Path, folder: Path) -> Path:
    """A run of two epochs, made once."""
    run = folder / "run"
    if not run.exists():
        assert fit(partly, run, f"--config={example / 'my_semi_supervised.yaml'}") == 0
    return run


def part(state: dict[str, Tensor], network: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(f"networks.{network}.")}


def test_three_networks_train_on_labelled_and_unlabelled_cases_and_the_segmentor_predicts(
    finished: Path, partly: Path, tmp_path: Path
) -> None:
    split = json.loads((finished / "split.json").read_text())
    assert len(split["unlabelled"]) == UNLABELLED
    found = rows(finished / "metrics.csv")
    for name in ("generator_painting", "segmentor_cross_entropy", "segmentor_cycle"):
        assert float(found[1][f"train/{name}"]) < float(found[0][f"train/{name}"])
    line = [f"--ckpt_path={checkpoint(finished)}", f"--root={partly}", f"--output={tmp_path}", "--device=cpu"]
    assert main(["predict", *line]) == 0
    assert (tmp_path / f"{split['unlabelled'][0]}.nii.gz").is_file()


def test_it_resumes_to_the_bit_after_a_stop(example: Path, finished: Path, partly: Path, tmp_path: Path) -> None:
    for epochs in (1, 2):
        assert fit(partly, tmp_path / "run", f"--config={example / 'my_semi_supervised.yaml'}", epochs=epochs) == 0
    assert differing(weights(tmp_path / "run"), weights(finished)) == []


def test_no_label_of_an_unlabelled_case_has_a_share(
    example: Path, finished: Path, cohort: Path, tmp_path: Path
) -> None:
    """A run in which these cases have masks, of nothing but tumour, has the weights of the run without their masks."""
    root = shutil.copytree(cohort, tmp_path / "masked")
    for mask in sorted(root.rglob("*_seg.nii.gz"))[:UNLABELLED]:
        volume = read_volume(mask)
        write_volume(mask, np.full_like(volume.array, 4), volume.affine)
    split = f"--data.split_file={finished / 'split.json'}"
    assert fit(root, tmp_path / "run", f"--config={example / 'my_semi_supervised.yaml'}", split) == 0
    assert differing(weights(tmp_path / "run"), weights(finished)) == []


def test_the_generator_is_frozen_by_name(example: Path, finished: Path, partly: Path, tmp_path: Path) -> None:
    begin = [f"--finetuning.init_from={checkpoint(finished)}", "--finetuning.frozen=[generator]"]
    assert fit(partly, tmp_path / "run", f"--config={example / 'my_semi_supervised.yaml'}", *begin, epochs=1) == 0
    before, after = weights(finished), weights(tmp_path / "run")
    assert differing(part(before, "generator"), part(after, "generator")) == []
    for network in ("segmentor", "critic"):
        assert differing(part(before, network), part(after, network))
