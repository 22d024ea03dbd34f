"""`segan_pl prepare`, from the command line to the exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.prepare import cases
from segan_pl.data.synthetic.cohort import make_cohort

CASES = 4


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    make_cohort(root, cases=CASES, shape=(6, 24, 24))
    return root


@pytest.fixture
def copy(cohort: Path, tmp_path: Path) -> Path:
    return shutil.copytree(cohort, tmp_path / "copy")


@pytest.fixture
def arguments(copy: Path, tmp_path: Path) -> list[str]:
    places = [f"--root={copy}", f"--data.cache_dir={tmp_path / 'cache'}"]
    return ["prepare", *places, "--data.preparation.crop=null", "--data.prepare_workers=1"]


def entries(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").glob("*/*") if path.name != ".building"]


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_it_ends_with_given_used_and_refused(arguments, copy, tmp_path, capsys):
    assert main(arguments) == 0
    assert last_line(capsys.readouterr().out) == f"{CASES} given, {CASES} used, 0 refused"
    assert len(entries(tmp_path)) == CASES
    next(copy.rglob("*_t2.nii.gz")).write_bytes(b"not a volume")
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert last_line(out) == f"{CASES} given, {CASES - 1} used, 1 refused"
    assert "refused: BraTS19_" in out


def test_cases_without_a_mask_or_a_modality_are_prepared_too(arguments, copy, tmp_path, capsys):
    for pattern in ("*_seg.nii.gz", "*_t1ce.nii.gz"):
        next(copy.rglob(pattern)).unlink()
    assert main(arguments) == 0
    assert last_line(capsys.readouterr().out) == f"{CASES} given, {CASES} used, 0 refused"


def test_a_system_file_serves_as_it_does_for_fit(arguments, tmp_path, capsys):
    assert main([*arguments[:1], "--config", "segan_cat", *arguments[1:]]) == 0
    assert last_line(capsys.readouterr().out) == f"{CASES} given, {CASES} used, 0 refused"


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(arguments, tmp_path, capsys):
    assert main([*arguments, "--dry_run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1:3] == ["there already: 0 cases", f"to build: {CASES} cases, 0.0 MB each, 0.1 MB in all"]
    assert out[3].endswith("; it fits")
    assert out[-1] == f"{CASES} given, {CASES} used, 0 refused"
    assert not (tmp_path / "cache").exists()
    main(arguments)
    capsys.readouterr()
    assert main([*arguments, "--dry_run"]) == 0
    assert f"there already: {CASES} cases\nto build: 0 cases\n" in capsys.readouterr().out


def test_a_dry_run_fails_where_it_will_not_fit_and_so_does_the_run_before_it_begins(
    arguments, tmp_path, capsys, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cases.shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    assert main([*arguments, "--dry_run"]) == 1
    assert "0.0 MB on the disk of " in (out := capsys.readouterr().out)
    assert "; it does not fit" in out
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is too full: 0.1 MB needed for 4 cases, 0.0 MB free; make room, or set SEGAN_PL_CACHE" in error
    assert entries(tmp_path) == []


def test_orphans_are_listed_and_then_removed(arguments, copy, tmp_path, capsys):
    main(arguments)
    gone = next(copy.rglob("*_flair.nii.gz")).parent
    shutil.rmtree(gone)
    capsys.readouterr()
    assert main([*arguments, "--orphans", "list"]) == 0
    out = capsys.readouterr().out
    assert f"orphan: {tmp_path}" in out
    assert last_line(out) == f"{CASES} found, 1 orphans (0.0 MB); --orphans remove deletes these"
    assert len(entries(tmp_path)) == CASES
    assert main([*arguments, "--orphans", "remove"]) == 0
    assert last_line(capsys.readouterr().out) == f"{CASES} found, 1 orphans, 1 removed (0.0 MB)"
    assert len(entries(tmp_path)) == CASES - 1
    assert not any(gone.name in place.name for place in entries(tmp_path))
    assert main([*arguments, "--orphans", "list"]) == 0
    assert "found, 0 orphans" in last_line(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["--dry_run", "--orphans=list"], "--dry_run and --orphans exclude each other"),
        (["--orphans=rmove"], "rmove"),
        (["--data.prepare_worker=2"], "did you mean --data.prepare_workers?"),
        (["--data.preparation.crp=null"], "did you mean --data.preparation.crop?"),
        (["--data.preparation.scaling=zscor"], "zscor"),
    ],
)
def test_what_is_typed_wrongly_is_one_line_and_exit_2(arguments, capsys, wrong, expected):
    try:
        code = main([*arguments, *wrong])
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert expected in error


WITHOUT_PYTORCH = """
import sys
from segan_pl.__main__ import main

code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


def test_it_imports_no_pytorch(arguments):
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", WITHOUT_PYTORCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
