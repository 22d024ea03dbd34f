"""What a sweep remembers in its folder's sweep.json: the points that it chose, and the names of their trials."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from segan_pl.errors import UsageError
from segan_pl.experiments.search import Point
from segan_pl.experiments.sweep_file import SweepFile
from segan_pl.experiments.trials import is_finished, run_folder
from segan_pl.files import write_whole

LONGEST_NAME = 80


def name_of(sweep: SweepFile, point: Point) -> str:
    """A trial's name: its number and what is special about it, e.g. "003_clip=all,update=alternating".

    A point that has a name keeps it: what varies in a grid that grew would make another of it. One that is older than
    a parameter has nothing to say of it.
    """
    if point.name:
        return point.name
    known = [one for one in sweep.parameters if one.name in point.values]
    varied = [one for one in known if not one.is_constant and one.choices != [point.values[one.name]]]
    words = [f"{one.name.rpartition('.')[2]}={_word(point.values[one.name])}" for one in varied]
    return f"{point.number:03d}_{','.join(words)}"[:LONGEST_NAME].rstrip("_,.=-+")


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


def key_of(point: Point) -> str:
    """The same for points that try the same."""
    return json.dumps(point.values, sort_keys=True, default=str)


def load_points(sweep: SweepFile, directory: Path, seed: int | None = None) -> list[Point]:
    """The points that earlier calls chose for this folder; none where it has no memory yet.

    Args:
        sweep: The file, as it is now.
        directory: The study's.
        seed: Of random and bayes; None takes that of the earlier calls.

    Raises:
        UsageError: They are of another search, whose draws do not fit this one.
        CaseError: The record of a trial whose name is looked for is damaged.
    """
    file = directory / "sweep.json"
    if not file.is_file():
        return []
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        points = [_point(one) for one in saved["points"]]
        before = saved["search"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not readable as a sweep ({error}); choose another --output") from error
    now = _search(sweep, seed)
    if seed is None:
        del now["seed"]
    differing = [key for key in now if before.get(key) != now[key]]
    if sweep.method == "grid" and before.get("method") == "grid":
        differing = []  # a grid may grow; what it had keeps its number
    if differing:
        raise UsageError(
            f"{directory} holds another search (different: {', '.join(differing)}); choose another --output"
        )
    return [one if one.name else replace(one, name=_name_there(directory, one.number)) for one in points]


def _name_there(directory: Path, number: int) -> str:
    """The name of a number's trial by its files, as the first sweep.json kept none; "" where it never ran.

    Of several, as those first versions could give a trial a second name: one that has finished, else one with a run.
    """
    names = sorted({file.stem for file in (directory / "trials").glob(f"{number:03d}[_.]*")})
    return max(names, key=lambda name: (is_finished(directory, name), run_folder(directory, name).exists()), default="")


def _point(saved: Mapping[str, Any]) -> Point:
    return Point(saved["number"], saved["values"], saved["shares"], saved.get("name", ""))


def save_points(sweep: SweepFile, directory: Path, points: Sequence[Point], seed: int) -> None:
    """Keep all points and their names for later calls."""
    named = [replace(one, name=name_of(sweep, one)) for one in sorted(points, key=lambda one: one.number)]
    content = {"search": _search(sweep, seed), "points": [asdict(one) for one in named]}
    write_whole(directory / "sweep.json", json.dumps(content, indent=1) + "\n")


def _search(sweep: SweepFile, seed: int | None) -> dict[str, Any]:
    """What decides which points a search chooses, as JSON gives it back."""
    parameters = [[one.name, one.kind, dict(one.settings)] for one in sweep.parameters]
    return json.loads(
        json.dumps(
            {
                "method": sweep.method,
                "seed": seed,
                "metric": [sweep.metric, sweep.goal],
                "parameters": parameters,
            }
        )
    )
