from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.statistics.comparison import compare
from segan_pl.evaluation.statistics.seeds import config_differences, grouping_notes, known_patients, read_entries
from tests.evaluation.score_tables import dice_table, run_folder

CASES = [f"case{number:02d}" for number in range(4)]


def test_seeds_are_averaged_case_by_case_and_add_no_case(tmp_path: Path) -> None:
    for seed, gain in enumerate((0.0, 0.1, 0.2)):
        run_folder(tmp_path / f"seed{seed}", [0.5 + gain, 0.6 + gain, 0.7 + gain, 0.7])
    (entry,) = read_entries([f"segan={tmp_path}/seed0,{tmp_path}/seed1,{tmp_path}/seed2"])
    assert (entry.name, entry.arrangement) == ("segan", "seeds")
    scores = entry.scores("dice", "wt", CASES, {})
    assert [score.value for score in scores] == pytest.approx([0.6, 0.7, 0.8, 0.7])
    spread = entry.spread("dice", "wt", CASES, {})
    means = [0.625, 0.7, 0.775]
    assert spread is not None
    assert spread == pytest.approx((3, statistics.stdev(means), means[0], means[-1]))
    assert compare(scores, scores).cases == 4


def test_a_case_that_one_seed_has_no_value_for_has_none(tmp_path: Path) -> None:
    a, b = (dice_table(tmp_path / f"{name}.csv", values) for name, values in (("a", [0.5, 0.6]), ("b", ["", 0.8])))
    (entry,) = read_entries([f"x={a},{b}"])
    scores = entry.scores("dice", "wt", CASES, {})
    assert str(scores[0].value) == "nan"
    assert scores[1].value == pytest.approx(0.7)


def test_folds_are_pooled_each_case_once_and_have_no_spread(tmp_path: Path) -> None:
    run_folder(tmp_path / "fold0", [0.5, 0.6])
    run_folder(tmp_path / "fold1", [0.7, 0.8], first=2)
    (entry,) = read_entries([f"segan={tmp_path}/fold*"])
    assert entry.arrangement == "folds"
    assert [score.value for score in entry.scores("dice", "wt", CASES, {})] == [0.5, 0.6, 0.7, 0.8]
    assert entry.spread("dice", "wt", CASES, {}) is None


def test_overlapping_splits_average_the_cases_that_they_share(tmp_path: Path) -> None:
    run_folder(tmp_path / "split0", [0.5, 0.6])
    run_folder(tmp_path / "split1", [0.8, 0.9], first=1)
    (entry,) = read_entries([f"segan={tmp_path}/split0,{tmp_path}/split1"])
    assert entry.arrangement == "splits"
    assert [score.value for score in entry.scores("dice", "wt", CASES, {})] == pytest.approx([0.5, 0.7, 0.9])


def test_seeds_one_of_which_lacks_a_case_stay_seeds_over_the_cases_that_all_have(tmp_path: Path) -> None:
    for seed in range(3):
        run_folder(tmp_path / f"seed{seed}", [0.5 + seed / 10] * (4 if seed == 2 else 5))
    (entry,) = read_entries([f"segan={tmp_path}/seed*"])
    assert (entry.arrangement, sorted(entry.cases)) == ("seeds", CASES)
    assert [score.case for score in entry.scores("dice", "wt", [*CASES, "case04"], {})] == CASES
    spread = entry.spread("dice", "wt", CASES, {})
    assert spread is not None
    assert spread == pytest.approx((3, 0.1, 0.5, 0.7))
    assert grouping_notes([entry]) == ["1 cases of segan are not in each of its 3 seeds and are left out: case04"]


def test_runs_are_named_by_as_few_folders_as_tell_them_apart(tmp_path: Path) -> None:
    for name in ("a/run", "b/run"):
        run_folder(tmp_path / name, [0.5])
    assert [entry.name for entry in read_entries([f"{tmp_path}/a/run", f"{tmp_path}/b/run"])] == ["a/run", "b/run"]
    evaluated = dice_table(tmp_path / "c" / "metrics_per_case.csv", [0.4])
    assert [entry.name for entry in read_entries([f"{tmp_path}/a/run", str(evaluated)])] == ["run", "c"]


def test_a_folder_with_an_equals_sign_is_a_run(tmp_path: Path) -> None:
    run_folder(tmp_path / "lr=0.1,width=8", [0.5])
    (entry,) = read_entries([f"{tmp_path}/lr=0.1,width=8"])
    assert entry.name == "lr=0.1,width=8"


def test_the_same_run_twice_is_refused_under_whatever_name(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a", [0.5])
    with pytest.raises(UsageError, match="is given twice, in a and other"):
        read_entries([str(run), f"other={run}/scores/test_epoch0003_dice0.8000.csv"])


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a", [0.5]), run_folder(tmp_path / "b", [0.6])
    with pytest.raises(UsageError, match="two runs are named 'x'"):
        read_entries([f"x={a}", f"x={b}"])


@pytest.mark.parametrize("end", ["", "{run},", "{run},nothing*"])
def test_a_group_with_a_gap_is_refused(tmp_path: Path, end: str) -> None:
    run = run_folder(tmp_path / "a", [0.5])
    with pytest.raises(UsageError, match=r"is no run; give x=RUN,RUN"):
        read_entries([f"x={end.format(run=run)}"])


def test_runs_that_differ_in_seeds_only_are_noticed(tmp_path: Path) -> None:
    settings = [({"seed_everything": n, "data": {"seed": n}, "run": {"directory": str(n)}}) for n in range(2)]
    runs = [run_folder(tmp_path / str(n), [0.5, n], config=config) for n, config in enumerate(settings)]
    other = run_folder(tmp_path / "wide", [0.5, 0.9], config={**settings[0], "model": {"width": 64}})
    (note,) = grouping_notes(read_entries([str(run) for run in (*runs, other)]))
    assert note.startswith("0, 1 differ only in seeds or splits")
    assert note.endswith(f"NAME={runs[0]},{runs[1]}")
    assert grouping_notes(read_entries([f"x={runs[0]},{runs[1]}", str(other)])) == []


def test_a_group_of_different_experiments_is_noticed(tmp_path: Path) -> None:
    a = run_folder(tmp_path / "a", [0.5], config={"model": {"width": 64}})
    b = run_folder(tmp_path / "b", [0.6], config={"model": {"width": 32}})
    assert grouping_notes(read_entries([f"x={a},{b}"])) == [
        "the runs of x differ in more than seeds and splits: model.width"
    ]


def test_a_runs_place_and_onlookers_are_no_difference() -> None:
    a = {"run": {"directory": "a", "loggers": [], "patience": 3}, "data": {"workers": 2}}
    b = {"run": {"directory": "b", "loggers": ["wandb"], "patience": 4}, "data": {"workers": 8}}
    assert config_differences(a, b) == {"run.patience"}


def test_patients_are_put_together_and_must_agree(tmp_path: Path) -> None:
    a = dice_table(tmp_path / "a.csv", [0.5], patient="p")
    b = dice_table(tmp_path / "b.csv", [0.5, 0.6])
    assert known_patients(read_entries([str(a), str(b)])) == {"case00": "p"}
    c = dice_table(tmp_path / "c.csv", [0.5], patient="q")
    with pytest.raises(CaseError, match=r"case00: patient q in .*c.csv, p in another run"):
        known_patients(read_entries([str(a), str(c)]))
