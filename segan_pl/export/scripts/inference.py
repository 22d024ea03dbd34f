"""A network over a whole prepared volume: slice by slice, in windows, or all at once; and a folder of cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.inferer import Inferer
from monai.inferers.utils import sliding_window_inference
from torch import Tensor
from torch.nn import functional

# The logarithm of 1e-12: what is certainly nothing.
CERTAIN = 27.6
Network = Callable[[Tensor], Tensor]


class WholeVolume(Inferer):
    """Probabilities of a prepared volume.

    Args:
        patch: (H, W) of a network of slices, (D, H, W) of one of volumes.
        divisor: What the sides of slices are padded to a multiple of.
        any_depth: Whether a network of volumes takes any depth from its patch's on.
        slices: In one forward pass.
        windows: overlaps (one for each axis), blend, batch, average ("logits" or "probabilities"), whole (a multiple to
            pad to, or None), skip_empty.
        activation: "sigmoid" or "softmax".
        background: The prepared value of padding.
        predict_in: "anywhere", or in the "brain" alone.
        mask_channels: Whether the network also reads a channel for each modality that says that it is there.
    """

    def __init__(
        self,
        *,
        patch: list[int],
        divisor: int,
        any_depth: bool,
        slices: int,
        windows: Mapping[str, Any],
        activation: str,
        background: float,
        predict_in: str,
        mask_channels: bool,
    ) -> None:
        super().__init__()
        self.patch, self.divisor, self.any_depth, self.slices = tuple(patch), divisor, any_depth, slices
        self.windows, self.activation, self.background = dict(windows), activation, background
        self.inside, self.mask_channels = predict_in == "brain", mask_channels

    def __call__(self, inputs: Tensor, network: Network, *_: Any, **__: Any) -> Tensor:
        """(M, D, H, W) to (C, D, H, W) float32."""

        def told(image: Tensor) -> Tensor:
            return network(torch.cat([image, torch.ones_like(image)], 1) if self.mask_channels else image)

        image = inputs.float()
        # intensities were rounded to float16, so the background may have been
        brain = (inputs.half() != torch.tensor(self.background, dtype=torch.float16)).any(0)
        if len(self.patch) == 2:
            found = self._activated(self._sliced(told, image))
        else:
            found = self._walked(told, image, brain)
            found = found if self.windows["average"] == "probabilities" else self._activated(found)
        return torch.where(brain, found, self._nothing(len(found), certain=1.0)) if self.inside else found

    def _activated(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(0) if self.activation == "softmax" else logits.float().sigmoid()

    def _nothing(self, channels: int, *, certain: float) -> Tensor:
        """(C, 1, 1, 1) of a voxel that is certainly background: probabilities, or logits with `certain` 0."""
        values = torch.full((channels,), 0.0 if certain else -CERTAIN)
        if self.activation == "softmax":
            values[0] = certain
        return values.reshape(-1, 1, 1, 1)

    def _sliced(self, network: Network, image: Tensor) -> Tensor:
        """Logits of a network of slices."""
        height, width = image.shape[-2:]
        padding = (0, -width % self.divisor, 0, -height % self.divisor)
        slices = functional.pad(image.movedim(1, 0), padding, value=self.background)
        parts = [network(part.contiguous()) for part in slices.split(self.slices)]
        return torch.cat(parts)[..., :height, :width].movedim(0, 1)

    def _walked(self, network: Network, image: Tensor, brain: Tensor) -> Tensor:
        """The mean over windows, of logits or of probabilities."""
        windows, average = self.windows, self.windows["average"]

        def values(part: Tensor) -> Tensor:
            logits = network(part).float()
            if average == "logits":
                return logits
            return logits.softmax(1) if self.activation == "softmax" else logits.sigmoid()

        if windows["whole"] is not None:
            beyond = [-side % windows["whole"] for side in image.shape[1:]]
            if self.any_depth:
                beyond[0] = max(0, self.patch[0] - image.shape[1])
            padding = [n for more in reversed(beyond) for n in (0, more)]
            found = values(functional.pad(image, padding, value=self.background)[None])[0]
            return found[(slice(None), *(slice(side) for side in image.shape[1:]))]
        if windows["skip_empty"]:
            return self._filled(values, image, brain)
        walked = sliding_window_inference(
            image[None],
            self.patch,
            windows["batch"],
            values,
            overlap=windows["overlaps"],
            mode=windows["blend"],
            cval=self.background,
        )
        return torch.as_tensor(walked)[0]

    def _filled(self, values: Network, image: Tensor, brain: Tensor) -> Tensor:
        """MONAI's walk without the windows in which there is no brain."""
        windows = self.windows
        room = [max(0, n - side) for n, side in zip(self.patch, image.shape[1:], strict=True)]
        padding = [n for more in reversed(room) for n in (more // 2, more - more // 2)]
        image, brain = functional.pad(image, padding, value=self.background), functional.pad(brain, padding)
        shape = image.shape[1:]
        sides = zip(self.patch, shape, windows["overlaps"], strict=True)
        steps = [n if n == side else max(1, int(n * (1 - share))) for n, side, share in sides]
        boxes = [box for box in dense_patch_slices(shape, self.patch, steps) if brain[box].any()]
        weight = compute_importance_map(self.patch, windows["blend"])
        total, share = torch.zeros(1), torch.zeros(shape)
        for first in range(0, len(boxes), windows["batch"]):
            some = boxes[first : first + windows["batch"]]
            found = values(torch.stack([image[(slice(None), *box)] for box in some]))
            total = total if total.ndim > 1 else torch.zeros(found.shape[1], *shape)
            for box, part in zip(some, found, strict=True):
                total[(slice(None), *box)] += part * weight
                share[box] += weight
        empty = self._nothing(len(total), certain=0.0 if windows["average"] == "logits" else 1.0)
        missed = share == 0
        mean = torch.where(missed, empty, total / share.masked_fill(missed, 1))
        spans = zip(room, shape, strict=True)
        return mean[(slice(None), *(slice(more // 2, n - (more - more // 2)) for more, n in spans))]


def predict(
    cases: Iterable[Mapping[str, str]],
    preprocessing: Callable[[Any], Any],
    network: Network,
    inferer: WholeVolume,
    postprocessing: Callable[[Any], Any],
) -> list[str]:
    """Segment one case after the other; their names."""
    done = []
    for case in cases:
        data = dict(preprocessing(case))
        image = data["image"]
        # as in segan_pl: where there is nothing, no network is asked
        data["blank"] = bool(((image == 0) | (image == torch.tensor(inferer.background).half())).all())
        if not data["blank"]:
            with torch.inference_mode():
                data["probability"] = inferer(image, network)
        postprocessing(data)
        done.append(str(case["case"]))
    return done
