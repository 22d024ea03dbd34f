"""A trained segmentor out of its checkpoint alone: network, weights, modalities, labels, preparation."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor, nn

from segan_pl.checkpoint_file import CheckpointError, read_checkpoint
from segan_pl.checkpoint_format import FORMAT, KEY
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.data.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference.windows import Windows
from segan_pl.players import to_channels_last
from segan_pl.presence import Presence, require_presence, segmentor_channels

NETWORKS = ("segan_pl.nets.", "monai.networks.nets.")
"""Where a checkpoint's network may come from; a user's own packages are added by SEGAN_PL_ALLOW_IMPORTS."""
PLAYER, AVERAGED = "players.segmentor.", "averaged.module."
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TrainedSegmentor:
    """A network in evaluation mode, and what turns files into its input and its output into labels.

    Attributes:
        network: (B, M, H, W) to logits (B, C, H, W), or (B, M, D, H, W) to (B, C, D, H, W).
        modalities: The network's input channels, in order.
        scheme: Native labels to channels, as trained.
        preparation: What is done to a case first.
        patch: (H, W) or (D, H, W) that it was trained on.
        slices: Slices a forward pass.
        channels_last: Memory format of the weights.
        precision: Of the forward pass.
        source: The checkpoint.
        digest: Of the checkpoint's bytes.
        presence: What the network is told of modalities that are not there.
        windows: How a 3-D network walked over a volume in validation.
        copes: Whether it was trained with modalities missing, so that cases may lack some.
    """

    network: nn.Module
    modalities: tuple[str, ...]
    scheme: LabelScheme
    preparation: Preparation
    patch: tuple[int, ...]
    slices: int
    channels_last: bool
    precision: torch.dtype
    source: Path
    digest: str
    presence: Presence = "zeros"
    windows: Windows = field(default_factory=Windows)
    copes: bool = False

    @property
    def divisor(self) -> int:
        """What the input's size must be divisible by."""
        return int(getattr(self.network, "divisor", 1))

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.network.parameters()).device


def load_segmentor(
    path: Path | str, *, device: str | torch.device = "auto", precision: Precision = "auto"
) -> TrainedSegmentor:
    """The segmentor that validation scored: the averaged weights where the run kept them.

    Args:
        path: A checkpoint of a run; nothing else of the run is needed.
        device: "auto" takes the GPU where there is one.
        precision: "auto" takes the one that the run was validated in.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is damaged, is none of ours, of another format, names a network from elsewhere, or its
            weights do not fit the network.
    """
    source = Path(path)
    checkpoint = read_checkpoint(source)
    ours = checkpoint.get(KEY)
    if ours is None or ours.get("format") != FORMAT or not ours.get("config"):
        raise CheckpointError(f"{source}: no checkpoint of segan_pl that this version reads; give one of a run")
    settings, data = yaml.safe_load(ours["config"]), ours["data"]
    model = settings["model"]
    scheme = label_scheme(data["labels"], data.get("native_labels"))
    presence = _presence(model, source)
    channels = segmentor_channels(len(data["modalities"]), presence)
    network = _build(model["segmentor"], channels, len(scheme.channels), source)
    _load_weights(network, checkpoint["state_dict"], source)
    place = _device(device)
    channels_last = bool(model.get("channels_last", False))
    if channels_last:
        to_channels_last(network)
    return TrainedSegmentor(
        network=network.to(place).eval().requires_grad_(False),
        modalities=tuple(data["modalities"]),
        scheme=scheme,
        preparation=_preparation(data["preparation"]),
        patch=tuple(data["patch"]),
        slices=int(model.get("slices", 32)),
        channels_last=channels_last,
        precision=_precision(precision, str((settings.get("trainer") or {}).get("precision", "32"))),
        source=source,
        digest=hashlib.blake2b(source.read_bytes(), digest_size=16).hexdigest(),
        presence=presence,
        windows=_windows(model.get("windows"), source),
        copes=_copes(settings.get("data") or {}),
    )


def _presence(model: Mapping[str, Any], source: Path) -> Presence:
    """The run's, "zeros" of runs from before there was a choice."""
    presence = model.get("presence", "zeros")
    try:
        require_presence(presence)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}; was it written by a later version?") from error
    return presence


def _windows(fields: Mapping[str, Any] | None, source: Path) -> Windows:
    """The run's windows; the usual ones of a run that says nothing."""
    try:
        return Windows(**{key: tuple(v) if isinstance(v, list) else v for key, v in (fields or {}).items()})  # type: ignore[arg-type]
    except TypeError as error:
        raise CheckpointError(f"{source}: its windows {dict(fields or {})} are not known here: {error}") from error


def _copes(data: Mapping[str, Any]) -> bool:
    """Whether the run's settings of the data let it see samples with modalities missing."""
    augmentation = data.get("augmentation") or {}
    return float(augmentation.get("modality_dropout") or 0) > 0 or data.get("missing") == "zero"


def _build(spec: Any, in_channels: int, out_channels: int, source: Path) -> nn.Module:
    """The network that a checkpoint names, if it comes from where networks may come from."""
    name = spec["class_path"] if isinstance(spec, Mapping) else str(spec)
    own = [part.strip() for part in os.environ.get("SEGAN_PL_ALLOW_IMPORTS", "").split(",") if part.strip()]
    if not name.startswith((*NETWORKS, *(f"{package}." for package in own))):
        raise CheckpointError(
            f"{source}: names the network {name}, which is not imported from a checkpoint; if you trust it, set "
            f"SEGAN_PL_ALLOW_IMPORTS={name.split('.')[0]}"
        )
    module, _, kind = name.rpartition(".")
    arguments = (spec.get("init_args") or {}) if isinstance(spec, Mapping) else {}
    try:
        return getattr(importlib.import_module(module), kind)(in_channels, out_channels, **arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: its network {name} cannot be made with {arguments} ({' '.join(str(error).split())[:200]}); was "
            f"it written by another version?"
        ) from error


def _load_weights(network: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Averaged weights where there are any, else the segmentor's; every key must fit."""
    prefix = AVERAGED if any(key.startswith(AVERAGED) for key in state) else PLAYER
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    weights = {key.replace("_orig_mod.", ""): value for key, value in weights.items()}  # a compiled run's
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{source}: {' '.join(str(error).split())[:300]}; was the network changed?") from error


def _preparation(fields: Mapping[str, Any]) -> Preparation:
    """The preparation that a checkpoint describes, lists as tuples again."""
    try:
        return Preparation(**{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()})  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's preparation {dict(fields)} is not known here: {error}") from error


def _device(asked: str | torch.device) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UsageError(f"--device {asked}: no such device; expected auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {asked}: no CUDA device here; use cpu or auto")
    return device


def _precision(asked: Precision, trained: str) -> torch.dtype:
    """The forward pass's precision, by name or as Lightning calls the run's."""
    validated = "bfloat16" if "bf16" in trained else "float16" if "16" in trained else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
        validated if asked == "auto" else asked
    ]
