"""Networks in a process: loaded once, right ones only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from filelock import FileLock

from esrgan_ext import ModelError, UpscaleCancelled
from esrgan_ext.inference import claims, model_cache
from esrgan_ext.inference.model_cache import ModelReference, Settings
from esrgan_ext.inference.options import UpscaleOptions
from esrgan_ext.weights import save_model
from tests.conftest import ROOT, make_network
from tests.weights.ncnn_files import write_ncnn


def settings(reference: ModelReference) -> Settings:
    return Settings(reference, UpscaleOptions(overlap=8, device="cpu", precision="fp32"))


def test_the_digest_is_of_the_weights_not_of_the_file(tmp_path):
    network = make_network(4)
    for name in ("x.safetensors", "x.pth"):
        path = save_model(network, tmp_path / name)
        assert model_cache.refer(path)[0].digest == model_cache.digest_of(network)
    assert model_cache.digest_of(make_network(5)) != model_cache.digest_of(network)


def test_an_upscaler_is_made_once(tmp_path):
    reference, _ = model_cache.refer(make_network(6))
    assert model_cache.upscaler(settings(reference)) is model_cache.upscaler(settings(reference))


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    path = save_model(make_network(7), tmp_path / "m.safetensors")
    reference, _ = model_cache.refer(path)
    shutil.copy(save_model(make_network(8), tmp_path / "other.safetensors"), path)
    program = (
        "from esrgan_ext.inference import model_cache as r\n"
        f"o = r.UpscaleOptions(overlap=8, device='cpu', precision='fp32')\n"
        f"r.upscaler(r.Settings(r.{reference!r}, o))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "ModelError" in run.stderr
    assert "the weights here are not those" in run.stderr


def test_each_worker_takes_a_gpu_of_its_own(tmp_path, monkeypatch):
    names = ["gpu-a", "gpu-b"]
    monkeypatch.setattr(claims, "_held", None)
    with FileLock(tmp_path / "gpu-a.lock"):  # another worker's
        assert claims.claim_gpu(names, tmp_path) == 1
    assert claims.claim_gpu(names, tmp_path) == 1  # for life
    held = claims._held
    monkeypatch.setattr(claims, "_held", None)
    assert claims.claim_gpu(names, tmp_path) == 0  # the first worker has ended
    workers = [held, claims._held]  # both live, so both locks are held
    monkeypatch.setattr(claims, "_held", None)
    with pytest.warns(RuntimeWarning, match="sharing"):
        assert claims.claim_gpu(names, tmp_path) in (0, 1)
    assert len(workers) == 2


def test_a_model_that_is_nowhere():
    with pytest.raises(ModelError):
        model_cache.upscaler(settings(ModelReference("no-such-model", "0" * 64)))


def test_a_file_is_read_once_until_it_changes(tmp_path):
    path = save_model(make_network(9), tmp_path / "m.safetensors")
    first = model_cache.load(path)
    assert model_cache.load(path) is first
    assert model_cache.load(first) is first
    shutil.copy(save_model(make_network(10), tmp_path / "other.safetensors"), path)
    os.utime(path, ns=(0, 10**9))  # some file systems count in seconds
    second = model_cache.load(path)
    assert model_cache.digest_of(second) == model_cache.digest_of(make_network(10))


def test_numbers_beside_a_graph_that_change_are_read_again(tmp_path):
    graph, numbers = write_ncnn(make_network(11), tmp_path)
    first = model_cache.load(graph)
    (tmp_path / "other").mkdir()
    shutil.copy(write_ncnn(make_network(12), tmp_path / "other")[1], numbers)
    os.utime(numbers, ns=(0, 10**9))
    second = model_cache.load(graph)
    assert model_cache.digest_of(second) != model_cache.digest_of(first)


def test_a_store_and_a_viewer_share_a_network(tmp_path):
    """Whoever asks by file and whoever asks by digest."""
    path = save_model(make_network(13), tmp_path / "m.safetensors")
    network = model_cache.load(path)
    reference, referred = model_cache.refer(path)
    assert referred is network
    assert model_cache.upscaler(settings(reference)).network is network
    assert model_cache.load(path) is network


def test_as_many_networks_are_kept_as_an_interpolation_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(model_cache, "_SMALL_BYTES", 0)
    paths = [save_model(make_network(k), tmp_path / f"{k}.safetensors") for k in (14, 15, 16)]
    first, second, third = (model_cache.load(path) for path in paths)
    assert model_cache.load(paths[1]) is second
    assert model_cache.load(paths[2]) is third
    assert model_cache.load(paths[0]) is not first


def test_two_threads_load_a_network_once(tmp_path):
    path = save_model(make_network(17), tmp_path / "m.safetensors")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(model_cache.load, [path, path])
    assert first is second


def test_whoever_waits_for_a_device_can_leave():
    device = torch.device("cpu")
    with model_cache.inference(device):
        with pytest.raises(UpscaleCancelled), model_cache.inference(device, lambda: True):
            pytest.fail("two inferences at a time")
        with model_cache.inference(torch.device("meta")):
            pass  # another device
    with model_cache.inference(device):
        pass


def test_many_small_networks_stay_and_two_large_ones(monkeypatch):
    read: list[str] = []
    load = model_cache.load_model

    def loading(place: str, **options: object) -> object:
        read.append(place)
        return load(place, **options)

    monkeypatch.setattr(model_cache, "load_model", loading)

    def reads(count: int) -> int:
        """How often a file is read when so many networks are used in turn for the second time."""
        monkeypatch.setattr(model_cache, "_upscalers", OrderedDict())
        monkeypatch.setattr(model_cache, "_networks", [])
        used = [settings(model_cache.refer(make_network(seed))[0]) for seed in range(count)]
        for each in used:
            model_cache.upscaler(each)
        read.clear()
        for each in used:
            model_cache.upscaler(each)
        return len(read)

    assert reads(5) == 0
    monkeypatch.setattr(model_cache, "_SMALL_BYTES", 0)
    assert reads(2) == 0
    assert reads(3) == 3
