from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segan_pl.cli.commands.compare import main
from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
from tests.evaluation.score_tables import run_folder, write_scores

BASE = np.round(np.random.default_rng(0).beta(8, 2, 12), 4)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """The second is better by a little in every case, and lacks the last."""
    gains = np.linspace(0.001, 0.02, 11)
    return str(run_folder(tmp_path / "old", list(BASE))), str(run_folder(tmp_path / "new", list(BASE[:11] + gains)))


def test_two_runs_are_compared_and_counted(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *runs]) == 0
    shown = capsys.readouterr().out
    assert "| new | old     |" in shown
    assert "11/0/0 |  better" in shown
    assert "note: 1 cases of old are not in every run and are left out: case11" in shown
    assert shown.splitlines()[-1] == "12 given, 11 used, 0 refused"


def test_the_reference_may_be_named_or_given_as_it_stands_on_the_line(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for reference in ("new", runs[1]):
        assert main(["compare", *runs, "--reference", reference]) == 0
        assert "| old | new     |" in capsys.readouterr().out


def test_the_tables_are_written_where_asked(runs: tuple[str, str], tmp_path: Path) -> None:
    assert main(["compare", *runs, "--output", str(tmp_path / "out"), "--resamples", "1000"]) == 0
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".csv", ".md", ".tex"]


def test_an_output_that_cannot_be_made_is_refused_before_the_comparison(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--output .*file: is a file; give a folder"):
        main(["compare", *runs, "--output", str(tmp_path / "file")])
    assert capsys.readouterr().out == ""


def test_a_refused_prediction_makes_the_command_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, status in (("a", "ok"), ("b", "refused: other grid")):
        rows = [{"case": "c0", "region": "wt", "status": "ok", "dice": 0.5}]
        rows.append({"case": "c1", "region": "wt", "status": status, "dice": 0.5 if status == "ok" else ""})
        write_scores(tmp_path / name / "metrics_per_case.csv", rows)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    shown = capsys.readouterr().out
    assert "1 patients are too few" in shown
    assert shown.splitlines()[-1] == "2 given, 1 used, 1 refused"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--metric", "dcie"], r"did you mean 'dice'\?"),
        (["--metric", ","], "empty --metric or --region"),
        (["--region", "tc"], "--region tc is not in every run; .*known: wt"),
        (["--resamples", "50"], "at least 1000"),
        (["--seed", "-1"], "expected 0 or more"),
        (["--reference", "odl"], r"did you mean 'old'\?"),
    ],
)
def test_what_is_typed_wrongly_is_refused(runs: tuple[str, str], options: list[str], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        main(["compare", *runs, *options])


def test_an_unknown_option_or_no_run_is_one_line(runs: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=r"^--metrics: no such option; did you mean --metric\?$"):
        main(["compare", *runs, "--metrics", "dice"])
    with pytest.raises(UsageError, match=r"^the following arguments are required: runs$"):
        main(["compare"])


def test_a_broken_table_is_refused(runs: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("case,region\n", encoding="utf-8")
    with pytest.raises(CaseError, match=r"broken.csv: no row"):
        main(["compare", runs[0], str(tmp_path / "broken.csv")])


def test_comparing_loads_no_pytorch(runs: tuple[str, str]) -> None:
    run = "from segan_pl.cli.commands.compare import main; main(sys.argv[1:])"
    code = f"import sys; {run}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "compare", *runs], check=True, capture_output=True)
