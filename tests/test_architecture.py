"""ARCHITECTURE.md names what is there, and the package keeps the sizes that it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import segan_pl

PACKAGE = Path(segan_pl.__file__).parent
CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = ("ARCHITECTURE.md", "docs/contracts.md")
PATH = re.compile(r"`([\w./]+(?:/|\.py|\.md))`")
MOST_LINES, MOST_FILES, MOST_AT_THE_ROOT = 300, 15, 6


def room_of(line: str) -> Path:
    """The package that a row of the table of rooms begins with, else the package's root."""
    first = re.match(r"\| `([\w./]+)`", line)
    return PACKAGE / first[1] if first and first[1].endswith("/") else PACKAGE


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_the_page_names_is_there(page: str) -> None:
    missing = []
    for line in (CHECKOUT / page).read_text(encoding="utf-8").splitlines():
        home = room_of(line)
        for name in PATH.findall(line):
            places = (CHECKOUT / name, PACKAGE / name, home / name, home.parent / name)
            if not any(place.exists() for place in places):
                missing.append(name)
    assert not missing


def test_the_glossary_has_at_most_20_lines() -> None:
    rows = (CHECKOUT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Glossary")[2].strip().splitlines()
    assert 0 < len(rows) - 2 <= 20


def test_no_file_is_too_long_and_no_folder_too_full() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert not {path.name: count for path in files if (count := len(path.read_text().splitlines())) > MOST_LINES}
    folders = {path.parent for path in files}
    assert not {folder.name: count for folder in folders if (count := len(list(folder.glob("*.py")))) > MOST_FILES}
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_ROOT
