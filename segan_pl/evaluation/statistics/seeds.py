"""Runs of one experiment taken together: seeds are averaged case by case, folds are pooled, neither adds cases."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.statistics.comparison import Score, patient_means
from segan_pl.evaluation.statistics.run_tables import PER_CASE, home_of
from segan_pl.evaluation.statistics.scored_runs import ScoredRun, read_run
from segan_pl.recipe import flatten

Arrangement = Literal["one run", "seeds", "folds", "splits"]

SEEDS = ("seed_everything", "data.seed", "data.split_seed", "data.split_file", "data.fold")
PLACES = (
    *("run.directory", "run.root", "run.experiment", "run.loggers", "run.wandb_offline", "run.preview", "run.plain"),
    "run.log_best_checkpoint",
    "run.health",
    *("data.cache_dir", "data.workers", "data.prepare_workers"),
)


class Spread(NamedTuple):
    """How far the means of an experiment's seeds lie apart.

    Attributes:
        seeds: Number of runs.
        sd: Standard deviation of the runs' means (n - 1).
        low: The lowest run's mean.
        high: The highest run's mean.
    """

    seeds: int
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Entry:
    """One side of a comparison: a run, or several runs of one experiment.

    Attributes:
        name: In the tables.
        runs: At least one.
    """

    name: str
    runs: tuple[ScoredRun, ...]

    @property
    def held(self) -> frozenset[str]:
        """Every case that one of the runs has scored."""
        return frozenset(case for run in self.runs for case in run.cases)

    @property
    def cases(self) -> frozenset[str]:
        """What is compared: of seeds the cases that each has scored, of folds and splits all."""
        return self._shared if self.arrangement == "seeds" else self.held

    @property
    def _shared(self) -> frozenset[str]:
        return frozenset.intersection(*(frozenset(run.cases) for run in self.runs))

    @property
    def arrangement(self) -> Arrangement:
        """Seeds score the same cases (all have more than half of them), folds each its own, splits overlap less."""
        if len(self.runs) < 2:
            return "one run"
        if 2 * len(self._shared) > len(self.held):
            return "seeds"
        held = [set(run.cases) for run in self.runs]
        return "folds" if all(a.isdisjoint(b) for a, b in combinations(held, 2)) else "splits"

    def scores(self, metric: str, region: str, cases: Iterable[str], patients: Mapping[str, str]) -> list[Score]:
        """One score for each case: the mean over the runs that hold it, not available where it is so in one of them.

        Seeds must all hold it: else the mean of one case would be over other networks than that of the next.
        """
        found, needed = [], len(self.runs) if self.arrangement == "seeds" else 1
        for case in sorted(cases):
            values = [run.compared(metric, case, region) for run in self.runs if (region, case) in run.rows]
            if len(values) >= needed:
                mean = math.fsum(values) / len(values)
                found.append(Score(case, patients.get(case, case), mean))
        return found

    def spread(self, metric: str, region: str, cases: Sequence[str], patients: Mapping[str, str]) -> Spread | None:
        """Of the seeds' means over these cases; None unless the runs are seeds that all hold them."""
        if self.arrangement != "seeds" or not cases:
            return None
        alone = [Entry(self.name, (run,)).scores(metric, region, cases, patients) for run in self.runs]
        if any(len(scores) < len(cases) for scores in alone):
            # a run lacks the region in a case: its mean is not over the same cases
            return None
        means = [float(np.mean(list(patient_means(scores).values()))) for scores in alone]
        return Spread(len(means), float(np.std(means, ddof=1)), min(means), max(means))


def read_entries(arguments: Sequence[str]) -> list[Entry]:
    """The runs of a command line: RUN, name=RUN, or name=RUN,RUN,RUN; a RUN of a group may hold * and ?.

    Raises:
        UsageError: No such run, the same one twice, or two of one name.
        CaseError: A table cannot be used.
    """
    named = [parse_run(argument) for argument in arguments]
    unnamed = iter(_short_names([paths[0].resolve() for name, paths in named if name is None]))
    entries = [Entry(name or next(unnamed), tuple(read_run(path) for path in paths)) for name, paths in named]
    files = [(run.table.path.resolve(), entry.name) for entry in entries for run in entry.runs]
    for (path, name), (other, second) in combinations(files, 2):
        if path == other:
            raise UsageError(f"{path} is given twice, in {name} and {second}; give each run once")
    names = [entry.name for entry in entries]
    if double := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two runs are named {double[0]!r}; name them apart, e.g. other={double[0]}")
    return entries


def parse_run(argument: str) -> tuple[str | None, list[Path]]:
    """A group's name, or None, and its runs; what exists under that very name is no group, whatever "=" is in it.

    Raises:
        UsageError: A group has a gap.
    """
    whole = Path(argument).expanduser()
    match = re.fullmatch(r"([^=/\\]+)=(.*)", argument)
    if whole.exists() or match is None:
        return None, [whole]
    paths = []
    for part in match[2].split(","):
        pattern = str(Path(part.strip()).expanduser())
        found = sorted(glob.glob(pattern)) if re.search(r"[*?\[]", part) else [pattern]
        if not part.strip() or not found:
            raise UsageError(f"{argument}: {part.strip() or 'an empty name'} is no run; give {match[1]}=RUN,RUN")
        paths += [Path(one) for one in found]
    return match[1], paths


def _short_names(paths: Sequence[Path]) -> list[str]:
    """As few of the last folders as tell the runs apart; of an evaluation's table its folder counts."""
    paths = [path.parent if path.name == PER_CASE else path for path in paths]
    parts = [(path.with_suffix("") if path.suffix == ".csv" else path).parts[1:] for path in paths]
    for depth in range(1, max((len(one) for one in parts), default=0) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(one) for one in parts]


def config_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> set[str]:
    """Dotted keys whose values differ, without those that only say where a run lies or who watches it."""
    old, new = flatten(a), flatten(b)
    differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return {key for key in differing if not key.startswith(PLACES)}


def grouping_notes(entries: Sequence[Entry]) -> list[str]:
    """Which runs look like seeds of one experiment and are not grouped, which groups are more, and seeds with gaps."""
    gaps = [
        f"{len(gone)} cases of {entry.name} are not in each of its {len(entry.runs)} seeds and are left out: "
        f"{', '.join(gone[:6])}{', ...' if len(gone) > 6 else ''}"
        for entry in entries
        if (gone := sorted(entry.held - entry.cases))
    ]
    groups: list[list[Entry]] = []
    for entry in (one for one in entries if len(one.runs) == 1):
        if config := entry.runs[0].config:
            home = next((g for g in groups if config_differences(g[0].runs[0].config, config) <= set(SEEDS)), None)
            groups.append([entry]) if home is None else home.append(entry)
    alike = []
    for group in (group for group in groups if len(group) > 1):
        tables = [entry.runs[0].table for entry in group]
        folders = [one.path.parent if one.kind == "evaluation" else home_of(one.path) for one in tables]
        alike.append(
            f"{', '.join(entry.name for entry in group)} differ only in seeds or splits: runs of one experiment, "
            f"compared here one by one; to take them as one, give NAME={','.join(map(str, folders))}"
        )
    mixed = []
    for entry in entries:
        first = entry.runs[0].config
        keys = {key for run in entry.runs[1:] if first and run.config for key in config_differences(first, run.config)}
        if others := sorted(keys - set(SEEDS)):
            listed = ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
            mixed.append(f"the runs of {entry.name} differ in more than seeds and splits: {listed}")
    return [*alike, *mixed, *gaps]


def known_patients(entries: Sequence[Entry]) -> dict[str, str]:
    """Case to patient, put together from all runs that know it.

    Raises:
        CaseError: Two runs disagree.
    """
    patients: dict[str, str] = {}
    for run in (run for entry in entries for run in entry.runs):
        for case, patient in run.patients.items():
            if patients.setdefault(case, patient) != patient:
                raise CaseError(
                    f"{case}: patient {patient} in {run.table.path}, {patients[case]} in another run; "
                    f"expected one; correct the patient column"
                )
    return patients
