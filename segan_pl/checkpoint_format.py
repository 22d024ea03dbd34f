"""What a checkpoint of ours holds beyond Lightning's: format version, data preparation, random state, settings."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from segan_pl import __version__

if TYPE_CHECKING:
    from segan_pl.system import AdversarialSegmentation

FORMAT = 1
KEY = "segan_pl"


class CheckpointMismatchError(ValueError):
    """A checkpoint that does not fit this model; the message names the differing keys."""


def pack(system: AdversarialSegmentation, checkpoint: dict[str, Any]) -> None:
    """Add our part: only tensors, numbers, strings, lists and dictionaries, so that it loads with weights only."""
    data = getattr(system.trainer, "datamodule", None)
    checkpoint[KEY] = {
        "format": FORMAT,
        "version": __version__,
        "data": data.describe() if data is not None else {},
        "initialised_from": system.initialised_from,
        "batches_seen": system.batches_seen,
        "groups_seen": system.groups_seen,
        "settings": [optimizer_settings(optimizer) for optimizer in system.trainer.optimizers],
        "optimizers": [type(optimizer).__name__ for optimizer in system.trainer.optimizers],
        "schedulers": [type(config.scheduler).__name__ for config in system.trainer.lr_scheduler_configs],
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
        "config": getattr(system, "config_text", ""),
    }


def unpack(system: AdversarialSegmentation, checkpoint: dict[str, Any]) -> None:
    """Check and restore our part, before Lightning loads weights and optimisers.

    Raises:
        CheckpointMismatchError: Another format, another label scheme or other modalities, or weights that do not fit.
    """
    ours = checkpoint.get(KEY)
    if ours is None or ours.get("format") != FORMAT:
        found = "no segan_pl part" if ours is None else f"format {ours.get('format')}"
        raise CheckpointMismatchError(f"the checkpoint has {found}, this version reads format {FORMAT}; train anew")
    data = getattr(system._trainer, "datamodule", None)
    if data is not None:
        now = data.describe()
        for key in ("modalities", "labels", "preparation"):
            before = ours["data"].get(key, now[key])
            allowed = key == "modalities" and system.allow_other_modalities and len(before) == len(now[key])
            if before != now[key] and not allowed:
                raise CheckpointMismatchError(
                    f"the checkpoint was trained with {key} {ours['data'][key]}, the configuration says {now[key]}; "
                    f"set --data.{key} alike"
                )
    require_same_weights(system, checkpoint["state_dict"])
    system.initialised_from = ours.get("initialised_from")
    system.batches_seen, system.groups_seen = ours["batches_seen"], ours["groups_seen"]
    if system._trainer is not None and system.trainer.state.fn == "fit":
        torch.set_rng_state(ours["random"]["cpu"])
        if torch.cuda.is_available() and len(ours["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(ours["random"]["cuda"])
        let_settings_win(system.configure_optimizers(), checkpoint, ours)  # Lightning's own come later


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
    with (its length, say) is always the present configuration's; where it stands is the checkpoint's. An optimiser or a
    schedule of another class than the checkpoint's starts anew.
    """
    optimizers, schedulers = configured if isinstance(configured, tuple) else (configured, [])
    same_schedule = ours["schedulers"] == [type(scheduler).__name__ for scheduler in schedulers]
    checkpoint["lr_schedulers"] = [
        {**(state if same_schedule else {}), **_built_with(scheduler, everything=not same_schedule)}
        for state, scheduler in zip(checkpoint["lr_schedulers"] or [{}] * len(schedulers), schedulers, strict=False)
    ]
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
            group.update(
                {
                    key: optimizer.param_groups[0][key]
                    for key in ("lr", "initial_lr")
                    if key in optimizer.param_groups[0]
                }
            )
        elif "lr" in changed:
            group["lr"] = group["lr"] * now["lr"] / restored if restored else now["lr"]
        if schedulers and same_schedule:
            state = checkpoint["lr_schedulers"][number]
            group["initial_lr"], state["base_lrs"] = now["lr"], [now["lr"]]
            group["lr"] = _scheduled_rate(schedulers[number], state, otherwise=group["lr"])


def _scheduled_rate(scheduler: Any, state: dict[str, Any], *, otherwise: float) -> float:
    """The rate that the schedule, as it is set now, gives where it stands; a schedule made longer leaves 0 again."""
    if not hasattr(scheduler, "_get_closed_form_lr"):
        return otherwise
    scheduler.load_state_dict(state)
    (rate,) = scheduler._get_closed_form_lr()
    return float(rate)


def _built_with(scheduler: Any, *, everything: bool) -> dict[str, Any]:
    """A scheduler's state, or only what its constructor takes."""
    built_with = inspect.signature(type(scheduler)).parameters.keys() - {"optimizer", "last_epoch"}
    return {key: value for key, value in scheduler.state_dict().items() if everything or key in built_with}


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
