"""The trials of a sweep, which Optuna's journal holds in the study's folder (search.journal).

A grid lists its combinations, random search draws them, and bayes asks Optuna's sampler. All of them are trials of one
Optuna study, so that Optuna's own tools can read any search.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segan_pl.experiments.runs import run_folder, run_state
from segan_pl.experiments.sweep.file import SweepFile
from segan_pl.experiments.sweep.journal import agreed_seed, kept_study, new_study, optuna_library
from segan_pl.experiments.sweep.parameters import Parameter
from segan_pl.experiments.sweep.table import best_score

LONGEST_NAME = 80
# A normal distribution has no value at the shares 0 and 1.
EDGE = 1e-6


@dataclass(frozen=True)
class Trial:
    """What one run of a search tries.

    Attributes:
        number: From 1, in the order in which the trials were chosen.
        name: Of its run; it stays when the sweep grows.
        values: One for each parameter, constants included.
    """

    number: int
    name: str
    values: Mapping[str, Any]


class Search:
    """The trials of a sweep's folder: those that earlier calls chose, and those that are added."""

    def __init__(self, sweep: SweepFile, directory: Path, *, seed: int | None = None, write: bool = True) -> None:
        """Open the search of a folder.

        Args:
            sweep: The file, as it is now.
            directory: The study's folder.
            seed: Of random and bayes; None takes that of the earlier calls.
            write: Keep what is added; otherwise it is forgotten, and nothing is written.

        Raises:
            UsageError: Optuna is not installed, or as `kept_study` and `agreed_seed`.
        """
        kept = kept_study(directory)
        self.sweep = sweep
        self.directory = directory
        self.seed = (seed or 0) if kept is None else agreed_seed(kept, sweep, directory, seed)
        if write:
            self.study = kept or new_study(directory, sweep, self.seed)
        else:
            self.study = optuna_library().create_study(direction=sweep.goal)
            self.study.add_trials(kept.get_trials(deepcopy=False) if kept else [])

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order in which they were chosen."""
        return [_trial(one) for one in self.study.get_trials(deepcopy=False)]

    @property
    def open(self) -> list[Trial]:
        """Those of them whose scores Optuna was not told: they wait, are under way, were stopped or have failed."""
        running = (optuna_library().trial.TrialState.RUNNING,)
        return [_trial(one) for one in self.study.get_trials(deepcopy=False, states=running)]

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside, no other process that does the same chooses trials; seconds, unlike a trial itself."""
        with (self.directory / ".search.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def choose(self, count: int) -> list[Trial]:
        """The first trials of a grid or of random draws; those that are missing are added.

        A grid that has grown keeps the numbers and the names of its earlier trials.
        """
        if self.sweep.method == "grid":
            known = {_key(trial.values): trial for trial in self.trials}
            return [known.get(_key(values)) or self._add(values) for values in grid(self.sweep.parameters)[:count]]
        for number in range(len(self.trials) + 1, count + 1):
            places = draw(self.sweep.parameters, number, self.seed)
            self._add(values_at(self.sweep.parameters, places), places)
        return self.trials[:count]

    def propose(self, count: int) -> list[Trial]:
        """Add the trials that promise most after what was told (Optuna's tree-structured Parzen estimator).

        The first ten are random. The sampler's seed follows from the number of the first new trial, so that a search
        that was stopped proposes what it would have proposed.
        """
        optuna = optuna_library()
        known = self.study.get_trials(deepcopy=False)
        # Asked in memory: a trial with all that belongs to it is then one entry of the journal, which no kill can cut.
        sampler = optuna.samplers.TPESampler(seed=self.seed * 100_003 + len(known) + 1, constant_liar=True)
        asked = optuna.create_study(direction=self.sweep.goal, sampler=sampler)
        asked.add_trials(known)
        found = [asked.ask(_spaces(self.sweep.parameters)).params for _ in range(count)]
        return [self._add(values_at(self.sweep.parameters, places), places) for places in found]

    def tell(self) -> None:
        """Tell Optuna the scores of the trials that have finished.

        A trial that failed stays open, as the next call repeats it.

        Raises:
            CaseError: The record of a run is damaged.
        """
        states = optuna_library().trial.TrialState
        for trial in self.study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            name = trial.user_attrs["name"]
            if (run_state(self.directory, name) or {}).get("state") != "finished":
                continue
            score = best_score(run_folder(self.directory, name), self.sweep.metric, self.sweep.goal)
            if score is None:
                self.study.tell(trial.number, state=states.FAIL, skip_if_finished=True)
            else:
                self.study.tell(trial.number, score.value, skip_if_finished=True)

    def _add(self, values: Mapping[str, Any], places: Mapping[str, Any] | None = None) -> Trial:
        optuna = optuna_library()
        number = len(self.study.get_trials(deepcopy=False)) + 1
        trial = Trial(number, name_of(self.sweep, number, values), dict(values))
        self.study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=dict(places or {}),
                distributions=_spaces(self.sweep.parameters) if places else {},
                user_attrs={"name": trial.name, "values": trial.values},
            )
        )
        return trial


def _trial(one: Any) -> Trial:
    """Ours of Optuna's."""
    return Trial(one.number + 1, one.user_attrs["name"], one.user_attrs["values"])


def grid(parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    """The values of every combination, the last parameter changing fastest; all parameters have `choices`."""
    names = [one.name for one in parameters]
    combinations = itertools.product(*(one.choices or [] for one in parameters))
    return [dict(zip(names, values, strict=True)) for values in combinations]


def draw(parameters: Sequence[Parameter], number: int, seed: int) -> dict[str, Any]:
    """A random place for each parameter that varies (see `_spaces`), which depends on the seed and the number only."""
    source = random.Random(f"{seed}/{number}")
    varied = [one for one in parameters if not one.is_constant]
    return {one.name: _place(one, source.random()) for one in varied}


def values_at(parameters: Sequence[Parameter], places: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all parameters at the places that `draw` or Optuna chose; constants included."""
    found = {}
    for one in parameters:
        place = places.get(one.name, 0.0)
        found[one.name] = one.choices[place] if one.kind == "categorical" and one.choices else one.at(place)
    return found


def _place(parameter: Parameter, share: float) -> float | int:
    if parameter.kind == "categorical":
        return int(share * len(parameter.choices or []))
    return min(max(share, EDGE), 1 - EDGE)


def _spaces(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Where Optuna looks: at the number of a category, and else at the share of the distribution below the value.

    So every distribution of a file is as likely a priori as the file says, also those that Optuna does not have.
    """
    distributions = optuna_library().distributions
    return {
        one.name: distributions.CategoricalDistribution(range(len(one.choices or [])))
        if one.kind == "categorical"
        else distributions.FloatDistribution(EDGE, 1 - EDGE)
        for one in parameters
        if not one.is_constant
    }


def name_of(sweep: SweepFile, number: int, values: Mapping[str, Any]) -> str:
    """A trial's name: its number and what is special about it, e.g. "003_clip=all,update=alternating"."""
    varied = [one for one in sweep.parameters if not one.is_constant and one.choices != [values[one.name]]]
    words = [f"{one.name.rpartition('.')[2]}={_word(values[one.name])}" for one in varied]
    return f"{number:03d}_{','.join(words)}"[:LONGEST_NAME].rstrip("_,.=-+")


def _word(value: Any) -> str:
    """A value in a few characters that a file name may have."""
    if isinstance(value, float):
        text = f"{value:.4g}"
    elif isinstance(value, list | tuple):
        text = "+".join(_word(one) for one in value)
    elif isinstance(value, dict):
        text = "+".join(_word(one) for one in value.values())
    else:
        text = str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-") or "none"


def _key(values: Mapping[str, Any]) -> str:
    """The same for trials that try the same."""
    return json.dumps(values, sort_keys=True, default=str)
