from __future__ import annotations

import re
from pathlib import Path

import pytest

from segan_pl.__main__ import OF_ONE_FOLDER, main
from segan_pl.cli.completion.script import parser_of
from segan_pl.errors import UsageError
from segan_pl.experiments.shipped import SWITCHES, with_folder_as_root


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders D and E, and a manifest."""
    monkeypatch.chdir(tmp_path)
    for name in ("D", "E"):
        Path(name).mkdir()
    Path("m.csv").touch()


@pytest.mark.parametrize(
    ("line", "root"),
    [
        ("check D", "D"),
        ("check m.csv --workers 1", "m.csv"),
        ("fit -c segan_cat D", "D"),
        ("fit -c=segan_cat D --seed_everything 1", "D"),
        ("split D --folds 5", "D"),
        ("plan --overwrite D", "D"),
        ("predict --overwrite true D", "D"),
        ("prepare --dry_run D", "D"),
    ],
)
def test_a_folder_alone_is_the_data_set(line: str, root: str) -> None:
    found = with_folder_as_root(line.split())
    assert f"--root={root}" in found
    assert sorted(one for one in found if one != f"--root={root}") == sorted(one for one in line.split() if one != root)


@pytest.mark.parametrize(
    "line", ["check --root D", "check --json D", "fit -c D --root=E", "predict --root D -- E", "fit -c --root D"]
)
def test_values_of_options_and_what_is_no_folder_stay(line: str) -> None:
    assert with_folder_as_root(line.split()) == line.split()


@pytest.mark.parametrize("line", ["check nowhere", "check nowhere to be found", "fit -c segan_cat nowhere --lr 1"])
def test_a_word_that_is_no_folder_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match=r"^nowhere: no such folder; give the folder of cases, a name with spaces in"):
        with_folder_as_root(line.split())


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("fit segan_cat --root D", "segan_cat: no option stands before it; a configuration is given as -c segan_cat"),
        ("fit -c segan_cat lgg --root D", "lgg: no option stands before it; a configuration is given as -c lgg"),
        ("fit own.yaml --root D", "own.yaml: no option stands before it; a configuration is given as -c own.yaml"),
        ("predict a.ckpt --root D", "a.ckpt: no option stands before it; a checkpoint is given as --ckpt_path a.ckpt"),
        ("check part two --root D", "part: no option stands before it; --root names the data set already"),
    ],
)
def test_a_word_without_its_option_gets_it(line: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(remedy)}"):
        with_folder_as_root(line.split())


def test_a_file_that_lists_no_cases_is_called_one() -> None:
    Path("t1.nii.gz").touch()
    with pytest.raises(UsageError, match=r"^t1.nii.gz: is a file; give the folder of cases"):
        with_folder_as_root(["check", "t1.nii.gz"])


@pytest.mark.parametrize("line", ["check D E", "check D --root E", "check --data.root=E D"])
def test_two_data_sets_are_refused(line: str) -> None:
    with pytest.raises(UsageError, match=r"expected one data set; give --root once"):
        with_folder_as_root(line.split())


def test_a_folder_after_any_switch_is_no_value_of_it() -> None:
    found = {
        f"--{option}"
        for name in OF_ONE_FOLDER
        if name != "fit"  # whose switches have dots in their names, and are given with their value
        for option, (kind, _) in parser_of(name).options().items()
        if kind in (bool, bool | None)
    }
    assert found == set(SWITCHES)


def test_the_program_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "D"]) == 1
    assert "segan_pl: error: D: " in capsys.readouterr().err
