"""What all examples are held to: the files that CONTRIBUTING.md names, and a package that nobody patches."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import segan_pl

HERE = Path(__file__).parent
CONTRIBUTING = HERE.parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="session")
def whole_package() -> None:
    """Every module is imported, so that none can be changed before it is first looked at."""
    for module in pkgutil.walk_packages(segan_pl.__path__, "segan_pl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def code_of_package() -> Mapping[str, object]:
    """Every function and class of the package, and every member of a class, by where it stands."""
    found: dict[str, object] = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "segan_pl":
            continue
        for own, value in vars(module).items():
            if own.startswith("_ArgumentGroup"):  # argparse's group for a class of parsers, made at its first use
                continue
            if inspect.isclass(value) and value.__module__ == name:
                found |= {f"{name}.{own}.{member}": inner for member, inner in vars(value).items() if callable(inner)}
            if callable(value):
                found[f"{name}.{own}"] = value
    return found


def named_files(scenario: str) -> list[str]:
    """The files in CONTRIBUTING.md's row of the scenario, whose example is linked as tests/changes/SCENARIO."""
    rows = [row for row in CONTRIBUTING.read_text().splitlines() if f"(tests/changes/{scenario})" in row]
    assert len(rows) == 1, f"CONTRIBUTING.md has {len(rows)} rows of {scenario}, expected one"
    return sorted(re.findall(r"`([\w.]+\.(?:py|yaml|csv))`", rows[0].split("|")[2]))


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, whole_package: None) -> Iterator[Path]:
    """The folder of a test module's example as a user has it: on PYTHONPATH, and its modules allowed."""
    folder = HERE / request.path.stem.removeprefix("test_")
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    assert files == named_files(folder.name)
    modules = [Path(file).stem for file in files if file.endswith(".py")]
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", ",".join(modules))
    before = code_of_package()
    yield folder
    after = code_of_package()
    assert [name for name in before if after.get(name) is not before[name]] == []
    for name in modules:
        sys.modules.pop(name, None)
