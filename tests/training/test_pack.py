"""Packed folders: exact pixels, bad files counted, pairs checked, changes noticed."""

from __future__ import annotations

import pickle
import shutil

import cv2
import numpy as np
import pytest

from esrgan_ext.errors import OptionError, TrainingError
from esrgan_ext.inference.files import read_image
from esrgan_ext.training.pack import pack, rgb8


def rgb(path):
    return rgb8(read_image(path))


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_lr_images_are_the_benchmarks_bit_for_bit(shared_data, tmp_path, name):
    folder = shared_data / "bench" / name
    packed = pack([folder / "HR"], tmp_path, scale=4, smallest=32)
    assert len(packed.images) == int(name[3:])
    for image in packed.images:
        expected = rgb(folder / "LRx4" / image.name.rsplit("/", 1)[-1])
        assert np.array_equal(packed.lr(image), expected), image.name


def test_pixels_are_the_files_cut_to_a_multiple(photos, packed):
    assert [image.name.rsplit("/", 1)[-1] for image in packed.images] == ["a.png", "b.png", "c.jpg"]
    for image in packed.images:
        pixels = rgb(photos / image.name)
        assert np.array_equal(packed.hr(image), pixels[: image.height, : image.width])
        assert (image.height % 4, image.width % 4) == (0, 0)
        assert pixels.shape[0] - image.height < 4


def test_depth_alpha_and_gray_become_rgb8(tmp_path):
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    alpha = np.full((64, 64, 4), 77, np.uint8)
    cv2.imwrite(str(tmp_path / "alpha.png"), alpha)
    assert np.array_equal(rgb(tmp_path / "deep.png")[..., 2], np.round(deep / 257).astype(np.uint8))
    assert rgb(tmp_path / "alpha.png").shape == (64, 64, 3)


def test_bad_files_are_skipped_with_a_warning_and_counted(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    whole = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "small.png").write_bytes(cv2.imencode(".png", np.zeros((16, 90), np.uint8))[1])
    with pytest.warns(UserWarning, match="skipped") as caught:
        packed = pack([folder], tmp_path / "cache", scale=4, smallest=32)
    assert len(packed.images) == 3
    skipped = {name.rsplit("/", 1)[-1]: reason for name, reason in packed.skipped}
    assert set(skipped) == {"cut.png", "empty.jpg", "small.png"}
    assert "less than a patch" in skipped["small.png"]
    assert len(caught) == 3
    with pytest.warns(UserWarning, match="skipped"):  # a run that goes on says so again
        assert pack([folder], tmp_path / "cache", scale=4, smallest=32).skipped == packed.skipped


def test_a_folder_without_a_usable_image_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(OptionError, match="no image"):
        pack([tmp_path / "photos"], tmp_path / "cache", scale=4, smallest=32)
    with pytest.raises(OptionError, match="no such folder"):
        pack([tmp_path / "nowhere"], tmp_path / "cache", scale=4, smallest=32)
    (tmp_path / "photos" / "bad.png").write_bytes(b"not a png")
    with pytest.raises(TrainingError, match=r"no image can be used.*bad\.png"):
        pack([tmp_path / "photos"], tmp_path / "cache", scale=4, smallest=32)
    assert not list((tmp_path / "cache").glob("*.u8*"))


def paired(tmp_path, size=(16, 24)):
    rng = np.random.default_rng(1)
    for folder, factor in (("HR", 4), ("LR", 1)):
        (tmp_path / folder).mkdir()
        shape = (size[0] * factor, size[1] * factor, 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        name = "x.png" if factor == 4 else "xx4.png"  # as DIV2K's are called
        cv2.imwrite(str(tmp_path / folder / name), pixels)
    return tmp_path / "HR", tmp_path / "LR"


def test_paired_folders_are_taken_as_they_are(tmp_path):
    hr, lr = paired(tmp_path)
    packed = pack([hr], tmp_path / "cache", scale=4, smallest=32, lr_folder=lr)
    assert np.array_equal(packed.lr(packed.images[0]), rgb(lr / "xx4.png"))


def test_pairs_of_other_sizes_are_refused(tmp_path):
    hr, lr = paired(tmp_path)
    cv2.imwrite(str(lr / "xx4.png"), np.zeros((17, 24, 3), np.uint8))
    with pytest.raises(TrainingError, match=r"24 x 17.*must have 24 x 16"):
        pack([hr], tmp_path / "cache", scale=4, smallest=32, lr_folder=lr)


def test_an_image_without_its_partner_is_skipped(tmp_path):
    hr, lr = paired(tmp_path)
    cv2.imwrite(str(hr / "alone.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.warns(UserWarning, match="no LR image"):
        packed = pack([hr], tmp_path / "cache", scale=4, smallest=32, lr_folder=lr)
    assert len(packed.images) == 1


def test_packed_files_are_used_again_until_a_photo_changes(photos, tmp_path):
    folder, cache = tmp_path / "photos", tmp_path / "cache"
    shutil.copytree(photos, folder)
    for _ in range(2):
        pack([folder], cache, scale=4, smallest=32)
    assert len(list(cache.glob("*.u8"))) == 1
    cv2.imwrite(str(folder / "a.png"), np.zeros((64, 64, 3), np.uint8))
    changed = pack([folder], cache, scale=4, smallest=32)
    assert len(list(cache.glob("*.u8"))) == 2
    assert not changed.hr(changed.images[0]).any()


def test_workers_map_the_file_themselves(packed):
    copy = pickle.loads(pickle.dumps(packed))
    assert len(pickle.dumps(packed)) < 2000
    assert np.array_equal(copy.hr(copy.images[0]), packed.hr(packed.images[0]))
