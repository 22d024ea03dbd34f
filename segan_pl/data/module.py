"""The Lightning data module: from a folder of cases to batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from segan_pl.batch import Batch
from segan_pl.data.augmentation import Augmentation
from segan_pl.data.cache import Cache, default_directory
from segan_pl.data.labels import SCHEMES, LabelScheme
from segan_pl.data.layouts import find_cases, require_modalities
from segan_pl.data.preparation import Preparation
from segan_pl.data.preparing import PrepareReport, prepare_all
from segan_pl.data.sampling import (
    CaseDataset,
    Empty,
    Place,
    PlanSampler,
    RankSampler,
    SliceDataset,
    place_of,
    slice_table,
)
from segan_pl.data.splits import Split, stratified_split
from segan_pl.data.volume import MODALITIES, Case, CaseError, PreparedCase

Part = Literal["train", "val", "test"]


class MRIDataModule(L.LightningDataModule):
    """Cases of one folder: found, split, prepared into a cache, and served as slices or whole volumes.

    Args:
        root: Folder of the data set.
        layout: How it is laid out ("brats2019", "brats2021", "lgg"), or "auto".
        modalities: Any subset in any order of t1, t1ce, t2, flair; the networks' input channels.
        labels: Label scheme: "whole_tumour", "regions" (WT, TC, ET), "labels", or "binary" for 0/1 masks.
        preparation: What is done to a volume once; the default is SegAN-CAT's (section IV).
        cache_dir: Where prepared cases lie; default $SEGAN_PL_CACHE, else ~/.cache/segan_pl/prepared.
        patch: (H, W) of a training patch, in voxels.
        batch_size: Slices a batch and device.
        empty: Slices without label: "keep" (the papers'), "drop", or "balance" (as many as there are others).
        augmentation: Beside the random place of the patch; default none (the papers').
        missing: Cases that lack a modality: "refuse", or "drop" them by name.
        val_fraction: Of the cases.
        test_fraction: Of the cases.
        stratify_by: Columns of the case table.
        split_file: JSON with "train", "val" and perhaps "test"; instead of drawing a split.
        split_seed: Of the split.
        seed: Of order and crops.
        workers: Loader processes; 0 loads in the training process.
        prepare_workers: Processes that prepare what the cache lacks; default all cores.

    Attributes:
        saved_split: The split.json of the run that is continued or scored, set before first use; where that file is, it
            is the split, whatever the settings say, so that no case changes sides.
    """

    def __init__(
        self,
        root: str,
        *,
        layout: str = "auto",
        modalities: list[str] | None = None,
        labels: str = "whole_tumour",
        preparation: Preparation | None = None,
        cache_dir: str | None = None,
        patch: tuple[int, int] = (160, 160),
        batch_size: int = 64,
        empty: Empty = "keep",
        augmentation: Augmentation | None = None,
        missing: Literal["refuse", "drop"] = "refuse",
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        stratify_by: tuple[str, ...] = ("grade", "institution"),
        split_file: str | None = None,
        split_seed: int = 0,
        seed: int = 0,
        workers: int = 0,
        prepare_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.layout = layout
        self.modalities = tuple(modalities or MODALITIES)
        self.scheme = label_scheme(labels)
        self.preparation = preparation or Preparation()
        self.cache = Cache(cache_dir or default_directory(), self.preparation)
        self.patch = patch
        self.batch_size = batch_size
        self.empty: Empty = empty
        self.augmentation = augmentation or Augmentation()
        self.missing = missing
        self.fractions = (val_fraction, test_fraction)
        self.stratify_by = tuple(stratify_by)
        self.split_file = split_file
        self.split_seed = split_seed
        self.seed = seed
        self.workers = workers
        self.prepare_workers = prepare_workers or os.cpu_count() or 1
        self.cases: list[Case] = []
        self.dropped: list[Case] = []
        self.saved_split: Path | None = None
        self.split: Split | None = None
        self._places: dict[int, Place] = {}

    # -- cases and their split ---------------------------------------------------------------------------------------

    def find(self) -> None:
        """Find the cases and split them; reads no voxel.

        Raises:
            CaseError: No cases, an incomplete case with `missing="refuse"`, or a split made for other data.
        """
        if self.split is not None:
            return
        found = find_cases(self.root, self.layout)
        self.cases, self.dropped = require_modalities(found, self.modalities, mask=True, allow=self.missing == "drop")
        self.split = self._split()
        self._rows = {case.name: row for row, case in enumerate(self.cases)}

    def _split(self) -> Split:
        """The run's own split, else that of the split file, else one drawn now."""
        if self.saved_split is not None and self.saved_split.exists():
            split = Split.load(self.saved_split).require_matches(self.cases, dropped=self.dropped)
            return replace(split, notes=(*split.notes, f"the split is the run's own, {self.saved_split}"))
        if self.split_file:
            return Split.load(Path(self.split_file)).require_matches(self.cases, dropped=self.dropped)
        val, test = self.fractions
        return stratified_split(
            self.cases, val_fraction=val, test_fraction=test, by=self.stratify_by, seed=self.split_seed
        )

    def rows(self, part: Part) -> list[int]:
        """Rows of the case table that belong to a part of the split."""
        assert self.split is not None
        return [self._rows[name] for name in getattr(self.split, part)]

    def names(self, rows: Tensor | Sequence[int]) -> list[str]:
        """Case names of `Batch.case`, each once, in order."""
        return list(dict.fromkeys(self.cases[int(row)].name for row in rows))

    def notes(self) -> list[str]:
        """What a user must know of the data: cases left out, columns missing, strata too small."""
        assert self.split is not None
        left = (
            [
                f"{len(self.dropped)} cases lack a modality and are left out: "
                f"{', '.join(case.name for case in self.dropped)}"
            ]
            if self.dropped
            else []
        )
        return [*left, *self.split.notes]

    # -- Lightning's hooks -------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Prepare what the cache lacks, in parallel.

        Raises:
            CaseError: A case of the split cannot be used; the message lists all of them.
        """
        self.find()
        assert self.split is not None
        wanted = {*self.split.train, *self.split.val, *self.split.test}
        for note in self.notes():
            rank_zero_info(f"note: {note}")
        report = self.prepare([case for case in self.cases if case.name in wanted])
        for line in report.lines():
            rank_zero_info(line)
        if report.refused:
            reasons = "; ".join(why for _, why in report.refused)
            raise CaseError(f"{report.summary()}: {reasons}")

    def prepare(self, cases: Sequence[Case] | None = None) -> PrepareReport:
        """Prepare cases into the cache; all that the layout finds, complete or not, unless some are named."""
        found = find_cases(self.root, self.layout) if cases is None else cases
        return prepare_all(found, self.cache, workers=self.prepare_workers)

    def setup(self, stage: str) -> None:
        """Look once at each prepared case that the stage needs; from here on the sources may be gone.

        Raises:
            CaseError: There is nothing to train on.
        """
        self.find()
        if stage == "fit" and not self.rows("train"):
            raise CaseError("the split has no training case; lower --data.val_fraction or add cases")
        parts: dict[str, tuple[Part, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": (self.test_part,)}
        for row in (row for part in parts.get(stage, ()) for row in self.rows(part)):
            self._place(row)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of 2-D patches."""
        places = self._part("train")
        table = slice_table(places, need_empty=self.empty != "keep")
        sampler = PlanSampler(
            table,
            self.batch_size,
            augmentation=self.augmentation,
            modalities=len(self.modalities),
            empty=self.empty,
            seed=self.seed,
            **self._ranks(),
        )
        if self.trainer:  # Lightning sets it too, but after workers have begun on a resumed run's first batches
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        if len(sampler) == 0:
            raise CaseError(
                f"{sampler.slices} training slices make no batch for {self._ranks()['world_size']} ranks, expected at "
                f"least 2 a rank; add cases or use fewer --trainer.devices"
            )
        dataset = SliceDataset(
            places,
            table,
            scheme=self.scheme,
            patch=self.patch,
            augmentation=self.augmentation,
            rows=self.rows("train"),
        )
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Whole validation cases."""
        return self._case_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Whole test cases; the validation cases when the split has no test part."""
        if self.test_part == "val":
            rank_zero_info(
                f"note: the split has no test part; the {len(self.rows('val'))} validation cases are scored, and these "
                f"chose the checkpoint"
            )
        return self._case_loader(self.test_part)

    @property
    def test_part(self) -> Part:
        """What `test` scores: the test cases, or the validation cases where there are none (as the paper did)."""
        assert self.split is not None
        return "test" if self.split.test else "val"

    # -- cases one at a time -----------------------------------------------------------------------------------------

    def open(self, row: int) -> PreparedCase:
        """The prepared case of a row, memory-mapped; its labels are checked against the scheme."""
        case = self.cache.open(self.cases[row], self.modalities)
        self.scheme.require_known(case.labels, case.name)
        return case

    def outside(self, row: int) -> np.ndarray:
        """(C, 2) int64: voxels of the native grid that the crop left out, in and not in each channel's reference."""
        return self._place(row).outside

    def real_box(self, row: int) -> tuple[slice, ...]:
        """The part of a prepared volume that is not padding."""
        return self._place(row).real_box

    def _place(self, row: int) -> Place:
        if row not in self._places:
            self._places[row] = place_of(self.cache.open(self.cases[row], self.modalities), self.scheme)
        return self._places[row]

    def _part(self, part: Part) -> list[Place]:
        """A part's places, their labels checked: here, so that a checkpoint made for others is refused before."""
        for row in self.rows(part):
            self.scheme.require_known(self._place(row).labels, self.cases[row].name)
        return [self._place(row) for row in self.rows(part)]

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must remember to prepare a new case alike."""
        return {
            "modalities": list(self.modalities),
            "labels": self.scheme.name,
            "preparation": self.preparation.as_dict(),
            "patch": list(self.patch),
        }

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return (
            {"rank": trainer.global_rank, "world_size": trainer.world_size} if trainer else {"rank": 0, "world_size": 1}
        )

    def _case_loader(self, part: Part) -> DataLoader[Batch]:
        rows, ranks = self.rows(part), self._ranks()
        if len(rows) < ranks["world_size"]:
            raise CaseError(f"{len(rows)} {part} cases for {ranks['world_size']} ranks; use fewer --trainer.devices")
        dataset = CaseDataset(self._part(part), rows, scheme=self.scheme)
        return self._loader(dataset, RankSampler(len(rows), **ranks))

    def _loader(self, dataset: Any, sampler: Any) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            generator=torch.Generator(),  # its own: starting workers must not move the run's random state
            persistent_workers=self.workers > 0,
            pin_memory=bool(self.trainer and self.trainer.strategy.root_device.type == "cuda"),
        )


def label_scheme(name: str) -> LabelScheme:
    """The scheme of that name.

    Raises:
        CaseError: No such scheme.
    """
    if name not in SCHEMES:
        raise CaseError(f"--data.labels {name}: no such label scheme; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]
