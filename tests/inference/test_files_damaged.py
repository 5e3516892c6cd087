"""Damaged and hostile files end in an error of ours, within a second, whatever they claim.

A second of this process's own time, which other processes do not lengthen.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import warnings

import pytest

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.inference.headers import read_header
from tests.inference.damaged import damaged, sound

SEEDS = int(os.environ.get("ESRGAN_DAMAGED_FILES", "400"))
BLOCK = 50


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
@pytest.mark.alone
def test_damage_is_an_error_of_ours_or_a_picture(tmp_path, first) -> None:
    warnings.simplefilter("ignore")
    for seed in range(first, first + BLOCK):
        name, data = damaged(seed)
        path = tmp_path / name
        path.write_bytes(data)
        start = time.process_time()
        try:
            image = read_image(path, max_pixels=1 << 22)
            if image.pixels.nbytes < 1 << 22:
                pairs = [(one, one.pixels) for one in image.further]
                write_image(tmp_path / "out.tif", image.pixels, like=image, further=pairs)
        except ImageFileError:
            pass
        assert time.process_time() - start < 2, f"seed {seed} took too long"


@pytest.mark.parametrize("name", list(sound()))
def test_the_same_files_undamaged_are_read(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(sound()[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_image(tmp_path / name).pixels.size


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def plain_entries(data_at: int) -> list[bytes]:
    return [
        entry(256, 4, 1, 8), entry(257, 4, 1, 8), entry(258, 3, 1, 8), entry(259, 3, 1, 1),
        entry(262, 3, 1, 1), entry(273, 4, 1, data_at), entry(278, 4, 1, 8), entry(279, 4, 1, 64),
    ]  # fmt: skip


def directory(entries: list[bytes], following: int) -> bytes:
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)


HEAD = b"II*\0" + struct.pack("<I", 8)


def in_a_circle() -> bytes:
    return HEAD + directory(plain_entries(8), 8) + bytes(64)


def endless_values() -> bytes:
    """Thousands of tags, each of them the whole file."""
    size = 1 << 20
    many = [entry(40000 + k, 1, size, 0) for k in range(4000)]
    return (HEAD + directory(plain_entries(8) + many, 0)).ljust(size, b"\0")


def directories_over_one_another() -> bytes:
    """Each directory begins a few bytes behind the one before, and has thousands of entries."""
    body = bytearray(1 << 20)
    body[:8] = HEAD
    count = 4000
    for k in range(5000):
        at = 8 + 16 * k
        struct.pack_into("<H", body, at, count)
        end = at + 2 + 12 * count
        if end + 4 <= len(body):
            struct.pack_into("<I", body, end, at + 16)
    return bytes(body)


def many_values_of_numbers() -> bytes:
    size = 1 << 20
    many = [entry(40000 + k, 12, size // 8, 0) for k in range(500)]
    return (HEAD + directory(plain_entries(8) + many, 0)).ljust(size, b"\0")


@pytest.mark.parametrize(
    "make", [in_a_circle, endless_values, directories_over_one_another, many_values_of_numbers]
)
@pytest.mark.alone
def test_a_tiff_that_would_keep_its_reader_busy_is_refused_in_a_second(tmp_path, make) -> None:
    path = tmp_path / "in.tif"
    path.write_bytes(make())
    start = time.process_time()
    with pytest.raises(ImageFileError, match="TIFF is damaged"):
        read_image(path)
    assert time.process_time() - start < 1
    start = time.process_time()
    with contextlib.suppress(ImageFileError):
        read_header(path)
    assert time.process_time() - start < 1
