"""Checkpoints that were kept for their score: which scores can choose, what the files are called, and which is best."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from segan_pl.errors import UsageError, nearest
from segan_pl.evaluation.saved_files import METRICS, json_file

Mode = Literal["max", "min"]

LOSS = "loss"
"""First word of the validation's losses, of which less is better."""
NAME = re.compile(r"epoch(\d+)(?:_batch(\d+))?_([a-z]\w*?)_?(-?\d+\.\d+)(?:-v\d+)?\.ckpt")


class Monitor(NamedTuple):
    """The score that chooses: its name as it is logged, e.g. "val/dice_wt", and whether larger or smaller is better."""

    name: str
    mode: Mode


class Kept(NamedTuple):
    """What a checkpoint's name says.

    Attributes:
        path: The file.
        epoch: From 0.
        batch: Training batches of this epoch before the validation; None at the epoch's end.
        score: The monitored score's name without its stage; of earlier versions' files "dice", whatever it was.
        value: Of that score.
    """

    path: Path
    epoch: int
    batch: int | None
    score: str
    value: float

    @property
    def moment(self) -> tuple[int, float]:
        """Later ones compare as larger."""
        return self.epoch, float("inf") if self.batch is None else self.batch

    @property
    def validation(self) -> str:
        """The file in scores/ with the validation that it was kept for."""
        return f"val_{validation_name(self.epoch, self.batch)}.csv"


def direction(score: str, metrics: Mapping[str, Any] | None = None) -> Mode | None:
    """What is better of a score, e.g. "val/dice_wt"; None where it can choose no checkpoint, as a count or a volume.

    Args:
        score: As it is logged: a metric's name, perhaps with a region's.
        metrics: Name to what `Metric.described` says of those that are not segan_pl's.
    """
    # loads SciPy, which most readers do without
    from segan_pl.evaluation.metrics.named import BUILT_IN

    name = score.rpartition("/")[2]
    if name.split("_")[0] == LOSS:
        return "min"
    known = {**{metric.name: metric.described() for metric in BUILT_IN.values()}, **(metrics or {})}
    fitting = [metric for metric in known if name == metric or name.startswith(f"{metric}_")]
    said = known[max(fitting, key=len)] if fitting else {}
    # a mean of signed values has no size
    higher = None if said.get("by_size") else said.get("higher_is_better")
    return None if higher is None else "max" if higher else "min"


def require_chooser(monitor: str, logged: Iterable[str], metrics: Mapping[str, Any] | None = None) -> None:
    """Refuse a score that is never logged, or one of which neither more nor less is better.

    Raises:
        UsageError: It is one of these; the message names those that can choose a checkpoint.
    """
    known = list(logged)
    choosers = [name for name in known if direction(name, metrics) is not None]
    if monitor in choosers:
        return
    if monitor not in known and (asked := _by_asking(monitor, known)):
        raise UsageError(f"--run.monitor {monitor} is never logged; give {asked}")
    neither = "can choose no checkpoint: neither more nor less of it is better"
    why = neither if monitor in known else "is never logged"
    raise UsageError(f"--run.monitor {monitor} {why}; {nearest(monitor, choosers)}")


def _by_asking(monitor: str, known: list[str]) -> str:
    """How a score of a metric that validation does not compute is logged; empty where there is no such metric."""
    from segan_pl.evaluation.metrics.named import ALIASES, BUILT_IN, DEFINED

    name = monitor.rpartition("/")[2]
    # hd95_mm before hd95
    for short in sorted({*BUILT_IN, *ALIASES, *DEFINED}, key=len, reverse=True):
        region = name.removeprefix(f"{short}_")
        if region == name or not any(one.endswith(f"_{region}") for one in known):
            continue
        logged_as = f"val/{(DEFINED.get(short) or BUILT_IN[ALIASES.get(short, short)]).name}_{region}"
        if logged_as in known:
            return logged_as
        if direction(logged_as) is not None:
            return f"{logged_as} with --model.metrics [{short}], which validation does not compute otherwise"
    return ""


def validation_name(epoch: int, batch: int | None) -> str:
    """What tells one validation from another in file names: "epoch_0007", within an epoch "epoch_0007_batch_0120"."""
    return f"epoch_{epoch:04d}" + ("" if batch is None else f"_batch_{batch:04d}")


def file_pattern(monitor: str, batch: int | None) -> str:
    """The pattern from which Lightning makes a kept checkpoint's name: "epoch0007_dice_wt0.8123" in the end."""
    within, score = "" if batch is None else f"_batch{batch:04d}", monitor.rpartition("/")[2]
    # so that the number can be told from the name
    gap = "_" if score[-1].isdigit() else ""
    return f"epoch{{epoch:04d}}{within}_{score}{gap}{{{monitor}:.4f}}"


def kept(file: Path) -> Kept | None:
    """What a checkpoint's name says; None where it is no name of ours."""
    match = NAME.fullmatch(file.name)
    if match is None:
        return None
    return Kept(file, int(match[1]), int(match[2]) if match[2] else None, match[3], float(match[4]))


def best_kept(folder: Path) -> Kept | None:
    """The checkpoint whose name tells the best score, of equal ones the earliest; None where no name does.

    Where a run changed its mind about the score to monitor, the score of the latest file counts.
    """
    found = [one for file in folder.glob("epoch*.ckpt") if (one := kept(file))]
    if not found:
        return None
    latest = max(found, key=lambda one: one.moment)
    metrics = json_file(folder.parent / "scores" / METRICS)
    sign = 1 if direction(latest.score, metrics) == "min" else -1
    same = [one for one in found if one.score == latest.score]
    return min(same, key=lambda one: (sign * one.value, one.moment, one.path.name))
