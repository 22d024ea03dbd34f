"""The part of the LightningModule that a checkpoint is saved of and loaded into, and what of ours it holds.

Beyond Lightning's own: a format version, how the data are prepared, the random state, and the settings.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
import yaml
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from segan_pl import __version__
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.source import case_source
from segan_pl.inference.checkpoint_file import FORMAT, KEY, other_format
from segan_pl.recipe import Recorded
from segan_pl.training.phase_loop import PhaseLoop
from segan_pl.training.schedules import moved


class CheckpointMismatchError(ValueError):
    """A checkpoint that does not fit this model; the message names the differing keys."""


class SavedSystem(Recorded, PhaseLoop):
    """Saving and loading; `AdversarialSegmentation` sets the attributes.

    Attributes:
        initialised_from: What the run began with, see `initialising.initialise`; None for random weights.
        allow_other_modalities: Whether a checkpoint that is scored may have been trained on other modalities.
        config_text: The configuration of a run of `segan_pl fit`; empty where the recipe says it.
        began: Whether there are weights to begin with, so that nothing pretrained is loaded any more.
    """

    initialised_from: dict[str, Any] | None
    allow_other_modalities: bool
    config_text: str
    began: bool

    def channels(self, network: str) -> dict[str, int]:
        """What a network's factory is called with."""
        raise NotImplementedError

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add our part: only tensors, numbers, strings, lists and dictionaries, so that it loads with weights only."""
        data, trainer = case_source(self.trainer), self.trainer
        if data is not None:
            described = data.describe()
        else:  # what a system knows of its data by itself
            scheme, patch = self.scheme, {} if self.patch is None else {"patch": list(self.patch)}
            names = {"modalities": self.modalities, "labels": scheme.target, "native_labels": scheme.convention.name}
            described = {**names, **patch}
        # Of a system that no command line made; what its data say is not repeated in its model.
        model = {name: value for name, value in self.recipe.items() if name not in ("modalities", "labels", "patch")}
        settings: dict[str, Any] = {"model": model, "trainer": {"precision": str(trainer.precision)}}
        if isinstance(data, Recorded):
            settings["data"] = data.recipe
        checkpoint[KEY] = {
            "format": FORMAT,
            "version": __version__,
            "data": described,
            "joined": self._joined(),
            "channels": {name: self.channels(name) for name in self.networks},
            "initialised_from": self.initialised_from,
            "batches_seen": self.batches_seen,
            "groups_seen": self.groups_seen,
            "settings": [optimizer_settings(optimizer) for optimizer in trainer.optimizers],
            "optimizers": [type(optimizer).__name__ for optimizer in trainer.optimizers],
            "schedulers": [type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs],
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
            "config": self.config_text or yaml.safe_dump(settings, sort_keys=False),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check and restore our part, before Lightning loads weights and optimisers; let explicit settings win.

        Raises:
            CheckpointMismatchError: Another format, another label scheme or other modalities, weights that do not fit,
                or a run that goes on with its networks in another order.
        """
        ours = checkpoint.get(KEY)
        if not isinstance(ours, dict) or ours.get("format") != FORMAT:
            found = (
                other_format(ours.get("format")) if isinstance(ours, dict) else "no segan_pl part; give one of a run"
            )
            raise CheckpointMismatchError(f"the checkpoint has {found}")
        prepared = ours["data"].get("preparation")
        self.trained_background = Preparation.from_dict(prepared).background if prepared is not None else 0.0
        self.began = True  # with these weights
        self._require_same_data(ours["data"])
        require_same_weights(self, checkpoint["state_dict"])
        self.initialised_from = ours.get("initialised_from")
        self.batches_seen, self.groups_seen = ours["batches_seen"], ours["groups_seen"]
        if self._trainer is None or self.trainer.state.fn != "fit":
            return
        # A checkpoint holds optimisers and schedules in an order, without names.
        if (order := list(ours["channels"])) != list(self.networks):
            raise CheckpointMismatchError(
                f"the checkpoint's networks are {', '.join(order)}, in this order, which its optimisers have too; the "
                f"objective {type(self.objective).__name__} has them in the order {', '.join(self.networks)}"
            )
        notes = [self._rejoin(checkpoint, ours.get("joined"))]
        torch.set_rng_state(ours["random"]["cpu"])
        if torch.cuda.is_available() and len(ours["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(ours["random"]["cuda"])
        before = checkpoint.get("lr_schedulers", [])
        # Lightning builds its own optimisers after this.
        let_settings_win(self.configure_optimizers(), checkpoint, ours)
        notes += [moved(*states) for states in zip(before, checkpoint["lr_schedulers"], strict=False)]
        for note in dict.fromkeys(filter(None, notes)):
            rank_zero_info(note)

    def _require_same_data(self, before: Mapping[str, Any]) -> None:
        """Refuse data of other modalities, labels or preparation than the checkpoint's; a system without data has none.

        Raises:
            CheckpointMismatchError: With the options that make them alike.
        """
        data = case_source(self._trainer)
        if data is None:
            return
        now = data.describe()
        for key in ("modalities", "labels"):
            found = before.get(key, now[key])
            can_be_others = key == "modalities" and len(found) == len(now[key])
            if found != now[key] and not (can_be_others and self.allow_other_modalities):
                scoring = can_be_others and self.trainer.state.fn != "fit"
                other = ", or add --other_modalities allow to score it on these" if scoring else ""
                raise CheckpointMismatchError(
                    f"the checkpoint was trained with {key} {found}, the configuration says {now[key]}; "
                    f"set --data.{key} alike{other}"
                )
        prepared = now["preparation"]
        former, present = differing_preparation(before.get("preparation", prepared), prepared)
        if former:
            flags = as_typed({f"--data.preparation.{key}": value for key, value in former.items()}, " ")
            raise CheckpointMismatchError(
                f"the checkpoint was trained with preparation {as_typed(former)}, the configuration says "
                f"{as_typed(present)}; set {flags}"
            )

    def _joined(self) -> dict[str, int]:
        """What one step of all ranks takes: their number, and what each puts into it."""
        data = case_source(self.trainer)
        return {"ranks": self.trainer.world_size, "batch_size": data.batch_size if data is not None else 0}

    def _rejoin(self, checkpoint: dict[str, Any], before: dict[str, int] | None) -> str | None:
        """Let an epoch that was broken off begin again where a step takes another joined batch than the checkpoint's.

        Returns:
            A note; None where a step takes what it took.
        """
        now = self._joined()
        if before is None or before == now:
            return None
        old, new = (f"{n['ranks']} x {n['batch_size']} = {n['ranks'] * n['batch_size']}" for n in (before, now))
        note = (
            f"note: the joined batch (ranks x --data.batch_size) was {old} until this checkpoint and is {new} from here"
        )
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        if not progress["is_last_batch"] and progress["current"]["processed"]:
            # Its place counts batches of another size; and without the second line Lightning completes one more batch.
            progress["current"] = dict.fromkeys(progress["current"], 0)
            progress["total"]["completed"] = progress["total"]["processed"]
            note += f"; epoch {checkpoint['epoch']}, broken off within, begins again with its first batch"
        return f"{note}; what it learns is not what the same number would have learnt"


def differing_preparation(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that differ, as they were and as they are."""
    former = {**now, **before}
    keys = [key for key in former if former[key] != now.get(key)]
    return {key: former[key] for key in keys}, {key: now.get(key) for key in keys}


def as_typed(settings: Mapping[str, Any], joint: str = ", ") -> str:
    """Settings as on a command line: "crop null, spacing_mm [1,1,3]"."""
    said = {
        key: one if isinstance(one, str) else json.dumps(one, separators=(",", ":")) for key, one in settings.items()
    }
    return joint.join(f"{key} {value}" for key, value in said.items())


def optimizer_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The settings an optimiser was built with (learning rate, decay, ...), of its first group."""
    group = optimizer.param_groups[0]
    settings = {key: group[key] for key in optimizer.defaults if key in group}
    if "initial_lr" in group:
        settings["lr"] = group["initial_lr"]
    return {key: value for key, value in settings.items() if isinstance(value, (int, float, bool, tuple, str))}


def let_settings_win(configured: Any, checkpoint: dict[str, Any], ours: dict[str, Any]) -> None:
    """Where a setting was changed since the checkpoint was written, the new value wins over the restored one.

    A learning rate under a schedule keeps the schedule's progress: it is scaled by new / old. What a schedule is built
    with (its length, say) is always the current configuration's; how far it has come is the checkpoint's. An optimiser
    or a schedule of another class than the checkpoint's starts again.
    """
    optimizers, schedulers = configured if isinstance(configured, tuple) else (configured, [])
    same_schedule = ours["schedulers"] == [type(scheduler).__name__ for scheduler in schedulers]
    before = checkpoint["lr_schedulers"] or [{}] * len(schedulers)
    checkpoint["lr_schedulers"] = states = []
    for state, scheduler in zip(before, schedulers, strict=False):
        built_with = inspect.signature(type(scheduler)).parameters.keys() - {"optimizer", "last_epoch"}
        now = scheduler.state_dict()
        own = {key: value for key, value in now.items() if key in built_with}
        states.append({**state, **own} if same_schedule else now)
    for number, optimizer in enumerate(optimizers):
        if ours["optimizers"][number] != type(optimizer).__name__:
            checkpoint["optimizer_states"][number] = optimizer.state_dict()
            continue
        now, before = optimizer_settings(optimizer), ours["settings"][number]
        changed = {key: value for key, value in now.items() if before.get(key, value) != value}
        (group,) = checkpoint["optimizer_states"][number]["param_groups"]  # our optimisers have one
        restored = group.get("initial_lr")
        group.update({key: value for key, value in changed.items() if key != "lr"})
        if not same_schedule:
            fresh = optimizer.param_groups[0]
            group.update({key: fresh[key] for key in ("lr", "initial_lr") if key in fresh})
        elif "lr" in changed:
            group["lr"] = group["lr"] * now["lr"] / restored if restored else now["lr"]
        if schedulers and same_schedule:
            state, scheduler = states[number], schedulers[number]
            group["initial_lr"], state["base_lrs"] = now["lr"], [now["lr"]]
            # The rate that the schedule, as it is set now, gives for this epoch: one made longer leaves 0 again.
            if hasattr(scheduler, "_get_closed_form_lr"):
                scheduler.load_state_dict(state)
                (rate,) = scheduler._get_closed_form_lr()
                group["lr"] = float(rate)


def require_same_weights(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Raise CheckpointMismatchError with the differing keys unless names and shapes agree."""
    here = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in weights.items()}
    differing = [
        f"{name} (checkpoint {there.get(name, 'lacks it')}, model {here.get(name, 'lacks it')})"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise CheckpointMismatchError(f"the checkpoint is for another network: {'; '.join(differing[:3])}{more}")
