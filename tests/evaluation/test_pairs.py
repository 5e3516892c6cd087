"""HR and LR files: which belong together, and which pixels are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esrgan_ext.errors import ImageError, ImageFileError, OptionError
from esrgan_ext.evaluation.pairs import PairFiles, find_pairs, read_pair
from esrgan_ext.inference.files import write_image
from esrgan_ext.inference.resample import imresize


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def paired(pairs: list[PairFiles], lr: Path) -> dict[str, str]:
    return {pair.name: pair.lr.relative_to(lr).as_posix() for pair in pairs if pair.lr}


def test_images_pair_by_name(tmp_path):
    hr = touch(tmp_path / "hr", "a.png", "b.jpg", "0801.png", "0802.png", "same.png", "same.tif")
    lr = touch(
        tmp_path / "lr", "a.png", "b.png", "0801x4.png", "0802_x4.png", "same.png", "same.tif"
    )
    pairs, failures = find_pairs(hr, lr, 4)
    assert not failures
    assert paired(pairs, lr) == {
        "a.png": "a.png",
        "b.jpg": "b.png",
        "0801.png": "0801x4.png",
        "0802.png": "0802_x4.png",
        "same.png": "same.png",
        "same.tif": "same.tif",
    }


def test_what_has_no_partner_is_told(tmp_path):
    hr = touch(tmp_path / "hr", "a.png", "b.png", "c.png", "notes.txt", ".hidden.png")
    lr = touch(tmp_path / "lr", "b.png", "cx2.png", "d.png")
    pairs, failures = find_pairs(hr, lr, 4)
    assert paired(pairs, lr) == {"b.png": "b.png"}
    assert {Path(f.file).relative_to(tmp_path).as_posix(): f.reason[:5] for f in failures} == {
        "hr/a.png": "no LR",
        "hr/c.png": "no LR",  # its LR image is of another scale
        "lr/cx2.png": "no HR",
        "lr/d.png": "no HR",
    }


def test_one_lr_image_is_not_used_twice(tmp_path):
    hr = touch(tmp_path / "hr", "a.jpg", "a.png")
    lr = touch(tmp_path / "lr", "a.png")
    pairs, failures = find_pairs(hr, lr, 4)
    assert len(pairs) == 1
    assert len(failures) == 1


def test_folders_below_keep_their_relative_paths(tmp_path):
    hr = touch(tmp_path / "hr", "x/a.png", "y/a.png")
    lr = touch(tmp_path / "lr", "x/a.png", "y/a.png")
    pairs, _ = find_pairs(hr, lr, 4, recursive=True)
    assert paired(pairs, lr) == {"x/a.png": "x/a.png", "y/a.png": "y/a.png"}
    with pytest.raises(OptionError, match="recursive"):
        find_pairs(hr, lr, 4)


def test_two_files_are_a_pair(tmp_path):
    folder = touch(tmp_path, "high.png", "low.png")
    pairs, failures = find_pairs(folder / "high.png", folder / "low.png", 4)
    assert pairs == [PairFiles("high.png", folder / "high.png", folder / "low.png")]
    assert not failures


def test_a_file_and_a_folder_are_refused(tmp_path):
    touch(tmp_path, "hr/a.png", "a.png")
    for hr, lr in (("hr", "a.png"), ("a.png", "hr"), ("absent", None), ("hr", "absent")):
        with pytest.raises(OptionError):
            find_pairs(tmp_path / hr, lr and tmp_path / lr, 4)


def written(path: Path, pixels: np.ndarray) -> Path:
    write_image(path, pixels)
    return path


def random(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_lr_is_made_by_matlab_s_bicubic_of_whole_lr_pixels(tmp_path):
    pixels = random(23, 18, 3)
    pair = read_pair(PairFiles("a", written(tmp_path / "a.png", pixels), None), 4)
    assert np.array_equal(pair.hr, pixels[:20, :16])
    assert np.array_equal(pair.lr, imresize(pixels[:20, :16], (5, 4)))


def test_an_hr_image_may_be_larger_by_less_than_an_lr_pixel(tmp_path):
    hr = written(tmp_path / "hr.png", random(23, 18))
    lr = written(tmp_path / "lr.png", random(5, 4))
    pair = read_pair(PairFiles("hr", hr, lr), 4)
    assert (pair.hr.shape, pair.lr.shape) == ((20, 16), (5, 4))


def test_16_bits_are_rounded_and_opaque_alpha_is_dropped(tmp_path):
    deep = np.array([[0, 128, 129, 257], [65535, 65406, 65407, 32896]], np.uint16)
    pair = read_pair(PairFiles("a", written(tmp_path / "a.png", deep), None), 1)
    assert np.array_equal(pair.hr, np.round(deep / 257))
    rgba = random(8, 8, 4)
    rgba[..., 3] = 255
    pair = read_pair(PairFiles("b", written(tmp_path / "b.png", rgba), None), 4)
    assert np.array_equal(pair.hr, rgba[..., :3])


@pytest.mark.parametrize(
    ("hr", "lr", "reason"),
    [
        (random(16, 16), random(4, 5), "needs 4 x 4"),
        (random(16, 16), random(16, 16), "needs 4 x 4"),
        (random(16, 16, 3), random(4, 4), "the LR image is gray"),
        (random(16, 16), random(4, 4, 3), "the HR image is gray"),
        (random(16, 16, 4), None, "transparent"),
        (random(3, 16), None, "too few"),
        (np.zeros((16, 16), np.float32), None, "float32"),
        (np.zeros((2, 16, 16), np.uint8), None, "stack"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_pair_says_why(tmp_path, hr, lr, reason):
    high = written(tmp_path / "hr.tif", hr)
    low = None if lr is None else written(tmp_path / "lr.tif", lr)
    with pytest.raises(ImageError, match=reason):
        read_pair(PairFiles("hr", high, low), 4)


def test_a_damaged_file_says_so(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"not an image")
    with pytest.raises(ImageFileError, match=r"a\.png"):
        read_pair(PairFiles("a", path, None), 4)
    assert PairFiles("a", path, None).lr_pixels(4) == 0
