"""SegAN-CAT's tables as they are asked for: systems, modalities, seeds, and the cells that are to be filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from segan_pl.data.volume import MODALITIES
from segan_pl.errors import UsageError, nearest
from segan_pl.shipped import find_config

Table = Literal["I", "II", "figure2", "III", "voting"]
TABLES: tuple[Table, ...] = get_args(Table)
SYSTEMS = ("segan", "segan_dice", "segan_cat")
WAYS = ("all", "critic_input", "segmentor")
SOURCE = "flair"


@dataclass(frozen=True)
class Cell:
    """One model and what it is scored on: a line of a table, or a field of Figure 2.

    Attributes:
        table: Where it stands.
        model: E.g. "segan_cat"; of a vote, what votes, in the published file's words.
        trained_on: Modalities joined by "+"; of a vote, those of its voters.
        tested_on: The same.
        way: Of fine tuning, a word of `WAYS`, or "".
        trials: Seed to the name of the trial that makes its scores.
    """

    table: Table
    model: str
    trained_on: str
    tested_on: str
    way: str = ""
    trials: Mapping[int, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What tells it from all others."""
        return self.table, self.model, self.trained_on, self.tested_on, self.way


@dataclass(frozen=True)
class PaperStudy:
    """What is asked for.

    Attributes:
        directory: The study's folder, absolute.
        system: A system file, shipped or not.
        modalities: Of the data, in their usual order; at least two.
        data: Arguments of `fit` that say which data set, e.g. ("--data.root", "/data").
        labels: Arguments of `evaluate` that say what its masks mean.
        configs: Names or paths of further configuration files, after the system.
        extra: Arguments of every `fit`, last.
        tables: Some of `TABLES`.
        ways: Some of `WAYS`.
        seeds: One training of everything each.
        has_test: Whether the split has a test part, which is then what is scored.
    """

    directory: Path
    system: str
    modalities: tuple[str, ...]
    data: tuple[str, ...]
    labels: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    tables: tuple[Table, ...] = TABLES
    ways: tuple[str, ...] = WAYS[:2]
    seeds: tuple[int, ...] = (0,)
    has_test: bool = False

    @property
    def base(self) -> str:
        """The system without what follows its paper's name: "segan_cat" of "segan_cat_small"."""
        return system_name(self.system)[0]

    @property
    def whole(self) -> str:
        """All modalities joined by "+"."""
        return "+".join(self.modalities)

    @property
    def targets(self) -> tuple[str, ...]:
        """The modalities that FLAIR models are fine tuned to."""
        return tuple(one for one in self.modalities if one != SOURCE)

    def require_possible(self) -> None:
        """Refuse tables that this system or these data cannot fill.

        Raises:
            UsageError: With what to leave out.
        """
        if len(self.modalities) < 2:
            raise UsageError(
                f"the data have {self.whole or 'no modality'} alone; the tables compare modalities and need at least 2"
            )
        if "III" in self.tables and SOURCE not in self.modalities:
            raise UsageError(f"table III begins with {SOURCE}, the data have {self.whole}; leave III out of --tables")
        if "I" in self.tables:
            for base in SYSTEMS:
                sibling(self.system, base)


def chosen_tables(asked: str | None, modalities: Sequence[str]) -> tuple[tuple[Table, ...], list[str]]:
    """The tables of `--tables`, or all that the data allow, in the paper's order; and notes on what is left out.

    Raises:
        UsageError: An unknown table, or none.
    """
    if asked is None:
        left = [] if SOURCE in modalities else [f"table III is left out: the data have no {SOURCE}"]
        return tuple(one for one in TABLES if not (left and one == "III")), left
    known: dict[str, Table] = {one.lower(): one for one in TABLES}
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        if name.lower() not in known:
            raise UsageError(f"--tables {name}: unknown; {nearest(name, TABLES)}")
    if not names:
        raise UsageError(f"--tables is empty; known: {', '.join(TABLES)}")
    found = {known[name.lower()] for name in names}
    return tuple(one for one in TABLES if one in found), []


def system_name(system: str) -> tuple[str, str]:
    """A system's paper name and what follows it: ("segan_cat", "_small"); ("albunet2d", "") for a system of others."""
    stem = Path(system).name.removesuffix(".yaml")
    for base in sorted(SYSTEMS, key=len, reverse=True):
        if stem == base or stem.startswith(f"{base}_"):
            return base, stem[len(base) :]
    return stem, ""


def sibling(system: str, base: str) -> str:
    """The file of `base` in the family of `system`: "segan_small" beside "segan_cat_small".

    Raises:
        UsageError: There is none.
    """
    own, suffix = system_name(system)
    name = f"{base}{suffix}" if own in SYSTEMS else base
    path = Path(system).with_name(f"{name}.yaml")
    try:
        if own not in SYSTEMS:
            raise UsageError("no family")
        found = str(path) if Path(system).is_file() else name
        find_config(found)
    except UsageError as error:
        raise UsageError(
            f"table I compares {', '.join(SYSTEMS)} of one family; --system {system} has no {name} beside it; leave I "
            f"out of --tables"
        ) from error
    return found


def usual_order(modalities: Sequence[str]) -> tuple[str, ...]:
    """t1, t1ce, t2, flair."""
    return tuple(one for one in MODALITIES if one in modalities)
