"""Where a run goes on when its last checkpoint is damaged or gone; a trained run never begins again unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from segan_pl.data.case import CaseError
from segan_pl.inference.checkpoint_file import CheckpointError
from segan_pl.training.run.continuing import continuation
from segan_pl.training.run.folder import RunDirectoryError
from tests.checkpoints import damage, write_checkpoint

CONFIG = {"data": {"batch_size": 4}, "trainer": {"devices": 1}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of eight epochs whose best was epoch 3."""
    folder = tmp_path / "run"
    write_checkpoint(folder / "checkpoints" / "epoch0003_dice_wt0.8000.ckpt", 3, config=CONFIG)
    write_checkpoint(folder / "checkpoints" / "last.ckpt", 7, config=CONFIG)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    lines = ["epoch,batches_seen,seconds", *(f"{epoch},{4 * epoch + 4},1" for epoch in range(8))]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def begin(run: Path, given: Path | None = None, **changed: Any) -> tuple[str | None, str]:
    """The checkpoint's name and what is said."""
    found = continuation(run, {**CONFIG, **changed}, given=given)
    return found.checkpoint and found.checkpoint.name, " ".join(found.notes)


def test_a_whole_last_checkpoint_is_taken_and_named(run: Path) -> None:
    assert begin(run) == ("last.ckpt", f"continuing {run} from last.ckpt (epoch 7, 32 batches seen)")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("flipped", "checksum of"),
        ("cut", "damaged checkpoint"),
        ("empty", "damaged checkpoint"),
        ("gone", "is missing"),
    ],
)
def test_a_damaged_or_missing_one_is_replaced_by_the_newest_whole_one(run: Path, how: str, why: str) -> None:
    write_checkpoint(run / "checkpoints" / "epoch0001_dice_wt0.7000.ckpt", 1)  # written later, and less far
    last = run / "checkpoints" / "last.ckpt"
    last.unlink() if how == "gone" else damage(last, how)
    name, said = begin(run)
    assert name == "epoch0003_dice_wt0.8000.ckpt"
    assert said.startswith("note: last.ckpt ")
    assert why in said
    assert "goes on from epoch0003_dice_wt0.8000.ckpt (epoch 3, 16 batches seen), the newest whole checkpoint" in said
    assert "rows of metrics.csv and scores after it are replaced" in said


def test_a_checkpoint_on_the_line_works_beside_a_damaged_last_one(run: Path, tmp_path: Path) -> None:
    damage(run / "checkpoints" / "last.ckpt", "flipped")
    own = write_checkpoint(run / "checkpoints" / "epoch0001_dice_wt0.7000.ckpt", 1)
    assert begin(run, own)[0] == own.name  # as it was asked for
    assert "as --ckpt_path says" in begin(run, own)[1]
    copy = write_checkpoint(tmp_path / "copy" / "of_last.ckpt", 7)
    assert begin(run, copy)[0] == copy.name  # further on than epoch 3
    start = write_checkpoint(tmp_path / "source" / "start.ckpt", 0)
    name, said = begin(run, start)
    assert name == "epoch0003_dice_wt0.8000.ckpt"  # where the run began is not where it goes on
    assert f"note: --ckpt_path {start} is not used, since {run} has trained" in said


def test_the_last_checkpoint_is_further_on_than_one_on_the_line_and_that_is_said(run: Path) -> None:
    name, said = begin(run, run / "checkpoints" / "epoch0003_dice_wt0.8000.ckpt")
    assert name == "last.ckpt"
    assert said.endswith("; to go back to epoch0003_dice_wt0.8000.ckpt, remove it")


def test_a_checkpoint_of_another_run_that_is_not_taken_is_named(run: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other" / "checkpoints" / "last.ckpt", 9)
    name, said = begin(run, other)
    assert name == "last.ckpt"
    assert said.endswith(
        f"note: --ckpt_path {other} is not used, since {run} has trained and goes on from its own checkpoint; to begin "
        f"with the other one, give another --run.directory"
    )
    assert "is not used" not in begin(run, run / "checkpoints" / "last.ckpt")[1]


def test_a_damaged_checkpoint_on_the_line_is_refused(run: Path) -> None:
    own = write_checkpoint(run / "checkpoints" / "epoch0001_dice_wt0.7000.ckpt", 1)
    for file in (own, run / "checkpoints" / "last.ckpt"):
        damage(file, "cut")
    with pytest.raises(CheckpointError, match=r"epoch0001.*: damaged checkpoint .*; try .*epoch0003"):
        begin(run, own)


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_trained_run_without_a_whole_checkpoint_is_refused_with_what_helps(run: Path, how: str) -> None:
    for file in (run / "checkpoints").iterdir():
        damage(file, "cut") if how == "damaged" else file.unlink()
    with pytest.raises(RunDirectoryError) as error:
        begin(run)
    said = str(error.value)
    assert f"{run} holds a trained run (8 rows in metrics.csv" in said
    assert "no whole checkpoint (last.ckpt " in said
    assert "put a copy back, continue one with --ckpt_path, train in another --run.directory, or remove" in said


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "val_epoch_0000.csv").touch()
    assert begin(tmp_path) == (None, f"{tmp_path} holds a run that ended before its first checkpoint; it begins again")


def test_another_number_of_ranks_goes_on_and_another_batch_does_not(run: Path) -> None:
    assert begin(run, trainer={"devices": 2})[0] == "last.ckpt"
    with pytest.raises(RunDirectoryError, match=r"data\.batch_size: 4 -> 5"):
        begin(run, data={"batch_size": 5})


def test_without_config_yaml_the_checkpoints_own_configuration_is_compared(run: Path) -> None:
    (run / "config.yaml").unlink()
    assert begin(run)[0] == "last.ckpt"
    with pytest.raises(RunDirectoryError, match=r"data\.batch_size: 4 -> 5"):
        begin(run, data={"batch_size": 5})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.yaml", "", "config.yaml: not readable as YAML (empty); restore or remove it"),
        ("config.yaml", "data: {batch", "config.yaml: not readable as YAML (while parsing a flow mapping"),
        ("config.yaml", "a: !!python/object/apply:os.system [id]", "could not determine a constructor for the tag"),
        ("config.yaml", "- a\n", "config.yaml: not readable as YAML (expected settings, found a list)"),
        ("environment.json", '{"torch": "2.1', "environment.json: not readable as JSON (Unterminated string"),
        ("split.json", '{"train": ["a', "split.json: cannot be read as JSON"),
        ("metrics.csv", "epoch,batches_seen,seconds\n0,4,1\n1,8,0.5x", "metrics.csv, line 3, seconds: '0.5x'"),
        ("metrics.csv", "epoch,batches_seen\n0,4\n\0\0\0", "metrics.csv"),
    ],
)
def test_a_damaged_record_is_told_with_its_name_before_any_work(run: Path, name: str, content: str, says: str) -> None:
    (run / name).write_text(content)
    with pytest.raises(CaseError) as error:
        begin(run)
    assert says in " ".join(str(error.value).split())


def test_tags_in_a_checkpoints_configuration_are_refused_and_run_nothing(run: Path) -> None:
    text = "a: !!python/object/apply:os.system ['touch /tmp/ran']"
    for file in (run / "checkpoints").iterdir():
        write_checkpoint(file, 3, config=text)
    with pytest.raises(RunDirectoryError, match=r"the configuration in it cannot be read \(could not determine"):
        begin(run)


def test_a_run_of_an_earlier_version_is_refused_with_the_commit_that_continues_it(run: Path) -> None:
    (run / "config.yaml").write_text("data: {preparation: {over: crop}}")
    with pytest.raises(RunDirectoryError, match="an earlier version, which commit 84b36fc of segan_pl continues"):
        begin(run)


def test_a_checkpoint_of_another_format_names_the_commit_that_reads_it(run: Path) -> None:
    for path in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["segan_pl"]["format"] = 2
        torch.save(content, path)
    with pytest.raises(RunDirectoryError, match="this version reads format 3; commit 84b36fc of segan_pl reads it"):
        begin(run)
