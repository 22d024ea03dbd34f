"""Rows of docs/reliability.md: files that a command writes, and scores of predictions."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.faults import CHECK, FIT, SPLIT, Fault, Plant, nothing


def strange(name: str) -> Plant:
    """A file of somebody else's in the data set's folder."""

    def plant(root: Path) -> None:
        (root / name).write_text("case,patient,mine\n")

    return plant


PREDICT = "predict --ckpt_path={work}/run/checkpoints/last.ckpt --root={root} --output={work}/p --device=cpu"
TITLE = "Files that a command writes, and scores of predictions"
FAULTS: list[Fault] = [
    Fault(
        1,
        "an output in the place of a data set's own table",
        strange("cases.csv"),
        CHECK + " --csv={root}/cases.csv",
        code=2,
        says="cases.csv: is a file that the command reads; it stays as it is, give another name",
    ),
    Fault(
        1,
        "the same with --overwrite",
        strange("cases.csv"),
        SPLIT + " -o {root}/cases.csv --overwrite",
        code=2,
        says="cases.csv: is a file that the command reads; it stays as it is, give another name",
    ),
    Fault(
        1,
        "the configuration file as the output, with --overwrite",
        lambda root: (root.parent / "my.yaml").write_text(f"data: {{root: {root}}}\n"),
        "split -c {work}/my.yaml --by -o {work}/my.yaml --overwrite",
        code=2,
        says="my.yaml: is a file that the command reads; it stays as it is, give another name",
    ),
    Fault(
        1,
        "an output in the place of another program's file",
        lambda root: (root.parent / "a.json").write_text("{}"),
        CHECK + " --json={work}/a.json",
        code=2,
        says="a.json: is there and was not written by `segan_pl check --json`; it stays as it is",
    ),
    Fault(
        1,
        "a run in a folder with a table of somebody else's",
        strange("cases.csv"),
        FIT + " --run.directory={root}",
        code=2,
        says="cases.csv: is there and was not written by `segan_pl fit`; it stays as it is",
    ),
    Fault(
        1,
        "a run in a folder where `split` wrote its file, which is not the run's `--data.split_file`",
        lambda root: (root.parent / "run").mkdir(),
        SPLIT + " --by -o {work}/run/split.json && " + FIT,
        code=2,
        says="run: holds split.json and no run that wrote it; it stays as it is, give another folder, or use it: "
        "--data.split_file",
    ),
    Fault(
        3,
        "predictions of a whole tumour, scored against masks that tell more apart",
        nothing,
        f"{FIT} && {PREDICT} && evaluate --pred={{work}}/p --root={{root}} --workers=1",
        code=0,
        says="the predictions hold wt alone, tc, et cannot be scored: in their files 1 is necrosis, oedema or",
    ),
]
EVALUATE = "tests/cli/commands/test_evaluate.py::"
OUTPUTS, CSV = "tests/data/test_outputs.py::", "tests/test_tables_as_text.py::"
ELSEWHERE: list[tuple[str, str]] = [
    (
        "`evaluate` without --output next to another program's summary.json",
        OUTPUTS + "a_foreign_summary_beside_the_predictions_is_kept",
    ),
    (
        "any output of any command, over its own file and over a stranger's",
        OUTPUTS + "a_command_replaces_its_own_file_and_nobody_elses",
    ),
    (
        "a study in a folder with results of another program",
        OUTPUTS + "a_study_begins_in_no_folder_with_files_that_it_would_replace",
    ),
    (
        "a run's `--data.split_file` in the run's own folder: used where it lies",
        "tests/cli/test_main.py::a_split_file_in_the_runs_own_folder_is_used_and_stays_byte_for_byte",
    ),
    (
        "the same, with cases that cannot be used; `-c` a config.yaml in the new run's folder",
        OUTPUTS + "a_run_takes_no_file_that_it_reads_for_its_own",
    ),
    (
        "options of a copied line of fit in front of `predict`: taken where they mean the same, else told",
        "tests/cli/commands/test_options.py::what_predict_calls_otherwise_is_told_with_its_own_option",
    ),
    (
        "a note on an option that nobody typed, but a configuration file stands for",
        "tests/cli/commands/test_options.py::nothing_is_told_that_nobody_typed",
    ),
    ("`report --output` an existing folder", OUTPUTS + "a_report_into_a_folder_asks_for_the_pages_file"),
    (
        "`predict` next to a predictions.csv that is not its own",
        "tests/cli/commands/test_predict_folder.py::a_strangers_table_of_predictions_stays",
    ),
    (
        "predictions without a predict.json",
        EVALUATE + "without_predict_json_it_is_noted_that_nobody_knows_what_was_predicted",
    ),
    (
        "references of which none was predicted, by predict.json",
        EVALUATE + "references_of_which_none_was_predicted_are_refused",
    ),
    (
        "a predict.json of another program",
        EVALUATE + "another_programs_predict_json_is_named",
    ),
    (
        "a predict.json of an earlier version, which does not say who trained the network",
        EVALUATE + "a_predict_json_of_an_earlier_version_is_said_to_be_one",
    ),
    (
        "predictions of another network in a run's folder: predict.json says who has seen the cases",
        EVALUATE + "predict_json_tells_who_has_seen_the_cases_even_in_a_runs_folder",
    ),
    (
        "a report over one of an earlier version",
        OUTPUTS + "a_reports_markdown_of_an_earlier_version_is_replaced",
    ),
    (
        "a place that is taken and whose file name nobody chose: what can be typed instead",
        OUTPUTS + "the_remedy_is_one_that_can_be_typed",
    ),
    (
        "scored cases that trained the network or chose its checkpoint",
        EVALUATE + "cases_that_trained_or_chose_the_network_are_counted_here_and_by_compare",
    ),
    (
        "a part of a split that the checkpoint's run, or the data, does not have",
        "tests/inference/test_split_part.py::what_cannot_be_picked_is_refused_by_its_reason",
    ),
    (
        "a split.json above a checkpoint that lies in no run's folder: taken for nobody's",
        "tests/inference/test_split_part.py::another_split_above_a_checkpoint_is_not_that_of_its_run",
    ),
    (
        "a damaged split.json of the checkpoint's run: `predict` notes it, only --part needs it",
        "tests/cli/commands/test_predict_folder.py::a_damaged_split_stops_no_prediction_that_does_not_ask_for_its_parts",
    ),
    (
        "predictions in other labels than the references': read as predict.json says",
        EVALUATE + "labels_are_read_as_predict_wrote_them",
    ),
    (
        "two forms of the surface Dice, of voxels and of area: each in a column of its own",
        EVALUATE + "the_surface_dice_by_area_has_a_column_of_its_own_where_it_is_asked_for",
    ),
    (
        "names of cases that a spreadsheet would run as a formula",
        CSV + "a_patient_called_like_a_formula_keeps_its_name_through_check_and_a_manifest",
    ),
]
"""What is wrong, and the test (file::name without "test_")."""
