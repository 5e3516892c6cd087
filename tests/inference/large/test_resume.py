"""Runs that end before they are done: nothing lost, nothing done twice, nothing that looks done."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import zarr

from esrgan_ext import ImageFileError, OptionError, ResumeError, SchedulerError
from esrgan_ext.inference.large.store import resume, tasks
from esrgan_ext.inference.large.store.run import upscale_store
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.weights import save_model
from tests.conftest import ROOT, make_network
from tests.inference.large.conftest import Recorder, cut_short, finest, make_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory, slide, options) -> np.ndarray:
    """The result of a run that nothing happened to."""
    target = tmp_path_factory.mktemp("whole") / "out.zarr"
    upscale_store(slide, target, options)
    return finest(target)


def stop_midway(run, target, after: int = 7, **changes) -> list[int]:
    """Interrupt a run; the numbers of the chunks that are on disk then."""
    with pytest.raises(KeyboardInterrupt):
        run(target, events=cut_short(after), **changes)
    time.sleep(0.5)  # the other thread may be writing its chunk still
    assert not target.exists()
    return sorted(resume.recorded(resume.unfinished(target)).get(0, []))


def files_of(folder) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("c/**/*")
        if path.is_file()
    }


def test_a_run_goes_on_where_it_stopped(run, whole, tmp_path):
    target = tmp_path / "out.zarr"
    earlier = stop_midway(run, target)
    assert 7 <= len(earlier) < 24
    image = resume.unfinished(target) / resume.PIXELS
    before = files_of(image)
    (image / next(iter(before))).with_name("9.0f.partial").write_bytes(b"cut off")  # zarr's naming
    events = Recorder()
    report = run(target, events=events)
    assert report.earlier == len(earlier)
    assert events.written() == sorted(set(range(24)) - set(earlier))
    np.testing.assert_array_equal(finest(target), whole)
    after = files_of(target)
    # What had been written has not been touched; a chunk that was being written may have been.
    untouched = [name for name, time_ns in before.items() if after[name] == time_ns]
    assert len(untouched) >= len(earlier)
    assert not list(target.rglob("*.partial"))


def test_half_written_chunks_are_done_again(run, whole, tmp_path):
    target = tmp_path / "out.zarr"
    earlier = stop_midway(run, target, workers=1)
    folder = resume.unfinished(target)
    log = next(path for path in (folder / resume.RECORDS).glob("*.log") if path.stat().st_size)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]) + lines[-1][:4])  # cut off within the last line
    torn = int(lines[-1].split()[1])
    lost = int(lines[0].split()[1])
    job_files = sorted((folder / resume.PIXELS / "0").rglob("*"))
    victim = [p for p in job_files if p.is_file() and p.name != "zarr.json"]
    # The first chunk's file goes, although it is recorded.
    first = min(victim, key=lambda path: path.stat().st_mtime_ns)
    first.unlink()
    events = Recorder()
    run(target, events=events)
    assert {torn, lost} <= set(events.written())
    assert len(events.written()) == 24 - len(earlier) + 2
    np.testing.assert_array_equal(finest(target), whole)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tile": 16}, "tile"),
        ({"overlap": 3}, "overlap"),
        ({"outscale": 2.0}, "result"),
        ({"region": Rect(0, 50, 0, 50)}, "region"),
        ({"level": 1}, "level"),
        ({"data_range": (0.0, 200.0)}, "data range"),
        ({"version": "0.4"}, "ome zarr"),
        ({"ensemble": True}, "ensemble"),
    ],
)
def test_other_options_are_refused(changes, named, run, tmp_path, unfinished):
    target = tmp_path / "out.zarr"
    shutil.copytree(unfinished, resume.unfinished(target))
    with pytest.raises(ResumeError, match=named):
        run(target, **changes)
    assert resume.recorded(resume.unfinished(target))[0]  # nothing is lost by asking


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory, slide, options):
    target = tmp_path_factory.mktemp("unfinished") / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        upscale_store(slide, target, options, cut_short(5))
    time.sleep(0.5)
    return resume.unfinished(target)


def test_another_model_is_refused_whatever_its_name(run, tmp_path, unfinished):
    target = tmp_path / "out.zarr"
    shutil.copytree(unfinished, resume.unfinished(target))
    other = save_model(make_network(2), tmp_path / "a.safetensors")
    with pytest.raises(ResumeError, match="weights"):
        run(target, model=other)


def test_another_source_is_refused(run, tmp_path, unfinished, pixels):
    target = tmp_path / "out.zarr"
    shutil.copytree(unfinished, resume.unfinished(target))
    with pytest.raises(ResumeError, match="source"):
        run(target, make_store(tmp_path / "other.zarr", pixels, "zyx"))


def test_a_tile_left_to_us_stays_what_it_was(run, whole, tmp_path, unfinished):
    target = tmp_path / "out.zarr"
    shutil.copytree(unfinished, resume.unfinished(target))
    run(target, tile="auto", memory_limit=8_000_000_000)
    np.testing.assert_array_equal(finest(target), whole)


def test_overwrite_starts_anew(run, tmp_path, unfinished):
    target = tmp_path / "out.zarr"
    shutil.copytree(unfinished, resume.unfinished(target))
    events = Recorder()
    run(target, events=events, tile=64, overwrite=True)
    assert events.phases[0] == ("upscaling", 8, 0)
    before = (target / "zarr.json").stat().st_mtime_ns
    with pytest.raises(OptionError, match="exists already"):
        run(target, tile=64)
    run(target, tile=64, overwrite=True)
    assert (target / "zarr.json").stat().st_mtime_ns > before


def test_what_is_no_store_is_not_overwritten(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(OptionError, match="is no zarr store"):
        run(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_two_runs_at_once_are_refused(run, tmp_path):
    target = tmp_path / "out.zarr"
    refused = []

    def second(count: int) -> None:
        if count == 2:
            with pytest.raises(OptionError, match="another run"):
                run(target)
            refused.append(True)

    run(target, events=Recorder(second))
    assert refused


def test_failed_chunks_are_retried(run, whole, tmp_path, monkeypatch):
    real, failures = tasks.compute_chunk, []

    def sometimes(*arguments):
        if len(failures) < 3:
            failures.append(1)
            raise RuntimeError("a cosmic ray")
        return real(*arguments)

    monkeypatch.setattr(tasks, "compute_chunk", sometimes)
    events = Recorder()
    assert run(tmp_path / "out.zarr", events=events).failures == ()
    assert sum(outcome.error is not None for _, outcome in events.outcomes) == 3
    np.testing.assert_array_equal(finest(tmp_path / "out.zarr"), whole)


def test_failed_chunks_are_listed_and_all_else_is_written(run, whole, pixels, tmp_path, model):
    source = make_store(tmp_path / "in.zarr", pixels, "zyx")
    damaged = source / "s0" / "c" / "1" / "2" / "3"
    good = damaged.read_bytes()
    damaged.write_bytes(good[: len(good) // 2])
    target = tmp_path / "out.zarr"
    report = run(target, source)
    assert 0 < len(report.failures) < 8
    assert all("level 0 [1, " in outcome.place for outcome in report.failures)
    assert all("s0 cannot be read at 1, " in str(o.error) for o in report.failures)
    assert not target.exists()
    recorded = resume.recorded(resume.unfinished(target))[0]
    assert len(recorded) == 24 - len(report.failures)
    damaged.write_bytes(good)
    assert run(target, source).failures == ()
    np.testing.assert_array_equal(finest(target), whole)


def test_a_full_disk_ends_the_run_and_keeps_what_is_there(run, whole, tmp_path, monkeypatch):
    import zarr.storage._local as local

    real, written = local._put, []

    def put(path, *arguments, **options):
        if "image.zarr/0/c" in str(path):
            written.append(path)
            if len(written) > 6:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *arguments, **options)

    monkeypatch.setattr(local, "_put", put)
    target = tmp_path / "out.zarr"
    with pytest.raises(ImageFileError, match="cannot be written: No space left on device"):
        run(target)
    assert not target.exists()
    assert len(written) < 12  # it did not try them all
    monkeypatch.setattr(local, "_put", real)
    assert run(target).earlier >= 5
    np.testing.assert_array_equal(finest(target), whole)


def command(source, target, model, *more: str, **options) -> subprocess.Popen:
    arguments = [source, target, "--model", model, "--device", "cpu", "--tile", "16", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "esrgan_ext.cli", "upscale", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


def test_sigkill_of_the_whole_run(slide, model, options, tmp_path):
    upscale_store(slide, tmp_path / "whole.zarr", replace(options, tile=16))
    target = tmp_path / "out.zarr"
    folder = resume.unfinished(target)
    child = command(slide, target, model)
    try:
        deadline = time.monotonic() + 280
        while len(resume.recorded(folder).get(0, [])) < 5:
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    earlier = resume.recorded(folder)[0]
    assert 5 <= len(earlier) < 96
    assert not target.exists()
    events = Recorder()
    upscale_store(slide, target, replace(options, tile=16), events)
    assert not set(events.written()) & set(earlier)
    assert len(events.written()) + len(earlier) == 96
    np.testing.assert_array_equal(finest(target), finest(tmp_path / "whole.zarr"))


def test_files_that_may_not_grow(slide, model, tmp_path):
    """The system itself refuses to write: RLIMIT_FSIZE, which stands for a quota or a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))

    target = tmp_path / "out.zarr"
    child = command(slide, target, model, "--tile", "64", preexec_fn=limit)
    _, errors = child.communicate(timeout=290)
    assert child.returncode == 1, errors
    assert "cannot be written: File too large" in errors
    assert "Traceback" not in errors
    assert not target.exists()


def test_sigkill_of_a_worker(run, whole, tmp_path, cluster):
    killed = []

    def kill(count: int) -> None:
        if count == 4:
            nanny = next(iter(cluster.workers.values()))
            killed.append(nanny.pid)
            os.kill(nanny.pid, signal.SIGKILL)

    events = Recorder(kill)
    report = run(tmp_path / "out.zarr", events=events, scheduler=cluster.scheduler_address)
    assert killed
    assert report.failures == ()
    assert events.written() == list(range(24))
    np.testing.assert_array_equal(finest(tmp_path / "out.zarr"), whole)


def test_sigkill_of_the_scheduler(run, whole, tmp_path):
    file = tmp_path / "scheduler.json"
    started = []

    def start(*what: str) -> None:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", *what, "--scheduler-file", str(file)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        )

    def kill(count: int) -> None:
        if count == 4:
            started[0].kill()

    target, events = tmp_path / "out.zarr", Recorder(kill)
    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + 120
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        start("worker", "--nthreads", "1", "--no-dashboard", "--no-nanny", "--death-timeout", "60")
        address = json.loads(file.read_text())["address"]
        with pytest.raises(SchedulerError, match="lost in the middle"):
            run(target, events=events, scheduler=address)
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()
    assert not target.exists()
    earlier = resume.recorded(resume.unfinished(target))[0]
    assert 4 <= len(earlier) < 24
    again = Recorder()
    run(target, events=again)
    assert again.written() == sorted(set(range(24)) - set(earlier))
    np.testing.assert_array_equal(finest(target), whole)


def test_an_unfinished_store_says_so(unfinished):
    group = zarr.open_group(str(unfinished / resume.PIXELS), mode="r")
    assert group.attrs["esrgan"] == {"state": "unfinished"}
    assert "ome" not in group.attrs
