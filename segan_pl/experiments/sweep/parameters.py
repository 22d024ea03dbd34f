"""What a sweep file lets a parameter be: one value, a list of values, or a distribution, as W&B draws from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from segan_pl.errors import UsageError, nearest

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
    "normal": ("mu", "sigma"),
    "q_normal": ("mu", "sigma", "q"),
}
"""Name to the settings that it takes; `min` and `max` must be given, the others may be."""

DEFAULTS: dict[str, Any] = {"q": 1.0, "mu": 0.0, "sigma": 1.0}


@dataclass(frozen=True)
class Parameter:
    """One option that a sweep varies.

    Attributes:
        name: Dotted, without hyphens, e.g. "model.objective.init_args.dice_weight".
        kind: A key of `DISTRIBUTIONS`.
        settings: What the kind takes, defaults filled in.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]

    @property
    def is_constant(self) -> bool:
        """Whether every trial has the same value."""
        return self.kind == "constant"

    @property
    def choices(self) -> list[Any] | None:
        """All values that a grid tries, in order, each once; None for what has no end."""
        settings = self.settings
        if self.kind == "constant":
            return [settings["value"]]
        if self.kind == "categorical":
            return [one for number, one in enumerate(settings["values"]) if one not in settings["values"][:number]]
        if self.kind == "int_uniform":
            return list(range(settings["min"], settings["max"] + 1))
        if self.kind == "q_uniform":  # as W&B: from the minimum in steps of q, the maximum left out
            steps = math.ceil((settings["max"] - settings["min"]) / settings["q"])
            return [settings["min"] + number * settings["q"] for number in range(steps)]
        return None

    def at(self, share: float) -> Any:
        """The value below which this share of the distribution lies.

        Args:
            share: 0 to 1, both left out where the distribution has no end.
        """
        settings = self.settings
        if self.kind == "constant":
            return settings["value"]
        if self.kind.startswith("categorical"):
            values = self.settings["values"]
            weights = self.settings.get("probabilities") or [1 / len(values)] * len(values)
            below = 0.0
            for value, weight in zip(values, weights, strict=True):
                below += weight
                if share < below:
                    return value
            return values[-1]
        if self.kind == "int_uniform":
            return min(settings["min"] + int(share * (settings["max"] + 1 - settings["min"])), settings["max"])
        if self.kind in ("normal", "q_normal"):
            value = NormalDist(settings["mu"], settings["sigma"]).inv_cdf(share)
        else:
            low, high = settings["min"], settings["max"]
            if "log_uniform_values" in self.kind:
                low, high = math.log(low), math.log(high)
            value = low + (high - low) * share
            if "log_uniform" in self.kind:  # without "_values" its bounds are exponents of e
                value = math.exp(value)
        if "q" not in settings:
            return value
        number = round(value / settings["q"]) * settings["q"]
        return int(number) if isinstance(settings["q"], int) else number


def read_parameters(given: Any, prefix: str = "") -> list[Parameter]:
    """The `parameters:` of a sweep file, nested ones by their dotted name.

    Raises:
        UsageError: A parameter is not understood.
    """
    if not isinstance(given, dict) or not given:
        of = f" of {prefix[:-1]}" if prefix else ""
        raise UsageError(f"parameters{of}: expected 'name: {{values: [...]}}' lines")
    found: list[Parameter] = []
    for key, settings in given.items():
        name = f"{prefix}{key}"
        if not isinstance(settings, dict):
            raise UsageError(f"parameter {name}: expected 'value:', 'values:' or a distribution, found {settings!r}")
        if set(settings) == {"parameters"}:
            found.extend(read_parameters(settings["parameters"], f"{name}."))
        else:
            found.append(_parameter(name, settings))
    return found


def _parameter(name: str, settings: dict[str, Any]) -> Parameter:
    """One parameter, its kind found as W&B finds it."""
    kind = settings.get("distribution") or _kind(name, settings)
    if kind == "categorical" and "probabilities" in settings:
        kind = "categorical_w_probabilities"
    if kind not in DISTRIBUTIONS:
        raise UsageError(f"parameter {name}: distribution {kind} is not run here; {nearest(str(kind), DISTRIBUTIONS)}")
    takes = DISTRIBUTIONS[kind]
    rest = {key: value for key, value in settings.items() if key != "distribution"}
    unknown = [key for key in rest if key not in takes]
    missing = [key for key in takes if key not in rest and key not in DEFAULTS]
    if unknown or missing:
        found = ", ".join(rest) or "nothing"
        raise UsageError(f"parameter {name}: {kind} takes {', '.join(takes)}; found {found}")
    filled: dict[str, Any] = {key: rest.get(key, DEFAULTS.get(key)) for key in takes}
    numbers = {key: value for key, value in filled.items() if key not in ("value", "values", "probabilities")}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"parameter {name}: {key} is {value!r}; expected a number (in YAML with a dot: 1.0e-4)")
    if "values" in filled:
        _check_values(name, filled["values"], filled.get("probabilities"))
    if kind == "int_uniform" and not all(type(filled[key]) is int for key in ("min", "max")):
        raise UsageError(f"parameter {name}: int_uniform needs whole numbers for min and max")
    if "min" in filled and not filled["min"] < filled["max"]:
        raise UsageError(f"parameter {name}: min {filled['min']} is not below max {filled['max']}")
    if kind.endswith("log_uniform_values") and filled["min"] <= 0:
        raise UsageError(f"parameter {name}: {kind} needs a min above 0, found {filled['min']}")
    for key in ("q", "sigma"):
        if key in filled and filled[key] <= 0:
            raise UsageError(f"parameter {name}: {key} is {filled[key]}; expected a number above 0")
    return Parameter(name, kind, filled)


def _kind(name: str, settings: Mapping[str, Any]) -> str:
    if "value" in settings:
        return "constant"
    if "values" in settings:
        return "categorical"
    if "min" in settings and "max" in settings:
        return "int_uniform" if all(type(settings[key]) is int for key in ("min", "max")) else "uniform"
    raise UsageError(
        f"parameter {name}: expected value, values, min and max, or distribution; "
        f"found {', '.join(settings) or 'nothing'}"
    )


def _check_values(name: str, values: Any, probabilities: Any) -> None:
    if not isinstance(values, list) or not values:
        raise UsageError(f"parameter {name}: values is {values!r}; expected a list of at least one")
    if probabilities is None:
        return
    sound = isinstance(probabilities, list) and all(isinstance(one, int | float) and one >= 0 for one in probabilities)
    if not sound or len(probabilities) != len(values) or not math.isclose(sum(probabilities), 1.0, rel_tol=1e-6):
        expected = f"expected {len(values)} that add up to 1"
        raise UsageError(f"parameter {name}: probabilities are {probabilities!r}; {expected}")
