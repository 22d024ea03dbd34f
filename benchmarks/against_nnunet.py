"""Our systems and nnU-Net on the same folds, each with the same CPU time of training: Dice of whole volumes, paired.

nnU-Net (2.8.1) runs in an environment of its own, which this package never imports:

    python -m venv nnunet && nnunet/bin/pip install torch==2.13.0 nnunetv2==2.8.1

Both sides train on all training cases of a fold with one thread, on the CPU; the last weights are kept, and nothing is
chosen by the cases that are scored. How many steps fit into the budget is measured first, by a short and a longer
training. The budget holds all that the training command does, its imports too, but not preprocessing, whose time is
printed. What is there is not run again, and refused where it was made with other settings (settings.json).

python -m benchmarks.against_nnunet --root LGG --output studies/nnunet --nnunet_python nnunet/bin/python
    [--minutes 10] [--folds 0,1,2,3,4] [--systems strong2d] [--only ours] [-- options of fit]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.nnunet.budget import steps_that_fit
from benchmarks.nnunet.sides import NNUNet, Ours
from benchmarks.nnunet.study import SEGAN_PL, Side, Study, require_settings, run
from benchmarks.nnunet.table import Trained, read_runs, table_rows, write_table

MEASURED = {"nnunet": (5, 35), "ours": (1, 3)}
"""Steps of the two trainings that are measured: iterations of nnU-Net, epochs of ours."""


def numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", default="lgg", help="data file of segan_pl, by name or path")
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU time of one training")
    parser.add_argument("--folds", type=numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument("--seeds", type=numbers, default=[0])
    parser.add_argument("--only", choices=["ours", "nnunet"], help="train one side; the table has what is there")
    parser.add_argument("--systems", default="strong2d", help="ours, by name or file, with commas")
    parser.add_argument("--name", help="of our runs; needed where options of fit follow, and for one system only")
    parser.add_argument("--epochs", type=int, help="of ours, instead of measuring")
    parser.add_argument("--mirror", action="store_true", help="score both sides with mirroring at test time, too")
    parser.add_argument("--nnunet_python", type=Path, help="Python of nnU-Net's environment")
    parser.add_argument("--nnunet_iterations", type=int, help="instead of measuring")
    parser.add_argument("--nnunet_width", type=int, default=8, help="feature maps of its first stage; its own is 32")
    parser.add_argument("--nnunet_patch", type=numbers, default=[160, 160])
    parser.add_argument("--nnunet_batch", type=int, default=12)
    parser.add_argument("fit_options", nargs="*", help="after --: options of our fit")
    options = parser.parse_args(arguments)
    if options.only != "ours" and options.nnunet_python is None:
        parser.error("--nnunet_python: expected the Python of nnU-Net's environment, or --only ours")
    if options.fit_options and not options.name:
        parser.error("options of fit make another system: give its runs a --name")
    if options.name and "," in options.systems:
        parser.error(f"--name {options.name} is one name, --systems {options.systems} are several")
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes}: expected more than 0")
    return options


def settled_steps(study: Study, side: Side, given: int | None, minutes: float) -> int:
    """Steps of each training of a side: given, measured before, or measured now on the first fold."""
    if given is not None:
        return given
    file = study.output / "budget.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    key = f"{side.name}, {minutes:g} min"
    if key not in known:
        runs = []
        for steps in MEASURED["nnunet" if isinstance(side, NNUNet) else "ours"]:
            with tempfile.TemporaryDirectory() as folder:
                runs.append((steps, side.train(0, 0, steps, Path(folder))))
        steps, step_s, start_s = steps_that_fit(60 * minutes, *runs)
        known[key] = {"steps": steps, "step_cpu_s": round(step_s, 3), "start_cpu_s": round(start_s, 1)}
        file.write_text(json.dumps(known, indent=1))
    print(f"{key}: {known[key]}", flush=True)
    return int(known[key]["steps"])


def prepare(study: Study, side: Side, fold: int) -> None:
    """Preprocess a fold once and keep what it took."""
    file = study.output / "preparation.json"
    took: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    key = f"{side.name}, fold {fold}"
    if key not in took:
        took[key] = round(side.prepare(fold), 1)
        file.write_text(json.dumps(took, indent=1))
    print(f"{key}: preprocessing took {took[key]} CPU s", flush=True)


def compare(study: Study, runs: list[Trained]) -> None:
    """Paired differences over the patients of all folds, by `segan_pl compare`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for one in runs:
        groups[one.system.replace(", ", "_")].append(str(one.scores))
    if "nnunet" in groups and len(groups) > 1:
        named = [f"{name}={','.join(folders)}" for name, folders in groups.items()]
        options = ["--reference", "nnunet", "--region", "wt", "--output", str(study.output / "compare")]
        subprocess.run([*SEGAN_PL, "compare", *named, *options], check=True)


def main() -> None:
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    study = Study(options.root.resolve(), options.output.resolve(), options.data)
    sides: list[tuple[Side, int | None]] = []
    if options.only != "ours":
        width, patch = options.nnunet_width, (options.nnunet_patch[0], options.nnunet_patch[-1])
        python = options.nnunet_python.absolute()  # not resolved: a venv's Python is a link
        sides.append((NNUNet(study, python, width, patch, options.nnunet_batch), options.nnunet_iterations))
    if options.only != "nnunet":
        sides += [
            (Ours(study, system, options.name or Path(system).stem, options.fit_options), options.epochs)
            for system in options.systems.split(",")
        ]
    for side, _ in sides:
        require_settings(study, side)
    for side, given in sides:
        prepare(study, side, 0)
        steps = settled_steps(study, side, given, options.minutes)
        for fold in options.folds:
            prepare(study, side, fold)
            for seed in options.seeds:
                run(study, side, fold, seed, steps, mirror=options.mirror)
    runs = read_runs(study.output / "runs")
    print(write_table(table_rows(runs), study.output / "table.csv"))
    compare(study, runs)


if __name__ == "__main__":
    main()
