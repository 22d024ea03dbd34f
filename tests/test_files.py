"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from segan_pl.errors import UsageError
from segan_pl.files import made_writable, require_writable, write_whole


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


def allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may write only below `folder`; root, whom the tests run as, may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_relative_to(folder))


def test_a_folder_that_can_be_written_passes_and_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    require_writable(tmp_path, "--output .")
    require_writable(tmp_path / "a" / "b", "--output a/b")
    require_writable(Path("a") / "b", "--output a/b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check", [require_writable, made_writable])
def test_a_folder_that_cannot_be_written_is_refused_by_option_and_reason(
    check: Callable[[Path, str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "ro").mkdir()
    allowed(tmp_path / "own", monkeypatch)
    for name, why in {
        "file": "is a file; give a folder",
        "nowhere": "is a file; give a folder",
        "file/a/b": "cannot be made (Not a directory); give another folder",
        "ro": "may not be written to (Permission denied); give another folder",
        "ro/a/b": "cannot be made (Permission denied); give another folder",
    }.items():
        with pytest.raises(UsageError) as error:
            check(tmp_path / name, f"--output {name}")
        assert str(error.value) == f"--output {name}: {why}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere", "ro"]


def test_a_read_only_file_system_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(UsageError, match=r"--output /x: cannot be made \(Read-only file system\)"):
        require_writable(Path("/x/y"), "--output /x")


def test_what_only_the_making_shows_is_refused_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    assert made_writable(tmp_path / "a" / "b", "--output b").is_dir()
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(UsageError, match=r"--output c: cannot be made \(Permission denied\); give another folder"):
        made_writable(tmp_path / "c", "--output c")
