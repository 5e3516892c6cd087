"""Which result belongs to which input, and what is refused before work starts."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from esrgan_ext.errors import ImageFileError, OptionError
from esrgan_ext.inference import folder
from esrgan_ext.inference.files import write_image
from esrgan_ext.inference.folder import Naming
from esrgan_ext.inference.headers import read_header


def image(path: Path, channels: int = 3, dtype: type = np.uint8, side: int = 6) -> Path:
    shape = (side, side + 1, channels) if channels > 1 else (side, side + 1)
    write_image(path, np.random.default_rng(0).integers(0, 255, shape).astype(dtype))
    return path


def targets(plan: folder.FilePlan, base: Path) -> dict[str, str]:
    return {
        job.source.name: job.target.relative_to(base).as_posix()
        for job in (*plan.jobs, *plan.skipped)
    }


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

    def test_two_inputs_for_one_result_are_told_apart(self, tmp_path) -> None:
        source, out = tmp_path / "in", tmp_path / "out"
        image(source / "a.png")
        image(source / "a.jpg")
        assert len(folder.plan(source, out).jobs) == 2
        with pytest.warns(UserWarning, match=r"a\.png: its result is a\.png\.webp"):
            plan = folder.plan(source, out, naming=Naming("webp"))
        assert [job.target.name for job in plan.jobs] == ["a.webp", "a.png.webp"]

    def test_a_fallback_to_png_counts_too(self, tmp_path) -> None:
        image(tmp_path / "in" / "a.webp", channels=4)
        image(tmp_path / "in" / "a.tif", dtype=np.uint16)
        with pytest.warns(UserWarning, match=r"its result is a\.webp\.png"):
            plan = folder.plan(tmp_path / "in", tmp_path / "out", naming=Naming("jpg"))
        assert [job.target.name for job in plan.jobs] == ["a.png", "a.webp.png"]

    def test_a_file_that_keeps_its_name_comes_first(self, tmp_path) -> None:
        image(tmp_path / "in" / "a.jpg", channels=3)
        image(tmp_path / "in" / "a.png")
        with pytest.warns(UserWarning, match=r"a\.jpg: its result is a\.jpg\.png"):
            plan = folder.plan(tmp_path / "in", tmp_path / "out", naming=Naming("png"))
        assert [job.target.name for job in plan.jobs] == ["a.jpg.png", "a.png"]

    @pytest.mark.parametrize("seed", range(20))
    def test_no_two_inputs_ever_have_one_result(self, tmp_path, seed: int) -> None:
        """Whatever the names: all are done, each by itself, and what can keep its name does."""
        rng = random.Random(seed)
        names = ["a.gif", "a.png", "a.jpg", "a.gif.png", "a.gif-2.png", "a.tif", "a.webp", "A.png",
                 "a.gif.gif", "a.gif.png.png"]  # fmt: skip
        chosen = rng.sample(names, rng.randint(2, len(names)))
        for name in chosen:
            pixels = np.zeros((4, 4, 3), np.uint8)
            pixels[:] = 60  # the content decides: what a GIF's name says is of no account
            write_image(tmp_path / "in" / "x.png", pixels)
            (tmp_path / "in" / "x.png").rename(tmp_path / "in" / name)
        naming = Naming(rng.choice([None, None, "png", "webp"]), rng.choice(["", "", "_x4"]))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            plan = folder.plan(tmp_path / "in", tmp_path / "out", naming=naming)
        assert sorted(job.source.name for job in plan.jobs) == sorted(chosen)
        targets = [job.target.name for job in plan.jobs]
        assert len(set(targets)) == len(targets)
        plain = {}
        for job in plan.jobs:
            suffix = f".{naming.format}" if naming.format else job.source.suffix
            suffix = ".png" if suffix == ".gif" else suffix
            plain[job.source.name] = job.source.stem + naming.suffix + suffix
            # The whole name is in it where the plain one was taken, and the user hears of it.
            if job.target.name != plain[job.source.name]:
                assert job.target.name.startswith(job.source.name + naming.suffix)
                assert any(job.target.name in str(one.message) for one in told)
        for job in plan.jobs:
            if plain[job.source.name] == job.source.name:
                assert job.target.name == job.source.name
        assert len(told) == sum(plain[job.source.name] != job.target.name for job in plan.jobs)

    def test_the_same_folder_has_the_same_names_again(self, tmp_path) -> None:
        for name in ("a.gif.png", "a.png"):
            image(tmp_path / "in" / name, channels=3)
        image(tmp_path / "in" / "x.png", channels=3).rename(tmp_path / "in" / "a.gif")
        with pytest.warns(UserWarning, match=r"a\.gif: its result is a\.gif-2\.png"):
            first = folder.plan(tmp_path / "in", tmp_path / "out")
        for job in first.jobs:
            image(job.target)
        with pytest.warns(UserWarning, match=r"a\.gif-2\.png"):
            assert folder.plan(tmp_path / "in", tmp_path / "out").jobs == ()

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
    def test_a_pipe_is_not_waited_for(self, tmp_path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(ImageFileError, match=r"pipe\.png: is no regular file"):
            read_header(tmp_path / "pipe.png")

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
