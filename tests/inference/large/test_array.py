"""`upscale_lazy`: the same bits whoever computes, and those of the in-memory upscale."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading

import dask.array as da
import numpy as np
import pytest
import zarr

from esrgan_ext import ImageError, Upscaler, upscale_lazy
from esrgan_ext.inference.large import compute
from tests.conftest import make_network
from tests.inference.large.conftest import lively, one_level_at_most

CASES = [
    ((70, 93), {}),
    ((40, 50, 3), {}),
    ((3, 40, 50), {}),
    ((2, 3, 40, 50), {"channel_axis": 1}),
    ((5, 40, 50), {"channel_axis": 0}),
    ((45, 33, 2), {"channel_axis": 2}),
    ((40, 50, 4), {"outscale": 2.7}),
    ((37, 51), {"outscale": 0.6}),
]


@pytest.mark.parametrize("kind", ["dask", "zarr", "numpy"])
@pytest.mark.parametrize(("shape", "options"), CASES)
def test_it_is_the_in_memory_upscale_to_one_level(shape, options, kind, network):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    source = {
        "dask": lambda: da.from_array(image, chunks=13),
        "zarr": lambda: zarr.array(image, chunks=tuple(min(17, n) for n in shape)),
        "numpy": lambda: image,
    }[kind]()
    lazily = upscale_lazy(source, network, device="cpu", tile=20, **options)
    assert lazily.dtype == image.dtype
    assert lazily.npartitions > 1
    result = lazily.compute(scheduler="threads")
    assert result.std() > 5
    one_level_at_most(result, Upscaler(network, device="cpu", **options)(image))


def test_an_unshuffling_network():
    network = lively(make_network(scale=2, unshuffle=2, nf=8))
    image = np.random.default_rng(0).integers(0, 256, (61, 75, 3), dtype=np.uint8)
    lazily = upscale_lazy(image, network, device="cpu", tile=24)
    one_level_at_most(lazily.compute(), Upscaler(network, device="cpu")(image))


@pytest.mark.parametrize("data_range", [None, "auto", (-1.0, 2.0)])
def test_floats_nan_and_ranges(data_range, network):
    image = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    image[5:9, 7:30] = np.nan
    lazily = upscale_lazy(
        da.from_array(image, chunks=11), network, device="cpu", tile=16,
        data_range=data_range,
    )  # fmt: skip
    result = lazily.compute(scheduler="sync")
    with pytest.warns(RuntimeWarning, match="NaN"):
        expected = Upscaler(network, device="cpu", data_range=data_range)(image)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_allclose(result, expected, atol=1 / 255)


def test_a_chunk_alone_is_the_same_as_among_all(network):
    image = np.random.default_rng(0).integers(0, 256, (60, 70), dtype=np.uint8)
    lazily = upscale_lazy(image, network, device="cpu", tile=20)
    whole = lazily.compute(scheduler="threads")
    np.testing.assert_array_equal(
        lazily[100:150, 90:110].compute(scheduler="sync"), whole[100:150, 90:110]
    )


def test_processes_and_a_cluster_give_the_same_bits(model, slide, cluster):
    from distributed import Client

    source = zarr.open_group(str(slide), mode="r")["s0"]
    lazily = upscale_lazy(source, model, device="cpu", tile=32)
    threads = lazily.compute(scheduler="threads", num_workers=2)
    one_thread = lazily.compute(scheduler="sync")
    np.testing.assert_array_equal(threads, one_thread)
    spawned = lazily.compute(scheduler="processes", num_workers=1)  # the cluster has two
    np.testing.assert_array_equal(spawned, threads)

    def count_loads():
        from esrgan_ext.inference import model_cache

        model_cache._start_anew()  # another test's run may have left the network here

        def counted(*arguments, **options):
            model_cache.loads += 1
            return real(*arguments, **options)

        real, model_cache.loads, model_cache.load_model = model_cache.load_model, 0, counted

    def loads():
        from esrgan_ext.inference import model_cache

        return model_cache.loads

    with Client(cluster, set_as_default=False) as client:
        client.run(count_loads)
        distributed = client.compute(lazily).result()
        np.testing.assert_array_equal(distributed, threads)
        counts = client.run(loads)
    assert len(counts) == 2
    assert set(counts.values()) == {1}  # many chunks each, one network


def test_the_network_does_not_travel_with_tasks():
    network = make_network(nf=32, nb=1, gc=16)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    lazily = upscale_lazy(np.zeros((40, 40), np.uint8), network, device="cpu", tile=20)
    graph = lazily.__dask_graph__().to_dict()
    tasks = [task for key, task in graph.items() if key[0] == lazily.name]
    assert len(tasks) == 4
    assert all(len(pickle.dumps(task)) < 4096 < weights / 50 for task in tasks)


def test_one_inference_at_a_time_on_a_device(network, monkeypatch):
    running, most, lock = 0, 0, threading.Lock()
    real = compute.window_pieces

    def watched(*arguments, **options):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            yield from real(*arguments, **options)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(compute, "window_pieces", watched)
    image = np.zeros((60, 60), np.uint8)
    upscale_lazy(image, network, device="cpu", tile=15).compute(scheduler="threads", num_workers=4)
    assert most == 1


def test_bad_arrays_are_turned_down_before_anything_is_computed(network):
    with pytest.raises(ImageError, match="complex64"):
        upscale_lazy(da.zeros((20, 20), dtype=np.complex64), network)
    with pytest.raises(ImageError, match="two axes"):
        upscale_lazy(da.zeros(20), network)
    infinite = da.full((20, 20), np.inf, dtype=np.float32)
    with pytest.raises(ImageError, match="infinite"):
        upscale_lazy(infinite, network, device="cpu").compute(scheduler="sync")


def _compute_in_child(image, model, queue):
    queue.put(upscale_lazy(image, model, device="cpu", tile=20).compute())  # dask's usual threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes_although_its_parent_has(model):
    """GNU's OpenMP hangs in a child whose parent has used it, unless care is taken."""
    image = np.random.default_rng(0).integers(0, 256, (50, 60), dtype=np.uint8)
    expected = upscale_lazy(image, model, device="cpu", tile=20).compute()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_compute_in_child, args=(image, model, queue), daemon=True)
    child.start()
    try:
        np.testing.assert_array_equal(queue.get(timeout=250), expected)
    finally:
        child.kill()
        child.join()
