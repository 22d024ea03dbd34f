"""How a network walks over a whole volume, in validation and in prediction alike: slices, windows, or all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from segan_pl.errors import UsageError
from segan_pl.inference import Average, Blend
from segan_pl.inference.brain import brain_of, nothing_found
from segan_pl.losses.activation import Activation, activate
from segan_pl.nets.modality_mask import Network


@dataclass(frozen=True)
class Windows:
    """How a 3-D network walks over a volume.

    Attributes:
        overlap: Share of a window that the next one covers too, from 0 and below 1.
        blend: Weights inside a window: "gaussian" trusts its middle more, "constant" does not.
        batch: Windows in a forward pass.
        step: Voxels from a window to the next along (D, H, W), instead of the overlap; AlbuNet's are (24, 32, 32), and
            (1, 32, 32) in 2-D.
        average: What is averaged where windows overlap: "probabilities" (AlbuNet's paper), or "logits" (AlbuNet's code,
            which sums them and takes the largest).
        whole: Instead of windows one forward pass of the whole volume, padded at its end to a multiple of this along
            each axis; the reciprocal paper's code: 16. A network that takes any depth (2.5-D, AlbuNet) gets the
            volume's own, or the patch's where that is more. Nothing else here then says anything.
        skip_empty: Whether windows of background alone are not run. They have no share in the averages, and where no
            other window lies, the result is background; inside the brain it is what it is without this.
    """

    overlap: float = 0.5
    blend: Blend = "gaussian"
    batch: int = 1
    step: tuple[int, ...] | None = None
    average: Average = "logits"
    whole: int | None = None
    skip_empty: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise UsageError(f"the windows' overlap {self.overlap}: expected a share from 0 and below 1")
        if self.batch < 1:
            raise UsageError(f"the windows' batch {self.batch}: expected at least 1 window a forward pass")
        if self.whole is not None and self.whole < 1:
            raise UsageError(
                f"the windows' whole {self.whole}: expected the multiple that volumes are padded to, at least 1"
            )
        if self.whole is not None and self.step is not None:
            raise UsageError("windows have a step, and whole says that there are none; give one of them (null unsets)")

    def require_sense(self, patch: Sequence[int]) -> None:
        """Refuse, in training and scoring, what does not fit the patch and what would do nothing.

        Not on construction: a checkpoint may hold an overlap and a step, and `predict` replaces one by the other.

        Args:
            patch: (H, W) or (D, H, W) of training.

        Raises:
            UsageError: As `overlaps`; an overlap with a step, anything with a whole volume, or windows of slices.
        """
        usual = Windows()
        given = [field.name for field in fields(self) if getattr(self, field.name) != getattr(usual, field.name)]
        if len(patch) == 2:
            if given:
                named = ", ".join(f"--model.windows.{name}" for name in given)
                raise UsageError(f"{named}: of 3-D patches, but --data.patch is {list(patch)}; leave it out")
            return
        other = "step" if self.step is not None else "whole" if self.whole is not None else None
        idle = {"step": ["overlap"], "whole": ["overlap", "blend", "batch", "average", "skip_empty"], None: []}[other]
        if wrong := [name for name in idle if name in given]:
            named = ", ".join(f"--model.windows.{name} {getattr(self, name)}" for name in wrong)
            back = ", ".join(f"{name} {getattr(usual, name)}" for name in wrong)
            raise UsageError(
                f"{named}: means nothing with the windows' {other} {getattr(self, str(other))}; give "
                f"--model.windows.{other} null, or leave it at {back}"
            )
        self.overlaps(patch)

    def overlaps(self, patch: Sequence[int]) -> tuple[float, ...]:
        """What MONAI calls overlap, one number for each axis of the patch.

        Raises:
            UsageError: A step is below 1, or beyond the patch, or not one number for each axis.
        """
        if self.step is None:
            return (self.overlap,) * len(patch)
        if len(self.step) != len(patch) or not all(1 <= s <= p for s, p in zip(self.step, patch, strict=True)):
            raise UsageError(f"the windows' step is {self.step}, expected 1 up to the patch {tuple(patch)} an axis")
        steps = zip(self.step, patch, strict=True)
        # MONAI rounds p * (1 - overlap) down
        return tuple(max(0.0, 1 - (s + 0.5) / p) for s, p in steps)


def over_volume(
    network: Network,
    image: Tensor,
    *,
    patch: Sequence[int] | None,
    windows: Windows,
    activation: Activation,
    channels: int,
    wanted: Average = "logits",
    bare: object = None,
    slices: int = 32,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
    background: float = 0.0,
    brain: Tensor | None = None,
) -> Tensor:
    """(M, D, H, W) to (C, D, H, W) logits or probabilities: window by window for a 3-D network, else slice by slice.

    MONAI's sliding windows: the last one of each axis ends at the border; a volume smaller than the patch is padded.
    Logits of averaged probabilities are what the activation makes these of: the mean's log odds, or its logarithms.

    Args:
        network: (B, M, *patch) to (B, C, *patch).
        image: A prepared volume.
        patch: Of training: three numbers mean a 3-D network, and are the size of a window.
        windows: How they lie, and what is averaged.
        activation: Of the label scheme.
        channels: C.
        wanted: What is returned; probabilities are float32.
        bare: The network without what tells it of missing modalities: its `divisor` is what slices are padded to a
            multiple of, and it takes any depth from its patch's on where its `depth_divisor` is 1.
        slices: In one forward pass of a 2-D network.
        channels_last: Memory format of slices.
        dtype: Of the network's input.
        background: What is padded with, the prepared value of padding.
        brain: (D, H, W) bool, where windows are not empty; default `brain_of` the image.

    Raises:
        UsageError: The windows' step does not fit the patch.
    """
    held: Average = "logits"
    if patch is not None and len(patch) == 3:
        any_depth, image = getattr(bare, "depth_divisor", None) == 1, image.to(dtype)
        found = _mean_of_windows(network, image, patch, windows, activation, channels, background, any_depth, brain)
        held = windows.average
    else:
        found = predict_slices(
            network,
            image,
            divisor=int(getattr(bare, "divisor", 1)),
            batch=slices,
            channels_last=channels_last,
            dtype=dtype,
            background=background,
        )
    if held == wanted:
        return found
    if wanted == "probabilities":
        return activate(found[None].float(), activation)[0]
    return found.clamp_min(1e-12).log() if activation == "softmax" else found.logit(1e-6)


def _mean_of_windows(
    network: Network,
    image: Tensor,
    patch: Sequence[int],
    windows: Windows,
    activation: Activation,
    channels: int,
    background: float,
    any_depth: bool,
    brain: Tensor | None,
) -> Tensor:
    """The weighted mean over windows, of logits or of probabilities, in float32."""

    def values(part: Tensor) -> Tensor:
        # windows are summed, and bfloat16 would lose digits
        logits = network(part).float()
        return activate(logits, activation) if windows.average == "probabilities" else logits

    if windows.whole is not None:
        beyond = [-side % windows.whole for side in image.shape[1:]]
        if any_depth:
            beyond[0] = max(0, patch[0] - image.shape[1])
        # background is added behind each axis, and cut off again
        padding = [n for more in reversed(beyond) for n in (0, more)]
        found = values(functional.pad(image, padding, value=background)[None])[0]
        return found[(slice(None), *(slice(side) for side in image.shape[1:]))]
    if windows.skip_empty:
        inside = brain_of(image, background) if brain is None else brain
        empty = nothing_found(channels, activation, logits=windows.average == "logits")
        return _mean_of_filled(values, image, inside, patch, windows, background, empty)
    # loads slowly: only where a network is 3-D
    from monai.inferers.utils import sliding_window_inference

    walked = sliding_window_inference(
        image[None],
        tuple(patch),
        windows.batch,
        values,
        overlap=windows.overlaps(patch),
        mode=windows.blend,
        cval=background,
    )
    # always a tensor, as the network's output is one
    return torch.as_tensor(walked)[0]


def _mean_of_filled(
    values: Network,
    image: Tensor,
    brain: Tensor,
    patch: Sequence[int],
    windows: Windows,
    background: float,
    empty: Tensor,
) -> Tensor:
    """MONAI's walk without the windows in which there is no brain; `empty` (C,) where no other window lies.

    Its places, weights and order of sums, so that a voxel whose windows all run has the same value to the bit. Blending
    takes as long as a small network, so windows that are not run must not be blended either.
    """
    from monai.data.utils import compute_importance_map, dense_patch_slices

    # (D, H, W), voxels before and behind: a volume smaller than the patch lies in its middle
    room = [max(0, n - side) for n, side in zip(patch, image.shape[1:], strict=True)]
    padding = [n for more in reversed(room) for n in (more // 2, more - more // 2)]
    image, brain = functional.pad(image, padding, value=background), functional.pad(brain, padding, value=False)
    shape = image.shape[1:]
    steps = [
        n if n == side else max(1, int(n * (1 - share)))
        for n, side, share in zip(patch, shape, windows.overlaps(patch), strict=True)
    ]
    boxes = [box for box in dense_patch_slices(shape, tuple(patch), steps) if brain[box].any()]
    weight = compute_importance_map(tuple(patch), windows.blend, device=image.device)
    total, share = image.new_zeros(len(empty), *shape), image.new_zeros(shape)
    for first in range(0, len(boxes), windows.batch):
        some = boxes[first : first + windows.batch]
        for box, found in zip(some, values(torch.stack([image[(slice(None), *box)] for box in some])), strict=True):
            total[(slice(None), *box)] += found * weight
            share[box] += weight
    missed = share == 0
    mean = total / share.masked_fill_(missed, 1)
    if missed.any():
        mean = torch.where(missed, empty.to(mean).reshape(-1, 1, 1, 1), mean)
    return mean[(slice(None), *(slice(more // 2, n - (more - more // 2)) for more, n in zip(room, shape, strict=True)))]


def pad_to_multiple(image: Tensor, divisor: int, background: float = 0.0) -> Tensor:
    """Pad (..., H, W) with background at the end of both axes to the next multiple of `divisor`."""
    height, width = image.shape[-2:]
    return functional.pad(image, (0, -width % divisor, 0, -height % divisor), value=background)


def predict_slices(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    divisor: int,
    batch: int = 32,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
    background: float = 0.0,
) -> Tensor:
    """Logits of a volume from a network of axial slices.

    Args:
        network: (B, M, H, W) to (B, C, H, W).
        image: (M, D, H, W) prepared volume.
        divisor: What H and W must be divisible by; the volume is padded for it and cropped back.
        batch: Slices in a forward pass.
        channels_last: Memory format of the network's input.
        dtype: Of the network's input.
        background: What is padded with, the prepared value of padding.

    Returns:
        (C, D, H, W) logits in the network's dtype.
    """
    height, width = image.shape[-2:]
    slices = pad_to_multiple(image.movedim(1, 0), divisor, background)  # (D, M, H', W')
    memory = torch.channels_last if channels_last else torch.contiguous_format
    parts = [network(part.to(dtype, memory_format=memory)) for part in slices.split(batch)]
    return torch.cat(parts)[..., :height, :width].movedim(0, 1)
