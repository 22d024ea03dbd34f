"""`segan_pl atlas` on real MRI: one labelled subject of IBSR18 to another one, by both methods."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from segan_pl.__main__ import main

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
SUBJECTS = {"train": "IBSR_04", "test": "IBSR_03"}
# What was measured among the labelled pool, less 0.02: CSF, grey and white matter.
AT_LEAST = {"vote": (0.73, 0.88, 0.84), "mixture": (0.73, 0.89, 0.87)}


def test_one_real_subject_labels_another(real_data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name in SUBJECTS.values():
        (root / name).symlink_to(real_data_root / "ibsr18" / name)
    (tmp_path / "split.json").write_text(json.dumps({"val": [], **{part: [one] for part, one in SUBJECTS.items()}}))
    given = [f"--root={root}", f"--split_file={tmp_path / 'split.json'}", f"--keep={tmp_path / 'kept'}", "--workers=1"]
    for method, least in AT_LEAST.items():
        out = tmp_path / method
        assert main(["atlas", *given, f"--method={method}", f"--output={out}"]) == 0
        assert main(["evaluate", f"--pred={out}", f"--root={root}", "--workers=1"]) == 0
        assert capsys.readouterr().out.strip().splitlines()[-1] == "1 given, 1 used, 0 refused"
        with (out / "metrics_per_case.csv").open() as file:
            dice = {row["region"]: float(row["dice"]) for row in csv.DictReader(file)}
        assert [dice[region] >= low for region, low in zip(("csf", "gm", "wm"), least, strict=True)] == [True] * 3, dice
    assert len(list((tmp_path / "kept").iterdir())) == 1
