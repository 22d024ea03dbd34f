"""nnU-Net trained for a given number of iterations and nothing else; run by nnU-Net's own Python, not imported by ours.

python fixed_iterations.py DATASET CONFIGURATION ITERATIONS [--seed 0]
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class FixedIterations(nnUNetTrainer):
    """nnU-Net's network, loss, augmentation and SGD; its rate falls with each iteration instead of each epoch.

    No validation, which costs a sixth of nnU-Net's own epochs and would choose nothing here: the last weights are kept.
    """

    iterations = 1

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """nnU-Net's, but the schedule counts iterations."""
        optimizer, _ = super().configure_optimizers()
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.iterations)

    def run_training(self) -> None:
        """So many iterations, then the checkpoint."""
        self.on_train_start()
        self.network.train()
        losses = []
        for iteration in range(self.iterations):
            self.lr_scheduler.step(iteration)
            losses.append(float(self.train_step(next(self.dataloader_train))["loss"]))
            if (iteration + 1) % 50 == 0:
                self.print_to_log_file(f"{iteration + 1} iterations, loss of the last 50: {np.mean(losses[-50:]):.4f}")
        self.on_train_end()


# A checkpoint names its trainer, which prediction asks for the network alone. The network is nnU-Net's own, so its
# commands read the checkpoint and need nothing of ours.
FixedIterations.__name__ = nnUNetTrainer.__name__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("configuration")
    parser.add_argument("iterations", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002 - batchgenerators draws from the global state
    torch.manual_seed(options.seed)
    folder = Path(str(nnUNet_preprocessed)) / options.dataset
    # As nnU-Net's own command does it, without its search through all of its trainers, which costs seconds.
    trainer = FixedIterations(
        plans={**load_json(folder / "nnUNetPlans.json"), "continue_training": False},
        configuration=options.configuration,
        fold="all",
        dataset_json=load_json(folder / "dataset.json"),
        device=torch.device("cpu"),
    )
    trainer.iterations = options.iterations
    trainer.run_training()


if __name__ == "__main__":
    main()
