"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segan_pl.files import write_whole


def test_text_and_bytes_are_written_as_they_are_and_folders_are_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.txt", "é\r\nx\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é\r\nx\n".encode()
    write_whole(str(tmp_path / "a" / "b.txt"), b"\x00\xff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\x00\xff"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["kept.txt"]
