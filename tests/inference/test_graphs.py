"""Batches on a GPU: buffers, graphs, waiting. The device is a pretended one on the CPU."""

from __future__ import annotations

import contextlib
import threading
import warnings

import numpy as np
import pytest
import torch

from esrgan_ext.inference import graphs
from esrgan_ext.inference.graphs import BatchRunner, KernelFailure
from esrgan_ext.ops.cpu import NetworkShape
from esrgan_ext.ops.cuda import FusedNetwork, PixelMap

RNG = np.random.default_rng(0)
BYTES = PixelMap(1 / 255, 0.0, 255.0, 0.0)


class DoublingNetwork(FusedNetwork):
    """Each pixel becomes 2x2 pixels of half its value; notes what it is asked to do."""

    def __init__(self, channels: int = 3) -> None:
        self.weights = torch.zeros(1)
        super().__init__(
            NetworkShape(channels, channels, 64, 32, 1, 1), "float16", lambda: self.weights
        )
        self.calls: list[tuple[torch.Size, torch.Tensor]] = []
        self.overflows = False
        self.fails: Exception | None = None

    def into(self, x, packed, out, pixels, nonfinite):
        if self.fails is not None:
            raise self.fails
        self.calls.append((x.shape, packed))
        y = x.float() * pixels.in_scale + pixels.in_offset
        y = y.repeat_interleave(2, 2).repeat_interleave(2, 3) / 2
        y = y * pixels.out_scale + pixels.out_offset
        out.copy_(y if out.is_floating_point() else y.round().clamp(0, 255))
        nonfinite.fill_(int(self.overflows))


class PretendedMark:
    def __init__(self, looks: int) -> None:
        self.looks = looks

    def query(self) -> bool:
        self.looks -= 1
        return self.looks < 0


class PretendedQueue:
    """Runs everything at once; a replay is the captured call again, on the captured tensors."""

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks
        self.recorded = self.replayed = 0
        self.waited_for: list[object] = []
        self.fails: Exception | None = None

    def use(self):
        return contextlib.nullcontext()

    def empty(self, like, dtype):
        return torch.empty_like(like, dtype=dtype, device="cpu")

    def staging(self, like):
        return torch.empty_like(like)

    def after(self, mark):
        self.waited_for.append(mark)

    def mark(self):
        return PretendedMark(self.looks)

    def record(self, call):
        if self.fails is not None:
            raise self.fails
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            call()

        return replay


def batch(shape=(2, 3, 4, 5), dtype=np.uint8) -> np.ndarray:
    if dtype == np.float32:
        return RNG.random(shape, np.float32)
    return RNG.integers(0, 127, shape, dtype) * dtype(2)  # halves that need no rounding


def run(runner: BatchRunner, pixels: np.ndarray, kind: PixelMap = BYTES) -> np.ndarray:
    dtype = torch.from_numpy(pixels).dtype
    result, overflowed = runner.run(pixels, dtype, kind, lambda macs: None, 1000)
    assert not overflowed
    return result


def test_results_are_the_networks_at_every_run():
    runner = BatchRunner(DoublingNetwork(), PretendedQueue())
    for _ in range(4):
        pixels = batch()
        expected = np.rint(pixels.repeat(2, 2).repeat(2, 3) / 2)
        assert np.array_equal(run(runner, pixels), expected)


def test_a_shape_is_captured_when_it_comes_again_and_replayed_from_then_on():
    network, queue = DoublingNetwork(), PretendedQueue()
    runner = BatchRunner(network, queue)
    for _ in range(5):
        run(runner, batch())
    assert (queue.recorded, queue.replayed) == (1, 4)
    run(runner, batch((1, 3, 4, 5)))
    assert queue.recorded == 1


def test_types_ranges_and_memory_orders_have_graphs_of_their_own():
    network, queue = DoublingNetwork(), PretendedQueue()
    runner = BatchRunner(network, queue)
    interleaved = np.moveaxis(batch((2, 4, 5, 3)), -1, 1)
    kinds = [
        (batch(), BYTES),
        (interleaved, BYTES),
        (batch(), PixelMap(1 / 100, 0, 100, 0)),
        (batch(dtype=np.float32), PixelMap()),
    ]
    for _ in range(2):
        for pixels, kind in kinds:
            run(runner, pixels, kind)
    assert len(runner.kept) == queue.recorded == 4


def test_interleaved_pixels_come_back_interleaved():
    runner = BatchRunner(DoublingNetwork(), PretendedQueue())
    interleaved = np.moveaxis(batch((2, 4, 5, 3)), -1, 1)
    result = run(runner, interleaved)
    assert np.moveaxis(result, 1, -1).flags.c_contiguous
    assert np.array_equal(result, run(runner, np.ascontiguousarray(interleaved)))


def test_one_channel_is_repeated_and_its_results_averaged():
    network = DoublingNetwork()
    pixels = batch((2, 1, 4, 5), np.float32)
    result = run(BatchRunner(network, PretendedQueue()), pixels, PixelMap())
    assert result.shape == (2, 1, 8, 10)
    assert network.calls[0][0] == (2, 3, 4, 5)
    np.testing.assert_allclose(result, pixels.repeat(2, 2).repeat(2, 3) / 2, rtol=1e-6)


def test_a_result_stays_what_it_was_when_the_next_batch_runs():
    runner = BatchRunner(DoublingNetwork(), PretendedQueue())
    first = run(runner, batch())
    before = first.copy()
    run(runner, batch())
    assert np.array_equal(first, before)


def test_the_oldest_shapes_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(graphs, "MOST_SHAPES", 3)
    runner = BatchRunner(DoublingNetwork(), PretendedQueue())
    for width in (5, 6, 7, 5, 8):
        run(runner, batch((1, 3, 4, width)))
    assert [kind.shape[3] for kind in runner.kept] == [7, 5, 8]


def test_large_buffers_are_given_up_for_others(monkeypatch):
    monkeypatch.setattr(graphs, "MOST_BYTES", 20_000)
    runner = BatchRunner(DoublingNetwork(), PretendedQueue())
    run(runner, batch((1, 3, 8, 8)))
    run(runner, batch((1, 3, 60, 60)))  # 54 kB with its result: alone, and no longer than needed
    assert [kind.shape[3] for kind in runner.kept] == [60]
    run(runner, batch((1, 3, 8, 8)))
    assert [kind.shape[3] for kind in runner.kept] == [8]


def test_weights_that_were_packed_again_end_the_old_graphs():
    network, queue = DoublingNetwork(), PretendedQueue()
    runner = BatchRunner(network, queue)
    for _ in range(3):
        run(runner, batch())
    network.weights = torch.ones(1)
    run(runner, batch())
    assert network.calls[-1][1] is network.weights
    run(runner, batch())
    assert queue.recorded == 2
    assert network.calls[-1][1] is network.weights


def test_overflow_is_reported():
    network = DoublingNetwork()
    network.overflows = True
    _, overflowed = BatchRunner(network, PretendedQueue()).run(
        batch(), torch.uint8, BYTES, lambda macs: None, 1
    )
    assert overflowed


def test_work_adds_up_and_is_reported_while_waiting():
    runner = BatchRunner(DoublingNetwork(), PretendedQueue(looks=20))
    for _ in range(2):
        work: list[int] = []
        runner.run(batch(), torch.uint8, BYTES, work.append, 10_000)
        assert sum(work) == 10_000
        assert len(work) == 21
        assert all(macs >= 0 for macs in work)
    assert work[-1] < 10_000, "the second time it is known how long it takes"


def test_a_caller_may_stop_waiting_and_the_next_batch_queues_behind():
    class Stop(Exception):
        pass

    def stop(macs: int) -> None:
        raise Stop

    queue = PretendedQueue(looks=3)
    runner = BatchRunner(DoublingNetwork(), queue)
    with pytest.raises(Stop):
        runner.run(batch(), torch.uint8, BYTES, stop, 1)
    assert not queue.waited_for
    run(runner, batch())
    assert len(queue.waited_for) == 1
    run(runner, batch())
    assert len(queue.waited_for) == 1


def test_a_failed_capture_means_no_graphs_but_results():
    queue = PretendedQueue()
    queue.fails = RuntimeError("operation not permitted when stream is capturing")
    runner = BatchRunner(DoublingNetwork(), queue)
    pixels = batch()
    expected = run(runner, pixels)
    with pytest.warns(RuntimeWarning, match="CUDA graphs are not used.*not permitted"):
        assert np.array_equal(run(runner, pixels), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(run(runner, pixels), expected)


def test_no_memory_for_a_graph_means_none_for_this_shape_only():
    queue = PretendedQueue()
    runner = BatchRunner(DoublingNetwork(), queue)
    queue.fails = torch.OutOfMemoryError("CUDA out of memory")
    for _ in range(3):
        run(runner, batch())
    queue.fails = None
    for _ in range(2):
        run(runner, batch((1, 3, 2, 2)))
    assert queue.recorded == 1


def test_what_the_device_does_not_take_is_an_error_with_its_cause():
    network = DoublingNetwork()
    network.fails = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(KernelFailure, match="out of memory") as caught:
        run(BatchRunner(network, PretendedQueue()), batch())
    assert caught.value.__cause__ is network.fails


def test_clearing_gives_up_everything():
    runner = BatchRunner(DoublingNetwork(), PretendedQueue())
    run(runner, batch())
    runner.clear()
    assert runner.kept == []


def test_several_threads_get_their_own_results():
    runner = BatchRunner(DoublingNetwork(), PretendedQueue(looks=2))
    inputs = [batch() for _ in range(8)]
    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        results[number] = run(runner, inputs[number])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, pixels in enumerate(inputs):
        expected = np.rint(pixels.repeat(2, 2).repeat(2, 3) / 2)
        assert np.array_equal(results[number], expected)
