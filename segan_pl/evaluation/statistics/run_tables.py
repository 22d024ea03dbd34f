"""Which file of a folder holds a run's scores, and which folder is the run's: for `compare` and `report` alike."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from segan_pl.errors import UsageError
from segan_pl.evaluation.kept import Kept, best_kept
from segan_pl.evaluation.saved_files import SUBSETS, csv_rows, json_file

Kind = Literal["evaluation", "test", "validation", "file"]

PER_CASE = "metrics_per_case.csv"
# `test --other_modalities allow` writes test_<checkpoint>_on_<modalities>.csv
OTHER_MODALITIES = "_on_"


class Table(NamedTuple):
    """A file of scores, and why it is the one.

    Attributes:
        path: The CSV file.
        kind: "validation" scores chose the checkpoint, so they flatter it.
        reason: E.g. "best checkpoint, epoch 6".
    """

    path: Path
    kind: Kind
    reason: str


def find_table(path: Path) -> Table:
    """The file that holds a run's scores: of an evaluation, else of the test, else of the best checkpoint's validation.

    An evaluation lies in the folder itself, else in a folder inside it.

    Raises:
        UsageError: There is none, or nothing says which of several it is.
    """
    if path.is_file():
        return Table(path, "file", "as given")
    if not path.is_dir():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, 1, 0.5)
        meant = f", did you mean {path.parent / near[0]}?" if near else ""
        raise UsageError(f"no run {path}{meant}; give a run's folder, one with {PER_CASE}, or a CSV file")
    if (path / PER_CASE).is_file():
        return Table(path / PER_CASE, "evaluation", "segan_pl evaluate")
    inside = [table.parent for table in sorted(path.glob(f"*/{PER_CASE}"))]
    if len(inside) > 1:
        raise UsageError(f"{path} holds {len(inside)} evaluations ({_names(inside)}); give one of them")
    if inside:
        return Table(inside[0] / PER_CASE, "evaluation", f"segan_pl evaluate, in {inside[0].name}")
    return _test(path) or _validation(path, best_kept(path / "checkpoints"))


def holds_scores(folder: Path) -> bool:
    """Whether there is any table that `find_table` could take or ask about."""
    places = [folder / PER_CASE, *folder.glob(f"*/{PER_CASE}"), *_tables(folder, "*.csv")]
    return any(place.is_file() for place in places)


def home_of(table: Path) -> Path:
    """The folder of the run that a table belongs to: with its config.yaml, cases.csv, metrics.csv; else the table's."""
    folder = table.parent
    if folder.name == "scores":
        return folder.parent
    inside_a_run = not (folder / "config.yaml").is_file() and (folder.parent / "config.yaml").is_file()
    return folder.parent if inside_a_run else folder


def _tables(run: Path, pattern: str) -> list[Path]:
    """Score tables of a run, not those of subsets; those on other modalities only where there are no others."""
    found = [path for path in sorted((run / "scores").glob(pattern)) if not path.stem.endswith(SUBSETS)]
    return [path for path in found if OTHER_MODALITIES not in path.stem] or found


def _test(path: Path) -> Table | None:
    """The best checkpoint's test, or the only one; None without any."""
    tests, best = _tables(path, "test*.csv"), best_kept(path / "checkpoints")
    of_best = path / "scores" / f"test_{best.path.stem}.csv" if best else None
    if len(tests) == 1:
        return Table(tests[0], "test", _tested(path, tests[0]))
    if of_best in tests:
        assert of_best is not None
        return Table(of_best, "test", f"{_tested(path, of_best)}, best checkpoint")
    if tests:
        raise UsageError(f"{path} has {len(tests)} test tables ({_names(tests)}); give the file itself")
    return None


def _tested(run: Path, table: Path) -> str:
    """Which part `test` scored: the validation cases where the split has no test part; its name alone says neither."""
    cases, split = {row.get("case") for row in csv_rows(table)}, json_file(run / "split.json")
    for part, words in (("test", "test cases"), ("val", "validation cases, by `test`")):
        if cases and cases <= set(split.get(part) or ()):
            return words
    return "by `test`"


def _validation(path: Path, best: Kept | None) -> Table:
    """The validation of the best checkpoint, or the only one."""
    there = _tables(path, "val*.csv")
    if best is not None:
        file = path / "scores" / best.validation
        if file in there:
            within = "" if best.batch is None else f", batch {best.batch}"
            return Table(file, "validation", f"validation, best checkpoint, epoch {best.epoch}{within}")
    if len(there) == 1:
        return Table(there[0], "validation", "validation, the only one")
    if there:
        raise UsageError(f"{path} has {len(there)} validations and no checkpoint says which is best; give the file")
    if (path / "split.json").is_file() and not json_file(path / "split.json").get("val"):
        raise UsageError(f"{path} was trained without validation: predict other cases, and evaluate them into {path}")
    inside = sorted(folder for folder in path.iterdir() if (folder / "scores").is_dir())
    hint = f"; it holds {len(inside)} runs ({_names(inside)}): give those, or name=RUN,RUN for seeds" if inside else ""
    raise UsageError(f"{path}: no {PER_CASE} and no scores/*.csv{hint}")


def _names(paths: Sequence[Path], limit: int = 4) -> str:
    listed = ", ".join(path.name for path in paths[:limit])
    return listed if len(paths) <= limit else f"{listed}, ..."
