from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from segan_pl.errors import UsageError
from segan_pl.inference.checkpoint_file import CheckpointError
from segan_pl.training.callbacks import checkpoint
from segan_pl.training.callbacks.checkpoint import AtomicCheckpointIO
from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.training.callbacks.progress import Progress
from segan_pl.training.callbacks.record import RunRecord
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = QUIET

KILLS = """
import io, os, signal, sys
from pathlib import Path
import torch
from segan_pl.training.callbacks import checkpoint

folder = Path(sys.argv[1])
target = folder / "last.ckpt"

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def write_half_and_die(content, file):
    whole = io.BytesIO()
    save(content, whole)
    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    file.flush()
    die()

save = torch.save
moments = {"half": (torch, "save", write_half_and_die), "unsynced": (os, "fsync", die), "unnamed": (os, "replace", die)}
writer = checkpoint.AtomicCheckpointIO()
writer.save_checkpoint({"value": torch.zeros(1000)}, target)
for number, (moment, (owner, name, replacement)) in enumerate(moments.items(), 1):
    child = os.fork()
    if child == 0:
        setattr(owner, name, replacement)
        writer.save_checkpoint({"value": torch.full((1000,), 7.0)}, target)
        os._exit(3)  # not killed: the moment never came
    status = os.waitpid(child, 0)[1]
    left = len(list(folder.iterdir())) - 1
    value = writer.load_checkpoint(target)["value"][0].item()
    writer.save_checkpoint({"value": torch.full((1000,), float(number))}, target)
    after = sorted(path.name for path in folder.iterdir())
    print(moment, os.WIFSIGNALED(status), left, value, after, flush=True)
"""


def test_a_save_that_is_killed_leaves_the_previous_one_and_the_next_save_cleans_up(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", KILLS, str(folder)]
    environment = {**os.environ, "TMPDIR": "/dev/shm"}  # another file system than the run's, as on a cluster
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [
        "half True 1 0.0 ['last.ckpt']",
        "unsynced True 1 1.0 ['last.ckpt']",
        "unnamed True 1 2.0 ['last.ckpt']",
    ]


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file becomes a device that is always full."""
    real = checkpoint.remove_leftovers

    def leave_full_device(directory: Path) -> None:
        real(directory)
        for name in ("last.ckpt", "best-epoch=1.ckpt", "best-epoch=2.ckpt"):
            (directory / f".{name}.tmp-{os.getpid()}").symlink_to("/dev/full")

    monkeypatch.setattr(checkpoint, "remove_leftovers", leave_full_device)


needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@needs_full_device
def test_on_a_full_disk_the_old_one_stays_and_the_failure_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, target = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"epoch": 1}, target)
    fill_disk(monkeypatch)
    with pytest.warns(RuntimeWarning, match=r"last\.ckpt: the disk is full, this checkpoint was not written"):
        writer.save_checkpoint({"epoch": 2, "big": torch.zeros(100_000)}, target)
    assert len(writer.failures) == 1
    assert writer.load_checkpoint(target) == {"epoch": 1}


@needs_full_device
def test_the_best_one_is_not_deleted_for_a_better_one_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = ModelCheckpoint(tmp_path, "best-{epoch}", monitor="val/dice_wt", mode="max", save_on_train_epoch_end=True)
    run = trainer(tmp_path, best, epochs=3, enable_checkpointing=True)
    fill_disk(monkeypatch)
    with pytest.warns(RuntimeWarning, match="the disk is full"):
        run.fit(Toy(), loader(), loader(1))
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["best-epoch=0.ckpt"]
    assert len(run.strategy.checkpoint_io.failures) == 2  # type: ignore[attr-defined]


def test_another_error_than_a_full_disk_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(torch, "save", refuse)
    writer = AtomicCheckpointIO()
    with pytest.raises(OSError, match="input/output error"):
        writer.save_checkpoint({}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []
    assert writer.failures == []


def test_a_checkpoint_of_a_run_with_all_callbacks_loads_as_plain_values(tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path, monitor="val/dice_wt", mode="max", save_last=True, save_on_train_epoch_end=True)
    callbacks = (VolumeDiceStopping(), RunRecord(tmp_path), Progress(), last)
    trainer(tmp_path, *callbacks, epochs=2, enable_checkpointing=True, max_time="00:01:00:00").fit(
        Toy(), loader(), loader(1)
    )
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {"VolumeDiceStopping", "Progress", "Timer"} <= {name.split("{")[0] for name in content["callbacks"]}
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")["epoch"] == content["epoch"] == 1


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[content.index(b"\x00\x00\x80\x3f" * 8) + 2] ^= 0xFF  # inside a tensor of ones
    path.write_bytes(
        {"empty": b"", "cut": bytes(content[:500]), "text": b"<html>not here</html>"}.get(how, bytes(content))
    )


@pytest.mark.parametrize("how", ["empty", "cut", "flipped"])
def test_a_damaged_checkpoint_gives_one_line_that_names_another(tmp_path: Path, how: str) -> None:
    writer, target = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"value": torch.ones(1000)}, target)
    writer.save_checkpoint({"value": torch.ones(1000)}, tmp_path / "epoch0003.ckpt")
    damage(target, how)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged checkpoint \(.*\); try .*epoch0003\.ckpt") as error:
        writer.load_checkpoint(target)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_holds_code_is_refused_even_when_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "foreign.ckpt"
    torch.save({"path": Path("x")}, target)
    with pytest.raises(CheckpointError, match=r"foreign\.ckpt: holds pathlib\S*, which only running its code"):
        AtomicCheckpointIO().load_checkpoint(target, weights_only=False)


@pytest.mark.parametrize("content", [b"<html>not here</html>", b"#!/bin/sh\n", b"PK", b"PK\x03\x04 cut"])
def test_only_what_begins_as_a_checkpoint_is_called_a_damaged_one(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "t.sh"
    source.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        AtomicCheckpointIO().load_checkpoint(source)
    if content.startswith(b"PK"):
        assert f"{source}: damaged checkpoint (" in str(error.value)
        assert str(error.value).endswith("); no other one in its folder is whole")
    else:
        assert str(error.value) == f"{source} is not a checkpoint (no zip archive); give a .ckpt of a run"
        torch.save({"epoch": 1}, tmp_path / "last.ckpt")
        with pytest.raises(CheckpointError, match=r"\(no zip archive\); try .*last\.ckpt"):
            AtomicCheckpointIO().load_checkpoint(source)


def test_a_folder_is_no_checkpoint_and_those_in_it_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r": is a folder without checkpoints; give a \.ckpt of a run"):
        AtomicCheckpointIO().load_checkpoint(tmp_path)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for epoch in range(6):
        (folder / f"epoch{epoch}.ckpt").touch()
    shown = ", ".join(str(folder / f"epoch{epoch}.ckpt") for epoch in range(4))
    for typed in (tmp_path, folder):
        with pytest.raises(UsageError) as error:
            AtomicCheckpointIO().load_checkpoint(typed)
        assert str(error.value) == f"{typed}: is a folder; give a checkpoint: {shown} and 2 more"


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt: no such checkpoint"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "gone.ckpt")


def test_the_advice_of_a_damaged_checkpoint_never_names_another_damaged_one(tmp_path: Path) -> None:
    whole, newer, last = (tmp_path / f"{name}.ckpt" for name in ("whole", "newer", "last"))
    for number, file in enumerate((whole, newer, last)):
        checkpoint.write_atomically({"value": torch.ones(1000)}, file)
        os.utime(file, (number, number))
    for file in (newer, last):
        file.write_bytes(file.read_bytes()[:-600])
    with pytest.raises(CheckpointError, match=r"; try .*whole\.ckpt$"):
        AtomicCheckpointIO().load_checkpoint(last)
