"""One process that trains with one side's code: started by `sides.py` with that code first on the path.

It reads a JSON request from stdin and imports nothing of `tests`, because the base's checkout has another `tests`.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

Table = dict[str, dict[str, str]]


def main() -> None:
    """Make the cohort where it is missing, then run and keep each command line of the request."""
    request: dict[str, Any] = json.load(sys.stdin)
    import segan_pl

    if not Path(segan_pl.__file__).is_relative_to(request["root"]):
        sys.exit(f"segan_pl is {segan_pl.__file__}, expected the one below {request['root']}")
    print(f"segan_pl of {segan_pl.__file__}", flush=True)
    if request["changes"]:
        spec = importlib.util.spec_from_file_location("known_changes", request["changes"])
        assert spec is not None
        assert spec.loader is not None
        changes = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(changes)
        changes.apply()
    cohort = Path(request["cohort"])
    if not cohort.is_dir():
        # The base makes it, which has it there.
        make_cohort = importlib.import_module("segan_pl.data.synthetic").make_cohort
        make_cohort(cohort, cases=8, shape=(16, 48, 48))
    for name, line in request["lines"].items():
        start = time.process_time()
        _run(name, line)
        _keep(Path("runs", name), Path(name), request["files"])
        print(f"{name}: {time.process_time() - start:.1f} s of CPU time", flush=True)


def _run(name: str, line: list[str]) -> None:
    """Call the command line; what it sets for its whole process is put back, so that runs do not touch each other."""
    from segan_pl.__main__ import main as command

    environment = dict(os.environ)
    with warnings.catch_warnings():
        code = command(line)
    os.environ.clear()
    os.environ.update(environment)
    if code:
        sys.exit(f"{name}: `segan_pl {' '.join(line)}` ended with exit code {code}")


def _keep(run: Path, out: Path, files: dict[str, str]) -> None:
    """Copy what is compared out of the run's folder into OUT.json and OUT.npz."""
    import numpy as np
    import torch

    metrics = {f"epoch {row['epoch']}": row for row in _rows(run / files["metrics"])}
    scores: Table = {}
    for path in sorted(run.glob(files["scores"])):
        epoch = int(path.stem.rpartition("_")[2])
        scores.update({f"epoch {epoch} {row['case']} {row['region']}": row for row in _rows(path)})
    state = torch.load(run / files["checkpoint"], map_location="cpu", weights_only=True)["state_dict"]
    if not (metrics and scores and state):
        sys.exit(f"{run}: {len(metrics)} epochs, {len(scores)} scores, {len(state)} tensors; none of them may be 0")
    out.with_suffix(".json").write_text(json.dumps({"metrics": metrics, "scores": scores}))
    np.savez(out.with_suffix(".npz"), **{name: tensor.numpy() for name, tensor in state.items()})


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
