"""A layout of the user's own, by its import path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from segan_pl.cli.commands.check import main as check
from segan_pl.data.case import CaseError
from segan_pl.data.layouts import find_data_set
from segan_pl.errors import UsageError

OWN = """
from segan_pl.data.layouts import Found
from segan_pl.data.layouts.folders import case_files
from segan_pl.data.case import Case

NAME, EXPECTS = "hospital", "<patient>/<patient>_{t1,t1_ir,mask}.nii.gz"


def recognises(here):
    return any(folder.name.startswith("p") for folder in here.folders)


def find(here):
    cases = [Case(one.name, one.name, *case_files(one, ("t1_ir",))) for one in here.folders if one.name.startswith("p")]
    return Found(cases, "mrbrains13")


class Hospital:
    NAME, EXPECTS = NAME, EXPECTS

    def recognises(self, here):
        return recognises(here)

    def find(self, here):
        return find(here)


class Half:
    NAME = "half"


class WithArgument(Hospital):
    def __init__(self, what):
        pass


class OfTexts(Hospital):
    def find(self, here):
        return Found([Case("a", "a", {"t1": str(here.path)})], "binary")


class OfNames(Hospital):
    def find(self, here):
        return Found([folder.name for folder in here.folders], "binary")


class InFolders(Hospital):
    def find(self, here):
        return Found([Case("a/b", "a", {})], "binary")


class OfAnotherYear(Hospital):
    def find(self, here):
        return Found([Case("a", "a", {})], "brats2022")


class Wrong(Hospital):
    def find(self, here):
        return []
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "packages" / "own_layouts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(OWN)
    (package / "broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "own_layouts")
    for name in ("p1", "p2"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for part in ("t1", "T1-IR", "mask"):
            (tmp_path / "data" / name / f"{name}_{part}.nii.gz").touch()
    yield tmp_path / "data"
    for name in [name for name in sys.modules if name.startswith("own_layouts")]:
        del sys.modules[name]


@pytest.mark.parametrize("path", ["own_layouts", "own_layouts.Hospital"])
def test_a_module_or_a_class_of_ones_own_finds_its_cases(data: Path, path: str) -> None:
    found = find_data_set(data, path)
    assert (found.layout, found.native_labels) == ("hospital", "mrbrains13")
    assert [(case.name, list(case.images), case.mask is not None) for case in found.cases] == [
        ("p1", ["t1", "t1_ir"], True),
        ("p2", ["t1", "t1_ir"], True),
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("another.layout", "another.layout is outside the packages .* set SEGAN_PL_ALLOW_IMPORTS=another"),
        ("own_layouts_too.x", "outside the packages"),
        ("own_layouts.Nothing", "own_layouts has no 'Nothing'"),
        ("own_layouts.none.Nothing", "no module 'own_layouts.none'; check the name and PYTHONPATH"),
        ("own_layouts.Half", "has no EXPECTS, recognises, find; expected a module or class"),
        ("own_layouts.Wrong", "find returned list; expected"),
        ("own_layouts.WithArgument", "missing 1 required .* 'what'; expected a class without arguments"),
        ("brats2022", "unknown; .* one of your own is given by its import path, e.g. my_package.my_layout"),
    ],
)
def test_what_is_no_layout_is_refused(data: Path, path: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--data.layout .*{message}"):
        find_data_set(data, path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("OfTexts", r"returns '\S+' as a file of case a; expected a pathlib.Path"),
        ("OfNames", "returns a str as a case; expected segan_pl.data.case.Case"),
        ("InFolders", "returns a case 'a/b'; expected a name that a file can have"),
        ("OfAnotherYear", r"returns labels of no convention \(.*brats2022: unknown"),
    ],
)
def test_what_is_no_case_is_refused_with_the_layouts_name(data: Path, path: str, message: str) -> None:
    with pytest.raises(CaseError, match=f"layout 'hospital' {message}"):
        find_data_set(data, f"own_layouts.{path}")


def test_what_its_module_lacks_is_not_hidden(data: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        find_data_set(data, "own_layouts.broken")


def test_the_command_line_takes_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(["check", "--root", str(data), "--data.layout", "own_layouts.Hospital"]) == 1  # files are empty
    assert "layout hospital" in capsys.readouterr().out
