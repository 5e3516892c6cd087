"""Randomly damaged image files, one a seed. `python -m tests.inference.damaged FOLDER [NUMBER]`
writes a folder of them, and prints their seeds, for `esrgan upscale FOLDER OUT`."""

from __future__ import annotations

import functools
import io
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from tests.conftest import ROOT

_KINDS = ROOT / "tests" / "data" / "kinds"


@functools.cache
def sound() -> dict[str, bytes]:
    """Small files of every format that is read."""
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (20, 28, 4), dtype=np.uint8)
    files = {path.name: path.read_bytes() for path in sorted(_KINDS.iterdir()) if path.suffix in (
        ".tif", ".pgm", ".ppm", ".bmp", ".jp2", ".png")}  # fmt: skip
    exif = Image.Exif()
    exif[0x10F], exif[0x112] = "maker", 6
    for suffix, mode, options in (
        ("png", "RGBA", {}), ("png", "P", {}), ("jpg", "RGB", {"comment": b"note"}),
        ("webp", "RGBA", {}), ("bmp", "RGB", {}), ("gif", "P", {}), ("jp2", "RGB", {}),
        ("avif", "RGB", {}), ("tif", "RGB", {"compression": "tiff_lzw"}),
        ("tif", "CMYK", {"compression": "tiff_deflate"}), ("tif", "1", {"compression": "group4"}),
    ):  # fmt: skip
        file = io.BytesIO()
        kind = {"jpg": "JPEG", "jp2": "JPEG2000", "tif": "TIFF"}.get(suffix, suffix.upper())
        more = {"exif": exif} if suffix in ("png", "jpg", "webp", "avif") else {}
        Image.fromarray(rgba).convert("RGB").convert(mode).save(file, kind, **options, **more)
        files[f"{mode}_{suffix}.{suffix}"] = file.getvalue()
    for name, options in (
        ("imagej.tif", {"imagej": True, "metadata": {"unit": "um", "Labels": ["a"] * 3}}),
        ("ome.ome.tif", {"ome": True}),
        ("tiled.tif", {"tile": (16, 16), "compression": "zlib", "bigtiff": True}),
    ):
        file = io.BytesIO()
        tifffile.imwrite(file, rgba[..., :3].transpose(2, 0, 1).copy(), **options)
        files[name] = file.getvalue()
    files["in.jxl"] = bytes(imagecodecs.jpegxl_encode(rgba[..., :3].copy()))
    files["in.hdr"] = bytes(imagecodecs.rgbe_encode(rgba[..., :3] / np.float32(64)))
    return files


def damaged(seed: int) -> tuple[str, bytes]:
    """A name and bytes: cut, bits turned, bytes set, runs moved; the same for each seed."""
    rng = np.random.default_rng(seed)
    names = list(sound())
    name = names[int(rng.integers(len(names)))]
    data = np.frombuffer(sound()[name], np.uint8).copy()
    # Headers and directories are what damage does most to: half of it goes to both ends.
    span = len(data) if rng.random() < 0.5 else min(len(data), 256)
    start = len(data) - span if rng.random() < 0.25 else 0
    for _ in range(int(rng.integers(1, 9))):
        at = start + int(rng.integers(span))
        kind = rng.integers(6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8))
        elif kind == 2:
            data[at : at + 4] = rng.choice(np.array([0, 255], np.uint8))
        elif kind == 3:
            data[at : at + 16] = rng.integers(0, 256, len(data[at : at + 16]))
        elif kind == 4:
            run = data[at : at + 12].copy()
            to = int(rng.integers(len(data) - len(run) + 1))
            data[to : to + len(run)] = run
        elif rng.random() < 0.3:
            data = data[: max(at, 1)]
            break
    stem, _, suffix = name.partition(".")
    return f"{seed:05d}_{stem}.{suffix}", data.tobytes()


def main(folder: str, number: str = "2000") -> None:
    """Write a folder of damaged files, and every sound one."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for seed in range(int(number)):
        name, data = damaged(seed)
        (place / name).write_bytes(data)
    for name, data in sound().items():
        (place / f"sound_{name}").write_bytes(data)
    print(f"seeds 0 to {int(number) - 1}, and {len(sound())} sound files, in {place}")


if __name__ == "__main__":
    main(*sys.argv[1:])
