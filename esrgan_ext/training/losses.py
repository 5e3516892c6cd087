"""The losses of SRGAN and ESRGAN. What a recipe does with them is `objectives`' business.

All take logits, and binary cross-entropy is computed from them (softplus), so that nothing
overflows. `Mean` takes the mean of logits over the batch; where several processes share one, it
must be taken over all of them, differentiably.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.models.vgg import VGGFeatures

Mean = Callable[[Tensor], Tensor]
"""From logits of any shape to their mean, a tensor without axes."""


def _cross_entropy(logits: Tensor, real: bool) -> Tensor:
    """Mean of -log sigmoid(logits) where `real`, of -log(1 - sigmoid(logits)) where not."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def plain_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss of the original GAN, -log D(x_r) - log(1 - D(x_f)).

    Parameters
    ----------
    real, fake : Tensor, any shape
        Logits of HR and of (detached) SR images.

    Returns
    -------
    Tensor
        Without axes: the sum of both terms' means, without a factor 1/2.
    """
    return _cross_entropy(real, True) + _cross_entropy(fake, False)


def plain_generator_loss(fake: Tensor) -> Tensor:
    """SRGAN's adversarial loss, -log D(x_f) (arXiv 1609.04802, equation 6).

    Parameters
    ----------
    fake : Tensor, any shape
        Logits of SR images.

    Returns
    -------
    Tensor
        Without axes.
    """
    return _cross_entropy(fake, True)


def relativistic_discriminator_loss(
    real: Tensor, fake: Tensor, *, mean: Mean = torch.mean
) -> Tensor:
    """ESRGAN's discriminator loss (arXiv 1809.00219, equation 1, after arXiv 1807.00734).

    -E[log D(x_r, x_f)] - E[log(1 - D(x_f, x_r))] with D(a, b) = sigmoid(C(a) - E[C(b)]): how much
    more real is a real image than the fake ones on average, and back.

    Parameters
    ----------
    real, fake : Tensor, any shape
        Logits C of HR and of (detached) SR images.
    mean : callable
        See `Mean`.

    Returns
    -------
    Tensor
        Without axes: the sum of both terms, without a factor 1/2 (2 log 2 where all logits are
        one constant).
    """
    return _cross_entropy(real - mean(fake), True) + _cross_entropy(fake - mean(real), False)


def relativistic_generator_loss(real: Tensor, fake: Tensor, *, mean: Mean = torch.mean) -> Tensor:
    """ESRGAN's adversarial loss (equation 2): the discriminator's with the roles exchanged.

    -E[log(1 - D(x_r, x_f))] - E[log D(x_f, x_r)]. It has gradients through both terms, from the
    fake logits and from their mean; those of the real images do not depend on the generator,
    and may be detached.

    Parameters
    ----------
    real, fake : Tensor, any shape
        Logits C of HR and of SR images.
    mean : callable
        See `Mean`.

    Returns
    -------
    Tensor
        Without axes.
    """
    return _cross_entropy(real - mean(fake), False) + _cross_entropy(fake - mean(real), True)


class PerceptualLoss(nn.Module):
    """Distance between the VGG features of SR and HR.

    Parameters
    ----------
    features : VGGFeatures
        From `esrgan_ext.weights.vgg.load_vgg`: before activation for ESRGAN, after it for SRGAN.
    distance : str
        "l1", the mean absolute difference (ESRGAN's published code), or "l2", the mean squared
        one (SRGAN, equation 5).
    block_weights : sequence of float, optional
        Weights of the distances in the last convolution of each block of the network, of which the
        sum is taken. Empty: the last block's alone, as the papers have it.

    Raises
    ------
    ValueError
        Another distance, not one weight a block, or none above 0.
    """

    def __init__(
        self,
        features: VGGFeatures,
        distance: Literal["l1", "l2"] = "l1",
        block_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if distance not in ("l1", "l2"):
            raise ValueError(f"distance must be l1 or l2, not {distance!r}")
        blocks = len(features.config.convolutions)
        if len(block_weights) not in (0, blocks):
            raise ValueError(f"the network has {blocks} blocks, not {len(block_weights)}")
        if block_weights and not any(block_weights):
            raise ValueError("not all blocks can weigh nothing")
        self.features = features
        self.distance = distance
        self.block_weights = tuple(block_weights)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Mean over all features, or the weighted sum of the blocks' means.

        Parameters
        ----------
        sr, hr : Tensor, shape (N, 3, H, W)
            RGB, nominally in [0, 1]; gradients flow to `sr` alone.

        Returns
        -------
        Tensor
            Without axes.
        """
        distance = F.l1_loss if self.distance == "l1" else F.mse_loss
        if not self.block_weights:
            found = self.features(sr)
            with torch.no_grad():
                wanted = self.features(hr)
            return distance(found, wanted)
        blocks = self.features.blocks(sr)
        with torch.no_grad():
            wanted_blocks = self.features.blocks(hr)
        parts = zip(self.block_weights, blocks, wanted_blocks, strict=True)
        terms = [weight * distance(found, wanted) for weight, found, wanted in parts if weight]
        return torch.stack(terms).sum()
