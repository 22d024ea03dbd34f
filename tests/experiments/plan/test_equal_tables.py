"""SegAN-CAT's tables are those that the code before plans wrote (commit 84b36fc), out of the same made-up scores."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import pytest

from segan_pl.experiments.plan.claims import lines
from segan_pl.experiments.plan.expansion import expand
from segan_pl.experiments.plan.pages import files, read_page
from segan_pl.experiments.plan.plan import read_plan
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.runs import Run, run_state, write_state
from tests.experiments.study_play import finish

BEFORE = Path(__file__).with_name("tables_of_84b36fc")


def made_up(name: str) -> dict[str, float]:
    """The Dice of eight cases, other ones for each run."""
    digests = {case: hashlib.sha256(f"{name} {case}".encode()).hexdigest() for case in "abcdefgh"}
    return {case: round(int(digest[:8], 16) / 16**8, 6) for case, digest in digests.items()}


@pytest.mark.parametrize(
    ("before", "modalities", "has_test"),
    [("four", ("t1", "t1ce", "t2", "flair"), False), ("three_test", ("t1", "t1ce", "flair"), True)],
)
def test_the_same_scores_give_the_same_tables_and_claims_as_before(
    before: str, modalities: tuple[str, ...], has_test: bool, tmp_path: Path
) -> None:
    plan = read_plan("segan_cat")
    plan.values["ways"].append("segmentor")  # type: ignore[union-attr]
    study = Study(plan, tmp_path, "/data", modalities, (), seeds=(0, 1), has_test=has_test)
    expansion = expand(study)
    for name in {name for cell in expansion.cells for names in cell.runs.values() for name in names}:
        if name == "flair_on_t1_seed1":
            write_state(tmp_path, Run(name, ("test",)), "failed", exit_code=1, error="x")
        elif "t2_on_t1" not in name:  # these have not run
            finish(tmp_path, name, made_up(name), precision={"b": ""} if "t1ce" in name else None)
    assert run_state(tmp_path, "t2_on_t1_seed0") is None

    page = read_page(study, expansion, [], [])
    now = list(csv.DictReader(io.StringIO(str(files(page)["tables.csv"]))))
    with (BEFORE / f"{before}.csv").open(newline="") as file:
        then = list(csv.DictReader(file))
    assert len(now) == len(then)
    for ours, theirs in zip(now, then, strict=True):
        theirs["runs"] = theirs.pop("trials")
        assert {column: ours[column] for column in theirs} == theirs
    said = (BEFORE / f"{before}.txt").read_text().splitlines()
    assert sorted(lines(page.findings)) == sorted(said)  # target by target now
