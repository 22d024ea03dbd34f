"""What a page says of training beyond scores: the game's measures, and how it collapsed."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.report.learning import all_curves, collapses
from segan_pl.report.run_files import RunFiles, read_files
from segan_pl.report.run_report import Report, markdown, whole_page
from tests.report.run_folders import make_run, write_rows
from tests.report.test_charts import lines

ROW = {
    "seconds": 1,
    "train/critic_gap": 0.1,
    "lr/critic": 0.001,
    "gradient_norm/critic": 0.5,
    "output_range/segmentor": 0.9,
    "gap_spread/critic_gap": 0.2,
    "at_bound/critic": 0.4,
}


@pytest.fixture
def run(tmp_path: Path) -> RunFiles:
    """Seven epochs, of which 1 to 3 and 5 to 6 show a frozen gap."""
    folder = make_run(tmp_path / "run")
    rows = [
        {"epoch": epoch, **ROW, "health/gap_frozen": {2: 1, 3: 1, 4: 0, 5: 0, 6: 1}.get(epoch, "")}
        for epoch in range(7)
    ]
    rows[3]["gradient_norm/critic"] = 0.0
    write_rows(folder / "metrics.csv", rows)
    return read_files(f"mine={folder}")


def test_a_collapse_is_told_with_the_epochs_that_show_it(run: RunFiles) -> None:
    line = "mine: gap frozen, epochs 1 to 3 and 5 to 6"
    assert collapses([run]) == [line]
    report = Report([run], {})
    assert line in whole_page(report)
    assert f"## Collapse of the game\n\n- {line}" in markdown(report)


def test_a_run_without_one_says_nothing_of_it(tmp_path: Path) -> None:
    report = Report([read_files(str(make_run(tmp_path / "run")))], {})
    assert report.collapses == []
    assert "Collapse" not in whole_page(report) + markdown(report)


def test_each_measure_of_the_game_has_its_curve(run: RunFiles) -> None:
    drawn = {one.caption.partition(" by epoch")[0]: one for one in all_curves([run])}
    names = ("learning rate", "gradient norm", "spread of the critic's gap over an epoch's batches")
    names += ("largest distance of two probabilities in a batch", "share of the clamped weights at their bound")
    assert set(names) <= set(drawn)
    # the 0 of the fourth epoch has no place on a logarithmic axis
    assert [len(line) for line in lines(drawn["gradient norm"].drawn)] == [6]
    assert [len(line) for line in lines(drawn["learning rate"].drawn)] == [7]
