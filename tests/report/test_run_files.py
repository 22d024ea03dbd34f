"""What a folder is taken for, and files that are not as `segan_pl` leaves them: one line, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.report.run_files import read_files
from segan_pl.report.run_report import Report, whole_page
from tests.report.run_folders import make_evaluation, make_run, score


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def ok(case: str, dice: float) -> dict[str, object]:
    return score(case, dice, status="ok")


def test_of_two_evaluations_in_a_run_none_is_shown_in_silence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("evaluation", "evaluation_pp"):
        (run / name).mkdir()
        make_evaluation(run / name, [ok("t", 0.77)])
    assert main(["report", str(run)]) == 2
    assert "holds 2 evaluations (evaluation, evaluation_pp); give one of them" in capsys.readouterr().err


def test_one_of_them_is_shown_with_the_runs_own_files(run: Path) -> None:
    for name, dice in (("evaluation", 0.77), ("evaluation_pp", 0.79)):
        (run / name).mkdir()
        make_evaluation(run / name, [ok("case_0", dice)])
    found = read_files(str(run / "evaluation_pp"))
    assert found.scored is not None
    assert found.scored.rows["wt", "case_0"].values["dice"] == 0.79
    assert len(found.epochs) == 2
    assert found.split["val"] == ["case_0", "case_1", "case_2"]
    assert found.name == "segan_cat run/evaluation_pp"
    assert read_files(str(run / "evaluation")).name == "segan_cat run/evaluation"


def test_a_folders_own_table_is_shown_before_one_inside_it(tmp_path: Path) -> None:
    (tmp_path / "own" / "old").mkdir(parents=True)
    make_evaluation(tmp_path / "own", [ok("x", 0.11)])
    make_evaluation(tmp_path / "own" / "old", [ok("x", 0.99)])
    found = read_files(str(tmp_path / "own")).scored
    assert found is not None
    assert found.rows["wt", "x"].values["dice"] == 0.11


def test_a_folder_with_an_equals_sign_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "lr=0.1")
    assert main(["report", str(tmp_path / "lr=0.1")]) == 0
    monkeypatch.chdir(tmp_path)
    assert read_files("lr=0.1").name == "segan_cat lr=0.1"
    assert read_files("mine=lr=0.1").name == "mine"


def test_several_runs_of_one_name_are_for_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / name)
    assert main(["report", f"x={tmp_path / 'a'},{tmp_path / 'b'}"]) == 2
    assert "2 runs of one name; a report shows each: give a=RUN b=RUN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("metrics.csv", b"epoch,seconds,val/dice_wt\n0,60,\xff\n", "metrics.csv: cannot be read as a CSV file"),
        ("metrics.csv", b"epoch,seconds\n0,60\n1,6x\n", "metrics.csv, line 3, seconds: '6x'; expected a number"),
        ("metrics.csv", b"epoch,seconds\n,60\n", "metrics.csv, line 2, epoch: ''; expected a number"),
        ("metrics.csv", b"seconds\n60\n", "metrics.csv: no column epoch"),
        ("environment.json", b"{", "environment.json: not readable as JSON"),
        ("config.yaml", b"a: [", "config.yaml: not readable as YAML"),
    ],
)
def test_a_broken_file_is_named_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes, error: str
) -> None:
    (run / file).write_bytes(content)
    assert main(["report", str(run)]) != 0
    line = capsys.readouterr().err
    assert error in line
    assert line.count("\n") == 1
    assert not (run / "report").exists()


def test_another_file_of_predicts_name_is_left_alone_and_predicts_own_is_read(run: Path) -> None:
    for folder in ("notes", "predictions"):
        (run / folder).mkdir()
    (run / "notes" / "predictions_old.csv").write_text("case,dice\na,1\n")
    (run / "notes" / "predictions.csv").write_text("case,dice\na,1\n")
    (run / "predictions" / "predictions_1of2.csv").write_text("case,refused\nb,broken\n")
    assert [row["case"] for row in read_files(str(run)).predictions] == ["b"]


def test_what_the_environment_leaves_out_is_no_fault_and_git_is_words(run: Path) -> None:
    state = {"gpus": None, "cpu_count": 2, "git": {"revision": "abc123", "dirty": True}}
    (run / "environment.json").write_text(json.dumps(state))
    (run / "split.json").write_text(json.dumps({"train": ["a"], "val": None}))
    page = whole_page(Report([read_files(str(run))], {}))
    assert "<dt>git</dt><dd>abc123 with changes</dd>" in page
    assert "<dd>2 CPU cores</dd>" in page
    state["git"] = {"revision": "abc123", "dirty": False}
    (run / "environment.json").write_text(json.dumps(state))
    assert "<dt>git</dt><dd>abc123</dd>" in whole_page(Report([read_files(str(run))], {}))
