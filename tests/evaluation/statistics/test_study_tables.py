from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from segan_pl.evaluation.statistics.seeds import read_entries
from segan_pl.evaluation.statistics.study import Study, study
from segan_pl.evaluation.statistics.study_tables import (
    as_csv,
    as_latex,
    as_markdown,
    print_study,
    study_outputs,
    write_study,
)
from tests.evaluation.score_tables import run_folder

BASE = np.round(np.random.default_rng(0).beta(8, 2, 12), 4)


@pytest.fixture
def found(tmp_path: Path) -> Study:
    """A run with a difficult name against three seeds, one case of them not in the run."""
    for seed in range(3):
        run_folder(tmp_path / f"seed{seed}", [*(BASE + 0.01 * seed), 0.5])
    run_folder(tmp_path / "a_b&50%", list(BASE))
    return study(read_entries([f"{tmp_path}/a_b&50%", f"new|x={tmp_path}/seed*"]), resamples=1000)


def test_the_csv_holds_every_number_of_the_comparison(found: Study) -> None:
    (row,) = csv.DictReader(io.StringIO(as_csv(found)))
    line = found.lines[0]
    assert (row["run"], row["against"], row["verdict"]) == ("new|x", "a_b&50%", "better")
    assert float(row["difference"]) == pytest.approx(line.found.difference, rel=1e-5)
    assert line.found.interval is not None
    assert (float(row["low"]), float(row["high"])) == pytest.approx(line.found.interval, rel=1e-5)
    assert float(row["p_permutation_holm"]) == pytest.approx(line.permutation_holm or 0, rel=1e-5)
    assert (row["wins"], row["ties"], row["losses"]) == ("12", "0", "0")
    assert (row["seeds_run"], row["seeds_against"]) == ("3", "")
    assert row["cohens_dz"] == ""  # the difference is the same everywhere


def test_markdown_rows_have_as_many_cells_as_their_head_whatever_the_names(found: Study) -> None:
    text = as_markdown(found)
    widths = [[len(re.findall(r"(?<!\\)\|", row)) for row in part.splitlines()] for part in text.split("\n\n") if part]
    tables = [part for part in widths if part[0]]
    assert len(tables) == 3
    assert all(len(set(table)) == 1 for table in tables)
    assert r"a\_b&50%" in text
    assert "1 cases of new\\|x are not in every run and are left out: case12" in text
    assert text.endswith("13 given, 12 used, 0 refused\n")


def test_latex_is_escaped_and_every_row_has_as_many_cells(found: Study) -> None:
    text = as_latex(found)
    assert r"a\_b\&50\%" in text
    assert r"new\textbar{}x" in text
    assert "$+0.0100$ to $+0.0100$" in text
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert not any(re.search(r"(?<!\\)%", line) for line in body)
    cells = {len(re.findall(r"(?<!\\)&", line)) for line in body if line.endswith(r"\\")}
    heads = re.findall(r"begin\{tabular\}\{([lr]+)\}", text)
    assert cells == {len(head) - 1 for head in heads}
    assert text.count("$") % 2 == 0


def test_a_screen_without_a_terminal_gets_plain_ascii_and_every_column(found: Study) -> None:
    out = io.StringIO()
    print_study(found, Console(file=out, width=200))
    assert out.getvalue().isascii()
    for word in ("mean against", "dz", "W/T/L", "+0.0100 to +0.0100", "Spread over seeds", "note: "):
        assert word in out.getvalue()


def test_a_narrow_terminal_gets_fewer_columns_and_is_told(found: Study) -> None:
    out = io.StringIO()
    print_study(found, Console(file=out, width=120))
    assert "mean against |" not in out.getvalue()
    assert "a wider terminal or --output shows mean, mean against, p Wilc., r, dz too" in out.getvalue()


def test_the_same_study_is_the_same_to_the_byte(found: Study, tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_study(found, study_outputs(tmp_path / "one", "--output one"))]
    again = study(found.entries, resamples=1000)
    assert [path.read_bytes() for path in write_study(again, study_outputs(tmp_path / "two", "--output two"))] == first
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "comparison.csv",
        "comparison.md",
        "comparison.tex",
    ]
