"""Tables out of hand-made score files, against numbers worked by hand."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.evaluation.statistics.paired import bootstrap_interval
from segan_pl.experiments.plan.cell import Cell, Claim
from segan_pl.experiments.plan.cells import curves, results
from segan_pl.experiments.plan.claims import findings, lines, together
from segan_pl.experiments.plan.drawings import bands
from segan_pl.experiments.plan.expansion import expand
from segan_pl.experiments.plan.page_tables import table_texts
from segan_pl.experiments.plan.pages import Page, files, read_page
from segan_pl.experiments.plan.plan import Ensemble, RowPlan, TablePlan, read_plan
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.runs import Run, run_folder, write_state
from segan_pl.report.published import Key, selected
from tests.experiments.study_play import cases, finish

FOUR = ("t1", "t1ce", "t2", "flair")
WHOLE = "+".join(FOUR)
LOW = [0.30, 0.40, 0.50, 0.60, 0.70, 0.80]
TABLES = {"II": TablePlan("II", "II", (RowPlan("x"),))}


def page_of(
    folder: Path, *tables: str, name: str = "segan_cat", values: dict[str, Any] | None = None, **more: Any
) -> Page:
    plan = read_plan(name)
    plan.values.update(values or {})  # type: ignore[attr-defined]
    study = Study(plan, folder, "/data", FOUR, (), tables=tables or None, **more)
    return read_page(study, expand(study), ["a note"], ["6 validation cases"])


def cell(label: str, runs: dict[int, str], **more: Any) -> Cell:
    return Cell("II", label, (label,), runs={seed: (name,) for seed, name in runs.items()}, **more)


def text_of(page: Page, name: str) -> list[list[str]]:
    table = page.study.plan.tables[name]
    return table_texts(table, page.of(table), page.study.directory)[""][1]


def test_a_cell_is_the_mean_over_cases_with_the_interval_over_patients(tmp_path: Path) -> None:
    finish(tmp_path, "one", cases(LOW))
    (found,) = results(tmp_path, [cell("t1", {0: "one"})], TABLES)
    assert found.means["wt", "dice"].value == pytest.approx(0.55)
    assert found.means["wt", "dice"].interval == bootstrap_interval(np.array(LOW))
    assert (found.means["wt", "dice"].cases, found.means["wt", "dice"].patients) == (6, 6)
    assert found.means["wt", "sensitivity"].value == 0.25
    assert (found.state, found.spread) == ("finished", None)


def test_seeds_are_averaged_case_by_case_and_add_no_cases(tmp_path: Path) -> None:
    finish(tmp_path, "one", cases([0.2] * 6))
    finish(tmp_path, "two", cases([0.4, 0.4, 0.4, 0.4, 0.4, 1.0]))
    (found,) = results(tmp_path, [cell("t1", {0: "one", 1: "two"})], TABLES)
    assert found.means["wt", "dice"].cases == 6
    assert found.means["wt", "dice"].value == pytest.approx((0.2 + 0.5) / 2)
    assert found.means["wt", "dice"].interval == pytest.approx(bootstrap_interval(np.array([0.3] * 5 + [0.6])))
    assert found.spread is not None
    assert found.spread.sd == pytest.approx(0.3 / 2**0.5)  # of 0.2 and 0.5


def test_folds_are_pooled_over_patients_and_not_over_folds(tmp_path: Path) -> None:
    held = [{"a": 0.1, "b": 0.2, "c": 0.3}, {"d": 0.5, "e": 0.6}, {"f": 0.7, "g": 0.8}]
    for fold, dice in enumerate(held):
        finish(tmp_path, f"fold{fold}_seed0", dice)
    page = page_of(tmp_path, name="cross_validation", values={"folds": 3})
    mean = page.results[0].means["wt", "dice"]
    values = [value for dice in held for value in dice.values()]
    assert mean.value == pytest.approx(3.2 / 7)  # the mean of the folds' means would be 0.5
    assert mean.interval == bootstrap_interval(np.array(values))
    assert [line[0] for line in text_of(page, "pooled")] == ["all folds", "fold 0", "fold 1", "fold 2"]
    assert [line[1] for line in text_of(page, "pooled")[1:]] == ["0.200", "0.550", "0.750"]
    written = files(page)
    checkpoints = [
        str(run_folder(tmp_path, f"fold{n}_seed0") / "checkpoints/epoch0003_dice0.5000.ckpt") for n in range(3)
    ]
    assert json.loads(written["ensemble.json"])["checkpoints"] == checkpoints
    line = f"segan_pl predict --ckpt_path {' '.join(checkpoints)} --root CASES --output MASKS"
    assert written["ensemble.txt"] == f"{line}\n"
    rows = list(csv.DictReader(str(written["pooled.csv"]).splitlines()))
    assert [(row["run"], row["case"], float(row["dice"])) for row in rows][2:4] == [
        ("fold0_seed0", "c", 0.3),
        ("fold1_seed0", "d", 0.5),
    ]
    assert len(rows) == 7


def test_a_fold_that_failed_is_shown_and_there_is_no_ensemble_yet(tmp_path: Path) -> None:
    finish(tmp_path, "fold0_seed0", {"a": 0.1, "b": 0.3})
    write_state(tmp_path, Run("fold1_seed0", ("fit",)), "failed", exit_code=1, error="a loss is not finite")
    written = files(page_of(tmp_path, name="cross_validation", values={"folds": 2}))
    assert "ensemble.txt" not in written
    assert "| all folds | 0.200 | 0.500 | 0.250 | 2 | 1 of 2 runs |" in str(written["report.md"])
    assert "fold1_seed0: failed (a loss is not finite)" in str(written["report.md"])


def test_a_case_without_a_precision_leaves_that_mean_alone_and_is_counted(tmp_path: Path) -> None:
    finish(tmp_path, "segan_all_seed0", cases(LOW), precision={"a": "", "b": "0.8"})
    page = page_of(tmp_path, "I")
    mean = page.results[0].means["wt", "precision"]
    assert (mean.cases, mean.value) == (5, pytest.approx((0.8 + 4 * 0.5) / 5))
    assert page.results[0].means["wt", "dice"].cases == 6
    assert text_of(page, "I")[0][2] == "0.560, n 5"  # five patients have no interval


def test_unfinished_cells_say_so_and_stay(tmp_path: Path) -> None:
    finish(tmp_path, "segan_cat_t1_seed0", cases(LOW))
    write_state(tmp_path, Run("segan_cat_t2_seed0", ("fit",)), "failed", exit_code=1, error="a loss is not finite")
    write_state(tmp_path, Run("segan_cat_flair_seed0", ("fit",)), "skipped", error="source")
    page = page_of(tmp_path, "II", seeds=(0, 1))
    body = text_of(page, "II")
    assert [line[0] for line in body] == [*FOUR, WHOLE]
    assert [line[5] for line in body] == ["1 of 2 seeds", "not run", "failed", "skipped", "not run"]
    assert body[2][1:4] == ["failed"] * 3
    assert len(page.unfinished) == 9
    assert "II: t2, segan_cat_t2_seed0: failed (a loss is not finite)" in page.unfinished
    assert "II: flair, segan_cat_flair_seed0: skipped (needs source)" in page.unfinished
    assert "II: t1, segan_cat_t1_seed1: not run" in str(files(page)["report.md"])


# -- next to the published numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "label", "dice"),
    [
        ("I", "segan", (0.705, 0.766)),
        ("II", "flair", (0.81, 0.763)),
        ("II", WHOLE, (0.859, 0.825)),
        ("figure2", "t1 on flair", (0.1071, 0.0371)),
        ("III", "flair to t2, S,D", (0.692, 0.674)),
        ("III", "flair to t2, S,D_in", (0.781, 0.741)),
        ("voting", "majority vote t1+t1ce+t2", (0.6801, 0.6562)),
        ("voting", "weighted vote of flair-transferred t1 .25 t1ce .25 t2 .5 (S,D_in)", (0.753, 0.6892)),
    ],
)
def test_a_cell_is_next_to_its_published_number(
    table: str, label: str, dice: tuple[float, float], tmp_path: Path
) -> None:
    (found,) = [one.cell for one in page_of(tmp_path, table).results if one.cell.label == label]
    assert tuple(found.published[Key(name, "wt", "dice", "mean")] for name in ("BraTS2015", "BraTS2019")) == dice
    assert len(found.published) == 6


def test_what_the_paper_does_not_have_stays_empty(tmp_path: Path) -> None:
    page = page_of(tmp_path, "III", values={"ways": ["segmentor"]})
    assert all(one.cell.published == {} for one in page.results)


def test_a_median_is_next_to_the_published_one_and_a_patient_next_to_theirs(tmp_path: Path) -> None:
    finish(tmp_path, "albunet3d_scores_seed1", cases(LOW[:4]))
    finish(tmp_path, "albunet3d_clinical_seed1", {"P1": 0.8, "P2": 0.6}, region="tc")
    page = page_of(tmp_path, name="albunet", values={"clinical": "/clinical"}, seeds=(1,))
    text = str(files(page)["report.md"])
    assert "| albunet3d | 0.450 (0.450) | 4 | finished | 0.8913 (0.9135) |" in text
    assert "| ucl_tig (published only) |  |  |  | 0.903 (0.9146) |" in text
    body = table_texts(page.study.plan.tables["II"], page.of(page.study.plan.tables["II"]), tmp_path)[""]
    assert body[0][:5] == ["Dice", "P1", "P2", "mean", "state"]
    assert body[0][5:] == [f"paper, clinical {one}" for one in ("P1", "P2", "P3", "P4", "P5", "mean")]
    (ours,) = [line for line in body[1] if line[0] == "albunet3d"]
    assert ours[5:] == ["0.8311", "0.7902", "0.3632", "0.8187", "0.7812", "0.7169"]


# -- claims ------------------------------------------------------------------------------------------------------------


def claim_of(worse: dict[int, str], better: dict[int, str]) -> Claim:
    sides = [
        cell(one, runs, printed=selected({"table": ["II"], "trained_on": [one]}))
        for one, runs in (("t2", better), ("t1", worse))
    ]
    return Claim("b over a", *sides)


def verdict(folder: Path, worse: dict[int, list[float]], better: dict[int, list[float]]) -> tuple[str, str]:
    for name, seeds in (("t1", worse), ("t2", better)):
        for seed, values in seeds.items():
            finish(folder, f"{name}_{seed}", cases(values))
    claim = claim_of({seed: f"t1_{seed}" for seed in worse}, {seed: f"t2_{seed}" for seed in better})
    (found,) = findings([claim], results(folder, [claim.better, claim.worse], TABLES))
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


def test_both_sides_of_a_claim_are_of_the_same_region_which_is_named(tmp_path: Path) -> None:
    higher = [value + 0.1 for value in LOW]
    finish(tmp_path, "two", cases(higher), region="tc")
    finish(tmp_path, "one", cases(LOW), region="tc")
    tables = {
        "I": TablePlan("I", "I", (RowPlan("x"),), regions=("et", "tc")),
        "II": TablePlan("II", "II", (RowPlan("x"),), regions=("tc",)),
    }
    claim = Claim("b over a", Cell("I", "b", ("b",), runs={0: ("two",)}), cell("a", {0: "one"}))
    (found,) = findings([claim], results(tmp_path, [claim.better, claim.worse], tables))
    assert found.line().startswith("b over a: holds here; Dice of TC +0.100")


def test_the_reciprocal_claims_are_of_the_whole_tumour_as_they_say(tmp_path: Path) -> None:
    claims = page_of(tmp_path, name="reciprocal").findings
    assert [(one.region, "(whole tumour)" in one.claim.text) for one in claims] == [("wt", True)] * 4


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
    said = lines(page_of(tmp_path, "II").findings)
    assert said[0] == "FLAIR is the best modality alone: not run (3 comparisons)"
    assert [line.split(":")[0] for line in said[1:]] == [
        "  FLAIR alone over t1 alone",
        "  FLAIR alone over t1ce alone",
        "  FLAIR alone over t2 alone",
        "All modalities over FLAIR alone",
    ]


def test_without_table_two_the_diagonal_of_figure_two_is_training_from_scratch(tmp_path: Path) -> None:
    finish(tmp_path, "t1_on_t1_seed0", cases(LOW))
    finish(tmp_path, "flair_to_t1_all_seed0", cases([value - 0.1 for value in LOW]))
    found = page_of(tmp_path, "figure2", "III", values={"ways": ["all"]}).findings
    assert [one.verdict for one in found] == ["does not hold here", "not run", "not run"]


def test_a_patient_of_several_splits_counts_once_in_a_claim(tmp_path: Path) -> None:
    for system, gain in (("segan_cat_small", 0.1), ("segan_small", 0.0)):
        finish(tmp_path, f"{system}_split0_seed0", {case: value + gain for case, value in cases(LOW).items()})
        finish(tmp_path, f"{system}_split1_seed0", {"a": 0.2 + 2 * gain, "g": 0.5, "h": 0.5 + gain, "i": 0.1})
    values = {"splits": 2, "systems": ["segan_cat_small", "segan_small"], "others": ["segan_small"]}
    (found,) = page_of(tmp_path, name="lgg", values=values).findings
    assert found.comparison is not None
    assert found.comparison.patients == 9
    # a gains 0.1 and 0.2, b to f 0.1, h 0.1, g and i nothing
    assert found.comparison.difference == pytest.approx((0.15 + 5 * 0.1 + 0.1) / 9)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_files_hold_every_cell_and_the_page_loads_nothing(tmp_path: Path) -> None:
    for own in FOUR:
        finish(tmp_path, f"{own}_on_t1_seed0", cases(LOW))
    written = files(page_of(tmp_path))
    assert set(written) == {"report.md", "tables.csv", "index.html", "figure2.svg", "figure2.png"}
    rows = list(csv.DictReader(str(written["tables.csv"]).splitlines()))
    assert len(rows) == 3 * (3 + 5 + 16 + 6 + 4)
    (one,) = [row for row in rows if row["runs"] == "t2_on_t1_seed0" and row["metric"] == "dice"]
    assert (one["mean"], one["patients"], one["brats2015"], one["state"]) == ("0.55", "6", "0.1278", "finished")
    assert {row["state"] for row in rows} == {"finished", "not run"}
    text = str(written["report.md"])
    assert "the central part of each volume alone, as in the paper, votes included" in text
    assert "(depth, height and width of the part: 128 x 160 x 160)" in text
    assert "| trained on t2 | 0.550 [" in text
    assert "not run (0.72 / 0.68)" in text
    page = str(written["index.html"])
    for own in ("http://www.w3.org", "http://purl.org", "http://creativecommons.org"):
        page = page.replace(own, "")
    assert "http://" not in page
    assert page.count("<svg") == 1


def log_epochs(folder: Path, dice: list[float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{value},{value / 2},30" for epoch, value in enumerate(dice)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,val/dice_wt,val/loss,seconds", *rows]) + "\n")


def test_how_runs_learnt_is_the_mean_over_them(tmp_path: Path) -> None:
    for split, dice in enumerate([[0.1, 0.8, 0.5, 0.6, 0.7], [0.2, 0.3, 0.4]]):
        finish(tmp_path, f"segan_cat_small_split{split}_seed0", cases(LOW))
        log_epochs(run_folder(tmp_path, f"segan_cat_small_split{split}_seed0"), dice)
    page = page_of(tmp_path, name="lgg", values={"splits": 2})
    found = page.results[0].learning
    assert found is not None
    assert found == (pytest.approx(0.6), 1.5, pytest.approx((0.6 + 0.3) / 2), 2.0)
    assert text_of(page, "systems")[0][6:] == ["1.5", "0.600", "0.450 (0.75 of it)", "2.0"]


def test_with_a_test_part_learning_and_the_ensemble_are_of_the_trainings(tmp_path: Path) -> None:
    for split in range(2):
        finish(tmp_path, f"test_segan_cat_small_split{split}_seed0", cases(LOW))
        finish(tmp_path, f"segan_cat_small_split{split}_seed0", cases(LOW))
        log_epochs(run_folder(tmp_path, f"segan_cat_small_split{split}_seed0"), [0.1, 0.8, 0.6])
    plan = replace(read_plan("lgg"), ensemble=Ensemble("segan_cat_small_split{split}", {"split": 2}))
    plan.values.update({"splits": 2})  # type: ignore[attr-defined]
    study = Study(plan, tmp_path, "/data", FOUR, (), has_test=True)
    page = read_page(study, expand(study), [], [])
    assert page.results[0].learning is not None
    assert page.results[0].learning.best == 0.8
    assert len(page.ensemble) == 2


def test_a_metric_that_the_runs_do_not_have_is_not_available(tmp_path: Path) -> None:
    finish(tmp_path, "reciprocal_both_scores_seed0", cases(LOW))
    page = page_of(tmp_path, name="reciprocal")
    assert files(page)["report.md"]
    table = page.study.plan.tables["1"]
    assert table_texts(table, page.of(table), tmp_path)["WT"][1][0][1] == "n/a"


def test_a_curve_is_the_mean_and_standard_deviation_of_the_seeds_at_each_epoch(tmp_path: Path) -> None:
    log_epochs(run_folder(tmp_path, "a"), [0.2, 0.4, 0.6])
    log_epochs(run_folder(tmp_path, "b"), [0.4, 0.8])
    points = curves(tmp_path, ["a", "b"], "val/dice_")
    assert list(points) == ["val/dice_wt"]
    assert [(point.epoch, point.runs) for point in points["val/dice_wt"]] == [(0, 2), (1, 2)]
    assert [point.mean for point in points["val/dice_wt"]] == pytest.approx([0.3, 0.6])
    assert [point.sd for point in points["val/dice_wt"]] == pytest.approx([0.2 / 2**0.5, 0.4 / 2**0.5])
    (axes,) = bands({"val/dice_wt": {"albunet3d": points["val/dice_wt"]}}).axes
    assert axes.lines[0].get_ydata() == pytest.approx([0.3, 0.6])
    for seed in (1, 2):
        finish(tmp_path, f"albunet3d_seed{seed}", cases(LOW))
        log_epochs(run_folder(tmp_path, f"albunet3d_seed{seed}"), [0.1, 0.1 + seed / 10])
    written = files(page_of(tmp_path, "figure4", name="albunet", seeds=(1, 2)))
    rows = list(csv.DictReader(str(written["figure4.csv"]).splitlines()))
    assert [(row["row"], row["epoch"], row["runs"]) for row in rows] == [
        ("albunet3d", "0", "2"),
        ("albunet3d", "1", "2"),
    ]
    assert {"figure4.svg", "figure4.png"} <= set(written)
