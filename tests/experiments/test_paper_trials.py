"""The tables of SegAN-CAT as trials: how many, which, after which others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.paper_plan import TABLES, PaperStudy, Table, chosen_tables, sibling, system_name
from segan_pl.experiments.paper_trials import expand
from segan_pl.experiments.trials import Trial, require_sound

FOUR = ("t1", "t1ce", "t2", "flair")
STUDY = PaperStudy(Path("/study"), "segan_cat_small", FOUR, ("--data.root", "/data"), ("--data.labels", "binary"))


def trials_of(*tables: Table, **more: object) -> dict[str, Trial]:
    trials, _ = expand(replace(STUDY, tables=tables, **more))  # type: ignore[arg-type]
    require_sound(trials)  # each after those that it needs
    return {trial.name: trial for trial in trials}


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
        ("voting", 4, {"fit": 4 + 3, "predict": 4, "evaluate": 4}),
    ],
)
def test_a_table_of_four_modalities_has_so_many_cells_and_trials(
    table: Table, cells: int, commands: dict[str, int]
) -> None:
    trials, found = expand(replace(STUDY, tables=(table,)))
    assert len(found) == cells
    assert Counter(trial.arguments[0] for trial in trials) == commands


def test_all_tables_share_their_models() -> None:
    trials = trials_of(*TABLES)
    assert Counter(trial.arguments[0] for trial in trials.values()) == {
        "fit": 3 + 4 + 6,  # systems on all, single modalities, fine tuning: the source and "all" are trained once
        "test": 16,
        "predict": 4,
        "evaluate": 4,
    }
    assert len([name for name in trials if "flair_seed0" in name and name.startswith("segan_cat")]) == 1


def test_three_modalities_have_the_rows_that_exist() -> None:
    trials, cells = expand(replace(STUDY, modalities=("t1", "t1ce", "flair")))
    assert Counter(cell.table for cell in cells) == {"I": 3, "II": 4, "figure2": 9, "III": 4, "voting": 4}
    assert not [trial for trial in trials if "t2" in " ".join(trial.arguments)]


def test_each_seed_repeats_everything_and_a_cell_knows_all_of_them() -> None:
    trials, cells = expand(replace(STUDY, tables=("II",), seeds=(3, 7)))
    assert len(trials) == 10
    assert all(set(cell.trials) == {3, 7} for cell in cells)
    for trial in trials:
        seed = trial.name.rpartition("seed")[2]
        assert after(trial.arguments, "--seed_everything") == after(trial.arguments, "--data.seed") == [seed]


def test_every_fit_has_the_studys_split_and_its_options_last() -> None:
    extra = ("--trainer.max_epochs", "4")
    for trial in trials_of("I", "II", "III", configs=("lgg",), extra=extra).values():
        arguments = trial.arguments
        assert after(arguments, "--data.split_file") == ["/study/split.json"]
        assert after(arguments, "--data.split_leftovers") == ["ignore"]
        assert after(arguments, "--data.root") == ["/data"]
        assert after(arguments, "--config")[-1] == "lgg"
        assert after(arguments, "--trainer.max_epochs")[-1] == "4"


def test_table_one_takes_the_systems_of_one_size() -> None:
    systems = [after(trial.arguments, "--config")[0] for trial in trials_of("I").values()]
    assert systems == ["segan_small", "segan_dice_small", "segan_cat_small"]


def test_fine_tuning_begins_with_the_source_of_its_seed_and_frees_what_its_way_says() -> None:
    trials = trials_of("III", ways=("all", "critic_input", "segmentor"))
    for way in ("all", "critic_input", "segmentor"):
        tuned = trials[f"flair_to_t2_{way}_seed0"]
        assert after(tuned.arguments, "--init_from") == ["{best:segan_cat_flair_seed0}"]
        assert after(tuned.arguments, "--config") == ["segan_cat_small", f"transfer_{way}"]
        assert after(tuned.arguments, "--data.modalities") == ["[t2]"]
        assert tuned.needs == ("segan_cat_flair_seed0",)


@pytest.mark.parametrize(("system", "epochs"), [("segan_cat_small", "30"), ("segan_cat", "300")])
def test_fine_tuning_is_no_longer_than_training_and_than_the_paper(system: str, epochs: str) -> None:
    tuned = trials_of("III", system=system)["flair_to_t1_all_seed0"]
    assert after(tuned.arguments, "--trainer.max_epochs") == [epochs]


def test_the_epochs_of_a_later_file_count(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("trainer: {max_epochs: 7}\n")
    tuned = trials_of("III", configs=(str(tmp_path / "short.yaml"),))["flair_to_t1_all_seed0"]
    assert after(tuned.arguments, "--trainer.max_epochs") == ["7"]


def test_figure_two_scores_each_model_on_each_modality_in_a_folder_of_its_own() -> None:
    tests = {name: trial for name, trial in trials_of("figure2").items() if trial.arguments[0] == "test"}
    assert set(tests) == {f"{own}_on_{other}_seed0" for own in FOUR for other in FOUR}
    crossed = tests["t1ce_on_flair_seed0"]
    assert crossed.arguments == (
        *("test", "--ckpt_path", "{best:segan_cat_t1ce_seed0}", "--run.directory", "/study/runs/t1ce_on_flair_seed0"),
        *("--data.modalities", "[flair]", "--other_modalities", "allow"),
    )


def test_a_vote_weighs_as_the_authors_did_and_is_scored_on_the_scored_cases() -> None:
    trials = trials_of("voting")
    masks = trials["vote_weighted_seed0_masks"]
    assert masks.needs == tuple(f"segan_cat_{one}_seed0" for one in FOUR)
    place = masks.arguments.index("--weights")
    assert masks.arguments[place + 1 : place + 5] == ("0.25", "0.25", "0.5", "0.5")
    assert trials["vote_majority_seed0_masks"].needs == tuple(f"segan_cat_{one}_seed0" for one in FOUR[:3])
    tuned = trials["vote_weighted_transferred_seed0_masks"]
    assert tuned.needs == tuple(f"flair_to_{one}_critic_input_seed0" for one in FOUR[:3])
    scored = trials["vote_weighted_seed0"]
    assert scored.needs == ("vote_weighted_seed0_masks",)
    assert after(scored.arguments, "--pred") == after(masks.arguments, "--output")
    assert after(scored.arguments, "--ref") == after(masks.arguments, "--input") == ["/study/scored_cases.csv"]


def test_a_split_with_a_test_part_is_scored_on_it() -> None:
    trials, cells = expand(replace(STUDY, tables=("I", "III"), has_test=True))
    tests = {trial.name: trial for trial in trials if trial.arguments[0] == "test"}
    assert {name for cell in cells for name in cell.trials.values()} == set(tests)
    assert tests["test_segan_all_seed0"].needs == ("segan_all_seed0",)


# -- refused -----------------------------------------------------------------------------------------------------------


def test_without_flair_table_three_is_left_out_unless_it_is_asked_for() -> None:
    tables, notes = chosen_tables(None, ("t1", "t2"))
    assert tables == ("I", "II", "figure2", "voting")
    assert notes == ["table III is left out: the data have no flair"]
    asked, _ = chosen_tables("III", ("t1", "t2"))
    with pytest.raises(UsageError, match=r"table III begins with flair, the data have t1\+t2; leave III out"):
        expand(replace(STUDY, modalities=("t1", "t2"), tables=asked))


def test_without_flair_only_single_modality_models_vote() -> None:
    _, cells = expand(replace(STUDY, modalities=("t1", "t2"), tables=("voting",)))
    assert [cell.model for cell in cells] == ["majority vote t1+t2", "weighted vote t1 .25 t2 .5"]


def test_an_unknown_table_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"--tables IV: unknown; .*known: I, II, III, figure2, voting"):
        chosen_tables("II,IV", FOUR)


def test_tables_are_understood_in_any_order_and_case() -> None:
    assert chosen_tables("iii, Figure2,I", FOUR)[0] == ("I", "figure2", "III")


def test_one_modality_is_too_few() -> None:
    with pytest.raises(UsageError, match="need at least 2"):
        expand(replace(STUDY, modalities=("flair",)))


def test_a_system_without_a_family_has_no_table_one() -> None:
    with pytest.raises(UsageError, match=r"no segan beside it; leave I out of --tables"):
        expand(replace(STUDY, system="albunet2d"))
    assert len(expand(replace(STUDY, system="albunet2d", tables=("II",)))[1]) == 5


def test_a_family_that_lacks_a_member_is_refused() -> None:
    with pytest.raises(UsageError, match="no segan_dice_isic beside it"):
        expand(replace(STUDY, system="segan_isic", tables=("I",)))


def test_a_family_of_own_files_is_found_beside_the_system(tmp_path: Path) -> None:
    for name in ("segan_mine", "segan_cat_mine"):
        (tmp_path / f"{name}.yaml").write_text("model: {}\n")
    own = str(tmp_path / "segan_cat_mine.yaml")
    assert system_name(own) == ("segan_cat", "_mine")
    assert sibling(own, "segan") == str(tmp_path / "segan_mine.yaml")
