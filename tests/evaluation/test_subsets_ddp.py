"""Two ranks (gloo) score the subsets of their own cases, and both know all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cohort import QUIET, build_data
from tests.evaluation.subsets_run import score
from tests.training.test_ddp import launch

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.slow]


def test_ranks_share_the_cases_and_all_know_all_subsets(cohort: Path, prepared: Path, tmp_path: Path) -> None:
    build_data(cohort, prepared, val_fraction=0.5).prepare_data()
    alone = score(cohort, prepared, 1, tmp_path)
    ranks = launch(cohort, prepared, tmp_path, 2, module="tests.evaluation.subsets_run")
    assert [len(set(one["own"])) for one in ranks] == [2, 2]
    assert sorted(ranks[0]["own"] + ranks[1]["own"]) == alone["own"]
    assert len(alone["rows"]) == 3 * 4
    for one in ranks:
        assert one["rows"] == alone["rows"]
        assert one["mean"] == pytest.approx(alone["mean"])
    written = [(tmp_path / "scores" / f"{world}_subsets.csv").read_text() for world in (1, 2)]
    assert written[0] == written[1]
