"""What a page begins with, and two runs compared."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.evaluation.statistics.seeds import read_entries
from segan_pl.evaluation.statistics.study import study
from segan_pl.evaluation.statistics.study_tables import legend
from segan_pl.report.headline import NOT_SHOWN, card, duration, matrix, paired
from segan_pl.report.run_files import read_files
from segan_pl.report.run_report import Report, whole_page
from tests.report.run_folders import make_evaluation, make_run, score, write_rows
from tests.report.test_run_report import Page

DICES = (0.9, 0.7, 0.5, 0.5, 0.5, 0.3, 0.1)


def two(tmp_path: Path, second=(0.8, 0.6, 0.4, 0.4, 0.4, 0.2, 0.15)) -> list[str]:
    return [f"one={make_run(tmp_path / 'a', DICES)}", f"two={make_run(tmp_path / 'b', second)}"]


def test_a_card_has_the_best_region_first_with_its_interval_and_what_is_not_available_last(tmp_path: Path) -> None:
    rows = [score(f"c{n}", 0.5 + n / 100, region, status="ok") for n in range(8) for region in ("wt",)]
    rows += [score(f"c{n}", 0.7 + n / 100, "tc", status="ok") for n in range(8)]
    rows += [score(f"c{n}", "", "et", status="ok") for n in range(8)]
    report = Report([read_files(f"mine={make_evaluation(tmp_path, rows)}")], {})
    (found,) = report.cards
    assert [region for region, _, _ in found.scores] == [
        "Tumour core (TC)",
        "Whole tumour (WT)",
        "Enhancing tumour (ET)",
    ]
    assert found.scores[0][1] == "0.735"
    low, high = map(float, found.scores[0][2].split(" to "))
    assert 0.70 < low < 0.735 < high < 0.77
    assert found.scores[2][1:] == ("n/a", "n/a")
    assert "Enhancing tumour (ET) n/a no case has a value" in Page(whole_page(report)).text
    assert dict(found.facts)["cases"] == "8 evaluated"


def test_a_card_of_a_run_without_scores_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    for file in (folder / "scores").iterdir():
        file.unlink()
    report = Report([read_files(str(folder))], {})
    assert report.cards[0].scores == []
    assert "No scores of cases yet." in Page(whole_page(report)).text


def test_few_patients_have_no_interval_and_the_card_says_why(tmp_path: Path) -> None:
    page = Page(whole_page(Report([read_files(str(make_run(tmp_path / "a")))], {})))
    assert "Whole tumour (WT) 0.500 too few patients for an interval" in page.text
    assert "Mean Dice; cases: 3 validation; epochs: 2; time: 2 min" in page.text


def test_validation_cases_that_test_scored_are_not_called_test_cases(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a")
    (folder / "scores" / "val_epoch_0001.csv").rename(folder / "scores" / "test_last.csv")
    (found,) = Report([read_files(str(folder))], {}).cards
    assert dict(found.facts)["cases"] == "3 validation"


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (600, "10 min"), (7260, "2 h 1 min"), ("", "")])
def test_time_is_in_words(tmp_path: Path, seconds: object, said: str) -> None:
    folder = make_run(tmp_path / "a")
    write_rows(folder / "metrics.csv", [{"epoch": 0, "seconds": seconds}])
    assert duration(read_files(str(folder))) == said


def test_of_many_runs_each_is_a_row(tmp_path: Path) -> None:
    runs = [read_files(f"r{number}={make_run(tmp_path / str(number))}") for number in range(5)]
    page = Page(whole_page(Report(runs, {})))
    assert "segan_pl report: 5 runs The runs at a glance: mean Dice and its 95 % interval" in page.text
    assert "r4 0.500 3 validation 2 2 min" in page.text
    assert not [one for one in page.all("div") if one.get("class") == "card"]


def test_regions_by_metrics_have_plain_names_and_their_direction(tmp_path: Path) -> None:
    run = read_files(f"a={make_run(tmp_path / 'a', DICES)}")
    report = Report([run], {})
    columns, rows = matrix([run], report.statistics, report.metrics)
    assert columns == ["region", "Dice ↑", "Precision ↑"]
    assert rows[0][0] == "Whole tumour (WT)"
    assert rows[0][1][0] == "0.500"
    assert card(run, report.statistics["a"]).scores[0][1] == "0.500"


def test_two_runs_are_compared_as_compare_does(tmp_path: Path) -> None:
    texts = two(tmp_path)
    found = paired([read_files(text) for text in texts])
    line = study(read_entries(texts)).lines[0]
    row = dict(zip(found.columns, found.rows[0], strict=True))
    assert row["metric"] == "dice"
    assert row["patients"] == "7"
    assert row["difference"] == f"{line.found.difference:+.4f}"
    assert row["verdict"] == line.verdict
    assert found.caption.startswith("two against one:")
    assert found.legend == tuple(legend(study(read_entries(texts)), NOT_SHOWN))
    said = " ".join(found.legend)
    assert "p perm.: " in said
    assert not any(f"{name}: " in said for name in ("p Wilc.", "r", "dz"))
    assert found.chart is not None
    assert main(["report", *texts, "--output", str(tmp_path / "page.html")]) == 0
    assert "two against one: paired differences" in Page((tmp_path / "page.html").read_text()).text
    assert (tmp_path / "figures" / "paired_dice.svg").is_file()


def test_the_command_of_the_caption_prints_the_same_numbers(tmp_path: Path, capsys) -> None:
    rng, texts = np.random.default_rng(0), []
    for name, shift in (("one", 0.0), ("the other", 0.05)):
        rows = [
            score(f"c{n}", round(0.5 + shift + d, 4), region, status="ok", hd95_mm=round(5 + 9 * d, 4))
            for region in ("wt", "tc")
            for n, d in enumerate(rng.normal(0, 0.06, 9))
        ]
        texts.append(f"{name}={make_evaluation(tmp_path / name, rows)}")
    found = paired([read_files(text) for text in texts])
    assert {row[0] for row in found.rows} == {"dice", "hd95_mm"}
    assert "over all 4 tests of this table" in found.caption
    command = shlex.split(found.caption.partition("The same: ")[2])
    assert command[:2] == ["segan_pl", "compare"]
    assert main([*command[1:], f"--output={tmp_path / 'out'}"]) == 0
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    printed = [[cell.strip() for cell in line.split("|")] for line in lines]
    for row in found.rows:
        assert any(set(row[1:]) <= set(cells) for cells in printed), row


def test_runs_that_cannot_be_compared_are_told_why_and_the_page_is_made(tmp_path: Path) -> None:
    runs = [
        read_files(f"{name}={make_evaluation(tmp_path / name, [score(name, 0.5, status='ok')])}") for name in ("a", "b")
    ]
    found = paired(runs)
    assert found.rows == ()
    assert "no case is in every run" in found.notes[0]
    assert "Not compared: no case is in every run" in Page(whole_page(Report(runs, {}))).text


def test_one_run_has_no_differences_and_many_are_for_compare(tmp_path: Path) -> None:
    runs = [read_files(f"r{number}={make_run(tmp_path / str(number))}") for number in range(3)]
    assert paired(runs[:1]).notes == ()
    assert "segan_pl compare" in paired(runs).notes[0]
