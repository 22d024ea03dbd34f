"""The runs of a plan on some data: asking for one adds it, and those that it needs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.plan.parts import require_choice
from segan_pl.experiments.plan.placeholders import UNKNOWN, LeftOutError, Names, combinations, option_text, text
from segan_pl.experiments.plan.plan import Kind, Plan, RunPlan
from segan_pl.experiments.plan.study import Study
from segan_pl.experiments.runs import PLACEHOLDER, Run, run_folder
from segan_pl.experiments.shipped import find_config

ATLASES = ("vote", "mixture")
SPLIT_FILES = {"one": "split.json", "folds": "folds.json", "named": "training.json"}
"""Of the fits, by the kind of split; what names the test cases too is split.json."""


class PlanRuns:
    """Asking for a run adds it and those that it needs, once.

    Args:
        study: What is asked for.
        strict: Whether a run that is not there is a mistake of the plan, and not of the data.

    Attributes:
        runs: Name to run, each after those that it needs.
        patterns: Name without the seed to its pattern and what its placeholders stand for.
        masks: Where predicted masks lie.
        tests: A training to the test that scores it, where the split has a test part.
    """

    def __init__(self, study: Study, *, strict: bool = False) -> None:
        self.study = study
        self.strict = strict
        self.masks = study.directory / "masks"
        self.runs: dict[str, Run] = {}
        self.patterns: dict[str, tuple[RunPlan, Names]] = {}
        self._left_out: list[str] = []
        self._under_way: list[str] = []
        for pattern in study.plan.runs.values():
            try:
                for variables in combinations(pattern.each, self.study.names, f"run {pattern.name}"):
                    names: Names = {**self.study.names, **variables}
                    if (name := text(pattern.name, names)) in self.patterns:
                        raise UsageError(
                            f"{self.study.plan.name}: two runs are named {name}; name every variable of each "
                            f"in a run's name"
                        )
                    self.patterns[name] = (pattern, names)
            except LeftOutError as why:
                self._left_out.append(str(why))
        fits = [(name, names) for name, (pattern, names) in self.patterns.items() if pattern.kind == "fit"]
        # so that "<fit>_seed*" names the seeds' runs alone
        self.tests = {name: f"test_{name}" for name, _ in fits} if study.has_test else {}
        for name, names in fits if study.has_test else ():
            self.patterns.setdefault(f"test_{name}", (RunPlan(f"test_{name}", "test", (name,)), names))

    def run(self, name: str, seed: int, kinds: Sequence[Kind] = get_args(Kind)) -> str:
        """Add a run and what it needs; its whole name.

        Args:
            name: Without its seed.
            seed: Of the run.
            kinds: Those that will do where it is asked for.

        Raises:
            UsageError: It is of another kind, or needs itself.
            LeftOutError: It cannot be made on these data.
        """
        whole = f"{name}_seed{seed}"
        pattern, names = self.pattern(name)
        if pattern.kind not in kinds:
            raise UsageError(
                f"{self.study.plan.name}: run {name} is a {pattern.kind}; expected a {' or '.join(kinds)} here"
            )
        if name in self._under_way:
            chain = " -> ".join([*self._under_way[self._under_way.index(name) :], name])
            raise UsageError(f"{self.study.plan.name}: a run needs itself: {chain}")
        if whole not in self.runs:
            builders: dict[str, Callable[[str, RunPlan, Names, int], Run]] = {
                "fit": self._fit,
                "test": self._test,
                "predict": self._predict,
                "evaluate": self._evaluate,
                "atlas": self._atlas,
            }
            self._under_way.append(name)
            try:
                self.runs[whole] = builders[pattern.kind](whole, pattern, {**names, "seed": seed}, seed)
            finally:
                self._under_way.pop()
        return whole

    def needed_by(self, names: Iterable[str]) -> tuple[Run, ...]:
        """Runs that were asked for, and all that these need; whole names."""
        found: dict[str, Run] = {}
        left = list(names)
        while left:
            if (name := left.pop()) not in found:
                found[name] = self.runs[name]
                left += found[name].needs
        return tuple(found.values())

    def pattern(self, name: str) -> tuple[RunPlan, Names]:
        """What a name, without the seed, means.

        Raises:
            UsageError: The plan has no such run.
            LeftOutError: It has none on these data.
        """
        if name in self.patterns:
            return self.patterns[name]
        if self.strict:
            raise UsageError(f"{self.study.plan.name}: no run {name}; {nearest(name, self.patterns)}")
        if self.study.lacking:
            raise LeftOutError(f"the data have no {', '.join(self.study.lacking)}")
        raise LeftOutError("; ".join([f"no run {name}", *self._left_out]))

    def _fit(self, name: str, pattern: RunPlan, names: Names, seed: int) -> Run:
        study = self.study
        own = [lasting(text(file, names)) for file in pattern.of]
        files = [*own, *study.configs]
        paths = [config_file(study.plan, file) for file in files if UNKNOWN not in file]
        split = SPLIT_FILES.get(study.plan.split)
        kept = ("--data.split_file", str(study.directory / split), "--data.split_leftovers", "ignore") if split else ()
        if study.plan.split == "named":
            kept = (*kept, "--data.val_fraction", "0", "--data.unlabelled", "use")
        out: list[str] = []
        for option, limit in pattern.at_most.items():
            found: Any = math.inf
            for file in [*paths[:1], *paths[len(own) :]]:
                settings = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
                for key in option.split("."):
                    settings = settings.get(key) if isinstance(settings, Mapping) else None
                found = settings if isinstance(settings, int) and settings > 0 else found
            out += [f"--{option}", str(min(found, limit))]
        arguments = (
            "fit",
            *(part for file in files for part in ("--config", file)),
            *study.data,
            *self._options(pattern, names, seed),
            *kept,
            *("--seed_everything", str(seed), "--data.seed", str(seed)),
            *out,
            *study.extra,
        )
        return Run(name, arguments, values={"seed": seed})

    def _test(self, name: str, pattern: RunPlan, names: Names, seed: int) -> Run:
        """Into a folder of its own: in that of the model, there would be several tables of scores."""
        checkpoint = self._checkpoint(text(pattern.of[0], names), pattern, seed)
        folder = str(run_folder(self.study.directory, name))
        arguments = ("test", "--ckpt_path", checkpoint, "--run.directory", folder)
        return Run(name, (*arguments, *self._options(pattern, names, seed)), values={"seed": seed})

    def _predict(self, name: str, pattern: RunPlan, names: Names, seed: int) -> Run:
        together = [{**names, **variables} for variables in combinations(pattern.pool, names, pattern.name)]
        if pattern.pool and len(together) < 2 and not self.strict:
            raise LeftOutError("several models are needed")
        models = [self._checkpoint(text(pattern.of[0], one), pattern, seed) for one in together]
        arguments = (
            *("predict", "--ckpt_path", *models),
            *("--root", self._cases(pattern, names), "--output", f"{self.masks}/{name}"),
            *self._options(pattern, names, seed),
        )
        return Run(name, arguments, values={"seed": seed})

    def _evaluate(self, name: str, pattern: RunPlan, names: Names, seed: int) -> Run:
        predicted = text(pattern.of[0], names)
        masks = self.run(predicted, seed, ("predict", "atlas"))
        folder = str(run_folder(self.study.directory, name))
        cases = self._cases(*self.pattern(predicted))
        arguments = ("evaluate", "--pred", f"{self.masks}/{masks}", "--root", cases, "--output", folder)
        return Run(name, (*arguments, *self._options(pattern, names, seed)), after=(masks,), values={"seed": seed})

    def _atlas(self, name: str, pattern: RunPlan, names: Names, seed: int) -> Run:
        study = self.study
        if study.plan.split not in ("one", "named"):
            raise UsageError(f"{study.plan.name}: run {pattern.name}: an atlas needs split one or named")
        require_choice(f"{study.plan.name}: run {pattern.name}: atlas", text(pattern.of[0], names), ATLASES)
        arguments = (
            *("atlas", *study.data, "--split_file", str(study.directory / "split.json")),
            *("--method", text(pattern.of[0], names), "--output", f"{self.masks}/{name}"),
            *self._options(pattern, names, seed),
        )
        return Run(name, arguments, values={"seed": seed})

    def _checkpoint(self, name: str, pattern: RunPlan, seed: int) -> str:
        whole = self.run(name, seed, ("fit",))
        return f"{{best:{whole}}}" if pattern.checkpoint == "best" else f"{{run:{whole}}}/checkpoints/last.ckpt"

    def _cases(self, pattern: RunPlan, names: Names) -> str:
        if pattern.cases is not None:
            return lasting(text(pattern.cases, names), Path.exists)
        if self.study.plan.split == "none":
            raise UsageError(
                f"{self.study.plan.name}: run {pattern.name}: with split none the study scores no cases of its own; "
                f"expected cases, the data to predict"
            )
        fold = f"_fold{names['fold']}" if self.study.plan.split == "folds" and "fold" in names else ""
        return str(self.study.directory / f"scored_cases{fold}.csv")

    def _options(self, pattern: RunPlan, names: Names, seed: int) -> list[str]:
        """A command's options; a placeholder of a run adds that run."""

        def with_seed(match: re.Match[str]) -> str:
            return f"{{{match[1]}:{self.run(match[2], seed)}}}"

        out: list[str] = []
        for option, value in pattern.options.items():
            if isinstance(value, list) and len(value) == 1 and pattern.pool:
                together = combinations(pattern.pool, names, pattern.name)
                out += [f"--{option}", *(text(str(value[0]), {**names, **variables}) for variables in together)]
            else:
                out += [f"--{option}", PLACEHOLDER.sub(with_seed, option_text(value, names))]
        return out


def lasting(name: str, is_there: Callable[[Path], bool] = Path.is_file) -> str:
    """A path from everywhere of what is there; else a name as it is: a folder lgg does not hide the shipped file."""
    path = Path(name).expanduser()
    return str(path.resolve()) if is_there(path) else name


def config_file(plan: Plan, name: str) -> Path:
    """The configuration file that a plan means.

    Raises:
        UsageError: There is none; with the nearest.
    """
    try:
        return find_config(name)
    except UsageError as error:
        raise UsageError(str(error).replace("--config", f"{plan.name}:", 1)) from error
