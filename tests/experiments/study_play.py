"""A study's folder made by hand: runs that have ended, with scores that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segan_pl.experiments.runs import Run, run_folder, write_state

HEAD = "case,patient,region,tp,fp,fn,tn,dice,precision,sensitivity,specificity,empty"


def finish(
    directory: Path,
    name: str,
    dice: Mapping[str, float],
    *,
    precision: Mapping[str, str] | None = None,
    region: str = "wt",
) -> Path:
    """A finished run with a score table: case to Dice; precision is 0.5 unless given, an empty cell for n/a."""
    write_state(directory, Run(name, ("fit",)), "finished", exit_code=0)
    return write_scores(run_folder(directory, name), dice, precision=precision, region=region)


def write_scores(
    folder: Path, dice: Mapping[str, float], *, precision: Mapping[str, str] | None = None, region: str = "wt"
) -> Path:
    """A run's folder with one validation and the checkpoint that it chose."""
    rows = [HEAD]
    for case, value in dice.items():
        rows.append(f"{case},{case},{region},1,1,1,1,{value:.6f},{(precision or {}).get(case, '0.5')},0.25,0.9,neither")
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    (folder / "scores" / "val_epoch_0003.csv").write_text("\n".join(rows) + "\n")
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "epoch0003_dice0.5000.ckpt").write_text("x")
    return folder


def cases(values: Sequence[float]) -> dict[str, float]:
    """Values as those of the cases a, b, c, ..."""
    return dict(zip("abcdefghijklmnopqrstuvwxyz", values, strict=False))
