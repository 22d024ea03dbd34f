"""What cannot be of a plan is found before anything runs, in one line; what is left out is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segan_pl.errors import UsageError
from segan_pl.experiments.plan.cell import Expansion
from segan_pl.experiments.plan.expansion import expand, first_files, require_consistent
from segan_pl.experiments.plan.pages import files, read_page
from segan_pl.experiments.plan.placeholders import combinations, option_text
from segan_pl.experiments.plan.plan import read_plan
from segan_pl.experiments.plan.plan_runs import lasting
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.study_files import EXPERIMENT, require_own_folder, study_output

GOOD = """
title: own
values: {numbers: [1, 2], none: null}
about: ["of {numbers}"]
runs:
  "a_{n}": {each: {n: numbers}, fit: segan}
  "t_{n}": {each: {n: numbers}, test: "a_{n}"}
  p_1: {predict: a_1}
  e_1: {evaluate: p_1}
tables:
  I: {title: One, rows: [{label: "{n}", each: {n: numbers}, run: "a_{n}"}, {label: e, run: e_1}]}
  C: {title: Two, form: curves, learning: val/dice_, rows: [{label: "{n}", each: {n: numbers}, run: "a_{n}"}]}
claims:
  - {text: x, better: a_1, worse: [t_2, a_2]}
"""


def own(folder: Path, text: str = GOOD) -> str:
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


def on_data(folder: Path, text: str, **more: object) -> Expansion:
    study = Study(read_plan(own(folder, text)), folder, "/data", ("t1", "flair"), (), **more)  # type: ignore[arg-type]
    return expand(study)


def test_the_plan_of_these_tests_is_consistent(tmp_path: Path) -> None:
    require_consistent(read_plan(own(tmp_path)))
    assert on_data(tmp_path, GOOD).notes == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("title: own", "title: [own]", "title: expected text (a number or yes in quotes), found list ['own']"),
        ("title: own", "title: own\nseeds: [a, -1]", "seeds: expected a whole number, found str a"),
        ("title: own", "title: own\nseeds: [0, -1]", "seeds [0, -1]: expected whole numbers from 0, each once"),
        ("title: own", "title: own\nseeds: []", "seeds []: expected whole numbers from 0, each once"),
        ("title: own", "title: own\nseeds: [0, 0]", "seeds [0, 0]: expected whole numbers from 0, each once"),
        ("title: own", "title: own\nseeds: true", "seeds: expected a whole number, found bool True"),
        ("title: own", "title: own\nleast_modalities: two", "least_modalities: expected a whole number, found str"),
        ("numbers: [1, 2]", "numbers: []", "values: numbers: is empty"),
        ("numbers: [1, 2]", "numbers: [1, null]", "n: expected values, found null among them"),
        (
            "numbers: [1, 2]",
            "numbers: [1, 2], root: x",
            "values: root: the data or the run say it; choose",
        ),
        ("numbers: [1, 2]", "numbers: 0", "n: expected a list, a mapping or a whole number from 1"),
        ("numbers: [1, 2]", "numbers: ab", "n: expected a list, a mapping or a whole number from 1"),
        ("label: e,", "label: 3,", "table I: row 2: label: expected text (a number or yes in quotes), found int 3"),
        ("fit: segan", "fit: []", "run a_{n}: fit: expected configuration files, found none"),
        ("predict: a_1", "predict: [a_1, a_2]", "predict: expected the name of one pattern of runs, found a_1, a_2"),
        ("predict: a_1", "predict: a_1, checkpoint: lst", "checkpoint lst: unknown; did you mean 'last'?"),
        ("fit: segan", "fit: segna", "own: segna: no such file, and no shipped configuration; did you mean 'segan'?"),
        ("title: One", "title: One, metrics: [hd95]", "metrics: hd95: no column of scores; its column is hd95_mm"),
        ("title: One", "title: One, metrics: [dise]", "metrics: dise: no column of scores; did you mean 'dice'?"),
        ("of {numbers}", "of {nmubers}", "of {nmubers}: nmubers: no such value; did you mean 'numbers'?"),
        ("title: One", "title: 'One {nmubers}'", "nmubers: no such value; did you mean 'numbers'?"),
        ("title: One", "title: One, form: heat_map", "row 1: a heat_map is of trained_on and tested_on; add facts."),
        ("run: e_1", "run: p_1", "own: run p_1 is a predict; expected a fit or test or evaluate here"),
        ("val/dice_, rows: [", "val/dice_, rows: [{label: t, run: t_1}, ", "run t_1 is a test; expected a fit here"),
        ("evaluate: p_1", "evaluate: a_1", "run a_1 is a fit; expected a predict or atlas here"),
        ("predict: a_1", "predict: t_1", "run t_1 is a test; expected a fit here"),
        ("title: own", "title: own\nsplit: none", "run p_1: with split none the study scores no cases of its own"),
        ("{label: e, ", "{label: '2', ", "own: table I has two rows '2'; expected labels that tell them apart"),
        ("e_1: {", "a_1: {", "own: two runs are named a_1; name every variable of each"),
        ("better: a_1", "better: t_1", "own: claim x: no row of scores shows t_1"),
        ("  I: {", "  ../../I: {", "table '../../I': expected a name of letters, digits"),
        ("  C: {", "  tables: {", "table tables: a study writes something else of this name; choose another"),
        ("  C: {", "  Pooled: {", "table Pooled: a study writes something else of this name"),
        ("  C: {", "  scored_cases: {", "table scored_cases: a study writes something else of this name"),
        ("  C: {", "  index: {", "table index: a study writes something else of this name"),
        ("  C: {", "  report: {", "table report: a study writes something else of this name"),
        ("  C: {", "  i: {", "tables I and i: differ in upper and lower case alone"),
    ],
)
def test_a_fault_is_one_line_before_any_run(old: str, new: str, says: str, tmp_path: Path) -> None:
    assert GOOD.count(old) >= 1
    with pytest.raises(UsageError) as error:
        require_consistent(read_plan(own(tmp_path, GOOD.replace(old, new, 1))))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_claim_never_stands_on_curves(tmp_path: Path) -> None:
    text = GOOD.replace('run: "a_{n}"}, {label: e', 'run: "t_{n}"}, {label: e', 1).replace("better: a_1", "better: t_1")
    (claim,) = on_data(tmp_path, text).claims
    assert {claim.better.table, claim.worse.table} == {"I"}
    with pytest.raises(UsageError, match="claim x: no row of scores shows a_1"):
        require_consistent(read_plan(own(tmp_path, text.replace("better: t_1", "better: a_1"))))


def test_runs_that_need_each_other_are_a_chain_in_one_line(tmp_path: Path) -> None:
    runs = {"a": "{run:c}", "b": "{run:a}", "c": "{run:b}"}
    plan = {
        "title": "own",
        "runs": {name: {"fit": "segan", "options": {"finetuning.init_from": value}} for name, value in runs.items()},
        "tables": {"I": {"title": "I", "rows": [{"label": "a", "run": "a"}]}},
    }
    with pytest.raises(UsageError, match=r"own: a run needs itself: a -> c -> b -> a$"):
        require_consistent(read_plan(own(tmp_path, yaml.safe_dump(plan))))


def test_a_metric_of_ones_own_may_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "my_metrics")
    require_consistent(read_plan(own(tmp_path, GOOD.replace("title: One", "title: One, metrics: [dice, mine]"))))


def test_what_has_no_value_leaves_its_row_out_with_a_note(tmp_path: Path) -> None:
    for row in ('{label: "{none}", run: a_1}', "{label: x, each: {m: none}, run: a_1}", "{label: x, run: b}"):
        text = GOOD.replace("rows: [", f"rows: [{row}, ", 1).replace("  p_1:", "  b: {fit: '{none}'}\n  p_1:")
        require_consistent(read_plan(own(tmp_path, text)))
        (note,) = on_data(tmp_path, text).notes
        assert note.startswith("table I has no ")
        assert note.endswith("it needs --set none=...")


def test_claims_that_the_tables_do_not_show_and_an_ensemble_without_runs_are_said(tmp_path: Path) -> None:
    text = GOOD + "  - {text: '{m} is best', each: {m: none}, better: a_1, worse: a_2}\n"
    text += "ensemble: {pool: {m: none}, run: 'a_{m}'}\n"
    assert on_data(tmp_path, text).notes == (
        "claims are left out: {m} is best (it needs --set none=...)",
        "the ensemble is left out: it needs --set none=...",
    )
    assert on_data(tmp_path, GOOD, tables=("C",)).notes == ("claims are left out: x (no row of scores shows a_1)",)


def test_the_first_files_are_those_of_a_training_whose_files_are_known(tmp_path: Path) -> None:
    text = GOOD.replace("runs:", "runs:\n  z: {fit: '{none}'}", 1)
    assert first_files(read_plan(own(tmp_path, text))) == ["segan"]
    alone = "title: x\nvalues: {none: null}\nruns: {z: {fit: '{none}'}}\ntables: {I: {title: I, rows: []}}\n"
    with pytest.raises(UsageError, match=r"own: run z: it needs --set none=\.\.\.$"):
        first_files(read_plan(own(tmp_path, alone)))
    every = "title: x\nruns: {'z_{m}': {each: {m: modalities}, fit: segan}}\ntables: {I: {title: I, rows: []}}\n"
    assert first_files(read_plan(own(tmp_path, every))) == ["segan"]


def test_text_in_lines_is_one_line_so_that_a_study_knows_its_own_report(tmp_path: Path) -> None:
    plan = read_plan(own(tmp_path, GOOD.replace("title: own", "title: |\n  one\n  two\n\n")))
    assert plan.title == "one two"
    study = Study(plan, tmp_path / "study", "/data", ("t1", "flair"), ())
    for name, content in files(read_page(study, expand(study), [], [])).items():
        study_output(study.directory, name).write(content)
    require_own_folder(study.directory, EXPERIMENT, ["C"])


def test_a_folder_does_not_hide_a_shipped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lgg").mkdir()
    assert lasting("lgg") == "lgg"
    assert lasting("lgg", Path.exists) == str(tmp_path / "lgg")  # the cases of a predict may be a folder


def test_an_option_is_a_list_or_a_mapping_in_one_line() -> None:
    names = {"one": "t1", "weights": {"t1": 0.5, "t2": 1e-05}, "all": ["t1", "t2"], "yes": True}
    for value, said in (
        ({"a": 1, "b": {"c": [1, 2]}, "d": "{weights[one]}"}, "{a: 1, b: {c: [1, 2]}, d: 0.5}"),
        ("{weights}", "{t1: 0.5, t2: 1.0e-05}"),
        ("{all}", "[t1,t2]"),
        ("{one}_{all}", "t1_t1+t2"),
        (["{one}", 3], "[t1,3]"),
        (None, "null"),
        ("{yes}", "true"),
        ("", ""),
    ):
        assert option_text(value, names) == said
    with pytest.raises(UsageError, match="expected a list"):
        combinations({"n": "one"}, names, "run a")
