"""From a data set's numbers and a machine to a system, each choice with its reason, by docs/recipe.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, Literal

from segan_pl.cli.commands.plan.fingerprint import ENOUGH, Fingerprint, Machine
from segan_pl.cli.commands.plan.memory import step_bytes
from segan_pl.data.labels import LabelScheme
from segan_pl.errors import UsageError
from segan_pl.experiments.config_layers import read_config
from segan_pl.experiments.shipped import find_config

Dimensions = Literal[2, 3]

THICK = 3.0
"""Spacing over the smallest from which neighbouring slices tell little of one another (nnU-Net's bound)."""
SHALLOW = 32  # slices below which a volume is not worth a 3-D network: less than two patches of the smallest depth
STRIPPED = 0.5  # share of zeros from which air was removed: a head fills about half of its volume, a brain a fifth
FILLS = math.pi / 6  # of its box, by an ellipsoid
SPREAD = 1.25  # of the cases' spacings, above which they are resampled to one
LARGEST = {"strong2d_small": 160, "strong2d": 256, "strong3d": 128}  # side of a patch
ON_CPU = {"width": 8, "levels": 4, "deep_supervision": 1}  # of a 3-D network, with patches of half the side
SHARE = 0.25  # of the time, for validation
OF_GPU, OF_MEMORY = 0.8, 0.5  # that a step may take: a GPU holds other things too, and a machine other programs
MANY = 8  # names in a comment


@dataclass(frozen=True)
class Chosen:
    """A value of the plan, and why; without a reason where the recipe says it."""

    value: Any
    why: str = ""


@dataclass(frozen=True)
class Network:
    """What was found to fit.

    Attributes:
        recipe: The shipped system that it is taken from.
        arguments: Of `MonaiSegmentor`.
        patch: (H, W) or (D, H, W).
        batch: Patches.
        step_bytes: Of a step.
    """

    recipe: str
    arguments: dict[str, Any]
    patch: tuple[int, ...]
    batch: int
    step_bytes: int


def dimensions_of(data: Fingerprint, machine: Machine, asked: Dimensions | None) -> tuple[Dimensions, str]:
    """Slices or volumes, and why."""
    if asked is not None:
        return asked, f"as asked (--dimensions {asked})"
    if not machine.gpu_bytes:
        return 2, "no GPU: a step on volumes takes a CPU many times as long; --dimensions 3 asks for one all the same"
    if data.anisotropy > THICK:
        return 2, f"voxels are {data.anisotropy:.1f} times as thick as wide: neighbouring slices tell little"
    if data.size[data.coarsest] < SHALLOW:
        return 2, f"{data.size[data.coarsest]} slices are few for a volume"
    return 3, f"voxels are nearly cubes (1 to {data.anisotropy:.1f}) and there is a GPU"


def box_of(data: Fingerprint) -> tuple[int, int, int]:
    """Voxels along x, y, z of what is left once empty borders are cropped: an estimate from the share of zeros.

    An ellipsoid with the volume's proportions holds what is not 0.
    """
    scale = min(1.0, ((1 - data.empty) / FILLS) ** (1 / 3))
    x, y, z = (max(1, round(side * scale)) for side in data.size)
    return x, y, z


def sides(data: Fingerprint, dimensions: Dimensions) -> tuple[int, ...]:
    """The box as (H, W) of a slice across the coarsest axis, or (D, H, W)."""
    x, y, z = box_of(data)
    if dimensions == 3:
        return z, y, x
    return {0: (z, y), 1: (z, x), 2: (y, x)}[data.coarsest]


def largest_side(recipe: str, machine: Machine) -> int:
    """Of a patch, voxels."""
    return LARGEST[recipe] // (2 if recipe == "strong3d" and not machine.gpu_bytes else 1)


def network_of(data: Fingerprint, machine: Machine, dimensions: Dimensions, channels: tuple[int, int]) -> Network:
    """The recipe's network with the largest patch and batch that fit.

    Raises:
        UsageError: Not even the smallest does.
    """
    recipe = "strong3d" if dimensions == 3 else "strong2d" if machine.gpu_bytes else "strong2d_small"
    settings: Any = read_config(find_config(recipe))
    arguments = dict(settings["model"]["networks"]["segmentor"]["init_args"])
    room = OF_GPU * machine.gpu_bytes if machine.gpu_bytes else OF_MEMORY * machine.memory_bytes
    if dimensions == 3 and not machine.gpu_bytes:
        arguments |= ON_CPU
    box, most = sides(data, dimensions), largest_side(recipe, machine)
    batch = int(settings["data"]["batch_size"])
    if dimensions == 3 and min(box) < 2 ** arguments["levels"]:
        levels = max(3, int(math.log2(min(box))))
        arguments |= {"levels": levels, "deep_supervision": min(arguments["deep_supervision"], levels - 2)}
    multiple = 2 ** (arguments["levels"] - 1)
    patch = [max(multiple, min(most // multiple, math.ceil(side / multiple)) * multiple) for side in box]
    while (needed := step_bytes(arguments, channels, patch, batch)) > room:
        if batch > 2:
            batch = max(2, batch // 2)
        elif max(patch) > 2 * multiple:
            patch[patch.index(max(patch))] -= multiple
        elif arguments["width"] > 8:
            arguments["width"] //= 2
        else:
            raise UsageError(
                f"{room / 1e9:.1f} GB are too little: the smallest {dimensions}-D step takes {needed / 1e9:.1f} GB; "
                f"give --dimensions 2 or train where there is more"
            )
    return Network(recipe, arguments, tuple(patch), batch, needed)


def validation_interval(data: Fingerprint, network: Network, batches: int, epochs: int, validated: int) -> int:
    """Epochs from one validation to the next with which it takes at most a share of the time; a divisor of the epochs.

    A forward pass alone takes about a third of a step (`segan_pl fit` says what it really takes).
    """
    whole = validated * prod(box_of(data)) / 3
    trained = batches * network.batch * prod(network.patch)
    needed = whole * (1 - SHARE) / (SHARE * trained)
    return next((every for every in range(1, epochs) if epochs % every == 0 and every >= needed), epochs)


def choices(
    data: Fingerprint,
    machine: Machine,
    scheme: LabelScheme,
    *,
    stated: Mapping[str, Any] = MappingProxyType({}),
    dimensions: Dimensions | None = None,
    experiment: str = "plan",
) -> dict[str, Any]:
    """A configuration for `fit` whose values are `Chosen`, nested as in the file.

    Args:
        data: The data set.
        machine: Where it will be trained.
        scheme: What the masks become.
        stated: Options of the data that were typed, by name.
        dimensions: 2 or 3 where it is asked for.
        experiment: Name of the folder of its runs.

    Raises:
        UsageError: As `network_of`.
    """
    found, why = dimensions_of(data, machine, dimensions)
    network = network_of(data, machine, found, (len(data.modalities), len(scheme.channels)))
    recipe: Any = read_config(find_config(network.recipe))
    model, trainer = recipe["model"], recipe["trainer"]
    stripped_tissues = not scheme.convention.tumour and data.empty > STRIPPED
    small = network.recipe == "strong2d_small"
    model["networks"]["segmentor"]["init_args"] = {
        name: Chosen(value, _why_network(name, network, machine, why)) for name, value in network.arguments.items()
    }
    epochs, batches = int(trainer["max_epochs"]), int(recipe["data"]["sampling"]["batches"])
    if not machine.gpu_bytes and found == 3:
        epochs, batches = 28, 50
    validated = max(1, round(0.2 * data.cases))
    every = validation_interval(data, network, batches, epochs, validated)
    return {
        "model": model,
        "data": {
            **_cases(data, scheme),
            **{name: Chosen(value, "as stated") for name, value in stated.items()},
            "batch_size": Chosen(network.batch, _why_batch(recipe["data"]["batch_size"], network, machine)),
            "patch": Chosen(list(network.patch), _why_patch(data, network, machine, found)),
            "preparation": _preparation(data, found, stripped_tissues),
            "sampling": {
                "batches": Chosen(batches, "an epoch; the recipe's"),
                "foreground": Chosen(0.33, "a third of the patches is drawn to a labelled voxel (nnU-Net)"),
            },
            "augmentation": _augmentation(data, recipe, found, stripped_tissues),
            "workers": Chosen("auto", f"of {machine.cores} cores; fit says how many the epoch's size pays for"),
        },
        "trainer": {
            "max_epochs": Chosen(epochs, f"{epochs * batches:,} steps; the rate falls to 0 with the last epoch"),
            "check_val_every_n_epoch": Chosen(
                every, f"scoring about {validated} whole cases then takes at most a quarter of the time"
            ),
        },
        "run": {
            "precision_safe": Chosen(
                small,
                "bfloat16 where the machine has it; this network's curves were compared (docs/settings.md)"
                if small
                else "32 bits: no whole training of this network was compared in both",
            ),
            "experiment": Chosen(experiment, "runs lie in runs/<experiment>"),
            "monitor": Chosen("val/dice_mean", f"the mean over {', '.join(scheme.foreground)} chooses the checkpoint"),
        },
    }


def _why_network(name: str, network: Network, machine: Machine, dimensions: str) -> str:
    if name == "spatial_dims":
        return dimensions
    if name == "kind":
        return f"of {network.recipe}, docs/recipe.md"
    if name == "width":
        where = f"a GPU of {machine.gpu_bytes / 1e9:.0f} GB" if machine.gpu_bytes else f"{machine.cores} CPU cores"
        return f"channels of the first level, for {where}"
    return ""


def _why_batch(of_recipe: int, network: Network, machine: Machine) -> str:
    """What a step takes of what there is."""
    fits = "the recipe's" if network.batch == of_recipe else f"what fits; the recipe's is {of_recipe}"
    memory = machine.gpu_bytes or machine.memory_bytes
    where = f"of GPU memory ({machine.gpu})" if machine.gpu_bytes else "of memory"
    return f"{fits}; a step takes about {network.step_bytes / 1e9:.2f} GB of {memory / 1e9:.0f} GB {where}"


def _cases(data: Fingerprint, scheme: LabelScheme) -> dict[str, Chosen]:
    """Which cases and what of them."""
    dropped = f"; too few cases have {', '.join(data.dropped)}" if data.dropped else ""
    meaning = "; ".join(f"{label} {tissue}" for label, tissue in scheme.convention.meanings.items())
    columns = [name for name, number in (("grade", data.grades), ("institution", data.institutions)) if number > 1]
    found: dict[str, Chosen] = {
        "root": Chosen(str(data.source.root.resolve())),
        "layout": Chosen(data.source.layout, "found by its files"),
        "modalities": Chosen(
            list(data.modalities), f"{ENOUGH:.0%} of the cases with a mask or more have them{dropped}"
        ),
    }
    found["labels"] = Chosen(scheme.target, f"the masks hold {meaning}; scored: {', '.join(scheme.foreground)}")
    if data.left_out:
        found["missing"] = Chosen("drop", f"left out, no mask or a modality missing: {_named(data.left_out)}")
    found["stratify_by"] = Chosen(
        columns,
        f"the split keeps the share of each {' and '.join(columns)}" if columns else "nothing tells cases apart",
    )
    return found


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return f"{', '.join(names[:MANY])}{more}"


def _why_patch(data: Fingerprint, network: Network, machine: Machine, dimensions: Dimensions) -> str:
    box = " x ".join(map(str, sides(data, dimensions)))
    multiple = 2 ** (network.arguments["levels"] - 1)
    most = largest_side(network.recipe, machine)
    return f"multiples of {multiple}; about {box} voxels are not empty; at most {most} a side"


def _preparation(data: Fingerprint, dimensions: Dimensions, stripped_tissues: bool) -> dict[str, Chosen]:
    """Crop, scaling, grid and axes."""
    found = {"crop": Chosen("nonzero", f"{data.empty:.0%} of the voxels are empty")}
    if stripped_tissues:
        found |= {
            "scaling": Chosen("percentile", "z-scores have the brain's mean where there is air, which costs tissues"),
            "percentiles": Chosen([0.0, 99.5], "as tissue_preparation, docs/data.md"),
        }
    else:
        found["scaling"] = Chosen("zscore", "MRI has no unit: mean 0 and deviation 1 of what is not 0")
    if data.spread > SPREAD:
        spacing = [round(one, 3) for one in data.spacing_mm]
        found["spacing_mm"] = Chosen(spacing, f"voxels differ by {data.spread:.2f} times between cases; the median")
    if dimensions == 2 and data.coarsest != 2:
        axes = {0: "PSL", 1: "LSP"}[data.coarsest]
        along = "left to right" if data.coarsest == 0 else "front to back"
        found["orientation"] = Chosen(axes, f"slices across the axis with the largest voxels, {along}")
        if "spacing_mm" in found:  # in the order of the turned axes
            x, y, z = found["spacing_mm"].value
            turned = [y, z, x] if axes == "PSL" else [x, z, y]
            found["spacing_mm"] = Chosen(turned, f"{found['spacing_mm'].why}, of the axes {axes}")
    return found


def _augmentation(data: Fingerprint, recipe: Any, dimensions: Dimensions, stripped_tissues: bool) -> dict[str, Any]:
    """The recipe's, or that for intensities in [0, 1]; mirror images where nothing ends upside down."""
    found, why = recipe["data"]["augmentation"], "as nnunet_augmentation"
    if stripped_tissues:
        mild: Any = read_config(find_config("mild_augmentation"))
        found, why = mild["data"]["augmentation"], "as mild_augmentation, for intensities in [0, 1]"
    mirror = found["mirror"]
    if stripped_tissues or (dimensions == 2 and data.coarsest != 2):
        sagittal = dimensions == 2 and data.coarsest == 0
        mirror = [0.0, 0.0, 0.0 if sagittal else 0.5]
        why = f"{'a sagittal slice has no mirror image' if sagittal else 'left and right alone'}; the rest {why}"
    return {"mirror": Chosen(mirror, why), **{name: value for name, value in found.items() if name != "mirror"}}
