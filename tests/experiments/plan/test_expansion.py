"""SegAN-CAT's plan as runs: how many, which, after which others, and what is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.plan.cell import Expansion
from segan_pl.experiments.plan.expansion import expand, require_consistent
from segan_pl.experiments.plan.plan import read_plan
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.runs import Run, require_sound

FOUR = ("t1", "t1ce", "t2", "flair")


def expanded(
    *tables: str, modalities: tuple[str, ...] = FOUR, values: dict[str, Any] | None = None, **more: Any
) -> Expansion:
    plan = read_plan("segan_cat")
    plan.values.update({"size": "_small", **(values or {})})  # type: ignore[attr-defined]
    return expand(
        Study(plan, Path("/study"), "/data", modalities, ("--data.root", "/data"), tables=tables or None, **more)
    )


def runs_of(*tables: str, **more: Any) -> dict[str, Run]:
    runs = expanded(*tables, **more).runs
    require_sound(runs)  # each after those that it needs
    return {run.name: run for run in runs}


def after(arguments: tuple[str, ...], flag: str) -> list[str]:
    """Every value of a flag."""
    return [arguments[number + 1] for number, argument in enumerate(arguments) if argument == flag]


@pytest.mark.parametrize(
    ("table", "cells", "commands"),
    [
        ("I", 3, {"fit": 3}),
        ("II", 5, {"fit": 5}),
        ("figure2", 16, {"fit": 4, "test": 16}),
        ("III", 6, {"fit": 1 + 6}),
        ("voting", 4, {"fit": 4 + 3 + 1, "predict": 4, "evaluate": 4}),
    ],
)
def test_a_table_of_four_modalities_has_so_many_cells_and_runs(
    table: str, cells: int, commands: dict[str, int]
) -> None:
    found = expanded(table)
    assert len(found.cells) == cells
    counts = Counter(run.arguments[0] for run in found.runs)
    assert counts == (commands if table != "voting" else {"fit": 4 + 3, "predict": 4, "evaluate": 4})


def test_a_model_that_several_tables_need_is_trained_once() -> None:
    runs = runs_of()
    assert Counter(run.arguments[0] for run in runs.values()) == {
        "fit": 3 + 4 + 6,  # systems on all, single modalities, fine tuning: the source and "all" are trained once
        "test": 16,
        "predict": 4,
        "evaluate": 4,
    }
    assert len([name for name in runs if name.startswith("segan_cat_flair")]) == 1


def test_three_modalities_have_the_rows_that_exist_and_a_note() -> None:
    found = expanded(modalities=("t1", "t1ce", "flair"))
    assert Counter(cell.table for cell in found.cells) == {"I": 3, "II": 4, "figure2": 9, "III": 4, "voting": 4}
    assert not [run for run in found.runs if "t2" in " ".join(run.arguments)]
    assert found.notes == ("the data have no t2: the rows that need it are left out",)


def test_without_flair_table_three_and_the_transferred_votes_are_left_out_with_a_note() -> None:
    found = expanded(modalities=("t1", "t2"))
    assert {cell.table for cell in found.cells} == {"I", "II", "figure2", "voting"}
    assert [cell.facts["model"] for cell in found.cells if cell.table == "voting"] == [
        "majority vote t1+t2",
        "weighted vote t1 .25 t2 .5",
    ]
    assert "table III is left out: the data have no t1ce, flair" in found.notes
    with pytest.raises(UsageError, match="--tables III: the data have no t1ce, flair; leave III out of --tables"):
        expanded("III", modalities=("t1", "t2"))


def test_one_model_alone_does_not_vote() -> None:
    found = expanded("voting", modalities=("t1", "flair"))
    assert [cell.facts["model"] for cell in found.cells] == ["weighted vote t1 .25 flair .5"]
    assert any("several models are needed" in note for note in found.notes)
    assert not [run for run in found.runs if run.name.startswith("flair_to")]  # only the votes would have needed it


def test_the_way_that_votes_is_one_of_those_that_are_trained() -> None:
    notes = expanded("voting", values={"ways": ["all"]}).notes
    assert sum("no run flair_to_t1_critic_input" in note for note in notes) == 2
    found = expanded("voting", values={"ways": ["all"], "voters": "all"})
    assert len(found.cells) == 4


def test_each_seed_repeats_everything_and_a_cell_knows_all_of_them() -> None:
    found = expanded("II", seeds=(3, 7))
    assert len(found.runs) == 10
    assert all(set(cell.runs) == {3, 7} for cell in found.cells)
    for run in found.runs:
        seed = run.name.rpartition("seed")[2]
        assert after(run.arguments, "--seed_everything") == after(run.arguments, "--data.seed") == [seed]


def test_every_fit_has_the_studys_split_and_its_options_last() -> None:
    extra = ("--trainer.max_epochs", "4")
    for run in runs_of("I", "II", "III", configs=("lgg",), extra=extra).values():
        assert after(run.arguments, "--data.split_file") == ["/study/split.json"]
        assert after(run.arguments, "--data.split_leftovers") == ["ignore"]
        assert after(run.arguments, "--data.root") == ["/data"]
        assert after(run.arguments, "--config")[-1] == "lgg"
        assert after(run.arguments, "--trainer.max_epochs")[-1] == "4"


def test_table_one_takes_the_systems_of_one_size() -> None:
    systems = [after(run.arguments, "--config")[0] for run in runs_of("I").values()]
    assert systems == ["segan_small", "segan_dice_small", "segan_cat_small"]


def test_fine_tuning_begins_with_the_source_of_its_seed_and_frees_what_its_way_says() -> None:
    ways = ["all", "critic_input", "segmentor"]
    runs = runs_of("III", values={"ways": ways})
    for way in ways:
        tuned = runs[f"flair_to_t2_{way}_seed0"]
        assert after(tuned.arguments, "--finetuning.init_from") == ["{best:segan_cat_flair_seed0}"]
        assert after(tuned.arguments, "--config") == ["segan_cat_small", f"finetuning_{way}"]
        assert after(tuned.arguments, "--data.modalities") == ["[t2]"]
        assert tuned.needs == ("segan_cat_flair_seed0",)


@pytest.mark.parametrize(("size", "epochs"), [("_small", "30"), ("", "300")])
def test_fine_tuning_is_no_longer_than_training_and_than_the_paper(size: str, epochs: str) -> None:
    tuned = runs_of("III", values={"size": size})["flair_to_t1_all_seed0"]
    assert after(tuned.arguments, "--trainer.max_epochs") == [epochs]


def test_the_epochs_of_a_later_file_count(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("trainer: {max_epochs: 7}\n")
    tuned = runs_of("III", configs=(str(tmp_path / "short.yaml"),))["flair_to_t1_all_seed0"]
    assert after(tuned.arguments, "--trainer.max_epochs") == ["7"]


def test_figure_two_scores_each_model_on_each_modality_in_a_folder_of_its_own() -> None:
    tests = {name: run for name, run in runs_of("figure2").items() if run.arguments[0] == "test"}
    assert set(tests) == {f"{own}_on_{other}_seed0" for own in FOUR for other in FOUR}
    assert tests["t1ce_on_flair_seed0"].arguments == (
        *("test", "--ckpt_path", "{best:segan_cat_t1ce_seed0}", "--run.directory", "/study/runs/t1ce_on_flair_seed0"),
        *("--data.modalities", "[flair]", "--other_modalities", "allow"),
    )


def test_a_vote_weighs_as_the_authors_did_and_is_scored_on_the_scored_cases() -> None:
    runs = runs_of("voting")
    masks = runs["vote_weighted_masks_seed0"]
    assert masks.needs == tuple(f"segan_cat_{one}_seed0" for one in FOUR)
    place = masks.arguments.index("--weights")
    assert masks.arguments[place + 1 : place + 5] == ("0.25", "0.25", "0.5", "0.5")
    assert runs["vote_majority_masks_seed0"].needs == tuple(f"segan_cat_{one}_seed0" for one in FOUR[:3])
    tuned = runs["vote_weighted_transferred_masks_seed0"]
    assert tuned.needs == tuple(f"flair_to_{one}_critic_input_seed0" for one in FOUR[:3])
    scored = runs["vote_weighted_seed0"]
    assert scored.needs == ("vote_weighted_masks_seed0",)
    assert after(scored.arguments, "--pred") == after(masks.arguments, "--output")
    assert after(scored.arguments, "--root") == after(masks.arguments, "--root") == ["/study/scored_cases.csv"]


def test_a_split_with_a_test_part_is_scored_on_it() -> None:
    found = expanded("I", "III", has_test=True)
    tests = {run.name: run for run in found.runs if run.arguments[0] == "test"}
    assert {name for cell in found.cells for names in cell.runs.values() for name in names} == set(tests)
    assert tests["test_segan_all_seed0"].needs == ("segan_all_seed0",)


def test_one_modality_is_too_few_and_the_papers_tables_are_of_its_own() -> None:
    with pytest.raises(UsageError, match="it compares modalities and needs at least 2"):
        expanded(modalities=("flair",))
    with pytest.raises(UsageError, match=r"tables are of t1, t1ce, t2, flair; leave t1_ir out with --data.modalities"):
        expanded(modalities=("t1", "t1_ir"))


def test_claims_are_those_whose_both_sides_are_in_the_tables() -> None:
    assert len(expanded().claims) == 2 + 4 + 3 * 3  # a target: two ways over scratch, and one over the other
    assert expanded("III", values={"ways": ["all"]}).claims == ()  # nothing to compare with
    diagonal = expanded("figure2", "III", values={"ways": ["all"]}).claims
    assert [claim.worse.label for claim in diagonal] == ["t1 on t1", "t1ce on t1ce", "t2 on t2"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            "tables: {I: {title: I, rows: [{label: a, run: segan}]}}",
            r"own: no run segan; did you mean 'segan_\d'\? known: segan_1, segan_2$",
        ),
        ("tables: {I: {title: I, rows: [{label: a, run: 'segan_{nmuber}'}]}}", "nmuber: no such value"),
        ("tables: {I: {title: I, rows: [{label: a, run: segan_1, each: {one: nubmers}}]}}", "did you mean 'numbers'"),
        ("tables: {I: {title: I, rows: [{label: '{words[b]}', run: segan_1}]}}", r"\{words\[b\]\}: no b; "),
    ],
)
def test_a_wrong_name_is_found_before_any_run(wrong: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "title: own\nvalues: {numbers: [1, 2], words: {a: A}}\n"
        f"runs: {{'segan_{{n}}': {{each: {{n: numbers}}, fit: segan}}}}\n{wrong}\n"
    )
    with pytest.raises(UsageError, match=says):
        require_consistent(read_plan(str(file)))
