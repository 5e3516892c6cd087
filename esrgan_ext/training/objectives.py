"""What a recipe minimises: the generator's losses, and where there is one the discriminator."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.training.recipe import Recipe


class PixelObjective:
    """L1 between SR and HR: the PSNR-oriented recipes."""

    #: Where a discriminator is trained too.
    discriminator: nn.Module | None = None

    def __init__(self, recipe: Recipe) -> None:
        self._weight = recipe.losses.l1

    def generator_loss(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and its parts, for the log."""
        l1 = F.l1_loss(sr, hr)
        return self._weight * l1, {"l1": l1.detach()}

    def discriminator_loss(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Not called without a discriminator."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        return {}
