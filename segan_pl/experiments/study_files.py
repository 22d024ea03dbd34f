"""What a study writes into its folder, and how each file is known to be a study's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from segan_pl.data.outputs import Kind, Output, figure_of, page_of
from segan_pl.errors import UsageError

EXPERIMENT, SWEEP = "segan_pl experiment", "segan_pl sweep"
KINDS = {
    "scored_cases.csv": Kind(EXPERIMENT, "case,patient,grade,institution,[^\n]*,mask,native_labels\n"),
    "report.md": Kind(EXPERIMENT, r"# [^\n]*\n\nPlan [^\n]*, by `segan_pl experiment`"),
    "tables.csv": Kind(EXPERIMENT, "table,row,model,trained_on,tested_on,fine_tuning,region,metric,"),
    "pooled.csv": Kind(EXPERIMENT, "run,case,patient,region,"),
    "index.html": Kind(EXPERIMENT, page_of("segan_pl experiment: ")),
    "ensemble.json": Kind(EXPERIMENT, r'\{\s*"checkpoints": \['),
    "ensemble.txt": Kind(EXPERIMENT, "segan_pl predict --ckpt_path "),
    "results.csv": Kind(SWEEP, "trial,state,"),
    "results.md": Kind(SWEEP, r"# [^\n]*\n\n[^\n]*\n\n\w+, (min|max)imize [^\n]* trials have finished\."),
}
ENDINGS = {
    ".svg": figure_of(EXPERIMENT, ".svg"),
    ".png": figure_of(EXPERIMENT, ".png"),
    ".csv": Kind(EXPERIMENT, "value,row,(epoch|at),|row,reference,region,"),
}
"""Figures, and the numbers of one or of differences, which have the names of the plan's tables."""
TABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
HEADINGS = ("claims", "unfinished", "ensemble")
"""Of index.html, whose other parts have the names of the tables."""


def require_table_names(names: Mapping[str, bool], where: str) -> None:
    """Refuse names of tables that are no file names, or are those of another of the study's files.

    Args:
        names: Table to whether it is drawn, into files of its name.
        where: The plan, for errors.

    Raises:
        UsageError: There is one, or two tables differ in upper and lower case alone.
    """
    seen: dict[str, str] = {}
    for name, drawn in names.items():
        low = name.lower()
        if not TABLE.fullmatch(name):
            raise UsageError(f"{where}: table {name!r}: expected a name of letters, digits and . _ + -")
        if low in HEADINGS or (drawn and low in {file.partition(".")[0] for file in KINDS}):
            raise UsageError(f"{where}: table {name}: a study writes something else of this name; choose another")
        if low in seen:
            raise UsageError(f"{where}: tables {seen[low]} and {name}: differ in upper and lower case alone")
        seen[low] = name


def study_output(directory: Path, name: str) -> Output:
    """One of a study's files; its lists of runs and its split are read before they are written, and refused there."""
    known = re.sub(r"^scored_cases_fold\d+", "scored_cases", name)
    return Output(directory / name, KINDS.get(known) or ENDINGS[Path(name).suffix], f"--output {directory}")


def require_own_folder(directory: Path, command: str, figures: Iterable[str] = ()) -> None:
    """Refuse a folder with files that a study would replace and did not write, before any run.

    Args:
        directory: The study's.
        command: EXPERIMENT or SWEEP.
        figures: Names of the tables of a plan that are drawn.

    Raises:
        UsageError: There is one.
    """
    names = [name for name, kind in KINDS.items() if kind.maker == command]
    for name in (*names, *(f"{figure}{ending}" for figure in figures for ending in ENDINGS)):
        study_output(directory, name).require_free()
