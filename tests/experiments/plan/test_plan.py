"""A plan's file is checked: each mistake is one line that names the place and the nearest match."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.plan.plan import read_plan

GOOD = """
title: own
values: {numbers: [1, 2]}
runs:
  "a_{n}": {each: {n: numbers}, fit: segan}
tables:
  I: {title: One, rows: [{label: "{n}", each: {n: numbers}, run: "a_{n}"}]}
"""


def test_one_configuration_file_and_one_side_of_a_claim_need_no_list(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(GOOD + "claims: [{text: x, better: a_1, worse: [a_2, a_1]}]\n")
    plan = read_plan(str(tmp_path / "own.yaml"))
    assert plan.name == "own"
    assert plan.runs["a_{n}"].of == ("segan",)
    assert (plan.claims[0].better, plan.claims[0].worse) == (("a_1",), ("a_2", "a_1"))
    assert plan.tables["I"].metrics == ("dice", "precision", "sensitivity")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("title: own", "titel: own", "own.yaml: titel: unknown; did you mean 'title'?"),
        ("title: own\n", "", "own.yaml: title is missing"),
        ("fit: segan", "ift: segan", "run a_{n}: expected one of fit, test, predict, evaluate, atlas; found none"),
        ("fit: segan", "fit: segan, test: b", "found fit, test"),
        ("fit: segan", "fit: segan, optoins: {}", "run a_{n}: optoins: unknown; did you mean 'options'?"),
        ("run: ", "from: ", "table I: row 1: from: unknown"),
        ("title: One", "title: One, form: hot", "table I: form hot: unknown"),
        ("title: One", "title: One, form: curves", "curves: expected the column of metrics.csv as learning"),
        ("title: One", "title: One, statistics: [mode]", "statistics mode: unknown"),
        ("title: One", "title: One, published: {tabel: I}", "tabel: no column of published.csv; did you mean 'table'?"),
        ("label: ", "facts: {modle: x}, label: ", "facts modle: unknown; did you mean 'model'?"),
        ("title: own", "title: own\nsplit: fold", "split fold: unknown; did you mean 'folds'?"),
        ("title: own", "title: own\nsplit: folds", "expected their number as values.folds"),
        ("each: {n: numbers}, fit", "each: numbers, fit", "each: expected 'key: value' lines, found str"),
    ],
)
def test_a_mistake_is_one_line(old: str, new: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UsageError) as error:
        read_plan(str(tmp_path / "own.yaml"))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_plan_is_found_by_name_or_path_and_else_the_nearest_is_named(tmp_path: Path) -> None:
    assert read_plan("lgg").name == read_plan("lgg.yaml").name == "lgg"
    with pytest.raises(
        UsageError, match="experiment seagn_cat: no such file, and no shipped plan; did you mean 'segan_cat'"
    ):
        read_plan("seagn_cat")
    (tmp_path / "own.yaml").write_text("a: [")
    with pytest.raises(UsageError, match=r"own\.yaml: not readable as YAML"):
        read_plan(str(tmp_path / "own.yaml"))
