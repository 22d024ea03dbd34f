"""The documentation builds as a site without a warning, its notebooks are run, and every page is in its menu."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.utils.yaml import yaml_load

PROJECT = Path(__file__).parents[2]
PAGES = ("api", "notebooks/predict", "notebooks/own_objective")


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # of MkDocs: each kernel of a notebook says that it listens on a port
    assert not [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    pages = {name: (tmp_path / "site" / name / "index.html").read_text(encoding="utf-8") for name in PAGES}
    assert "predict_array" in pages["api"]  # the docstrings were found
    shown = pages["notebooks/predict"]
    assert len(re.findall(r'<img[^>]+src="data:image/png;base64,', shown)) == 1  # what the notebook draws
    assert re.search(r"dice.{0,40}: 0\.\d+", re.sub("<[^>]+>", "", shown))  # and its score
    assert "`Trainer.fit` stopped" not in shown  # what Lightning says is left out
    assert re.search(r"\[(0\.\d+, ){5}0\.\d+\]", re.sub("<[^>]+>", "", pages["notebooks/own_objective"]))
    # a page may link elsewhere; it loads nothing from there
    loaded = [re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)"', page) for page in pages.values()]
    assert not any(loaded), loaded


def test_every_page_is_in_the_menu_and_every_entry_is_a_page() -> None:
    with open(PROJECT / "mkdocs.yml", encoding="utf-8") as file:
        menu = yaml_load(file)["nav"]
    entries = [page for section in menu for pages in section.values() for page in pages]
    assert len(entries) == len(set(entries))
    docs = PROJECT / "docs"
    assert {*entries} == {str(path.relative_to(docs)) for kind in ("md", "ipynb") for path in docs.rglob(f"*.{kind}")}


def test_the_page_of_notebooks_names_every_one() -> None:
    page = (PROJECT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    names = [notebook.name for notebook in (PROJECT / "docs" / "notebooks").glob("*.ipynb")]
    assert len(names) >= 2
    assert all(f"(notebooks/{name})" in page for name in names)
