"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keeps a second network whose weights trail behind the trained one's.

    Parameters
    ----------
    network : nn.Module
        The one that is trained; copied here.
    decay : float
        Share of the average that stays at each step. Early on less stays, (1 + t) / (10 + t), so
        that the random start is forgotten.

    Attributes
    ----------
    network : nn.Module
        The averaged one, in eval mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after the given step, counted from 0."""
        decay = decay_at(self.decay, step)
        averages: list[torch.Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, list(network.parameters()), 1 - decay)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)


def decay_at(decay: float, step: int) -> float:
    """Share of the average that stays at a step, counted from 0: less early on."""
    return min(decay, (1 + step) / (10 + step))
