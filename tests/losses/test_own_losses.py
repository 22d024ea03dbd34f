"""Losses by import path: a function and a class from outside the package, and options of our own from the line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jsonargparse import set_parsing_settings

from segan_pl.__main__ import main
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

MODULE = '''
def overlap(probability, target):
    """One minus the soft Jaccard index of the batch."""
    both = (probability * target).sum()
    return 1 - (both + 1) / (probability.sum() + target.sum() - both + 1)


class Gap:
    """Mean squared distance of the critic's layers."""

    def __init__(self, *, last: int = 1):
        self.last = last

    def __call__(self, fake, real):
        pairs = list(zip(fake, real))[-self.last :]
        return sum((a - b).square().mean() for a, b in pairs)
'''
LINE = [
    *("fit", "--config=segan_cat", "--data.patch=[32,32]", "--data.batch_size=12", "--data.val_fraction=0.25"),
    *("--model.networks.segmentor.init_args.width=2", "--model.networks.critic.init_args.width=2"),
    *("--data.preparation.crop=null", "--data.stratify_by=[]", "--data.prepare_workers=1", "--data.workers=0"),
    *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.devices=1", "--run.preview_every=0"),
]
OBJECTIVE = "--model.objective.init_args"

Fit = Callable[..., int]


@pytest.fixture
def fit(tmp_path: Path, cohort: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    (tmp_path / "own_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)
    places = [f"--root={cohort}", f"--data.cache_dir={prepared}", f"--run.directory={tmp_path / 'run'}"]
    return lambda *more: main([*LINE, *places, *more])


def test_losses_of_ones_own_train_and_their_checkpoint_predicts_without_them(
    fit: Fit, tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "own_losses")
    own = [
        f"{OBJECTIVE}.dice=own_losses.overlap",
        f"{OBJECTIVE}.gap=own_losses.Gap",
        f"{OBJECTIVE}.gap.init_args.last=2",
    ]
    assert fit(*own) == 0
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["objective"]["init_args"]
    assert saved["dice"] == "own_losses.overlap"
    assert saved["gap"] == {"class_path": "own_losses.Gap", "init_args": {"last": 2}}
    monkeypatch.delenv("SEGAN_PL_ALLOW_IMPORTS")
    set_parsing_settings(import_path_denylist=["own_losses"])  # what was allowed holds for the process
    monkeypatch.delitem(sys.modules, "own_losses")
    (tmp_path / "own_losses.py").unlink()
    checkpoint = f"--ckpt_path={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}"
    assert main(["predict", checkpoint, f"--root={cohort}", f"--output={tmp_path / 'out'}"]) == 0


def test_an_option_of_our_own_loss_is_set_from_the_line_and_kept(fit: Fit, tmp_path: Path) -> None:
    assert fit(f"{OBJECTIVE}.dice.init_args.reduction=batch", f"{OBJECTIVE}.gap.init_args.reduction=layer_mean") == 0
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["objective"]["init_args"]
    options = {"reduction": "batch", "epsilon": 1e-6, "form": "differentiable", "over_ranks": False}
    assert saved["dice"]["init_args"] == options
    assert saved["gap"]["class_path"] == "segan_pl.losses.features.MultiscaleL1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["dice=own_losses.overlap"], "--model.objective.init_args.dice: own_losses.overlap is outside the packages"),
        (["dice.init_args.reduction=volume"], "dice.init_args.reduction volume: expected slice or batch"),
        (
            ["dice.init_args.redution=batch"],
            "dice.init_args.redution: not accepted by segan_pl.losses.overlap.SoftDice; did you mean",
        ),
        (["gap.init_args.layer_weights=[-1]"], "layer_weights are [-1.0], expected numbers of at least 0"),
        (
            ["gap=segan_pl.losses.vat.ReleasedVATLoss", "gap.init_args.xi=1"],
            "gap.init_args.xi: not accepted by segan_pl.losses.vat.ReleasedVATLoss",
        ),
    ],
)
def test_what_a_loss_does_not_take_is_one_line(
    fit: Fit, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = fit(*(f"{OBJECTIVE}.{one}" for one in given))
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
