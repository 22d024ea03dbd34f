"""The options that say which data set, shared by the commands that need no trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

from jsonargparse import Namespace

from segan_pl.data.cohort import Cohort, Missing, find_cohort
from segan_pl.parsing import OneLineErrors, only_keys
from segan_pl.shipped import resolve_config_arguments

Options = TypeVar("Options")


@dataclass(frozen=True)
class DataSetOptions:
    """Which data set, and which of its cases.

    Attributes:
        root: Folder of the data set, or a CSV manifest.
        layout: How it is laid out, or "auto".
        modalities: Those that a complete case has; default all that any case has.
        labels: "whole_tumour", "regions" (WT, TC, ET) or "labels"; "binary" for 0/1 masks.
        native_labels: What the masks' labels mean: brats2015, brats2017 (to 2021), brats2023, brats2024, msd, binary,
            iseg, mrbrains13; "auto" where the layout says it.
        missing: Cases that lack a modality: "refuse", "zero" or "drop".
    """

    root: str
    layout: str = "auto"
    modalities: list[str] | None = None
    labels: str = "whole_tumour"
    native_labels: str = "auto"
    missing: Missing = "refuse"

    def find(self, *, mask: bool = False) -> Cohort:
        """The cohort; `mask` leaves out (or refuses) cases without one.

        Raises:
            CaseError: As `find_cohort`.
        """
        return find_cohort(
            self.root,
            self.layout,
            modalities=self.modalities,
            labels=self.labels,
            native_labels=self.native_labels,
            missing=self.missing,
            mask=mask,
        )


@overload
def parse(
    arguments: list[str], description: str, add: Callable[[OneLineErrors], Any]
) -> tuple[DataSetOptions, Namespace]: ...


@overload
def parse(
    arguments: list[str], description: str, add: Callable[[OneLineErrors], Any], kind: type[Options]
) -> tuple[Options, Namespace]: ...


def parse(
    arguments: list[str], description: str, add: Callable[[OneLineErrors], Any], kind: type[Any] = DataSetOptions
) -> tuple[Any, Namespace]:
    """The options of a command line.

    Args:
        arguments: The command and what follows it; `--config NAME` may name a whole system file.
        description: Of the command.
        add: Adds the command's own arguments to the parser.
        kind: A dataclass whose fields are the keys below `--data`.

    Returns:
        The `kind`'s instance, and the namespace with the command's own.
    """
    parser = OneLineErrors(prog=f"segan_pl {arguments[0]}", description=description)
    parser.add_argument("-c", "--config", action="config", help="a system or data file, e.g. segan_cat or lgg")
    parser.add_class_arguments(kind, "data")
    add(parser)
    with tempfile.TemporaryDirectory() as folder:
        known = only_keys(resolve_config_arguments(arguments[1:]), parser, Path(folder))
        settings = parser.parse_args(known)
    return parser.instantiate(settings).data, settings
