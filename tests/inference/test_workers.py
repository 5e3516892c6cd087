"""Several devices for one folder, tried with two workers on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import esrgan_ext as esr
from esrgan_ext.errors import DeviceError, OptionError, UpscaleCancelled
from esrgan_ext.inference import workers
from esrgan_ext.inference.devices import names_of
from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.inference.folder import FileJob
from esrgan_ext.inference.workers import for_jobs, upscalers_on


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(7):
        pixels = rng.integers(0, 256, (20 + number, 23, 3), dtype=np.uint8)
        write_image(tmp_path / "in" / f"{number}.png", pixels)
    return tmp_path / "in"


def test_the_ways_to_say_several() -> None:
    assert names_of("cpu") == ["cpu"]
    assert names_of("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]
    assert names_of(["cpu", torch.device("cuda", 1)]) == ["cpu", torch.device("cuda", 1)]
    assert [str(torch.device(name)) for name in names_of("all")]
    for wrong in ("auto,cpu", "cpu,", [], ["all", "cpu"]):
        with pytest.raises(OptionError, match="device must be"):
            names_of(wrong)


def test_all_takes_every_gpu_and_the_cpu_where_there_is_none(monkeypatch) -> None:
    from esrgan_ext.inference import devices

    gpus = [torch.device("cuda", 0), torch.device("cuda", 1)]
    cpu = torch.device("cpu")
    monkeypatch.setattr(devices, "available_devices", lambda: [*gpus, cpu])
    assert names_of("all") == gpus
    monkeypatch.setattr(devices, "available_devices", lambda: [cpu])
    assert names_of("all") == [cpu]


def test_two_workers_give_the_results_of_one(folder, tmp_path) -> None:
    threads = torch.get_num_threads()
    one = list(esr.upscale_files(folder, tmp_path / "one", "lite-micro-x4", device="cpu"))
    two = list(esr.upscale_files(folder, tmp_path / "two", "lite-micro-x4", device="cpu,cpu"))
    assert torch.get_num_threads() == threads
    assert [result.source for result in two] == [result.source for result in one]
    assert all(result.error is None for result in two)
    for number in range(7):
        name = f"{number}.png"
        np.testing.assert_array_equal(
            read_image(tmp_path / "two" / name).pixels, read_image(tmp_path / "one" / name).pixels
        )


def test_a_failure_stands_at_its_place_and_a_second_run_does_what_is_missing(
    folder, tmp_path
) -> None:
    good = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(good[:100])
    run = lambda: list(  # noqa: E731
        esr.upscale_files(folder, tmp_path / "out", "lite-psnr-x4", device=["cpu", "cpu"])
    )
    errors = [result.error for result in run()]
    assert [error is None for error in errors] == [True] * 3 + [False] + [True] * 3
    (folder / "3.png").write_bytes(good)
    (again,) = run()
    assert (again.source.name, again.error) == ("3.png", None)


def test_progress_names_the_file_and_stops_all_workers(folder, tmp_path) -> None:
    names = set()

    def progress(path: Path, done: int, total: int) -> bool:
        names.add(path.name)
        return len(names) < 4

    with pytest.raises(UpscaleCancelled):
        list(
            esr.upscale_files(
                folder, tmp_path / "out", "lite-psnr-x4", device="cpu,cpu", progress=progress
            )
        )
    assert len(list((tmp_path / "out").iterdir())) < 7
    assert not list((tmp_path / "out").glob(".*"))


def test_workers_on_one_device_share_its_memory_and_no_network(tiny_network) -> None:
    first, second = upscalers_on("cpu,cpu", tiny_network)
    (alone,) = upscalers_on("cpu", tiny_network)
    assert first.device.free_memory() < 0.6 * alone.device.free_memory()
    assert first.network is not second.network
    auto, _ = upscalers_on("cpu,cpu", "auto")
    chosen = auto.for_image((8, 8), np.dtype(np.uint16))
    assert chosen.device.share == 0.5


def test_a_single_file_is_shared_by_all_devices(tiny_network, folder, tmp_path) -> None:
    job = FileJob(folder / "3.png", folder / "3.png")
    (together,) = for_jobs(upscalers_on("cpu,cpu", tiny_network), [job])
    assert [device.device.type for device in together.devices] == ["cpu", "cpu"]
    (auto,) = for_jobs(upscalers_on("cpu,cpu", "auto", denoise=0.5), [job])
    assert auto.options.denoise == 0.5
    stack = np.random.default_rng(0).integers(0, 65536, (5, 20, 30), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", stack)
    results = [
        esr.upscale_file(tmp_path / "stack.tif", tmp_path / f"{number}.tif", device=device)
        for number, device in enumerate(("cpu", "cpu,cpu"))
    ]
    one, two = (tifffile.imread(result.path) for result in results)
    np.testing.assert_array_equal(one, two)


def test_strengths_of_denoising_reach_every_worker() -> None:
    first, second = upscalers_on("cpu,cpu", "lite-micro-x4", denoise=0.5)
    image = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    (alone,) = upscalers_on("cpu", "lite-micro-x4", denoise=0.5)
    np.testing.assert_array_equal(first(image), alone(image))
    np.testing.assert_array_equal(second(image), alone(image))


def test_a_device_that_is_not_there_is_refused(folder, tmp_path) -> None:
    with pytest.raises(DeviceError, match="cuda:77"):
        esr.upscale_files(folder, tmp_path / "out", "lite-psnr-x4", device="cpu,cuda:77")


def test_small_images_go_two_at_a_time_on_a_cpu(tiny_network, folder, monkeypatch) -> None:
    jobs = [FileJob(path, path) for path in sorted(folder.iterdir())]
    one = upscalers_on("cpu", tiny_network)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    first, second = for_jobs(one, jobs)
    assert (first.device.share, second.device.share) == (0.5, 0.5)
    assert for_jobs(one, jobs[:1]) == one
    monkeypatch.setattr(workers, "_SMALL_PIXELS", 23 * 26 - 1)  # the last is larger
    assert for_jobs(one, jobs) == one
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert for_jobs(one, jobs[:2]) == one
