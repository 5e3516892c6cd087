"""Which of a GPU's kernels are fastest for which size: measured once, kept beside the self-check.

A trunk can run on `mma` everywhere and on `wgmma` on compute capability 9.0. The process that
checks a device compares each of them with float64, times those that agree on one size of each
class, and prints what it found; later processes read that from the self-check's record. Where
there is no such finding, `mma` runs.
"""

from __future__ import annotations

import json
import statistics
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from esrgan_ext.ops.build import library, selfcheck

DEFAULT = "mma"

# The widths that more than one path has kernels for: nf, gc.
WIDTHS = (64, 32)

# One size of each class, N, H, W; a batch belongs to the class whose number of pixels is nearest
# by ratio. Beyond the last nothing changes: the device is full.
CLASSES = {
    "64x64": (1, 64, 64),
    "128x128": (1, 128, 128),
    "256x256": (1, 256, 256),
    "16x128x128": (16, 128, 128),
}

# A trunk of so many RRDBs is timed, in a graph, as often as this: 0.1 s for all classes and paths.
_RRDBS, _ROUNDS = 2, 7

_COMPUTE = {"float16": torch.float16, "bfloat16": torch.bfloat16}

# Compute name -> class -> path -> microseconds of a trunk of `_RRDBS`.
Times = dict[str, dict[str, dict[str, float]]]


def choose(device: torch.device, compute: str, widths: tuple[int, int], pixels: int) -> str:
    """The path for a batch.

    Parameters
    ----------
    device : torch.device
        'cuda' with an index.
    compute : str
        'float16', 'bfloat16', 'tf32' or 'float32'.
    widths : tuple of int
        The network's nf and gc.
    pixels : int
        Images x height x width of the input.

    Returns
    -------
    str
        'mma' or 'wgmma'; '' where ESRGAN_CUDA_PATH decides.
    """
    module = library.load_cuda()
    possible = [] if module is None else module.paths(device.index, compute, *widths)
    if len(possible) < 2:
        return ""
    times = _times(device).get(compute, {}).get(class_of(pixels), {})
    _warn_of_missing(device, compute, [path for path in possible if times and path not in times])
    return fastest(times)


_warned: set[tuple[torch.device, str]] = set()


def _warn_of_missing(device: torch.device, compute: str, missing: list[str]) -> None:
    """Once for each device and precision: a path that was tried and is not among the times."""
    if not missing or (device, compute) in _warned:
        return
    _warned.add((device, compute))
    warnings.warn(
        f"esrgan_ext: the {' and '.join(missing)} kernels for {device} in {compute} differ from "
        "float64 and are not used; others are. Please report it.",
        RuntimeWarning,
        stacklevel=4,
    )


def class_of(pixels: int) -> str:
    """The class of size that a batch of so many pixels belongs to."""

    def distance(name: str) -> float:
        n, height, width = CLASSES[name]
        size = n * height * width
        return max(pixels, size) / max(1, min(pixels, size))

    return min(CLASSES, key=distance)


def fastest(times: dict[str, float]) -> str:
    """The path with the least time; `DEFAULT` where nothing was measured."""
    return min(times, key=times.__getitem__) if times else DEFAULT


def describe(device: torch.device) -> list[tuple[str, str]]:
    """For `esrgan info`: compute and class of size, and the choice with its times."""
    rows = []
    for compute, classes in _times(device).items():
        for name, times in classes.items():
            listed = ", ".join(f"{path} {value:.0f} us" for path, value in times.items())
            rows.append((f"{compute} {name}", f"{fastest(times)} ({listed})"))
    return rows


def _times(device: torch.device) -> Times:
    found = selfcheck.timings(device)
    return found if isinstance(found, dict) else {}


def report(name: str) -> None:
    """Measure the device of that name and print the findings as one line of JSON.

    The last step of the process that checks a device.
    """
    device = torch.device(name)
    module = library.load_cuda() if device.type == "cuda" else None
    found: Times = {}
    if module is not None:
        for compute, dtype in _COMPUTE.items():
            possible = module.paths(device.index or 0, compute, *WIDTHS)
            if len(possible) > 1:
                found[compute] = measure(device, dtype, possible)
    print(json.dumps(found), flush=True)


def measure(
    device: torch.device, dtype: torch.dtype, paths: list[str]
) -> dict[str, dict[str, float]]:
    """Microseconds of each path that agrees with float64, for each class of size.

    At these sizes, where launches follow each other at full speed, a path must agree with
    `DEFAULT` too, in every round: what a race spoils now and then is not used.
    """
    right = [path for path in paths if _agrees(device, dtype, path)]
    shape = [3, 3, *WIDTHS, _RRDBS, 0]
    weights, biases = selfcheck._parameters(shape)
    there = [[t.to(device, dtype) for t in tensors] for tensors in (weights, biases)]
    packed = torch.ops.esrgan_ext.rrdbnet_pack(*there, shape)
    result = {}
    wrong: set[str] = set()
    for name, (n, height, width) in CLASSES.items():
        x = torch.rand(n, 3, height, width, device=device).to(dtype)
        outputs = {path: torch.empty_like(x) for path in right}
        graphs = {path: _graph(x, packed, shape, y, path) for path, y in outputs.items()}
        times: dict[str, list[float]] = {path: [] for path in right}
        for _ in range(_ROUNDS):
            for path, replay in graphs.items():
                outputs[path].fill_(float("nan"))
                times[path].append(_microseconds(device, replay))
                if not _same(outputs[path], outputs.get(DEFAULT), dtype):
                    wrong.add(path)
        result[name] = {path: statistics.median(values) for path, values in times.items()}
    return {
        name: {path: value for path, value in times.items() if path not in wrong}
        for name, times in result.items()
    }


def _same(y: Tensor, expected: Tensor | None, dtype: torch.dtype) -> bool:
    if expected is None:
        return bool(y.isfinite().all())
    tolerance = 2 * selfcheck.TOLERANCE[selfcheck._precision(dtype)]
    difference = (y.float() - expected.float()).abs().max() / expected.float().abs().max()
    return bool(difference <= tolerance)  # NaN is not


def _agrees(device: torch.device, dtype: torch.dtype, path: str) -> bool:
    def network(x: Tensor, weights: list[Tensor], biases: list[Tensor], shape: list[int]) -> Tensor:
        packed = torch.ops.esrgan_ext.rrdbnet_pack(weights, biases, shape)
        return torch.ops.esrgan_ext.rrdbnet(x, packed, shape, "", path)

    return selfcheck.check(device, dtype, network=network).agrees


def _graph(x: Tensor, packed: Tensor, shape: list[int], y: Tensor, path: str) -> Callable[[], None]:
    """One forward pass in a graph, as it is mostly run; once outside of it before."""

    def enqueue() -> None:
        torch.ops.esrgan_ext.rrdbnet_into(
            x, packed, shape, y, None, "", 1.0, 0.0, 1.0, 0.0, None, None, None, path
        )

    with torch.inference_mode():
        enqueue()
        torch.cuda.synchronize(x.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            enqueue()
    return graph.replay


def _microseconds(device: torch.device, replay: Callable[[], None]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(device):
        start.record()
        replay()
        end.record()
    end.synchronize()
    return 1000 * start.elapsed_time(end)
