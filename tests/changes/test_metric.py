"""A metric outside the package: one file, known to fit, test, evaluate, compare and report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from tests.changes.tiny import SMALL, checkpoint, fit, rows
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated", "example"),
]
OWN, NAME = "my_metric.CentreDistance", "centre_distance_mm"


def test_it_appears_wherever_scores_do_with_its_unit_and_direction(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pred, scores = tmp_path / "run", tmp_path / "pred", tmp_path / "evaluation"
    asked = [f"--model.metrics=[{OWN}]", f"--run.monitor=val/{NAME}_wt"]
    assert fit(cohort, run, "--config=segan_cat", *SMALL, *asked) == 0
    logged = [float(row[f"val/{NAME}_wt"]) for row in rows(run / "metrics.csv")]
    assert all(math.isfinite(value) for value in logged)
    best = next(path for path in (run / "checkpoints").iterdir() if path.name != "last.ckpt")
    assert best.name.startswith(f"epoch{int(np.argmin(logged)):04d}")  # the lowest is the best
    described = json.loads((run / "scores" / "metrics.json").read_text())
    assert (described[NAME]["unit"], described[NAME]["higher_is_better"]) == ("mm", False)

    assert main(["test", f"--ckpt_path={checkpoint(run)}", f"--run.directory={run}", "--data.workers=0"]) == 0
    (tested,) = (run / "scores").glob("test_*.csv")
    line = [f"--ckpt_path={checkpoint(run)}", f"--root={cohort}", f"--output={pred}", "--part=val"]
    assert main(["predict", *line, "--device=cpu"]) == 0
    line = [f"--pred={pred}", f"--root={cohort}", "--data.labels=whole_tumour", "--workers=1"]
    assert main(["evaluate", *line, f"--metrics=[{OWN}]", f"--output={scores}"]) == 0
    evaluated = {row["case"]: row[NAME] for row in rows(scores / "metrics_per_case.csv")}
    assert {row["case"]: row[NAME] for row in rows(tested)} == evaluated
    for case, value in evaluated.items():
        (reference,) = cohort.glob(f"*/{case}/{case}_seg.nii.gz")
        masks = [read_volume(file).array > 0 for file in (pred / f"{case}.nii.gz", reference)]
        expected = np.linalg.norm(np.subtract(*map(center_of_mass, masks)))  # voxels are 1 mm wide
        assert float(value) == pytest.approx(expected, abs=1e-5)

    capsys.readouterr()
    assert main(["compare", str(run), str(scores), f"--metric={NAME}"]) == 0
    shown = capsys.readouterr().out
    assert NAME in shown
    assert f"{NAME}: nothing says" not in shown
    assert main(["report", str(run)]) == 0
    assert f"{NAME} of every case by region (lower is better)" in (run / "report" / "index.html").read_text()
    lines = (run / "report" / "index.md").read_text().replace("\\_", "_").splitlines()
    assert [line for line in lines if NAME in line and line.endswith("| mm | lower |")]
