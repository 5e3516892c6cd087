"""Kernels that are wrong on a machine are found out and left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from esrgan_ext import ops
from esrgan_ext.ops import cpu, reference
from esrgan_ext.ops.build import library as extension
from esrgan_ext.ops.build import selfcheck
from esrgan_ext.ops.build.selfcheck import Check
from tests.conftest import make_network

ENVIRONMENT = dict(os.environ)  # before tests change it: with the cache of this machine
CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


def block(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    return reference.dense_block(x, weights, biases)


def network(x: Tensor, weights: list[Tensor], biases: list[Tensor], shape: list[int]) -> Tensor:
    return reference.rrdbnet(x, weights, biases, shape[4], shape[5])


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a new process with an empty cache."""
    monkeypatch.setattr(selfcheck, "_verdicts", {})
    monkeypatch.setattr(selfcheck, "_children", {})
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_torch_itself_passes_with_room_to_spare(dtype):
    result = selfcheck.check(CPU, dtype, block, network)
    assert result.agrees
    assert result.difference < selfcheck.TOLERANCE[result.precision] / 3
    assert "agrees" in str(result)


def one_pixel_off(x, weights, biases, shape):
    y = network(x, weights, biases, shape).clone()
    y[-1, -1, -1, -1] += 0.05 * y.abs().max()
    return y


def without_the_halo(x, weights, biases, shape):
    left = network(x[..., :10], weights, biases, shape)
    return torch.cat([left, network(x[..., 10:], weights, biases, shape)], 3)


def never_written(x, weights, biases, shape):
    return torch.full_like(network(x, weights, biases, shape), float("nan"))


def too_small(x, weights, biases, shape):
    return network(x, weights, biases, shape)[..., 1:]


@pytest.mark.parametrize("wrong", [one_pixel_off, without_the_halo, never_written, too_small])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_wrong_networks_fail(wrong, dtype):
    result = selfcheck.check(CPU, dtype, block, wrong)
    assert not result.agrees
    assert "a network differs" in result.reason
    assert str(result).startswith("FAILS")


def test_wrong_blocks_fail():
    result = selfcheck.check(CPU, torch.float32, lambda x, w, b: block(x, w, b) * 1.001, network)
    assert not result.agrees
    assert "a dense block differs" in result.reason


def test_kernels_that_do_not_start_fail():
    def launch(*_: object) -> Tensor:
        raise RuntimeError("no kernel image is available for execution on the device\ndetails")

    result = selfcheck.check(CPU, torch.float32, launch, network)
    assert result == Check(
        "cpu",
        "fp32",
        False,
        None,
        "RuntimeError: no kernel image is available for execution on the device",
    )


@pytest.mark.skipif(extension.load() is None, reason="no compiled extension")
def test_the_cpu_kernels_of_this_machine_pass():
    (result,) = selfcheck.check_all(CPU)
    assert result.agrees
    assert selfcheck.trusted(CPU, torch.float32)


@pytest.mark.skipif(extension.load() is None, reason="no compiled extension")
def test_wrong_cpu_kernels_give_way_to_plain_torch_with_one_warning(monkeypatch):
    small = make_network(nf=32, gc=16)
    x = torch.rand(1, 3, 9, 7)
    expected = small.plain_forward(x)
    monkeypatch.setattr(selfcheck, "_compiled_network", never_written)
    monkeypatch.setattr(cpu, "run", lambda *_: torch.zeros(1, 3, 36, 28))
    with torch.inference_mode():
        with pytest.warns(RuntimeWarning, match=r"cpu in fp32 fail their self-check.*info --check"):
            got = small(x)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
        assert ops.backend() == "reference"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            small(x)
    weights = [torch.randn(16 if k < 4 else 32, 32 + 16 * k, 3, 3) for k in range(5)]
    biases = [torch.zeros(w.shape[0]) for w in weights]
    features = torch.randn(1, 32, 4, 4)
    assert torch.equal(
        ops.dense_block(features, weights, biases),
        reference.dense_block(features, weights, biases),
    )


# On a GPU a new process checks first. It is a pretended one here, as is the GPU.

GOOD = [Check("cuda:0", p, True, 1e-4, "") for p in selfcheck.PRECISIONS]
BAD = [Check("cuda:0", "fp16", False, 0.3, "a network differs by 3.0e-01 of its largest value")]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A device whose process says what `says` holds, and counts how often it is asked."""
    library = tmp_path / "_C_cuda.so"
    library.write_bytes(b"code")
    state = SimpleNamespace(says="", code=0, asked=0, library=library, here=[], times_out=False)

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        state.asked += 1
        assert command == [sys.executable, "-c", selfcheck._PROGRAM, "cuda:0"]
        if state.times_out:
            raise subprocess.TimeoutExpired(command, 1, output=state.says.encode())
        return subprocess.CompletedProcess(command, state.code, state.says, "")

    def check(device: torch.device, dtype: torch.dtype) -> Check:
        state.here.append(dtype)
        return Check(str(device), selfcheck._precision(dtype), True, 1e-4, "")

    monkeypatch.setattr(selfcheck.subprocess, "run", run)
    monkeypatch.setattr(selfcheck, "check", check)
    monkeypatch.setattr(
        extension, "load_cuda", lambda: SimpleNamespace(__file__=str(state.library))
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Pretended")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    return state


def saying(checks: list[Check]) -> str:
    return f"{selfcheck._READY}\n{json.dumps([vars(c) for c in checks])}\n"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process ended and another one began."""
    monkeypatch.setattr(selfcheck, "_verdicts", {})
    monkeypatch.setattr(selfcheck, "_children", {})
    monkeypatch.setattr(selfcheck, "_timings", {})


def test_a_gpu_is_checked_by_a_new_process_once_for_all_processes(gpu, monkeypatch):
    gpu.says = saying(GOOD)
    for _ in range(2):
        for dtype in (torch.float16, torch.float32):
            assert selfcheck.trusted(GPU, dtype)
        forget(monkeypatch)
    assert gpu.asked == 1
    assert gpu.here == [torch.float16, torch.float32] * 2, "and by each process itself"


def test_the_times_that_the_new_process_took_are_kept_for_all_processes(gpu, monkeypatch):
    times = {"float16": {"64x64": {"mma": 2.0, "wgmma": 1.0}}}
    gpu.says = saying(GOOD) + json.dumps(times) + "\n"
    for _ in range(2):
        assert selfcheck.timings(GPU) == times
        forget(monkeypatch)
    assert gpu.asked == 1
    gpu.library.write_bytes(b"other code")
    gpu.says = saying(GOOD)  # it ended before it had measured
    assert selfcheck.timings(GPU) is None


def test_another_build_is_checked_again(gpu, monkeypatch):
    gpu.says = saying(GOOD)
    assert selfcheck.trusted(GPU, torch.float16)
    forget(monkeypatch)
    gpu.library.write_bytes(b"other code")
    assert selfcheck.trusted(GPU, torch.float16)
    assert gpu.asked == 2


def test_wrong_results_in_the_new_process_keep_this_one_away(gpu):
    gpu.says = saying([GOOD[0], *BAD, GOOD[2]])
    assert selfcheck.trusted(GPU, torch.float32)
    with pytest.warns(RuntimeWarning, match="cuda:0 in fp16 fail their self-check: a network"):
        assert not selfcheck.trusted(GPU, torch.float16)
    assert gpu.here == [torch.float32]


@pytest.mark.parametrize("ending", ["crash", "hang"])
def test_a_crash_or_a_hang_happens_in_the_new_process(gpu, ending, monkeypatch):
    gpu.says = f"{selfcheck._READY}\n"
    gpu.code, gpu.times_out = -11, ending == "hang"
    reason = "ended with code -11" if ending == "crash" else "did not finish"
    with pytest.warns(RuntimeWarning, match=reason):
        assert not selfcheck.trusted(GPU, torch.float16)
    assert gpu.here == []
    forget(monkeypatch)
    with pytest.warns(RuntimeWarning, match=reason):
        assert not selfcheck.trusted(GPU, torch.float16)
    assert gpu.asked == 1, "the next start does not wait for it again"


def test_where_no_process_can_be_started_this_one_checks(gpu):
    gpu.says, gpu.code = "usage: napari ...", 2  # an application that is no Python
    assert selfcheck.trusted(GPU, torch.float16)
    assert gpu.here == [torch.float16]


def test_checking_on_request_asks_again_whatever_is_known(gpu, monkeypatch):
    gpu.says = saying(BAD)
    with pytest.warns(RuntimeWarning):
        assert not selfcheck.trusted(GPU, torch.float16)
    gpu.says = saying(GOOD)
    assert selfcheck.check_all(GPU) == GOOD
    forget(monkeypatch)
    assert selfcheck.trusted(GPU, torch.float16)


def test_a_cache_that_cannot_be_written_only_costs_time(gpu, monkeypatch, tmp_path):
    (tmp_path / "extension").write_text("a file where a folder should be")
    gpu.says = saying(GOOD)
    for _ in range(2):
        assert selfcheck.trusted(GPU, torch.float16)
        forget(monkeypatch)
    assert gpu.asked == 2


def test_the_new_process_says_what_it_found():
    """The real one, on the CPU."""
    run = subprocess.run(
        [sys.executable, "-c", selfcheck._PROGRAM, "cpu"],
        capture_output=True,
        text=True,
        timeout=240,
        env=ENVIRONMENT,
    )
    assert run.returncode == 0, run.stderr
    ready, found = run.stdout.split("\n")[:2]
    assert ready == selfcheck._READY
    checks = [Check(**entry) for entry in json.loads(found)]
    assert [c.precision for c in checks] == list(selfcheck.PRECISIONS)
    assert all(c.device == "cpu" for c in checks)


def test_kernels_that_fail_later_are_not_used_again():
    with pytest.warns(RuntimeWarning, match="cpu in fp32 failed"):
        selfcheck.distrust(CPU, torch.float32, "failed (for a test)")
    assert not selfcheck.trusted(CPU, torch.float32)
