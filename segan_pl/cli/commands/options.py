"""The options that say which data set, shared by the commands that need no trainer."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import Namespace

from segan_pl.cli.parsing import OneLineErrors, only_keys
from segan_pl.data.case import ORIGIN_TOLERANCE_MM
from segan_pl.data.cohort import Cohort, Missing, find_cohort
from segan_pl.data.conventions import Stated
from segan_pl.data.layouts import DataSet, find_data_set
from segan_pl.experiments.shipped import config_paths, resolve_config_arguments

Options = TypeVar("Options")

DATA = (
    *("root", "layout", "modalities", "labels", "native_labels", "preparation", "cache_dir", "patch", "batch_size"),
    *("sampling", "augmentation", "transforms", "augment_on", "residency", "unlabelled", "n_labelled"),
    *("labelled_per_batch", "missing", "val_fraction", "test_fraction", "stratify_by", "split_file", "fold"),
    *("split_leftovers", "split_leaks", "split_seed", "seed", "workers", "prepare_workers", "origin_tolerance_mm"),
)
"""Options of `MRIDataModule`, which loads PyTorch; a test compares the two."""
SECTIONS = ("model", "trainer", "run", "finetuning")
ALONE = ("seed_everything", "ckpt_path", "other_modalities")
"""Options of `fit` that stand in no section."""


@dataclass(frozen=True)
class PlaceOptions:
    """Where a data set is.

    Attributes:
        root: Folder of the data set in any layout, or a CSV manifest; --root is short for it.
        layout: How it is laid out, or "auto".
        origin_tolerance_mm: How far apart the first voxels of a case's files may lie along each axis.
    """

    root: str
    layout: str = "auto"
    origin_tolerance_mm: float = ORIGIN_TOLERANCE_MM

    def source(self) -> DataSet:
        """The data set that is there.

        Raises:
            CaseError: As `find_data_set`.
            UsageError: As `find_data_set`.
        """
        return find_data_set(self.root, self.layout).tolerating(self.origin_tolerance_mm)


@dataclass(frozen=True)
class DataSetOptions(PlaceOptions):
    """Which data set, and which of its cases.

    Attributes:
        modalities: Those that a complete case has; default all that any case has.
        labels: "whole_tumour", "regions" (WT, TC, ET) or "labels"; "binary" for 0/1 masks.
        native_labels: What the masks' labels mean: a name (brats2017 for 2017 to 2021, brats2023, binary, iseg, ...;
            docs/data.md), a YAML file or a mapping of names to labels; "auto" where the layout says it.
        missing: Cases that lack a modality: "refuse", "zero" or "drop".
    """

    modalities: list[str] | None = None
    labels: str = "whole_tumour"
    native_labels: Stated = "auto"
    missing: Missing = "refuse"

    def find(self, *, mask: bool = False, scheme: bool = True, unlabelled: bool = False) -> Cohort:
        """The cohort; `mask` leaves out (or refuses) cases without one, `scheme` asks what the labels mean.

        With `unlabelled` cases without a mask are used all the same.

        Raises:
            CaseError: As `find_cohort`.
        """
        return find_cohort(
            self.root,
            self.layout,
            modalities=self.modalities,
            labels=self.labels if scheme else None,
            native_labels=self.native_labels,
            missing=self.missing,
            mask=mask,
            unlabelled=unlabelled,
            origin_tolerance_mm=self.origin_tolerance_mm,
        )


@dataclass(frozen=True)
class ReferenceOptions(PlaceOptions):
    """Where the references are, and how they are labelled; layout "flat" is a folder of masks alone.

    Not next to its command: jsonargparse would import what that module imports for type checking only, SciPy among it.

    Attributes:
        labels: "regions" (WT, TC, ET), "whole_tumour", "labels" or "binary"; "auto" is regions where the labels tell
            them apart, labels where they are tissues of a healthy brain, else whole_tumour.
        native_labels: What their labels mean: a name (brats2017 for 2017 to 2021, brats2023, binary, iseg, ...: see
            docs/data.md), a YAML file or a mapping of names to labels; "auto" where the layout says it.
    """

    labels: str = "auto"
    native_labels: Stated = "auto"


def parse(
    arguments: list[str],
    description: str,
    add: Callable[[OneLineErrors], Any],
    kind: type[Options],
    *,
    forward: list[str] | None = None,
    hints: Mapping[str, str] | None = None,
) -> tuple[Options, Namespace]:
    """The options of a command line.

    Args:
        arguments: The command and what follows it; `--config NAME` may name a whole system file.
        description: Of the command.
        add: Adds the command's own arguments to the parser.
        kind: A dataclass whose fields are the keys below `--data`.
        forward: Takes the options that only `fit` has; without it a note says that they do nothing here.
        hints: Dotted key of such an option to what is to be used instead, for the note.

    Returns:
        The `kind`'s instance, and the namespace with the command's own; its `config` has the files that were read.
    """
    parser = OneLineErrors(prog=f"segan_pl {arguments[0]}", description=description)
    parser.add_argument("-c", "--config", action="config", help="a system or data file, e.g. segan_cat or lgg")
    parser.add_class_arguments(kind, "data")
    add(parser)
    parser.accepted = [f"data.{name}" for name in DATA]
    known = list(parser.options())
    own, of_fit = parted(resolve_config_arguments(arguments[1:]), known)
    if forward is None:
        tell(parted(arguments[1:], known)[1], hints)  # what was typed, not what a file's name stands for
    else:
        forward += of_fit
    with tempfile.TemporaryDirectory() as folder:
        settings = parser.parse_args(only_keys(own, known, Path(folder)))
    settings.config = config_paths(own)  # as they were given, and not their parts, which are gone
    return parser.build(settings).data, settings


# -- options of fit on the line of another command: a line copied from fit must work -----------------------------------


def parted(arguments: Sequence[str], known: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those that only fit takes, each with its value.

    Args:
        arguments: What follows the command.
        known: The dotted keys that the command takes itself; what neither knows stays with its own, to be refused.
    """
    own: list[str] = []
    of_fit: list[str] = []
    number = 0
    while number < len(arguments):
        argument = arguments[number]
        number += 1
        name, equals, _ = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not _only_fits(name.removesuffix("+"), known):
            own.append(argument)
            continue
        of_fit.append(argument)
        if not equals and number < len(arguments) and not re.match(r"-{1,2}[a-zA-Z]", arguments[number]):
            of_fit.append(arguments[number])
            number += 1
    return own, of_fit


def _only_fits(name: str, known: Sequence[str]) -> bool:
    """Whether a key is fit's and not the command's own."""
    section, *rest = parts = name.split(".")
    if name in known or any(".".join(parts[:number]) in known for number in range(2, len(parts))):
        return False
    if not rest:
        return section in ALONE
    return section in SECTIONS or (section == "data" and rest[0] in DATA)


def tell(of_fit: Sequence[str], hints: Mapping[str, str] | None = None) -> None:
    """Say on stderr which options do nothing here (standard output may be a command's JSON).

    Args:
        of_fit: As `parted` returned them.
        hints: Dotted key to what is to be used instead.
    """
    names = dict.fromkeys(argument.partition("=")[0] for argument in of_fit if argument.startswith("--"))
    hint = {f"--{key}": f" ({text})" for key, text in (hints or {}).items()}
    if names:
        told = ", ".join(f"{name}{hint.get(name, '')}" for name in names)
        print(f"note: without effect here: {told}", file=sys.stderr)
