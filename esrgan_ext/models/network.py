"""The base class of every super-resolution network here.

A network maps N,C,H,W to N,C,scale*H,scale*W. Inference asks for the result as strips of
finished rows, so that a large image needs no second copy and a caller can show what is done.
Nothing here knows files, devices, tiles or value ranges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.ops.cuda import FusedNetwork
from esrgan_ext.ops.eager import OnWork

if TYPE_CHECKING:
    from esrgan_ext.weights.info import ModelInfo


class SRNetwork(nn.Module, ABC):
    """Base class of the generators.

    Attributes
    ----------
    scale : int
        Output pixels per input pixel along each axis: 1 to 8.
    in_channels, out_channels : int
        Channels of the image that goes in and comes out.
    alignment : int
        Where a window is cut out of an image, its top left corner must be a multiple of this
        (the pixel-unshuffle factor; what tiles of the kernels need to equal the whole image).
    config : dataclass
        The configuration that the network was built from; None for one that does not say.
    info : ModelInfo or None
        Where it was loaded from; None for one made in memory.

    Examples
    --------
    >>> from esrgan_ext.models import SRNetwork
    >>> from esrgan_ext.weights import load_model
    >>> network = load_model("lite-psnr-x4")
    >>> isinstance(network, SRNetwork), network.macs(128, 128) / 1e9
    (True, 14.660665344)
    """

    scale: int
    in_channels: int
    out_channels: int
    alignment: int = 1
    config: Any = None
    info: ModelInfo | None = None

    if TYPE_CHECKING:  # torch's modules say that a call gives anything

        def __call__(self, x: Tensor, on_work: OnWork | None = None) -> Tensor: ...

    @abstractmethod
    def plain_forward(self, x: Tensor) -> Tensor:
        """The definition in differentiable torch operations: training, export, comparison.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, H, W)
            Floating point, nominally in [0, 1].

        Returns
        -------
        Tensor, shape (N, out_channels, scale * H, scale * W)
            The result in the dtype of x; not clipped to [0, 1].

        Examples
        --------
        >>> import torch
        >>> from esrgan_ext.models import SRResNet
        >>> SRResNet().plain_forward(torch.rand(1, 3, 8, 9)).shape
        torch.Size([1, 3, 32, 36])
        """

    @abstractmethod
    def strips(self, x: Tensor, on_work: OnWork | None = None) -> Iterator[tuple[int, Tensor]]:
        """Run without gradients and yield ``(first_row, rows)`` from the top of the output.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, H, W)
        on_work : callable or None
            Called with multiply-accumulates done since the last call; may raise to stop.
            The calls of one run sum to `macs(H, W)` times N, within a few per cent.

        Yields
        ------
        (int, Tensor of shape (N, out_channels, h, scale * W))
            The heights h add up to ``scale * H``.

        Examples
        --------
        >>> import torch
        >>> from esrgan_ext.models import RRDBNet, RRDBNetConfig
        >>> network = RRDBNet(RRDBNetConfig(nb=1))
        >>> sum(rows.shape[2] for top, rows in network.strips(torch.rand(1, 3, 8, 9)))
        32
        """

    @abstractmethod
    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of one image, directly counted.

        Parameters
        ----------
        height, width : int
            The image's, in pixels.

        Returns
        -------
        int

        Examples
        --------
        >>> from esrgan_ext.models import RRDBNet
        >>> RRDBNet().macs(128, 128) / 1e9  # x4, 23 RRDBs
        293.713477632
        """

    @abstractmethod
    def activation_bytes(self, height: int, width: int, itemsize: int) -> int:
        """Peak memory that `strips` needs beside the weights for one image.

        Parameters
        ----------
        height, width : int
            The image's, in pixels.
        itemsize : int
            Bytes of a value: 4 for float32, 2 for float16 and bfloat16.

        Returns
        -------
        int
            Bytes.

        Examples
        --------
        >>> from esrgan_ext.models import RRDBNet
        >>> network = RRDBNet()
        >>> network.activation_bytes(256, 256, 4) < network.activation_bytes(512, 512, 4)
        True
        """

    def fused(self) -> FusedNetwork | None:
        """The network as one operator call for the GPU that its parameters are on.

        Returns
        -------
        FusedNetwork or None
            None where there are no kernels for it, its type or its device: `strips` does the work.

        Examples
        --------
        >>> from esrgan_ext.models import RRDBNet
        >>> RRDBNet().fused() is None  # its parameters are on the CPU
        True
        """
        return None

    def same_in_batches(self, x: Tensor) -> bool:
        """Whether each image of a batch comes out as it does alone, to the bit.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, H, W)

        Returns
        -------
        bool
            True in compiled kernels; torch's convolutions add up otherwise in a larger batch.

        Examples
        --------
        >>> import torch
        >>> from esrgan_ext.models import SRResNet
        >>> SRResNet().same_in_batches(torch.zeros(2, 3, 8, 8))  # no kernels
        False
        """
        return False

    @property
    @abstractmethod
    def reach(self) -> int:
        """Radius of the receptive field in input pixels: no output pixel sees further."""

    def forward(self, x: Tensor, on_work: OnWork | None = None) -> Tensor:
        """Upscale a batch.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, H, W)
            Floating point, nominally in [0, 1]; any memory format.
        on_work : callable or None
            See `strips`. Ignored where gradients are recorded.

        Returns
        -------
        Tensor, shape (N, out_channels, scale * H, scale * W)

        Raises
        ------
        ValueError
            If x is not 4-D or its channel count is not `in_channels`.

        Examples
        --------
        >>> import torch
        >>> from esrgan_ext.weights import load_model
        >>> with torch.inference_mode():
        ...     load_model("lite-micro-x4")(torch.rand(2, 1, 8, 9)).shape
        torch.Size([2, 1, 32, 36])
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"expected N,{self.in_channels},H,W, got a tensor of shape {tuple(x.shape)}"
            )
        if records_operations():
            return self.plain_forward(x)
        n, _, height, width = x.shape
        out = x.new_empty((n, self.out_channels, height * self.scale, width * self.scale))
        for top, rows in self.strips(x, on_work):
            out[:, :, top : top + rows.shape[2]] = rows
        return out


def records_operations() -> bool:
    """Whether somebody writes down or transforms what a forward pass does: autograd,
    `torch.compile`, `torch.export`, `torch.jit.trace`, `torch.vmap`. They get the definition in
    torch's own operations."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad H and W at the bottom and right to a multiple, by reflection as Real-ESRGAN does.

    Sides too short to reflect (1 to 3 pixels) repeat their last row or column.
    """
    height, width = x.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if right:
        x = F.pad(x, (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    if below:
        x = F.pad(x, (0, 0, 0, below), mode="reflect" if below < height else "replicate")
    return x
