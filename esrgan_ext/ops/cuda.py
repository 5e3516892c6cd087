"""Runs a whole RRDBNet on a GPU: one operator call, no waiting for the device, in a graph or not.

The caller brings the network's shape and parameters. When the packed weights have to be made anew
is decided here; which kernels run, in `csrc/cuda`; when a graph is captured, in
`esrgan_ext.inference.graphs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esrgan_ext.ops import packed as packed_weights
from esrgan_ext.ops.build import library, paths, selfcheck, toolchain
from esrgan_ext.ops.cpu import NetworkShape

COMPUTE_NAMES = ("float16", "bfloat16", "tf32", "float32")

_COMPUTE = {torch.float16: "float16", torch.bfloat16: "bfloat16"}


def compute_name(dtype: torch.dtype) -> str:
    """How the kernels multiply for tensors of a type: float32 as torch's own convolutions do."""
    if dtype == torch.float32:
        return "tf32" if _tf32_allowed() else "float32"
    return _COMPUTE[dtype]


def _tf32_allowed() -> bool:
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:  # set through the newer fp32_precision, which forbids asking this way
        return torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are kernels for that device and type, and they passed their self-check."""
    if device.type != "cuda" or dtype not in selfcheck.PRECISIONS.values():
        return False
    if torch.cuda.get_device_capability(device) < toolchain.OLDEST_CAPABILITY:
        return False
    module = library.load_cuda()
    if module is None:
        return False
    device = torch.device("cuda", _index(device))
    if not module.paths(device.index, compute_name(dtype)):
        return False
    return selfcheck.trusted(device, dtype)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def supports(shape: NetworkShape, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels run this network in that type on that device."""
    if not available(device, dtype):
        return False
    module = library.load_cuda()
    assert module is not None
    return module.unsupported(shape.as_list()) == ""


@dataclass(frozen=True)
class PixelMap:
    """Linear maps between stored pixels and the network's [0, 1], done within the operator.

    The network sees ``x * in_scale + in_offset``; ``y * out_scale + out_offset``, rounded half to
    even and clipped to its type for integers, is stored.
    """

    in_scale: float = 1.0
    in_offset: float = 0.0
    out_scale: float = 1.0
    out_offset: float = 0.0


class PackedWeights:
    """A network's weights in the kernels' form, packed again whenever they have changed.

    As far as `packed.versions` sees that.
    """

    def __init__(self) -> None:
        self._kept: packed_weights.Kept[_OnDevice] = packed_weights.Kept()

    def get(
        self,
        shape: NetworkShape,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        compute: str,
    ) -> Tensor:
        """The packed form of these parameters, all on one GPU, in network order.

        Valid on the current stream, which waits for the packing where another one did that.
        """

        def pack() -> _OnDevice:
            detached = ([t.detach() for t in group] for group in (weights, biases))
            with torch.inference_mode():
                packed = torch.ops.esrgan_ext.rrdbnet_pack(*detached, shape.as_list(), compute)
            return _OnDevice(packed)

        key = (shape, compute, packed_weights.versions([*weights, *biases]))
        return self._kept.get(key, pack, _OnDevice.order).packed


class _OnDevice:
    """Packed weights, and when and on which stream they are ready."""

    def __init__(self, packed: Tensor) -> None:
        self.packed = packed
        self._stream: torch.cuda.Stream | None = None
        if packed.device.type == "cuda":
            self._stream = torch.cuda.current_stream(packed.device)
            self._ready = self._stream.record_event()

    def order(self) -> None:
        """Let the current stream wait for them."""
        if self._stream is None:
            return
        stream = torch.cuda.current_stream(self.packed.device)
        if stream == self._stream or torch.cuda.is_current_stream_capturing():
            return  # before a capture torch waits for the whole device
        stream.wait_event(self._ready)
        self.packed.record_stream(stream)


def run(shape: NetworkShape, packed: Tensor, x: Tensor, compute: str) -> Tensor:
    """The network's output for N,C,H,W, in the type of x, enqueued on the current stream."""
    return torch.ops.esrgan_ext.rrdbnet(
        x, packed, shape.as_list(), compute, _path_for(shape, x, compute)
    )


def _path_for(shape: NetworkShape, x: Tensor, compute: str) -> str:
    """The trunk's kernels that were measured fastest for a batch of this size; "" for the default.

    The size alone decides, so a batch gives the same result whoever asks, and a graph records
    what runs without one.
    """
    if x.device.type != "cuda":
        return ""
    device = torch.device("cuda", _index(x.device))
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    return paths.choose(device, compute, (shape.nf, shape.gc), pixels)


def working_bytes(
    shape: NetworkShape, device: torch.device, dtype: torch.dtype, height: int, width: int
) -> int:
    """Bytes that one image takes on the device beside the packed weights: scratch memory, input
    and output, the latter two in float32."""
    module = library.load_cuda()
    assert module is not None
    scratch = module.workspace_bytes(
        shape.as_list(), compute_name(dtype), _index(device), 1, height, width
    )
    zoom = 4**shape.upsamplings
    return scratch + 4 * height * width * (shape.in_channels + zoom * shape.out_channels)


class FusedNetwork:
    """One network as one operator call that writes into given tensors, so a graph can record it.

    Parameters
    ----------
    shape : NetworkShape
    compute : str
        See `compute_name`.
    packed : callable
        Gives the packed weights as they are now, see `PackedWeights.get`.
    """

    def __init__(self, shape: NetworkShape, compute: str, packed: Callable[[], Tensor]) -> None:
        self.shape = shape
        self.compute = compute
        self.packed = packed

    @property
    def zoom(self) -> int:
        """Output pixels per input pixel along each axis."""
        return 2**self.shape.upsamplings

    def into(
        self, x: Tensor, packed: Tensor, out: Tensor, pixels: PixelMap, nonfinite: Tensor
    ) -> None:
        """Enqueue one forward pass.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W)
            uint8, uint16 or floating point, any strides.
        packed : Tensor
        out : Tensor, shape (N, out_channels, H * zoom, W * zoom)
            As x; need not be of the same type.
        pixels : PixelMap
        nonfinite : Tensor, shape (1,), int32
            Becomes 1 where a value of the network's output is not finite, else 0.
        """
        nonfinite.zero_()
        torch.ops.esrgan_ext.rrdbnet_into(
            x,
            packed,
            self.shape.as_list(),
            out,
            None,
            self.compute,
            pixels.in_scale,
            pixels.in_offset,
            pixels.out_scale,
            pixels.out_offset,
            None,
            None,
            nonfinite,
            _path_for(self.shape, x, self.compute),
        )
