"""The demonstration's own part: which validation it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.cli.commands.demo import best_scores


@pytest.mark.parametrize(
    ("batches", "file", "batch"),
    [(("2", ""), "val_epoch_0000_batch_0002.csv", 2), (("", ""), "val_epoch_0000.csv", None)],
)
def test_the_best_validation_may_lie_within_an_epoch(
    tmp_path: Path, batches: tuple[str, str], file: str, batch: int | None
) -> None:
    rows = [f"0,{batches[0]},0.8", f"1,{batches[1]},0.7", "2,,"]
    (tmp_path / "metrics.csv").write_text("\n".join(["epoch,batch,val/dice_wt", *rows]) + "\n")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / file).write_text("case,dice\na,0.8\n")
    assert best_scores(tmp_path) == ([{"case": "a", "dice": "0.8"}], 0, batch)
