"""SegAN-CAT's experiments as trials: what has to be trained and scored for which cell of which table."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from segan_pl.experiments.paper_plan import SOURCE, SYSTEMS, Cell, PaperStudy, sibling
from segan_pl.experiments.trials import Trial, run_folder
from segan_pl.shipped import find_config

WEIGHTS = {"t1": ".25", "t1ce": ".25", "t2": ".5", "flair": ".5"}  # the authors' weighted vote
LIMIT = 300  # epochs of fine tuning at most; paper, section V-C


def expand(study: PaperStudy) -> tuple[list[Trial], list[Cell]]:
    """All trials, each after those that it needs, and all cells of the tables in their order.

    Raises:
        UsageError: As `require_possible`.
    """
    study.require_possible()
    plans = [_Replicate(study, seed) for seed in study.seeds]
    cells: dict[tuple[str, ...], Cell] = {}
    for plan in plans:
        for cell, name in plan.cells():
            before = cells.get(cell.key, cell)
            cells[cell.key] = Cell(*cell.key, trials={**before.trials, plan.seed: name})  # type: ignore[arg-type]
    return [trial for plan in plans for trial in plan.trials.values()], list(cells.values())


class _Replicate:
    """The trials of one seed; asking for a model adds what trains it, once."""

    def __init__(self, study: PaperStudy, seed: int) -> None:
        self.study = study
        self.seed = seed
        self.trials: dict[str, Trial] = {}

    def cells(self) -> list[tuple[Cell, str]]:
        """Every cell of the asked tables, and the trial that scores it."""
        builders = {
            "I": self._systems,
            "II": self._modalities,
            "figure2": self._crossed,
            "III": self._transfers,
            "voting": self._votes,
        }
        return [found for table in self.study.tables for found in builders[table]()]

    # -- tables

    def _systems(self) -> list[tuple[Cell, str]]:
        whole = self.study.whole
        return [(Cell("I", base, whole, whole), self._scored(self._fit(whole, base))) for base in SYSTEMS]

    def _modalities(self) -> list[tuple[Cell, str]]:
        trained = (*self.study.modalities, self.study.whole)
        return [(Cell("II", self.study.base, on, on), self._scored(self._fit(on))) for on in trained]

    def _crossed(self) -> list[tuple[Cell, str]]:
        pairs = [(own, other) for own in self.study.modalities for other in self.study.modalities]
        return [(Cell("figure2", self.study.base, own, other), self._on_other(own, other)) for own, other in pairs]

    def _transfers(self) -> list[tuple[Cell, str]]:
        pairs = [(target, way) for target in self.study.targets for way in self.study.ways]
        return [
            (Cell("III", self.study.base, SOURCE, target, way), self._scored(self._transfer(target, way)))
            for target, way in pairs
        ]

    def _votes(self) -> list[tuple[Cell, str]]:
        study, found = self.study, []
        if len(study.targets) > 1:
            found.append(self._vote("majority", {one: self._fit(one) for one in study.targets}))
        found.append(self._vote("weighted", {one: self._fit(one) for one in study.modalities}))
        if SOURCE in study.modalities and len(study.targets) > 1:
            way = "critic_input" if "critic_input" in study.ways else study.ways[0]
            tuned = {one: self._transfer(one, way) for one in study.targets}
            found += [self._vote("majority", tuned, way), self._vote("weighted", tuned, way)]
        return found

    # -- one trial each; returns its name

    def _add(self, trial: Trial) -> str:
        return self.trials.setdefault(trial.name, trial).name

    def _fit(self, trained_on: str, base: str | None = None) -> str:
        study = self.study
        base = base or study.base
        system = study.system if base == study.base else sibling(study.system, base)
        short = "all" if trained_on == study.whole else trained_on
        values = {"system": base, "trained_on": trained_on, "seed": self.seed}
        return self._add(
            Trial(f"{base}_{short}_seed{self.seed}", self._fit_arguments(system, trained_on), values=values)
        )

    def _fit_arguments(self, system: str, modalities: str, preset: str | None = None) -> tuple[str, ...]:
        study, seed = self.study, str(self.seed)
        files = [system, *([preset] if preset else []), *study.configs]
        return (
            "fit",
            *(part for file in files for part in ("--config", file)),
            *study.data,
            *("--data.modalities", f"[{modalities.replace('+', ',')}]"),
            *("--data.split_file", str(study.directory / "split.json"), "--data.split_leftovers", "ignore"),
            *("--seed_everything", seed, "--data.seed", seed),
            *(_fewer_epochs(study) if preset else ()),
            *study.extra,
        )

    def _transfer(self, target: str, way: str) -> str:
        source = self._fit(SOURCE)
        fit = self._fit_arguments(self.study.system, target, f"transfer_{way}")
        values = {"trained_on": SOURCE, "fine_tuned_to": target, "way": way, "seed": self.seed}
        return self._add(
            Trial(
                f"{SOURCE}_to_{target}_{way}_seed{self.seed}",
                (*fit, "--init_from", f"{{best:{source}}}"),
                values=values,
            )
        )

    def _scored(self, fit: str) -> str:
        """The trial with a fit's scores: itself, by its best checkpoint's validation, or a test on held-out cases."""
        if not self.study.has_test:
            return fit
        name = f"test_{fit}"  # so that "<fit>_seed*" names the seeds' runs alone
        return self._add(Trial(name, self._test_arguments(fit, name), values={"tests": fit}))

    def _test_arguments(self, fit: str, name: str) -> tuple[str, ...]:
        """A folder of its own: in that of the model, several tables of scores would stand beside each other."""
        return (
            "test",
            "--ckpt_path",
            f"{{best:{fit}}}",
            "--run.directory",
            str(run_folder(self.study.directory, name)),
        )

    def _on_other(self, own: str, other: str) -> str:
        name = f"{own}_on_{other}_seed{self.seed}"
        asked = ("--data.modalities", f"[{other}]", "--other_modalities", "allow")
        values = {"trained_on": own, "tested_on": other, "seed": self.seed}
        return self._add(Trial(name, (*self._test_arguments(self._fit(own), name), *asked), values=values))

    def _vote(self, kind: str, voters: Mapping[str, str], way: str = "") -> tuple[Cell, str]:
        """`predict` and `evaluate` over the scored cases; `voters` is modality to fit."""
        study = self.study
        name = f"vote_{kind}{'_transferred' if way else ''}_seed{self.seed}"
        manifest, masks = str(study.directory / "scored_cases.csv"), str(study.directory / "votes" / name)
        weights = [WEIGHTS[one] if kind == "weighted" else "1" for one in voters]
        predict = (
            *("predict", "--ckpt_path", *(f"{{best:{fit}}}" for fit in voters.values())),
            *("--combine", "vote", "--weights", *(f"{float(weight):g}" for weight in weights)),
            *("--postprocess", "[]", "--input", manifest, "--output", masks),
        )
        folder = str(run_folder(study.directory, name))
        evaluate = ("evaluate", "--pred", masks, "--ref", manifest, "--output", folder, *study.labels)
        predicted = self._add(Trial(f"{name}_masks", predict, values={"vote": kind, "seed": self.seed}))
        self._add(Trial(name, evaluate, after=(predicted,), values={"vote": kind, "seed": self.seed}))
        of = "of flair-transferred " if way else ""
        words = " ".join(f"{one} {WEIGHTS[one]}" for one in voters) if kind == "weighted" else "+".join(voters)
        joined = "+".join(voters)
        return Cell("voting", f"{kind} vote {of}{words}", joined, joined, way), name


def _fewer_epochs(study: PaperStudy) -> tuple[str, ...]:
    """Fine tuning is no longer than the training from scratch that it is compared with, and at most `LIMIT` epochs."""
    found = None
    for name in (study.system, *study.configs):
        settings = yaml.safe_load(find_config(name).read_text(encoding="utf-8")) or {}
        found = (settings.get("trainer") or {}).get("max_epochs", found)
    return ("--trainer.max_epochs", str(min(found, LIMIT))) if isinstance(found, int) and found > 0 else ()
