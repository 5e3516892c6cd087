"""The operators of `torch.ops.esrgan_ext`: their schemas, and what runs them on the CPU.

Checks of arguments and the bridge from tensors to `CpuLibrary`. What CUDA does with the same
schemas is in csrc/torch/cuda_ops.cpp; fake kernels and gradients are in `registration`.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from esrgan_ext.ops import packed as packed_weights
from esrgan_ext.ops import reference
from esrgan_ext.ops.build.cpu_library import Batch, CpuLibrary, NetworkFunctions

SCHEMAS = (
    "dense_block(Tensor x, Tensor[] weights, Tensor[] biases, float negative_slope, "
    "float residual_scale) -> Tensor",
    # `compute`: float16, bfloat16, tf32 or float32; what the tensors' type implies if empty.
    'rrdbnet_pack(Tensor[] weights, Tensor[] biases, int[] shape, str compute="") -> Tensor',
    # `path`: on a GPU, the kernels that the trunk runs on (mma or wgmma).
    'rrdbnet(Tensor x, Tensor packed, int[] shape, str compute="", str path="") -> Tensor',
    # `control` is the CPU's, see `_run`; what follows it is for devices. The network sees x *
    # in_scale + in_offset; what it makes of that, times out_scale plus out_offset, within out_low
    # and out_high, is stored in out. x and out may be integers.
    "rrdbnet_into(Tensor x, Tensor packed, int[] shape, Tensor(a!) out, Tensor(b!)? control, "
    'str compute="", float in_scale=1., float in_offset=0., float out_scale=1., '
    "float out_offset=0., float? out_low=None, float? out_high=None, "
    'Tensor(c!)? nonfinite=None, str path="") -> ()',
)

# Networks that have kernels of their own on the CPU alone.
CPU_SCHEMAS = (
    "compact_pack(Tensor[] weights, Tensor[] biases, Tensor[] slopes, int[] shape) -> Tensor",
    "compact_into(Tensor x, Tensor packed, int[] shape, Tensor(a!) out, Tensor(b!)? control) -> ()",
    "compact_unsupported(int[] shape) -> str",
    "rrdbnet_unsupported(int[] shape) -> str",
)

_fragment: torch.library.Library | None = None


def define() -> torch.library.Library:
    """Define the operators, once a process, without an implementation."""
    global _fragment
    if _fragment is None:
        _fragment = torch.library.Library("esrgan_ext", "FRAGMENT")
        for schema in SCHEMAS:
            _fragment.define(schema)
    return _fragment


def implement(library: CpuLibrary) -> None:
    """Define the operators and let this library run them on the CPU."""
    fragment = define()
    for schema in CPU_SCHEMAS:
        fragment.define(schema)
    kernels = CpuKernels(library)
    for name in ("dense_block", "rrdbnet_pack", "rrdbnet", "rrdbnet_into"):
        fragment.impl(name, getattr(kernels, name), "CPU")
    fragment.impl("compact_pack", kernels.compact_pack, "CPU")
    fragment.impl("compact_into", kernels.compact_into, "CPU")
    for kind in ("rrdbnet", "compact"):
        unsupported = getattr(kernels, f"{kind}_unsupported")
        fragment.impl(f"{kind}_unsupported", unsupported, "CompositeImplicitAutograd")


class CpuKernels:
    """The operators on the CPU, out of one library."""

    def __init__(self, library: CpuLibrary) -> None:
        self._library = library
        self._blocks = DenseBlockCache(library)

    def dense_block(
        self,
        x: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
        negative_slope: float,
        residual_scale: float,
    ) -> Tensor:
        _check_dense_block(x, weights, biases)
        functions = self._library.dense_block
        shape = functions.shape(x.shape[1], weights[0].shape[0], negative_slope, residual_scale)
        if not _is_plain_float(x) or functions.unsupported(shape):
            return reference.dense_block(x, weights, biases, negative_slope, residual_scale)
        for parameter in (*weights, *biases):
            _require(
                _is_plain_float(parameter), "weights and biases must be float32 tensors on the CPU"
            )
        dense = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(dense, memory_format=torch.channels_last)
        if x.numel() == 0:
            return out
        threads = torch.get_num_threads()
        block = self._blocks.packed(weights, biases, negative_slope, residual_scale)
        images, _, height, width = x.shape
        functions.run(
            shape,
            block.data_ptr(),
            dense.data_ptr(),
            out.data_ptr(),
            images,
            height,
            width,
            threads,
        )
        return out

    def rrdbnet_unsupported(self, shape: list[int]) -> str:
        return _unsupported(self._library.rrdbnet, shape)

    def compact_unsupported(self, shape: list[int]) -> str:
        return _unsupported(self._library.compact, shape)

    def rrdbnet_pack(
        self, weights: list[Tensor], biases: list[Tensor], shape: list[int], compute: str = ""
    ) -> Tensor:
        _check_compute(compute)
        return _pack(self._library.rrdbnet, shape, weights, biases, None)

    def compact_pack(
        self, weights: list[Tensor], biases: list[Tensor], slopes: list[Tensor], shape: list[int]
    ) -> Tensor:
        return _pack(self._library.compact, shape, weights, biases, slopes)

    def rrdbnet_into(
        self,
        x: Tensor,
        packed: Tensor,
        shape: list[int],
        out: Tensor,
        control: Tensor | None,
        compute: str = "",
        in_scale: float = 1.0,
        in_offset: float = 0.0,
        out_scale: float = 1.0,
        out_offset: float = 0.0,
        out_low: float | None = None,
        out_high: float | None = None,
        nonfinite: Tensor | None = None,
        path: str = "",
    ) -> None:
        _check_compute(compute)
        _require(not path, "path belongs to the CUDA kernels")
        plain = (in_scale, in_offset, out_scale, out_offset) == (1, 0, 1, 0)
        _require(
            plain and out_low is None and out_high is None and nonfinite is None,
            "the CPU kernels take and give float32 as the network does",
        )
        _check_shape(self._library.rrdbnet, shape)
        _run(self._library.rrdbnet, shape, x, packed, out, (shape[1], 2 ** shape[5]), control)

    def compact_into(
        self, x: Tensor, packed: Tensor, shape: list[int], out: Tensor, control: Tensor | None
    ) -> None:
        _check_shape(self._library.compact, shape)
        _require(out.is_contiguous(), "out must be contiguous")
        _run(self._library.compact, shape, x, packed, out, (shape[0], shape[4]), control)

    def rrdbnet(
        self, x: Tensor, packed: Tensor, shape: list[int], compute: str = "", path: str = ""
    ) -> Tensor:
        _check_shape(self._library.rrdbnet, shape)
        _require(x.ndim == 4, f"x must be N,C,H,W, got {tuple(x.shape)}")
        zoom = 2 ** shape[5]
        out = x.new_empty((x.shape[0], shape[1], x.shape[2] * zoom, x.shape[3] * zoom))
        self.rrdbnet_into(x, packed, shape, out, None, compute, path=path)
        return out


class DenseBlockCache:
    """Packed weights of the dense blocks that were run last, each valid while its tensors live and
    hold what they held."""

    # A network of 23 RRDBs has 69 blocks, 3.8 MB each.
    MAX_ENTRIES = 96

    def __init__(self, library: CpuLibrary) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[int, ...], tuple[list, tuple, Tensor]] = OrderedDict()

    def packed(
        self, weights: list[Tensor], biases: list[Tensor], slope: float, scale: float
    ) -> Tensor:
        tensors = [*weights, *biases]
        key = tuple(map(id, tensors))
        state = (slope, scale, *packed_weights.state(tensors, self._library.fingerprint))
        with self._lock:
            dead = [k for k, e in self._entries.items() if any(ref() is None for ref in e[0])]
            for old in dead:
                del self._entries[old]
            found = self._entries.get(key)
            if found is not None and found[1] == state:
                self._entries.move_to_end(key)
                return found[2]
            self._entries.pop(key, None)
        functions = self._library.dense_block
        shape = functions.shape(biases[4].numel(), biases[0].numel(), slope, scale)
        packed = torch.empty(functions.packed_floats(shape), dtype=torch.float32, device="cpu")
        kept = [[t.detach().contiguous() for t in group] for group in (weights, biases)]
        of_weights, of_biases = ([t.data_ptr() for t in group] for group in kept)
        threads = torch.get_num_threads()
        functions.pack(shape, of_weights, of_biases, threads, packed.data_ptr())
        with self._lock:
            self._entries[key] = ([weakref.ref(t) for t in tensors], state, packed)
            while len(self._entries) > self.MAX_ENTRIES:
                self._entries.popitem(last=False)
        return packed


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


def _is_plain_float(tensor: Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
    )


def _check_dense_block(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> None:
    _require(x.ndim == 4, f"x must be N,C,H,W, got {tuple(x.shape)}")
    _require(
        len(weights) == 5 and len(biases) == 5,
        f"a dense block has five weights and five biases, got {len(weights)} and {len(biases)}",
    )
    nf, gc = x.shape[1], weights[0].shape[0]
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outputs = gc if k < 4 else nf
        for name, tensor, sizes in (
            ("weight", weight, (outputs, nf + k * gc, 3, 3)),
            ("bias", bias, (outputs,)),
        ):
            _require(
                tuple(tensor.shape) == sizes,
                f"{name} {k} must have the shape {list(sizes)}, got {list(tensor.shape)}",
            )
            _require(tensor.device == x.device, "x, weights and biases must be on one device")


def _check_compute(compute: str) -> None:
    _require(compute in ("", "float32"), f"the CPU kernels compute in float32, not {compute}")


def _check_values(functions: NetworkFunctions, shape: Sequence[int]) -> None:
    _require(
        len(shape) == functions.integers,
        f"shape must be {functions.integers} integers, got {list(shape)}",
    )
    _require(all(0 <= v < 4096 for v in shape), f"impossible network shape {list(shape)}")


def _unsupported(functions: NetworkFunctions, shape: list[int]) -> str:
    _check_values(functions, shape)
    return functions.unsupported(shape)


def _check_shape(functions: NetworkFunctions, shape: Sequence[int]) -> None:
    reason = _unsupported(functions, list(shape))
    _require(not reason, f"the CPU kernels cannot run this network: {reason}")


def _pack(
    functions: NetworkFunctions,
    shape: Sequence[int],
    weights: list[Tensor],
    biases: list[Tensor],
    slopes: list[Tensor] | None,
) -> Tensor:
    """The kernels' form of all convolutions; slopes belong to all of them but the last."""
    _check_shape(functions, shape)
    channels = functions.convolutions(shape)
    counts = (len(weights), len(biases))
    _require(
        counts == (len(channels), len(channels)),
        f"this shape has {len(channels)} convolutions, got {counts[0]} weights, {counts[1]} biases",
    )
    _require(
        slopes is None or len(slopes) == len(channels) - 1,
        f"this shape has {len(channels) - 1} slopes, got {len(slopes or [])}",
    )
    keep: list[Tensor] = []

    def address(tensor: Tensor, sizes: tuple[int, ...], name: str) -> int:
        _require(
            _is_plain_float(tensor) and tuple(tensor.shape) == sizes,
            f"{name} must be float32 of shape {list(sizes)} on the CPU, got {tensor.dtype} "
            f"{list(tensor.shape)}",
        )
        keep.append(tensor.detach().contiguous())
        return keep[-1].data_ptr()

    numbered = list(enumerate(channels))
    addresses = (
        [
            address(weights[i], (o, c, 3, 3), f"the weights of convolution {i}")
            for i, (c, o) in numbered
        ],
        [address(biases[i], (o,), f"the bias of convolution {i}") for i, (_, o) in numbered],
        [address(s, (channels[i][1],), f"slopes {i}") for i, s in enumerate(slopes or [])],
    )
    packed = torch.empty(functions.packed_floats(shape), dtype=torch.float32, device="cpu")
    functions.pack(shape, *addresses, torch.get_num_threads(), packed.data_ptr())
    return packed


def _batch(tensor: Tensor) -> Batch:
    images, _, height, width = tensor.shape
    return Batch(tensor.data_ptr(), images, height, width, *tensor.stride())


def _run(
    functions: NetworkFunctions,
    shape: Sequence[int],
    x: Tensor,
    packed: Tensor,
    out: Tensor,
    result: tuple[int, int],
    control: Tensor | None,
) -> None:
    """Run a network into `out`, of `result` = (channels, zoom).

    `control`: five int64 that other threads may look at meanwhile: [0] set to 1 to stop, [1] work
    done so far over all images, [2] rows finished from the top of the last image's output, [3] the
    work of one image; and [4] the number of threads, 0 for torch's. A caller that runs this in a
    thread of its own passes what torch says in the thread that asked: a new thread's OpenMP must
    not be touched after a fork.
    """
    channels, zoom = result
    _require(
        _is_plain_float(x) and x.ndim == 4 and x.shape[1] == shape[0],
        f"x must be float32 N,{shape[0]},H,W on the CPU, got {x.dtype} {tuple(x.shape)}",
    )
    _require(
        _is_plain_float(packed)
        and packed.is_contiguous()
        and packed.numel() == functions.packed_floats(shape),
        "packed does not belong to this network",
    )
    sizes = (x.shape[0], channels, x.shape[2] * zoom, x.shape[3] * zoom)
    _require(
        _is_plain_float(out) and tuple(out.shape) == sizes,
        f"out has the wrong type or shape: {out.dtype} {tuple(out.shape)}, not float32 {sizes}",
    )
    _require(max(x.shape[2:]) < 2**20, f"image too large: {tuple(x.shape)}")
    threads, words = 0, None
    if control is not None:
        _require(
            control.dtype == torch.int64
            and control.is_contiguous()
            and control.numel() >= 5
            and control.device.type == "cpu",
            "control must be five contiguous int64 on the CPU",
        )
        threads, words = int(control.reshape(-1)[4]), control.data_ptr()
    if out.numel() == 0:
        return
    if threads < 1:
        threads = torch.get_num_threads()
    functions.run(shape, packed.data_ptr(), _batch(x), _batch(out), threads, words)
