"""The Lightning data module: from a folder of cases to batches."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from segan_pl.batch import Batch
from segan_pl.data.case import ORIGIN_TOLERANCE_MM, CaseError
from segan_pl.data.cohort import Missing
from segan_pl.data.conventions import Stated
from segan_pl.data.found_cases import FoundCases
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample.augment import Gathered, Transform
from segan_pl.data.sample.loading import Loads, Workers, batch_bytes, choose_workers, loader
from segan_pl.data.sample.options import Augmentation, AugmentOn, Sampling, require_batches, require_numbers
from segan_pl.data.sample.patches import CaseDataset, PatchDataset
from segan_pl.data.sample.resident import Asked, Residency
from segan_pl.data.sample.samplers import PlanSampler, Pool, SameEveryEpoch, done_so_far, own_cases, ranks_of
from segan_pl.data.source import Part
from segan_pl.data.split.choice import SplitChoice, Unlabelled, UnlabelledCases
from segan_pl.errors import UsageError
from segan_pl.recipe import Recorded


class MRIDataModule(Recorded, FoundCases, L.LightningDataModule):
    """Cases of one folder: found, split, prepared into a cache, and served as slices or whole volumes.

    Args:
        root: Folder of the data set.
        layout: How it is laid out, a key of `layouts.LAYOUTS`, or "auto".
        modalities: Names of those that the data set has, in any order, e.g. [t1, t1_ir, flair]; the networks' input
            channels. Default t1, t1ce, t2, flair.
        labels: Label scheme: "whole_tumour", "regions" (WT, TC, ET), "labels", or "binary" for 0/1 masks.
        native_labels: What the masks' labels mean: a name (brats2017, mrbrains13_training, ...), a YAML file or a
            mapping of names to labels, {csf: [5, 6], gm: 1, ignore: 7}; "auto" where the layout says it.
        preparation: What is done to a volume once; the default is SegAN-CAT's (section IV).
        cache_dir: Where prepared cases lie; default $SEGAN_PL_CACHE, else ~/.cache/segan_pl/prepared.
        patch: (H, W) of a training patch in voxels, or (D, H, W) for 3-D patches (D may be 1).
        batch_size: Patches in a batch, on each device.
        sampling: How many patches, and where; default every slice once, or one 3-D patch of each case, anywhere.
        augmentation: What is varied, other than the place of the patch; default nothing.
        transforms: Your own functions of a `Batch`, called after all that; randomness should follow from `Batch.seed`.
        augment_on: Where that is done: in the "loader", or on the "device" once a batch is there.
        residency: Where training patches are cut out: of files on "disk", or in the memory of the "device", and varied.
        unlabelled: Cases without a mask: "refuse", or "use" them as unlabelled training cases.
        n_labelled: How many training cases count as labelled, chosen by `split_seed`; the others train as unlabelled.
        labelled_per_batch: Patches of labelled cases in a batch where there are unlabelled ones, too; default half.
        missing: Cases that lack a modality: "refuse", "drop" them by name, or "zero" for zeros in its place.
        origin_tolerance_mm: How far apart the first voxels of a case's files may lie along each axis.
        val_fraction: Of the patients; 0 trains without validation, on all cases but those of a test part. A split file
            has no validation part only where this is 0.
        test_fraction: Of the patients.
        stratify_by: Columns of the case table.
        split_file: JSON with "train", "val" and perhaps "test", or with folds (nnU-Net's splits_final.json too), as
            `segan_pl split` writes it; instead of drawing a split.
        fold: Which of the split file's folds, from 0.
        split_leftovers: Usable cases that the split file does not name: "refuse", or "ignore" them with a note.
        split_leaks: A patient on two sides of the split file: "refuse", or "allow" with a note.
        split_seed: Of the split.
        seed: Of order and crops.
        workers: Loader processes; 0 loads in the training process, "auto" as many as pay, see `automatic_workers`.
        prepare_workers: Processes that prepare what the cache lacks; default all cores.

    Attributes:
        saved_split: The split.json of the run that is continued or scored, set before first use; where that file is, it
            is the split, whatever the settings say, so that no case changes sides.
        split_owner: Whose split that is, for the note.
        least_batch, least_unlabelled: See `require_batch`; of slices at least 2, always.
        fewest: Patches that a loss may show the networks at once: the labelled or the unlabelled ones alone.
        predict_part: What `trainer.predict` goes through; None for what `test` scores.
        same_batches: Whether every epoch repeats the batches of epoch 0, to overfit a few of them on purpose.
    """

    def __init__(
        self,
        root: str,
        *,
        layout: str = "auto",
        modalities: list[str] | None = None,
        labels: str = "whole_tumour",
        native_labels: Stated = "auto",
        preparation: Preparation | None = None,
        cache_dir: str | None = None,
        patch: tuple[int, int] | tuple[int, int, int] = (160, 160),
        batch_size: int = 64,
        sampling: Sampling | None = None,
        augmentation: Augmentation | None = None,
        transforms: list[Transform] | None = None,
        augment_on: AugmentOn = "loader",
        residency: Residency = "disk",
        unlabelled: Unlabelled = "refuse",
        n_labelled: int | None = None,
        labelled_per_batch: int | None = None,
        missing: Missing = "refuse",
        origin_tolerance_mm: float = ORIGIN_TOLERANCE_MM,
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        stratify_by: tuple[str, ...] = ("grade", "institution"),
        split_file: str | None = None,
        fold: int | None = None,
        split_leftovers: Literal["refuse", "ignore"] = "refuse",
        split_leaks: Literal["refuse", "allow"] = "refuse",
        split_seed: int = 0,
        seed: int = 0,
        workers: int | Literal["auto"] = "auto",
        prepare_workers: int | None = None,
    ) -> None:
        L.LightningDataModule.__init__(self)
        choice = SplitChoice(
            val_fraction, test_fraction, tuple(stratify_by), split_file, fold, split_leftovers, split_leaks, split_seed
        )
        FoundCases.__init__(
            self,
            root,
            layout=layout,
            modalities=modalities,
            labels=labels,
            native_labels=native_labels,
            preparation=preparation,
            cache_dir=cache_dir,
            missing=missing,
            origin_tolerance_mm=origin_tolerance_mm,
            split_choice=choice,
            unlabelled=UnlabelledCases(unlabelled, n_labelled, labelled_per_batch, split_seed),
            prepare_workers=prepare_workers,
        )
        self.split_file, self.patch, self.batch_size = split_file, patch, batch_size
        self.sampling, self.augmentation = sampling or Sampling(), augmentation or Augmentation()
        self.transforms = transforms or []
        self.augment_on: AugmentOn = augment_on
        require_numbers(patch, batch_size, workers, seed)
        self.sampling.require_sense(patch)
        self.augmentation.require_sense(patch, self.modalities, augment_on=augment_on, alone=not self.transforms)
        self.seed, self.workers, self.residency = seed, workers, residency
        self.least_batch, self.least_unlabelled, self.same_batches = 1, 0, False
        labelled = self.unlabelled.labelled(batch_size)
        self.fewest = min(labelled, batch_size - labelled)
        self.predict_part: Part | None = None
        self._chosen: Workers | None = None
        self._trained: PatchDataset | None = None

    def prepare_data(self) -> None:
        """Prepare what the cache lacks, in parallel; a CaseError lists all cases of the split that cannot be used."""
        self.find()
        assert self.split is not None
        unread = () if self._shares()[1] or self.predict_part == "unlabelled" else self.split.unlabelled
        for note in self.notes():
            rank_zero_info(f"note: {note}")
        report = self.prepare([case for case in self.cases if case.name in self.split.named.difference(unread)])
        for line in report.lines():
            rank_zero_info(line)
        report.require_all()

    def setup(self, stage: str) -> None:
        """Look once at each prepared case that the stage needs; from here on the sources may be gone.

        Raises:
            CaseError: There is nothing to train on.
        """
        self.find()
        if stage == "fit" and not self.rows("train"):
            raise CaseError("the split has no training case; lower --data.val_fraction or add cases")
        parts: dict[str, tuple[Part, ...]] = {"fit": ("train", *self._further(), "val"), "validate": ("val",)}
        parts |= {"test": (self.test_part,), "predict": (self.predict_part or self.test_part,)}
        self.look([row for part in parts.get(stage, ()) for row in self.rows(part)])

    def require_batch(self, least: int, of_unlabelled: int = 1) -> None:
        """Refuse batches of fewer patches than the networks can train on, and leave out an epoch's last one.

        Args:
            least: As `AdversarialSegmentation.least_batch` finds it.
            of_unlabelled: How many unlabelled ones, 0 where nothing reads them; without any, how many in all.

        Raises:
            UsageError: Every batch would be too small.
        """
        if self.batch_size < (needed := max(least, of_unlabelled)):
            raise UsageError(
                f"--data.batch_size {self.batch_size}: a patch of {list(self.patch)} leaves the networks' batch norm "
                f"one value for each channel; give at least {needed}, or a larger --data.patch"
            )
        self.least_batch, self.least_unlabelled = least, of_unlabelled
        if self.split is not None:  # else `prepare_data` asks
            self._shares()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of patches."""
        labelled, unlabelled = self._shares()
        rows, further = self.rows("train"), [row for part in self._further() for row in self.rows(part)]
        cases, others = self.indices(rows), self.indices(further)
        least = max(self.least_batch, 1 if unlabelled else self.least_unlabelled)
        least = 2 if len(self.patch) == 2 else least  # of slices: batch norm of 1x1 maps needs two
        sampler = PlanSampler(
            Pool.of(cases, self.sampling, self.patch, self.scheme.foreground_labels),
            labelled,
            sampling=self.sampling,
            modalities=len(self.modalities),
            modality_dropout=self.augmentation.modality_dropout,
            least=least,
            seed=self.seed,
            unlabelled=Pool.of(others, self.sampling, self.patch, None, first=len(cases)) if others else None,
            unlabelled_size=unlabelled,
            **ranks_of(self.trainer),
        )
        if self.trainer:  # Lightning sets it too, but after workers have begun on a resumed run's first batches
            sampler.resume(*done_so_far(self.trainer))
        kind, ranks = "slices" if self.sampling.every_slice(self.patch) else "patches", sampler.world_size
        require_batches(len(sampler), sampler.patches, kind, ranks=ranks, least=least, trainer=self.trainer)
        self._trained = dataset = PatchDataset(
            [*cases, *others],
            scheme=self.scheme,
            patch=self.patch,
            sampling=self.sampling,
            augmentation=self.augmentation,
            rows=[*rows, *further],
            background=self.preparation.background,
            from_background=self.preparation.intensities is not None,
            transforms=self.transforms,
            augment_on=self.augment_on,
            residency=self.residency,
        )
        repeated = SameEveryEpoch(sampler) if self.same_batches else sampler
        return loader(dataset, repeated, self._workers().training, trainer=self.trainer)

    def on_after_batch_transfer(self, batch: Batch | Gathered | Asked, dataloader_idx: int) -> Batch:
        """With `augment_on` or `residency` "device" the rest of the work on a training batch, where it lies."""
        if not isinstance(batch, Batch):
            assert self._trained is not None
            batch = self._trained.finish(batch)
        return batch

    def teardown(self, stage: str) -> None:
        """Free what `residency` device holds."""
        if self._trained is not None:
            self._trained.release()

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

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Whole cases of `predict_part`."""
        return self._case_loader(self.predict_part or self.test_part)

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must remember to prepare a new case alike, and to tell one that is unlike its own."""
        return {**super().describe(), "patch": list(self.patch)}

    def _further(self) -> tuple[Part, ...]:
        return ("unlabelled",) if self._shares()[1] else ()  # where nothing reads these cases, they take no time

    def _shares(self) -> tuple[int, int]:
        assert self.split is not None
        return self.unlabelled.shares(self.split, self.batch_size, self.least_batch, self.least_unlabelled)

    def _case_loader(self, part: Part) -> DataLoader[Batch]:
        rows, ranks = self.rows(part), ranks_of(self.trainer)
        if not rows:
            raise CaseError(f"the split has no case in its part {part!r}; choose another part, or another split")
        if len(rows) < ranks["world_size"]:
            raise CaseError(f"{len(rows)} {part} cases for {ranks['world_size']} ranks; use fewer --trainer.devices")
        dataset = CaseDataset(self.indices(rows), rows, scheme=self.scheme)
        # Every case on exactly one rank: nothing is padded, so ranks may have different numbers of cases.
        mine = own_cases([prod(self.geometry(row).shape) for row in rows], self.trainer, **ranks)
        return loader(dataset, mine, self._workers(part).scoring, trainer=self.trainer)

    def loads(self, scored: Part = "val", *, training: bool = True) -> Loads:
        """What the loaders of one rank hand over."""
        modalities, channels = len(self.modalities), len(self.scheme.channels)
        cases = [batch_bytes(1, modalities, channels, self.geometry(row).shape) for row in self.rows(scored)]
        if not training:
            return Loads(0, max(cases, default=0), sum(cases))
        wide = self.augmentation.varies_intensities or bool(self.transforms)
        patch = batch_bytes(1, modalities, channels, self.patch, wide=wide)
        labelled, _ = self._shares()
        patches = self.sampling.patches([self.index(row) for row in self.rows("train")], self.patch, labelled)
        batch = self.batch_size * patch if self.residency == "disk" else 0
        return Loads(batch, max(cases, default=0), patches * patch * self.batch_size // labelled)

    def _workers(self, scored: Part = "val") -> Workers:
        """How many workers there are, which is chosen and said once."""
        if self._chosen is None:
            training = self.trainer is None or self.trainer.state.fn == "fit"
            loads = self.loads(scored, training=training)
            self._chosen = choose_workers(self.workers, loads, self.trainer, training=training)
        return self._chosen
