"""A run on all cases, without validation: asked for, never by accident, and what the other commands make of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.__main__ import main
from segan_pl.cli.trainer import require_validation_or_end
from segan_pl.data.split.drawing import stratified_split
from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError
from tests.cohort import CASES, QUIET, SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

Fit = Callable[..., int]


@pytest.fixture
def fit(tmp_path: Path, cohort: Path, prepared: Path) -> Fit:
    """`segan_pl fit` of one epoch into a folder of tmp_path."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))

    def run(*arguments: str, name: str = "run") -> int:
        line = [f"--run.directory={tmp_path / name}", "--trainer.max_epochs=1"]
        return main(["fit", "--config", str(path), *line, *arguments])

    return run


def split_of(run: Path) -> dict[str, list[str]]:
    return json.loads((run / "split.json").read_text())


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_all_cases_train_and_the_last_checkpoint_is_named_at_the_end(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    assert fit("--data.val_fraction=0") == 0
    assert len(split_of(run)["train"]) == CASES
    assert split_of(run)["val"] == []
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert "note: nothing is validated, so nothing chooses a checkpoint or stops early" in caplog.text
    assert caplog.messages[-1].endswith(f"no checkpoint was chosen; last checkpoint: {run / 'checkpoints/last.ckpt'}")
    with (run / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["batches_seen"] == "6"
    assert not [name for name in row if name.startswith("val/")]
    assert fit("--data.val_fraction=0", "--trainer.max_epochs=2") == 0  # continued
    assert len((run / "metrics.csv").read_text().splitlines()) == 3


def test_a_test_part_may_be_held_out_and_is_scored(fit: Fit, tmp_path: Path) -> None:
    assert fit("--data.val_fraction=0", "--data.test_fraction=0.25") == 0
    assert [len(split_of(tmp_path / "run")[part]) for part in ("train", "val", "test")] == [6, 0, 2]
    assert main(["test", f"--ckpt_path={tmp_path / 'run/checkpoints/last.ckpt'}"]) == 0
    assert len((tmp_path / "run/scores/test_last.csv").read_text().splitlines()) == 3


def test_the_validation_cases_of_a_split_may_go_unscored(fit: Fit, tmp_path: Path) -> None:
    assert fit("--trainer.limit_val_batches=0") == 0
    assert len(split_of(tmp_path / "run")["val"]) == 2
    assert not (tmp_path / "run" / "scores").exists()


@pytest.mark.parametrize("content", [{"val": []}, {}], ids=["empty", "not there"])
def test_a_split_file_without_validation_is_refused_unless_that_is_asked_for(
    fit: Fit, tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str], content: dict[str, list[str]]
) -> None:
    names = sorted(path.name for path in cohort.glob("*/*"))
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": names, **content}))
    assert fit(f"--data.split_file={file}") == 1
    assert '"val" is empty; expected at least one case (fit without validation: --data.val_fraction 0)' in error_of(
        capsys
    )
    assert fit(f"--data.split_file={file}", "--data.val_fraction=0", "--trainer.fast_dev_run=1") == 0


def test_a_split_file_with_validation_contradicts_a_fraction_of_0(
    fit: Fit, tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(path.name for path in cohort.glob("*/*"))
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:6], "val": names[6:]}))
    assert fit(f"--data.split_file={tmp_path / 'split.json'}", "--data.val_fraction=0") == 2
    assert "which has 2 validation cases; leave out the fraction" in error_of(capsys)


def test_without_an_end_of_its_own_it_is_refused(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--data.val_fraction=0", "--trainer.max_epochs=-1") == 2
    assert "without validation nothing stops the run early; give --trainer.max_epochs" in error_of(capsys)
    assert not (tmp_path / "run").exists()


def test_a_large_number_of_epochs_is_no_end_in_a_file_and_one_on_the_line() -> None:
    class Unvalidated:
        split = Split(("a",), (), ())

        def find(self) -> None: ...

    data: Any = Unvalidated()
    settings = {"max_epochs": 12_000}
    with pytest.raises(UsageError, match="and the 12000 epochs of the configuration stand for no end; give --trainer"):
        require_validation_or_end(settings, data, ["--config=some.yaml"])
    assert require_validation_or_end(settings, data, ["--config=some.yaml", "--trainer.max_epochs=12000"]) is False
    assert require_validation_or_end(settings, data, ["--trainer.max_epochs", "12000"]) is False


def test_a_score_that_nothing_uses_is_not_refused(fit: Fit) -> None:
    assert fit("--data.val_fraction=0", "--run.monitor=val/dice_csf", "--trainer.fast_dev_run=1") == 0
    assert fit("--run.monitor=val/dice_csf", "--trainer.fast_dev_run=1") == 2


def test_only_training_may_ask_for_no_validation() -> None:
    with pytest.raises(UsageError, match="expected val > 0"):
        stratified_split([], val_fraction=0, seed=0)


def test_the_other_commands_know_such_a_run(
    fit: Fit, tmp_path: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, predictions = tmp_path / "run", tmp_path / "predictions"
    checkpoint = f"--ckpt_path={run / 'checkpoints/last.ckpt'}"
    assert fit("--data.val_fraction=0") == 0
    for command in ("validate", "test"):
        assert main([command, checkpoint]) == 2
        assert f"{command}: the split has no case to score" in error_of(capsys)
    assert main(["compare", str(run), str(run)]) == 2
    assert "was trained without validation: predict other cases" in error_of(capsys)
    assert main(["report", str(run), "--output", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "none; the last checkpoint is the run&#39;s" in page
    line = [checkpoint, f"--root={cohort}", f"--output={predictions}", "--postprocess=[]", "--device=cpu"]
    assert main(["predict", *line]) == 0
    assert main(["postprocess", checkpoint, f"--pred={predictions}", f"--root={cohort}"]) == 2
    assert "was trained without validation, so no case can choose steps" in error_of(capsys)
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["val_fraction"] == 0
