"""Several ranks with one batch each: the gradients of the networks that a phase moves are averaged, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.constants import default_pg_timeout

from segan_pl.training.run.fellows import Fellows
from segan_pl.training.run.signals import active

BUCKET = 2**23
"""Elements that are reduced at once, 32 MiB of float32; the next are gathered meanwhile."""


class PhaseDDP(DDPStrategy):
    """Lightning's DDP for networks that alternate, without PyTorch's wrapper around all of them.

    The wrapper reduces the gradients of every network after every backward pass, and searches the graph for those that
    a phase has left unused. Here the phase says which networks move: `average_gradients` reduces theirs, once a step,
    however many batches the step has. The ranks watch one another from their start (`Fellows`).

    DDPStrategy's other arguments are the wrapper's, and are refused.

    Args:
        process_group_backend: "nccl" or "gloo"; default by the device.
        timeout: After which a collective that waits is an error (PyTorch: 10 minutes for NCCL, 30 for gloo).
    """

    def __init__(
        self, process_group_backend: str | None = None, timeout: timedelta | None = default_pg_timeout
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, timeout=timeout)
        self.fellows: Fellows | None = None

    def setup_environment(self) -> None:
        """Watch the other ranks, and join them."""
        assert self.cluster_environment is not None
        self.fellows = Fellows(active())
        self.fellows.watch_family(self.launcher, self.node_rank * self.num_processes)
        super().setup_environment()
        self.fellows.connect(self.global_rank, self.world_size, self.cluster_environment.main_address)

    def configure_ddp(self) -> None:
        """Let all ranks begin with rank 0's weights and buffers; the module stays as it is."""
        assert self.model is not None
        with torch.no_grad():
            for tensor in [*self.model.parameters(), *self.model.buffers()]:
                dist.broadcast(tensor, 0)

    def average_gradients(self, networks: Iterable[nn.Module]) -> None:
        """Give every rank the mean of all ranks' gradients; a parameter without one on some ranks counts as 0 there.

        One without a gradient on any rank keeps none, as on one rank, so that no optimiser moves it.

        Args:
            networks: The same on every rank.
        """
        parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
        for bucket, flat, work in [*self._reduced(parameters)]:
            work.wait()
            flat /= self.world_size
            *gradients, there = torch.split(flat, [*(p.numel() for p in bucket), len(bucket)])
            # asked only where it is not known: a device would wait for the answer
            moved = there.tolist() if any(p.grad is None for p in bucket) else [1] * len(bucket)
            for parameter, gradient, has in zip(bucket, gradients, moved, strict=True):
                if parameter.grad is not None:
                    parameter.grad.copy_(gradient.view(parameter.shape))
                elif has:
                    parameter.grad = gradient.view(parameter.shape).clone(memory_format=torch.preserve_format)

    def _reduced(self, parameters: list[nn.Parameter]) -> Iterator[tuple[list[nn.Parameter], Tensor, Any]]:
        """Buckets of parameters, each with its gradients in a row and who has one, and what is waited for."""
        bucket: list[nn.Parameter] = []
        size = 0
        for number, parameter in enumerate(parameters):
            bucket.append(parameter)
            size += parameter.numel()
            following = parameters[number + 1] if number + 1 < len(parameters) else None
            if following is None or size >= BUCKET or following.dtype != parameter.dtype:
                parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket]
                there = parameter.new_tensor([p.grad is not None for p in bucket])
                flat = torch.cat([*parts, there])
                yield bucket, flat, dist.all_reduce(flat, async_op=True)
                bucket, size = [], 0

    def on_exception(self, exception: BaseException) -> None:
        """Tell the other ranks why this one ends."""
        super().on_exception(exception)
        if self.fellows is not None:
            self.fellows.tell(exception)

    def teardown(self) -> None:
        """Leave the other ranks."""
        super().teardown()
        if self.fellows is not None:
            self.fellows.close()
