"""Are the compiled kernels right on this very machine? The first use of a device finds out.

A small dense block and a small network run in the kernels and in `reference` in float64 on the
CPU. Where they disagree, or a kernel does not start, plain torch is used after one warning. On a
GPU a process of its own goes first: an illegal address or a kernel that never ends would take the
whole process with it, and plain torch too. Its verdict is kept beside the compiled library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from esrgan_ext.errors import first_line
from esrgan_ext.ops import reference
from esrgan_ext.ops.build import jit, library

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Largest difference from float64, by the largest value of the result. Rounding in the kernels'
# storage type reaches a tenth of these on the shapes below; a wrong tap, halo or slice of
# channels is beyond them by far. On a GPU fp32 may mean TF32, whose products have 10 bits.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 1e-2, "bf16": 6e-2}

# The widths of published models. Sizes are odd, and larger than any kernel's tile in one direction;
# on the CPU, where every process checks before its first image, as small as that allows: 0.1 s.
_SHAPE = [3, 3, 64, 32, 1, 2]  # in, out, nf, gc, RRDBs, upsamplings
_SIZES = {"cpu": (1, 9, 21), "cuda": (2, 19, 41)}  # N, H, W

# A first start of torch with its CUDA libraries from a slow disk takes half a minute; the checks
# themselves take less than one second.
_CHILD_SECONDS = 180


@dataclass(frozen=True)
class Check:
    """How the kernels did.

    Attributes
    ----------
    device, precision : str
    agrees : bool
    difference : float or None
        The largest, by the largest value of the reference; None where nothing came out.
    reason : str
        The fault, else "".
    """

    device: str
    precision: str
    agrees: bool
    difference: float | None
    reason: str

    def __str__(self) -> str:
        if self.agrees:
            return f"agrees with float64 (largest difference {self.difference:.1e})"
        return f"FAILS: {self.reason}"


_lock = threading.RLock()
_verdicts: dict[tuple[torch.device, torch.dtype], bool] = {}
_children: dict[torch.device, list[Check]] = {}
_timings: dict[torch.device, object] = {}


def trusted(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels may be used there; checks on the first call, and warns once if not.

    Parameters
    ----------
    device : torch.device
        'cpu', or 'cuda' with an index.
    dtype : torch.dtype
    """
    key = (device, dtype)
    if key not in _verdicts:
        with _lock:
            if key not in _verdicts:
                failed = [c for c in _first_use(device, dtype) if not c.agrees]
                _verdicts[key] = not failed
                if failed:
                    _warn(device, dtype, f"fail their self-check: {failed[0].reason}")
    return _verdicts[key]


def distrust(device: torch.device, dtype: torch.dtype, reason: str) -> None:
    """Use the kernels no longer, there and in that type; warns. For what fails in use."""
    with _lock:
        _verdicts[(device, dtype)] = False
    _warn(device, dtype, reason)


def _precision(dtype: torch.dtype) -> str:
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def _warn(device: torch.device, dtype: torch.dtype, reason: str) -> None:
    warnings.warn(
        f"esrgan_ext: the compiled kernels for {device} in {_precision(dtype)} {reason}. Plain "
        "PyTorch is used there from now on. `esrgan info --check` checks again; please report it.",
        RuntimeWarning,
        stacklevel=3,
    )


def _first_use(device: torch.device, dtype: torch.dtype) -> list[Check]:
    precision = _precision(dtype)
    checks = [c for c in _isolated(device) if c.precision == precision]
    if all(c.agrees for c in checks):
        checks.append(check(device, dtype))
    return checks


def check_all(device: torch.device) -> list[Check]:
    """Check a device in every precision, whatever was found before: `esrgan info --check`.

    Returns
    -------
    list of Check
        One for each precision; empty where there are no kernels for the device.
    """
    if device.type == "cpu":
        return [check(device, torch.float32)] if library.load() is not None else []
    if device.type != "cuda" or library.load_cuda() is None:
        return []
    checks = _in_child(device)
    if checks is None:
        return [check(device, dtype) for dtype in PRECISIONS.values()]
    _remember(device, checks)
    return checks


def timings(device: torch.device) -> object:
    """The output of `paths.report` in the process that checked a GPU, now or in an earlier run.

    None where no process of its own checked the device, or it ended before.
    """
    _isolated(device)
    return _timings.get(device)


def check(
    device: torch.device,
    dtype: torch.dtype,
    block: Callable[..., Tensor] | None = None,
    network: Callable[..., Tensor] | None = None,
) -> Check:
    """Compare the operators with the reference, here and now.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
        float32, float16 or bfloat16.
    block, network : callable, optional
        ``block(x, weights, biases)`` and ``network(x, weights, biases, shape)``; the compiled
        operators by default.
    """
    precision = _precision(dtype)
    tolerance = TOLERANCE["tf32" if precision == "fp32" and device.type == "cuda" else precision]
    worst = 0.0
    try:
        cases = _cases(device, dtype, block or _compiled_block, network or _compiled_network)
        for name, call, expected in [*cases, *_compact_cases(device)]:
            with torch.inference_mode():
                got = call().to("cpu", torch.float64)
            difference = _difference(got, expected)
            if not difference <= tolerance:  # NaN does not either
                reason = f"{name} differs by {difference:.1e} of its largest value"
                return Check(str(device), precision, False, difference, reason)
            worst = max(worst, difference)
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Check(str(device), precision, False, None, reason)
    return Check(str(device), precision, True, worst, "")


def _difference(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float("inf")
    difference = float((got - expected).abs().max() / expected.abs().max())
    return float("inf") if difference != difference else difference


# Whatever the user has made torch's defaults.
_FLOATS: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


def _cases(
    device: torch.device,
    dtype: torch.dtype,
    block: Callable[..., Tensor],
    network: Callable[..., Tensor],
) -> list[tuple[str, Callable[[], Tensor], Tensor]]:
    """Name, call and expected result of each comparison; both see the same rounded numbers."""
    weights, biases = _parameters(_SHAPE)
    generator = torch.Generator().manual_seed(1)
    n, height, width = _SIZES[device.type]
    x = torch.rand(n, _SHAPE[0], height, width, generator=generator, **_FLOATS)
    features = torch.randn(n, _SHAPE[2], height, width, generator=generator, **_FLOATS)
    there = [t.to(device, dtype) for t in (x, features, *weights, *biases)]
    exact = [t.to("cpu", torch.float64) for t in there]
    count = len(weights)

    def split(tensors: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        return tensors[0], tensors[1], tensors[2 : 2 + count], tensors[2 + count :]

    x, features, weights, biases = split(there)
    exact_x, exact_features, exact_weights, exact_biases = split(exact)
    with torch.inference_mode():
        expected_block = reference.dense_block(
            exact_features, exact_weights[1:6], exact_biases[1:6]
        )
        expected = reference.rrdbnet(exact_x, exact_weights, exact_biases, _SHAPE[4], _SHAPE[5])
    return [
        ("a dense block", lambda: block(features, weights[1:6], biases[1:6]), expected_block),
        ("a network", lambda: network(x, weights, biases, _SHAPE), expected),
    ]


def _compact_cases(device: torch.device) -> list[tuple[str, Callable[[], Tensor], Tensor]]:
    """A compact network on the CPU, where the library has kernels for it."""
    if device.type != "cpu" or not hasattr(torch.ops.esrgan_ext, "compact_pack"):
        return []
    generator = torch.Generator().manual_seed(2)
    channels, (_, height, width) = [(3, 64), (64, 64), (64, 48)], _SIZES["cpu"]
    x = torch.rand(1, 3, height, width, generator=generator, **_FLOATS)
    weights = [
        torch.randn(o, i, 3, 3, generator=generator, **_FLOATS) * (2 / (9 * i)) ** 0.5
        for i, o in channels
    ]
    biases = [torch.randn(o, generator=generator, **_FLOATS) * 0.1 for _, o in channels]
    slopes = [torch.randn(64, generator=generator, **_FLOATS) * 0.3 for _ in range(2)]

    def compiled() -> Tensor:
        shape = [3, 64, 1, 4, 4]
        packed = torch.ops.esrgan_ext.compact_pack(weights, biases, slopes, shape)
        out = x.new_empty(1, 3, 4 * height, 4 * width)
        torch.ops.esrgan_ext.compact_into(x, packed, shape, out, None)
        return out

    y = x.double()
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        y = F.conv2d(y, weight.double(), bias.double(), padding=1)
        y = F.prelu(y, slopes[k].double()) if k < 2 else y
    nearest = F.interpolate(x.double(), scale_factor=4, mode="nearest")
    return [("a compact network", compiled, F.pixel_shuffle(y, 4) + nearest)]


def _parameters(shape: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Random weights and biases in network order that keep values near 1."""
    inputs, outputs, nf, gc, rrdbs, upsamplings = shape
    block = [(nf + k * gc, gc) for k in range(4)] + [(nf + 4 * gc, nf)]
    channels = [(inputs, nf), *(3 * rrdbs * block), *((2 + upsamplings) * [(nf, nf)])]
    channels.append((nf, outputs))
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(o, i, 3, 3, generator=generator, **_FLOATS) * (2 / (9 * i)) ** 0.5
        for i, o in channels
    ]
    return weights, [torch.randn(o, generator=generator, **_FLOATS) * 0.1 for _, o in channels]


def _compiled_block(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    return torch.ops.esrgan_ext.dense_block(x, weights, biases, 0.2, 0.2)


def _compiled_network(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], shape: list[int]
) -> Tensor:
    packed = torch.ops.esrgan_ext.rrdbnet_pack(weights, biases, shape)
    return torch.ops.esrgan_ext.rrdbnet(x, packed, shape)


def _isolated(device: torch.device) -> list[Check]:
    """Findings of a process of its own about a GPU, now or in an earlier run."""
    if device.type != "cuda":
        return []
    if device not in _children:
        checks = _recalled(device)
        if checks is None:
            checks = _in_child(device)
            if checks is not None:
                _remember(device, checks)
        _children[device] = checks or []
    return _children[device]


def _in_child(device: torch.device) -> list[Check] | None:
    """Check in a new process; None where none can be started that sees the device."""
    package = Path(__file__).resolve().parents[3]
    path = os.pathsep.join(p for p in (str(package), os.environ.get("PYTHONPATH")) if p)
    command = [sys.executable, "-c", _PROGRAM, str(device)]
    failure = ""
    try:
        run = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=_CHILD_SECONDS,
        )
        output, failure = run.stdout, f"the process that checked ended with code {run.returncode}"
    except subprocess.TimeoutExpired as error:
        seen = error.stdout or ""  # bytes, whatever was asked for
        output = seen.decode(errors="replace") if isinstance(seen, bytes) else seen
        failure = f"the kernels did not finish within {_CHILD_SECONDS} s"
    except OSError:
        return None
    lines = output.split("\n")
    if _READY not in lines:
        return None
    _timings[device] = next((json.loads(line) for line in lines if line.startswith("{")), None)
    for line in lines:
        if line.startswith("["):
            return [Check(**entry) for entry in json.loads(line)]
    return [Check(str(device), name, False, None, failure) for name in PRECISIONS]


_READY = "ready to check"
_PROGRAM = (
    "import sys; from esrgan_ext.ops.build import paths, selfcheck; "
    "selfcheck.report(sys.argv[1]); paths.report(sys.argv[1])"
)


def report(name: str) -> None:
    """Check the device of that name in every precision and print the findings as JSON.

    Runs in the new process; also a small run for compute-sanitizer.
    """
    device = torch.device(name)
    if device.type == "cuda":
        torch.zeros(1, device=device).item()  # a context of its own may be forbidden
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.load()
        library.load_cuda()
    print(_READY, flush=True)
    checks = [check(device, dtype) for dtype in PRECISIONS.values()]
    print(json.dumps([asdict(c) for c in checks]), flush=True)


def _record(device: torch.device) -> Path | None:
    """The file that keeps the verdict for this library on this device with this driver."""
    module = library.load_cuda()
    if module is None or module.__file__ is None:
        return None
    import hashlib

    path = Path(module.__file__)
    status = path.stat()
    facts = (
        torch.__version__,
        str(path),
        status.st_size,
        status.st_mtime_ns,
        torch.cuda.get_device_name(device),
        torch.cuda.get_device_capability(device),
        _driver(),
    )
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return jit.cache_folder() / "checks" / f"{digest}.json"


def _driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""


def _recalled(device: torch.device) -> list[Check] | None:
    record = _record(device)
    try:
        assert record is not None
        kept = json.loads(record.read_text())
        checks = [Check(**entry) for entry in kept["checks"]]
        _timings[device] = kept["timings"]
        return checks
    except (AssertionError, OSError, ValueError, TypeError, KeyError):
        return None


def _remember(device: torch.device, checks: list[Check]) -> None:
    record = _record(device)
    if record is None:
        return
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = record.with_suffix(f".{os.getpid()}")
        kept = {"checks": [asdict(c) for c in checks], "timings": _timings.get(device)}
        partial.write_text(json.dumps(kept))
        partial.replace(record)
    except OSError:
        pass  # the next start checks again
