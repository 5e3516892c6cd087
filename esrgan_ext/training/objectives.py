"""Objectives of a recipe: the generator's losses and, where there is one, the discriminator's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.models.discriminators import (
    UNetDiscriminator,
    UNetDiscriminatorConfig,
    VGGDiscriminator,
    VGGDiscriminatorConfig,
)
from esrgan_ext.training import losses
from esrgan_ext.training.recipe import Recipe
from esrgan_ext.weights.vgg import load_vgg

Parts = dict[str, Tensor]
"""Losses by name, for the log."""


class PixelObjective:
    """L1 between SR and HR: the PSNR-oriented recipes.

    Attributes
    ----------
    discriminator : nn.Module or None
        Trained beside the generator.
    """

    discriminator: nn.Module | None = None

    def __init__(self, recipe: Recipe) -> None:
        self._weights = recipe.losses

    def to(self, device: torch.device) -> None:
        """Move what the losses are computed with."""

    def generator_loss(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Parts]:
        """The weighted sum to minimise, and its parts without weights.

        Parameters
        ----------
        sr, hr : Tensor, shape (N, 3, H, W)
            RGB in [0, 1].
        """
        l1 = F.l1_loss(sr.float(), hr)
        rounding = self._weights.rounding
        if not rounding:
            return self._weights.l1 * l1, {"l1": l1.detach()}
        rounded = (torch.sqrt((sr.float() - hr).square() + rounding**2) - rounding).mean()
        return self._weights.l1 * rounded, {"l1": l1.detach()}

    def discriminator_loss(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Parts]:
        """The discriminator's loss for detached SR images; only where there is one."""
        raise NotImplementedError


class AdversarialObjective(PixelObjective):
    """Perceptual, adversarial and L1 loss: SRGAN and ESRGAN (arXiv 1809.00219, equation 3).

    Parameters
    ----------
    recipe : Recipe
    seed : int
        Seed of the discriminator's first weights.
    perceptual : PerceptualLoss or None
        None where its weight is 0.
    mean : callable
        Mean of logits over the whole batch, whichever processes share it; see `losses.Mean`.
    """

    discriminator: nn.Module

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        perceptual: losses.PerceptualLoss | None,
        mean: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(recipe)
        self.discriminator = build_discriminator(recipe, seed)
        self.perceptual = perceptual
        self._mean = mean

    def to(self, device: torch.device) -> None:
        self.discriminator.to(device)
        if self.perceptual is not None:
            self.perceptual.to(device)

    def generator_loss(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Parts]:
        weights = self._weights
        l1 = F.l1_loss(sr, hr)
        parts = {"l1": l1.detach()}
        total = weights.l1 * l1
        if self.perceptual is not None:
            perceptual = self.perceptual(sr, hr)
            parts["perceptual"] = perceptual.detach()
            total = total + weights.perceptual * perceptual
        fake = self.discriminator(sr)
        if weights.gan == "plain":
            adversarial = losses.plain_generator_loss(fake)
        else:
            with torch.no_grad():
                real = self.discriminator(hr)
            adversarial = losses.relativistic_generator_loss(real, fake, mean=self._mean)
        parts["adversarial"] = adversarial.detach()
        return total + weights.adversarial * adversarial, parts

    def discriminator_loss(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Parts]:
        real, fake = self.discriminator(hr), self.discriminator(sr)
        if self._weights.gan == "plain":
            loss = losses.plain_discriminator_loss(real, fake)
        else:
            loss = losses.relativistic_discriminator_loss(real, fake, mean=self._mean)
        # Logits far apart mean that the discriminator has won and teaches nothing any more.
        parts = {
            "discriminator": loss.detach(),
            "real": real.detach().mean(),
            "fake": fake.detach().mean(),
        }
        return loss, parts


def build_objective(
    recipe: Recipe, seed: int, mean: Callable[[Tensor], Tensor], features: str | None = None
) -> PixelObjective:
    """The objective that a recipe asks for.

    Parameters
    ----------
    recipe : Recipe
    seed : int
    mean : callable
        See `AdversarialObjective`.
    features : str, optional
        File of the perceptual loss's weights; else the recipe's network is looked for.

    Raises
    ------
    ModelError, DownloadError
        The weights of the perceptual loss's network are not to be had.
    """
    options = recipe.losses
    if not recipe.adversarial:
        return PixelObjective(recipe)
    perceptual = None
    if options.perceptual > 0:
        network = load_vgg(
            features or options.features, before_activation=options.before_activation
        )
        perceptual = losses.PerceptualLoss(
            network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            options.feature_distance,
            options.block_weights,
        )
    return AdversarialObjective(recipe, seed, perceptual, mean)


def build_discriminator(recipe: Recipe, seed: int) -> nn.Module:
    """The recipe's discriminator with random weights, channels-last."""
    options = recipe.discriminator
    network: nn.Module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)  # not the generator's random numbers again
        if options.kind == "unet":
            network = UNetDiscriminator(UNetDiscriminatorConfig(nf=options.nf))
        else:
            config = VGGDiscriminatorConfig(nf=options.nf, size=recipe.data.patch)
            network = VGGDiscriminator(config)
    return network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
