"""The benchmark of runtimes on the CPU: numbers of threads, and the table of how they scale."""

from __future__ import annotations

import io

import numpy as np
import torch
from rich.console import Console

from benchmarks import cpu
from benchmarks.runners import RUNNERS


def test_only_numbers_of_threads_with_a_core_each_are_run() -> None:
    assert cpu.usable([16, 1, 2, 2, 4], 4) == [1, 2, 4]
    assert cpu.usable([8], 2) == [8]


def test_scaling_is_against_the_smallest_number_of_threads() -> None:
    results = [
        cpu.Result("64x64", name, milliseconds, 1.0, None, None, threads)
        for name, threads, milliseconds in (
            ("esrgan_ext", 1, 100.0), ("torch", 1, 300.0),
            ("esrgan_ext", 4, 25.0), ("torch", 4, 120.0),
        )
    ]  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=100).print(cpu.scaling(results))
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert any("esrgan_ext" in row and "4.00" in row for row in rows)
    assert any("torch" in row and "2.50" in row for row in rows)


def test_our_runner_takes_the_number_of_threads(tiny_network, tmp_path) -> None:
    usual = torch.get_num_threads()
    try:
        run = RUNNERS["esrgan_ext"](tiny_network, tmp_path / "no.onnx", (8, 8), 2)
        x = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
        two = run(x)
        assert torch.get_num_threads() == 2
        run = RUNNERS["esrgan_ext"](tiny_network, tmp_path / "no.onnx", (8, 8), 1)
        np.testing.assert_array_equal(run(x), two)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(usual)
