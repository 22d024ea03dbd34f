"""The generator of GT-GAN (Khaled, Ghaleb 2022, preprints 202208.0192): an image and labels to an image, 2-D or 3-D.

The paper names its parts (MRI encoder, ground-truth encoder, tissues mapping, boundary detection network, decoder with
GT layers) and gives no layer, size or number; what they hold here is ours. Its discriminator is `few_shot.Segmentor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, instance_norm, interpolate

from segan_pl.errors import require_choice
from segan_pl.nets.blocks import require_widths
from segan_pl.nets.few_shot import CONVOLUTION, POOLING, require_patch, require_size

Mode = Literal["tissue", "vector"]
Boundary = Literal["given", "found"]
CONVOLVE: dict[int, Any] = {2: conv2d, 3: conv3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
LARGEST: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
# Public code of adaptive instance normalisation has it inside the root of the variance.
EPSILON = 1e-5
SLOPE = 0.2


class GTLayer(nn.Module):
    """(1 + s) (x - mean) / std + m over space, with s and m mapped from codes of labels (eq. 1, its brackets repaired).

    The mapping R, "multiple fully connected layers", begins nearly at s = m = 0, which is instance norm.

    Args:
        channels: Of x.
        code: Numbers in a code.
        width: Of the mapping's hidden layers.
    """

    def __init__(self, channels: int, code: int, *, width: int) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            nn.Linear(code, width),
            nn.LeakyReLU(SLOPE),
            nn.Linear(width, width),
            nn.LeakyReLU(SLOPE),
            last := nn.Linear(width, 2 * channels),
        )
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, codes: Tensor, layout: Tensor | None = None) -> Tensor:
        """Features (B, C, *spatial), of the same shape afterwards.

        Args:
            x: Features; more than one voxel.
            codes: (B, K, code) with a layout, one for each label; (B, code) without.
            layout: (B, K, *spatial), how much of each label a voxel holds: s and m vary over space by it, and are 0
                where there is none. Without, they are the same everywhere.
        """
        mapped = self.mapping(codes)
        if layout is None:
            maps = mapped.reshape(*mapped.shape, *[1] * (x.ndim - 2))
        else:
            maps = (mapped.transpose(1, 2) @ layout.flatten(2)).unflatten(2, layout.shape[2:])
        scale, shift = maps.chunk(2, 1)
        styled: Tensor = (1 + scale) * instance_norm(x, eps=EPSILON) + shift
        return styled


class Generator(nn.Module):
    """G(x, y, z): an image with the appearance of x and, in mode "tissue", with the tissues where y has them.

    The decoder begins with x's code and noise, doubles every side three times, and passes a GT layer after each of its
    layers; the boundary of the tissues is an input at each scale. 11,330,696 parameters for 2 modalities, 4 labels and
    patches of 32^3; the boundary detection network has 7,825 more.

    In mode "vector" labels reach the decoder as one code for the whole patch, as eq. 1 reads to the letter (adaptive
    instance normalisation). Such a code cannot say where a tissue is: the image keeps x's tissues, so it is no image of
    y. See `depicts_labels`.

    Args:
        in_channels: Label channels K.
        out_channels: Modalities M, of x and of the image that it makes.
        patch: (H, W) or (D, H, W), each side divisible by 8 and at least 16; that of training.
        width: Unit of all layers' channels, even; 32 is ours.
        noise: Numbers of z; 200 as in Mondal's code.
        mode: What a code of labels is of: each "tissue", or the whole patch in one "vector".
        boundary: Where the decoder's input of boundaries comes from: "given", with the labels; "found", by the paper's
            boundary detection network where none is given; None for a decoder without this input.
        bounded: End in tanh, for images prepared to [-1, 1]; without, for any other.

    Attributes:
        depicts_labels: Whether an image made of labels shows them, so that the two are a labelled sample.

    Raises:
        ValueError: An argument is out of range.
    """

    divisor = 8

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        patch: Sequence[int] = (32, 32, 32),
        width: int = 32,
        noise: int = 200,
        mode: Mode = "tissue",
        boundary: Boundary | None = "given",
        bounded: bool = True,
    ) -> None:
        super().__init__()
        require_choice("mode", mode, Mode)
        if boundary is not None:
            require_choice("boundary", boundary, Boundary)
        require_widths(width=width, noise=noise)
        if width % 2:
            raise ValueError(f"width is {width}, expected an even number: some layers have half")
        self.patch = require_patch(patch, self.divisor, least=16)
        self.noise, self.mode = noise, mode
        axes, w, code = len(self.patch), width, 2 * width
        convolve = CONVOLUTION[axes]
        self.halve = POOLING[axes](2)
        self.least = tuple(side // self.divisor for side in self.patch)
        self.image_encoder = nn.Sequential(
            *_strided(out_channels, w, axes),
            *_strided(w, 2 * w, axes),
            *_strided(2 * w, 4 * w, axes),
            nn.Flatten(),
            nn.Linear(4 * w * prod(self.least), 8 * w),
        )
        self.label_encoder = nn.Sequential(
            convolve(in_channels, w // 2, 3, padding=1),
            nn.LeakyReLU(SLOPE, True),
            convolve(w // 2, w, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, True),
            convolve(w, 2 * w, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, True),
        )
        self.label_code = nn.Linear(2 * w, code)
        # It alone is the code of a label that the patch does not have.
        self.embedding = nn.Parameter(torch.randn(in_channels, code)) if mode == "tissue" else None
        self.boundary = (
            nn.Sequential(
                convolve(out_channels, w // 2, 3, padding=1),
                nn.LeakyReLU(SLOPE, True),
                convolve(w // 2, w // 2, 3, padding=1),
                nn.LeakyReLU(SLOPE, True),
                convolve(w // 2, 1, 1),
            )
            if boundary == "found"
            else None
        )
        self.larger = LARGEST[axes](2)
        channels = [8 * w, 4 * w, 2 * w, w]
        self.bordered = boundary is not None
        extra = int(self.bordered)
        self.first = nn.Linear(8 * w + noise, channels[0] * prod(self.least))
        self.layers = nn.ModuleList(
            convolve(before + extra, now, 3, padding=1, bias=False) for before, now in pairwise(channels)
        )
        self.gt_layers = nn.ModuleList(GTLayer(now, code, width=4 * w) for now in channels)
        self.activation = nn.LeakyReLU(SLOPE, True)
        self.output = convolve(w + extra, out_channels, 3, padding=1)
        self.bound: nn.Module = nn.Tanh() if bounded else nn.Identity()

    @property
    def depicts_labels(self) -> bool:
        """True in mode "tissue" alone."""
        return self.mode == "tissue"

    def boundaries(self, image: Tensor) -> Tensor:
        """The boundary detection network: image (B, M, *patch) to logits (B, 1, *patch) of tissues' boundaries.

        Raises:
            ValueError: The generator has none.
        """
        if self.boundary is None:
            raise ValueError(
                "gt_gan.Generator: it has no boundary network; give it boundary found, or a boundary with the labels"
            )
        logits: Tensor = self.boundary(image)
        return logits

    def codes(self, labels: Tensor) -> Tensor:
        """The ground-truth encoder: labels (B, K, *patch), one-hot, to codes (B, K, 2 width), or (B, 2 width)."""
        features = self.label_encoder(labels)  # (B, 2 width, *patch / 4)
        if self.embedding is None:
            return torch.as_tensor(self.label_code(features.flatten(2).mean(2)))
        share = self.halve(self.halve(labels)).flatten(2)  # (B, K, voxels)
        # Where a label has no voxel its mean is 0.
        mean = (share @ features.flatten(2).transpose(1, 2)) / share.sum(2, keepdim=True).clamp_min(1e-6)
        return torch.as_tensor(self.label_code(mean) + self.embedding)

    def forward(self, image: Tensor, labels: Tensor, noise: Tensor, boundary: Tensor | None = None) -> Tensor:
        """An image (B, M, *patch) of three.

        Args:
            image: (B, M, *patch), whose appearance it has.
            labels: (B, K, *patch) in {0, 1}, at most one of them 1 in a voxel.
            noise: (B, `noise`).
            boundary: (B, 1, *patch) in [0, 1]; default what the boundary network finds in the image. Not read by a
                decoder without this input.

        Raises:
            ValueError: A size does not fit, or there is neither a boundary nor a network that finds it.
        """
        require_size(image, self.patch, "gt_gan.Generator")
        require_size(labels, self.patch, "gt_gan.Generator's labels")
        labels = labels.to(image.dtype)
        edges: list[Tensor] = []
        if self.bordered:
            found = self.boundaries(image).sigmoid() if boundary is None else boundary
            edges = _scales(found.to(image.dtype), self.larger)
        codes = self.codes(labels)
        layouts = _scales(labels, self.halve) if self.mode == "tissue" else [None] * 4
        x = self.first(torch.cat([self.image_encoder(image), noise.to(image.dtype)], 1))
        x = x.unflatten(1, (-1, *self.least))  # (B, 8 width, *patch / 8)
        for level, gt_layer in enumerate(self.gt_layers):
            if level:
                x = interpolate(x, scale_factor=2, mode=LINEAR[len(self.patch)], align_corners=False)
                x = _joined(self.layers[level - 1], x, edges[level : level + 1])
            x = self.activation(gt_layer(x, codes, layouts[level]))
        made: Tensor = self.bound(_joined(self.output, x, edges[3:]))
        return made


def _joined(layer: Any, x: Tensor, edges: list[Tensor]) -> Tensor:
    """A convolution of x and the boundary behind it, if there is one, without joining them.

    One channel more than a multiple of 8 is slow on a CPU.
    """
    convolve, channels = CONVOLVE[x.ndim - 2], x.shape[1]
    kernel = layer.weight  # read once: with spectral norm every reading is a power iteration
    made: Tensor = convolve(x, kernel[:, :channels], layer.bias, padding=1)
    for edge in edges:
        made = made + convolve(edge, kernel[:, channels:], padding=1)
    return made


def _strided(channels: int, out: int, axes: int) -> list[nn.Module]:
    """Half of every side: a strided 3x3x3 convolution, LeakyReLU."""
    # No instance norm: behind a convolution without a bias it takes the scale of the image away, wherever it stands.
    return [CONVOLUTION[axes](channels, out, 3, stride=2, padding=1, bias=False), nn.LeakyReLU(SLOPE, True)]


def _scales(x: Tensor, halve: nn.Module) -> list[Tensor]:
    """An eighth, a quarter, a half and the whole of every side."""
    scales = [x]
    for _ in range(3):
        scales.insert(0, halve(scales[0]))
    return scales
