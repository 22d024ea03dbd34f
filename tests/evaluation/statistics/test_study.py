from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.statistics.seeds import Entry, read_entries
from segan_pl.evaluation.statistics.study import Study, study
from segan_pl.evaluation.statistics.study_tables import as_latex
from tests.evaluation.score_tables import dice_table, run_folder, write_scores

BASE = list(np.round(np.random.default_rng(0).beta(8, 2, 12), 4))


def entries(folder: Path, **runs: list[float]) -> list[Entry]:
    return read_entries([str(run_folder(folder / name, values)) for name, values in runs.items()])


def notes(found: Study) -> list[str]:
    return [note.shown() for note in found.notes]


def test_without_a_reference_every_later_run_is_compared_with_every_earlier_one(tmp_path: Path) -> None:
    found = study(entries(tmp_path, a=BASE, b=[v + 0.01 for v in BASE], c=BASE[::-1]), resamples=1000)
    assert [(line.run, line.against) for line in found.lines] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert found.lines[0].found.difference == pytest.approx(0.01)


def test_a_reference_is_what_all_others_are_compared_with(tmp_path: Path) -> None:
    runs = entries(tmp_path, a=BASE, b=[v + 0.01 for v in BASE], c=BASE[::-1])
    found = study(runs, reference="b", resamples=1000)
    assert [(line.run, line.against) for line in found.lines] == [("a", "b"), ("c", "b")]


def test_holm_is_over_all_comparisons_that_were_made(tmp_path: Path) -> None:
    gains = np.linspace(0.001, 0.02, 12)
    runs = {"a": BASE, "b": list(BASE + gains), "c": list(BASE + 2 * gains)}
    found = study(entries(tmp_path, **runs), resamples=1000)
    assert found.tested == 3
    assert [line.found.permutation_p for line in found.lines] == [2 / 2**12] * 3
    assert [line.permutation_holm for line in found.lines] == pytest.approx([6 / 2**12] * 3)
    assert {line.verdict for line in found.lines} == {"better"}


def test_a_verdict_is_by_the_corrected_p(tmp_path: Path) -> None:
    """Six of six patients: p = 1/32 alone, three times that among three comparisons."""
    runs = entries(tmp_path, a=BASE[:6], b=[v + 0.01 for v in BASE[:6]], c=[v - 0.01 for v in BASE[:6]])
    alone, among = study(runs[:2], resamples=1000), study(runs, resamples=1000)
    assert [line.verdict for line in alone.lines] == ["better"]
    assert [line.verdict for line in among.lines] == ["not shown"] * 3
    assert among.lines[0].permutation_holm == 3 / 32
    assert "0.0938" in as_latex(among)
    assert "0.0312" not in as_latex(among)
    worse = study(runs, reference="a", metrics=["dice"], resamples=1000)
    assert [line.verdict for line in worse.lines] == ["not shown"] * 2  # Holm over two: 2/32
    assert [line.verdict for line in study([runs[0], runs[2]], resamples=1000).lines] == ["worse"]


def test_only_cases_of_all_runs_are_compared_and_the_others_named(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a", BASE), run_folder(tmp_path / "b", [*BASE, 0.5], first=2)
    found = study(read_entries([str(a), str(b)]), resamples=1000)
    assert (found.given, found.used, found.refused) == (15, 10, 0)
    assert found.lines[0].found.patients == 10
    assert "2 cases of a are not in every run and are left out: case00, case01" in notes(found)
    assert "3 cases of b are not in every run and are left out: case12, case13, case14" in notes(found)


def test_no_common_case_is_refused_with_what_each_run_holds(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a", [0.5]), run_folder(tmp_path / "b", [0.5], first=5)
    with pytest.raises(CaseError, match=r"no case is in every run \(a: 1, e.g. case00, from .*; b: 1, e.g. case05"):
        study(read_entries([str(a), str(b)]))


def evaluation(path: Path, rows: list[dict[str, Any]]) -> Path:
    full = [{"patient": row["case"], "region": "wt", "status": "ok", "tp": 5, "fn": 5, **row} for row in rows]
    return write_scores(path / "metrics_per_case.csv", full).parent


def test_a_missing_prediction_counts_as_its_failure_and_a_refused_one_leaves(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(9)]
    good = [{"case": name, "dice": 0.8} for name in names]
    bad = [dict(row) for row in good]
    bad[0] |= {"status": "missing", "dice": 0.0, "tp": "", "fn": ""}
    bad[1] |= {"status": "refused: other grid", "dice": "", "tp": "", "fn": ""}
    found = study(read_entries([str(evaluation(tmp_path / "a", good)), str(evaluation(tmp_path / "b", bad))]))
    assert (found.given, found.used, found.refused) == (9, 8, 1)
    assert found.lines[0].found.difference == pytest.approx(-0.1)
    assert "1 predictions of b are missing and count with the failure value in its table: c0" in notes(found)
    assert "1 predictions of b were refused and are left out: c1" in notes(found)


def distances(path: Path, values: list[float | str], **definitions: Any) -> str:
    """An evaluation with HD95; an empty value is that of a missing prediction."""
    rows = [
        {"case": f"c{n:02d}", "status": "scored" if v != "" else "missing", "dice": 0.7 if v != "" else 0, "hd95_mm": v}
        for n, v in enumerate(values)
    ]
    evaluation(path, rows)
    if definitions:
        (path / "summary.json").write_text(json.dumps({"metrics": definitions}), encoding="utf-8")
    return str(path)


def test_a_run_does_not_win_a_distance_by_handing_in_nothing_for_hard_cases(tmp_path: Path) -> None:
    full = [60.0] * 4 + [5 + n / 10 for n in range(10)]
    lazy = [""] * 4 + [4.8 + n / 10 - n / 100 for n in range(10)]
    runs = [distances(tmp_path / "full", full), distances(tmp_path / "lazy", lazy)]
    found = study(read_entries(runs), metrics=["dice", "hd95_mm"])
    dice, hd95 = found.lines
    assert (hd95.permutation_holm or 1) < 0.05  # of the pairs that are left
    assert (hd95.found.cases, hd95.verdict) == (10, "not decided")
    assert hd95.undecided == ("c00", "c01", "c02", "c03")
    assert (dice.found.cases, dice.undecided, dice.found.losses) == (14, (), 4)
    said = notes(found)
    assert (
        "4 predictions of lazy are missing and count with the failure value in its table in dice, but have no value in "
        "hd95_mm, so their pairs are left out there: c00, c01, c02, c03"
    ) in said
    assert any(text.startswith("hd95_mm wt, lazy against full: not decided: 4 missing cases have no") for text in said)


def test_a_distance_with_a_failure_value_is_decided_with_its_missing_cases(tmp_path: Path) -> None:
    for name, gain in (("full", 0.0), ("lazy", -1.0)):
        rows = [{"case": f"c{n}", "dice": 0.5, "hd95_mm": 5 + gain + n / 10} for n in range(8)]
        rows[0] |= {"status": "missing", "hd95_mm": 374} if gain else {}
        evaluation(tmp_path / name, rows)
    (line,) = study(read_entries([f"{tmp_path}/full", f"{tmp_path}/lazy"]), metrics=["hd95_mm"]).lines
    assert (line.undecided, line.found.cases, line.verdict) == ((), 8, "not shown")
    assert line.found.difference == pytest.approx((369 - 7) / 8)


@pytest.mark.parametrize(
    ("metric", "other"),
    [
        ("hd95_mm", {"hd95_mm": {"definition": "deepmind"}, "surface_dice": {"definition": "tolerance 1 mm"}}),
        ("surface_dice", {"hd95_mm": {"definition": "monai"}, "surface_dice": {"definition": "tolerance 3 mm"}}),
    ],
)
def test_numbers_of_different_definitions_are_refused_and_others_of_the_same_tables_are_not(
    tmp_path: Path, metric: str, other: dict[str, Any]
) -> None:
    first = {"hd95_mm": {"definition": "monai"}, "surface_dice": {"definition": "tolerance 1 mm"}}
    for name, definitions in (("a", first), ("b", other)):
        rows = [{"case": f"c{n}", "dice": 0.8, "hd95_mm": 3.0 + n, "surface_dice": 0.5} for n in range(8)]
        evaluation(tmp_path / name, rows)
        (tmp_path / name / "summary.json").write_text(json.dumps({"metrics": definitions}), encoding="utf-8")
    runs = read_entries([f"{tmp_path}/a", f"{tmp_path}/b"])
    with pytest.raises(CaseError, match=rf"{metric}: definition '.*' in .*a/.* and '.*' in .*b/.*; expected one"):
        study(runs, metrics=["dice", metric])
    assert study(runs, metrics=["dice"]).used == 8


def test_a_distance_whose_definition_nothing_says_is_told(tmp_path: Path) -> None:
    values: list[float | str] = [3.0 + n for n in range(8)]
    runs = [distances(tmp_path / "a", values, hd95_mm={"definition": "medpy"}), distances(tmp_path / "b", values)]
    said = notes(study(read_entries(runs), metrics=["hd95_mm"]))
    table = tmp_path / "b" / "metrics_per_case.csv"
    assert f"hd95_mm is 'medpy' where it is said; nothing says which it is in: {table}" in said


def test_scores_against_another_reference_are_refused(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", [{"case": "c", "dice": 0.8}])
    b = evaluation(tmp_path / "b", [{"case": "c", "dice": 0.9, "tp": 4, "fn": 2}])
    with pytest.raises(CaseError, match=r"c, wt: the reference has 10 voxels .* and 6 in .*; expected one reference"):
        study(read_entries([str(a), str(b)]))


def test_a_crop_is_not_compared_with_whole_volumes(tmp_path: Path) -> None:
    """Where the tumour lies in the crop, the references count alike."""
    a, b = (evaluation(tmp_path / name, [{"case": "c", "dice": 0.8}]) for name in "ab")
    (b / "summary.json").write_text('{"crop": [128, 160, 160]}')
    with pytest.raises(CaseError, match=r"scores of whole volumes, .* of the central 128 x 160 x 160; expected one"):
        study(read_entries([str(a), str(b)]))
    (a / "summary.json").write_text('{"crop": [128, 160, 160]}')
    assert study(read_entries([str(a), str(b)])).used == 1


def test_regions_common_to_all_runs_are_compared_in_the_first_ones_order(tmp_path: Path) -> None:
    def table(name: str, regions: list[str]) -> str:
        rows = [{"case": f"c{n}", "region": r, "dice": v} for n, v in enumerate(BASE) for r in regions]
        return str(write_scores(tmp_path / f"{name}.csv", rows))

    runs = read_entries([table("a", ["et", "WT", "tc"]), table("b", ["wt", "ET"])])
    assert [line.region for line in study(runs, resamples=1000).lines] == ["et", "wt"]
    assert [line.region for line in study(runs, regions=["WT"], resamples=1000).lines] == ["wt"]
    with pytest.raises(UsageError, match="--region tc is not in every run"):
        study(runs, regions=["tc"])
    with pytest.raises(CaseError, match="no region in common"):
        study([*runs, *read_entries([table("c", ["tissue"])])])


def test_a_metric_is_known_by_its_short_name_too(tmp_path: Path) -> None:
    runs = read_entries([distances(tmp_path / name, [5.0 + n for n in range(8)]) for name in ("a", "b")])
    assert {line.metric for line in study(runs, metrics=["hd95"], resamples=1000).lines} == {"hd95_mm"}


def test_an_unknown_metric_or_reference_is_refused_with_the_nearest(tmp_path: Path) -> None:
    runs = entries(tmp_path, baseline=BASE, other=BASE)
    with pytest.raises(UsageError, match=r"has no metric 'dce'; did you mean 'dice'\?"):
        study(runs, metrics=["dce"])
    with pytest.raises(UsageError, match=r"--reference basline is none of the runs; did you mean 'baseline'\?"):
        study(runs, reference="basline")


def test_one_run_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one run alone cannot be compared"):
        study(entries(tmp_path, a=BASE))


def test_seeds_count_once_in_the_test_and_show_their_spread(tmp_path: Path) -> None:
    for seed in range(3):
        run_folder(tmp_path / f"new{seed}", [value + 0.01 * seed for value in BASE])
    run_folder(tmp_path / "old", BASE)
    (line,) = study(read_entries([f"{tmp_path}/old", f"new={tmp_path}/new*"]), resamples=1000).lines
    assert (line.found.cases, line.found.difference) == (12, pytest.approx(0.01))
    assert line.spread_against is None
    assert line.spread_run is not None
    assert line.spread_run[:2] == (3, pytest.approx(0.01))


def test_lower_distances_are_better(tmp_path: Path) -> None:
    rows = [{"case": f"c{n}", "region": "wt", "hd95_mm": 5 + v} for n, v in enumerate(BASE)]
    a = write_scores(tmp_path / "a.csv", rows)
    b = write_scores(tmp_path / "b.csv", [row | {"hd95_mm": row["hd95_mm"] - 2 - n / 10} for n, row in enumerate(rows)])
    (line,) = study(read_entries([str(a), str(b)]), metrics=["hd95_mm"]).lines
    assert line.found.difference < 0
    assert (line.verdict, line.found.wins) == ("better", 12)
    assert line.found.rank_biserial == -1  # of the differences, not of what is favourable


def test_what_few_patients_cannot_show_among_many_comparisons_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    runs = {f"r{n}": list(rng.random(6)) for n in range(4)}
    found = study(entries(tmp_path, **runs), resamples=1000)
    assert found.tested == 6
    assert (
        "dice wt, r1 against r0: 6 patients that differ can reach p = 0.031, Holm over 6 may ask for 0.0083"
        in notes(found)
    )


def test_too_few_resamples_for_many_comparisons_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    found = study(entries(tmp_path, **{f"r{n}": list(rng.random(18)) for n in range(4)}), resamples=100)
    assert "6 tests of 100 resamples cannot pass Holm; give --resamples 1200" in notes(found)


def test_what_the_scores_origin_takes_away_is_said(tmp_path: Path) -> None:
    for name, policy in (("a", "segan_cat"), ("b", "brats2018")):
        dice_table(tmp_path / name / "scores" / "val_epoch_0001.csv", BASE, empty="both")
        (tmp_path / name / "config.yaml").write_text(f"model: {{empty_policy: {policy}}}", encoding="utf-8")
    said = notes(study(read_entries([f"{tmp_path}/a", f"{tmp_path}/b"])))
    assert any(text.startswith("no table says the patient of 12 cases") for text in said)
    assert any(text.startswith("validation scores chose their own checkpoints") for text in said)
    assert any("differ (a: segan_cat; b: brats2018); 12 cases and regions have an empty mask" in text for text in said)
    assert any(text.startswith("one run each") for text in said)
