"""What a study writes into its folder, and how each file is known to be a study's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from segan_pl.data.outputs import Kind, Output, figure_of, page_of

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
    ".csv": Kind(EXPERIMENT, "value,row,epoch,"),
}
"""Figures, and the table of a figure's curves, which have the names of the plan's tables."""


def study_output(directory: Path, name: str) -> Output:
    """One of a study's files; its lists of runs and its split are read before they are written, and refused there."""
    return Output(directory / name, KINDS.get(name) or ENDINGS[Path(name).suffix], f"--output {directory}")


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
