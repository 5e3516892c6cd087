"""Folder jobs: which result belongs to which input, and what happens when files fail."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from esrgan_ext.errors import OptionError, OutOfMemory, UpscaleCancelled
from esrgan_ext.inference import folder
from esrgan_ext.inference.files import ImageFile, Metadata, read_image, write_image
from esrgan_ext.inference.folder import FileJob, FileUpscaler, Naming, Outcome
from esrgan_ext.inference.upscaler import Upscaler


def image(path: Path, channels: int = 3, dtype: type = np.uint8, side: int = 6) -> Path:
    shape = (side, side + 1, channels) if channels > 1 else (side, side + 1)
    write_image(path, np.random.default_rng(0).integers(0, 255, shape).astype(dtype))
    return path


def targets(plan: folder.Plan, base: Path) -> dict[str, str]:
    return {
        job.source.name: job.target.relative_to(base).as_posix()
        for job in (*plan.jobs, *plan.skipped)
    }


class Heard:
    """Records what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.starts: list[tuple[str, int, int]] = []
        self.threads: set[int] = set()

    def started(self, job: FileJob, number: int, total: int) -> None:
        self.threads.add(threading.get_ident())
        self.starts.append((job.source.name, number, total))

    def progress(self, done: int, total: int) -> None:
        self.threads.add(threading.get_ident())

    def finished(self, outcome: Outcome) -> None:
        self.threads.add(threading.get_ident())
        self.outcomes.append(outcome)


def twice(found: ImageFile, progress: object) -> np.ndarray:
    rows = found.pixels.ndim - (3 if found.channel_axis is not False else 2)
    return found.pixels.repeat(2, rows).repeat(2, rows + 1)


class TestPlan:
    def test_results_keep_relative_path_stem_and_suffix(self, tmp_path) -> None:
        source, out = tmp_path / "in", tmp_path / "out"
        for name in ("a.png", "b.JPG", "below/c.tif", "below/deeper/d.webp"):
            image(source / name)
        (source / "notes.txt").write_text("no image")
        (source / ".hidden.png").write_text("no image")

        flat = folder.plan(source, out)
        deep = folder.plan(source, out, recursive=True)

        assert targets(flat, out) == {"a.png": "a.png", "b.JPG": "b.JPG"}
        assert targets(deep, out) == {
            "a.png": "a.png",
            "b.JPG": "b.JPG",
            "c.tif": "below/c.tif",
            "d.webp": "below/deeper/d.webp",
        }

    @pytest.mark.parametrize(
        ("channels", "dtype", "format", "expected"),
        [
            (3, np.uint8, "jpg", "x_rlt.jpg"),
            (4, np.uint8, "jpg", "x_rlt.png"),
            (2, np.uint8, "jpg", "x_rlt.png"),
            (3, np.uint16, "jpg", "x_rlt.png"),
            (1, np.uint16, "webp", "x_rlt.png"),
            (4, np.uint8, "webp", "x_rlt.webp"),
            (4, np.uint16, "tif", "x_rlt.tif"),
            (3, np.uint8, None, "x_rlt.png"),
        ],
    )
    def test_png_where_the_format_cannot_hold_the_result(
        self, tmp_path, channels, dtype, format, expected
    ) -> None:
        source = image(tmp_path / "x.png", channels, dtype)
        plan = folder.plan(source, tmp_path / "out", naming=Naming(format, "_rlt"))
        assert [job.target.name for job in plan.jobs] == [expected]

    @pytest.mark.parametrize(
        ("dtype", "expected"), [(np.uint8, "x.jpg"), (np.uint16, "x.png"), (np.float32, "x.tif")]
    )
    def test_a_tiffs_depth_is_known_beforehand(self, tmp_path, dtype, expected) -> None:
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 8), dtype))
        plan = folder.plan(tmp_path / "x.tif", tmp_path / "out", naming=Naming("jpg"))
        assert [job.target.name for job in plan.jobs] == [expected]

    def test_results_too_large_for_their_format_become_png(self, tmp_path) -> None:
        write_image(tmp_path / "wide.webp", np.zeros((2, 5000, 3), np.uint8))
        for factor, name in ((2.0, "wide.webp"), (4.0, "wide.png")):
            plan = folder.plan(tmp_path / "wide.webp", tmp_path / "out", factor=factor)
            assert [job.target.name for job in plan.jobs] == [name]

    def test_one_file_to_a_named_result(self, tmp_path) -> None:
        source = image(tmp_path / "a.png")
        plan = folder.plan(source, tmp_path / "new" / "b.jpg")
        assert [job.target for job in plan.jobs] == [tmp_path / "new" / "b.jpg"]
        with pytest.raises(OptionError, match="--format"):
            folder.plan(source, tmp_path / "b.jpg", naming=Naming("png"))

    def test_existing_results_are_skipped_unless_overwritten(self, tmp_path) -> None:
        source, out = tmp_path / "in", tmp_path / "out"
        image(source / "a.png")
        image(source / "b.png")
        image(out / "a.png")
        plan = folder.plan(source, out)
        assert [job.source.name for job in plan.jobs] == ["b.png"]
        assert [job.source.name for job in plan.skipped] == ["a.png"]
        assert len(folder.plan(source, out, overwrite=True).jobs) == 2

    def test_two_inputs_for_one_result_are_an_error(self, tmp_path) -> None:
        source, out = tmp_path / "in", tmp_path / "out"
        image(source / "a.png")
        image(source / "a.jpg")
        assert len(folder.plan(source, out).jobs) == 2
        with pytest.raises(OptionError, match=r"a\.jpg and .*a\.png would both become .*a\.webp"):
            folder.plan(source, out, naming=Naming("webp"))

    def test_a_fallback_to_png_counts_too(self, tmp_path) -> None:
        image(tmp_path / "in" / "a.webp", channels=4)
        image(tmp_path / "in" / "a.tif", dtype=np.uint16)
        with pytest.raises(OptionError, match=r"would both become .*a\.png"):
            folder.plan(tmp_path / "in", tmp_path / "out", naming=Naming("jpg"))

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_results_never_replace_inputs(self, tmp_path, overwrite) -> None:
        image(tmp_path / "a.png")
        with pytest.raises(OptionError, match="place of an input"):
            folder.plan(tmp_path, tmp_path, overwrite=overwrite)

    def test_results_beside_their_inputs_are_not_upscaled_again(self, tmp_path) -> None:
        image(tmp_path / "a.png")
        image(tmp_path / "a_x4.png")
        plan = folder.plan(tmp_path, tmp_path, naming=Naming(suffix="_x4"))
        assert targets(plan, tmp_path) == {"a.png": "a_x4.png"}

    def test_a_result_folder_inside_the_input_is_left_out(self, tmp_path) -> None:
        image(tmp_path / "a.png")
        image(tmp_path / "results" / "a.png")
        plan = folder.plan(tmp_path, tmp_path / "results", recursive=True, overwrite=True)
        assert [job.source for job in plan.jobs] == [tmp_path / "a.png"]

    def test_nothing_to_do_is_an_error(self, tmp_path) -> None:
        with pytest.raises(OptionError, match="no images"):
            folder.plan(tmp_path, tmp_path / "out")
        with pytest.raises(OptionError, match="no such file"):
            folder.plan(tmp_path / "none", tmp_path / "out")

    def test_a_folder_that_cannot_be_written_to(self, tmp_path) -> None:
        image(tmp_path / "in" / "a.png")
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(OptionError, match="cannot be written to"):
            folder.plan(tmp_path / "in", tmp_path / "file" / "out")
        with pytest.raises(OptionError, match="is a file"):
            folder.plan(tmp_path / "in", tmp_path / "file")

    @pytest.mark.parametrize(("format", "suffix"), [("gif", ""), ("xyz", ""), (None, "/up")])
    def test_bad_names(self, format, suffix) -> None:
        with pytest.raises(OptionError):
            Naming(format, suffix)


class TestRun:
    def jobs(self, tmp_path: Path, number: int) -> list[FileJob]:
        return [
            FileJob(image(tmp_path / "in" / f"{k}.png"), tmp_path / "out" / f"{k}.png")
            for k in range(number)
        ]

    def test_all_are_done_in_order_and_heard_from_one_thread(self, tmp_path) -> None:
        heard = Heard()
        jobs = self.jobs(tmp_path, 4)
        outcomes = folder.run(jobs, twice, heard)
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

        outcomes = folder.run(jobs, fails_on_the_third, Heard())

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
        outcomes = folder.run(jobs, twice, Heard())
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
            folder.run(jobs, stops_on_the_third, Heard())
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]

    def test_large_results_are_written_before_the_next_begins(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(folder, "_OVERLAP_BYTES", 0)
        jobs = self.jobs(tmp_path, 3)

        def checks(found: ImageFile, progress: object) -> np.ndarray:
            number = int(found.path.stem)
            assert all(job.target.exists() for job in jobs[:number])
            return twice(found, progress)

        assert len(folder.run(jobs, checks, Heard())) == 3

    def test_no_jobs(self) -> None:
        assert folder.run([], twice, Heard()) == []


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
    assert result.shape == tuple(expected)
    direct = Upscaler(tiny_network, channel_axis=axis)(pixels)
    np.testing.assert_array_equal(result, direct)
