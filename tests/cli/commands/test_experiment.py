"""`segan_pl experiment`: what it runs, keeps, refuses and writes; but in one slow test a stand-in does the work."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.layouts import find_data_set
from segan_pl.data.split.record import Split, load_folds
from segan_pl.data.synthetic.healthy import make_healthy_cohort
from segan_pl.evaluation.kept import best_kept
from segan_pl.experiments import local
from segan_pl.experiments.runs import Run, filled, run_folder, write_state
from segan_pl.experiments.shipped import find_config
from tests.experiments.study_play import write_scores

pytest_plugins = ["tests.cohort_fixtures"]
SLOW_OPTIONS = [
    *(
        "--model.networks.segmentor.init_args.width",
        "4",
        "--model.networks.critic.init_args.width",
        "4",
        "--trainer.max_epochs",
        "1",
    ),
    *(
        "--data.patch",
        "[32,32]",
        "--data.batch_size",
        "12",
        "--data.preparation.crop",
        "null",
        "--run.preview_every",
        "0",
    ),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.precision", "32-true"),
    *("--data.prepare_workers", "1"),
]


SMALL = {"segan_cat": ("--set", "size=_small"), "cross_validation": ("--set", "system=segan_cat_small")}


class StandIn:
    """In the place of a run's process: writes scores for the cases of the study's split, fails what it is told to."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failing: set[str] = set()

    def __call__(
        self, run: Run, directory: Path, environment: Mapping[str, str], progress: object, children: object
    ) -> int:
        self.ran.append(run.name)
        arguments = filled(run, directory)  # as the executor does: what it names must be there
        assert not [one for one in arguments if "{best:" in one]
        if run.name in self.failing:
            write_state(directory, run, "failed", exit_code=1, error="epoch 3: a loss is not finite")
            return 1
        if run.arguments[0] != "predict":
            folder = write_scores(run_folder(directory, run.name), self._scores(arguments, directory))
            if run.arguments[0] == "evaluate":
                (folder / "scores" / "val_epoch_0003.csv").rename(folder / "metrics_per_case.csv")
        write_state(directory, run, "finished", exit_code=0)
        return 0

    @staticmethod
    def _scores(arguments: Sequence[str], directory: Path) -> dict[str, float]:
        if "--data.fold" in arguments:
            split = load_folds(directory / "folds.json")[int(arguments[arguments.index("--data.fold") + 1])]
        else:
            split = Split.load(directory / "split.json")
        return dict.fromkeys(split.test or split.val, 0.5)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(local, "carry_out", stand_in)
    return stand_in


@pytest.fixture
def call(cohort: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """A command line over the generated cohort."""

    def line(what: str, *more: str) -> list[str]:
        return [
            *("experiment", what, *SMALL[what], "--root", str(cohort), "--output", str(tmp_path / "study")),
            *("--data.stratify_by", "[]", "--data.val_fraction", "0.25", *more),
        ]

    return line


def refusal(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refused command; nothing was begun."""
    try:
        code = main(line)
    except SystemExit as end:
        code = int(str(end.code))
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    output = Path(line[line.index("--output") + 1])
    assert not output.exists()
    return error


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_every_command_and_writes_nothing(
    call: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call("segan_cat", "--dry_run", "--", "--trainer.max_epochs", "2")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("segan_pl ")]) == 13 + 16 + 8
    assert lines[-2] == "37 runs (13 fit, 16 test, 4 predict, 4 evaluate), 0 finished, 37 left"
    assert lines[-1].startswith(
        "expected time: unknown for 13 fit, 16 test, 4 predict, 4 evaluate, as none has finished"
    )
    assert sum("--trainer.max_epochs 2 " in line for line in lines) == 13
    assert not (tmp_path / "study").exists()


def test_a_system_file_of_ones_own_reaches_every_fit_as_it_was_typed(
    call: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(find_config("segan_cat_small").read_text())
    monkeypatch.chdir(tmp_path)
    for name in ("own.yaml", str(own)):
        assert main([*call("cross_validation", "--set", "folds=2", "--set", f"system={name}", "--dry_run")]) == 0
        fits = [line for line in capsys.readouterr().out.splitlines() if line.startswith("segan_pl fit")]
        assert len(fits) == 2
        assert all(f" {own} " in line for line in fits)


def test_all_runs_share_one_split_and_end_in_the_tables(
    call: Callable[..., list[str]], tmp_path: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call("segan_cat")) == 0
    assert len(stand_in.ran) == 13 + 16 + 8
    study = tmp_path / "study"
    assert len(Split.load(study / "split.json").val) == 2
    out = capsys.readouterr().out
    assert "37 runs, 37 finished, 0 failed, 0 skipped" in out
    assert "The Dice term helps (segan_dice over segan): not decided; Dice +0.000" in out
    with (study / "tables.csv").open(newline="") as file:
        assert {row["state"] for row in csv.DictReader(file)} == {"finished"}


def test_the_manifest_of_the_voters_names_the_scored_cases_with_their_files(
    call: Callable[..., list[str]], cohort: Path, tmp_path: Path, stand_in: StandIn
) -> None:
    main(call("segan_cat", "--tables", "voting"))
    found = find_data_set(tmp_path / "study" / "scored_cases.csv")
    scored = Split.load(tmp_path / "study" / "split.json").val
    assert {case.name for case in found.cases} == set(scored)
    originals = {case.name: case for case in find_data_set(cohort).cases}
    for case in found.cases:
        assert case.images == originals[case.name].images
        assert (case.mask, case.patient) == (originals[case.name].mask, originals[case.name].patient)
    assert found.native_labels == find_data_set(cohort).native_labels


def test_a_second_call_runs_what_failed_and_what_waited_for_it(
    call: Callable[..., list[str]], tmp_path: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    line = call("segan_cat", "--tables", "II,III", "--set", "ways=[all]")
    stand_in.failing = {"segan_cat_flair_seed0"}
    assert main(line) == 1
    out = capsys.readouterr().out
    assert "8 runs, 4 finished, 1 failed, 3 skipped" in out
    text = (tmp_path / "study" / "report.md").read_text()
    assert "- II: flair, segan_cat_flair_seed0: failed (epoch 3: a loss is not finite)" in text
    assert "- III: flair to t1, S,D, flair_to_t1_all_seed0: skipped (needs segan_cat_flair_seed0)" in text
    stand_in.failing, stand_in.ran = set(), []
    assert main(line) == 0
    assert stand_in.ran == ["segan_cat_flair_seed0", *(f"flair_to_{one}_all_seed0" for one in ("t1", "t1ce", "t2"))]
    assert "Not finished" not in (tmp_path / "study" / "report.md").read_text()


def test_with_everything_finished_only_the_tables_are_written(
    call: Callable[..., list[str]], tmp_path: Path, stand_in: StandIn
) -> None:
    line = call("segan_cat", "--tables", "I")
    main(line)
    (tmp_path / "study" / "report.md").unlink()
    stand_in.ran = []
    assert main(line) == 0
    assert stand_in.ran == []
    assert (tmp_path / "study" / "report.md").is_file()


def test_further_tables_and_seeds_keep_what_is_there(call: Callable[..., list[str]], stand_in: StandIn) -> None:
    main(call("segan_cat", "--tables", "I"))
    stand_in.ran = []
    main(call("segan_cat", "--tables", "I,II", "--seeds", "0,1"))
    assert "segan_cat_all_seed0" not in stand_in.ran
    assert len(stand_in.ran) == 4 + 3 + 4


def test_report_shows_what_is_there_and_runs_nothing(
    call: Callable[..., list[str]], tmp_path: Path, stand_in: StandIn
) -> None:
    main(call("segan_cat", "--tables", "I"))
    stand_in.ran = []
    assert main(call("segan_cat", "--tables", "I,II", "--report")) == 0
    assert stand_in.ran == []
    assert "II: t1, segan_cat_t1_seed0: not run" in (tmp_path / "study" / "report.md").read_text()


def test_another_split_in_the_same_folder_is_refused(
    call: Callable[..., list[str]], stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    main(call("segan_cat", "--tables", "I"))
    stand_in.ran = []
    assert main(call("segan_cat", "--tables", "I", "--data.split_seed", "9")) == 2
    assert "holds another split than these options draw; choose another --output" in capsys.readouterr().err
    assert stand_in.ran == []


def test_a_given_split_is_the_studys_and_its_test_cases_are_scored(
    call: Callable[..., list[str]], cohort: Path, tmp_path: Path, stand_in: StandIn
) -> None:
    names = sorted(case.name for case in find_data_set(cohort).cases)
    file = tmp_path / "mine.json"
    Split(train=tuple(names[:4]), val=(names[4],), test=(names[5], names[6])).save(file)  # names[7] is in no part
    main(call("segan_cat", "--tables", "I", "--data.split_file", str(file)))
    assert Split.load(tmp_path / "study" / "split.json").test == (names[5], names[6])
    assert [name for name in stand_in.ran if name.startswith("test_")] == [
        f"test_{system}_all_seed0" for system in ("segan", "segan_dice", "segan_cat")
    ]
    assert "Scored: 2 test cases." in (tmp_path / "study" / "report.md").read_text()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--tables", "IV"], "--tables IV: unknown; "),
        (
            ["--data.modalities", "[t1,t2]", "--tables", "III"],
            "--tables III: the data have no t1ce, flair; leave III out",
        ),
        (["--data.modalities", "[flair]"], "needs at least 2"),
        (["--set", "ways=all"], "--set ways=all: expected a list, e.g. [a,b]"),
        (["--set", "weights=[1]"], "--set weights=[1]: expected a mapping"),
        (["--set", "way=[all]"], "--set way=[all]: segan_cat has no value way; did you mean 'ways'?"),
        (["--set", "ways"], "--set ways: expected ways=VALUE"),
        (["--set", "ways=[all"], "--set ways=[all: not readable as YAML"),
        (["--set", "weights={}"], "--set weights={}: is empty; expected a mapping"),
        (["--seeds", "0,0"], "--seeds 0,0: expected whole numbers from 0, each once"),
        (["--seeds", "a"], "--seeds a: expected whole numbers"),
        (["--data.missing", "zero"], "compared over complete cases"),
        (["-c", "segan"], "more than one --config defines a model"),
        (["--report", "--dry_run"], "--report runs nothing"),
        (["--data.fold", "1"], "--data.fold is given without --data.split_file"),
        (["--", "--seed_everything", "3"], "--seed_everything after --: the experiment sets it"),
        (["--", "--data.missing=drop"], "--data.missing after --: it says which cases are used; give it before --"),
        (["--", "fit"], "'fit' after --: expected options of segan_pl fit"),
        (["--tabels", "I"], "tabels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    more: list[str], says: str, call: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(call("segan_cat", *more), capsys)


@pytest.mark.parametrize(
    ("system", "says"),
    [
        (
            "segan_cta",
            "cross_validation: segan_cta: no such file, and no shipped configuration; did you mean 'segan_cat'?",
        ),
        ("lgg", "cross_validation: lgg has no model; expected a system file, e.g. segan_cat"),
    ],
)
def test_a_system_that_will_not_do_is_refused(
    system: str, says: str, call: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refusal(call("cross_validation", "--set", f"system={system}"), capsys)


def test_a_modality_that_a_case_lacks_is_refused_unless_the_case_is_dropped(
    call: Callable[..., list[str]], cohort: Path, tmp_path: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["case", "patient", "t1", "flair", "mask", "native_labels"]
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for number, case in enumerate(find_data_set(cohort).cases):
            flair = "" if number == 7 else case.images["flair"]
            files = {"t1": case.images["t1"], "flair": flair, "mask": case.mask}
            writer.writerow({"case": case.name, "patient": case.patient, "native_labels": "brats2017", **files})
    line = [str(tmp_path / "cases.csv") if one == str(cohort) else one for one in call("segan_cat", "--tables", "II")]
    assert main(line) == 1
    assert "no flair" in capsys.readouterr().err
    assert main([*line, "--data.missing", "drop"]) == 0
    assert len(Split.load(tmp_path / "study" / "split.json").named) == 7
    assert stand_in.ran == ["segan_cat_t1_seed0", "segan_cat_flair_seed0", "segan_cat_all_seed0"]


def test_help_is_one_page_and_an_unknown_experiment_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "--help"]) == 0
    out = capsys.readouterr().out
    assert "cross_validation  A cross-validation" in out
    assert "segan_cat         SegAN-CAT's experiments" in out
    assert main(["experiment", "seagn_cat"]) == 2
    assert "did you mean 'segan_cat'?" in capsys.readouterr().err


# -- folds -------------------------------------------------------------------------------------------------------------


def test_folds_hold_out_every_patient_once_and_end_in_an_ensemble(
    call: Callable[..., list[str]], tmp_path: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call("cross_validation", "--set", "folds=4")) == 0
    assert stand_in.ran == [f"fold{fold}_seed0" for fold in range(4)]
    out = capsys.readouterr().out
    assert "| all folds | 0.500 [0.500, 0.500] |" in (tmp_path / "study" / "report.md").read_text()
    assert "ensemble: segan_pl predict --ckpt_path " in out
    with (tmp_path / "study" / "pooled.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["case"] for row in rows}) == len(rows) == 8
    assert len(json.loads((tmp_path / "study" / "ensemble.json").read_text())["checkpoints"]) == 4


def test_two_cross_validations_can_be_compared(
    call: Callable[..., list[str]], tmp_path: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        line = [str(tmp_path / name) if one == str(tmp_path / "study") else one for one in call("cross_validation")]
        assert main([*line, "--set", "folds=4"]) == 0
    runs = [f"{name}={tmp_path / name}/runs/fold*" for name in ("one", "two")]
    capsys.readouterr()
    assert main(["compare", *runs]) == 0
    assert "8 given, 8 used, 0 refused" in capsys.readouterr().out


def test_a_fold_that_failed_runs_again_alone(
    call: Callable[..., list[str]], tmp_path: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.failing = {"fold1_seed0"}
    assert main(call("cross_validation", "--set", "folds=3")) == 1
    assert "3 runs, 2 finished, 1 failed, 0 skipped" in capsys.readouterr().out
    assert "| all folds | 0.500 | 0.500 | 0.250 | 5 | 2 of 3 runs |" in (tmp_path / "study" / "report.md").read_text()
    assert not (tmp_path / "study" / "ensemble.txt").exists()
    stand_in.failing, stand_in.ran = set(), []
    assert main(call("cross_validation", "--set", "folds=3")) == 0
    assert stand_in.ran == ["fold1_seed0"]
    assert (tmp_path / "study" / "ensemble.txt").is_file()


def test_folds_of_a_file_are_taken_as_they_are(
    call: Callable[..., list[str]], cohort: Path, tmp_path: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.json"
    assert main(["split", "--data.root", str(cohort), "--folds", "2", "--by", "-o", str(file)]) == 0
    assert main(call("cross_validation", "--data.split_file", str(file))) == 0
    assert stand_in.ran == ["fold0_seed0", "fold1_seed0"]
    assert [fold.val for fold in load_folds(tmp_path / "study" / "folds.json")] == [
        fold.val for fold in load_folds(file)
    ]
    capsys.readouterr()
    other = [str(tmp_path / "other") if one == str(tmp_path / "study") else one for one in call("cross_validation")]
    assert main([*other, "--data.split_file", str(file), "--set", "folds=3"]) == 2
    assert "holds 2; expected 3 folds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data.n_labelled", "2"], "--data.n_labelled: few_shot tells its runs apart by it; leave it out"),
        (
            ["--data.split_file", "mine.json"],
            "--data.split_file: few_shot names its cases; leave it out",
        ),
        (["--data.test_fraction", "0.3"], "--set pool=[...], --set others=[...], --set tested=[...]"),
        (["--set", "labelled=[5]"], "run supervised_n5_seed0: 5 labelled cases; expected a whole number from 1 to 2"),
        (["--set", "labelled=[1.5]"], "1.5 labelled cases; expected a whole number from 1 to 2"),
        (["--set", "atlases=[votes]"], "atlas votes: unknown; did you mean 'vote'?"),
        (["--set", "tested=[IBSR_77]"], "parts: test: no case IBSR_77 in"),
        (["--set", "tested=[]"], "--set tested=[]: is empty; expected a list"),
        (["--set", "labelled=[]"], "few_shot: run {gan}_n{n}: of gans, labelled one is empty"),
    ],
)
def test_what_would_change_the_plan_of_few_labels_unseen_is_refused_before_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    make_healthy_cohort(tmp_path / "data", form="ibsr18", subjects=3, unlabelled=1, shape=(8, 24, 24))
    named = ["--set", "pool=[IBSR_01,IBSR_02]", "--set", "others=[IBSR_04]", "--set", "tested=[IBSR_03]"]
    line = ["experiment", "few_shot", "--root", str(tmp_path / "data"), "--output", str(tmp_path / "study"), *named]
    assert main([*line, "--seeds", "0", "--dry_run", *arguments]) in (1, 2)
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "study").exists()


# -- real runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_runs_fill_figure_two_table_three_and_a_vote(
    call: Callable[..., list[str]],
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "SEGAN_PL_RUN", "PL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["segan_pl"])
    asked = ("--data.modalities", "[t1,flair]", "--tables", "figure2,III,voting", "--set", "ways=[critic_input]")
    line = call("segan_cat", *asked, "--parallel", "2", "--", *SLOW_OPTIONS, "--data.cache_dir", str(prepared))
    assert main(line) == 0, capfd.readouterr().out
    study = tmp_path / "study"
    with (study / "tables.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["table"], row["state"]) for row in rows} == {
        ("figure2", "finished"),
        ("III", "finished"),
        ("voting", "finished"),
    }
    assert {int(row["cases"]) for row in rows if row["metric"] == "dice"} == {2}
    own = [row for row in rows if row["runs"] == "flair_on_flair_seed0" and row["metric"] == "dice"]
    best = best_kept(study / "runs" / "segan_cat_flair_seed0" / "checkpoints")
    assert best is not None
    assert float(own[0]["mean"]) == pytest.approx(best.value, abs=1e-4)  # the test of a model on its own modality
    assert (study / "figure2.png").stat().st_size > 1000
    capfd.readouterr()
    assert main(line) == 0
    assert "started" not in capfd.readouterr().out
