"""A sweep's journal: the Optuna study in search.journal, opened only where `segan_pl sweep` wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segan_pl.errors import UsageError
from segan_pl.experiments.sweep.file import SweepFile
from segan_pl.experiments.sweep.parameters import Parameter

if TYPE_CHECKING:
    import optuna

JOURNAL = "search.journal"
STUDY = "sweep"
SEARCH = "search"
"""The user attribute of the study that says what is searched."""
WORK = "work"
"""The one that says what its workers do: the arguments of every trial, and the number of trials."""


def optuna_library() -> Any:
    """The library, which only searches need.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError("segan_pl sweep needs Optuna: pip install 'segan_pl[sweeps]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def kept_study(directory: Path) -> optuna.Study | None:
    """The study that earlier calls left in a folder, as it is; None where they left none.

    Nothing is written, also where the journal is refused.

    Raises:
        UsageError: The folder holds another study, or a journal that is damaged or not of `segan_pl sweep`.
    """
    file = directory / JOURNAL
    if (directory / "sweep.json").is_file():
        raise UsageError(f"{directory} holds a sweep of an earlier version (sweep.json); choose another --output")
    if not file.is_file():
        if (directory / "study.json").is_file():
            raise UsageError(f"{directory} holds another study (study.json, no {JOURNAL}); choose another --output")
        return None
    library = optuna_library()
    try:
        storage = _storage(file)
        names = library.get_all_study_names(storage)
        if not names:  # a call was killed before it wrote
            return None
        kept: optuna.Study = library.load_study(study_name=STUDY, storage=storage)
        trials = kept.get_trials(deepcopy=False)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: not readable as a search ({error}); choose another --output") from error
    if names == [STUDY] and not trials and not kept.user_attrs:  # a call was killed before it said what is searched
        return None
    search = kept.user_attrs.get(SEARCH)
    if not isinstance(search, dict) or not search.keys() >= {"method", "metric", "parameters", "seed"}:
        raise UsageError(f"{file}: the study {STUDY} is not of segan_pl sweep; choose another --output")
    for trial in trials:
        if not (isinstance(trial.user_attrs.get("name"), str) and isinstance(trial.user_attrs.get("values"), dict)):
            raise UsageError(f"{file}: trial {trial.number} is not of segan_pl sweep; choose another --output")
    return kept


def new_study(directory: Path, sweep: SweepFile, seed: int) -> optuna.Study:
    """The study of a folder in which `kept_study` has found none; it says what is searched."""
    directory.mkdir(parents=True, exist_ok=True)
    made: optuna.Study = optuna_library().create_study(
        storage=_storage(directory / JOURNAL), study_name=STUDY, direction=sweep.goal, load_if_exists=True
    )
    made.set_user_attr(SEARCH, {**_settings(sweep), "seed": seed})
    return made


def kept_sweep(kept: optuna.Study, directory: Path) -> SweepFile:
    """The sweep that a search was begun with, as far as a worker needs it: without the file's command."""
    search = kept.user_attrs[SEARCH]
    parameters = tuple(Parameter(*one) for one in search["parameters"])
    metric, goal = search["metric"]
    return SweepFile(directory / JOURNAL, "", search["method"], metric, goal, parameters, ())


def agreed_seed(kept: optuna.Study, sweep: SweepFile, directory: Path, seed: int | None) -> int:
    """The seed of a search that earlier calls began, once it is known to be the same.

    A grid may grow: each of its trials must be a point of what it is now.

    Args:
        kept: As `kept_study` returns it.
        sweep: The file, as it is now.
        directory: The study's folder.
        seed: None takes that of the earlier calls.

    Raises:
        UsageError: It is another search; with all that differs.
    """
    before, now = kept.user_attrs[SEARCH], _settings(sweep)
    pairs = [(key, before[key], now[key]) for key in ("method", "metric")]
    if sweep.method == before["method"] == "grid":
        tried = [trial.user_attrs["values"] for trial in kept.get_trials(deepcopy=False)]
        choices = {one.name: one.choices for one in sweep.parameters}
        for name in dict.fromkeys([*choices, *(name for values in tried for name in values)]):
            known = {_text(value) for value in choices.get(name) or []}
            if any(name not in values or _text(values[name]) not in known for values in tried):
                found = {_text(values[name]): values[name] for values in tried if name in values}
                pairs.append((name, list(found.values()) or None, choices.get(name)))
    else:
        there, here = ({name: rest for name, *rest in one["parameters"]} for one in (before, now))
        pairs += [(name, there.get(name), here.get(name)) for name in {**there, **here}]
        pairs += [
            ("order", list(there), list(here)),  # a draw depends on it
            ("--seed", before["seed"], before["seed"] if seed is None else seed),
        ]
    texts = [(key, _text(old), _text(new)) for key, old, new in pairs]
    if differing := [f"{key}: {old} -> {new}" for key, old, new in texts if old != new]:
        raise UsageError(
            f"{directory} holds another search (different: {'; '.join(differing)}); choose another --output"
        )
    return int(before["seed"])


def _settings(sweep: SweepFile) -> dict[str, Any]:
    """What makes a search this one, as the journal's JSON has it."""
    parameters = [[one.name, one.kind, dict(one.settings)] for one in sweep.parameters]
    settings = {"method": sweep.method, "metric": [sweep.metric, sweep.goal], "parameters": parameters}
    return dict(json.loads(json.dumps(settings)))


def _storage(file: Path) -> Any:
    # Optuna's lock is a symbolic link with this text: one that a killed process left must be found from its own folder
    storages = optuna_library().storages
    return storages.JournalStorage(storages.journal.JournalFileBackend(str(file.resolve())))


def _text(value: Any) -> str:
    """A value in a message; 1 and 1.0 differ."""
    return "nothing" if value is None else json.dumps(value)
