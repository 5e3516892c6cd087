"""The processes of a run: one, or as many as `torchrun` started, on one machine or several.

Gradients are averaged in one flat buffer after the backward pass instead of by
DistributedDataParallel: the networks are small (67 MB at most), a GAN step runs backwards through
two of them, and any number of forward passes is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """This process's place among all.

    Attributes
    ----------
    rank, world : int
    local_rank : int
        Within this machine: the number of its GPU.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace each gradient by its mean over all processes."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        pieces = flat.split([g.numel() for g in gradients])
        torch._foreach_copy_(
            gradients, [f.view(g.shape) for f, g in zip(pieces, gradients, strict=True)]
        )

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes, differentiable."""
        if self.world == 1:
            return value
        return _Sum.apply(value) / self.world

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()


class _Sum(torch.autograd.Function):
    """Sum over all processes, whose gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def join() -> Group:
    """Join the processes that torchrun started; a group of one without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Group()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo")
    return Group(dist.get_rank(), dist.get_world_size(), local)


def leave() -> None:
    """Close the connections of `join`."""
    if dist.is_initialized():
        dist.destroy_process_group()
