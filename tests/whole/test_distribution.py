"""What a package index is given: it builds, it is described, and its page has no link that leads nowhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
TOOLS = ("build", "twine", "hatchling", "hatch_fancy_pypi_readme")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution, and the wheel that was built from it."""
    if lacking := [name for name in TOOLS if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(lacking)} (pip install '.[dev]')")
    folder = tmp_path_factory.mktemp("dist")
    run("build", "--no-isolation", "--outdir", str(folder), str(CHECKOUT))
    return folder


def run(module: str, *arguments: str) -> str:
    """What a tool prints; its whole output when it fails."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metadata(folder: Path) -> Message:
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (name,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
        return message_from_bytes(wheel.read(name))


@pytest.mark.slow
def test_twine_finds_nothing_to_complain_of(built: Path) -> None:
    files = sorted(map(str, built.iterdir()))
    assert [Path(file).suffix for file in files] == [".whl", ".gz"]
    assert run("twine", "--no-color", "check", "--strict", *files).count("PASSED") == 2


@pytest.mark.slow
def test_the_page_of_the_index_has_no_relative_link_and_no_picture(built: Path) -> None:
    page = metadata(built).get_payload()
    assert isinstance(page, str)
    assert page.startswith("# segan_pl\n")
    assert not re.findall(r"\]\((?!https?:)", page)
    assert "<img" not in page
    assert "(`docs/install.md`)" in page  # the reader learns where it is all the same
    assert "`ARCHITECTURE.md` is the map" in page


@pytest.mark.slow
def test_every_file_that_the_page_names_is_in_the_source_distribution(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    named = re.findall(r"`([\w/.]+\.(?:md|cff))`", str(metadata(built).get_payload()))
    assert len(named) > 15
    assert set(named) <= held


def test_the_authors_and_the_licence_are_those_of_the_citation() -> None:
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    project = PROJECT["project"]
    assert project["authors"] == citation["authors"]
    assert project["license"] == citation["license"]


def test_classifiers_are_those_that_exist_and_start_at_the_least_python() -> None:
    classifiers = PROJECT["project"]["classifiers"]
    known = pytest.importorskip("trove_classifiers").classifiers
    assert set(classifiers) <= known
    versions = [one.rpartition(" ")[2] for one in classifiers if re.search(r"Python :: \d\.\d+$", one)]
    assert versions[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert versions == sorted(versions, key=lambda one: int(one.partition(".")[2]))
