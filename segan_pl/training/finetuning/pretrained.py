"""ImageNet's weights for a network's encoder: found or fetched, checked, and loaded when a new run begins."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import importlib
import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from segan_pl.errors import UsageError
from segan_pl.files import made_writable
from segan_pl.inference.checkpoint_file import CheckpointError, read_plain

log = logging.getLogger(__name__)

TIMEOUT = 30.0  # seconds without a word of the server
URL = "https://download.pytorch.org/models/resnet34-b627a593.pth"
"""torchvision's ResNet-34 on ImageNet-1k (83 MB); the name ends in the first digits of the file's SHA-256."""
CLASSIFIER, COUNTER, FIRST = "fc.", "num_batches_tracked", "conv1.weight"
IMAGENET, WIDTH = "imagenet", 64
OPTION = "--model.networks.segmentor.init_args.pretrained"


class Asking(Protocol):
    """A network that wants weights for a part of it; AlbuNet is one.

    Attributes:
        pretrained: "imagenet" or a file's path, as text; None for nothing.
        encoder: What they go into: an nn.Module with torchvision's key names of a ResNet-34.
    """

    pretrained: str
    encoder: nn.Module


def load_pretrained(model: nn.Module, *, mask_channels: int = 0) -> list[str]:
    """Load every network inside `model` that asks for it (see `asking`), into its `encoder`.

    For a new run, before anything is prepared; a run that continues, or starts from a checkpoint of ours, has weights.
    An averaged copy of the network asks as the network does. Nothing is drawn, so the rest of the network is that of
    the same seed without.

    Args:
        model: A system, or anything that holds such networks.
        mask_channels: How many input channels, behind the modalities, only say what is there (`modality_mask`).

    Returns:
        One line for each network: which weights, from where.

    Raises:
        UsageError: The file is missing, cannot be fetched, is damaged, or does not fit the encoder.
    """
    lines: list[str] = []
    for owner in asking(model).values():
        first = getattr(owner.encoder, FIRST.partition(".")[0], None)
        # Before they are fetched: ImageNet's weights do not fit a narrower encoder.
        if owner.pretrained == IMAGENET and isinstance(first, nn.Conv2d) and first.out_channels != WIDTH:
            raise UsageError(
                f"{OPTION} {IMAGENET}: its encoder is {WIDTH} channels wide, this one {first.out_channels}; give "
                f"{OPTION} null, or --model.networks.segmentor.init_args.width {WIDTH}"
            )
        path = find_weights(owner.pretrained)
        lines.append(load_encoder(owner.encoder, read_weights(path), path, mask_channels))
    return list(dict.fromkeys(lines))


def asking(model: nn.Module) -> dict[str, Asking]:
    """By dotted name, the networks inside `model` that ask for pretrained weights: those that are `Asking`.

    A network whose `pretrained` is something else (True, say) loads its weights itself, and is left alone.
    """
    return {name: module for name, module in model.named_modules() if _asks(module)}


def _asks(network: object) -> TypeGuard[Asking]:
    # Not isinstance of the protocol: from Python 3.12 on that does not see a module's submodules.
    source, encoder = getattr(network, "pretrained", None), getattr(network, "encoder", None)
    return isinstance(source, str) and source != "" and isinstance(encoder, nn.Module)


def find_weights(source: str) -> Path:
    """The file that "imagenet" or a path means; ImageNet's is fetched into torch's hub cache where it is missing.

    Raises:
        UsageError: No such file; it could not be fetched; or the file in the cache has not the hash in its name.
    """
    if source != IMAGENET:
        path = Path(source).expanduser()
        if not path.is_file():
            raise UsageError(f"{OPTION} {source}: no such file; give imagenet, or a .pth or .safetensors file")
        return path
    name = URL.rpartition("/")[2]
    # The name ends in the first digits of the file's SHA-256.
    begins = Path(name).stem.rpartition("-")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        # PyTorch checks what it fetches, not what somebody has put there.
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(begins):
            raise UsageError(f"{OPTION} imagenet: {path} is not the file {URL} (its SHA-256 differs); delete it")
        return path
    made_writable(path.parent, f"{OPTION} imagenet: torch's hub cache {path.parent}")
    # of processes that start together (ranks, runs of a sweep) one fetches; there is no process group yet to wait in
    with path.with_name(f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            log.info("fetching %s to %s", URL, path)
            _fetch(path, begins)
    return path


def _fetch(path: Path, begins: str) -> None:
    """Have torch's hub fetch the file behind URL, whose SHA-256 begins with those digits."""
    remedy = f"fetch it where there is a network and put it at {path}, or give {OPTION} its path"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch sets none: a server that does not answer would hold the run for ever
    try:
        torch.hub.download_url_to_file(URL, str(path), hash_prefix=begins, progress=False)
    except RuntimeError as error:  # a short answer differs by its hash alone
        raise UsageError(
            f"{OPTION} imagenet: {URL} answered with another file, or broke off (its SHA-256 differs); {remedy}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise UsageError(
                f"{OPTION} imagenet: {path} cannot be written ({error.strerror}); set TORCH_HOME to another folder, or "  # type: ignore[union-attr]
                f"give {OPTION} a file"
            ) from error
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise UsageError(f"{OPTION} imagenet: {URL} cannot be reached ({reason}); {remedy}") from error
    finally:
        socket.setdefaulttimeout(before)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name to tensor of a .safetensors file (with the package of that name installed) or of a weights-only .pth.

    Raises:
        UsageError: The file is damaged, needs code to be read, or holds something else.
    """
    weights: Any
    if path.suffix == ".safetensors":
        try:
            package, reader = importlib.import_module("safetensors"), importlib.import_module("safetensors.torch")
        except ImportError as error:
            raise UsageError(f"{OPTION} {path}: pip install safetensors, or give a .pth file") from error
        try:
            weights = reader.load_file(path)
        except package.SafetensorError as error:
            raise UsageError(f"{OPTION} {path}: damaged weights ({error})") from error
    else:
        try:
            weights = read_plain(path)
        except CheckpointError as error:
            raise UsageError(f"{OPTION} {error}") from error
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UsageError(f"{OPTION} {path}: expected tensors by torchvision's names, found something else")
    return dict(weights)


def load_encoder(encoder: nn.Module, weights: Mapping[str, Tensor], source: Path, mask_channels: int = 0) -> str:
    """Load weights under torchvision's names; the classifier is left out, every other key must be there and fit.

    Only batch norm's counters of batches, which nothing reads, may be absent (torchvision's older files). Of the input
    channels the last `mask_channels` are no picture: their kernels begin at 0; the others' are those of a run without.

    Returns:
        A line that says what was loaded, and how the first layer was made to fit.

    Raises:
        UsageError: A key is missing, superfluous or of another shape.
    """
    own = encoder.state_dict()
    found = {key: value for key, value in weights.items() if not key.startswith(CLASSIFIER)}
    note = ""
    if FIRST in found and FIRST in own and found[FIRST].ndim == 4:
        channels, given = own[FIRST].shape[1] - mask_channels, found[FIRST].shape[1]
        if given == 3 != channels:
            found[FIRST] = inflate(found[FIRST], channels)
            note = f", its first layer from 3 colours to {channels} modalities"
        if mask_channels and found[FIRST].shape[1] == channels:
            found[FIRST] = pad(found[FIRST], (0, 0, 0, 0, 0, mask_channels))
            note += f", {mask_channels} mask channels begin at 0"
    counters = {key: value for key, value in own.items() if key.endswith(COUNTER)}
    _require_fit(own, {**counters, **found}, source)
    encoder.load_state_dict({**counters, **found})
    return f"encoder: weights of {source.name}{note}"


def inflate(kernels: Tensor, channels: int) -> Tensor:
    """Kernels (F, 3, h, w) for red, green and blue to (F, channels, h, w) for as many modalities (ours, as timm does).

    Modality m takes colour m mod 3 times 3 / channels, so that a sum over equal inputs stays as it was when channels
    are a multiple of 3; a single modality takes the sum of all three, which is what a grey picture gave.
    """
    if channels == 1:
        return kernels.sum(1, keepdim=True)
    return kernels[:, torch.arange(channels) % 3] * (3 / channels)


def _require_fit(own: Mapping[str, Tensor], found: Mapping[str, Tensor], source: Path) -> None:
    """Every key of the encoder with its shape, and no other."""
    wrong = {
        "missing": sorted(own.keys() - found.keys()),
        "unknown": sorted(found.keys() - own.keys()),
        "of another shape": [
            f"{key} {tuple(found[key].shape)} for {tuple(own[key].shape)}"
            for key in own.keys() & found.keys()
            if own[key].shape != found[key].shape
        ],
    }
    parts = [
        f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in wrong.items()
        if keys
    ]
    if parts:
        raise UsageError(
            f"{OPTION} {source}: not the encoder's weights: {'; '.join(parts)}; expected torchvision's resnet34"
        )


def pretrained_parts(networks: nn.Module) -> list[str]:
    """The parts that `load_pretrained` fills, by dotted name."""
    return [f"{name}.encoder" for name in asking(networks)]
