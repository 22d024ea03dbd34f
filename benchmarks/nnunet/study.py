"""The comparison's folds and references, and one training with its predictions and scores."""

from __future__ import annotations

import csv
import fcntl
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np

from benchmarks.nnunet.budget import cpu_seconds
from segan_pl.data.case import Case, ordered
from segan_pl.data.layouts import find_cases
from segan_pl.data.split.record import Split, load_folds, save_folds

SEGAN_PL = (sys.executable, "-m", "segan_pl")


def with_test_parts(folds: Sequence[Split]) -> list[Split]:
    """The folds with their validation cases as test cases: nothing that trains or chooses sees them."""
    return [replace(fold, val=(), test=fold.val) for fold in folds]


def binary_mask(case: Case) -> nib.Nifti1Image:
    """A case's mask as uint8, 1 where the native label is not 0.

    Raises:
        ValueError: The case has none.
    """
    if case.mask is None:
        raise ValueError(f"{case.name} has no mask; leave the case out of the split")
    mask = nib.load(case.mask)
    return nib.Nifti1Image((np.asanyarray(mask.dataobj) != 0).astype(np.uint8), mask.affine)


@dataclass(frozen=True)
class Study:
    """Where everything lies.

    Attributes:
        root: The data set.
        output: Folder of the comparison.
        data: Name or file of the data file, e.g. "lgg".
        parts: Folds.
    """

    root: Path
    output: Path
    data: str
    parts: int = 5

    @property
    def data_options(self) -> list[str]:
        """What every command of segan_pl takes."""
        return ["--config", self.data, "--root", str(self.root)]

    @property
    def split_file(self) -> Path:
        """The folds, each with the parts "train" and "test"."""
        return self.output / "splits.json"

    @cached_property
    def cases(self) -> dict[str, Case]:
        """All cases of the data set by name."""
        return {case.name: case for case in find_cases(self.root)}

    @cached_property
    def folds(self) -> list[Split]:
        """Drawn by `segan_pl split` where they are not there yet."""
        drawn = self.output / "folds.json"
        if not drawn.exists():
            command = [*SEGAN_PL, "split", *self.data_options, "--folds", str(self.parts), "-o", str(drawn)]
            cpu_seconds(command, self.output / "split.log")
        if not self.split_file.exists():
            save_folds(with_test_parts(load_folds(drawn)), self.split_file)
        return load_folds(self.split_file, val="free")

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Those that every case of the folds has."""
        named = sorted(self.folds[0].named)
        return ordered(set.intersection(*(set(self.cases[name].images) for name in named)))

    def reference(self, fold: int) -> Path:
        """A manifest of a fold's test cases with binary masks: what both sides are scored against."""
        folder = self.output / "references" / f"fold{fold}"
        manifest = folder / "manifest.csv"
        if not manifest.exists():
            folder.mkdir(parents=True, exist_ok=True)
            image = self.modalities[0]
            rows = [["case", "patient", "institution", image, "mask", "native_labels"]]
            for name in self.folds[fold].test:
                case = self.cases[name]
                nib.save(binary_mask(case), folder / f"{name}_seg.nii.gz")
                found = str(case.images[image].resolve())
                rows.append([name, case.patient, case.institution or "", found, f"{name}_seg.nii.gz", "binary"])
            with manifest.open("w", newline="") as file:
                csv.writer(file).writerows(rows)
        return manifest


class Side(Protocol):
    """A system to train: nnU-Net, or one of ours."""

    @property
    def name(self) -> str:
        """Of its runs."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What its plans, its budget and its runs follow from, as JSON has it."""
        ...

    def prepare(self, fold: int) -> float:
        """Preprocess what the fold needs; CPU seconds."""
        ...

    def train(self, fold: int, seed: int, steps: int, folder: Path) -> float:
        """Train for so many steps (ours: epochs) into the folder; CPU seconds of the whole command."""
        ...

    def iterations(self, steps: int, folder: Path) -> int:
        """Batches that the training of so many steps saw."""
        ...

    def predict(self, fold: int, folder: Path, masks: Path, *, mirror: bool) -> float:
        """Segment the fold's test cases into `masks`; CPU seconds."""
        ...


def require_settings(study: Study, side: Side) -> None:
    """Keep a side's settings beside its runs, or compare them with those kept: what is there is used again.

    What an older version left there without settings is taken to have these.

    Raises:
        RuntimeError: They differ.
    """
    file = study.output / "settings.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if side.name not in kept:
        kept[side.name] = side.settings
        file.write_text(json.dumps(kept, indent=1))
    there, asked = kept[side.name], side.settings
    if there != asked:
        names = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
        found = "; ".join(f"{name} {there.get(name)}, not {asked.get(name)}" for name in names)
        raise RuntimeError(f"{study.output} has {side.name} with {found}; give another --output or --name")


def run(study: Study, side: Side, fold: int, seed: int, steps: int, *, mirror: bool) -> None:
    """Train, predict and score once; what is there is not made again.

    Raises:
        RuntimeError: A command failed, what is there was trained for another number of steps, or another process is at
            it: what it has written so far would be taken for a training that did not end.
    """
    folder = study.output / "runs" / side.name / f"fold{fold}_seed{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"{folder}: another process works on it; wait for its end, or stop it") from error
        _run(side, study, fold, seed, steps, folder, mirror=mirror)


def _run(side: Side, study: Study, fold: int, seed: int, steps: int, folder: Path, *, mirror: bool) -> None:
    file = folder / "cost.json"
    cost: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if not cost:
        shutil.rmtree(folder, ignore_errors=True)  # of a training that did not end
        folder.mkdir(parents=True)
        print(f"{side.name}, fold {fold}, seed {seed}: {steps} steps", flush=True)
        seconds = side.train(fold, seed, steps, folder)
        cost = {"steps": steps, "iterations": side.iterations(steps, folder), "training_cpu_s": round(seconds, 1)}
        file.write_text(json.dumps(cost))
    if cost["steps"] != steps:
        raise RuntimeError(
            f"{folder} was trained for {cost['steps']} steps, not {steps}; give another --output or --name"
        )
    for ending in ("", "_mirrored") if mirror else ("",):
        if f"prediction{ending}_cpu_s" not in cost:
            masks = folder / f"masks{ending}"
            seconds = side.predict(fold, folder, masks, mirror=bool(ending))
            cost[f"prediction{ending}_cpu_s"] = round(seconds, 1)
            file.write_text(json.dumps(cost))
        scores = folder / f"scores{ending}"
        if not (scores / "summary.json").exists():
            where = ["--root", str(study.reference(fold)), "--pred", str(folder / f"masks{ending}")]
            command = [*SEGAN_PL, "evaluate", *where, "--regions", "wt", "--output", str(scores), "--workers", "1"]
            cpu_seconds(command, folder / f"evaluate{ending}.log")
