"""A convolution's forward and backward pass in bfloat16 against float32 on this CPU, one thread, alternating.

python benchmarks/bench_bfloat16.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from segan_pl.cli.precision import has_bfloat16


def seconds(network: nn.Module, image: torch.Tensor, low: bool) -> float:
    """CPU time of five steps."""
    start = time.process_time()
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = network(image).float().square().mean()
        loss.backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    image = torch.randn(8, 64, 40, 40).to(memory_format=torch.channels_last)
    times: dict[bool, list[float]] = {False: [], True: []}
    for low in times:
        seconds(network, image, low)  # kernels are chosen
    for _ in range(options.rounds):
        for low, taken in times.items():
            taken.append(seconds(network, image, low))
    ratio = statistics.median(times[True]) / statistics.median(times[False])
    print(f"bfloat16 instructions: {'yes' if has_bfloat16('cpu') else 'no'}; bfloat16 / float32: {ratio:.2f}")


if __name__ == "__main__":
    main()
