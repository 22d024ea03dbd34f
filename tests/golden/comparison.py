"""Two results of one run, compared number for number and bit for bit."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.golden import names

Table = Mapping[str, Mapping[str, str]]  # row to column to the text in the file
ABSENT = "absent"


@dataclass(frozen=True)
class Result:
    """What is compared of one run, under the names of the side that made it.

    Attributes:
        metrics: Rows of metrics.csv, one for each epoch.
        scores: Rows of the scores, one for each epoch, case and region.
        weights: The tensors of the last checkpoint: parameters and buffers of all networks, averaged ones too.
    """

    metrics: Table
    scores: Table
    weights: Mapping[str, NDArray]

    @classmethod
    def read(cls, folder: Path, run: str) -> Result:
        """As `child.py` wrote it."""
        tables = json.loads((folder / f"{run}.json").read_text())
        with np.load(folder / f"{run}.npz") as weights:
            return cls(tables["metrics"], tables["scores"], dict(weights))


@dataclass(frozen=True)
class Difference:
    """One number that is not the same, under its name of today."""

    name: str
    base: str
    now: str


@dataclass(frozen=True)
class Renamed:
    """The names that changed; see `names.py`, whose values are the defaults."""

    metrics: Mapping[str, str] = field(default_factory=lambda: names.METRICS)
    scores: Mapping[str, str] = field(default_factory=lambda: names.SCORES)
    weights: Mapping[str, str] = field(default_factory=lambda: names.WEIGHTS)
    dropped: Collection[str] = field(default_factory=lambda: names.DROPPED)


def compare(base: Result, now: Result, renamed: Renamed | None = None) -> tuple[list[Difference], list[str]]:
    """All that differs, and the names that only `now` has, which is no difference.

    Text is compared as printed and tensors by their bytes, so that 0 and -0 differ and a NaN equals itself.
    """
    renamed = renamed or Renamed()
    differences = [
        *_table_differences("metrics", base.metrics, now.metrics, renamed.metrics, renamed.dropped),
        *_table_differences("scores", base.scores, now.scores, renamed.scores, renamed.dropped),
        *_weight_differences(base.weights, now.weights, renamed),
    ]
    new = {f"metrics {name}" for name in _columns(now.metrics) - _today(_columns(base.metrics), renamed.metrics)}
    new |= {f"scores {name}" for name in _columns(now.scores) - _today(_columns(base.scores), renamed.scores)}
    new |= {f"weights {name}" for name in now.weights.keys() - {_moved(n, renamed.weights) for n in base.weights}}
    return differences, sorted(new)


def _table_differences(
    kind: str, base: Table, now: Table, renamed: Mapping[str, str], dropped: Collection[str]
) -> Iterator[Difference]:
    for row in sorted(base.keys() | now.keys()):
        if row not in base or row not in now:  # an epoch, case or region: nothing that a rename explains
            yield Difference(f"{kind} {row}", "present" if row in base else ABSENT, "present" if row in now else ABSENT)
    for row in (row for row in base if row in now):
        for column, text in base[row].items():
            today = renamed.get(column, column)
            found = now[row].get(today, ABSENT)
            if column not in names.TIMES and column not in dropped and text != found:
                yield Difference(f"{kind} {row} {today}", text, found)


def _weight_differences(
    base: Mapping[str, NDArray], now: Mapping[str, NDArray], renamed: Renamed
) -> Iterator[Difference]:
    for name, before in base.items():
        today = _moved(name, renamed.weights)
        if name in renamed.dropped:
            continue
        if (after := now.get(today)) is None:
            yield Difference(f"weights {today}", _kind(before), ABSENT)
        elif _kind(before) != _kind(after):
            yield Difference(f"weights {today}", _kind(before), _kind(after))
        elif before.tobytes() != after.tobytes():
            unlike = before.reshape(-1).view(f"u{before.itemsize}") != after.reshape(-1).view(f"u{after.itemsize}")
            first = int(np.flatnonzero(unlike)[0])
            place = f"weights {today} [{first}] (the first of {unlike.sum()} in {unlike.size})"
            yield Difference(place, repr(before.flat[first].item()), repr(after.flat[first].item()))


def _kind(tensor: NDArray) -> str:
    return f"{tensor.dtype} {tensor.shape}"


def _moved(name: str, beginnings: Mapping[str, str]) -> str:
    """A tensor's name of today."""
    for old in sorted(beginnings, key=len, reverse=True):
        if name.startswith(old):
            return beginnings[old] + name.removeprefix(old)
    return name


def _columns(table: Table) -> set[str]:
    return {column for row in table.values() for column in row}


def _today(columns: Collection[str], renamed: Mapping[str, str]) -> set[str]:
    return {renamed.get(column, column) for column in columns}
