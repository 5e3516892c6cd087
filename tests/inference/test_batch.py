"""Jobs done one after the other: order, failures, interruptions."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from esrgan_ext.errors import OutOfMemory, UpscaleCancelled
from esrgan_ext.inference import batch
from esrgan_ext.inference.batch import FileOutcome, FileUpscaler, Upscaled
from esrgan_ext.inference.files import ImageFile, Metadata, read_image, write_image
from esrgan_ext.inference.folder import FileJob
from esrgan_ext.inference.upscaler import Upscaler


def image(path: Path) -> Path:
    write_image(path, np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8))
    return path


class Heard:
    """Records what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[FileOutcome] = []
        self.starts: list[tuple[str, int, int]] = []
        self.threads: set[int] = set()

    def started(self, job: FileJob, number: int, total: int) -> None:
        self.threads.add(threading.get_ident())
        self.starts.append((job.source.name, number, total))

    def progress(self, job: FileJob, done: int, total: int) -> None:
        self.threads.add(threading.get_ident())

    def finished(self, outcome: FileOutcome) -> None:
        self.threads.add(threading.get_ident())
        self.outcomes.append(outcome)


def twice(found: ImageFile, progress: object) -> Upscaled:
    rows = found.pixels.ndim - (3 if found.channel_axis is not False else 2)
    return Upscaled(found.pixels.repeat(2, rows).repeat(2, rows + 1))


class TestRun:
    def jobs(self, tmp_path: Path, number: int) -> list[FileJob]:
        return [
            FileJob(image(tmp_path / "in" / f"{k}.png"), tmp_path / "out" / f"{k}.png")
            for k in range(number)
        ]

    def test_all_are_done_in_order_and_heard_from_one_thread(self, tmp_path) -> None:
        heard = Heard()
        jobs = self.jobs(tmp_path, 4)
        outcomes = batch.run(jobs, twice, heard)
        assert [outcome.job for outcome in outcomes] == jobs
        assert outcomes == heard.outcomes
        assert {outcome.state for outcome in outcomes} == {"done"}
        assert outcomes[0].size == (14, 12)
        assert heard.starts == [(f"{k}.png", k + 1, 4) for k in range(4)]
        assert heard.threads == {threading.get_ident()}
        for job in jobs:
            expected = read_image(job.source).pixels.repeat(2, 0).repeat(2, 1)
            np.testing.assert_array_equal(read_image(job.target).pixels, expected)

    def test_failures_do_not_stop_the_others_and_give_reasons(self, tmp_path) -> None:
        jobs = self.jobs(tmp_path, 5)
        jobs[1].source.write_text("text")
        jobs[4].source.unlink()

        def fails_on_the_third(found: ImageFile, progress: object) -> np.ndarray:
            if found.path == jobs[2].source:
                raise OutOfMemory("no room")
            return twice(found, progress)

        outcomes = batch.run(jobs, fails_on_the_third, Heard())

        assert [outcome.state for outcome in outcomes] == [
            "done", "failed", "failed", "done", "failed",
        ]  # fmt: skip
        assert outcomes[1].reason.startswith("its content is no image")
        assert outcomes[2].reason == "no room"
        assert "No such file" in outcomes[4].reason
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "3.png"]

    def test_a_result_that_cannot_be_written_fails_alone(self, tmp_path) -> None:
        jobs = self.jobs(tmp_path, 3)
        (tmp_path / "file").write_text("in the way")
        jobs[1] = FileJob(jobs[1].source, tmp_path / "file" / "1.png")
        outcomes = batch.run(jobs, twice, Heard())
        assert [outcome.state for outcome in outcomes] == ["done", "failed", "done"]
        assert "cannot be written" in outcomes[1].reason

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, UpscaleCancelled])
    def test_a_stop_keeps_finished_results_and_nothing_partial(self, tmp_path, stop) -> None:
        jobs = self.jobs(tmp_path, 4)

        def stops_on_the_third(found: ImageFile, progress: object) -> np.ndarray:
            if found.path == jobs[2].source:
                raise stop
            return twice(found, progress)

        with pytest.raises(stop):
            batch.run(jobs, stops_on_the_third, Heard())
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]

    def test_large_results_are_written_before_the_next_begins(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(batch, "_waiting_bytes", lambda: 0)
        jobs = self.jobs(tmp_path, 3)

        def checks(found: ImageFile, progress: object) -> np.ndarray:
            number = int(found.path.stem)
            assert all(job.target.exists() for job in jobs[:number])
            return twice(found, progress)

        assert len(batch.run(jobs, checks, Heard())) == 3

    def test_several_workers_share_the_jobs_and_tell_of_them_in_order(self, tmp_path) -> None:
        jobs = self.jobs(tmp_path, 9)
        jobs[4].source.write_text("text")
        both = threading.Barrier(2, timeout=20)
        done: dict[str, list[str]] = {"a": [], "b": []}

        def worker(name: str):
            def upscale(found: ImageFile, progress) -> Upscaled:
                if not done[name]:
                    both.wait()  # passes only where two work at the same time
                if name == "b":
                    time.sleep(0.02)
                done[name].append(found.path.stem)
                progress(1, 1)
                return twice(found, progress)

            return upscale

        heard = Heard()
        outcomes = batch.run(jobs, [worker("a"), worker("b")], heard)
        assert [outcome.job for outcome in outcomes] == jobs
        assert outcomes == heard.outcomes
        assert [outcome.state for outcome in outcomes] == ["done"] * 4 + ["failed"] + ["done"] * 4
        assert sorted(done["a"] + done["b"]) == [str(k) for k in (0, 1, 2, 3, 5, 6, 7, 8)]
        assert len(done["a"]) > len(done["b"]) > 0  # taken as they come: the faster does more
        assert heard.threads == {threading.get_ident()}
        assert sorted(number for _, number, _ in heard.starts) == list(range(1, 10))

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_what_one_worker_raises_stops_the_other(self, tmp_path, error) -> None:
        jobs = self.jobs(tmp_path, 30)
        seen = []

        def breaks(found: ImageFile, progress) -> Upscaled:
            raise error("a bug")

        def works(found: ImageFile, progress) -> Upscaled:
            seen.append(found.path)
            time.sleep(0.05)
            if progress(1, 1) is False:
                raise UpscaleCancelled("stopped")
            return twice(found, progress)

        with pytest.raises(error):
            batch.run(jobs, [breaks, works], Heard())
        assert len(seen) < 20
        assert not list(tmp_path.glob("out/.*"))

    def test_results_are_encoded_by_several_threads(self, tmp_path, monkeypatch) -> None:
        both = threading.Barrier(2, timeout=20)
        plain = batch.write_image

        def write(path: Path, *args, **options) -> None:
            both.wait()  # passes only where two are written at the same time
            plain(path, *args, **options)

        monkeypatch.setattr(batch, "write_image", write)
        jobs = self.jobs(tmp_path, 4)
        outcomes = batch.run(jobs, twice, Heard())
        assert [outcome.state for outcome in outcomes] == ["done"] * 4

    def test_what_waits_to_be_written_is_bounded(self, tmp_path, monkeypatch) -> None:
        nbytes = 12 * 14 * 3
        monkeypatch.setattr(batch, "_waiting_bytes", lambda: 2 * nbytes)
        plain, alive, most = batch.write_image, [], []
        lock = threading.Lock()

        def write(path: Path, *args, **options) -> None:
            with lock:
                alive.append(path)
                most.append(len(alive))
            time.sleep(0.03)
            plain(path, *args, **options)
            with lock:
                alive.remove(path)

        monkeypatch.setattr(batch, "write_image", write)
        monkeypatch.setattr(batch.os, "cpu_count", lambda: 8)
        batch.run(self.jobs(tmp_path, 8), twice, Heard())
        assert max(most) == 2

    def test_no_jobs(self) -> None:
        assert batch.run([], twice, Heard()) == []


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((6, 7), False), ((6, 7, 2), 2), ((6, 7, 3), 2), ((3, 6, 7), False), ((2, 6, 7, 3), 3)],
)
def test_files_of_every_kind_go_through_one_upscaler(tiny_network, shape, axis) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    found = ImageFile(Path("x.tif"), pixels, axis, Metadata(), "tiff")
    result = FileUpscaler(Upscaler(tiny_network))(found, lambda done, total: None)
    rows = len(shape) - (2 if axis is False else 3)
    expected = list(shape)
    expected[rows : rows + 2] = [24, 28]
    assert result.pixels.shape == tuple(expected)
    direct = Upscaler(tiny_network, channel_axis=axis)(pixels)
    np.testing.assert_array_equal(result.pixels, direct)
