"""A network without kernels of its own as one call that a CUDA graph can record.

Torch's convolutions do the work; the conversion of pixels goes along, so that 8 and 16 bit images
cross the bus as they are stored. What records and replays it is `esrgan_ext.inference.graphs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from esrgan_ext.ops.cpu import CompactShape
from esrgan_ext.ops.cuda import FusedNetwork, PixelMap

Strips = Callable[[Tensor], Iterator[tuple[int, Tensor]]]


class TorchNetwork(FusedNetwork):
    """A network's strips as one operator call.

    Parameters
    ----------
    shape : CompactShape
    network : nn.Module
        Whose parameters are used; they say type and device.
    strips : callable
        ``strips(x)`` yields first row and rows of the output, enqueueing only.
    """

    def __init__(self, shape: CompactShape, network: nn.Module, strips: Strips) -> None:
        super().__init__(shape, "torch", self._token)  # type: ignore[arg-type]
        self._network = network
        self._strips = strips
        self._addresses: tuple[int, ...] = ()
        self._current = torch.zeros(0, device="cpu")

    @property
    def zoom(self) -> int:
        return self.shape.zoom

    def _token(self) -> Tensor:
        """Another one whenever a parameter lies elsewhere: graphs hold addresses, not values."""
        addresses = tuple(p.data_ptr() for p in self._network.parameters())
        if addresses != self._addresses:
            self._addresses, self._current = addresses, torch.zeros(0, device="cpu")
        return self._current

    def into(
        self, x: Tensor, packed: Tensor, out: Tensor, pixels: PixelMap, nonfinite: Tensor
    ) -> None:
        """Enqueue one forward pass; see `FusedNetwork.into`."""
        dtype = next(self._network.parameters()).dtype
        image = x.to(torch.float32) * pixels.in_scale + pixels.in_offset
        nonfinite.zero_()
        for top, rows in self._strips(image.to(dtype)):
            exact = rows.to(torch.float32)
            torch.maximum(
                nonfinite, (~torch.isfinite(exact)).any().to(torch.int32).view(1), out=nonfinite
            )
            exact = exact * pixels.out_scale + pixels.out_offset
            if not out.is_floating_point():
                limits = torch.iinfo(out.dtype)
                exact = exact.nan_to_num_(nan=0.0).round_().clamp_(limits.min, limits.max)
            out[:, :, top : top + rows.shape[2]].copy_(exact)
