"""Metrics by name: those of the package, and anybody's own by import path."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from segan_pl.errors import UsageError, nearest, not_allowed, own_packages
from segan_pl.evaluation.lesions import LesionRules
from segan_pl.evaluation.metrics.base import NOT_METRICS, CountMetric, Metric
from segan_pl.evaluation.metrics.counted import (
    Dice,
    IoU,
    Precision,
    PredictionVolume,
    ReferenceVolume,
    Sensitivity,
    Specificity,
    VolumeDifference,
)
from segan_pl.evaluation.metrics.measured import (
    HD95,
    LesionDice,
    LesionHD95,
    LesionsFalse,
    LesionsFound,
    LesionsMissed,
    MeanSurfaceDistance,
    SurfaceDice,
    SurfaceDiceArea,
)
from segan_pl.evaluation.surface import Definition

_LESIONS = (LesionDice, LesionHD95, LesionsFound, LesionsMissed, LesionsFalse)
_KINDS: Sequence[Callable[[], Metric]] = (
    *(Dice, IoU, Precision, Sensitivity, Specificity, ReferenceVolume, PredictionVolume, VolumeDifference),
    *(HD95, MeanSurfaceDistance, SurfaceDice, SurfaceDiceArea, *_LESIONS),
)
BUILT_IN: Mapping[str, Metric] = {metric.name: metric for metric in (kind() for kind in _KINDS)}
"""By the column that they fill."""
ALIASES: Mapping[str, str] = {
    "hd95": "hd95_mm",
    "mean_surface_distance": "mean_surface_distance_mm",
    "volume_difference": "volume_difference_ml",
}
DEFINED: Mapping[str, Metric] = {
    "hd95_monai": HD95("monai"),
    "hd95_medpy": HD95("medpy"),
    "hd95_deepmind": HD95("deepmind"),
}
"""By names that say which of several definitions is meant."""
CHEAP: tuple[Metric, ...] = (Dice(), Precision(), Sensitivity(), Specificity())
"""Of a validation within training."""
NAME = re.compile(r"[a-z][a-z0-9_]*")
LOGGED = ("cases", "loss", "step", "epoch", "batch")
"""First words of what is logged and is no metric."""


def evaluation_metrics(
    *,
    tolerance_mm: float = 1.0,
    hd95: Definition = "monai",
    areas: bool = False,
    lesions: LesionRules | None = None,
) -> tuple[Metric, ...]:
    """What `evaluate` and `test` compute unless asked for more.

    Args:
        tolerance_mm: Of the surface Dice.
        hd95: Which definition of HD95.
        areas: Whether the surface Dice is computed by area too.
        lesions: The rules of a challenge, to score lesion by lesion too.
    """
    overlaps = (Dice(), IoU(), Precision(), Sensitivity(), Specificity())
    volumes = (ReferenceVolume(), PredictionVolume(), VolumeDifference())
    surfaces = (HD95(hd95), MeanSurfaceDistance(), SurfaceDice(tolerance_mm))
    by_area = (SurfaceDiceArea(tolerance_mm),) if areas else ()
    return (*overlaps, *volumes, *surfaces, *by_area, *(kind(lesions) for kind in _LESIONS if lesions))


def with_named(metrics: Sequence[Metric], names: Iterable[str], option: str) -> tuple[Metric, ...]:
    """Metrics, and after them those named that fill no column of theirs yet.

    Args:
        metrics: Come first.
        names: Of metrics of the package, or import paths of classes.
        option: As typed, for errors.

    Raises:
        UsageError: A name is unknown, may not be imported, or is that of no metric; or two fill one column.
    """
    out = {metric.name: metric for metric in metrics}
    asked: dict[str, str] = {}
    for name in (ALIASES.get(one.strip(), one.strip()) for one in names):
        known = BUILT_IN.get(name) or DEFINED.get(name)
        if known is None and "." not in name:
            all_names = (*BUILT_IN, *ALIASES, *DEFINED)
            raise UsageError(
                f"{option} {name}: no such metric; {nearest(name, all_names)}, or package.module.Class of your own"
            )
        found = known or _imported(name, option)
        if (other := asked.setdefault(found.name, name)) != name:
            raise UsageError(f"{option}: {other} and {name} both fill the column {found.name}; give one of them")
        if found.name not in out or name not in BUILT_IN:
            out[found.name] = found
    return tuple(out.values())


def _imported(name: str, option: str) -> Metric:
    """Somebody's own metric."""
    if not name.startswith(tuple(f"{package}." for package in ("segan_pl", *own_packages()))):
        raise UsageError(f"{option} {not_allowed(name)}")
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), kind)
    except Exception as error:  # whatever somebody's module does when it is imported
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"{option} {name}: cannot be imported ({why}); expected package.module.Class") from error
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise UsageError(f"{option} {name}: is no subclass of segan_pl.evaluation.metrics.Metric")
    try:
        metric = found()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"{option} {name}: cannot be made without arguments ({why})") from error
    if found.compute in (Metric.compute, CountMetric.compute):
        raise UsageError(f"{option} {name}: does not define compute")
    if not NAME.fullmatch(metric.name) or metric.name.split("_")[0] in (*NOT_METRICS, *LOGGED):
        raise UsageError(
            f"{option} {name}: its name is {metric.name!r}; expected lower-case letters, digits and '_', not beginning "
            f"with {', '.join((*NOT_METRICS, *LOGGED))}"
        )
    if metric.name in BUILT_IN and type(metric) is not type(BUILT_IN[metric.name]):
        raise UsageError(f"{option} {name}: its name {metric.name!r} is that of a metric of segan_pl; choose another")
    return metric
