"""Which kernels run for which size: measured, remembered, and `mma` where nothing is known."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import pytest
import torch

from esrgan_ext.ops.build import library, paths, selfcheck

GPU = torch.device("cuda", 0)
TIMES = {
    "float16": {
        "64x64": {"mma": 400.0, "wgmma": 300.0},
        "128x128": {"mma": 400.0, "wgmma": 500.0},
        "256x256": {"mma": 900.0, "wgmma": 700.0},
        "16x128x128": {"mma": 3000.0, "wgmma": 2000.0},
    }
}


@pytest.fixture
def possible(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that a pretended build has for every network."""
    found = ["mma", "wgmma"]
    module = SimpleNamespace(paths=lambda device, compute, nf, gc: found)
    monkeypatch.setattr(library, "load_cuda", lambda: module)
    monkeypatch.setattr(paths, "_warned", set())
    return found


def found(monkeypatch: pytest.MonkeyPatch, timings: object) -> None:
    monkeypatch.setattr(selfcheck, "timings", lambda device: timings)


@pytest.mark.parametrize(
    ("pixels", "name"),
    [
        (1, "64x64"),
        (64 * 64, "64x64"),
        (90 * 90, "64x64"),
        (91 * 91, "128x128"),
        (256 * 256, "256x256"),
        (16 * 128 * 128, "16x128x128"),
        (512 * 512, "16x128x128"),
        (4096 * 4096, "16x128x128"),
    ],
)
def test_a_batch_belongs_to_the_class_with_the_nearest_number_of_pixels(pixels, name):
    assert paths.class_of(pixels) == name


def test_each_class_takes_the_path_that_was_fastest_in_it(possible, monkeypatch):
    found(monkeypatch, TIMES)
    choice = [paths.choose(GPU, "float16", (64, 32), side * side) for side in (64, 128, 256, 512)]
    assert choice == ["wgmma", "mma", "wgmma", "wgmma"]


@pytest.mark.parametrize("timings", [None, [], {}, {"bfloat16": TIMES["float16"]}])
def test_without_a_measurement_mma_runs(possible, monkeypatch, timings):
    found(monkeypatch, timings)
    assert paths.choose(GPU, "float16", (64, 32), 512 * 512) == "mma"


def test_where_one_path_is_possible_or_forced_nothing_is_asked(possible, monkeypatch):
    def unwanted(device: torch.device) -> object:
        raise AssertionError("measured for nothing")

    monkeypatch.setattr(selfcheck, "timings", unwanted)
    possible[:] = ["wgmma"]
    assert paths.choose(GPU, "float16", (64, 32), 512 * 512) == ""


def test_a_path_that_is_wrong_is_not_used_and_named_once(possible, monkeypatch):
    found(monkeypatch, {"float16": {name: {"mma": 1.0} for name in paths.CLASSES}})
    with pytest.warns(RuntimeWarning, match="the wgmma kernels for cuda:0 in float16 differ"):
        assert paths.choose(GPU, "float16", (64, 32), 1) == "mma"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paths.choose(GPU, "float16", (64, 32), 1) == "mma"


def test_the_choice_is_told_with_its_times(possible, monkeypatch):
    found(monkeypatch, TIMES)
    assert paths.describe(GPU)[0] == ("float16 64x64", "wgmma (mma 400 us, wgmma 300 us)")
    assert len(paths.describe(GPU)) == 4


def test_a_device_without_kernels_has_nothing_to_report(capsys):
    paths.report("cpu")
    assert json.loads(capsys.readouterr().out) == {}
