"""The Lightning data module: from a folder of cases to batches."""

from __future__ import annotations

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
from segan_pl.data.case_pool import cores
from segan_pl.data.cohort import Cohort, Missing, find_cohort
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.data.layouts import find_cases
from segan_pl.data.patches import PatchDataset, PatchSampler, PatchSampling
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
from segan_pl.data.training_options import require_numbers, require_one_kind, require_several_to_hide
from segan_pl.data.transforms import PatchAugmentation
from segan_pl.data.volume import MODALITIES, Case, CaseError, PreparedCase
from segan_pl.errors import UsageError

Part = Literal["train", "val", "test"]


class MRIDataModule(L.LightningDataModule):
    """Cases of one folder: found, split, prepared into a cache, and served as slices or whole volumes.

    Args:
        root: Folder of the data set.
        layout: How it is laid out, a key of `layouts.LAYOUTS`, or "auto".
        modalities: Any subset in any order of t1, t1ce, t2, flair; the networks' input channels.
        labels: Label scheme: "whole_tumour", "regions" (WT, TC, ET), "labels", or "binary" for 0/1 masks.
        native_labels: What the masks' labels mean, a key of `labels.CONVENTIONS`; "auto" where the layout says it.
        preparation: What is done to a volume once; the default is SegAN-CAT's (section IV).
        cache_dir: Where prepared cases lie; default $SEGAN_PL_CACHE, else ~/.cache/segan_pl/prepared.
        patch: (H, W) of a training patch in voxels, or (D, H, W) for 3-D patches (D may be 1).
        batch_size: Patches a batch and device.
        sampling: How many 3-D patches, and where; default one a case and epoch, anywhere.
        patch_augmentation: Of 3-D patches; default none.
        empty: Slices without label: "keep" (the papers'), "drop", or "balance" (as many as there are others).
        augmentation: Beside the random place of the patch; default none (the papers'). Of 3-D patches only
            `modality_dropout`.
        missing: Cases that lack a modality: "refuse", "drop" them by name, or "zero" for zeros in its place.
        val_fraction: Of the cases.
        test_fraction: Of the cases.
        stratify_by: Columns of the case table.
        split_file: JSON with "train", "val" and perhaps "test", or with folds (nnU-Net's splits_final.json too), as
            `segan_pl split` writes it; instead of drawing a split.
        fold: Which of the split file's folds, from 0.
        split_leftovers: Usable cases that the split file does not name: "refuse", or "ignore" them with a note.
        split_leaks: A patient on two sides of the split file: "refuse", or "allow" with a note.
        split_seed: Of the split.
        seed: Of order and crops.
        workers: Loader processes; 0 loads in the training process.
        prepare_workers: Processes that prepare what the cache lacks; default all cores.

    Attributes:
        saved_split: The split.json of the run that is continued or scored, set before first use; where that file is, it
            is the split, whatever the settings say, so that no case changes sides.
        split_owner: Whose split that is, for the note.
        least_batch: Patches that the networks need in a 3-D batch, see `require_batch`; an epoch's last batch of fewer
            is left out. (Of slices it always needs 2.)
    """

    def __init__(
        self,
        root: str,
        *,
        layout: str = "auto",
        modalities: list[str] | None = None,
        labels: str = "whole_tumour",
        native_labels: str = "auto",
        preparation: Preparation | None = None,
        cache_dir: str | None = None,
        patch: tuple[int, int] | tuple[int, int, int] = (160, 160),
        batch_size: int = 64,
        sampling: PatchSampling | None = None,
        patch_augmentation: PatchAugmentation | None = None,
        empty: Empty = "keep",
        augmentation: Augmentation | None = None,
        missing: Missing = "refuse",
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        stratify_by: tuple[str, ...] = ("grade", "institution"),
        split_file: str | None = None,
        fold: int | None = None,
        split_leftovers: Literal["refuse", "ignore"] = "refuse",
        split_leaks: Literal["refuse", "allow"] = "refuse",
        split_seed: int = 0,
        seed: int = 0,
        workers: int = 0,
        prepare_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.layout = layout
        self.modalities = tuple(modalities or MODALITIES)
        label_scheme(labels, None if native_labels == "auto" else native_labels)  # refuse a wrong name at once
        self.labels = labels
        self.native_labels = native_labels
        self.preparation = preparation or Preparation()
        self.cache = Cache(cache_dir or default_directory(), self.preparation)
        self.patch = patch
        self.batch_size = batch_size
        self.empty: Empty = empty
        self.augmentation = augmentation or Augmentation()
        self.sampling = sampling
        self.patch_augmentation = patch_augmentation
        require_numbers(patch, batch_size, workers)
        require_one_kind(patch, empty, self.augmentation, sampling=sampling, patch_augmentation=patch_augmentation)
        require_several_to_hide(self.augmentation, self.modalities)
        self.missing: Missing = missing
        self.fractions = (val_fraction, test_fraction)
        self.stratify_by = tuple(stratify_by)
        self.split_file = split_file
        self.fold = fold
        self.split_leftovers: Literal["refuse", "ignore"] = split_leftovers
        self.split_leaks: Literal["refuse", "allow"] = split_leaks
        self.split_seed = split_seed
        self.seed = seed
        self.workers = workers
        self.prepare_workers = cores() if prepare_workers is None else prepare_workers
        self._cohort: Cohort | None = None
        self.saved_split: Path | None = None
        self.split_owner = "the run's own"
        self.least_batch = 1
        self.split: Split | None = None
        self._places: dict[int, Place] = {}

    # -- cases and their split ---------------------------------------------------------------------------------------

    @property
    def cohort(self) -> Cohort:
        """The cases of the folder, found on first use; reads no voxel.

        Raises:
            CaseError: As `find_cohort`.
        """
        if self._cohort is None:
            self._cohort = find_cohort(
                self.root,
                self.layout,
                modalities=self.modalities,
                labels=self.labels,
                native_labels=self.native_labels,
                missing=self.missing,
            )
        return self._cohort

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases that are used, by name; `Batch.case` is a row of it."""
        return self.cohort.cases

    @property
    def scheme(self) -> LabelScheme:
        """Native labels to channels."""
        scheme = self.cohort.scheme
        assert scheme is not None  # every case has a mask
        return scheme

    def find(self) -> None:
        """Find the cases and split them.

        Raises:
            CaseError: No cases, an incomplete case with `missing="refuse"`, or a split made for other data.
        """
        if self.split is None:
            self.split = self._split()
            self._rows = {case.name: row for row, case in enumerate(self.cases)}

    def _split(self) -> Split:
        """The run's own split, else that of the split file, else one drawn now."""
        dropped = self.cohort.dropped
        if self.saved_split is not None and self.saved_split.exists():  # cases that came since are left out
            own = Split.load(self.saved_split)
            split = own.require_matches(self.cases, dropped=dropped, leftovers="ignore", leaks=self.split_leaks)
            return replace(split, notes=(*split.notes, f"the split is {self.split_owner}, {self.saved_split}"))
        if self.split_file:
            split = Split.load(Path(self.split_file).expanduser(), self.fold)
            return split.require_matches(
                self.cases, dropped=dropped, leftovers=self.split_leftovers, leaks=self.split_leaks
            )
        if self.fold is not None:
            raise CaseError("--data.fold is given without --data.split_file; make one with segan_pl split --folds")
        val, test = self.fractions
        return stratified_split(
            self.cases, val_fraction=val, test_fraction=test, by=self.stratify_by, seed=self.split_seed
        )

    def case_table(self) -> list[dict[str, str]]:
        """One row a case found: name, patient, grade, institution, part of the split, modalities there and absent."""
        assert self.split is not None
        part_of = {name: part for part in ("train", "val", "test") for name in getattr(self.split, part)}
        dropped = {case.name for case in self.cohort.dropped}
        return [
            {
                "case": case.name,
                "patient": case.patient,
                "grade": case.grade or "",
                "institution": case.institution or "",
                "part": "dropped" if case.name in dropped else part_of.get(case.name, ""),
                "modalities": " ".join(m for m in self.modalities if m in case.images),
                "absent": " ".join(m for m in self.modalities if m not in case.images),
                **{f"extra_{name}": value for name, value in case.extra.items()},
            }
            for case in self.cohort.source.cases
        ]

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
        return [*self.cohort.notes(), *self.split.notes]

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
        rows = [row for part in parts.get(stage, ()) for row in self.rows(part)]
        self.cache.verify([self.cases[row] for row in rows])  # in threads; a damaged one is rebuilt when it is opened
        for row in rows:
            self._place(row)

    def require_batch(self, least: int) -> None:
        """Refuse batches of fewer patches than the networks can train on, and leave out an epoch's last one.

        Args:
            least: As `AdversarialSegmentation.least_batch` finds it.

        Raises:
            UsageError: Every batch would be too small.
        """
        if self.batch_size < least:
            raise UsageError(
                f"--data.batch_size {self.batch_size}: a patch of {list(self.patch)} leaves the networks' batch norm "
                f"one value a channel; give at least {least}, or a larger --data.patch"
            )
        self.least_batch = least

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of 2-D or 3-D patches."""
        return self._patch_loader() if len(self.patch) == 3 else self._slice_loader()

    def _patch_loader(self) -> DataLoader[Batch]:
        places = self._part("train")
        sampler = PatchSampler(
            len(places),
            self.batch_size,
            sampling=self.sampling or PatchSampling(),
            least=self.least_batch,
            modalities=len(self.modalities),
            modality_dropout=self.augmentation.modality_dropout,
            seed=self.seed,
            **self._ranks(),
        )
        self._require_batches(sampler, f"{sampler.patches} training patches", least=self.least_batch)
        dataset = PatchDataset(
            places,
            scheme=self.scheme,
            patch=self.patch,  # type: ignore[arg-type]
            augmentation=self.patch_augmentation or PatchAugmentation(),
            rows=self.rows("train"),
            background=self.preparation.background,
            modality_dropout=self.augmentation.modality_dropout,
        )
        return self._loader(dataset, sampler)

    def _require_batches(self, sampler: PlanSampler | PatchSampler, found: str, *, least: int) -> None:
        """Start the sampler where a resumed run stands, and refuse an epoch without a batch."""
        if self.trainer:  # Lightning sets it too, but after workers have begun on a resumed run's first batches
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        if len(sampler) == 0:
            raise CaseError(
                f"{found} make no batch for {self._ranks()['world_size']} ranks, expected at least {least} a rank; add "
                f"cases or use fewer --trainer.devices"
            )

    def _slice_loader(self) -> DataLoader[Batch]:
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
        self._require_batches(sampler, f"{sampler.slices} training slices", least=2)
        dataset = SliceDataset(
            places,
            table,
            scheme=self.scheme,
            patch=self.patch,  # type: ignore[arg-type]
            augmentation=self.augmentation,
            rows=self.rows("train"),
            background=self.preparation.background,
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
        case = self._opened(self.cases[row])
        self.scheme.require_known(case.labels, case.name)
        return case

    def _opened(self, case: Case) -> PreparedCase:
        return self.cache.open(case, self.modalities, absent=self.cohort.absent.get(case.name, ()))

    def outside(self, row: int) -> np.ndarray:
        """(C, 2) int64: voxels of the native grid that the crop left out, in and not in each channel's reference."""
        return self._place(row).outside

    def real_box(self, row: int) -> tuple[slice, ...]:
        """The part of a prepared volume that is not padding."""
        return self._place(row).real_box

    def _place(self, row: int) -> Place:
        if row not in self._places:
            self._places[row] = place_of(self._opened(self.cases[row]), self.scheme)
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
            "labels": self.scheme.target,
            "native_labels": self.scheme.convention.name,
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
