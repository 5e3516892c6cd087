"""The compiled CPU kernels as a Python object: csrc/cpu/library.cpp through ctypes.

The library knows neither torch nor Python, so one file serves every version of both. Only
addresses, sizes and strides pass through here; `esrgan_ext.ops.cpu_operators` checks tensors.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from pathlib import Path

from esrgan_ext.ops.build.toolchain import BuildError

_FAILED = 2  # `kFailed`; 0 is done, 1 stopped by the control words

_Floats = ctypes.POINTER(ctypes.c_void_p)
_Ints = ctypes.POINTER(ctypes.c_int)


class Batch(ctypes.Structure):
    """Images N,C,H,W, as in csrc/cpu/library.cpp: strides in floats."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("images", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("image_stride", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
    )


def _addresses(pointers: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_void_p * max(1, len(pointers)))(*pointers)


class NetworkFunctions:
    """The functions for one kind of network, `rrdbnet` or `compact`; `shape` are its integers."""

    def __init__(self, library: ctypes.CDLL, kind: str, integers: int) -> None:
        def function(name: str, result: type, *arguments: type) -> ctypes._NamedFuncPointer:
            found = library[f"esrgan_{kind}_{name}"]
            found.restype, found.argtypes = result, arguments
            return found

        pointer = ctypes.c_void_p
        self.integers = integers
        self._failure = library.esrgan_failure
        self._unsupported = function("unsupported", ctypes.c_char_p, _Ints)
        self._convolutions = function("convolutions", ctypes.c_int, _Ints, _Ints)
        self._packed_floats = function("packed_floats", ctypes.c_int64, _Ints)
        self._pack = function(
            "pack", ctypes.c_int, _Ints, _Floats, _Floats, _Floats, ctypes.c_int, pointer
        )
        batch = ctypes.POINTER(Batch)
        self._run = function(
            "run", ctypes.c_int, _Ints, pointer, batch, batch, ctypes.c_int, pointer
        )

    def _shape(self, shape: Sequence[int]) -> ctypes.Array:
        return (ctypes.c_int * self.integers)(*shape)

    def unsupported(self, shape: Sequence[int]) -> str:
        """Why the kernels cannot run a network of this shape, or ""."""
        reason = self._unsupported(self._shape(shape))
        return reason.decode() if reason else ""

    def convolutions(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        """Input and output channels of each convolution, in network order."""
        count = self._convolutions(self._shape(shape), None)
        channels = (ctypes.c_int * (2 * count))()
        self._convolutions(self._shape(shape), channels)
        return list(zip(channels[::2], channels[1::2], strict=True))

    def packed_floats(self, shape: Sequence[int]) -> int:
        return self._packed_floats(self._shape(shape))

    def pack(
        self,
        shape: Sequence[int],
        weights: Sequence[int],
        biases: Sequence[int],
        slopes: Sequence[int],
        threads: int,
        packed: int,
    ) -> None:
        """Bring the parameters at these addresses into the kernels' form at `packed`."""
        groups = [_addresses(group) for group in (weights, biases, slopes)]
        _check(self._pack(self._shape(shape), *groups, threads, packed), self._failure)

    def run(
        self,
        shape: Sequence[int],
        packed: int,
        x: Batch,
        out: Batch,
        threads: int,
        control: int | None,
    ) -> None:
        """Run the network on a batch; `control` is the address of the control words."""
        result = self._run(self._shape(shape), packed, x, out, threads, control)
        _check(result, self._failure)


class DenseBlockFunctions:
    """The functions for one residual dense block of widths nf, gc, with its two factors."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        factors = ctypes.POINTER(ctypes.c_float)
        self._failure = library.esrgan_failure
        self._unsupported = library.esrgan_dense_block_unsupported
        self._unsupported.restype = ctypes.c_char_p
        self._unsupported.argtypes = [_Ints, factors]
        self._packed_floats = library.esrgan_dense_block_packed_floats
        self._packed_floats.restype = ctypes.c_int64
        self._packed_floats.argtypes = [_Ints, factors]
        self._pack = library.esrgan_dense_block_pack
        self._pack.argtypes = [_Ints, factors, _Floats, _Floats, integer, pointer]
        self._run = library.esrgan_dense_block_run
        self._run.argtypes = [
            _Ints, factors, pointer, pointer, pointer, integer, integer, integer, integer,
        ]  # fmt: skip

    @staticmethod
    def shape(nf: int, gc: int, slope: float, scale: float) -> tuple[ctypes.Array, ctypes.Array]:
        return (ctypes.c_int * 2)(nf, gc), (ctypes.c_float * 2)(slope, scale)

    def unsupported(self, shape: tuple[ctypes.Array, ctypes.Array]) -> bool:
        return self._unsupported(*shape) is not None

    def packed_floats(self, shape: tuple[ctypes.Array, ctypes.Array]) -> int:
        return self._packed_floats(*shape)

    def pack(
        self,
        shape: tuple[ctypes.Array, ctypes.Array],
        weights: Sequence[int],
        biases: Sequence[int],
        threads: int,
        packed: int,
    ) -> None:
        result = self._pack(*shape, _addresses(weights), _addresses(biases), threads, packed)
        _check(result, self._failure)

    def run(
        self,
        shape: tuple[ctypes.Array, ctypes.Array],
        packed: int,
        x: int,
        out: int,
        images: int,
        height: int,
        width: int,
        threads: int,
    ) -> None:
        """Run the block on dense channels-last images."""
        result = self._run(*shape, packed, x, out, images, height, width, threads)
        _check(result, self._failure)


class CpuLibrary:
    """The library in memory.

    Attributes
    ----------
    rrdbnet, compact : NetworkFunctions
    dense_block : DenseBlockFunctions

    Raises
    ------
    BuildError
        If the file is not a library of this version for this machine.
    """

    def __init__(self, path: Path) -> None:
        self.__file__ = str(path)
        try:
            library = ctypes.CDLL(str(path))
            library.esrgan_failure.restype = ctypes.c_char_p
            self._library = library
            self._isa, self._isa_error = library.esrgan_isa, library.esrgan_isa_error
            for function in (self._isa, self._isa_error, library.esrgan_compiler):
                function.restype = ctypes.c_char_p
            self._compiler = library.esrgan_compiler
            self._fingerprint = library.esrgan_fingerprint
            self._fingerprint.restype = ctypes.c_uint64
            self._fingerprint.argtypes = [_Floats, ctypes.POINTER(ctypes.c_int64), ctypes.c_int]
            self._peak = library.esrgan_peak_gflops
            self._peak.restype = ctypes.c_double
            self._peak.argtypes = [ctypes.c_int, ctypes.c_double]
            self.rrdbnet = NetworkFunctions(library, "rrdbnet", 6)
            self.compact = NetworkFunctions(library, "compact", 5)
            self.dense_block = DenseBlockFunctions(library)
        except (OSError, AttributeError) as error:
            raise BuildError(
                f"{path} cannot be used on this {platform.machine()}: {error}"
            ) from None

    def build_info(self) -> dict[str, object]:
        """`isa` in use, `isa_error` (what is wrong with ESRGAN_CPU_ISA, or None), `compiler`,
        `standard` of C++."""
        error = self._isa_error()
        return {
            "isa": self._isa().decode(),
            "isa_error": error.decode() if error else None,
            "compiler": self._compiler().decode(),
            "standard": self._library.esrgan_standard(),
        }

    def fingerprint(self, tensors: Sequence[tuple[int, int]]) -> int:
        """A hash of samples of float32 tensors, given as addresses and numbers of values."""
        counts = (ctypes.c_int64 * max(1, len(tensors)))(*(count for _, count in tensors))
        return self._fingerprint(
            _addresses([address for address, _ in tensors]), counts, len(tensors)
        )

    def peak_gflops(self, threads: int, seconds: float) -> float:
        """Billions of float operations a second that the threads reach on registers alone."""
        return self._peak(threads, seconds)


def _check(result: int, failure: ctypes._NamedFuncPointer) -> None:
    if result == _FAILED:
        message = failure().decode(errors="replace")
        if "bad_alloc" in message:
            raise MemoryError("the CPU kernels could not get the memory they need")
        raise RuntimeError(f"the CPU kernels failed: {message}")
