"""Tables out of hand-made score files, against numbers worked by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segan_pl.evaluation.statistics import bootstrap_interval
from segan_pl.experiments.findings import Claim, claims, findings, lines, together
from segan_pl.experiments.heat_map import COLOURS, LIGHT, contrast, heat_map, ink
from segan_pl.experiments.paper_plan import Cell, PaperStudy
from segan_pl.experiments.paper_tables import Page, markdown, table_text, unfinished_lines, write
from segan_pl.experiments.paper_trials import expand
from segan_pl.experiments.results import published_numbers, results
from segan_pl.experiments.trials import Trial, write_state
from tests.experiments.study_play import cases, finish

FOUR = ("t1", "t1ce", "t2", "flair")
WHOLE = "+".join(FOUR)
LOW = [0.30, 0.40, 0.50, 0.60, 0.70, 0.80]


def study_in(folder: Path, **more: object) -> PaperStudy:
    return replace(PaperStudy(folder, "segan_cat_small", FOUR, ()), **more)  # type: ignore[arg-type]


def page_of(study: PaperStudy) -> Page:
    _, cells = expand(study)
    found = results(study.directory, cells)
    return Page(study, found, findings(claims(study), found), ["a note"], "6 validation cases")


def test_a_cell_is_the_mean_over_cases_with_the_interval_over_patients(tmp_path: Path) -> None:
    finish(tmp_path, "one", cases(LOW))
    (found,) = results(tmp_path, [Cell("II", "segan_cat", "t1", "t1", trials={0: "one"})])
    assert found.means["dice"].value == pytest.approx(0.55)
    assert found.means["dice"].interval == bootstrap_interval(np.array(LOW))
    assert (found.means["dice"].cases, found.means["dice"].patients) == (6, 6)
    assert found.means["sensitivity"].value == 0.25
    assert (found.state, found.spread) == ("finished", None)


def test_seeds_are_averaged_case_by_case_and_add_no_cases(tmp_path: Path) -> None:
    finish(tmp_path, "one", cases([0.2] * 6))
    finish(tmp_path, "two", cases([0.4, 0.4, 0.4, 0.4, 0.4, 1.0]))
    (found,) = results(tmp_path, [Cell("II", "segan_cat", "t1", "t1", trials={0: "one", 1: "two"})])
    assert found.means["dice"].cases == 6
    assert found.means["dice"].value == pytest.approx((0.2 + 0.5) / 2)
    assert found.means["dice"].interval == pytest.approx(bootstrap_interval(np.array([0.3] * 5 + [0.6])))
    assert found.spread is not None
    assert found.spread.sd == pytest.approx(0.3 / 2**0.5)  # of 0.2 and 0.5


def test_a_case_without_a_precision_leaves_that_mean_alone_and_is_counted(tmp_path: Path) -> None:
    precision = {"a": "", "b": "0.8"}
    study = study_in(tmp_path, tables=("I",))
    finish(tmp_path, "segan_all_seed0", cases(LOW), precision=precision)
    page = page_of(study)
    mean = page.results[0].means["precision"]
    assert (mean.cases, mean.value) == (5, pytest.approx((0.8 + 4 * 0.5) / 5))
    assert page.results[0].means["dice"].cases == 6
    assert table_text(page, "I")[1][0][2] == "0.560, n 5"  # five patients have no interval


def test_unfinished_cells_say_so_and_stay(tmp_path: Path) -> None:
    study = study_in(tmp_path, tables=("II",), seeds=(0, 1))
    finish(tmp_path, "segan_cat_t1_seed0", cases(LOW))
    write_state(tmp_path, Trial("segan_cat_t2_seed0", ("fit",)), "failed", exit_code=1, error="a loss is not finite")
    write_state(tmp_path, Trial("segan_cat_flair_seed0", ("fit",)), "skipped", error="source")
    page = page_of(study)
    _, body = table_text(page, "II")
    assert [line[0] for line in body] == [*FOUR, WHOLE]
    assert [line[5] for line in body] == ["1 of 2 seeds", "not run", "failed", "skipped", "not run"]
    assert body[2][1:4] == ["failed"] * 3
    left = unfinished_lines(page)
    assert len(left) == 9
    assert "II: t2, seed 0: failed (a loss is not finite)" in left
    assert "II: flair, seed 0: skipped (needs source)" in left
    assert "II: t1, seed 1: not run" in markdown(page)


# -- beside the published numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "dice"),
    [
        (Cell("I", "segan", WHOLE, WHOLE), (0.705, 0.766)),
        (Cell("I", "segan_cat", "t1+t1ce+flair", "t1+t1ce+flair"), (0.859, 0.825)),
        (Cell("II", "segan_cat", "flair", "flair"), (0.81, 0.763)),
        (Cell("II", "segan_cat", WHOLE, WHOLE), (0.859, 0.825)),
        (Cell("figure2", "segan_cat", "t1", "flair"), (0.1071, 0.0371)),
        (Cell("figure2", "segan_cat", "flair", "t1"), (0.0821, 0.0492)),
        (Cell("III", "segan_cat", "flair", "t2", "all"), (0.692, 0.674)),
        (Cell("III", "segan_cat", "flair", "t2", "critic_input"), (0.781, 0.741)),
        (Cell("voting", "majority vote t1+t1ce+t2", "", ""), (0.6801, 0.6562)),
        (Cell("voting", "weighted vote of flair-transferred t1 .25 t1ce .25 t2 .5", "", "", "all"), (0.753, 0.6892)),
    ],
)
def test_a_cell_stands_beside_its_published_number(cell: Cell, dice: tuple[float, float]) -> None:
    found = published_numbers(cell)
    assert (found["BraTS2015", "dice"], found["BraTS2019", "dice"]) == dice
    assert len(found) == 6


@pytest.mark.parametrize(
    "cell",
    [
        Cell("III", "segan_cat", "flair", "t2", "segmentor"),
        Cell("II", "albunet2d", "flair", "flair"),
        Cell("II", "segan_dice", "flair", "flair"),
        Cell("voting", "majority vote t1+t1ce", "t1+t1ce", "t1+t1ce"),
    ],
)
def test_what_the_paper_does_not_have_stays_empty(cell: Cell) -> None:
    assert published_numbers(cell) == {}


def test_every_cell_of_four_modalities_has_published_numbers() -> None:
    _, cells = expand(study_in(Path("/study")))
    assert len(cells) == 3 + 5 + 16 + 6 + 4
    assert all(len(published_numbers(cell)) == 6 for cell in cells)


# -- findings ----------------------------------------------------------------------------------------------------------

CLAIM = Claim("b over a", ("II", "segan_cat", "t2", "t2", ""), ("II", "segan_cat", "t1", "t1", ""))


def verdict(folder: Path, worse: dict[int, list[float]], better: dict[int, list[float]]) -> tuple[str, str]:
    cells = []
    for name, seeds in (("t1", worse), ("t2", better)):
        for seed, values in seeds.items():
            finish(folder, f"{name}_{seed}", cases(values))
        cells.append(Cell("II", "segan_cat", name, name, trials={seed: f"{name}_{seed}" for seed in seeds}))
    (found,) = findings([CLAIM], results(folder, cells))
    return found.verdict, found.line()


def test_a_clear_difference_holds_or_does_not(tmp_path: Path) -> None:
    gains = [0.10, 0.11, 0.12, 0.10, 0.11, 0.12]
    higher = [low + gain for low, gain in zip(LOW, gains, strict=True)]
    said, line = verdict(tmp_path / "up", {0: LOW}, {0: higher})
    assert said == "holds here"
    assert line.startswith("b over a: holds here; Dice +0.110, 95 % interval +0.1")
    assert line.endswith(", n = 6, 1 seed; paper +0.183 BraTS2015, +0.133 BraTS2019")  # 0.721 - 0.538, 0.675 - 0.542
    assert verdict(tmp_path / "down", {0: higher}, {0: LOW})[0] == "does not hold here"


def test_an_interval_that_holds_zero_decides_nothing(tmp_path: Path) -> None:
    assert verdict(tmp_path, {0: LOW}, {0: LOW[::-1]})[0] == "not decided"


def test_five_patients_decide_nothing(tmp_path: Path) -> None:
    said, line = verdict(tmp_path, {0: LOW[:5]}, {0: [value + 0.1 for value in LOW[:5]]})
    assert said == "not decided"
    assert "no interval (fewer than 6 patients), n = 5" in line


def test_a_seed_that_says_the_opposite_leaves_it_undecided(tmp_path: Path) -> None:
    far, near = [value + 0.19 for value in LOW], [value - 0.01 for value in LOW]
    said, line = verdict(tmp_path, {0: LOW, 1: LOW}, {0: far, 1: near})
    assert said == "not decided"
    assert "Dice +0.090" in line
    assert "2 seeds, -0.010 to +0.190" in line


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    far = [value + 0.1 for value in LOW[:5]] + [0.95]
    assert "1 seed;" in verdict(tmp_path, {0: LOW, 1: [0.0] * 6}, {0: far})[1]


def test_a_side_without_scores_is_not_run(tmp_path: Path) -> None:
    said, line = verdict(tmp_path, {0: LOW}, {})
    assert said == "not run"
    assert line == "b over a: not run; paper +0.183 BraTS2015, +0.133 BraTS2019"


def test_flair_is_best_only_against_each_of_the_others(tmp_path: Path) -> None:
    assert together(["holds here", "holds here"]) == "holds here"
    assert together(["holds here", "not decided"]) == "not decided"
    assert together(["holds here", "does not hold here", "not run"]) == "does not hold here"
    study = study_in(tmp_path, tables=("II",))
    said = lines(page_of(study).findings)
    assert said[0] == "FLAIR is the best modality alone: not run (3 comparisons)"
    assert [line.split(":")[0] for line in said[1:]] == [
        "  FLAIR alone over t1 alone",
        "  FLAIR alone over t1ce alone",
        "  FLAIR alone over t2 alone",
        "All modalities over FLAIR alone",
    ]


def test_the_claims_of_all_tables_are_those_of_the_paper(tmp_path: Path) -> None:
    found = claims(study_in(tmp_path))
    assert len(found) == 2 + 4 + 3 * 3  # a target: two ways over scratch, and one over the other
    known = {cell.key for cell in expand(study_in(tmp_path))[1]}
    assert all({claim.better, claim.worse} <= known for claim in found)


def test_without_table_two_the_diagonal_of_figure_two_is_training_from_scratch(tmp_path: Path) -> None:
    study = study_in(tmp_path, tables=("figure2", "III"), ways=("all",))
    finish(tmp_path, "t1_on_t1_seed0", cases(LOW))
    finish(tmp_path, "flair_to_t1_all_seed0", cases([value - 0.1 for value in LOW]))
    found = page_of(study).findings
    assert [one.verdict for one in found] == ["does not hold here", "not run", "not run"]
    assert claims(study_in(tmp_path, tables=("III",), ways=("all",))) == []  # nothing to compare with


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_files_hold_every_cell_and_the_page_loads_nothing(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    for own in FOUR:
        finish(tmp_path, f"{own}_on_t1_seed0", cases(LOW))
    paths = write(page_of(study), tmp_path)
    assert {path.name for path in paths} == {"report.md", "tables.csv", "index.html", "figure2.svg", "figure2.png"}
    with (tmp_path / "tables.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (3 + 5 + 16 + 6 + 4)
    (one,) = [row for row in rows if row["trials"] == "t2_on_t1_seed0" and row["metric"] == "dice"]
    assert (one["mean"], one["patients"], one["brats2015"], one["state"]) == ("0.55", "6", "0.1278", "finished")
    assert {row["state"] for row in rows} == {"finished", "not run"}
    text = (tmp_path / "report.md").read_text()
    assert "| trained on t2 | 0.550 [" in text
    assert "not run (0.72 / 0.68)" in text
    page = (tmp_path / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert page.count("<svg") == 1


def test_the_numbers_of_the_heat_map_are_readable_on_every_colour() -> None:
    import matplotlib as mpl

    for step in range(101):
        back = mpl.colormaps[COLOURS](step / 100)[:3]
        front = (1.0, 1.0, 1.0) if ink(step / 100) == LIGHT else (0.067, 0.067, 0.067)
        assert contrast(back, front) >= 4  # WCAG asks for 3 of large text, 4.5 of small


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast((1, 0, 0), (1, 1, 1)) == pytest.approx(3.998, abs=1e-3)


def test_the_heat_map_writes_each_number_in_its_place() -> None:
    figure = heat_map({"here": {("t1", "t2"): 0.25}}, ["t1", "t2"], blank={("t2", "t1"): "failed"})
    (axes,) = figure.axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "none", (1, 0): "0.25", (0, 1): "failed", (1, 1): "none"}  # (column, row)
