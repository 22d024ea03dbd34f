"""A trained segmentor out of its checkpoint alone, and what it makes of a prepared volume: probabilities."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError, not_allowed
from segan_pl.inference import Precision, PredictIn
from segan_pl.inference.brain import brain_of, kept_inside, require_predict_in
from segan_pl.inference.checkpoint_file import (
    CheckpointError,
    described_data,
    own_part,
    read_checkpoint,
    stored_settings,
    weights_of,
)
from segan_pl.inference.inferer import Windows, over_volume
from segan_pl.nets.blocks import to_channels_last
from segan_pl.nets.modality_mask import ModalityMask, require_modality_mask, with_modality_mask_on_volumes
from segan_pl.recipe import NAMELESS, may_import

NETWORKS = ("segan_pl.nets", "monai.networks.nets")
"""Where a checkpoint's network may come from; a user's own packages are added by SEGAN_PL_ALLOW_IMPORTS."""


@dataclass(frozen=True)
class TrainedSegmentor:
    """A network in evaluation mode, and what turns files into its input and its output into labels.

    Attributes:
        network: (B, M, H, W) to logits (B, C, H, W), or (B, M, D, H, W) to (B, C, D, H, W).
        modalities: The network's input channels, in order.
        scheme: Native labels to channels, as trained.
        preparation: What is done to a case first.
        patch: (H, W) or (D, H, W) that it was trained on.
        slices: Slices in one forward pass.
        channels_last: Memory format of the weights.
        precision: Of the forward pass.
        source: The checkpoint.
        digest: Of the checkpoint's bytes.
        modality_mask: What the network is told of modalities that are not there.
        windows: How a 3-D network walked over a volume in validation.
        copes: Whether it was trained with modalities missing, so that cases may lack some.
        seen: What its training cases were like, see `data.scan.seen`; None of a checkpoint that does not say.
        predict_in: Where validation took its predictions: "anywhere", or in the "brain" alone.
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
    modality_mask: ModalityMask = "zeros"
    windows: Windows = field(default_factory=Windows)
    copes: bool = False
    seen: Mapping[str, Any] | None = None
    predict_in: PredictIn = "anywhere"

    @property
    def divisor(self) -> int:
        """What the input's size must be divisible by."""
        return int(getattr(self.network, "divisor", 1))

    @property
    def device(self) -> torch.device:
        """Where the weights lie; what has none of PyTorch's runs on the CPU."""
        return next(self.network.parameters(), torch.empty(0)).device


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
    ours = own_part(checkpoint, source)
    settings, data = stored_settings(ours, source), described_data(ours, source)
    model = settings.get("model") or {}
    if "segmentor" not in (model.get("networks") or {}):
        raise CheckpointError(f"{source}: its configuration names no segmentor in model.networks; give one of a run")
    scheme = label_scheme(data["labels"], data.get("native_labels"))
    modality_mask: ModalityMask = _known(model.get("modality_mask", "zeros"), require_modality_mask, source)
    network = _build(model["networks"]["segmentor"], ours["channels"]["segmentor"], source)
    try:
        network.load_state_dict(weights_of("segmentor", checkpoint["state_dict"]))
    except RuntimeError as error:
        raise CheckpointError(f"{source}: {' '.join(str(error).split())[:300]}; was the network changed?") from error
    fields = data["preparation"]
    try:
        preparation = Preparation.from_dict(fields)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its preparation {dict(fields)} is not known here: {error}") from error
    place = _device(device)
    channels_last = bool(model.get("channels_last", False))
    if channels_last:
        to_channels_last(network)
    # a checkpoint that does not say what its cases were like is judged by its run's settings
    asked, seen = settings.get("data") or {}, data.get("seen")
    copes = asked.get("missing") == "zero" if seen is None else bool(seen["absent"])
    copes = copes or float((asked.get("augmentation") or {}).get("modality_dropout") or 0) > 0
    return TrainedSegmentor(
        network=network.to(place).eval().requires_grad_(False),
        modalities=tuple(data["modalities"]),
        scheme=scheme,
        preparation=preparation,
        patch=tuple(data["patch"]),
        slices=int(model.get("slices", 32)),
        channels_last=channels_last,
        precision=_precision(precision, str((settings.get("trainer") or {}).get("precision", "32"))),
        source=source,
        digest=hashlib.blake2b(source.read_bytes(), digest_size=16).hexdigest(),
        modality_mask=modality_mask,
        windows=_windows(model.get("windows"), source),
        copes=copes,
        seen=seen,
        predict_in=_known(model.get("predict_in", "anywhere"), require_predict_in, source),
    )


def probabilities(
    segmentor: TrainedSegmentor,
    image: Tensor,
    *,
    modality_mask: Sequence[bool] | None = None,
    mirror: Sequence[int] = (),
    windows: Windows | None = None,
    predict_in: PredictIn | None = None,
) -> Tensor:
    """(M, D, H, W) prepared volume to (C, D, H, W) float32 probabilities on the segmentor's device.

    The mean over mirror images.

    Args:
        segmentor: Slices go through a 2-D one, sliding windows through a 3-D one (told by its patch).
        image: float16 or float32; what it holds of modalities that are not there does not matter.
        modality_mask: Which of the M are there; default all.
        mirror: Axes of (D, H, W), 0 to 2, along which the image is mirrored too; the mean over all combinations.
        windows: Of a 3-D segmentor; default those that it was validated with.
        predict_in: Default where it was validated.

    Raises:
        UsageError: The windows' step does not fit the segmentor's patch.
    """
    asked: dict[str, Any] = {"windows": windows, "predict_in": predict_in}
    total, count = None, 0
    for part in mirrored(segmentor, image, modality_mask=modality_mask, mirror=mirror, **asked):
        # not in place: it is an inference tensor
        total, count = part if total is None else total + part, count + 1
    assert total is not None, "the image itself is always there"
    return total / count if count > 1 else total


def mirrored(
    segmentor: TrainedSegmentor,
    image: Tensor,
    *,
    modality_mask: Sequence[bool] | None = None,
    mirror: Sequence[int] = (),
    windows: Windows | None = None,
    predict_in: PredictIn | None = None,
) -> Iterator[Tensor]:
    """What `probabilities` is the mean of: the image itself, and each mirror image turned back. Its arguments."""
    image = image.to(segmentor.device)
    there = (
        torch.tensor(modality_mask, dtype=torch.bool)
        if modality_mask is not None
        else torch.ones(len(image), dtype=torch.bool)
    )
    network = with_modality_mask_on_volumes(segmentor.network, there, segmentor.modality_mask)
    windows, inside = windows or segmentor.windows, (predict_in or segmentor.predict_in) == "brain"
    needed = inside or windows.skip_empty
    brain = brain_of(image, segmentor.preparation.background, there) if needed else None
    low = segmentor.precision != torch.float32
    axes = [subset for size in range(len(mirror) + 1) for subset in combinations(mirror, size)]
    for subset in axes:
        flips = [axis + 1 for axis in subset]
        filled = brain if brain is None or not flips else brain.flip(subset)
        flipped = image.flip(flips) if flips else image
        with torch.inference_mode(), torch.autocast(image.device.type, segmentor.precision, enabled=low):
            part = over_volume(
                network,
                flipped,
                patch=segmentor.patch,
                windows=windows,
                activation=segmentor.scheme.activation,
                channels=len(segmentor.scheme.channels),
                wanted="probabilities",
                bare=segmentor.network,
                slices=segmentor.slices,
                channels_last=segmentor.channels_last,
                # windows are summed, and bfloat16 would lose digits
                dtype=segmentor.precision if len(segmentor.patch) == 2 else torch.float32,
                background=segmentor.preparation.background,
                brain=filled,
            )
        part = part.flip(flips) if flips else part
        yield kept_inside(part, brain if inside else None, segmentor.scheme.activation, logits=False)


def _known(choice: Any, require: Callable[[str], None], source: Path) -> Any:
    """A run's choice, if this version knows it."""
    try:
        require(choice)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}; was it written by a later version?") from error
    return choice


def _windows(fields: Mapping[str, Any] | None, source: Path) -> Windows:
    """The run's windows; the usual ones of a run that says nothing."""
    try:
        return Windows(**{key: tuple(v) if isinstance(v, list) else v for key, v in (fields or {}).items()})  # type: ignore[arg-type]
    except TypeError as error:
        raise CheckpointError(f"{source}: its windows {dict(fields or {})} are not known here: {error}") from error


def _build(spec: Any, channels: Mapping[str, int], source: Path) -> nn.Module:
    """The network that a checkpoint names, if it comes from where networks may come from."""
    name = spec["class_path"] if isinstance(spec, Mapping) else str(spec)
    if name.endswith(NAMELESS):
        raise CheckpointError(f"{source}: its segmentor is {name}; train one that is a class, or a partial of one")
    if not may_import(name, (nn.Module,), NETWORKS):
        raise CheckpointError(f"{source}: the network {not_allowed(name)}")
    module, _, kind = name.rpartition(".")
    arguments = (spec.get("init_args") or {}) if isinstance(spec, Mapping) else {}
    try:
        return getattr(importlib.import_module(module), kind)(**channels, **arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: its network {name} cannot be made with {arguments} ({' '.join(str(error).split())[:200]}); was "
            f"it written by another version?"
        ) from error


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
