"""The tables of docs/reciprocal.md on a generated case: what the perturbation does, and what the critic's weight does.

OMP_NUM_THREADS=1 python benchmarks/reciprocal.py perturbation|weights
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' generated case and turns

from segan_pl.losses.overlap import soft_dice_loss
from segan_pl.losses.vat import adversarial_perturbation, vat_loss
from segan_pl.nets.reciprocal import Critic, Segmentor
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.reciprocal import Reciprocal
from tests.contracts import take_phase, tiny_batch

SIZE = (16, 16, 16)
EPSILON = 0.03  # root mean square, of an image in [0, 1]
RATES = {"segmentor": 5e-3, "critic": 1.25e-3}  # the paper's ratio; Dice alone learns in every seed
PATCH = {"stride": 2, "maps": 1}
SHIPPED = {"critic_input": "concat", "adversarial_weight": 0.1, "smoothing": 0.1, "vat_weight": 0.2}
GAMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({"adversarial_weight": 0.0}, {}),
    "paper, 0.3": ({"adversarial": "paper"}, {}),
    "ours, 0.3": ({}, {}),
    "ours, 0.1": ({"adversarial_weight": 0.1}, {}),
    "ours, strided, with the image, 0.3": ({"critic_input": "concat"}, PATCH),
    "ours, strided, with the image, 0.1": ({"critic_input": "concat", "adversarial_weight": 0.1}, PATCH),
    "reciprocal_ours as shipped": (SHIPPED, PATCH),
}


def perturbation() -> None:
    """Virtual adversarial loss of the clean image, under a random change and under the found one, four seeds."""
    batch = tiny_batch(size=SIZE)
    for seed in range(4):
        torch.manual_seed(seed)
        network = Segmentor(2, 1, width=4)
        fit_dice(network)
        clean = network(batch.image).sigmoid().detach()
        for name, reference in (("prediction", clean), ("labels", batch.target)):
            prices = [price(network, batch.image, reference, iterations) for iterations in (None, 0, 1)]
            print(f"seed {seed} {name:10} clean {prices[0]:.4f} random {prices[1]:.4f} gradient {prices[2]:.4f}")


def fit_dice(network: nn.Module, steps: int = 40) -> None:
    """A few steps of Dice alone."""
    batch = tiny_batch(size=SIZE)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        soft_dice_loss(network(batch.image).sigmoid(), batch.target, reduction="batch", epsilon=1.0).backward()
        optimiser.step()


def price(network: nn.Module, image: Tensor, reference: Tensor, iterations: int | None) -> float:
    """The loss under a change found in so many iterations; None for no change."""
    change = torch.zeros_like(image)
    if iterations is not None:
        change = adversarial_perturbation(
            network, image, reference, "sigmoid", epsilon=EPSILON, xi=EPSILON, power_iterations=iterations
        )
    return vat_loss(network, image, reference, "sigmoid", change).item()


def weights(steps: int = 240) -> None:
    """Dice of the training case and the critic's verdicts after so many steps, four seeds a game."""
    for name, (options, critic_options) in GAMES.items():
        for seed in range(4):
            torch.manual_seed(seed)
            objective = Reciprocal(**{"vat_weight": 0.0, **options})
            networks = {
                "segmentor": Segmentor(2, 1, width=4),
                "critic": Critic(objective.channels("critic", 2, 1)["in_channels"], width=8, **critic_options),
            }
            dice, parts = play_game(objective, networks, steps)
            verdicts = ", ".join(f"{part} {parts[part]:.2f}" for part in ("real", "fake") if part in parts)
            print(f"{name:36} seed {seed} Dice {dice:.2f} {verdicts}", flush=True)


def play_game(objective: Reciprocal, networks: dict[str, nn.Module], steps: int) -> tuple[float, dict[str, float]]:
    """Dice of the thresholded prediction, and the last batch's parts, at the paper's ratio of rates."""
    batch = tiny_batch(size=SIZE)
    optimisers = {
        "segmentor": torch.optim.Adam(networks["segmentor"].parameters(), RATES["segmentor"]),
        "critic": torch.optim.RMSprop(networks["critic"].parameters(), RATES["critic"]),
    }
    parts: dict[str, float] = {}
    for _ in range(steps):
        context = StepContext(networks, batch, "sigmoid")
        for phase in objective.phases():
            parts.update({name: float(value) for name, value in take_phase(phase, context, optimisers).items()})
    found = context.probability > 0.5
    overlap = (found & (batch.target > 0)).sum()
    return float(2 * overlap / (found.sum() + batch.target.sum())), parts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("perturbation", "weights"))
    {"perturbation": perturbation, "weights": weights}[parser.parse_args().table]()
